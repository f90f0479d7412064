//! The world of one run: virtual time, the queue of what happens next, the network, and when which fault comes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lockstep_consensus::application::effect::{self, Effect};
use lockstep_consensus::application::input::Input;
use lockstep_core::params::{ChainKind, ChainParams, Genesis, NetworkParams};
use lockstep_core::signing::{SigningKey, keyed_hash};
use lockstep_core::types::{ChainId, Height, NetworkId, UnixMillis};
use lockstep_core::validator_set::{Validator, ValidatorSet};
use lockstep_engine::replica;

use crate::attacker::{Attacker, Lie};
use crate::checks::Checks;
use crate::disk::Disk;
use crate::node::{Clock, EPOCH_MS, Node};
use crate::plan::{Crash, DiskFault, MS, Partition, Patience, Plan};
use crate::rng::Rng;
use crate::trace::Trace;
use crate::work::Checked;

/// Microseconds since the beginning of a run.
pub(crate) type Micros = u64;

/// What is said of a run that stands still.
pub(crate) const STALL: &str = "no progress after the faults";
/// After the last fault every validator must have decided some more heights within this time.
const PROGRESS_WITHIN: Micros = 30_000 * MS;
/// How many more.
const PROGRESS_HEIGHTS: u64 = 3;
/// After the last fault every entry is decided within this time, or told to be dropped.
const SETTLE_WITHIN: Micros = 12_000 * MS;
/// Chains of the network.
pub(crate) const CHAINS: [ChainId; 2] = [ChainId(7), ChainId(8)];

/// A stream between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Consensus messages and status.
    Votes,
    /// Proposal parts.
    Parts,
    /// Value sync.
    Sync,
    /// The lanes.
    Lanes,
}

/// What happens next.
#[derive(Debug)]
pub(crate) enum Event {
    /// A frame arrives.
    Frame { from: usize, to: usize, class: Class, frame: Bytes },
    /// A timer of consensus runs out.
    EngineTimer { timer: replica::Timer, set: u64 },
    /// A timer of the application runs out.
    Timer { timer: effect::Timer, set: u64 },
    /// Consensus is told something, in this run of it.
    Engine { run: u64, input: replica::Input },
    /// The application is told something.
    Application(Input),
    /// Work is done.
    Work(Box<Effect>),
    /// A user submits.
    Submit,
    /// Consensus is started anew, as a voter or not.
    Rerun,
    /// The status is told again.
    Status,
    /// A request of value sync was not answered.
    SyncLate { number: u64 },
    /// A node starts.
    Start,
    /// The count down to a crash begins.
    Arm(Crash),
    /// The disks are remembered for a rollback.
    Remember,
    /// The network falls apart.
    Part(Partition),
    /// It comes together.
    Join,
    /// A link goes down for a moment.
    Flap,
    /// A clock jumps.
    Jump,
    /// The attacker acts.
    Attack,
}

/// An event's node, its boot where that matters, and the event.
#[derive(Debug)]
struct Scheduled {
    node: usize,
    boot: Option<u64>,
    event: Box<Event>,
}

/// How a run ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// The first rule that broke, if one did.
    pub(crate) violation: Option<String>,
    /// Hash over everything that happened.
    pub(crate) hash: u64,
    /// Events.
    pub(crate) events: u64,
    /// Decisions of all nodes.
    pub(crate) decisions: u64,
    /// Crashes.
    pub(crate) crashes: u64,
    /// Times a node abstained.
    pub(crate) abstained: u64,
    /// Lies told, of each kind.
    pub(crate) lies: BTreeMap<Lie, u64>,
    /// Crashes, by what became of the disk.
    pub(crate) disks: BTreeMap<DiskFault, u64>,
    /// Partitions.
    pub(crate) partitions: u64,
    /// Flaps of links.
    pub(crate) flaps: u64,
    /// Jumps of clocks.
    pub(crate) jumps: u64,
    /// Frames that were lost.
    pub(crate) lost: u64,
    /// Entries decided.
    pub(crate) entries: u64,
    /// Greatest round of a decision.
    pub(crate) round_max: u32,
    /// Simulated time.
    pub(crate) time: Micros,
}

/// One run.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now: Micros,
    pub(crate) genesis: Genesis,
    pub(crate) network: NetworkId,
    pub(crate) nodes: Vec<Node>,
    pub(crate) checks: Checks,
    pub(crate) attacker: Attacker,
    pub(crate) trace: Trace,
    pub(crate) checked: Checked,
    pub(crate) outcome: Outcome,
    queue: BTreeMap<(Micros, u64), Scheduled>,
    scheduled: u64,
    /// Links that are down.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// When the newest frame of a stream arrives, where order is kept.
    pub(crate) newest: BTreeMap<(usize, usize, Class), Micros>,
    /// Height that every node must reach after the faults.
    goal: Option<u64>,
    /// The first height that surely begins after the faults.
    pub(crate) healthy_from: Option<Height>,
}

