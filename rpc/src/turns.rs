//! Turns at what there is little of, such as readers of the store and signature checks: clients have them in fair shares.
//!
//! The next turn is that of the waiting client that has used the least; each client's own turns are in the order in which
//! it asked. One that comes anew begins where the others are, so nobody saves turns up (start-time fair queueing, Goyal et
//! al. 1996). Some room is reserved for known clients. [`Turns`] decides and is plain data; [`Queue`] lets tasks wait.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::limits::{WAITING_MAX, WAITING_PER_CLIENT_MAX, WAITING_RESERVED};
use crate::places::{Bounds, Full, Shares, Taken};
use crate::quota::Client;

/// How much there is of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Turns at a time, by weight. A client that has none gets one of any weight once nobody else has one.
    pub(crate) running: Bounds,
    /// Turns that are waited for.
    pub(crate) waiting: Bounds,
}

impl Room {
    /// Room for so many at a time, and for as many to wait as for anything.
    pub(crate) const fn of(running: Bounds) -> Self {
        let waiting = Bounds {
            total_max: WAITING_MAX,
            per_client_max: WAITING_PER_CLIENT_MAX,
            reserved: WAITING_RESERVED,
        };
        Self { running, waiting }
    }
}

/// What a client has at the moment, and what it has used so far.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    running: usize,
    used: u64,
}

/// Who waits for a turn, with a value each, and who has one.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    running_max: Bounds,
    waiting: Shares<(usize, T)>,
    /// Clients that wait or have a turn.
    accounts: BTreeMap<Client, Account>,
    /// Weights of the turns of known clients, and of all others.
    known: usize,
    unknown: usize,
    /// What the client had used that got the last turn.
    floor: u64,
}

impl<T> Turns<T> {
    pub(crate) const fn new(room: Room) -> Self {
        Self {
            running_max: room.running,
            waiting: Shares::new(room.waiting),
            accounts: BTreeMap::new(),
            known: 0,
            unknown: 0,
            floor: 0,
        }
    }

    /// A client asks for a turn of a weight, at least 1. Gives what another client waited with, if that had to go for it.
    ///
    /// # Errors
    /// [`Full`] if too many are waited for; nothing changed then.
    pub(crate) fn ask(
        &mut self,
        client: Client,
        weight: usize,
        value: T,
    ) -> Result<Option<T>, Full> {
        let Taken { evicted, .. } = self.waiting.take(client, (weight.max(1), value))?;
        let used = self.floor;
        self.accounts.entry(client).or_insert(Account { running: 0, used });
        Ok(evicted.map(|(_, value)| value))
    }

    /// The next turn, if there is room for it: whose it is, its weight, and what was waited with.
    pub(crate) fn next(&mut self) -> Option<(Client, usize, T)> {
        let [known, others] = [true, false].map(|is_known| self.least_used(is_known));
        let mut candidates: Vec<_> = known.into_iter().chain(others).collect();
        candidates.sort();
        let has_room = |(_, client, weight): &(u64, Client, usize)| self.has_room(*client, *weight);
        let (used, client, _) = candidates.into_iter().find(has_room)?;
        let (weight, value) = self.waiting.take_first(client)?;
        self.floor = self.floor.max(used);
        self.change_running(client, |running| running.saturating_add(weight));
        Some((client, weight, value))
    }

    /// A turn is over, and `used` so much.
    pub(crate) fn end(&mut self, client: Client, weight: usize, used: u64) {
        self.change_running(client, |running| running.saturating_sub(weight));
        if let Some(account) = self.accounts.get_mut(&client) {
            account.used = account.used.saturating_add(used);
        }
        // Who neither waits nor has a turn begins anew the next time.
        if self.waiting.count(client) == 0 && self.running(client) == 0 {
            self.accounts.remove(&client);
        }
    }

    fn running(&self, client: Client) -> usize {
        self.accounts.get(&client).map_or(0, |account| account.running)
    }

