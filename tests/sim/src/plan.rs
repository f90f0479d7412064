//! What a seed draws before it runs: how many validators, which faults and how often, who lies and how.
//!
//! Each fault's rate is drawn per seed, zero included, so that a seed may have one fault alone or all of them.

use std::ops::Range;

use crate::attacker::Lie;
use crate::profile::Profile;
use crate::rng::Rng;
use crate::world::Micros;

/// One millisecond.
pub(crate) const MS: Micros = 1_000;
/// Faults last so long at most; then the network heals.
const FAULTS_MAX: Micros = 4_000 * MS;

/// What happens to a node's disk at a crash. What the guard synced stays unless it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DiskFault {
    /// What was synced stays, and some of what was not.
    Kept,
    /// The data directory is as it was some time before.
    RolledBack,
    /// The data directory is gone.
    Wiped,
    /// The guard is gone, and made anew as one that was lost.
    GuardLost,
    /// Both are.
    AllWiped,
    /// The store is as it was a moment before; consensus log and guard lost nothing.
    Torn,
    /// Data and guard are as they were some time before: a copy of the home runs in its place.
    Restored,
}

/// A crash that is planned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crash {
    /// When the count begins.
    pub(crate) at: Micros,
    /// Whom.
    pub(crate) node: usize,
    /// Effects from then on until it crashes.
    pub(crate) effects: u32,
    /// How long it stays down.
    pub(crate) down: Micros,
    /// Its disk.
    pub(crate) disk: DiskFault,
}

impl Crash {
    /// When the disks are remembered that this crash leaves.
    pub(crate) const fn remembered(&self) -> Option<Micros> {
        match self.disk {
            DiskFault::RolledBack => Some(self.at / 2),
            DiskFault::Torn => Some(self.at.saturating_sub(self.down % (300 * MS))),
            DiskFault::Restored => Some(self.at.saturating_sub(self.down)),
            DiskFault::Kept | DiskFault::Wiped | DiskFault::GuardLost | DiskFault::AllWiped => None,
        }
    }
}

/// A partition that is planned: nodes of the two groups can't reach each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition {
    /// From.
    pub(crate) at: Micros,
    /// So long.
    pub(crate) lasts: Micros,
    /// One group, as a bit per node.
    pub(crate) group: u64,
}

/// How long consensus waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a proposal, in milliseconds.
    pub(crate) propose_ms: u64,
    /// For votes, in milliseconds.
    pub(crate) vote_ms: u64,
    /// How much longer in each round, in milliseconds.
    pub(crate) delta_ms: u64,
}

/// The whole draw.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Validators.
    pub(crate) nodes: usize,
    /// Of them the first ones lie.
    pub(crate) liars: usize,
    /// It is the network's first start: guards are fresh. Else they have signed before.
    pub(crate) is_fresh: bool,
    /// When faults and lies begin.
    pub(crate) calm: Micros,
    /// Signatures are real.
    pub(crate) is_secp256k1: bool,
    /// Heights to be decided.
    pub(crate) heights: u64,
    /// Least delay of a frame.
    pub(crate) delay: Micros,
    /// What is added to it at most.
    pub(crate) jitter: Micros,
    /// Frames in a thousand that are much later.
    pub(crate) late: u64,
    /// Frames in a thousand that are lost.
    pub(crate) loss: u64,
    /// Frames in a thousand that come twice.
    pub(crate) twice: u64,
    /// Whether frames of one class and peer keep their order.
    pub(crate) in_order: bool,
    /// Work of a node takes so long at most.
    pub(crate) work: Micros,
    /// How far a clock is off at most, in milliseconds, to either side.
    pub(crate) skew_ms: u64,
    /// A clock runs so many parts in a thousand fast or slow at most.
    pub(crate) drift: u64,
    /// A clock jumps by so much back and forth while faults last, in milliseconds.
    pub(crate) jump_ms: u64,
    /// Bytes that each chain may put into the log in a second.
    pub(crate) bytes_per_second: u64,
    /// Bytes of a transaction at most.
    pub(crate) length: u64,
    /// Work in a thousand that takes much longer while faults last.
    pub(crate) slow: u64,
    /// Submissions in a thousand that are copies of what another node got.
    pub(crate) copies: u64,
    /// Between two submissions to one node.
    pub(crate) submit_every: Micros,
    /// Crashes.
    pub(crate) crashes: Vec<Crash>,
    /// Partitions.
    pub(crate) partitions: Vec<Partition>,
    /// Links that flap in a second.
    pub(crate) flaps: u64,
    /// When the last fault ends.
    pub(crate) heal_at: Micros,
    /// What consensus waits for a step at first, and how much more in each round; `None`: as ever.
    pub(crate) patience: Option<Patience>,
    /// Lies that are told whatever else is.
    pub(crate) lies: Vec<Lie>,
}