fn genesis(keys: &[SigningKey], bytes_per_second: u64, patience: Option<Patience>) -> Genesis {
    let mut params = NetworkParams::default();
    if let Some(Patience { propose_ms, vote_ms, delta_ms }) = patience {
        (params.propose_ms, params.prevote_ms, params.precommit_ms, params.timeout_delta_ms) =
            (propose_ms, vote_ms, vote_ms, delta_ms);
    }
    let members = keys.iter().map(|key| Validator {
        address: key.address(),
        public_key: key.public_key(),
        power: 1,
        network_address: String::new(),
    });
    let chain = |id| ChainParams {
        id,
        kind: ChainKind::Opaque,
        block_time_ms: 0,
        gas_per_second: 0,
        bytes_per_second,
        sequencers: vec![],
        gateways: vec![],
        transaction_gas_max: 128_000_000,
        joins_at: 0,
    };
    Genesis {
        name: "simulation".to_owned(),
        timestamp: UnixMillis(EPOCH_MS - 1_000),
        params,
        validators: ValidatorSet::new(members.collect()).expect("distinct keys in order"),
        chains: CHAINS.into_iter().map(chain).collect(),
    }
}

impl World {
    /// The world of a seed.
    #[must_use]
    pub(crate) fn new(seed: u64, trace: Trace) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(seed, &mut rng);
        keyed_hash::switch(!plan.is_secp256k1);
        let mut keys: Vec<_> = (1u8..)
            .take(plan.nodes)
            .map(|i| SigningKey::from_bytes([i; 32]).expect("a key"))
            .collect();
        keys.sort_by_key(SigningKey::address);
        let genesis = genesis(&keys, plan.bytes_per_second, plan.patience);
        let skew = i64::try_from(plan.skew_ms).expect("small");
        let drift = i64::try_from(plan.drift).expect("small");
        let mut around = |most: i64| {
            let span = u64::try_from(2 * most + 1).expect("not negative");
            i64::try_from(rng.below(span)).expect("small") - most
        };
        let clocks: Vec<_> = keys
            .iter()
            .map(|_| Clock { ahead_ms: around(skew), jump_ms: 0, fast: around(drift) })
            .collect();
        let nodes = keys.iter().zip(clocks).map(|(key, clock)| Node {
            key: key.clone(),
            disk: Disk::new(),
            boot: 0,
            running: None,
            crash: None,
            clock,
            has_lost: false,
        });
        let nodes: Vec<_> = nodes.collect();
        let attacker = Attacker::draw(&plan, &keys, genesis.network_id(), &mut rng);
        let mut this = Self {
            checks: Checks::new(&genesis, &plan),
            attacker,
            plan,
            rng,
            now: 0,
            network: genesis.network_id(),
            genesis,
            nodes,
            trace,
            outcome: Outcome::default(),
            checked: Checked::default(),
            queue: BTreeMap::new(),
            scheduled: 0,
            cut: BTreeSet::new(),
            newest: BTreeMap::new(),
            goal: None,
            healthy_from: None,
        };
        this.schedule();
        this
    }

    /// All that the plan holds.
    fn schedule(&mut self) {
        for node in 0..self.nodes.len() {
            let at = self.rng.below(300 * MS);
            self.at(at, node, None, Event::Start);
            let submit = self.rng.below(500 * MS);
            self.at(submit, node, None, Event::Submit);
        }
        let plan = self.plan.clone();
        for crash in &plan.crashes {
            self.at(crash.at, crash.node, None, Event::Arm(*crash));
            if let Some(at) = crash.remembered() {
                self.at(at, crash.node, None, Event::Remember);
            }
        }
        for partition in &plan.partitions {
            self.at(partition.at, 0, None, Event::Part(*partition));
            self.at(partition.at + partition.lasts, 0, None, Event::Join);
        }
        for _ in 0..plan.flaps * plan.heal_at / (1_000 * MS) {
            let at = plan.calm + self.rng.below(plan.heal_at - plan.calm);
            self.at(at, 0, None, Event::Flap);
        }
        if plan.jump_ms > 0 {
            for _ in 0..4 {
                let (at, node) = (self.rng.below(plan.heal_at), self.rng.place(plan.nodes));
                self.at(at, node, None, Event::Jump);
            }
        }
        if plan.liars > 0 {
            self.at(100 * MS, 0, None, Event::Attack);
        }
        self.at(plan.heal_at, 0, None, Event::Join);
    }

    /// Puts an event into the queue, so long from now.
    pub(crate) fn at(&mut self, after: Micros, node: usize, boot: Option<u64>, event: Event) {
        self.scheduled += 1;
        let key = (self.now + after, self.scheduled);
        self.queue.insert(key, Scheduled { node, boot, event: Box::new(event) });
    }

    /// The same for what a node forgets when it crashes.
    pub(crate) fn later(&mut self, after: Micros, node: usize, event: Event) {
        let boot = self.nodes[node].boot;
        self.at(after, node, Some(boot), event);
    }

    /// Whether faults still come.
    #[must_use]
    pub(crate) fn is_faulty(&self) -> bool {
        self.now < self.plan.heal_at
    }

    /// Whether a node follows the rules.
    #[must_use]
    pub(crate) fn is_honest(&self, node: usize) -> bool {
        node >= self.plan.liars
    }

    /// Runs to the end.
    #[must_use]
    pub(crate) fn run(mut self) -> (Outcome, Trace) {
        while self.checks.violation.is_none() && !self.is_over() {
            let Some(((at, _), scheduled)) = self.queue.pop_first() else { break };
            self.now = at;
            let Scheduled { node, boot, event } = scheduled;
            if boot.is_some_and(|boot| boot != self.nodes[node].boot) {
                continue;
            }
            self.outcome.events += 1;
            self.trace.event(at, node, &event);
            self.happen(node, *event);
        }
        if self.checks.violation.is_none() {
            self.checks.end();
        }
        self.outcome.violation = self.checks.violation.take();
        self.outcome.lies = std::mem::take(&mut self.attacker.told);
        self.outcome.hash = self.trace.hash();
        self.outcome.time = self.now;
        self.outcome.entries = self.checks.entries.decided;
        (self.outcome, self.trace)
    }

    /// Whether every honest node reached what it must; it is a violation if it is too late.
    fn is_over(&mut self) -> bool {
        if self.is_faulty() {
            return false;
        }
        let honest = self.plan.liars..self.nodes.len();
        let heights = honest.map(|node| self.height(node));
        let (least, most) =
            heights.fold((u64::MAX, 0), |(least, most), at| (least.min(at), most.max(at)));
        let heights = self.plan.heights;
        self.healthy_from.get_or_insert(Height(most + 2));
        let goal = *self.goal.get_or_insert_with(|| heights.max(most + PROGRESS_HEIGHTS));
        if least >= goal {
            return self.is_settled();
        }
        let heights_left = goal.saturating_sub(most);
        let allowed = PROGRESS_WITHIN + heights_left * 2_000 * MS;
        if self.now > self.plan.heal_at + allowed {
            let at: Vec<_> = (0..self.nodes.len()).map(|node| self.height(node)).collect();
            self.checks.fail(format!("{STALL}: heights {at:?}, goal {goal}"));
        }
        false
    }

    /// Whether all entries ended that must; it is a violation if it is too late.
    fn is_settled(&mut self) -> bool {
        // Where chains have little room, entries may wait until they expire: there it is enough that none is passed over.
        if self.plan.is_tight() || self.checks.entries.is_settled() {
            return true;
        }
        if self.now > self.plan.heal_at + SETTLE_WITHIN {
            let reason = self.checks.entries.unsettled();
            self.checks.fail(reason);
        }
        false
    }

    fn height(&self, node: usize) -> u64 {
        self.checks.height(node).0
    }

    pub(crate) fn happen(&mut self, node: usize, event: Event) {
        match event {
            Event::Frame { from, to, class, frame } => self.arrive(from, to, class, frame),
            Event::EngineTimer { timer, set } => {
                let Some(running) = &mut self.nodes[node].running else { return };
                if running.engine_timers.get(&timer) == Some(&set) {
                    running.engine_timers.remove(&timer);
                    self.engine(node, replica::Input::TimerFired(timer));
                }
            }
            Event::Timer { timer, set } => {
                let Some(running) = &mut self.nodes[node].running else { return };
                if running.timers.get(&timer) == Some(&set) {
                    running.timers.remove(&timer);
                    self.application(node, Input::TimerFired(timer));
                }
            }
            Event::Engine { run, input } => {
                if self.nodes[node].running.as_ref().is_some_and(|running| running.run == run) {
                    self.engine(node, input);
                }
            }
            Event::Application(input) => self.application(node, input),
            Event::Work(effect) => self.work(node, *effect),
            Event::Submit => self.submit(node),
            Event::Rerun => self.vote_or_follow(node, false),
            Event::Status => self.tell_status(node),
            Event::SyncLate { number } => self.sync_late(node, number),
            Event::Start => self.start(node),
            Event::Arm(crash) => {
                if self.is_faulty() {
                    self.nodes[node].crash = Some(crash);
                }
            }
            Event::Remember => self.nodes[node].disk.remember(),
            Event::Part(partition) => {
                self.outcome.partitions += 1;
                self.part(partition.group);
            }
            Event::Join => self.join(),
            Event::Flap => self.flap(),
            Event::Jump => self.jump(node),
            Event::Attack => self.attack(),
        }
    }
}
