//! Keys are files: 64 hex digits of mode 0600, in a directory of mode 0700.
//!
//! `validator.key` (secp256k1) signs batches and votes and gives the validator its address; `network.key` (ed25519) is
//! its identity on the mesh. They are never arguments or variables of the environment, never printed, never overwritten,
//! and what was read is wiped from memory after use.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, hex};
use libp2p::PeerId;
use libp2p::identity::Keypair;
use lockstep_core::signing::SigningKey;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

/// Name of the validator key's file.
pub const VALIDATOR_KEY: &str = "validator.key";
/// Name of the network key's file.
pub const NETWORK_KEY: &str = "network.key";

/// Bytes of a key file: `0x`, 64 digits, and the end of the line, which may be two.
const FILE_BYTES_MAX: u64 = 68;

/// Why keys were not made or read. The operator must act; nothing was overwritten.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operating system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// A key exists where one was to be made.
    #[error("{} exists: keys are never overwritten; choose another directory", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read or write the file.
    #[error("{} has mode {mode:04o}, others could read it: chmod 600 it", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others than the owner may list or write the directory. It is the user's: its mode is not changed here.
    #[error("{} has mode {mode:04o}, others could use it: choose a new directory, or chmod 700 it", path.display())]
    DirectoryMode {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not 64 hex digits, or not a key.
    #[error("{} is not a key: expected {expected}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The operating system has no random bytes.
    #[error("no random bytes: {reason}")]
    Random {
        /// What it says.
        reason: String,
    },
}

/// What others may know of a validator's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeys {
    /// Ethereum address of the validator key.
    pub address: Address,
    /// Compressed public key of the validator key, 33 bytes.
    pub public_key: [u8; 33],
    /// Peer id of the network key.
    pub peer_id: PeerId,
}

/// Makes both keys of a validator in `directory`, which is created if it is not there.
///
/// # Errors
/// [`KeyError`]; if one of the files exists, nothing is written.
pub fn generate(directory: &Path) -> Result<PublicKeys, KeyError> {
    let io = |source| KeyError::Io { path: directory.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(io)?;
    let mode = fs::metadata(directory).map_err(io)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::DirectoryMode { path: directory.to_owned(), mode });
    }
    let paths = [VALIDATOR_KEY, NETWORK_KEY].map(|name| directory.join(name));
    if let Some(path) = paths.iter().find(|path| path.exists()) {
        return Err(KeyError::Exists { path: path.clone() });
    }
    let [validator, network] = &paths;
    write(validator, &*random_secp256k1()?)?;
    write(network, &*random()?)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
    show(directory)
}

/// What others may know of the keys in `directory`.
///
/// # Errors
/// [`KeyError`] if one of them cannot be read.
pub fn show(directory: &Path) -> Result<PublicKeys, KeyError> {
    let validator = read_validator_key(&directory.join(VALIDATOR_KEY))?;
    let network = read_network_key(&directory.join(NETWORK_KEY))?;
    Ok(PublicKeys {
        address: validator.address(),
        public_key: validator.public_key(),
        peer_id: network.public().to_peer_id(),
    })
}

/// Reads a validator key, or any other of secp256k1.
///
/// # Errors
/// [`KeyError`] if the file cannot be read, if others could read it, or if it holds no key.
pub fn read_validator_key(path: &Path) -> Result<SigningKey, KeyError> {
    let bytes = read(path)?;
    SigningKey::from_bytes(*bytes).map_err(|_| KeyError::Content {
        path: path.to_owned(),
        expected: "64 hex digits below the order of secp256k1",
    })
}

/// Reads a network key.
///
/// # Errors
/// [`KeyError`] if the file cannot be read, if others could read it, or if it holds no key.
pub fn read_network_key(path: &Path) -> Result<Keypair, KeyError> {
    let mut bytes = read(path)?;
    Keypair::ed25519_from_bytes(bytes.as_mut_slice()).map_err(|_| KeyError::Content {
        path: path.to_owned(),
        expected: "64 hex digits, an ed25519 seed",
    })
}

fn random() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut bytes = Zeroizing::new([0; 32]);
    OsRng
        .try_fill_bytes(bytes.as_mut_slice())
        .map_err(|error| KeyError::Random { reason: error.to_string() })?;
    Ok(bytes)
}

/// Random bytes below the order of secp256k1: almost all are.
fn random_secp256k1() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    loop {
        let bytes = random()?;
        if SigningKey::from_bytes(*bytes).is_ok() {
            return Ok(bytes);
        }
    }
}

