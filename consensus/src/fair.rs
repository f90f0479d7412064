//! Who is next of those that share something: start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996).
//!
//! A *flow* is who pays. Its next piece of work starts where its last one ended on a clock of its own, or now if that is
//! later: so who asks for ten times as much waits ten times as long, and who asks for little does not wait for it. The
//! clock is where the piece started that was served last. Pure; what a piece of work is, and its cost, the caller knows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Flows without work whose next piece may not start yet.
const IDLE_MAX: usize = 16_384;

/// A flow's place in the order: where its next piece starts, and who it is.
pub(crate) type Turn<K> = (u64, K);

/// The flows with work, in the order in which they are served.
#[derive(Debug)]
pub(crate) struct FairOrder<K> {
    clock: u64,
    starts: BTreeMap<K, u64>,
    order: BTreeSet<Turn<K>>,
    idle: BTreeMap<K, u64>,
}

impl<K> Default for FairOrder<K> {
    fn default() -> Self {
        Self { clock: 0, starts: BTreeMap::new(), order: BTreeSet::new(), idle: BTreeMap::new() }
    }
}

impl<K: Copy + Ord> FairOrder<K> {
    /// A flow has work. Nothing changes if it had.
    pub(crate) fn join(&mut self, flow: K) {
        if self.starts.contains_key(&flow) {
            return;
        }
        let start = self.idle.remove(&flow).unwrap_or_default().max(self.clock);
        self.starts.insert(flow, start);
        self.order.insert((start, flow));
    }

    /// A piece of a flow's work is served, at this cost.
    pub(crate) fn serve(&mut self, flow: K, cost: u64) {
        let Some(start) = self.starts.get_mut(&flow) else { return };
        self.order.remove(&(*start, flow));
        self.clock = self.clock.max(*start);
        *start = start.saturating_add(cost);
        self.order.insert((*start, flow));
    }

    /// A flow has no work left. When none has, all is forgotten.
    pub(crate) fn leave(&mut self, flow: K) {
        let Some(start) = self.starts.remove(&flow) else { return };
        self.order.remove(&(start, flow));
        if self.starts.is_empty() {
            return *self = Self::default();
        }
        if self.idle.len() >= IDLE_MAX {
            let clock = self.clock;
            self.idle.retain(|_, start| *start > clock);
        }
        if self.idle.len() < IDLE_MAX {
            self.idle.insert(flow, start);
        }
    }

    /// Whose turn is next behind `last`; behind none the next of all.
    pub(crate) fn behind(&self, last: Option<Turn<K>>) -> Option<Turn<K>> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range((from, Bound::Unbounded)).next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves the next flow at a cost of 10.
    fn serve(order: &mut FairOrder<u8>) -> Option<u8> {
        let (_, flow) = order.behind(None)?;
        order.serve(flow, 10);
        Some(flow)
    }

    fn serve_times(order: &mut FairOrder<u8>, times: usize) -> Vec<u8> {
        (0..times).filter_map(|_| serve(order)).collect()
    }

    #[test]
    fn flows_are_served_in_turn_and_by_cost() {
        let mut order = FairOrder::default();
        [1, 2].into_iter().for_each(|flow| order.join(flow));
        assert_eq!(serve_times(&mut order, 4), [1, 2, 1, 2]);
        order.serve(1, 30);
        assert_eq!(serve_times(&mut order, 5), [2, 2, 2, 1, 2]);
    }

    #[test]
    fn who_comes_later_is_next_and_is_owed_nothing_for_its_absence() {
        let mut order = FairOrder::default();
        order.join(2);
        assert_eq!(serve_times(&mut order, 5), [2; 5]);
        order.join(1);
        assert_eq!(serve_times(&mut order, 4), [1, 1, 2, 1]);
    }

    #[test]
    fn who_leaves_and_comes_again_starts_where_it_ended() {
        let mut order = FairOrder::default();
        [1, 2].into_iter().for_each(|flow| order.join(flow));
        assert_eq!(serve(&mut order), Some(1));
        order.leave(1);
        order.join(1);
        assert_eq!(serve_times(&mut order, 2), [2, 1]);
    }

    #[test]
    fn when_nobody_has_work_all_is_forgotten() {
        let mut order = FairOrder::default();
        [1, 2].into_iter().for_each(|flow| order.join(flow));
        assert_eq!(serve(&mut order), Some(1));
        [1, 2].into_iter().for_each(|flow| order.leave(flow));
        assert_eq!(order.behind(None), None);
        [1, 2].into_iter().for_each(|flow| order.join(flow));
        assert_eq!(serve(&mut order), Some(1));
    }
}
