//! Who may connect: so many in all, so many of one client, and nobody who stays silent.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use lockstep_rpc::quota::Client;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tracing::{debug, warn};

/// Wait after an error of `accept`, most often that no file descriptors are left.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Caps of a listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caps {
    pub(crate) total: usize,
    pub(crate) per_client: usize,
    pub(crate) idle: Duration,
}

/// A listener that closes at once what is over its caps.
#[derive(Debug)]
pub(crate) struct Capped {
    listener: TcpListener,
    caps: Caps,
    total: Arc<Semaphore>,
    // Behind a lock, because a connection ends wherever it is dropped. Held for one look-up.
    per_client: Arc<Mutex<BTreeMap<Client, usize>>>,
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

/// A connection's place; given back when dropped.
#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
    client: Client,
    per_client: Arc<Mutex<BTreeMap<Client, usize>>>,
    open: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
        let mut per_client = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = per_client.get_mut(&self.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                per_client.remove(&self.client);
            }
        }
    }
}

impl Capped {
    pub(crate) fn new(listener: TcpListener, caps: Caps, open: Gauge) -> Self {
        let total = Arc::new(Semaphore::new(caps.total));
        Self { listener, caps, total, per_client: Arc::default(), open }
    }

    fn admit(&self, client: Client) -> Option<Place> {
        let permit = Arc::clone(&self.total).try_acquire_owned().ok()?;
        let mut per_client = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        let count = per_client.entry(client).or_default();
        if *count >= self.caps.per_client {
            return None;
        }
        *count = count.saturating_add(1);
        drop(per_client);
        self.open.inc();
        let (per_client, open) = (Arc::clone(&self.per_client), self.open.clone());
        Some(Place { _permit: permit, client, per_client, open })
    }
}

impl Listener for Capped {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (stream, address) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_ERROR_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = self.admit(Client::of(Some(address.ip()))) else {
                debug!(%address, "too many connections");
                continue;
            };
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%address, %error, "cannot set TCP_NODELAY");
            }
            let (idle, deadline) = (self.caps.idle, Box::pin(sleep(self.caps.idle)));
            return (Connection { stream, idle, deadline, _place: place }, address);
        }
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
    _place: Place,
}

impl Connection {
    fn moved(&mut self) {
        let now = Instant::now();
        self.deadline.as_mut().reset(now.checked_add(self.idle).unwrap_or(now));
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, buffer) {
            self.moved();
            return Poll::Ready(read);
        }
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
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
        ready!(self.deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
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
    use std::net::IpAddr;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const CAPS: Caps = Caps { total: 3, per_client: 2, idle: Duration::from_millis(100) };

    async fn listen() -> (Capped, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (Capped::new(listener, CAPS, Gauge::default()), address)
    }

    fn client(n: u32) -> Client {
        Client::of(Some(IpAddr::V4(n.into())))
    }

    #[tokio::test]
    async fn connections_are_capped_in_total_and_per_client() {
        let (capped, _) = listen().await;
        let first = capped.admit(client(1)).expect("room");
        let _second = capped.admit(client(1)).expect("room");
        assert!(capped.admit(client(1)).is_none(), "two per client");
        let _third = capped.admit(client(2)).expect("a refused one takes no place");
        assert!(capped.admit(client(3)).is_none(), "three in total");
        drop(first);
        let _fourth = capped.admit(client(3)).expect("a place was given back");
        assert_eq!(capped.open.get(), 3);
        assert_eq!(capped.per_client.lock().unwrap().len(), 3);
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
