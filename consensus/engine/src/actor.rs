//! Malachite's network actor over our transport: takes what malachite wants to send, and its subscriptions. What comes
//! from peers goes past it, from the reader to the subscribers.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use malachitebft_app_channel::app::engine::network::{NetworkMsg, PersistentPeerError};
use malachitebft_app_channel::app::types::PeerId as MalachitePeerId;
use malachitebft_sync::{InboundRequestId, OutboundRequestId, Request, Response};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::sync::oneshot;

use crate::context::Context;
use crate::hub::{self, Hub};
use crate::locks::Locks;
use crate::outbox::Outbox;
use crate::wire::votes::VotesMessage;
use crate::wire::{self, WireError};

/// The actor.
pub(crate) struct Network {
    pub(crate) hub: Arc<Hub>,
    pub(crate) outbox: Outbox,
    pub(crate) locks: Arc<Locks>,
}

/// Told when the actor is stopped in good order. Malachite does so by itself only when it halts for safety.
pub(crate) struct State {
    stopped: Option<oneshot::Sender<()>>,
}

#[async_trait]
impl Actor for Network {
    type Msg = NetworkMsg<Context>;
    type State = State;
    type Arguments = oneshot::Sender<()>;

    async fn pre_start(
        &self,
        _: ActorRef<Self::Msg>,
        stopped: oneshot::Sender<()>,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { stopped: Some(stopped) })
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(stopped) = state.stopped.take() {
            // Nobody listens any more while the engine is being stopped.
            stopped.send(()).ok();
        }
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Self::Msg>,
        message: Self::Msg,
        _: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            NetworkMsg::Subscribe(subscriber) => self.hub.subscribe(subscriber),
            NetworkMsg::PublishConsensusMsg(message) => {
                self.votes(&VotesMessage::Consensus(message));
            }
            NetworkMsg::PublishLivenessMsg(message) => {
                self.votes(&VotesMessage::Liveness(message));
            }
            NetworkMsg::BroadcastStatus(status) => self.votes(&VotesMessage::Status(status)),
            NetworkMsg::OutgoingRequest(to, request, reply) => self.ask(to, &request, reply),
            NetworkMsg::CancelRequest(id) => self.hub.forget_asked(&id),
            NetworkMsg::OutgoingResponse(id, response) => self.answer(&id, &response),
            NetworkMsg::CancelInboundRequest(id) => drop(self.hub.served(&id)),
            NetworkMsg::DumpState(reply) => drop(reply.send(None)),
            NetworkMsg::UpdatePersistentPeers(_, reply) => {
                let error = PersistentPeerError::InternalError("peers are the transport's".into());
                drop(reply.send(Err(error)));
            }
            // Parts go out by the handle, peers are the transport's and authenticated by it, and the last is the stock
            // actor's message to itself.
            NetworkMsg::PublishProposalPart(_)
            | NetworkMsg::UpdateValidatorSet(_)
            | NetworkMsg::ValidatorProofVerified { .. }
            | NetworkMsg::NewEvent(_) => {}
        }
        Ok(())
    }
}

impl Network {
    fn votes(&self, message: &VotesMessage) {
        if let Some(vote) = message.vote() {
            for (peer, frame) in self.locks.published(vote) {
                self.outbox.send_votes(peer, frame);
            }
        }
        if let Some(frame) = sendable(wire::votes::encode(message)) {
            self.outbox.broadcast_votes(frame);
        }
    }

    /// The sync actor waits for the id inside its own handler: answer first, then send or fail.
    fn ask(
        &self,
        to: MalachitePeerId,
        request: &Request<Context>,
        reply: RpcReplyPort<OutboundRequestId>,
    ) {
        let Some(peer) = hub::transport_id(to) else {
            return;
        };
        let asked = self.hub.ask(peer);
        drop(reply.send(asked.id.clone()));
        let frame = sendable(wire::sync::encode_request(asked.number, request));
        let is_sent =
            asked.is_open && frame.is_some_and(|frame| self.outbox.send_sync(peer, frame));
        if !is_sent {
            self.hub.forget_asked(&asked.id);
            self.hub.tell(&hub::request_failed(asked.id, to));
        }
    }

    fn answer(&self, id: &InboundRequestId, response: &Response<Context>) {
        let Some((to, number)) = self.hub.served(id) else {
            return;
        };
        if let Some(frame) = sendable(wire::sync::encode_response(number, response)) {
            self.outbox.send_sync(to, frame);
        }
    }
}

/// A message of ours that has no encoding is a bug, but not one to end the engine for.
fn sendable(frame: Result<Bytes, WireError>) -> Option<Bytes> {
    frame.inspect_err(|error| tracing::error!(%error, "can't encode a message of ours")).ok()
}