    fn change_running(&mut self, client: Client, change: impl Fn(usize) -> usize) {
        let sum = if client.is_known() { &mut self.known } else { &mut self.unknown };
        *sum = change(*sum);
        if let Some(account) = self.accounts.get_mut(&client) {
            account.running = change(account.running);
        }
    }

    /// Of the clients that wait and may have one more turn, the one that has used the least, and that turn's weight.
    fn least_used(&self, is_known: bool) -> Option<(u64, Client, usize)> {
        let waiting = self.waiting.firsts().filter(|(client, _)| client.is_known() == is_known);
        let may_run = waiting.filter_map(|(client, (weight, _))| {
            let Account { running, used } = self.accounts.get(&client)?;
            let is_within = running.saturating_add(*weight) <= self.running_max.per_client_max;
            (*running == 0 || is_within).then_some((*used, client, *weight))
        });
        may_run.min()
    }

    fn has_room(&self, client: Client, weight: usize) -> bool {
        let Bounds { total_max, reserved, .. } = self.running_max;
        let running = self.known.saturating_add(self.unknown);
        if client.is_known() {
            return self.known == 0 || running.saturating_add(weight) <= total_max;
        }
        let unknown_max = total_max.saturating_sub(reserved);
        let is_within = self.unknown.saturating_add(weight) <= unknown_max
            && running.saturating_add(weight) <= total_max;
        self.unknown == 0 || is_within
    }
}

/// Where tasks wait for their turns; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Queue(
    // Behind a lock, because turns end wherever they are dropped. Held for look-ups alone.
    Arc<Mutex<Turns<oneshot::Sender<Turn>>>>,
);

/// A client's turn; over when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    queue: Queue,
    client: Client,
    weight: usize,
    begun: Instant,
    is_over: bool,
}

impl Queue {
    pub(crate) fn new(room: Room) -> Self {
        Self(Arc::new(Mutex::new(Turns::new(room))))
    }

    /// Waits for a turn. Giving up gives it to the next.
    ///
    /// # Errors
    /// [`Full`] if the client waits for too many, or had to make room for one that waits for fewer.
    pub(crate) async fn turn(&self, client: Client, weight: usize) -> Result<Turn, Full> {
        let (sender, turn) = oneshot::channel();
        let evicted = self.lock().ask(client, weight, sender)?;
        drop(evicted);
        self.go_on();
        turn.await.map_err(|_| Full::Lost)
    }

