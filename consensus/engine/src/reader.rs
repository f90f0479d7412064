//! Reads what the transport brings and tells malachite's actors. The only place that decodes a peer's bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_core::types::Height;
use lockstep_proto::v1 as proto;
use malachitebft_app_channel::app::consensus::{LivenessMsg, SignedConsensusMsg};
use malachitebft_app_channel::app::engine::network::NetworkEvent;
use malachitebft_app_channel::app::streaming::{StreamContent, StreamId, StreamMessage};
use malachitebft_app_channel::app::types::core::SignedProposal;
use malachitebft_sync::OutboundRequestId;
use tokio::sync::oneshot;
use tokio::time::{Interval, interval};

use crate::app::one_decided;
use crate::context::{Context, Part};
use crate::failure::{Failure, Failures};
use crate::gate::{self, Gate};
use crate::hub::{self, Hub};
use crate::inbox::{Inbox, ProposalTicket, described};
use crate::locks::Locks;
use crate::network::{Class, Incoming, PeerId, Transport};
use crate::outbox::{Outbox, count};
use crate::request::{PartContent, PartMessage, Request};
use crate::wire::sync::SyncMessage;
use crate::wire::votes::VotesMessage;
use crate::wire::{self, WireError};

/// Turns frames into events.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) hub: Arc<Hub>,
    pub(crate) outbox: Outbox,
    pub(crate) inbox: Inbox,
    pub(crate) gate: Gate,
    pub(crate) locks: Arc<Locks>,
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
            Incoming::Down(peer) => {
                self.hub.down(peer);
                self.locks.down(peer);
            }
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
        let hub = &self.hub;
        if hub.charge(from, Class::Votes, gate::more_signatures(&message)) != Some(true) {
            return count(&self.outbox.counters.over_quota);
        }
        if let Err(refused) = self.gate.check(from, &message) {
            count(&self.outbox.counters.refused);
            return self.outbox.disconnect(from, refused.to_string());
        }
        if let VotesMessage::Status(status) = &message {
            let height = status.tip_height.into();
            hub.claim(from, height);
            // Malachite sends no such status, and would learn nothing from it.
            if height == Height::GENESIS {
                return;
            }
        }
        if let Some(vote) = message.vote()
            && let Some(polka) = self.locks.received(from, &vote.message)
        {
            self.outbox.send_votes(from, polka);
        }
        match message {
            VotesMessage::Consensus(SignedConsensusMsg::Vote(vote))
            | VotesMessage::Liveness(LivenessMsg::Vote(vote)) => {
                hub.tell_from(from, |id| NetworkEvent::Vote(id, vote));
            }
            VotesMessage::Consensus(SignedConsensusMsg::Proposal(proposal)) => {
                self.proposal(from, proposal);
            }
            VotesMessage::Liveness(LivenessMsg::PolkaCertificate(certificate)) => {
                hub.tell_from(from, |id| NetworkEvent::PolkaCertificate(id, certificate));
            }
            VotesMessage::Liveness(LivenessMsg::SkipRoundCertificate(certificate)) => {
                hub.tell_from(from, |id| NetworkEvent::RoundCertificate(id, certificate));
            }
            VotesMessage::Status(status) => hub.tell_from(from, |id| hub::status(id, status)),
        }
    }

    /// A proposal goes to the application, never straight to malachite: it is used only for the block that was judged.
    fn proposal(&self, from: PeerId, signed: SignedProposal<Context>) {
        let (proposal, proposer) = described(&signed);
        let ticket = ProposalTicket { from, proposal: signed };
        let request = Request::ReceivedProposal { from, proposal, proposer, ticket };
        let slot = self.hub.proposal_slot(from);
        if !slot.is_some_and(|slot| self.inbox.offer(request, Some(slot))) {
            count(&self.outbox.counters.proposals_dropped);
        }
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
                if let Some(height) = self.hub.fetched(number, from) {
                    return self.fetched(from, height, &response);
                }
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

impl Reader {
    /// The answer to a fetch of the application. It waits for the first one, so each is told.
    fn fetched(
        &self,
        from: PeerId,
        height: Height,
        response: &proto::ValueResponse,
    ) -> Result<(), WireError> {
        let (value, result) = match wire::sync::response(response) {
            Ok(response) => (one_decided(height, response), Ok(())),
            Err(error) => (None, Err(error)),
        };
        if !self.inbox.offer(Request::Fetched { from, height, value }, None) {
            count(&self.outbox.counters.sync_dropped);
        }
        result
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

    use alloy_primitives::{Address, B256};
    use lockstep_core::certificate::{Certificate, Proposal};
    use lockstep_core::signing::Signature;
    use lockstep_core::types::{BlockHash, NetworkId, Round};
    use malachitebft_app_channel::app::types::core as mc;
    use malachitebft_sync::{RawDecidedValue, Response, ValueResponse};
    use prost::Message as _;
    use tokio::sync::mpsc;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::context::{self, ValidatorAddress};
    use crate::hub::tests::PACE;
    use crate::hub::tests::Recorder;
    use crate::inbox::{PROPOSALS_PER_PEER_MAX, Waiting, inbox};
    use crate::outbox::outbox;
    use crate::signing::Verifier;
    use malachitebft_app_channel::app::engine::network::Status;

    fn peer(byte: u8) -> PeerId {
        PeerId::from_bytes(&[0, 1, byte]).unwrap()
    }

    fn gate() -> Gate {
        let of = |byte| (peer(byte), Address::repeat_byte(byte));
        Gate::new(Arc::new([1, 2].map(of).into()), Verifier::new(NetworkId::ZERO))
    }

    fn locks() -> Arc<Locks> {
        Arc::new(Locks::new(Verifier::new(NetworkId::ZERO)))
    }

    /// A reader of which peers 1 and 2 are up, what malachite is told, and what waits for the application.
    fn reader() -> (Reader, Recorder, mpsc::Receiver<Waiting>) {
        let (outgoing, _) = mpsc::channel(1);
        let (_, received) = mpsc::channel(1);
        let hub = Arc::new(Hub::new(&Transport::new(outgoing, received), PACE));
        hub.up(peer(1));
        hub.up(peer(2));
        let malachite = Recorder::default();
        hub.subscribe(Box::new(malachite.clone()));
        malachite.take();
        let (inbox, waiting) = inbox();
        let (outbox, locks) = (outbox().0, locks());
        (Reader { hub, outbox, inbox, gate: gate(), locks, reminder: None }, malachite, waiting)
    }

    /// A frame with a proposal by the validator `proposer`.
    fn proposal_frame(round: u32, proposer: u8) -> (Proposal, Bytes) {
        let block = BlockHash(B256::repeat_byte(7));
        let valid_round = round.checked_sub(1).map(Round);
        let proposal = Proposal { height: Height(3), round: Round(round), valid_round, block };
        let proposer = Address::repeat_byte(proposer);
        let ticket = ProposalTicket::new(peer(1), proposal, proposer, Signature([9; 65]));
        let message = VotesMessage::Consensus(SignedConsensusMsg::Proposal(ticket.proposal));
        (proposal, wire::votes::encode(&message).unwrap())
    }

    #[test]
    fn proposal_goes_to_the_application_and_reaches_malachite_only_when_it_is_passed() {
        let (reader, malachite, mut waiting) = reader();
        for (round, proposer) in [(0, 1), (4, 77)] {
            let (sent, frame) = proposal_frame(round, proposer);
            reader.read(Incoming::Frame { from: peer(2), class: Class::Votes, frame });
            assert_eq!(malachite.take(), [], "malachite was told at once");
            let request = waiting.try_recv().unwrap().request;
            let Request::ReceivedProposal { from, proposal, proposer: by, ticket } = request else {
                panic!("{request:?}")
            };
            assert_eq!((from, proposal), (peer(2), sent));
            assert_eq!(by, Address::repeat_byte(proposer), "as the message says");
            let signature = Signature([9; 65]);
            assert_eq!(ticket, ProposalTicket::new(peer(2), sent, by, signature));
        }
    }

    #[test]
    fn peer_that_sends_anothers_vote_is_disconnected_and_malachite_not_told() {
        let (reader, malachite, _) = reader();
        let message = context::Vote {
            height: context::Height(3),
            round: mc::Round::new(0),
            vote_type: mc::VoteType::Prevote,
            value: mc::NilOrVal::Nil,
            validator: ValidatorAddress(Address::repeat_byte(2)),
        };
        let vote = mc::SignedVote::new(message, Signature([9; 65]));
        let vote = VotesMessage::Consensus(SignedConsensusMsg::Vote(vote));
        let frame = wire::votes::encode(&vote).unwrap();
        for (from, refused) in [(1, 1), (2, 2)] {
            let frame = frame.clone();
            reader.read(Incoming::Frame { from: peer(from), class: Class::Votes, frame });
            assert_eq!(malachite.take(), [], "its own, too, is not signed by it");
            assert_eq!(reader.outbox.counters.read().refused, refused);
        }
    }

    #[test]
    fn proposals_of_one_peer_that_wait_are_bounded_and_take_nothing_from_another() {
        let (reader, _, mut waiting) = reader();
        let (_, frame) = proposal_frame(0, 1);
        let send = |from| {
            let frame = frame.clone();
            reader.read(Incoming::Frame { from: peer(from), class: Class::Votes, frame });
        };
        (0..100).for_each(|_| send(1));
        assert_eq!(waiting.len(), PROPOSALS_PER_PEER_MAX);
        let dropped = 100 - PROPOSALS_PER_PEER_MAX as u64;
        assert_eq!(reader.outbox.counters.read().proposals_dropped, dropped);
        send(2);
        assert_eq!(waiting.len(), PROPOSALS_PER_PEER_MAX + 1, "the other peer has its own places");
        drop(waiting.try_recv().unwrap());
        send(1);
        assert_eq!(waiting.len(), PROPOSALS_PER_PEER_MAX + 1, "a place is free again");
    }

    /// A peer's answer: the values of these heights, of which the first is said to be `first`.
    fn answer(number: u64, first: u64, heights: &[u64]) -> Bytes {
        let values = heights.iter().map(|height| {
            let certificate = mc::ExtendedCommitCertificate {
                height: context::Height(*height),
                round: mc::Round::new(1),
                value_id: BlockHash(B256::repeat_byte(7)),
                commit_signatures: [3, 2, 3]
                    .map(Address::repeat_byte)
                    .map(|a| {
                        let signature = Signature([9; 65]);
                        mc::ExtendedCommitSignature::new(ValidatorAddress(a), signature, None)
                    })
                    .into(),
            };
            RawDecidedValue::new(Bytes::from_static(b"value"), certificate)
        });
        let response = ValueResponse::new(context::Height(first), values.collect());
        wire::sync::encode_response(number, &Response::ValueResponse(response)).unwrap()
    }

    /// What the application is told of each answer that peer 1 gives to a fetch of height 5.
    fn fetched(answer: impl Fn(u64) -> Bytes) -> (Vec<Option<(Bytes, Certificate)>>, u64) {
        let (reader, malachite, mut waiting) = reader();
        let number = reader.hub.fetch(peer(1), Height(5)).unwrap();
        let frame = answer(number);
        for from in [peer(2), peer(1), peer(1)] {
            let frame = frame.clone();
            reader.read(Incoming::Frame { from, class: Class::Sync, frame });
        }
        assert_eq!(malachite.take(), [], "malachite did not ask");
        let mut told = Vec::new();
        while let Ok(Waiting { request, .. }) = waiting.try_recv() {
            let Request::Fetched { from, height, value } = request else { panic!("{request:?}") };
            assert_eq!((from, height), (peer(1), Height(5)));
            told.push(value);
        }
        (told, reader.outbox.counters.read().refused)
    }

    #[test]
    fn answer_to_a_fetch_is_told_once_and_only_from_whom_it_was_asked() {
        let (told, refused) = fetched(|number| answer(number, 5, &[5]));
        let [Some((bytes, certificate))] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!(bytes.as_ref(), b"value");
        assert_eq!((certificate.height, certificate.round), (Height(5), Round(1)));
        let validators: Vec<_> = certificate.signatures.iter().map(|s| s.validator).collect();
        assert_eq!(validators, [2, 3].map(Address::repeat_byte), "in order, each once");
        assert_eq!(refused, 0);
    }

    #[test]
    fn answer_to_a_fetch_with_another_height_or_none_or_more_is_no_value() {
        for (first, heights) in [(5, &[][..]), (4, &[4][..]), (6, &[6]), (5, &[5, 6]), (4, &[4, 5])]
        {
            let (told, refused) = fetched(|number| answer(number, first, heights));
            assert_eq!(told, [None], "{first} {heights:?}");
            assert_eq!(refused, 0, "an honest peer may answer less, a liar is asked no more");
        }
    }

    #[test]
    fn malformed_answer_to_a_fetch_is_told_and_disconnects_its_sender() {
        let malformed = |number| {
            let values = Bytes::from_static(&[0xff; 9]);
            let message = proto::ValueResponse { first: 5, values };
            let message = proto::sync_frame::Message::ValueResponse(message);
            proto::SyncFrame { request: number, message: Some(message) }.encode_to_vec().into()
        };
        assert_eq!(fetched(malformed), (vec![None], 1));
    }

    #[tokio::test]
    async fn frame_that_comes_before_all_actors_listen_waits_for_them() {
        let (outgoing, _) = mpsc::channel(1);
        let (incoming, received) = mpsc::channel(4);
        let transport = Transport::new(outgoing, received);
        let hub = Arc::new(Hub::new(&transport, PACE));
        let (inbox, _waiting) = inbox();
        let (outbox, locks) = (outbox().0, locks());
        let reader =
            Reader { hub: hub.clone(), outbox, inbox, gate: gate(), locks, reminder: None };
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
        let hub = Arc::new(Hub::new(&Transport::new(outgoing, received), PACE));
        let (outbox, inbox, locks) = (outbox().0, inbox().0, locks());
        let reader =
            Reader { hub: hub.clone(), outbox, inbox, gate: gate(), locks, reminder: None };
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
