//! `lockstep watch`: the states of an entry as they come, until one that no other follows.

use std::pin::pin;

use alloy_primitives::B256;
use eyre::{Report, WrapErr as _, bail, eyre};
use futures::StreamExt as _;
use lockstep_core::types::EntryId;
use lockstep_node::output::Output;

use super::endpoint::Endpoints;
use super::status::{Shown, hash};

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The endpoints.
    #[command(flatten)]
    pub endpoints: Endpoints,
    /// The entry's id, as `submit` prints it
    #[arg(value_name = "ID", value_parser = hash)]
    pub id: B256,
}

/// Watches at the first endpoint that answers.
///
/// # Errors
/// If none does, or if the stream ends before a final state.
pub async fn run(args: Args, output: &mut Output) -> eyre::Result<()> {
    let id = EntryId(args.id);
    let mut last = eyre!("no endpoint");
    for url in &args.endpoints.urls {
        let context = || format!("watching at {url}");
        let mut ingress = match args.endpoints.connect(url).await {
            Ok(remote) => remote.ingress(),
            Err(error) => {
                last = error.into();
                continue;
            }
        };
        let mut states = match ingress.watch(id).await {
            Ok(states) => pin!(states),
            Err(error) => {
                last = Report::new(error).wrap_err(context());
                continue;
            }
        };
        while let Some(status) = states.next().await {
            let status = status.wrap_err_with(context)?;
            output.show(&Shown::of(&status))?;
            if status.state.is_final() {
                return Ok(());
            }
        }
        bail!("{url} ended the stream before a final state: watch at another endpoint");
    }
    Err(last)
}