impl Plan {
    /// Draws the plan of a seed.
    #[must_use]
    pub(crate) fn draw(seed: u64, rng: &mut Rng) -> Self {
        let profile = Profile::draw(&mut Rng::new(!seed));
        let nodes = if rng.chance(60) { 7 } else { 4 };
        let third = (nodes - 1) / 3;
        let liars = if rng.chance(600) { 1 + rng.place(third) } else { 0 };
        let (nodes, liars) = profile.map_or((nodes, liars), |one| one.validators(liars));
        let third = (nodes - 1) / 3;
        let is_fresh = rng.chance(150);
        let calm = 300 * MS;
        let heal_at = calm + 300 * MS + rng.below(FAULTS_MAX);
        let may_lose = liars < third;
        let mut crashes = Self::crashes(rng, nodes, may_lose, calm..heal_at);
        if may_lose && rng.chance(200) {
            crashes = vec![Self::odd_crash(rng, nodes, liars, calm..heal_at)];
        }
        let partitions = Self::partitions(rng, nodes, calm..heal_at);
        let some =
            |rng: &mut Rng, permille, most| if rng.chance(permille) { rng.below(most) } else { 0 };
        // Large entries cost much to hash, so such seeds are few.
        let is_tight = nodes == 4 && rng.chance(40);
        let (bytes_per_second, length) =
            if is_tight { (20_000 + rng.below(100_000), 60_000) } else { (1 << 20, 200) };
        let mut plan = Self {
            nodes,
            liars,
            is_fresh,
            calm,
            is_secp256k1: seed % 1_000 == 999,
            heights: 20,
            delay: MS + rng.below(40 * MS),
            jitter: rng.below(60 * MS),
            late: some(rng, 300, 30),
            loss: some(rng, 400, 60),
            twice: some(rng, 300, 60),
            in_order: rng.chance(500),
            work: rng.below(6 * MS),
            skew_ms: some(rng, 500, 200),
            drift: some(rng, 300, 10),
            jump_ms: some(rng, 200, 3_000),
            bytes_per_second,
            length,
            slow: some(rng, 250, 30),
            copies: some(rng, 500, 400),
            submit_every: (200 + rng.below(1_300)) * MS,
            crashes,
            partitions,
            flaps: some(rng, 300, 6),
            heal_at,
            patience: None,
            lies: Vec::new(),
        };
        if let Some(profile) = profile {
            profile.shape(&mut plan, &mut Rng::new(!seed));
        }
        plan
    }

    /// Whether chains have less room than users want.
    #[must_use]
    pub(crate) const fn is_tight(&self) -> bool {
        self.bytes_per_second < 1 << 20
    }

    /// `may_lose`: one node may lose data or guard. It abstains for a while, so it is one of the third that may fail.
    fn crashes(rng: &mut Rng, nodes: usize, may_lose: bool, when: Range<Micros>) -> Vec<Crash> {
        let (count, down) = match rng.below(100) {
            // So many that several are down, or come back, at one height.
            0..8 => (12, 300 * MS),
            8..64 => (1 + rng.below(4), 2_000 * MS),
            _ => (0, MS),
        };
        let lost = (may_lose && rng.chance(400)).then(|| rng.place(nodes));
        let mut crashes = Vec::new();
        for _ in 0..count {
            let node = rng.place(nodes);
            let node = lost.filter(|_| rng.chance(500)).unwrap_or(node);
            let disk = match rng.below(6) {
                _ if lost != Some(node) => DiskFault::Kept,
                0 => DiskFault::Wiped,
                1 => DiskFault::RolledBack,
                2 => DiskFault::AllWiped,
                3 => DiskFault::GuardLost,
                _ => DiskFault::Kept,
            };
            crashes.push(Crash {
                at: when.start + rng.below(when.end - when.start),
                node,
                effects: u32::try_from(1 + rng.below(400)).expect("few"),
                down: rng.below(down),
                disk,
            });
        }
        crashes
    }

    /// One crash that leaves what no crash should: a store without its tail, or a home that was copied, which makes its
    /// validator one of the faulty.
    fn odd_crash(rng: &mut Rng, nodes: usize, liars: usize, when: Range<Micros>) -> Crash {
        let is_restored = liars == 0 && rng.chance(500);
        Crash {
            at: when.start + rng.below(when.end - when.start),
            node: liars + rng.place(nodes - liars),
            effects: u32::try_from(1 + rng.below(400)).expect("few"),
            down: rng.below(1_500 * MS),
            disk: if is_restored { DiskFault::Restored } else { DiskFault::Torn },
        }
    }

    fn partitions(rng: &mut Rng, nodes: usize, when: Range<Micros>) -> Vec<Partition> {
        let count = if rng.chance(400) { 1 + rng.below(3) } else { 0 };
        let mut partitions = Vec::new();
        for _ in 0..count {
            partitions.push(Partition {
                at: when.start + rng.below(when.end - when.start),
                lasts: rng.below(2_500 * MS),
                group: rng.below(1 << nodes),
            });
        }
        partitions
    }
}
