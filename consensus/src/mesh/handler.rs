//! One connection: opens a stream for each of its classes at once, takes one of each from the peer, and hands
//! both to the driver. It never opens one again: when a stream ends, the driver closes the connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{Ready, ready};
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError,
    SubstreamProtocol,
};
use lockstep_core::types::NetworkId;

use super::class::{Class, Link, PerClass};

/// How long a peer may take to agree to a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// The protocols' names: `/lockstep/<network id in hex>/<class>/1`.
pub(super) type Names = PerClass<StreamProtocol>;

/// The names in `network`.
pub(super) fn names(network: NetworkId) -> Names {
    PerClass::from_fn(|class| {
        let name = format!("/lockstep/{:x}/{class}/1", network.0);
        StreamProtocol::try_from_owned(name).expect("it begins with a slash")
    })
}

/// What happened to a stream.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// Ours is open.
    Opened { class: Class, stream: Stream },
    /// The peer's is open.
    Accepted { class: Class, stream: Stream },
    /// The peer does not speak this network's protocols.
    Foreign,
    /// The peer did not open ours in time, or the connection broke.
    Failed { class: Class, reason: String },
    /// The peer opened a class twice, which ours never do.
    Repeated { class: Class },
}

/// The handler of one connection.
#[derive(Debug)]
pub(super) struct Handler {
    names: Arc<Names>,
    link: Link,
    pub(super) to_open: VecDeque<Class>,
    accepted: Vec<Class>,
    /// At most two for each class of the link.
    events: VecDeque<StreamEvent>,
}

impl Handler {
    pub(super) fn new(link: Link, names: Arc<Names>) -> Self {
        let to_open = link.classes().iter().copied().collect();
        Self { names, link, to_open, accepted: Vec::new(), events: VecDeque::new() }
    }

    fn on_accepted(&mut self, class: Class, stream: Stream) {
        if !self.accepted.contains(&class) {
            self.accepted.push(class);
            self.events.push_back(StreamEvent::Accepted { class, stream });
        } else if !matches!(self.events.back(), Some(StreamEvent::Repeated { .. })) {
            self.events.push_back(StreamEvent::Repeated { class });
        }
    }

    fn on_refused(&mut self, class: Class, error: StreamUpgradeError<Infallible>) {
        self.events.push_back(match error {
            StreamUpgradeError::NegotiationFailed => StreamEvent::Foreign,
            StreamUpgradeError::Timeout => {
                StreamEvent::Failed { class, reason: "not opened in time".to_owned() }
            }
            StreamUpgradeError::Io(error) => {
                StreamEvent::Failed { class, reason: error.to_string() }
            }
            StreamUpgradeError::Apply(never) => match never {},
        });
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = StreamEvent;
    type InboundProtocol = Accept;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Class;

    fn listen_protocol(&self) -> SubstreamProtocol<Accept> {
        let named = |class: &Class| Named { class: *class, name: self.names.get(*class).clone() };
        let accept = Accept { protocols: self.link.classes().iter().map(named).collect() };
        SubstreamProtocol::new(accept, ()).with_timeout(OPEN_TIMEOUT)
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Class, StreamEvent>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        let Some(class) = self.to_open.pop_front() else {
            return Poll::Pending;
        };
        let upgrade = ReadyUpgrade::new(self.names.get(class).clone());
        let protocol = SubstreamProtocol::new(upgrade, class).with_timeout(OPEN_TIMEOUT);
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Accept, Self::OutboundProtocol, (), Class>,
    ) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the rest does not concern streams")]
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (class, stream),
                info: (),
            }) => self.on_accepted(class, stream),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: stream,
                info: class,
            }) => self.events.push_back(StreamEvent::Opened { class, stream }),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: class, error }) => {
                self.on_refused(class, error);
            }
            _ => {}
        }
    }
}

/// A class's protocol name.
#[derive(Clone, Debug)]
pub(super) struct Named {
    class: Class,
    name: StreamProtocol,
}

impl AsRef<str> for Named {
    fn as_ref(&self) -> &str {
        self.name.as_ref()
    }
}

/// Takes a stream of any of these protocols.
#[derive(Clone, Debug)]
pub(super) struct Accept {
    protocols: Vec<Named>,
}

impl UpgradeInfo for Accept {
    type Info = Named;
    type InfoIter = Vec<Named>;

    fn protocol_info(&self) -> Vec<Named> {
        self.protocols.clone()
    }
}

impl InboundUpgrade<Stream> for Accept {
    type Output = (Class, Stream);
    type Error = Infallible;
    type Future = Ready<Result<(Class, Stream), Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: Named) -> Self::Future {
        ready(Ok((protocol.class, stream)))
    }
}
