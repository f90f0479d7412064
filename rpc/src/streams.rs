//! Server streams: a task that produces, a queue of one, and a bound on how many there are and how slow a reader is.

use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use lockstep_proto::error::{ErrorCode, Refusal};
use tokio::sync::mpsc::{self, Permit};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::limits::{
    LAST_WORD_TIMEOUT, READER_TIMEOUT, STREAM_QUEUE_MAX, STREAMS_MAX, STREAMS_PER_CLIENT_MAX,
    STREAMS_RESERVED,
};
use crate::metrics::{Counted, RpcMetrics};
use crate::places::{Bounds, Full, Place, Places};
use crate::quota::Client;

/// What a handler returns for a stream of `T`.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Opens streams, as many as there may be; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    places: Places,
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
}

/// A client's place for a stream, which it may lose to another; given back when dropped.
#[derive(Debug)]
pub(crate) struct StreamPlace {
    place: Place,
    closing: watch::Receiver<bool>,
    _counted: Counted,
}

impl Streams {
    pub(crate) fn new(metrics: &RpcMetrics, closing: watch::Receiver<bool>) -> Self {
        let bounds = Bounds {
            total_max: STREAMS_MAX,
            per_client_max: STREAMS_PER_CLIENT_MAX,
            reserved: STREAMS_RESERVED,
        };
        Self {
            places: Places::new(bounds),
            metrics: metrics.clone(),
            reader_timeout: READER_TIMEOUT,
            closing,
        }
    }

    /// A place for one stream of a client.
    ///
    /// # Errors
    /// [`ErrorCode::Overloaded`] if there is none for it.
    pub(crate) fn place(&self, client: Client) -> Result<StreamPlace, Refusal> {
        let place = self.places.take(client)?;
        let counted = Counted::new(&self.metrics.streams);
        Ok(StreamPlace { place, closing: self.closing.clone(), _counted: counted })
    }

    /// Runs `produce` until it ends, the reader is gone, or the place is. An error that it returns is the stream's last
    /// word.
    pub(crate) fn open<T, F>(
        &self,
        place: StreamPlace,
        produce: impl FnOnce(Arc<Sink<T>>) -> F,
    ) -> Answers<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(STREAM_QUEUE_MAX);
        let sink = Arc::new(Sink { sender, reader_timeout: self.reader_timeout });
        let produced = produce(Arc::clone(&sink));
        tokio::spawn(async move {
            let (gone, mut place) = (sink.sender.clone(), place);
            tokio::select! {
                produced = produced => if let Err(refusal) = produced {
                    sink.fail(refusal).await;
                },
                refusal = place.lost() => sink.fail(refusal).await,
                () = gone.closed() => {}
            }
        });
        Box::pin(ReceiverStream::new(receiver))
    }
}

impl StreamPlace {
    /// Ends, with the reason, when the place is another client's or the server shuts down.
    pub(crate) async fn lost(&mut self) -> Refusal {
        let Self { place, closing, .. } = self;
        tokio::select! {
            () = poll_fn(|context| place.poll_evicted(context)) => Full::Lost.into(),
            // An error means that the server was dropped, which closes, too.
            _ = closing.wait_for(|is_closing| *is_closing) => shutting_down(),
        }
    }
}

impl<T> Sink<T> {
    /// Sends one message, waiting for a slow reader.
    ///
    /// # Errors
    /// [`ErrorCode::TooSlow`] after [`READER_TIMEOUT`].
    pub(crate) async fn send(&self, message: T) -> Result<(), Refusal> {
        self.room().await?.send(Ok(message));
        Ok(())
    }

    /// Waits until a slow reader has room for one message, which is then kept for it. Never ends if the reader is gone,
    /// because that ends the producer by itself.
    ///
    /// # Errors
    /// [`ErrorCode::TooSlow`] after [`READER_TIMEOUT`].
    pub(crate) async fn room(&self) -> Result<Permit<'_, Result<T, Status>>, Refusal> {
        match timeout(self.reader_timeout, self.sender.reserve()).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) => pending().await,
            Err(_) => {
                let reason =
                    format!("no message was read for {} ms", self.reader_timeout.as_millis());
                Err(Refusal::new(ErrorCode::TooSlow, reason))
            }
        }
    }

    async fn fail(&self, refusal: Refusal) {
        // A reader that does not read this either learns it from the end of the stream.
        let last = self.sender.send_timeout(Err(refusal.into()), LAST_WORD_TIMEOUT).await;
        drop(last);
    }
}

