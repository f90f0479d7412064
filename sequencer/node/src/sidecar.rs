//! The sidecar's file: its options, and the configuration that they make. It runs nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use eyre::{WrapErr as _, eyre};
use lockstep_core::types::ChainId;
use lockstep_execution::jwt::Secret;
use lockstep_rpc::client::Endpoint;
use lockstep_rpc::quota::QuotaConfig;
use lockstep_sidecar::config::{Config, Public, Role, WhenSilent};
use lockstep_sidecar::limits::ENDPOINTS_MAX;
use serde::{Deserialize, Serialize};

use crate::config::{IdentityOptions, LogOptions, QuotaOptions};
use crate::genesis::GenesisFile;
use crate::keys;
use crate::toml_file::{self, FileError};

/// Bytes of the file of options.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// In front of which op-node the sidecar is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A sequencer.
    #[default]
    Sequencing,
    /// A replica.
    Verifying,
}

/// What a chain does while the committee is silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Silence {
    /// It makes no block.
    #[default]
    Halt,
    /// It makes blocks of deposits only.
    DepositsOnly,
}

/// The sidecar's file. Relative paths are relative to the directory of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SidecarOptions {
    /// The chain's id, as in the genesis.
    pub chain: u64,
    /// File of the network's genesis.
    pub genesis: PathBuf,
    /// gRPC endpoints of committee nodes, 1..=16, as `http://host:port` or `https://host:port`. None of them is trusted.
    pub endpoints: Vec<String>,
    /// File (PEM) of the authority that signed their certificates; needed for `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// By what the nodes know this sidecar (their `grpc.tls.client_ca`); only for `https`. Default none: it is one client
    /// among many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityOptions>,
    /// Where op-node calls (its `--l2`). Default `127.0.0.1:8651`.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// File of the secret that op-node has: 64 hex digits.
    pub jwt: PathBuf,
    /// The execution engine's authenticated endpoint, `http://host:port`.
    pub engine_url: String,
    /// File of the engine's secret. Default: `jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_jwt: Option<PathBuf>,
    /// Where `/healthz`, `/readyz`, `/metrics`, the debug switch and the batcher's throttling are. Default `127.0.0.1:8652`.
    #[serde(default = "default_http_listen")]
    pub http_listen: SocketAddr,
    /// Where wallets call. Default: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_listen: Option<SocketAddr>,
    /// The engine's public JSON-RPC, `http://host:port`; needed with `public_listen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpc_url: Option<String>,
    /// The engine's public JSON-RPC over WebSocket, `ws://host:port`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ws_url: Option<String>,
    /// Directory of what is kept between starts. One sidecar per directory.
    pub data: PathBuf,
    /// File of the chain's sequencer key, mode 0600. Default: none, no records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequencer_key: Option<PathBuf>,
    /// File of the chain's gateway key, mode 0600; needed with `public_listen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_key: Option<PathBuf>,
    /// In front of a sequencer or a replica. Default `sequencing`.
    #[serde(default)]
    pub mode: Mode,
    /// What the chain does while the committee is silent. Default `halt`.
    #[serde(default)]
    pub when_silent: Silence,
    /// What one wallet's address may use.
    #[serde(default)]
    pub quota: QuotaOptions,
    /// What is logged, and how.
    #[serde(default)]
    pub log: LogOptions,
}

const fn default_listen() -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8_651)
}

const fn default_http_listen() -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8_652)
}

