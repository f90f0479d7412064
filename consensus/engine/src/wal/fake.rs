//! A log for tests: an actor in the place of malachite's that notes what it is asked.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use malachitebft_app_channel::app::consensus::Input;
use malachitebft_app_channel::app::engine::wal::Msg;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::Log;
use crate::context::Context;

/// What the log was asked, in order.
pub(crate) type Calls = Arc<Mutex<Vec<String>>>;

struct Fake {
    calls: Calls,
    fails: &'static str,
}

impl Fake {
    /// Notes a call and answers it.
    fn answer(&self, call: &str) -> eyre::Result<()> {
        self.calls.lock().unwrap().push(call.to_owned());
        let fails = !self.fails.is_empty() && call.starts_with(self.fails);
        if fails { Err(eyre::eyre!("a bad disk")) } else { Ok(()) }
    }
}

#[async_trait]
impl Actor for Fake {
    type Msg = Msg<Context>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Self::Msg>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Msg::Append(_, Input::Vote(_), reply) => reply.send(self.answer("append vote"))?,
            Msg::Append(_, Input::Proposal(_), reply) => {
                reply.send(self.answer("append proposal"))?
            }
            Msg::Append(_, _, reply) => reply.send(self.answer("append input"))?,
            Msg::Flush(reply) => reply.send(self.answer("sync"))?,
            Msg::StartedHeight(..) | Msg::Reset(..) | Msg::Dump => {}
        }
        Ok(())
    }
}

/// A log that does what it is asked, and what that was.
pub(crate) async fn log() -> (Log, Calls) {
    let calls = Calls::default();
    let (wal, _) = Actor::spawn(None, Fake { calls: calls.clone(), fails: "" }, ()).await.unwrap();
    (Log::new(wal, std::env::temp_dir()), calls)
}

/// A log whose calls of this kind fail.
pub(crate) async fn failing_log(fails: &'static str) -> Log {
    let calls = Calls::default();
    let (wal, _) = Actor::spawn(None, Fake { calls, fails }, ()).await.unwrap();
    Log::new(wal, std::env::temp_dir())
}

/// A log that does what it is asked, with its file here.
pub(crate) async fn log_at(path: PathBuf) -> Log {
    let calls = Calls::default();
    let (wal, _) = Actor::spawn(None, Fake { calls, fails: "" }, ()).await.unwrap();
    Log::new(wal, path)
}
