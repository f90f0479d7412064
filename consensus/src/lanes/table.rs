//! All lanes as this node holds them, and who acknowledged how much. Pure.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::{Address, Bytes};
use lockstep_core::batch::{Acknowledged, Acknowledgement, BatchPosition, CheckedBatch};
use lockstep_core::cut::{Cut, LanePosition, LaneStep};
use lockstep_core::lane::{
    AckBook, BatchRange, CutLimits, Inserted, Lane, Room, Unresolved, build_cut, quorum_reach,
};
use lockstep_core::state::State;
use lockstep_core::types::{BatchDigest, Sequence};
use lockstep_core::validator_set::ValidatorSet;

/// Batches that came with a proposal, by digest. They stand in for what a lane lacks or holds another batch of.
pub type Attached = BTreeMap<BatchDigest, CheckedBatch>;

/// Bytes of batches in a proposal that no quorum is known to store: some hundred small transfers, which others check
/// in a few ten milliseconds even when they have more to do than they can.
const FRESH_BYTES_MAX: usize = 64 << 10;
/// Bytes of this validator's batches on their way to a quorum. Entries beyond wait in its queue, where they can be
/// refused, and not in the others' streams.
const IN_FLIGHT_BYTES_MAX: usize = 1 << 20;

/// The lanes of the set, in address order. Whose words count, the caller says with the set in force.
#[derive(Debug)]
pub struct Table {
    me: Address,
    lanes: BTreeMap<Address, Lane>,
    acks: AckBook,
    /// Per owner and validator, the last word but the newest that named a batch of the lane as it is held here. It
    /// stands where the newest names a batch that has not come yet. Bounded by the square of the set's size.
    confirmed: BTreeMap<(Address, Address), Acknowledged>,
}

impl Table {
    /// The lanes after a decided block: nothing undecided is held yet.
    #[must_use]
    pub fn new(me: Address, positions: &[LanePosition]) -> Self {
        let lanes = positions.iter().map(|p| (p.owner, Lane::new(*p))).collect();
        Self { me, lanes, acks: AckBook::default(), confirmed: BTreeMap::new() }
    }

    /// Whether a batch at this position could be of use: of a lane of the set, not decided, not held, and near enough.
    #[must_use]
    pub fn wants(&self, position: &BatchPosition) -> bool {
        let Some(lane) = self.lanes.get(&position.owner) else { return false };
        let decided = lane.decided().batch();
        (lane.decided().is_start() || *position > decided)
            && lane.reaches(position)
            && lane.get(position.incarnation, position.sequence).is_none()
    }

    /// What more the lane of a member of the set may hold.
    #[must_use]
    pub fn room(&self, owner: Address) -> Option<Room> {
        self.lanes.get(&owner).map(Lane::room)
    }

    /// What became of a batch when it was put into its lane; `None` if nobody of the set owns it.
    pub fn insert(&mut self, batch: CheckedBatch) -> Option<Inserted> {
        self.lanes.get_mut(&batch.position().owner).map(|lane| lane.insert(batch))
    }

    /// The newest batch of each lane that may be acknowledged, in address order.
    #[must_use]
    pub fn tips(&self) -> Vec<Acknowledged> {
        self.lanes.values().filter_map(Lane::tip).collect()
    }

    /// Whether a batch of these very bytes is held.
    #[must_use]
    pub fn holds_bytes(&self, position: &BatchPosition, raw: &Bytes) -> bool {
        let lane = self.lanes.get(&position.owner);
        let held = lane.and_then(|lane| lane.get(position.incarnation, position.sequence));
        held.is_some_and(|batch| batch.raw() == raw)
    }

    /// Whether another batch than this one is held at the position.
    #[must_use]
    pub fn holds_other(&self, position: &BatchPosition, digest: BatchDigest) -> bool {
        let lane = self.lanes.get(&position.owner);
        let held = lane.and_then(|lane| lane.get(position.incarnation, position.sequence));
        held.is_some_and(|batch| batch.digest() != digest)
    }

    /// Notes what `validator` of `set` stores.
    pub fn acknowledge(&mut self, set: &ValidatorSet, validator: Address, ack: &Acknowledgement) {
        self.confirm(validator, &ack.tips);
        self.acks.note(set, validator, &ack.tips);
    }

    /// What others of `set` said they store and this node lacks, and who said so.
    #[must_use]
    pub fn behind(&self, set: &ValidatorSet) -> Vec<(BatchRange, Address)> {
        let lanes = self.lanes.keys();
        let words = lanes.flat_map(|owner| {
            let validators = set.iter().map(|validator| validator.address);
            validators.filter_map(|who| Some((self.acks.last(*owner, who)?.position, who)))
        });
        words.filter_map(|(tip, who)| Some((self.lacking(&tip)?, who))).collect()
    }

    /// Keeps what `validator` said before, where it holds here, before newer words take its place.
    fn confirm(&mut self, validator: Address, newer: &[Acknowledged]) {
        for tip in newer {
            let owner = tip.position.owner;
            let (Some(lane), Some(word)) =
                (self.lanes.get(&owner), self.acks.last(owner, validator))
            else {
                continue;
            };
            if holds(lane, word) {
                self.confirmed.insert((owner, validator), *word);
            }
        }
    }