impl SidecarOptions {
    /// Reads the file.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read, or is not such a file.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        toml_file::read(path, FILE_BYTES_MAX)
    }

    /// What the file means, checked.
    ///
    /// # Errors
    /// If a field is out of range or a file it names cannot be read.
    pub fn check(&self, directory: &Path) -> eyre::Result<Config> {
        let count = self.endpoints.len();
        if count == 0 || count > ENDPOINTS_MAX {
            return Err(eyre!("endpoints has {count} entries, expected 1..={ENDPOINTS_MAX}"));
        }
        if self.identity.is_some() && self.ca.is_none() {
            return Err(eyre!("identity needs ca"));
        }
        let path = |path: &PathBuf| directory.join(path);
        let endpoint = |url: &String| Endpoint {
            authority: self.ca.as_ref().map(path),
            identity: self.identity.as_ref().map(|files| (path(&files.cert), path(&files.key))),
            ..Endpoint::new(url.as_str())
        };
        let endpoints: Vec<Endpoint> = self.endpoints.iter().map(endpoint).collect();
        for (place, endpoint) in endpoints.iter().enumerate() {
            endpoint.check().wrap_err_with(|| format!("endpoints[{place}]"))?;
            let others = endpoints.iter().skip(place.saturating_add(1));
            if others.map(|other| &other.url).any(|url| *url == endpoint.url) {
                return Err(eyre!("endpoints[{place}]: {} is named twice", endpoint.url));
            }
        }
        let key = |file: &Option<PathBuf>, field| {
            let read = |file| keys::read_validator_key(&path(file)).wrap_err(field);
            file.as_ref().map(read).transpose()
        };
        let engine_jwt = self.engine_jwt.as_ref().unwrap_or(&self.jwt);
        Ok(Config {
            chain: ChainId(self.chain),
            genesis: GenesisFile::load(&path(&self.genesis)).wrap_err("genesis")?,
            endpoints,
            listen: self.listen,
            secret: Secret::read(&path(&self.jwt)).wrap_err("jwt")?,
            engine_url: self.engine_url.clone(),
            engine_secret: Secret::read(&path(engine_jwt)).wrap_err("engine_jwt")?,
            http_listen: self.http_listen,
            public: self.public(key(&self.gateway_key, "gateway_key")?)?,
            sequencer: key(&self.sequencer_key, "sequencer_key")?,
            role: match self.mode {
                Mode::Sequencing => Role::Sequencing,
                Mode::Verifying => Role::Verifying,
            },
            when_silent: match self.when_silent {
                Silence::Halt => WhenSilent::Halt,
                Silence::DepositsOnly => WhenSilent::DepositsOnly,
            },
            data: path(&self.data),
        })
    }

    fn public(
        &self,
        gateway: Option<lockstep_core::signing::SigningKey>,
    ) -> eyre::Result<Option<Public>> {
        let Some(listen) = self.public_listen else {
            return Ok(None);
        };
        let rpc_url = self.rpc_url.clone();
        let rpc_url = rpc_url.ok_or_else(|| eyre!("public_listen needs rpc_url"))?;
        let gateway = gateway.ok_or_else(|| eyre!("public_listen needs gateway_key"))?;
        let quota = self.quota;
        let quota = QuotaConfig {
            submissions_per_second: quota.submissions_per_second,
            bytes_per_second: quota.bytes_per_second,
        };
        Ok(Some(Public { listen, rpc_url, ws_url: self.ws_url.clone(), gateway, quota }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &str = "chain = 901\ngenesis = \"genesis.toml\"\njwt = \"jwt.hex\"\ndata = \"data\"\n\
                           engine_url = \"http://127.0.0.1:8551\"\n";

    /// What the check says of these endpoints; it comes before any file is read.
    fn said(endpoints: &str, more: &str) -> String {
        let text = format!("{OPTIONS}endpoints = [{endpoints}]\n{more}");
        let options: SidecarOptions = toml::from_str(&text).expect("options");
        let error = options.check(Path::new("/nonexistent")).expect_err("a fault");
        format!("{error:#}")
    }

    #[test]
    fn an_endpoint_that_nobody_can_connect_to_is_named_at_the_start() {
        let whole = "it is not http://host:port or https://host:port";
        for (endpoints, more, words) in [
            ("\"ftp://a:1\"", "", whole),
            ("\"http://a:1/path\"", "", whole),
            ("\"http://u@a:1\"", "", whole),
            ("\"http://a\"", "", whole),
            ("\"https://a:1\"", "", "https needs ca"),
            ("\"https://a:1\"", "ca = \"ca.pem\"", "cannot read /nonexistent/ca.pem"),
        ] {
            let said = said(endpoints, more);
            assert!(said.starts_with("endpoints[0]: ") && said.contains(words), "{said}");
        }
        let twice = said("\"http://a:1\", \"http://a:1\"", "");
        assert_eq!(twice, "endpoints[0]: http://a:1 is named twice");
        let identity = "[identity]\ncert = \"c.pem\"\nkey = \"k.pem\"";
        assert_eq!(said("\"http://a:1\"", identity), "identity needs ca");
        let fine = said("\"http://a:1\", \"http://[::1]:2\"", "");
        assert!(fine.starts_with("genesis: "), "{fine}");
    }
}