fn shutting_down() -> Refusal {
    Refusal::new(ErrorCode::NotReady, "the node is shutting down")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    use futures::StreamExt;

    fn streams(metrics: &RpcMetrics) -> (watch::Sender<bool>, Streams) {
        let (closing, receiver) = watch::channel(false);
        (closing, Streams::new(metrics, receiver))
    }

    fn client(n: u32) -> Client {
        Client::of(Some(IpAddr::V4(n.into())))
    }

    /// A stream on which nothing ever comes.
    fn open(streams: &Streams, client: Client) -> Result<Answers<()>, Refusal> {
        Ok(streams.open(streams.place(client)?, |_: Arc<Sink<()>>| std::future::pending()))
    }

    #[tokio::test]
    async fn messages_come_in_order_and_an_error_is_the_last() {
        let metrics = RpcMetrics::default();
        let (_open, streams) = streams(&metrics);
        let place = streams.place(client(1)).unwrap();
        let mut answers = streams.open(place, |sink| async move {
            for n in 0..3 {
                sink.send(n).await?;
            }
            Err(Refusal::new(ErrorCode::NotFound, "no more"))
        });
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
        let place = streams.place(client(1)).unwrap();
        let answers = streams.open(place, |sink| async move {
            let result = async {
                loop {
                    sink.send(()).await?;
                }
            }
            .await;
            ended.send(result).unwrap();
            Ok(())
        });
        let result: Result<(), Refusal> = has_ended.await.unwrap();
        assert_eq!(result.unwrap_err().code, ErrorCode::TooSlow);
        drop(answers);
    }

    #[tokio::test]
    async fn nothing_is_made_for_a_reader_that_has_no_room() {
        let (_open, streams) = streams(&RpcMetrics::default());
        let (made, count) = watch::channel(0);
        let place = streams.place(client(1)).unwrap();
        let mut answers = streams.open(place, |sink| async move {
            loop {
                let room = sink.room().await?;
                made.send_modify(|made| *made += 1);
                room.send(Ok(()));
            }
        });
        for read in 0..3 {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            assert_eq!(*count.borrow(), STREAM_QUEUE_MAX + read);
            answers.next().await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn one_clients_next_is_refused_and_never_that_of_another() {
        let (_open, streams) = streams(&RpcMetrics::default());
        let known = Client::known(b"certificate");
        // As many clients as it takes to have all that anybody may have.
        let greedy =
            u32::try_from((STREAMS_MAX - STREAMS_RESERVED) / STREAMS_PER_CLIENT_MAX).unwrap();
        let mut held = Vec::new();
        for n in 0..greedy {
            for _ in 0..STREAMS_PER_CLIENT_MAX {
                held.push(open(&streams, client(n)).unwrap());
            }
            assert_eq!(open(&streams, client(n)).err().unwrap().code, ErrorCode::Overloaded);
        }
        let _known = open(&streams, known).expect("some are reserved");
        let _other = open(&streams, client(greedy)).expect("one of another's goes");
        let last = held.last_mut().unwrap().next().await.unwrap().unwrap_err();
        let refusal = Refusal::from_status(&last);
        assert_eq!(refusal.code, ErrorCode::Overloaded);
        assert!(refusal.retry_after_ms.is_some(), "{refusal:?}");
    }

    #[tokio::test]
    async fn a_reader_that_goes_gives_its_place_back() {
        let (_open, streams) = streams(&RpcMetrics::default());
        let open = || open(&streams, client(1));
        let mut all: Vec<_> = (0..STREAMS_PER_CLIENT_MAX).map(|_| open().unwrap()).collect();
        assert!(open().is_err());
        all.pop();
        while open().is_err() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn streams_end_when_the_server_closes_or_is_dropped() {
        for is_dropped in [false, true] {
            let (closing, streams) = streams(&RpcMetrics::default());
            let mut answers = open(&streams, client(1)).unwrap();
            if is_dropped {
                drop(closing);
            } else {
                closing.send_replace(true);
            }
            let last = answers.next().await.unwrap().unwrap_err();
            assert_eq!(last.code(), tonic::Code::Unavailable);
            assert!(answers.next().await.is_none());
        }
    }
}
