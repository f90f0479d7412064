//! Places that clients share, such as connections and streams: no client can hold so many that another has none.
//!
//! | a client asks, and | answer |
//! |---|---|
//! | holds its share already | refused |
//! | a place is free | it has that one |
//! | none is free, and another client holds at least two more than it does | it has the newest place of the client that holds the most |
//! | none is free, and nobody does | refused |
//!
//! Some places are reserved for known clients, from whom others never take one. [`Shares`] decides and is plain data;
//! [`Places`] shares it between tasks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use lockstep_proto::error::{ErrorCode, Refusal};
use tokio::sync::oneshot;

use crate::limits::RETRY_AFTER_MS;
use crate::quota::Client;

/// How many places there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of all clients together.
    pub total_max: usize,
    /// Of one client.
    pub per_client_max: usize,
    /// Of the total: only known clients may have them.
    pub reserved: usize,
}

/// Why a client has no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// The client holds its share.
    #[error("this client has {0}, which is its share")]
    Share(usize),
    /// All are taken, by clients that hold about as many as this one.
    #[error("all {0} are taken")]
    All(usize),
    /// This client had one, and it went to a client with fewer.
    #[error("this client had the most of all, and made room for another")]
    Lost,
}

/// A place, and what the one held that had to go for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken<T> {
    pub(crate) id: u64,
    pub(crate) evicted: Option<T>,
}

/// Who holds which places; each has a value.
#[derive(Debug)]
pub(crate) struct Shares<T> {
    bounds: Bounds,
    /// By client, then in the order in which they were taken. No client here holds none.
    held: BTreeMap<Client, BTreeMap<u64, T>>,
    /// Places of known clients, and of all others.
    known: usize,
    unknown: usize,
    next: u64,
}

impl<T> Shares<T> {
    pub(crate) const fn new(bounds: Bounds) -> Self {
        Self { bounds, held: BTreeMap::new(), known: 0, unknown: 0, next: 0 }
    }

    /// Gives a client a place, taken from another client if none is free.
    ///
    /// # Errors
    /// [`Full`]; nothing changed then.
    pub(crate) fn take(&mut self, client: Client, value: T) -> Result<Taken<T>, Full> {
        let Bounds { total_max, per_client_max, .. } = self.bounds;
        let own = self.count(client);
        if own >= per_client_max {
            return Err(Full::Share(own));
        }
        let evicted = match self.is_free(client) {
            true => None,
            false => Some(self.evict(client, own).ok_or(Full::All(total_max))?),
        };
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.held.entry(client).or_default().insert(id, value);
        let count = self.counter(client);
        *count = count.saturating_add(1);
        Ok(Taken { id, evicted })
    }

    /// Gives a place back, if the client still holds it.
    pub(crate) fn give_back(&mut self, client: Client, id: u64) -> Option<T> {
        let places = self.held.get_mut(&client)?;
        let value = places.remove(&id)?;
        if places.is_empty() {
            self.held.remove(&client);
        }
        let count = self.counter(client);
        *count = count.saturating_sub(1);
        Some(value)
    }

    /// Takes back the first of a client's places.
    pub(crate) fn take_first(&mut self, client: Client) -> Option<T> {
        let first = *self.held.get(&client)?.first_key_value()?.0;
        self.give_back(client, first)
    }

    /// The first of each client's places.
    pub(crate) fn firsts(&self) -> impl Iterator<Item = (Client, &T)> {
        self.held.iter().filter_map(|(client, places)| Some((*client, places.first_key_value()?.1)))
    }

    /// How many places a client holds.
    pub(crate) fn count(&self, client: Client) -> usize {
        self.held.get(&client).map_or(0, BTreeMap::len)
    }

    const fn counter(&mut self, client: Client) -> &mut usize {
        match client.is_known() {
            true => &mut self.known,
            false => &mut self.unknown,
        }
    }

    const fn is_free(&self, client: Client) -> bool {
        let Bounds { total_max, reserved, .. } = self.bounds;
        self.known.saturating_add(self.unknown) < total_max
            && (client.is_known() || self.unknown < total_max.saturating_sub(reserved))
    }

    /// Takes the newest place of the client that holds the most, if that leaves it no fewer than `for_client` has then.
    fn evict(&mut self, for_client: Client, own: usize) -> Option<T> {
        let may_lose = |client: &Client| for_client.is_known() || !client.is_known();
        let most = self.held.iter().filter(|(client, _)| may_lose(client));
        let (client, places) = most.max_by_key(|(_, places)| places.len())?;
        if places.len() < own.saturating_add(2) {
            return None;
        }
        let (client, newest) = (*client, *places.last_key_value()?.0);
        self.give_back(client, newest)
    }
}

