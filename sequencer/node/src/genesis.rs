//! The genesis as a file: TOML that people can read and compare, turned into the core's [`Genesis`] and checked.
//!
//! The order of validators, chains and keys in the file means nothing; they are sorted before the genesis is hashed.
//! Every field of `params` and `chains` is part of the network's identity.

mod file;

pub use file::{ChainEntry, ChainList, Kind, ParamsEntry, ValidatorEntry, ValidatorList};

use std::path::{Path, PathBuf};

use alloy_primitives::{Address, hex};
use eyre::{WrapErr as _, bail};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use lockstep_core::params::{ChainParams, Genesis, InvalidGenesis};
use lockstep_core::types::UnixMillis;
use lockstep_core::validator_set::{Validator, ValidatorSet};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::keys;
use crate::toml_file::{self, FileError};

/// Bytes of a genesis file: 100 validators and 1,024 chains with all their keys fit.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why a genesis file was refused. The operator must mend it; the field is named.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// The file cannot be read, or a field's text is not what it should be.
    #[error(transparent)]
    File(#[from] FileError),
    /// A rule of the protocol.
    #[error("{}: {source}", file.display())]
    Rule {
        /// The file.
        file: PathBuf,
        /// The rule; it names the field.
        source: InvalidGenesis,
    },
}

/// A field's dotted path, and what is wrong with it.
pub type Fault = (String, String);

/// The year 2001: before there was any chain.
const TIMESTAMP_MS_MIN: u64 = 1_000_000_000_000;

/// A genesis file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisFile {
    /// Name for people, 1..=64 bytes.
    pub name: String,
    /// The genesis' time in milliseconds since 1970; every block is later. 1..=2^44.
    pub timestamp_ms: u64,
    /// Network parameters. Default: the defaults of each.
    #[serde(default)]
    pub params: ParamsEntry,
    /// The first validator set, 1..=100.
    pub validators: Vec<ValidatorEntry>,
    /// Registered chains, 0..=1,024. Default: none.
    #[serde(default)]
    pub chains: Vec<ChainEntry>,
}

impl GenesisFile {
    /// Reads a genesis file and checks everything in it.
    ///
    /// # Errors
    /// [`GenesisError`] names the file, the field and the reason.
    pub fn load(file: &Path) -> Result<Genesis, GenesisError> {
        let parsed: Self = read(file)?;
        parsed.to_genesis(file)
    }

    /// The genesis that this file means, checked. `file` is for the messages.
    ///
    /// # Errors
    /// [`FileError::Field`] and [`GenesisError::Rule`].
    pub fn to_genesis(&self, file: &Path) -> Result<Genesis, GenesisError> {
        let rule = |source| GenesisError::Rule { file: file.to_owned(), source };
        let fault = |(field, reason)| FileError::Field { file: file.to_owned(), field, reason };
        let validators = validators(&self.validators).map_err(fault)?;
        if self.timestamp_ms < TIMESTAMP_MS_MIN {
            let reason = format!(
                "is {}, expected at least {TIMESTAMP_MS_MIN}: are these seconds?",
                self.timestamp_ms
            );
            return Err(fault(("timestamp_ms".to_owned(), reason)).into());
        }
        let mut chains = Vec::new();
        for (place, chain) in self.chains.iter().enumerate() {
            chains.push(
                chain.to_params().map_err(|(field, reason)| {
                    fault((format!("chains[{place}].{field}"), reason))
                })?,
            );
        }
        chains.sort_by_key(|chain: &ChainParams| chain.id);
        let genesis = Genesis {
            name: self.name.clone(),
            timestamp: UnixMillis(self.timestamp_ms),
            params: self.params.to_params(),
            validators: ValidatorSet::new(validators).map_err(|error| rule(error.into()))?,
            chains,
        };
        genesis.validate().map_err(rule)?;
        Ok(genesis)
    }

    /// The file that means this genesis.
    #[must_use]
    pub fn from_genesis(genesis: &Genesis) -> Self {
        Self {
            name: genesis.name.clone(),
            timestamp_ms: genesis.timestamp.0,
            params: ParamsEntry::from_params(&genesis.params),
            validators: genesis.validators.iter().map(ValidatorEntry::from_validator).collect(),
            chains: genesis.chains.iter().map(ChainEntry::from_params).collect(),
        }
    }
}

/// Reads a file of the genesis, or of a part of it.
///
/// # Errors
/// [`FileError`] names the file and the reason.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<T, FileError> {
    toml_file::read(file, FILE_BYTES_MAX)
}

/// The validators in ascending order of address; each one's peer id is its own.
fn validators(entries: &[ValidatorEntry]) -> Result<Vec<Validator>, Fault> {
    let mut validators = Vec::new();
    let mut peers: Vec<PeerId> = Vec::new();
    for (place, entry) in entries.iter().enumerate() {
        let at = |(field, reason)| (format!("validators[{place}].{field}"), reason);
        let (validator, peer) = entry.to_validator().map_err(at)?;
        if peers.contains(&peer) {
            let reason = format!("peer id {peer} is another validator's already");
            return Err(at(("network_address", reason)));
        }
        peers.push(peer);
        validators.push(validator);
    }
    validators.sort_by_key(|validator: &Validator| validator.address);
    Ok(validators)
}

/// The peer id at the end of a validator's network address, and the address without it.
///
/// # Errors
/// Why it is none: not a multiaddr, no `/p2p`, or no TCP address before it.
pub fn split_network_address(text: &str) -> Result<(Multiaddr, PeerId), String> {
    let expected = "expected /ip4, /ip6 or /dns…, then /tcp/port/p2p/peer-id";
    let mut address: Multiaddr =
        text.parse().map_err(|error| format!("{text:?}: {error}; {expected}"))?;
    let Some(Protocol::P2p(peer)) = address.pop() else {
        return Err(format!("{text:?} does not end in /p2p/…; {expected}"));
    };
    let mut parts = address.iter();
    let is_host = matches!(
        parts.next(),
        Some(
            Protocol::Ip4(_)
                | Protocol::Ip6(_)
                | Protocol::Dns(_)
                | Protocol::Dns4(_)
                | Protocol::Dns6(_)
        )
    );
    if !is_host || !matches!(parts.next(), Some(Protocol::Tcp(_))) || parts.next().is_some() {
        return Err(format!("{text:?} has no host and TCP port; {expected}"));
    }
    Ok((address, peer))
}

fn addresses(field: &str, texts: &[String]) -> Result<Vec<Address>, Fault> {
    let mut addresses = Vec::new();
    for (place, text) in texts.iter().enumerate() {
        let address = text
            .parse::<Address>()
            .map_err(|_| (format!("{field}[{place}]"), format!("{text:?} is not an address")))?;
        addresses.push(address);
    }
    addresses.sort();
    Ok(addresses)
}

/// The entry of the validator with these keys; `address` is without the peer id.
///
/// # Errors
/// If the keys cannot be read, or the address cannot be dialled.
pub fn entry(keys: &Path, address: &str, power: u64) -> eyre::Result<ValidatorEntry> {
    let keys = keys::show(keys).wrap_err("reading keys")?;
    let network_address = format!("{address}/p2p/{}", keys.peer_id);
    if let Err(reason) = split_network_address(&network_address) {
        bail!("--address: {reason} (the peer id is added)");
    }
    Ok(ValidatorEntry {
        address: keys.address.to_string(),
        public_key: hex::encode_prefixed(keys.public_key),
        power,
        network_address,
    })
}

#[cfg(test)]
mod tests;
