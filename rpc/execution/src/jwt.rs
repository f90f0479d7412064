//! The Engine API's authentication: a JWT over a secret that both ends hold.
//!
//! Tokens are HS256 and carry `iat` alone; one is good for [`CLOCK_DRIFT_MAX`] around its issue. Source: Engine API,
//! "Authentication" (execution-apis, `src/engine/authentication.md`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use alloy_primitives::{B256, hex};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

/// How far a token's `iat` may be from now, by the specification.
pub const CLOCK_DRIFT_MAX: Duration = Duration::from_secs(60);
/// Bytes of a secret's file: 64 hex digits, a prefix, and white space.
const FILE_BYTES_MAX: u64 = 1 << 10;

/// Why there is no secret. The operator must mend the file.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file does not hold 32 bytes in hex.
    #[error("{path} does not hold a secret: expected 64 hex digits")]
    Format {
        /// The file.
        path: PathBuf,
    },
}

/// Why a call is refused. Each is 401 to the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthorized {
    /// There is no `Authorization: Bearer` header.
    #[error("missing bearer token")]
    Missing,
    /// The token is not signed with the secret, or is no token.
    #[error("invalid token")]
    Invalid,
    /// The token was issued too long ago, or in the future: the clocks differ, or it is replayed.
    #[error("token was issued at {issued_at}, now is {now}: more than 60 s apart")]
    Expired {
        /// Its `iat`, seconds since 1970.
        issued_at: u64,
        /// Seconds since 1970.
        now: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iat: u64,
}

/// A secret of 32 bytes. Its debug form does not show it.
#[derive(Clone)]
pub struct Secret {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// The secret of these bytes.
    #[must_use]
    pub fn new(bytes: B256) -> Self {
        Self {
            encoding: EncodingKey::from_secret(bytes.as_slice()),
            decoding: DecodingKey::from_secret(bytes.as_slice()),
        }
    }

    /// The secret in a file of 64 hex digits, with or without `0x`, as op-node and op-geth read it.
    ///
    /// # Errors
    /// [`SecretError`] names the file.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let error = |error| SecretError::Read { path: path.to_owned(), error };
        let format = || SecretError::Format { path: path.to_owned() };
        if std::fs::metadata(path).map_err(error)?.len() > FILE_BYTES_MAX {
            return Err(format());
        }
        let text = std::fs::read_to_string(path).map_err(error)?;
        let bytes = hex::decode(text.trim()).map_err(|_| format())?;
        Ok(Self::new(B256::try_from(bytes.as_slice()).map_err(|_| format())?))
    }

    /// A token issued now. It is short: one is made for each call.
    #[must_use]
    pub fn token(&self) -> String {
        let claims = Claims { iat: now() };
        // HS256 over claims of one number cannot fail; an empty token would only be refused.
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .unwrap_or_default()
    }

    /// Whether `authorization`, the header's value, is good now.
    ///
    /// # Errors
    /// [`Unauthorized`] says why it is not.
    pub fn check(&self, authorization: Option<&str>) -> Result<(), Unauthorized> {
        self.check_at(authorization, now())
    }

    fn check_at(&self, authorization: Option<&str>, now: u64) -> Result<(), Unauthorized> {
        let token = authorization
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or(Unauthorized::Missing)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let claims = jsonwebtoken::decode::<Claims>(token.trim(), &self.decoding, &validation)
            .map_err(|_| Unauthorized::Invalid)?
            .claims;
        if claims.iat.abs_diff(now) > CLOCK_DRIFT_MAX.as_secs() {
            return Err(Unauthorized::Expired { issued_at: claims.iat, now });
        }
        Ok(())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> Secret {
        Secret::new(B256::repeat_byte(byte))
    }

    #[test]
    fn token_of_the_secret_is_good_within_a_minute() {
        let bearer = format!("Bearer {}", secret(1).token());
        let issued = now();
        for (at, is_good) in [
            (issued, true),
            (issued + 59, true),
            (issued - 59, true),
            (issued + 62, false),
            (issued - 62, false),
        ] {
            assert_eq!(secret(1).check_at(Some(&bearer), at).is_ok(), is_good, "{at} of {issued}");
        }
    }

    #[test]
    fn token_of_another_secret_no_token_and_garbage_are_refused() {
        let foreign = format!("Bearer {}", secret(2).token());
        let cases = [
            (None, Unauthorized::Missing),
            (Some("Basic x"), Unauthorized::Missing),
            (Some("Bearer "), Unauthorized::Invalid),
            (Some("Bearer a.b.c"), Unauthorized::Invalid),
            (Some(foreign.as_str()), Unauthorized::Invalid),
        ];
        for (header, expected) in cases {
            assert_eq!(secret(1).check(header), Err(expected), "{header:?}");
        }
    }

    #[test]
    fn token_without_signature_is_refused() {
        // {"alg":"none"}.{"iat":…}. must not pass for a token.
        let none = "Bearer eyJhbGciOiJub25lIn0.eyJpYXQiOjF9.";
        assert_eq!(secret(1).check(Some(none)), Err(Unauthorized::Invalid));
    }
}
