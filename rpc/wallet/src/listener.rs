//! The connections of the wallets' port: nobody stays silent for too long. Who is admitted, and how many, is
//! [`lockstep_rpc::connections`]' to say.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use lockstep_rpc::connections::{Accepted, Bounds, Connections, Place};
use lockstep_rpc::quota::Client;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep};

/// A listener that closes at once what is over its bounds.
#[derive(Debug)]
pub(crate) struct Capped {
    listener: TcpListener,
    connections: Connections,
    idle: Duration,
    open: Gauge,
}

/// The other end of a connection, as a request sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) Client);

impl Connected<IncomingStream<'_, Capped>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Capped>) -> Self {
        Self(Client::of(Some(stream.remote_addr().ip())))
    }
}

/// Counts a connection as long as it lives.
#[derive(Debug)]
struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Capped {
    /// Connections within `bounds`; one that is silent for `idle` is closed.
    pub(crate) fn new(listener: TcpListener, bounds: Bounds, idle: Duration, open: Gauge) -> Self {
        // Nobody looks at how many are refused.
        Self { listener, connections: Connections::new(bounds, Counter::default()), idle, open }
    }
}

impl Listener for Capped {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let Accepted { stream, address, place } = self.connections.next(&self.listener).await;
        self.open.inc();
        let (idle, deadline) = (self.idle, Box::pin(sleep(self.idle)));
        let open = Open(self.open.clone());
        (Connection { stream, idle, deadline, place, _open: open }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// An admitted connection, which must not be silent for too long.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    idle: Duration,
    /// Moved on by each read and write.
    deadline: Pin<Box<Sleep>>,
    place: Place,
    _open: Open,
}

impl Connection {
    fn moved(&mut self) {
        let now = Instant::now();
        self.deadline.as_mut().reset(now.checked_add(self.idle).unwrap_or(now));
    }

    /// Ready with the reason once the connection must end.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if self.place.poll_evicted(context).is_ready() {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // First, because a client that never stops to send is never waited for.
        if self.place.poll_evicted(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            self.moved();
            return Poll::Ready(read);
        }
        self.poll_over(context).map(Err)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(context, bytes) {
            self.moved();
            return Poll::Ready(written);
        }
        self.poll_over(context).map(Err)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const BOUNDS: Bounds = Bounds { total_max: 2, per_client_max: 1, reserved: 0 };

    async fn listen() -> (Capped, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let idle = Duration::from_millis(100);
        (Capped::new(listener, BOUNDS, idle, Gauge::default()), address)
    }

    #[tokio::test]
    async fn a_connection_over_the_bounds_is_closed_and_the_others_are_counted() {
        let (mut capped, address) = listen().await;
        let _first = TcpStream::connect(address).await.unwrap();
        let (accepted, _) = capped.accept().await;
        assert_eq!(capped.open.get(), 1);
        let mut second = TcpStream::connect(address).await.unwrap();
        tokio::select! {
            _ = capped.accept() => panic!("one per client"),
            read = second.read_u8() => assert!(read.is_err(), "it is closed"),
        }
        drop(accepted);
        assert_eq!(capped.open.get(), 0);
        let _third = TcpStream::connect(address).await.unwrap();
        let _accepted = capped.accept().await;
        assert_eq!(capped.open.get(), 1);
    }

    #[tokio::test]
    async fn a_silent_connection_is_closed() {
        let (mut capped, address) = listen().await;
        let mut dialed = TcpStream::connect(address).await.unwrap();
        let (mut accepted, _) = capped.accept().await;
        dialed.write_all(&[1]).await.unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), 1);
        let error = accepted.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
