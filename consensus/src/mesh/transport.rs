//! TCP, encryption and streams: the swarm that the driver drives.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::io::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent};
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, Swarm, Transport, dns, noise, swarm, tcp, yamux};
use tokio::time::{Sleep, sleep};

use super::behaviour::Behaviour;
use super::handler::names;
use super::peer::Shared;
use super::{Config, SpawnError, ip_of};

/// How long a connection may take to be made, encryption included, in either direction.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection may take to be closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Streams that a peer may be opening at once on one connection: more than it has classes.
const STREAMS_OPENING_MAX: usize = 8;

/// The swarm of a mesh, not yet listening.
pub(super) fn build_swarm(
    config: &Config,
    shared: &Arc<Shared>,
) -> Result<Swarm<Behaviour>, SpawnError> {
    let addresses = config.peers.iter().filter_map(|(_, address)| ip_of(address)).collect();
    let behaviour = Behaviour::new(Arc::clone(shared), names(config.network), addresses);
    let options = swarm::Config::with_tokio_executor()
        .with_max_negotiating_inbound_streams(STREAMS_OPENING_MAX);
    Ok(Swarm::new(build_transport(config)?, behaviour, shared.local, options))
}

/// Authenticated connections with streams; names are looked up if any peer has one.
pub(super) fn build_transport(
    config: &Config,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, SpawnError> {
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true));
    if !config.peers.iter().any(|(_, address)| has_name(address)) {
        return secured(tcp, &config.keypair);
    }
    let named = dns::tokio::Transport::system(tcp);
    secured(named.map_err(|source| SpawnError::Resolver { source })?, &config.keypair)
}

/// Whether the address must be looked up.
fn has_name(address: &Multiaddr) -> bool {
    address.iter().any(|protocol| {
        matches!(
            protocol,
            Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)
        )
    })
}

/// Authenticates and encrypts with noise, and makes streams with yamux.
fn secured<T>(
    transport: T,
    keypair: &Keypair,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, SpawnError>
where
    T: Transport + Send + Unpin + 'static,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Error: Send + Sync + 'static,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
{
    let noise = noise::Config::new(keypair).map_err(|source| SpawnError::Key { source })?;
    Ok(transport
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux::Config::default())
        .timeout(CONNECT_TIMEOUT)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(BoundedClose::new(muxer))))
        .boxed())
}

/// A connection whose closing ends in time.
///
/// Closing says goodbye behind all that is still to be written. With a peer that does not read, that lasts
/// until TCP gives up after a quarter of an hour, and each new connection could leave another such one behind.
struct BoundedClose<M> {
    muxer: M,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<M> BoundedClose<M> {
    const fn new(muxer: M) -> Self {
        Self { muxer, deadline: None }
    }
}

impl<M> StreamMuxer for BoundedClose<M>
where
    M: StreamMuxer<Error: Send + Sync + 'static> + Unpin,
{
    type Substream = M::Substream;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<M::Substream>> {
        Pin::new(&mut self.muxer).poll_inbound(cx).map_err(io::Error::other)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<M::Substream>> {
        Pin::new(&mut self.muxer).poll_outbound(cx).map_err(io::Error::other)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(closed) = Pin::new(&mut self.muxer).poll_close(cx) {
            return Poll::Ready(closed.map_err(io::Error::other));
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(CLOSE_TIMEOUT)));
        deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.muxer).poll(cx).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use futures::io::Cursor;

    use super::*;

    /// A connection that cannot say goodbye.
    struct Stuck;

    impl StreamMuxer for Stuck {
        type Substream = Cursor<Vec<u8>>;
        type Error = io::Error;

        fn poll_inbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_outbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn closing_a_stuck_connection_ends() {
        let begin = Instant::now();
        let mut muxer = BoundedClose::new(Stuck);
        let close = std::future::poll_fn(|cx| Pin::new(&mut muxer).poll_close(cx));
        let closed = tokio::time::timeout(CLOSE_TIMEOUT * 10, close).await.expect("in time");
        assert_eq!(closed.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() >= CLOSE_TIMEOUT);
    }
}