    /// The batches up to a tip that somebody else holds and this node does not.
    fn lacking(&self, tip: &BatchPosition) -> Option<BatchRange> {
        if !self.wants(tip) {
            return None;
        }
        let lane = self.lanes.get(&tip.owner)?;
        let held =
            lane.tip().map(|own| own.position).filter(|own| own.incarnation == tip.incarnation);
        let decided = Some(lane.decided())
            .filter(|at| !at.is_start() && at.incarnation == tip.incarnation)
            .map(LanePosition::batch);
        let first = held.max(decided).map_or(Sequence(0), |at| at.sequence.next());
        let BatchPosition { owner, incarnation, sequence: last } = *tip;
        Some(BatchRange { owner, incarnation, first, last })
    }

    /// Gaps in what is held.
    #[must_use]
    pub fn missing(&self) -> Vec<BatchRange> {
        self.lanes.values().flat_map(Lane::missing).collect()
    }

    /// The cut that moves every lane as far as a quorum stores it, and a little further, within the limits.
    #[must_use]
    pub fn cut(&self, state: &State) -> Cut {
        let set = &state.committed.validators;
        let limits = CutLimits { fresh_bytes: FRESH_BYTES_MAX, ..CutLimits::MAX };
        build_cut(state, &self.lanes, |lane| self.stored_by_quorum(set, lane), limits)
    }

    /// Whether this validator's lane may have another batch now: not too much of it is on its way to a quorum.
    #[must_use]
    pub fn has_room(&self, set: &ValidatorSet) -> bool {
        let Some(lane) = self.lanes.get(&self.me) else { return false };
        let in_flight = lane.chain().skip(self.stored_by_quorum(set, lane));
        in_flight.map(|batch| batch.raw().len()).sum::<usize>() < IN_FLIGHT_BYTES_MAX
    }

    /// How many batches of the lane's chain a quorum stores, as far as this node was told.
    fn stored_by_quorum(&self, set: &ValidatorSet, lane: &Lane) -> usize {
        quorum_reach(lane, set, |validator| {
            if validator == self.me { lane.tip() } else { self.word(lane, validator).copied() }
        })
    }

    /// The newest word of a validator that names a batch of the lane as it is held here.
    fn word(&self, lane: &Lane, validator: Address) -> Option<&Acknowledged> {
        let owner = lane.decided().owner;
        let newest = self.acks.last(owner, validator).filter(|word| holds(lane, word));
        newest.or_else(|| self.confirmed.get(&(owner, validator)))
    }

    /// The batches of a cut's steps, lane after lane, in order.
    ///
    /// # Errors
    /// The first step that can't be made of what is held and attached.
    pub fn batches(
        &self,
        steps: &[LaneStep],
        attached: &Attached,
    ) -> Result<Vec<CheckedBatch>, Unresolved> {
        let mut held = Vec::new();
        for step in steps {
            let lane = self.lanes.get(&step.owner);
            held.extend(
                lane.map(|lane| lane.batches(step, attached)).transpose()?.unwrap_or_default(),
            );
        }
        Ok(held)
    }

    /// The batches of `batches` that not all of `validators` have acknowledged.
    ///
    /// A word counts for the very batch that it names, and for those that the lane links to it: who stores another batch
    /// of the position must be sent this one, or an owner that signs two could stop the log.
    #[must_use]
    pub fn unacknowledged<'a>(
        &self,
        batches: &'a [CheckedBatch],
        validators: &BTreeSet<Address>,
    ) -> Vec<&'a CheckedBatch> {
        let owners: BTreeSet<Address> =
            batches.iter().map(|batch| batch.position().owner).collect();
        let held: BTreeMap<Address, BTreeSet<BatchDigest>> =
            owners.into_iter().map(|owner| (owner, self.held_by_all(owner, validators))).collect();
        let is_held = |batch: &CheckedBatch| {
            held.get(&batch.position().owner).is_some_and(|all| all.contains(&batch.digest()))
        };
        batches.iter().filter(|batch| !is_held(batch)).collect()
    }

    /// The undecided batches of a lane that each of `validators` said it stores.
    fn held_by_all(&self, owner: Address, validators: &BTreeSet<Address>) -> BTreeSet<BatchDigest> {
        let Some(lane) = self.lanes.get(&owner) else { return BTreeSet::new() };
        let mut all: BTreeSet<BatchDigest> = lane.iter().map(CheckedBatch::digest).collect();
        for validator in validators {
            let held = self.word(lane, *validator).map(|word| linked(lane, word));
            let held = held.unwrap_or_default();
            all.retain(|digest| held.contains(digest));
        }
        all
    }

    /// The lanes are decided up to here.
    pub fn advance(&mut self, positions: &[LanePosition]) {
        for position in positions {
            if let Some(lane) = self.lanes.get_mut(&position.owner) {
                lane.advance(position);
            }
        }
    }
}

