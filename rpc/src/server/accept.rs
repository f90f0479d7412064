//! How long the first bytes of an admitted connection may take, and how long it may be idle.
//!
//! A connection is idle while no call of it is being answered; whether its client answers pings makes no difference. Who is
//! admitted, [`connections`](crate::connections) says.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::connections::{Accepted, Bounds, Connections, Place};
use crate::limits::{CALLS_PER_CONNECTION_MAX, FIRST_BYTES, FIRST_BYTES_TIMEOUT};
use crate::metrics::{Counted, RpcMetrics};

/// The connections of a listener, and for how long each may be idle.
#[derive(Debug)]
pub(crate) struct Admission {
    connections: Connections,
    first_bytes_timeout: Duration,
    idle_timeout: Duration,
    metrics: RpcMetrics,
}

impl Admission {
    /// Connections within `bounds`; one that is idle for `idle_timeout` is closed.
    pub(crate) fn new(bounds: Bounds, idle_timeout: Duration, metrics: RpcMetrics) -> Self {
        Self {
            connections: Connections::new(bounds, metrics.connections_refused.clone()),
            first_bytes_timeout: FIRST_BYTES_TIMEOUT,
            idle_timeout,
            metrics,
        }
    }

    /// The next connection that is admitted.
    pub(crate) async fn next(&mut self, listener: &TcpListener) -> Connection {
        let Accepted { stream, address, place } = self.connections.next(listener).await;
        Connection {
            info: ConnectionInfo {
                tcp: stream.connect_info(),
                calls: Arc::new(Semaphore::new(CALLS_PER_CONNECTION_MAX)),
                activity: Activity::new(),
            },
            stream,
            address,
            missing: FIRST_BYTES,
            deadline: Box::pin(tokio::time::sleep(self.first_bytes_timeout)),
            idle_timeout: self.idle_timeout,
            place,
            _counted: Counted::new(&self.metrics.connections),
        }
    }
}

/// The admitted connections of a listener. It never ends.
pub(crate) fn incoming(
    listener: TcpListener,
    admission: Admission,
) -> impl Stream<Item = io::Result<Connection>> {
    futures::stream::unfold((listener, admission), |(listener, mut admission)| async {
        let connection = admission.next(&listener).await;
        Some((Ok(connection), (listener, admission)))
    })
}

/// Whether calls of a connection are being answered, and since when none is; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Activity(
    // Behind a lock, because answers end wherever they are dropped. Held for arithmetic alone.
    Arc<Mutex<(usize, Instant)>>,
);

/// A call that is being answered, until its answer's last byte; counts as long as it lives.
#[derive(Debug)]
pub(crate) struct Active(Activity);

impl Activity {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((0, Instant::now()))))
    }

    /// Begins a call.
    pub(crate) fn begin(&self) -> Active {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = state.0.saturating_add(1);
        drop(state);
        Active(self.clone())
    }

    /// Since when no call is being answered.
    fn idle_since(&self) -> Instant {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            (0, since) => since,
            _ => Instant::now(),
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (state.0.saturating_sub(1), Instant::now());
    }
}

/// What each call knows of its connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionInfo {
    pub(crate) tcp: TcpConnectInfo,
    /// Places for calls that are being answered.
    pub(crate) calls: Arc<Semaphore>,
    pub(crate) activity: Activity,
}

/// An admitted connection, which must begin to speak soon.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    info: ConnectionInfo,
    /// Of the first bytes, those that are still to come.
    missing: usize,
    /// Until when they must come; after that, when to look next whether it is idle.
    deadline: Pin<Box<Sleep>>,
    idle_timeout: Duration,
    place: Place,
    _counted: Counted,
}

impl Connection {
    /// Where its client is.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ready with the reason once the connection must end.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if self.place.poll_evicted(context).is_ready() {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        loop {
            ready!(self.deadline.as_mut().poll(context));
            let end = self.info.activity.idle_since().checked_add(self.idle_timeout);
            match end.filter(|end| self.missing == 0 && *end > Instant::now()) {
                Some(end) => self.deadline.as_mut().reset(end),
                None => return Poll::Ready(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    /// What was polled, unless that waits for a connection that must end.
    fn or_over<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => self.poll_over(context).map(Err),
        }
    }
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
        // First, because a client that never stops to send is never waited for.
        if let Poll::Ready(over) = self.poll_over(context) {
            return Poll::Ready(Err(over));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if self.missing > 0 {
            let count = buffer.filled().len().saturating_sub(before);
            self.missing = self.missing.saturating_sub(count);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.or_over(polled, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.or_over(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.or_over(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const TIMEOUT: Duration = Duration::from_millis(100);

    /// A connection of a hasty listener, as its client has it and as it was accepted.
    async fn connect(metrics: &RpcMetrics) -> (TcpStream, Connection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialed = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let bounds = Bounds { total_max: 1, per_client_max: 1, reserved: 0 };
        let mut admission = Admission {
            first_bytes_timeout: TIMEOUT,
            ..Admission::new(bounds, TIMEOUT, metrics.clone())
        };
        (dialed, admission.next(&listener).await)
    }

    #[tokio::test]
    async fn a_connection_that_says_too_little_is_closed() {
        let (mut dialed, mut accepted) = connect(&RpcMetrics::default()).await;
        dialed.write_all(&[1; FIRST_BYTES - 1]).await.unwrap();
        let mut bytes = [0; FIRST_BYTES];
        let error = accepted.read_exact(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_connection_without_calls_is_closed_whatever_it_says() {
        let metrics = RpcMetrics::default();
        let (mut dialed, mut accepted) = connect(&metrics).await;
        assert_eq!(metrics.connections.get(), 1);
        let talking =
            tokio::spawn(async move { while dialed.write_all(&[1; 64]).await.is_ok() {} });
        let mut bytes = [0; 64];
        let error = loop {
            if let Err(error) = accepted.read_exact(&mut bytes).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(accepted);
        assert_eq!(metrics.connections.get(), 0);
        talking.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_lives_while_a_call_is_being_answered_and_a_while_longer() {
        let (mut dialed, mut accepted) = connect(&RpcMetrics::default()).await;
        dialed.write_all(&[1; FIRST_BYTES]).await.unwrap();
        accepted.read_exact(&mut [0; FIRST_BYTES]).await.unwrap();
        let activity = accepted.info.activity.clone();
        let (active, other) = (activity.begin(), activity.begin());
        drop(other);
        let silence = tokio::time::timeout(TIMEOUT * 3, accepted.read_u8()).await;
        silence.expect_err("it is waited for, and not closed");
        drop(active);
        let ended = Instant::now();
        assert_eq!(accepted.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(ended.elapsed() >= TIMEOUT);
    }
}
