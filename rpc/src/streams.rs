//! Server streams: a task that produces, a queue of one, and a bound on how many there are and how slow a reader is.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use lockstep_proto::error::{ErrorCode, Refusal};
use tokio::sync::mpsc::{self, error::SendTimeoutError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::limits::{READER_TIMEOUT, RETRY_AFTER_MS, STREAM_QUEUE_MAX, STREAMS_MAX};
use crate::metrics::{Counted, RpcMetrics};

/// What a handler returns for a stream of `T`.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Opens streams, as many as there may be; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    permits: Arc<Semaphore>,
    metrics: RpcMetrics,
    reader_timeout: Duration,
    /// True, or without a sender, once the server shuts down.
    closing: watch::Receiver<bool>,
}

/// The producer's end of a stream.
#[derive(Debug)]
pub(crate) struct Sink<T> {
    sender: mpsc::Sender<Result<T, Status>>,
    reader_timeout: Duration,
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
}

impl Streams {
    pub(crate) fn new(metrics: &RpcMetrics, closing: watch::Receiver<bool>) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(STREAMS_MAX)),
            metrics: metrics.clone(),
            reader_timeout: READER_TIMEOUT,
            closing,
        }
    }

    /// Ends when the server shuts down.
    pub(crate) fn closing(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closing = self.closing.clone();
        async move {
            // An error means that the server was dropped, which closes, too.
            drop(closing.wait_for(|is_closing| *is_closing).await);
        }
    }

    /// Runs `produce` until it ends or the reader is gone. An error that it returns is the stream's last word.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] if there are [`STREAMS_MAX`] already.
    pub(crate) fn open<T, F>(
        &self,
        produce: impl FnOnce(Arc<Sink<T>>) -> F,
    ) -> Result<Answers<T>, Refusal>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| {
            let reason = format!("{STREAMS_MAX} streams are open already");
            Refusal::new(ErrorCode::Overloaded, reason).retry_after(RETRY_AFTER_MS)
        })?;
        let (sender, receiver) = mpsc::channel(STREAM_QUEUE_MAX);
        let counted = Counted::new(&self.metrics.streams);
        let reader_timeout = self.reader_timeout;
        let sink = Arc::new(Sink { sender, reader_timeout, _permit: permit, _counted: counted });
        let (produced, closing) = (produce(Arc::clone(&sink)), self.closing());
        tokio::spawn(async move {
            let gone = sink.sender.clone();
            tokio::select! {
                produced = produced => if let Err(refusal) = produced {
                    sink.fail(refusal).await;
                },
                () = closing => sink.fail(shutting_down()).await,
                () = gone.closed() => {}
            }
        });
        Ok(Box::pin(ReceiverStream::new(receiver)))
    }
}

impl<T> Sink<T> {
    /// Sends one message, waiting for a slow reader.
    ///
    /// # Errors
    /// [`ErrorCode::TooSlow`] after [`READER_TIMEOUT`].
    pub(crate) async fn send(&self, message: T) -> Result<(), Refusal> {
        match self.sender.send_timeout(Ok(message), self.reader_timeout).await {
            // A reader that is gone ends the producer by itself.
            Ok(()) | Err(SendTimeoutError::Closed(_)) => Ok(()),
            Err(SendTimeoutError::Timeout(_)) => {
                let reason =
                    format!("no message was read for {} ms", self.reader_timeout.as_millis());
                Err(Refusal::new(ErrorCode::TooSlow, reason))
            }
        }
    }

    async fn fail(&self, refusal: Refusal) {
        // A reader that does not read this either learns it from the end of the stream.
        let last = self.sender.send_timeout(Err(refusal.into()), self.reader_timeout).await;
        drop(last);
    }
}

fn shutting_down() -> Refusal {
    Refusal::new(ErrorCode::NotReady, "the node is shutting down")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    fn streams(metrics: &RpcMetrics) -> (watch::Sender<bool>, Streams) {
        let (closing, receiver) = watch::channel(false);
        (closing, Streams::new(metrics, receiver))
    }

    #[tokio::test]
    async fn messages_come_in_order_and_an_error_is_the_last() {
        let metrics = RpcMetrics::default();
        let (_open, streams) = streams(&metrics);
        let mut answers = streams
            .open(|sink| async move {
                for n in 0..3 {
                    sink.send(n).await?;
                }
                Err(Refusal::new(ErrorCode::NotFound, "no more"))
            })
            .unwrap();
        assert_eq!(metrics.streams.get(), 1);
        for n in 0..3 {
            assert_eq!(answers.next().await.unwrap().unwrap(), n);
        }
        assert_eq!(answers.next().await.unwrap().unwrap_err().code(), tonic::Code::NotFound);
        assert!(answers.next().await.is_none());
        assert_eq!(metrics.streams.get(), 0);
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_let_go() {
        let reader_timeout = Duration::from_millis(20);
        let (_open, streams) = streams(&RpcMetrics::default());
        let streams = Streams { reader_timeout, ..streams };
        let (ended, has_ended) = tokio::sync::oneshot::channel();
        let answers = streams
            .open(|sink| async move {
                let result = async {
                    loop {
                        sink.send(()).await?;
                    }
                }
                .await;
                ended.send(result).unwrap();
                Ok(())
            })
            .unwrap();
        let result: Result<(), Refusal> = has_ended.await.unwrap();
        assert_eq!(result.unwrap_err().code, ErrorCode::TooSlow);
        drop(answers);
    }

    #[tokio::test]
    async fn streams_are_bounded_and_a_reader_that_goes_gives_its_place_back() {
        let (_open, streams) = streams(&RpcMetrics::default());
        let open = || streams.open(|_: Arc<Sink<()>>| std::future::pending());
        let mut all: Vec<_> = (0..STREAMS_MAX).map(|_| open().unwrap()).collect();
        assert_eq!(open().err().unwrap().code, ErrorCode::Overloaded);
        all.pop();
        while open().is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn streams_end_when_the_server_closes_or_is_dropped() {
        for is_dropped in [false, true] {
            let (open, streams) = streams(&RpcMetrics::default());
            let mut answers = streams.open(|_: Arc<Sink<()>>| std::future::pending()).unwrap();
            if is_dropped {
                drop(open);
            } else {
                open.send_replace(true);
            }
            let last = answers.next().await.unwrap().unwrap_err();
            assert_eq!(last.code(), tonic::Code::Unavailable);
            assert!(answers.next().await.is_none());
        }
    }
}
