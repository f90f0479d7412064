//! The gRPC endpoints that a command speaks to, and what their refusals mean for it.

use std::path::PathBuf;

use lockstep_proto::error::{ErrorCode, Refusal};
use lockstep_rpc::client::ClientError;
use lockstep_rpc::client::remote::Remote;

/// Where a node listens that runs on this machine with default options.
pub const DEFAULT: &str = "http://127.0.0.1:26601";

/// Which endpoints.
#[derive(Clone, Debug, clap::Args)]
pub struct Endpoints {
    /// gRPC endpoint of a node, http://host:port or https://host:port; may be given several times
    #[arg(long = "endpoint", value_name = "URL", default_value = DEFAULT)]
    pub urls: Vec<String>,
    /// File (PEM) of the authority that signed the node's certificate; needed for https
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

impl Endpoints {
    /// The endpoint with this URL, connected to.
    ///
    /// # Errors
    /// If it is not an endpoint, if the certificates cannot be read, or if nobody answers.
    pub async fn connect(&self, url: &str) -> Result<Remote, ClientError> {
        Remote::connect(url, self.ca.as_ref()).await
    }
}

/// The refusal behind an error, if a node said so.
#[must_use]
pub fn refusal(error: &eyre::Report) -> Option<&Refusal> {
    error.chain().find_map(|cause| {
        let refused = cause.downcast_ref::<ClientError>().and_then(ClientError::refusal);
        refused.or_else(|| cause.downcast_ref::<Refusal>())
    })
}

/// Whether an error would be every other endpoint's too: the submission itself is at fault.
#[must_use]
pub fn is_for_all(error: &eyre::Report) -> bool {
    refusal(error).is_some_and(|refusal| match refusal.code {
        ErrorCode::Malformed
        | ErrorCode::Missing
        | ErrorCode::OutOfRange
        | ErrorCode::MessageTooLarge
        | ErrorCode::InvalidEntry
        | ErrorCode::InvalidTransaction
        | ErrorCode::InvalidBundle
        | ErrorCode::InvalidSignature
        | ErrorCode::UnknownChain
        | ErrorCode::NotAllowed => true,
        ErrorCode::Expired
        | ErrorCode::ExpiresTooLate
        | ErrorCode::NotFound
        | ErrorCode::OverQuota
        | ErrorCode::Overloaded
        | ErrorCode::NotReady
        | ErrorCode::Timeout
        | ErrorCode::Internal
        | ErrorCode::UnknownMethod
        | ErrorCode::Compressed
        | ErrorCode::TooSlow => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_of_the_submission_are_every_endpoints() {
        let error = |code| {
            let refused = ClientError::Refused(Box::new(Refusal::new(code, "why")));
            eyre::Report::new(refused).wrap_err("submitting")
        };
        assert!(is_for_all(&error(ErrorCode::InvalidTransaction)));
        assert!(is_for_all(&error(ErrorCode::UnknownChain)));
        assert!(!is_for_all(&error(ErrorCode::NotReady)));
        assert!(!is_for_all(&error(ErrorCode::Expired)), "another node's clock may be right");
        assert!(!is_for_all(&eyre::eyre!("connection refused")));
    }
}