    fn go_on(&self) {
        loop {
            let next = self.lock().next();
            let Some((client, weight, sender)) = next else { return };
            let (queue, begun) = (self.clone(), Instant::now());
            let turn = Turn { queue, client, weight, begun, is_over: false };
            if let Err(mut unwanted) = sender.send(turn) {
                unwanted.is_over = true;
                self.lock().end(client, weight, 0);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turns<oneshot::Sender<Turn>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let used = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.queue.lock().end(self.client, self.weight, used);
        self.queue.go_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use std::time::Duration;

    const ROOM: Room = Room {
        running: Bounds { total_max: 4, per_client_max: 2, reserved: 1 },
        waiting: Bounds { total_max: 8, per_client_max: 6, reserved: 1 },
    };

    fn client(n: u32) -> Client {
        Client::of(Some(IpAddr::V4(n.into())))
    }

    fn asked(turns: &mut Turns<u32>, client: Client, values: impl IntoIterator<Item = u32>) {
        for value in values {
            assert_eq!(turns.ask(client, 1, value), Ok(None), "{value}");
        }
    }

    fn all_next(turns: &mut Turns<u32>) -> Vec<u32> {
        std::iter::from_fn(|| turns.next()).map(|(.., value)| value).collect()
    }

    #[test]
    fn no_client_has_more_than_its_share_of_turns() {
        let (a, b, k) = (client(1), client(2), Client::known(&[1]));
        let mut turns = Turns::new(ROOM);
        asked(&mut turns, a, 10..15);
        assert_eq!(all_next(&mut turns), [10, 11]);
        asked(&mut turns, b, [20, 21]);
        assert_eq!(all_next(&mut turns), [20], "one is reserved");
        asked(&mut turns, k, [30]);
        assert_eq!(all_next(&mut turns), [30]);
        turns.end(a, 1, 5);
        assert_eq!(all_next(&mut turns), [21], "who has used nothing goes first");
        turns.end(b, 1, 9);
        turns.end(b, 1, 9);
        assert_eq!(all_next(&mut turns), [12]);
    }

    #[test]
    fn known_clients_leave_one_turn_to_all_others() {
        let mut turns = Turns::new(ROOM);
        for n in [1, 2] {
            asked(&mut turns, Client::known(&[n]), [1, 2]);
        }
        assert_eq!(all_next(&mut turns).len(), ROOM.running.total_max);
        asked(&mut turns, client(1), [10, 11]);
        assert_eq!(all_next(&mut turns), [10]);
    }

    #[test]
    fn who_has_used_less_goes_first_and_nobody_saves_turns_up() {
        let (a, b, c) = (client(1), client(2), client(3));
        let room = Bounds { total_max: 1, per_client_max: 1, reserved: 0 };
        let mut turns = Turns::new(Room { running: room, ..ROOM });
        asked(&mut turns, a, [10, 11, 12]);
        asked(&mut turns, b, [20, 21]);
        let mut order = Vec::new();
        for n in 0..6 {
            let (client, weight, value) = turns.next().unwrap();
            order.push(value);
            assert!(turns.next().is_none());
            // The turns of the first take three times as long.
            turns.end(client, weight, if client == a { 30 } else { 10 });
            if n == 3 {
                // One that was away has no more than the others.
                asked(&mut turns, c, [30]);
            }
        }
        assert_eq!(order, [10, 20, 21, 11, 30, 12]);
        assert!(turns.accounts.is_empty());
    }

    #[test]
    fn a_turn_of_any_weight_comes_once_there_is_room() {
        let (a, b) = (client(1), client(2));
        let mut turns = Turns::new(ROOM);
        asked(&mut turns, a, [10]);
        assert_eq!(turns.ask(b, 100, 20), Ok(None));
        assert_eq!(turns.ask(a, 1, 11), Ok(None));
        assert_eq!(all_next(&mut turns), [10, 11]);
        turns.end(a, 1, 1);
        asked(&mut turns, a, [12]);
        assert!(all_next(&mut turns).is_empty(), "small ones overtake no great one for ever");
        turns.end(a, 1, 1);
        assert_eq!(all_next(&mut turns), [20]);
    }

    #[test]
    fn who_waits_for_the_most_makes_room() {
        let (a, b) = (client(1), client(2));
        let mut turns = Turns::new(ROOM);
        asked(&mut turns, a, 0..6);
        assert_eq!(turns.ask(a, 1, 9), Err(Full::Share(6)));
        asked(&mut turns, b, [20]);
        assert_eq!(turns.ask(b, 1, 21), Ok(Some(5)), "the newest of the other's");
    }

    #[tokio::test]
    async fn turns_go_on_whoever_gives_up() {
        let room = Bounds { total_max: 1, per_client_max: 1, reserved: 0 };
        let queue = Queue::new(Room { running: room, ..ROOM });
        let first = queue.turn(client(1), 1).await.unwrap();
        for _ in 0..3 {
            let waits = tokio::time::timeout(Duration::from_millis(5), queue.turn(client(1), 1));
            waits.await.expect_err("it waits");
        }
        let (other, next) = (queue.clone(), queue.clone());
        let second = tokio::spawn(async move { other.turn(client(2), 1).await.map(drop) });
        let third = tokio::spawn(async move { next.turn(client(1), 1).await.map(drop) });
        tokio::task::yield_now().await;
        drop(first);
        second.await.unwrap().unwrap();
        third.await.unwrap().unwrap();
        assert!(queue.lock().accounts.is_empty());
    }
}
