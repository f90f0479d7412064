//! The two ends of a stream: one task writes a class's queue to a peer, one reads what the peer sends.
//!
//! A frame is its body's length in four bytes, little-endian, and the body; a length of 0 is a heartbeat. Neither
//! task watches its connection: the driver ends both with it, because a write that waits for room is not woken
//! when its connection closes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Inbound;
use super::class::{Class, HEARTBEAT_INTERVAL, SILENCE_MAX};
use super::faults::{DELAYED_FRAMES_MAX, Fate};
use super::peer::{Peer, Queued};

/// Bytes of a frame before its body.
const HEADER_BYTES: usize = 4;
/// Small frames that wait for one peer go out in one write of about this size; longer ones are not copied.
const COALESCED_BYTES: usize = 64 << 10;
/// What is read from a stream at once.
const READ_BYTES: usize = 16 << 10;
/// A body's first allocation: what a peer claims is not believed until it comes.
const BODY_BYTES_FIRST: usize = 64 << 10;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// Garbage.
    #[error("a frame of {got} bytes, {max} at most")]
    TooLong { got: usize, max: usize },
    /// Neither frames nor heartbeats came.
    #[error("nothing came for {max:?}")]
    Silent { max: Duration },
    /// Closed by the peer, or broken.
    #[error("stream: {0}")]
    Stream(#[from] io::Error),
    /// Nobody sends on it any more.
    #[error("queue closed")]
    QueueClosed,
}

/// Writes the queue of one class to a peer.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) peer: Arc<Peer>,
    pub(super) class: Class,
    pub(super) queue: mpsc::Receiver<Queued>,
}

impl Writer {
    /// Runs until the stream ends.
    pub(super) async fn run(mut self, mut stream: impl AsyncWrite + Unpin) -> End {
        let mut buffer = Vec::with_capacity(HEADER_BYTES);
        loop {
            buffer.clear();
            let written = match timeout(HEARTBEAT_INTERVAL, self.queue.recv()).await {
                Ok(Some(first)) => self.write(&mut stream, &mut buffer, first).await,
                Ok(None) => return End::QueueClosed,
                Err(_) => stream.write_all(&[0; HEADER_BYTES]).await,
            };
            if let Err(error) = written {
                return error.into();
            }
            if let Err(error) = stream.flush().await {
                return error.into();
            }
        }
    }

    /// Writes `first` and what waits behind it, as far as that goes into one write.
    async fn write(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        buffer: &mut Vec<u8>,
        first: Queued,
    ) -> io::Result<()> {
        let mut next = Some(first);
        while let Some(frame) = next.take() {
            self.peer.counters.classes.get(self.class).sent(frame.body.len());
            let length = u32::try_from(frame.body.len()).map_err(io::Error::other)?;
            buffer.extend_from_slice(&length.to_le_bytes());
            if frame.body.len() >= COALESCED_BYTES {
                stream.write_all(buffer).await?;
                return stream.write_all(&frame.body).await;
            }
            buffer.extend_from_slice(&frame.body);
            if buffer.len() < COALESCED_BYTES {
                next = self.queue.try_recv().ok();
            }
        }
        stream.write_all(buffer).await
    }
}

/// Reads the frames of one class that a peer sends.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) peer: Arc<Peer>,
    pub(super) class: Class,
    pub(super) fate: Fate,
    pub(super) inbox: mpsc::Sender<Inbound>,
}

impl Reader {
    /// Runs until the stream ends.
    pub(super) async fn run(self, stream: impl AsyncRead + Unpin) -> End {
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        match self.fate {
            Fate::Passed => self.read(stream, Sink::Now(&self.inbox)).await,
            Fate::Lost => self.read(stream, Sink::Nowhere).await,
            Fate::Delayed(delay) => {
                let (held, queue) = mpsc::channel(DELAYED_FRAMES_MAX);
                tokio::select! {
                    end = self.read(stream, Sink::Later(&held, delay)) => end,
                    () = release(queue, &self.inbox) => End::QueueClosed,
                }
            }
        }
    }

    async fn read(&self, mut stream: impl AsyncRead + Unpin, sink: Sink<'_>) -> End {
        loop {
            match self.read_frame(&mut stream).await {
                Ok(Some(frame)) => sink.hand_over(frame).await,
                Ok(None) => {}
                Err(end) => return end,
            }
        }
    }

    /// The next frame; `None` for a heartbeat. Waits for quota and room before it reads the body.
    async fn read_frame(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<Option<Inbound>, End> {
        let mut header = [0; HEADER_BYTES];
        read_exact(stream, &mut header).await?;
        let got = usize::try_from(u32::from_le_bytes(header)).unwrap_or(usize::MAX);
        let max = self.class.frame_bytes_max();
        if got > max {
            return Err(End::TooLong { got, max });
        }
        let wait = self.peer.take_quota(self.class, got.saturating_add(HEADER_BYTES));
        if !wait.is_zero() {
            sleep(wait).await;
        }
        if got == 0 {
            return Ok(None);
        }
        let share = self.peer.share(self.class, got).await;
        let body = read_body(stream, got).await?;
        self.peer.counters.classes.get(self.class).received(got);
        Ok(Some(Inbound { from: self.peer.id, class: self.class, body, _share: share }))
    }
}

/// Where a reader's frames go.
enum Sink<'a> {
    Now(&'a mpsc::Sender<Inbound>),
    Later(&'a mpsc::Sender<(Instant, Inbound)>, Duration),
    Nowhere,
}

impl Sink<'_> {
    async fn hand_over(&self, frame: Inbound) {
        let is_taken = match self {
            Self::Now(inbox) => inbox.send(frame).await.is_ok(),
            Self::Later(queue, delay) => {
                let now = Instant::now();
                queue.send((now.checked_add(*delay).unwrap_or(now), frame)).await.is_ok()
            }
            Self::Nowhere => false,
        };
        if !is_taken {
            tracing::trace!("a frame that nobody wants");
        }
    }
}

/// Hands over each frame at its time. Ends when the reader does.
async fn release(mut queue: mpsc::Receiver<(Instant, Inbound)>, inbox: &mpsc::Sender<Inbound>) {
    while let Some((at, frame)) = queue.recv().await {
        sleep_until(at).await;
        Sink::Now(inbox).hand_over(frame).await;
    }
}

/// Reads a body of `length` bytes. Never holds more than twice what has come, but for the first allocation.
async fn read_body(stream: &mut (impl AsyncRead + Unpin), length: usize) -> Result<Bytes, End> {
    let mut body = Vec::new();
    while body.len() < length {
        let start = body.len();
        let end = length.min(start.saturating_mul(2).max(BODY_BYTES_FIRST));
        body.reserve_exact(end.saturating_sub(start));
        body.resize(end, 0);
        read_exact(stream, body.get_mut(start..).unwrap_or_default()).await?;
    }
    Ok(body.into())
}

/// Fills `buffer`. The peer may be slow, but not silent.
async fn read_exact(
    stream: &mut (impl AsyncRead + Unpin),
    mut buffer: &mut [u8],
) -> Result<(), End> {
    while !buffer.is_empty() {
        let Ok(read) = timeout(SILENCE_MAX, stream.read(buffer)).await else {
            return Err(End::Silent { max: SILENCE_MAX });
        };
        let read = read?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        buffer = buffer.get_mut(read..).unwrap_or_default();
    }
    Ok(())
}
