//! The keys of the chains' operators, and the files that their programs read.

use std::fs;
use std::path::Path;

use eyre::{OptionExt as _, WrapErr as _};
use lockstep_node::genesis::{ChainEntry, Kind};
use lockstep_node::keys;

use super::accounts::Account;
use super::conductor::Conductor;
use super::options::{StateScheme, Verifiers};
use super::rollup::{ChainOptions, Role, Rollup, Side, SidePorts};
use super::sidecar::{self, GATEWAY_KEY, SEQUENCER_KEY, WhenSilent};
use crate::layout::Layout;

/// The keys of a chain's operator.
pub(super) struct ChainKeys {
    sequencer: Account,
    gateway: Account,
}

impl ChainKeys {
    pub(super) fn random() -> Self {
        Self { sequencer: Account::random(), gateway: Account::random() }
    }

    /// What the network's genesis says of the chain: it joins with its block 1.
    pub(super) fn entry(&self, chain: &ChainOptions, genesis_time: u64) -> ChainEntry {
        ChainEntry {
            block_time_ms: chain.block_time_seconds.saturating_mul(1_000),
            sequencers: vec![self.sequencer.address().to_string()],
            gateways: vec![self.gateway.address().to_string()],
            joins_at_seconds: genesis_time.saturating_add(chain.block_time_seconds),
            ..ChainEntry::new(chain.id, Kind::Evm)
        }
    }

    /// The chain, whose sides have the blocks of ports that begin with the first two, its conductors, if any, the third.
    pub(super) fn rollup(
        &self,
        layout: &Layout,
        options: &ChainOptions,
        first: (u16, u16, Option<u16>),
        verifiers: Verifiers,
    ) -> eyre::Result<Rollup> {
        let directory = layout.directory.join(options.id.to_string());
        let ports = |first| SidePorts::of(first).ok_or_eyre("there are not enough ports");
        let [sequencer, verifier] = [ports(first.0)?, ports(first.1)?];
        let side =
            |role, ports, has_sidecar| Side::new(role, options.id, &directory, ports, has_sidecar);
        let mut sequencer = side(Role::Sequencer, sequencer, true);
        let mut standby = side(Role::Standby, verifier, true);
        if let Some(first) = first.2 {
            sequencer.conductor = Some(Conductor::new("sequencer", first, true));
            standby.conductor = Some(Conductor::new("standby", first.saturating_add(2), false));
        }
        Ok(Rollup {
            options: *options,
            sequencer,
            verifier: match verifiers {
                Verifiers::None => None,
                Verifiers::Stock => Some(side(Role::Verifier, verifier, false)),
                Verifiers::Checked => Some(side(Role::Verifier, verifier, true)),
                Verifiers::Standby | Verifiers::Conducted => Some(standby),
            },
            sequencer_key: self.sequencer.clone(),
            gateway_key: self.gateway.clone(),
            batcher: Account::of_purpose(&format!("batcher {}", options.id)),
            signer: Account::of_purpose(&format!("unsafe block signer {}", options.id)),
            directory,
            state_scheme: StateScheme::default(),
        })
    }
}

/// Writes keys and options of a chain's programs.
pub(super) fn write_files(
    layout: &Layout,
    rollup: &Rollup,
    when_silent: WhenSilent,
) -> eyre::Result<()> {
    let made =
        |path: &Path| fs::create_dir(path).wrap_err_with(|| format!("making {}", path.display()));
    made(&rollup.directory)?;
    keys::write(&rollup.jwt_file(), &Account::random().secret().0)?;
    keys::write(&rollup.key_file(SEQUENCER_KEY), &rollup.sequencer_key.secret().0)?;
    keys::write(&rollup.key_file(GATEWAY_KEY), &rollup.gateway_key.secret().0)?;
    for side in rollup.sides() {
        made(side.directory())?;
        keys::write(&side.gossip_key_file(), &side.gossip_key().secret().0)?;
        if side.has_sidecar {
            sidecar::write(layout, rollup, side, when_silent)?;
        }
    }
    Ok(())
}
