//! The accept loop: who may connect, how many at a time, and how long the first bytes may take.
//!
//! An error of `accept` (most often: no file descriptors left) never ends the loop; it waits a moment and goes on.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::{debug, warn};

use crate::limits::{
    CALLS_PER_CONNECTION_MAX, CONNECTIONS_MAX, CONNECTIONS_PER_CLIENT_MAX, FIRST_BYTES,
    FIRST_BYTES_TIMEOUT,
};
use crate::metrics::{Counted, RpcMetrics};
use crate::quota::Client;

/// Wait after an error of `accept`.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(100);

/// How many connections there may be.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    first_bytes_timeout: Duration,
    total: Arc<Semaphore>,
    per_client_max: usize,
    // Behind a lock, because a connection ends wherever it is dropped. Held for one look-up.
    per_client: Arc<Mutex<BTreeMap<Client, usize>>>,
}

/// One admitted connection's place; given back when dropped.
#[derive(Debug)]
struct Place {
    _permit: OwnedSemaphorePermit,
    client: Client,
    per_client: Arc<Mutex<BTreeMap<Client, usize>>>,
}

impl Admission {
    pub(crate) fn new() -> Self {
        Self::with_caps(CONNECTIONS_MAX, CONNECTIONS_PER_CLIENT_MAX)
    }

    fn with_caps(total_max: usize, per_client_max: usize) -> Self {
        Self {
            first_bytes_timeout: FIRST_BYTES_TIMEOUT,
            total: Arc::new(Semaphore::new(total_max)),
            per_client_max,
            per_client: Arc::default(),
        }
    }

    fn admit(&self, client: Client) -> Option<Place> {
        let permit = Arc::clone(&self.total).try_acquire_owned().ok()?;
        let mut per_client = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        let count = per_client.entry(client).or_default();
        if *count >= self.per_client_max {
            return None;
        }
        *count = count.saturating_add(1);
        drop(per_client);
        Some(Place { _permit: permit, client, per_client: Arc::clone(&self.per_client) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut per_client = self.per_client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = per_client.get_mut(&self.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                per_client.remove(&self.client);
            }
        }
    }
}

/// The admitted connections of a listener. It never ends.
pub(crate) fn incoming(
    listener: TcpListener,
    admission: Admission,
    metrics: RpcMetrics,
) -> impl Stream<Item = io::Result<Connection>> {
    futures::stream::unfold(
        (listener, admission, metrics),
        |(listener, admission, metrics)| async {
            let connection = next(&listener, &admission, &metrics).await;
            Some((Ok(connection), (listener, admission, metrics)))
        },
    )
}

async fn next(listener: &TcpListener, admission: &Admission, metrics: &RpcMetrics) -> Connection {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
                continue;
            }
        };
        let Some(place) = admission.admit(Client::of(Some(address.ip()))) else {
            metrics.connections_refused.inc();
            debug!(%address, "too many connections");
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%address, %error, "cannot set TCP_NODELAY");
        }
        let deadline = tokio::time::sleep(admission.first_bytes_timeout);
        return Connection {
            info: ConnectionInfo {
                tcp: stream.connect_info(),
                calls: Arc::new(Semaphore::new(CALLS_PER_CONNECTION_MAX)),
            },
            stream,
            begin: Some((FIRST_BYTES, Box::pin(deadline))),
            _place: place,
            _counted: Counted::new(&metrics.connections),
        };
    }
}

/// What each call knows of its connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionInfo {
    pub(crate) tcp: TcpConnectInfo,
    /// Places for calls that are being answered.
    pub(crate) calls: Arc<Semaphore>,
}

/// An admitted connection, which must begin to speak soon.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    info: ConnectionInfo,
    /// Bytes that are still to come before the deadline; `None` once they came.
    begin: Option<(usize, Pin<Box<Sleep>>)>,
    _place: Place,
    _counted: Counted,
}

impl Connected for Connection {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        let Some((missing, deadline)) = &mut this.begin else {
            return polled;
        };
        *missing = missing.saturating_sub(buffer.filled().len().saturating_sub(before));
        if *missing == 0 {
            this.begin = None;
            return polled;
        }
        if polled.is_ready() && deadline.deadline() > Instant::now() {
            return polled;
        }
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn client(n: u32) -> Client {
        Client::of(Some(IpAddr::V4(n.into())))
    }

    fn hasty() -> Admission {
        Admission { first_bytes_timeout: Duration::from_millis(100), ..Admission::new() }
    }

    #[test]
    fn connections_are_capped_in_total_and_per_client() {
        let admission = Admission::with_caps(3, 2);
        let first = admission.admit(client(1)).expect("room");
        let _second = admission.admit(client(1)).expect("room");
        assert!(admission.admit(client(1)).is_none(), "two per client");
        let _third = admission.admit(client(2)).expect("a refused one takes no place");
        assert!(admission.admit(client(3)).is_none(), "three in total");
        drop(first);
        let _fourth = admission.admit(client(3)).expect("a place was given back");
        assert_eq!(admission.per_client.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_connection_that_says_too_little_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut dialed = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut accepted = next(&listener, &hasty(), &RpcMetrics::default()).await;
        dialed.write_all(&[1; FIRST_BYTES - 1]).await.unwrap();
        let mut bytes = [0; FIRST_BYTES];
        let error = accepted.read_exact(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_connection_that_has_begun_may_be_idle() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut dialed = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let metrics = RpcMetrics::default();
        let mut accepted = next(&listener, &hasty(), &metrics).await;
        assert_eq!(metrics.connections.get(), 1);
        dialed.write_all(&[1; FIRST_BYTES]).await.unwrap();
        accepted.read_exact(&mut [0; FIRST_BYTES]).await.unwrap();
        tokio::time::sleep(hasty().first_bytes_timeout * 3).await;
        dialed.write_all(&[2]).await.unwrap();
        assert_eq!(accepted.read_u8().await.unwrap(), 2);
        drop(accepted);
        assert_eq!(metrics.connections.get(), 0);
    }
}
