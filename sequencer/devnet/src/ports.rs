//! Ports of a devnet: ten for each validator, and for each other part that needs some, from a base on, all on 127.0.0.1.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use eyre::{bail, ensure};

/// Where a devnet looks first.
pub const BASE_DEFAULT: u16 = 26_600;
/// Ports between the first ones of two blocks.
pub const STRIDE: u16 = 10;
/// How far apart the bases are that are tried one after the other.
const BASE_STEP: u16 = 1_000;
/// Bases that are tried.
const BASES_MAX: u16 = 8;

/// The first port of block `index` (from 0): the validators have the first blocks. `None` if its ports would not be
/// ports.
#[must_use]
pub fn block(base: u16, index: u16) -> Option<u16> {
    index.checked_mul(STRIDE)?.checked_add(base)
}

/// The ports of one validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The mesh.
    pub mesh: u16,
    /// gRPC.
    pub grpc: u16,
    /// Health and metrics.
    pub http: u16,
}

impl Ports {
    /// The ports of validator `index` (from 0), `None` if they would not be ports.
    #[must_use]
    pub fn of(base: u16, index: u16) -> Option<Self> {
        let mesh = block(base, index)?;
        Some(Self { mesh, grpc: mesh.checked_add(1)?, http: mesh.checked_add(2)? })
    }

    const fn all(self) -> [u16; 3] {
        [self.mesh, self.grpc, self.http]
    }
}

/// The ports of `count` validators from `base` on.
///
/// # Errors
/// If there are not as many ports.
pub fn all(base: u16, count: u16) -> eyre::Result<Vec<Ports>> {
    ensure!(base >= 1_024, "--base-port {base}: ports below 1024 are the system's");
    let ports: Option<Vec<Ports>> = (0..count).map(|index| Ports::of(base, index)).collect();
    match ports {
        Some(ports) => Ok(ports),
        None => bail!("--base-port {base}: there are not ports for {count} validators above it"),
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok()
}

/// All ports of a devnet: the validators', and every one of the blocks behind them.
fn wanted(base: u16, validators: u16, blocks: u16) -> eyre::Result<Vec<u16>> {
    let mut ports: Vec<u16> = all(base, validators)?.iter().flat_map(|ports| ports.all()).collect();
    let end = validators.saturating_add(blocks);
    for index in validators..end {
        let first = block(base, index);
        let Some((first, after)) =
            first.and_then(|first| Some((first, first.checked_add(STRIDE)?)))
        else {
            bail!("--base-port {base}: there are not ports for all programs above it");
        };
        ports.extend(first..after);
    }
    Ok(ports)
}

/// The first port that somebody listens on.
fn taken(ports: &[u16]) -> Option<u16> {
    ports.iter().copied().find(|port| !is_free(*port))
}

/// The base of a devnet's ports, all of them free: the one asked for, or the first of a few. `blocks` are those that
/// follow the validators'.
///
/// # Errors
/// Names a port that is taken.
pub fn choose(asked: Option<u16>, validators: u16, blocks: u16) -> eyre::Result<u16> {
    if let Some(base) = asked {
        if let Some(port) = taken(&wanted(base, validators, blocks)?) {
            bail!("port {port} is taken: stop who listens there, or choose another --base-port");
        }
        return Ok(base);
    }
    let mut first_taken = None;
    for step in 0..BASES_MAX {
        let base = step.saturating_mul(BASE_STEP).saturating_add(BASE_DEFAULT);
        match taken(&wanted(base, validators, blocks)?) {
            None => return Ok(base),
            Some(port) => first_taken = first_taken.or(Some(port)),
        }
    }
    let port = first_taken.unwrap_or(BASE_DEFAULT);
    bail!("port {port} is taken, and so are ports from each other base tried: choose a --base-port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_validator_has_three_ports_of_its_own() {
        let all = all(30_000, 100).expect("there are ports");
        let mut ports: Vec<u16> = all.iter().flat_map(|ports| ports.all()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 300);
    }

    #[test]
    fn blocks_follow_the_validators_and_share_no_port() {
        let mut ports = wanted(30_000, 4, 3).expect("there are ports");
        ports.sort_unstable();
        assert_eq!(ports.len(), 4 * 3 + 3 * 10);
        assert_eq!(ports.get(12), block(30_000, 4).as_ref());
        ports.dedup();
        assert_eq!(ports.len(), 42);
        assert!(wanted(65_500, 1, 2).is_ok());
        assert!(wanted(65_500, 1, 3).is_err());
    }

    #[test]
    fn base_without_room_is_refused() {
        assert!(all(65_533, 1).is_ok());
        assert!(all(65_534, 1).is_err());
        assert!(all(65_533, 2).is_err());
        assert!(all(1_023, 1).is_err());
    }

    #[test]
    fn port_that_is_taken_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let taken = listener.local_addr().expect("has one").port();
        let named = format!("port {taken} is taken");
        let error = choose(Some(taken - 1), 1, 0).unwrap_err().to_string();
        assert!(error.contains(&named), "{error}");
        let error = choose(Some(taken - 7), 0, 1).unwrap_err().to_string();
        assert!(error.contains(&named), "a block of another part: {error}");
        drop(listener);
        assert_eq!(choose(Some(taken - 1), 1, 0).expect("is free"), taken - 1);
    }
}
