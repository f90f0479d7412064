//! File descriptors: raises the process's limit, and says how many of them clients' connections may use.
//!
//! Whoever runs out of descriptors cannot write its consensus log, and halts. So the log, the guard, the store and the
//! mesh have theirs first, and clients get what is left.

use eyre::WrapErr as _;
use lockstep_core::limits::VALIDATORS_MAX;
use lockstep_rpc::limits::{CONNECTIONS_MAX, HTTP_CONNECTIONS_MAX};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The store's tables (RocksDB opens at most 256 at a time) and its own logs.
const STORE: usize = 256 + 32;
/// Consensus log, guard, lock files, listeners, the runtime, standard streams, and files that are open for a moment.
const FILES: usize = 96;
/// Connections to one chain's engine.
const PER_ENGINE: usize = 2;
/// Connections with another validator: two, and each may be dialled anew while the old one ends.
const PER_VALIDATOR: usize = 4;
/// Connections of the mesh in the handshake: 64 of strangers, and those of peers' addresses.
const MESH_PENDING: usize = 64 + 2 * VALIDATORS_MAX;
/// Fewest connections of clients with which a node starts.
const CONNECTIONS_MIN: usize = 64;

/// What else needs descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uses {
    /// Validators of the mesh, this one included; 0 for a node that follows.
    pub(crate) validators: usize,
    /// Engines of chains that are asked.
    pub(crate) engines: usize,
}

/// The limit is too low. The operator must raise it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} file descriptors are allowed, at least {needed} are needed: raise `ulimit -Hn`")]
pub(crate) struct TooFew {
    limit: u64,
    needed: usize,
}

/// Raises the soft limit to the hard one, which needs no privilege; gives it.
///
/// # Errors
/// If the system refuses.
pub fn raise() -> eyre::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).wrap_err("reading RLIMIT_NOFILE")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).wrap_err("raising RLIMIT_NOFILE")?;
    }
    Ok(hard)
}

/// How many gRPC connections there may be under a limit: what the rest leaves, and at most [`CONNECTIONS_MAX`].
///
/// # Errors
/// [`TooFew`] if that is less than is any use.
pub(crate) fn connections(limit: u64, Uses { validators, engines }: Uses) -> Result<usize, TooFew> {
    let mesh = match validators {
        0 => 0,
        _ => MESH_PENDING.saturating_add(validators.saturating_mul(PER_VALIDATOR)),
    };
    let kept = [STORE, FILES, HTTP_CONNECTIONS_MAX, mesh, engines.saturating_mul(PER_ENGINE)];
    let kept = kept.into_iter().fold(0, usize::saturating_add);
    let left = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(kept);
    if left < CONNECTIONS_MIN {
        return Err(TooFew { limit, needed: kept.saturating_add(CONNECTIONS_MIN) });
    }
    Ok(left.min(CONNECTIONS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(limit: u64, validators: usize, expected: Result<usize, usize>) {
        let uses = Uses { validators, engines: 2 };
        let got = connections(limit, uses).map_err(|few| few.needed);
        assert_eq!(got, expected, "{limit} {uses:?}");
    }

    #[test]
    fn clients_get_what_the_rest_leaves() {
        check(1_024, 0, Ok(572));
        check(1_024, 4, Ok(292));
        check(796, 4, Ok(64));
        check(795, 4, Err(796));
        check(2_000, 100, Ok(884));
        check(524_288, 100, Ok(CONNECTIONS_MAX));
        check(u64::MAX, 4, Ok(CONNECTIONS_MAX));
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_can_be() {
        let limit = raise().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (limit, limit));
    }
}
