//! Reads what the transport brings and tells malachite's actors. The only place that decodes a peer's bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_core::types::Height;
use malachitebft_app_channel::app::consensus::{LivenessMsg, SignedConsensusMsg};
use malachitebft_app_channel::app::engine::network::NetworkEvent;
use malachitebft_app_channel::app::streaming::{StreamContent, StreamId, StreamMessage};
use malachitebft_sync::OutboundRequestId;
use tokio::sync::oneshot;
use tokio::time::{Interval, interval};

use crate::context::Part;
use crate::failure::{Failure, Failures};
use crate::hub::{self, Hub};
use crate::network::{Class, Incoming, PeerId, Transport};
use crate::outbox::{Outbox, count};
use crate::request::{PartContent, PartMessage};
use crate::wire::sync::SyncMessage;
use crate::wire::votes::VotesMessage;
use crate::wire::{self, WireError};

/// Turns frames into events.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) hub: Arc<Hub>,
    pub(crate) outbox: Outbox,
    /// How often the status is told when nothing else makes the sync actor tell it; `None` if it does so by itself.
    pub(crate) reminder: Option<Duration>,
}

impl Reader {
    /// Reads from when all actors listen until it is told to stop, and gives the transport back; its successor will know
    /// what this one was told.
    pub(crate) async fn run(
        self,
        mut transport: Transport,
        mut stop: oneshot::Receiver<()>,
        failures: Failures,
    ) -> Transport {
        tokio::select! {
            biased;
            _ = &mut stop => return transport,
            () = self.hub.all_subscribed() => {}
        }
        let mut is_open = true;
        let mut reminder = self.reminder.map(interval);
        loop {
            let message = tokio::select! {
                biased;
                _ = &mut stop => break,
                () = due(&mut reminder) => {
                    self.hub.remind();
                    continue;
                }
                message = transport.incoming.recv(), if is_open => message,
            };
            match message {
                Some(message) => {
                    remember(&mut transport, &message);
                    self.read(message);
                }
                None => {
                    is_open = false;
                    failures.report(Failure::Transport);
                }
            }
        }
        transport.requests = self.hub.requests();
        transport
    }

    fn read(&self, message: Incoming) {
        match message {
            Incoming::Listening(address) => self.hub.listening(address),
            Incoming::Up(peer) => self.hub.up(peer),
            Incoming::Down(peer) => self.hub.down(peer),
            Incoming::Frame { from, class, frame } => match self.hub.admit(from, class) {
                Some(true) => self.frame(from, class, frame),
                Some(false) => count(&self.outbox.counters.over_quota),
                None => {}
            },
        }
    }

    fn frame(&self, from: PeerId, class: Class, frame: Bytes) {
        let read = match class {
            Class::Votes => wire::votes::decode(frame).map(|message| self.votes(from, message)),
            Class::Parts => wire::parts::decode(frame).map(|part| self.part(from, part)),
            Class::Sync => wire::sync::decode(frame)
                .and_then(|(number, message)| self.sync(from, number, message)),
        };
        if let Err(error) = read {
            count(&self.outbox.counters.refused);
            self.outbox.disconnect(from, format!("frame of class {class:?}: {error}"));
        }
    }

    fn votes(&self, from: PeerId, message: VotesMessage) {
        if let VotesMessage::Status(status) = &message {
            let height = status.tip_height.into();
            self.hub.claim(from, height);
            // Malachite sends no such status, and would learn nothing from it.
            if height == Height::GENESIS {
                return;
            }
        }
        self.hub.tell_from(from, |id| match message {
            VotesMessage::Consensus(SignedConsensusMsg::Vote(vote))
            | VotesMessage::Liveness(LivenessMsg::Vote(vote)) => NetworkEvent::Vote(id, vote),
            VotesMessage::Consensus(SignedConsensusMsg::Proposal(proposal)) => {
                NetworkEvent::Proposal(id, proposal)
            }
            VotesMessage::Liveness(LivenessMsg::PolkaCertificate(certificate)) => {
                NetworkEvent::PolkaCertificate(id, certificate)
            }
            VotesMessage::Liveness(LivenessMsg::SkipRoundCertificate(certificate)) => {
                NetworkEvent::RoundCertificate(id, certificate)
            }
            VotesMessage::Status(status) => hub::status(id, status),
        });
    }

