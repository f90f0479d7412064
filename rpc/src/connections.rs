//! Who may connect to a listener, and how many at a time: the accept loop of gRPC, of health and metrics, and of the wallets'
//! port. What an admitted connection may do, and for how long, is its owner's to say.
//!
//! An error of `accept` (most often: no file descriptors left) never ends the loop; it waits a moment and goes on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

pub use crate::places::{Bounds, Place};

use crate::places::Places;
use crate::quota::Client;
use crate::seldom::Seldom;

/// Wait after an error of `accept`.
const ACCEPT_ERROR_PAUSE: Duration = Duration::from_millis(100);

/// The connections of a listener, within bounds.
#[derive(Debug)]
pub struct Connections {
    places: Places,
    refused: Counter,
    errors: Seldom,
}

/// A connection that was admitted. It must end once its place is [another's](Place::poll_evicted).
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// Where its client is.
    pub address: SocketAddr,
    /// The client's place; given back when dropped.
    pub place: Place,
}

impl Connections {
    /// Connections within `bounds`; the others are closed at once, and counted.
    #[must_use]
    pub fn new(bounds: Bounds, refused: Counter) -> Self {
        Self { places: Places::new(bounds), refused, errors: Seldom::default() }
    }

    /// The next connection that is admitted.
    pub async fn next(&mut self, listener: &TcpListener) -> Accepted {
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(unsaid) = self.errors.say(Instant::now()) {
                        warn!(%error, unsaid, "cannot accept connections");
                    }
                    tokio::time::sleep(ACCEPT_ERROR_PAUSE).await;
                    continue;
                }
            };
            let place = match self.places.take(Client::of(Some(address.ip()))) {
                Ok(place) => place,
                Err(full) => {
                    self.refused.inc();
                    debug!(%address, reason = %full, "refused a connection");
                    continue;
                }
            };
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%address, %error, "cannot set TCP_NODELAY");
            }
            return Accepted { stream, address, place };
        }
    }
}