/// Writes a new file of a key or another secret of 32 bytes.
///
/// # Errors
/// [`KeyError`]; a file that exists is not overwritten.
pub fn write(path: &Path, secret: &[u8; 32]) -> Result<(), KeyError> {
    let mut text = Zeroizing::new(hex::encode(secret));
    text.push('\n');
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|source| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::AlreadyExists {
            KeyError::Exists { path }
        } else {
            KeyError::Io { path, source }
        }
    })
}

fn read(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let io = |source| KeyError::Io { path: path.to_owned(), source };
    let content =
        || KeyError::Content { path: path.to_owned(), expected: "64 hex digits in a plain file" };
    let file = File::open(path).map_err(io)?;
    // The mode of the open file, not of whatever has its name by now.
    let metadata = file.metadata().map_err(io)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Mode { path: path.to_owned(), mode });
    }
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(content());
    }
    // As large as it may become: growing would leave a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(128));
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_end(), bytes.as_mut_slice()).map_err(|_| content())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        let mode = fs::Permissions::from_mode(0o700);
        let builder = tempfile::Builder::new().permissions(mode).tempdir();
        builder.expect("a temporary directory")
    }

    #[test]
    fn generated_keys_are_read_back_and_only_their_owner_may_read_them() {
        let parent = directory();
        let keys = parent.path().join("a/keys");
        let made = generate(&keys).expect("makes keys");
        assert_eq!(show(&keys).expect("reads keys"), made);
        let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode(&keys), 0o700);
        assert_eq!(mode(&keys.join(VALIDATOR_KEY)), 0o600);
        assert_eq!(mode(&keys.join(NETWORK_KEY)), 0o600);
    }

    #[test]
    fn keys_are_never_overwritten() {
        let parent = directory();
        let made = generate(parent.path()).expect("makes keys");
        assert!(matches!(generate(parent.path()), Err(KeyError::Exists { .. })));
        fs::remove_file(parent.path().join(VALIDATOR_KEY)).expect("is there");
        assert!(matches!(generate(parent.path()), Err(KeyError::Exists { .. })));
        assert!(!parent.path().join(VALIDATOR_KEY).exists(), "nothing is written beside a key");
        let network = read_network_key(&parent.path().join(NETWORK_KEY)).expect("is untouched");
        assert_eq!(network.public().to_peer_id(), made.peer_id);
    }

    #[test]
    fn key_that_others_may_read_is_refused() {
        let parent = directory();
        generate(parent.path()).expect("makes keys");
        let path = parent.path().join(VALIDATOR_KEY);
        for mode in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("is ours");
            let error = read_validator_key(&path).unwrap_err();
            assert!(matches!(error, KeyError::Mode { mode: got, .. } if got == mode), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("is ours");
        assert!(read_validator_key(&path).is_ok());
    }

    #[test]
    fn keys_are_not_put_where_others_may_look() {
        let parent = directory();
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o755)).expect("is ours");
        let error = generate(parent.path()).unwrap_err();
        assert!(matches!(error, KeyError::DirectoryMode { mode: 0o755, .. }), "{error}");
        assert_eq!(fs::read_dir(parent.path()).expect("reads").count(), 0);
    }

    #[test]
    fn key_is_read_however_a_tool_writes_it() {
        let parent = directory();
        let path = parent.path().join("a.key");
        let digits = "1f".repeat(32);
        for text in ["{}", "{}\n", "{}\r\n", "0x{}", "0x{}\n", "0x{}\r\n"] {
            let _ = fs::remove_file(&path);
            fs::write(&path, text.replace("{}", &digits)).expect("writes");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("is ours");
            assert!(read_validator_key(&path).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_never_shown() {
        let parent = directory();
        let path = parent.path().join("a.key");
        let secrets = ["", "abcd", "zz", &"0".repeat(64), &"f".repeat(64), &"ab".repeat(33)];
        for secret in secrets {
            let _ = fs::remove_file(&path);
            fs::write(&path, secret).expect("writes");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("is ours");
            let error = read_validator_key(&path).unwrap_err();
            assert!(matches!(error, KeyError::Content { .. }), "{error}");
            assert!(secret.is_empty() || !error.to_string().contains(secret), "{error}");
        }
    }

    #[test]
    fn address_belongs_to_the_public_key() {
        let parent = directory();
        let made = generate(parent.path()).expect("makes keys");
        let address = lockstep_core::signing::address_of_public_key(&made.public_key);
        assert_eq!(address, Some(made.address));
    }
}
