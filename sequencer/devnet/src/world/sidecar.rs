//! The configuration files of a world's sidecars.

use std::path::Path;

use eyre::WrapErr as _;
use lockstep_node::toml_file::write_new;
use serde::Serialize;

use super::rollup::{Role, Rollup, Side};
use crate::layout::{Layout, Place};

/// What a sidecar does while the committee is silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenSilent {
    /// The chain stands still.
    #[default]
    Halt,
    /// The chain goes on with deposits alone.
    DepositsOnly,
}

/// A sidecar's options. Listeners are on 127.0.0.1; paths are absolute.
#[derive(Debug, Serialize)]
struct Options<'a> {
    chain: u64,
    genesis: &'a Path,
    endpoints: Vec<String>,
    listen: String,
    jwt: &'a Path,
    engine_url: String,
    engine_jwt: &'a Path,
    rpc_url: String,
    ws_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_listen: Option<String>,
    http_listen: String,
    data: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequencer_key: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_key: Option<&'a Path>,
    mode: &'static str,
    when_silent: WhenSilent,
}

/// Writes the file of a side's sidecar.
pub(super) fn write(
    layout: &Layout,
    rollup: &Rollup,
    side: &Side,
    when_silent: WhenSilent,
) -> eyre::Result<()> {
    let address = |port: u16| format!("127.0.0.1:{port}");
    let is_sequencer = side.role != Role::Verifier;
    let key = |name| is_sequencer.then(|| rollup.key_file(name));
    let (sequencer, gateway) = (key(SEQUENCER_KEY), key(GATEWAY_KEY));
    let (jwt, data) = (rollup.jwt_file(), side.directory().join("sidecar"));
    let options = Options {
        chain: rollup.id(),
        genesis: &layout.genesis_file,
        endpoints: layout.places.iter().map(Place::endpoint).collect(),
        listen: address(side.ports.sidecar),
        jwt: &jwt,
        engine_url: format!("http://{}", address(side.ports.engine)),
        engine_jwt: &jwt,
        rpc_url: format!("http://{}", address(side.ports.http)),
        ws_url: format!("ws://{}", address(side.ports.ws)),
        public_listen: is_sequencer.then(|| address(side.ports.wallet)),
        http_listen: address(side.ports.health),
        data: &data,
        sequencer_key: sequencer.as_deref(),
        gateway_key: gateway.as_deref(),
        mode: if is_sequencer { "sequencing" } else { "verifying" },
        when_silent,
    };
    let text = toml::to_string(&options).wrap_err("writing a sidecar's options")?;
    write_new(&side.sidecar_config(), &text)
}

/// Name of the file of the key that signs a chain's records.
pub const SEQUENCER_KEY: &str = "sequencer.key";
/// Name of the file of the key that admits a chain's entries.
pub const GATEWAY_KEY: &str = "gateway.key";