    fn part(&self, from: PeerId, part: PartMessage) {
        let content = match part.content {
            PartContent::First(first) => StreamContent::Data(Part::First(first)),
            PartContent::Data(data) => StreamContent::Data(Part::Data(data)),
            PartContent::Fin => StreamContent::Fin,
        };
        let message = StreamMessage::new(StreamId::new(part.stream.0), part.sequence, content);
        self.hub.tell_from(from, |id| NetworkEvent::ProposalPart(id, Some(id), message));
    }

    fn sync(&self, from: PeerId, number: u64, message: SyncMessage) -> Result<(), WireError> {
        match message {
            SyncMessage::Request(request) => {
                if !self.hub.serve(from, number, request) {
                    count(&self.outbox.counters.requests_refused);
                }
                Ok(())
            }
            SyncMessage::Response(response) => {
                let id = OutboundRequestId::new(number);
                // The sync actor looks only at the id; that it comes from whom we asked is checked here. An answer
                // that nobody waits for any more is late, not wrong.
                if !self.hub.answered(&id, from) {
                    return Ok(());
                }
                let decoded = wire::sync::response(&response);
                let (value, result) = match decoded {
                    Ok(response) => (Some(response), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                self.hub.tell_from(from, |peer| hub::response(id, peer, value));
                result
            }
        }
    }
}

/// Waits for the next tick; for ever if there is none.
async fn due(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}

fn remember(transport: &mut Transport, message: &Incoming) {
    match message {
        Incoming::Listening(address) => transport.listening = Some(address.clone()),
        Incoming::Up(peer) => {
            transport.up.insert(*peer);
        }
        Incoming::Down(peer) => {
            transport.up.remove(peer);
        }
        Incoming::Frame { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::hub::tests::Recorder;
    use crate::outbox::outbox;
    use malachitebft_app_channel::app::engine::network::Status;

    #[tokio::test]
    async fn frame_that_comes_before_all_actors_listen_waits_for_them() {
        let (outgoing, _) = mpsc::channel(1);
        let (incoming, received) = mpsc::channel(4);
        let transport = Transport::new(outgoing, received);
        let hub = Arc::new(Hub::new(&transport));
        let reader = Reader { hub: hub.clone(), outbox: outbox().0, reminder: None };
        let (_stop, stopped) = oneshot::channel();
        let peer = PeerId::from_bytes(&[0, 1, 1]).unwrap();
        let part = PartMessage {
            stream: crate::StreamId(Bytes::from_static(&[1])),
            sequence: 0,
            content: PartContent::Fin,
        };
        let frame = wire::parts::encode(&part).unwrap();
        incoming.send(Incoming::Up(peer)).await.unwrap();
        incoming.send(Incoming::Frame { from: peer, class: Class::Parts, frame }).await.unwrap();
        tokio::spawn(reader.run(transport, stopped, Failures::new()));

        let (consensus, sync) = (Recorder::default(), Recorder::default());
        hub.subscribe(Box::new(sync));
        sleep(Duration::from_millis(20)).await;
        hub.subscribe(Box::new(consensus.clone()));
        let told = async {
            while !matches!(consensus.take().as_slice(), [.., NetworkEvent::ProposalPart(..)]) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(10), told).await.expect("the frame was lost");
    }
    #[tokio::test]
    async fn status_of_genesis_is_known_and_not_passed_on_and_a_higher_one_is_both() {
        let (outgoing, _) = mpsc::channel(1);
        let (_, received) = mpsc::channel(4);
        let hub = Arc::new(Hub::new(&Transport::new(outgoing, received)));
        let reader = Reader { hub: hub.clone(), outbox: outbox().0, reminder: None };
        let recorder = Recorder::default();
        hub.subscribe(Box::new(recorder.clone()));
        let peer = PeerId::from_bytes(&[0, 1, 1]).unwrap();
        hub.up(peer);
        recorder.take();
        for (height, passed_on) in [(0, 0), (3, 1)] {
            let status = VotesMessage::Status(Status::new(Height(height).into(), Height(0).into()));
            reader.frame(peer, Class::Votes, wire::votes::encode(&status).unwrap());
            assert_eq!(hub.heights().borrow().get(&peer), Some(&Height(height)));
            assert_eq!(recorder.take().len(), passed_on);
        }
    }
}