/// Whether the lane holds the very batch that a word names.
fn holds(lane: &Lane, word: &Acknowledged) -> bool {
    let BatchPosition { incarnation, sequence, .. } = word.position;
    lane.get(incarnation, sequence).is_some_and(|batch| batch.digest() == word.digest)
}

/// The batches that a word stands for: the one it names, and those before it by the chain of digests.
fn linked(lane: &Lane, word: &Acknowledged) -> BTreeSet<BatchDigest> {
    let BatchPosition { incarnation, mut sequence, .. } = word.position;
    let (mut digest, mut linked) = (word.digest, BTreeSet::new());
    while let Some(batch) = lane.get(incarnation, sequence).filter(|batch| batch.digest() == digest)
    {
        linked.insert(digest);
        digest = batch.header().parent;
        let Some(before) = sequence.0.checked_sub(1) else { break };
        sequence = Sequence(before);
    }
    linked
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::batch::Batch;
    use lockstep_core::entry::{Body, Entry, Transaction};
    use lockstep_core::params::ChainKind;
    use lockstep_core::signing::SigningKey;
    use lockstep_core::types::{ChainId, Incarnation, NetworkId, UnixMillis};
    use lockstep_core::validator_set::Validator;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_bytes([n; 32]).unwrap()
    }

    fn set() -> ValidatorSet {
        let member = |n| Validator {
            address: key(n).address(),
            public_key: key(n).public_key(),
            power: 1,
            network_address: String::new(),
        };
        let mut members = vec![member(1), member(2)];
        members.sort_by_key(|member| member.address);
        ValidatorSet::new(members).unwrap()
    }

    fn table() -> Table {
        Table::new(key(1).address(), &Cut::start(&set()).lanes)
    }

    fn batch(sequence: u64, parent: BatchDigest, text: &[u8]) -> CheckedBatch {
        let bytes = text.to_vec().into();
        let body = Transaction { chain: ChainId(1), kind: ChainKind::Opaque, bytes };
        let entry = Entry::new(Body::Transaction(body), UnixMillis(1), None).unwrap();
        let place = (Incarnation(1), Sequence(sequence));
        Batch::sign(NetworkId::ZERO, place, parent, vec![entry], &key(1)).unwrap().check().unwrap()
    }

    fn say(table: &mut Table, batch: &CheckedBatch) {
        let tip = Acknowledged { position: batch.position(), digest: batch.digest() };
        let word = Acknowledgement::sign(NetworkId::ZERO, vec![tip], &key(2));
        table.acknowledge(&set(), key(2).address(), &word);
    }

    fn attached(table: &Table, batches: &[CheckedBatch]) -> Vec<BatchDigest> {
        let up = BTreeSet::from([key(2).address()]);
        table.unacknowledged(batches, &up).into_iter().map(CheckedBatch::digest).collect()
    }

    #[test]
    fn word_on_another_batch_of_the_position_is_no_word_on_this_one() {
        let (left, right) = (batch(0, BatchDigest::ZERO, b"l"), batch(0, BatchDigest::ZERO, b"r"));
        let mut table = table();
        table.insert(left.clone());
        say(&mut table, &right);
        assert_eq!(attached(&table, std::slice::from_ref(&left)), [left.digest()]);
        // Nor is one on a batch that follows it there.
        say(&mut table, &batch(1, right.digest(), b"r"));
        assert_eq!(attached(&table, std::slice::from_ref(&left)), [left.digest()]);
    }

    #[test]
    fn lane_waits_while_too_many_of_its_bytes_are_on_their_way_to_a_quorum() {
        let mut table = table();
        let (mut parent, mut bytes, mut sequence) = (BatchDigest::ZERO, 0, 0);
        let mut last = None;
        while table.has_room(&set()) {
            assert!(bytes < IN_FLIGHT_BYTES_MAX);
            let next = batch(sequence, parent, &[7; 100_000]);
            (parent, bytes, sequence) = (next.digest(), bytes + next.raw().len(), sequence + 1);
            table.insert(next.clone());
            last = Some(next);
        }
        assert!(bytes >= IN_FLIGHT_BYTES_MAX);
        say(&mut table, &last.unwrap());
        assert!(table.has_room(&set()), "a quorum stores them all");
    }

    #[test]
    fn word_stands_for_all_before_it_and_until_a_newer_one_holds_here() {
        let first = batch(0, BatchDigest::ZERO, b"0");
        let second = batch(1, first.digest(), b"1");
        let third = batch(2, second.digest(), b"2");
        let mut table = table();
        table.insert(first.clone());
        assert_eq!(attached(&table, std::slice::from_ref(&first)), [first.digest()]);
        say(&mut table, &first);
        say(&mut table, &third);
        table.insert(second.clone());
        let both = [first.clone(), second.clone()];
        assert_eq!(attached(&table, &both), [second.digest()], "the third has not come yet");
        table.insert(third.clone());
        assert_eq!(attached(&table, &both), []);
    }
}
