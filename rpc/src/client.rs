//! Typed clients of the services. They check the shape of answers and believe what they say; [`verified`] does not.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_proto::error::{ErrorCode, InvalidMessage, Refusal};
use tonic::Status;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::limits::{
    CLIENT_CONNECTION_WINDOW_BYTES, CLIENT_STREAM_WINDOW_BYTES, KEEPALIVE_INTERVAL,
    KEEPALIVE_TIMEOUT,
};

pub mod committee;
mod ingress;
mod log;
pub mod remote;
pub mod submitter;
pub mod verified;

pub use ingress::{IngressClient, StreamAnswer, StreamReceiver, StreamSender};
pub use log::LogClient;

/// Where a node listens, and how long to wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://host:port`, or `https://host:port` for TLS.
    pub url: String,
    /// PEM file of the authority that signed the node's certificate; needed for `https`.
    pub authority: Option<PathBuf>,
    /// PEM files of the certificate and the key by which a node knows this client; only for `https`. Default none.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How long connecting may take. Default 5 s.
    pub connect_timeout: Duration,
    /// How long a call may take to its first answer. Default 15 s, more than a node takes for any.
    pub call_timeout: Duration,
    /// The address of this machine to connect from. Default none: the system chooses.
    pub local_address: Option<IpAddr>,
}

impl Endpoint {
    /// The endpoint at `url` with the default timeouts.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            authority: None,
            identity: None,
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(15),
            local_address: None,
        }
    }

    /// Whether it can be connected to, were somebody there: the URL is whole and the files can be read.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`] says what is wrong.
    pub fn check(&self) -> Result<(), ClientError> {
        self.configured().map(drop)
    }

    /// Connects. One connection serves any number of clients, and comes back by itself after it was lost.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`] if the URL or the authority's file is not usable, [`ClientError::Unreachable`] if
    /// nobody answers.
    pub async fn connect(&self) -> Result<Channel, ClientError> {
        self.configured()?.connect().await.map_err(|error| ClientError::Unreachable {
            url: self.url.clone(),
            reason: crate::server::chain(&error),
        })
    }

    fn configured(&self) -> Result<tonic::transport::Endpoint, ClientError> {
        let unusable = |reason: String| ClientError::Endpoint { url: self.url.clone(), reason };
        self.check_url().map_err(|reason| unusable(reason.to_owned()))?;
        let mut endpoint = tonic::transport::Endpoint::from_shared(self.url.clone())
            .map_err(|error| unusable(error.to_string()))?
            .connect_timeout(self.connect_timeout)
            .timeout(self.call_timeout)
            .tcp_nodelay(true)
            .local_address(self.local_address)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(CLIENT_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CLIENT_CONNECTION_WINDOW_BYTES);
        let read = |path: &PathBuf| {
            std::fs::read(path)
                .map_err(|error| unusable(format!("cannot read {}: {error}", path.display())))
        };
        if let Some(path) = &self.authority {
            let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?));
            if let Some((certificate, key)) = &self.identity {
                tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
            }
            endpoint = endpoint.tls_config(tls).map_err(|error| unusable(error.to_string()))?;
        }
        Ok(endpoint)
    }

    fn check_url(&self) -> Result<(), &'static str> {
        let url = "it is not http://host:port or https://host:port";
        let parsed: tonic::codegen::http::Uri = self.url.parse().map_err(|_| url)?;
        let is_whole = parsed.port_u16().is_some()
            && matches!(parsed.path(), "" | "/")
            && parsed.query().is_none()
            && parsed.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        match parsed.scheme_str() {
            Some("http") if is_whole => Ok(()),
            Some("https") if is_whole && self.authority.is_none() => Err("https needs ca"),
            Some("https") if is_whole => Ok(()),
            Some(_) | None => Err(url),
        }
    }
}

/// Why a call gave no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The URL, or the authority's file, is not usable. The user must mend it.
    #[error("endpoint {url} cannot be used: {reason}")]
    Endpoint {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// Nobody answers there. Try later, or another node.
    #[error("cannot connect to {url}: {reason}")]
    Unreachable {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// The node refused the call; the refusal says what to do.
    #[error("{}", display_refusal(.0))]
    Refused(Box<Refusal>),
    /// The node's answer makes no sense. Use another node.
    #[error("answer of the node: {0}")]
    Answer(#[from] InvalidMessage),
    /// A stream ended where it should go on.
    #[error("the node ended the stream")]
    Ended,
}

impl ClientError {
    /// What the node said, if it refused the call.
    #[must_use]
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Endpoint { .. } | Self::Unreachable { .. } | Self::Answer(_) | Self::Ended => {
                None
            }
        }
    }

    /// Whether the node says that there is no such thing, or not yet.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.code == ErrorCode::NotFound)
    }
}

fn display_refusal(refusal: &Refusal) -> String {
    let Refusal { field, reason, action, .. } = refusal;
    match field.is_empty() {
        true => format!("{reason} ({action})"),
        false => format!("{field}: {reason} ({action})"),
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(Refusal::from_status(&status)))
    }
}