/// The places of one kind; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Places(
    // Behind a lock, because a place ends wherever it is dropped. Held for one look-up.
    Arc<Mutex<Shares<oneshot::Sender<()>>>>,
);

/// A client's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    client: Client,
    id: u64,
    /// Ends, without a value, when another client has the place; `None` once it did.
    evicted: Option<oneshot::Receiver<()>>,
}

impl Places {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Mutex::new(Shares::new(bounds))))
    }

    /// Gives a client a place. Whoever had to go for it learns it by [`Place::poll_evicted`].
    ///
    /// # Errors
    /// [`Full`] if there is none for this client.
    pub(crate) fn take(&self, client: Client) -> Result<Place, Full> {
        let (held, evicted) = oneshot::channel();
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Taken { id, evicted: lost } = shares.take(client, held)?;
        drop(shares);
        // Its end is the word to whoever held it.
        drop(lost);
        Ok(Place { places: self.clone(), client, id, evicted: Some(evicted) })
    }
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        Self::new(ErrorCode::Overloaded, full.to_string()).retry_after(RETRY_AFTER_MS)
    }
}

impl Place {
    /// Ready once the place is another client's. What it was for must end then.
    pub fn poll_evicted(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(evicted) = &mut self.evicted {
            // Both outcomes mean that nobody keeps the place for this one.
            drop(ready!(std::pin::Pin::new(evicted).poll(context)));
            self.evicted = None;
        }
        Poll::Ready(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shares = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(shares.give_back(self.client, self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    const BOUNDS: Bounds = Bounds { total_max: 6, per_client_max: 4, reserved: 2 };

    fn client(n: u32) -> Client {
        Client::of(Some(IpAddr::V4(n.into())))
    }

    fn known(n: u8) -> Client {
        Client::known(&[n])
    }

    /// Places that hold their number, taken by these clients one after the other.
    fn taken(clients: &[Client]) -> Shares<usize> {
        let mut shares = Shares::new(BOUNDS);
        for (n, client) in clients.iter().enumerate() {
            assert_eq!(shares.take(*client, n).unwrap().evicted, None, "{n}");
        }
        shares
    }

    fn check(held: &[Client], asks: Client, expected: Result<Option<usize>, Full>) {
        let mut shares = taken(held);
        let taken = shares.take(asks, 99).map(|taken| taken.evicted);
        assert_eq!(taken, expected, "{held:?} {asks:?}");
        let count = shares.held.values().map(BTreeMap::len).sum::<usize>();
        assert_eq!(count, shares.known + shares.unknown);
        assert!(count <= BOUNDS.total_max);
    }

    #[test]
    fn a_place_is_given_by_the_table() {
        let (a, b, c, d) = (client(1), client(2), client(3), client(4));
        let (k, l) = (known(1), known(2));
        check(&[a, b], c, Ok(None));
        check(&[a; 4], a, Err(Full::Share(4)));
        // All four that anybody may have are taken.
        check(&[a; 4], b, Ok(Some(3)));
        check(&[a, b, a, a], c, Ok(Some(3)));
        check(&[a, b, a, b], a, Err(Full::All(6)));
        check(&[a, b, c, d], client(5), Err(Full::All(6)));
        check(&[a, b, a, b], c, Ok(Some(3)));
        // Known clients have the reserve, and then their part of the rest.
        check(&[a, a, a, a, k], k, Ok(None));
        check(&[a, a, a, a, k, k], l, Ok(Some(3)));
        check(&[k, k, k, k, a, a], b, Ok(Some(5)));
        check(&[k, k, k, l, l, l], a, Err(Full::All(6)));
    }

    #[test]
    fn a_place_given_back_is_free_and_only_once() {
        let mut shares = taken(&[client(1), client(2)]);
        assert_eq!(shares.give_back(client(1), 0), Some(0));
        assert_eq!(shares.give_back(client(1), 0), None);
        assert_eq!((shares.unknown, shares.held.len()), (1, 1));
    }

    #[tokio::test]
    async fn who_loses_a_place_learns_it() {
        let places = Places::new(BOUNDS);
        let mut held: Vec<_> = (0..4).map(|_| places.take(client(1)).unwrap()).collect();
        let other = places.take(client(2)).unwrap();
        let mut newest = held.pop().unwrap();
        std::future::poll_fn(|context| newest.poll_evicted(context)).await;
        std::future::poll_fn(|context| newest.poll_evicted(context)).await;
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(held.iter_mut().all(|place| place.poll_evicted(&mut context).is_pending()));
        // The lost place is not given back a second time.
        drop(newest);
        assert!(places.take(client(3)).is_ok_and(|_| true), "one of the four of the first goes");
        drop((other, held));
        assert!(places.0.lock().unwrap().held.is_empty());
    }
}
