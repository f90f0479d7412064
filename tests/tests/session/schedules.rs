//! Random schedules: op-node that repeats, cancels and goes back, an engine that refuses, is slow and loses its tail, a log that
//! falls silent, a sidecar that is killed and starts with its disk, an old copy of it, or none.
//!
//! Whatever happens, each call is answered, no sequencing call is told what would make op-node exit, no block has anything that
//! it was not offered, and what the session ever knew for good is what a cold reader finds in the end.

use std::collections::BTreeMap;

use alloy_primitives::{B256, keccak256};
use lockstep_core::cursor::{Kind, L2Block};
use lockstep_core::reader::{LogView, Need, Next, Reader, Rules, Walk};
use lockstep_core::record::SealMode;
use lockstep_core::window::Begin;
use lockstep_sidecar::config::{Role, WhenSilent};
use lockstep_sidecar::session::effect::{CallId, Kept};
use lockstep_sidecar::session::input::Input;
use lockstep_sidecar::session::state::Before;
use lockstep_tests::scripted_engine::Refusal;
use serde_json::Value;

use crate::world::{LEAD_MS, START, World};

/// Steps of one schedule.
const STEPS: usize = 400;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

struct Schedule {
    world: World,
    rng: Rng,
    is_silent: bool,
    /// The id of the newest job, and the newest block that op-node was given.
    job: Option<Value>,
    envelope: Option<Value>,
    /// Calls that must be answered; those of a sequencing job.
    open: Vec<CallId>,
    sequencing: Vec<CallId>,
    starts: Vec<CallId>,
    fetches: Vec<CallId>,
    disks: Vec<Kept>,
    /// What the session said of blocks for good.
    said: BTreeMap<B256, Begin>,
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let when_silent = [WhenSilent::Halt, WhenSilent::DepositsOnly][seed as usize % 2];
        Self {
            world: World::of(Role::Sequencing, when_silent),
            rng: Rng(seed),
            is_silent: false,
            job: None,
            envelope: None,
            open: Vec::new(),
            sequencing: Vec::new(),
            starts: Vec::new(),
            fetches: Vec::new(),
            disks: vec![Kept::default()],
            said: BTreeMap::new(),
        }
    }

    fn step(&mut self) {
        let head = self.world.engine.head;
        match self.rng.below(40) {
            0..=7 => self.reply(),
            8..=11 => {
                let call = self.world.start_job(head);
                self.starts.push(call);
                self.sequencing.push(call);
                self.open.push(call);
            }
            12..=16 => self.fetch(),
            17..=20 => self.adopt(),
            21..=24 if !self.is_silent => self.log(),
            25 => self.is_silent = !self.is_silent && self.rng.below(3) == 0,
            26 => self.world.pass(self.rng.next() % 1_500),
            27 => self.world.entropy = self.world.entropy.wrapping_add(1),
            28 if self.rng.below(2) == 0 => self.back(),
            29 if self.rng.below(4) == 0 => self.restart(),
            30 if self.rng.below(4) == 0 => self.lose(),
            31..=36 => self.in_order(),
            37 => self.world.is_away = self.rng.below(3) == 0,
            38 | 39 => self.world.is_away = false,
            _ => {}
        }
        self.look();
    }

    /// What op-node does on a good day.
    fn in_order(&mut self) {
        if !self.is_silent {
            self.log();
        }
        let call = self.world.start_job(self.world.engine.head);
        self.starts.push(call);
        self.sequencing.push(call);
        self.world.settle();
        self.look();
        self.fetch();
        self.world.settle();
        if self.is_silent {
            self.world.pass(1_001);
            self.world.settle();
        }
        self.look();
        self.adopt();
        self.world.settle();
    }

    /// The questions are answered in any order.
    fn reply(&mut self) {
        for _ in 0..self.rng.below(12) {
            if !self.world.asked.is_empty() {
                let place = self.rng.below(self.world.asked.len());
                self.world.reply(place);
                self.look();
            }
        }
    }

    fn fetch(&mut self) {
        let Some(job) = self.job.clone() else { return };
        let call = self.world.get_payload(&job);
        self.fetches.push(call);
        self.sequencing.push(call);
        self.open.push(call);
    }

    fn adopt(&mut self) {
        let Some(envelope) = self.envelope.take() else { return };
        let calls = self.world.adopt(&envelope);
        self.open.extend(calls);
        self.disks.push(self.world.disk.clone());
    }

    /// The log goes on to behind the next block's window, with some items and all records.
    fn log(&mut self) {
        let records = self.world.submitted();
        let newest = self.world.newest().timestamp.0;
        if !records.is_empty() {
            self.world.decide(newest + 100, records);
        }
        let timestamp = self.world.next(self.world.engine.head);
        if timestamp * 1_000 > newest + LEAD_MS + 100 {
            let items = self.world.fill(timestamp, self.rng.below(4));
            for bytes in items.iter().filter(|_| self.rng.below(5) == 0) {
                self.world.engine.refused.insert(keccak256(bytes), Refusal::Execution);
            }
        } else {
            self.world.decide(newest + 250, Vec::new());
        }
    }

    /// op-node goes back by some blocks.
    fn back(&mut self) {
        let blocks = self.world.canonical();
        let depth = 1 + self.rng.below(3);
        let Some(block) = blocks.iter().rev().nth(depth) else { return };
        let heads = serde_json::json!([self.world.heads(block.hash), null]);
        let call = self.world.call("engine_forkchoiceUpdatedV3", heads);
        self.open.push(call);
    }

    /// The sidecar is killed: what it was asked is never answered.
    fn restart(&mut self) {
        self.open.clear();
        self.starts.clear();
        self.fetches.clear();
        self.job = None;
        let disk = match self.rng.below(3) {
            0 => Kept::default(),
            1 => self.disks[self.rng.below(self.disks.len())].clone(),
            _ => self.world.kept(),
        };
        let (heads, brought) = match self.rng.below(2) {
            0 => (None, Vec::new()),
            _ => (self.world.wanted.clone(), self.world.payloads.clone()),
        };
        self.world.restart(Before { kept: disk, heads, brought, safe: None });
    }

    /// The engine loses its newest blocks.
    fn lose(&mut self) {
        let number = self.world.canonical().len() as u64;
        let known = number.saturating_sub(self.rng.next() % 3);
        match self.rng.below(2) {
            0 => self.world.engine.restart(known),
            // It is away for a moment, at least.
            _ => {
                self.world.engine.crash(known.saturating_sub(self.rng.next() % 6), known);
                self.world.step(Input::EngineAway);
            }
        }
    }

    /// What op-node has been answered, and what the session knows now.
    fn look(&mut self) {
        let world = &self.world;
        for call in &self.starts {
            let id = world.answer(*call).map(|answer| answer["result"]["payloadId"].clone());
            if let Some(id) = id.filter(Value::is_string) {
                self.job = Some(id);
            }
        }
        for call in &self.fetches {
            let envelope = world.answer(*call).map(|answer| answer["result"].clone());
            if let Some(envelope) = envelope.filter(Value::is_object) {
                self.envelope = Some(envelope);
            }
        }
        let is_open = |call: &CallId| world.answer(*call).is_none();
        self.starts.retain(is_open);
        self.fetches.retain(is_open);
        self.open.retain(is_open);
        let head = world.engine.head;
        if let Some(known) = world.session.known(&head).filter(|it| it.found.until.is_none()) {
            self.said.insert(head, known.found.begin.clone());
        }
    }

    /// Everything goes on until nothing is open.
    fn finish(&mut self) {
        self.is_silent = false;
        self.world.is_away = false;
        for _ in 0..200 {
            self.world.settle();
            self.log();
            self.world.pass(600);
            self.world.settle();
            self.look();
        }
        assert!(self.open.is_empty(), "no answer: {:?}", self.open);
        // Beyond any record's time.
        let newest = self.world.newest().timestamp.0;
        self.world.decide(newest + 200_000, Vec::new());
    }

    fn check(&mut self) {
        for call in &self.sequencing {
            let Some(answer) = self.world.answer(*call) else { continue };
            let status = &answer["result"]["payloadStatus"]["status"];
            assert_ne!(status, "INVALID", "{answer}");
            assert_ne!(answer["error"]["code"], -38003, "{answer}");
        }
        let blocks = self.world.canonical();
        let mut reader = reader();
        // From the join on by content and mode alone, which needs nobody's cursors.
        let mut begin = cold(&self.world, &mut reader, &blocks, genesis(&self.world).hash);
        for block in &blocks {
            let slices = self.world.log.iter().map(|it| &it.slice);
            let judged = reader.judge(view(&self.world), block.clone(), begin, slices).unwrap();
            assert!(!matches!(judged.kind, Kind::Foreign { .. }), "{judged:?}");
            begin = judged.found.unwrap().begin;
            let cold = cold(&self.world, &mut reader, &blocks, block.hash);
            assert_eq!(cold, begin, "who begins anywhere, at block {}", block.number);
            if let Some(said) = self.said.get(&block.hash) {
                assert_eq!(said, &begin, "block {}", block.number);
            }
            if let Some(recorded) = self.world.book.sealed(&block.hash) {
                assert_eq!(recorded.sealed.begin(), begin, "the record of block {}", block.number);
            }
        }
    }
}

fn reader() -> Reader {
    Reader::new(Rules { lead_ms: LEAD_MS, joins_at: START + 1 })
}

fn view(world: &World) -> LogView<'_> {
    LogView { book: &world.book, newest: world.newest().timestamp }
}

/// Where the offers of a block's children begin, as somebody finds who has the log and the blocks alone.
fn cold(world: &World, reader: &mut Reader, blocks: &[L2Block], hash: B256) -> Begin {
    let log = view(world);
    let block = |hash: B256| blocks.iter().find(|block| block.hash == hash);
    let mut walk = Walk::new(hash);
    loop {
        match walk.next(reader, log).unwrap() {
            Next::Found(found) => return found.begin,
            Next::Need(Need::Header(hash)) => {
                let header = block(hash).map(L2Block::header).unwrap_or_else(|| genesis(world));
                walk.take_header(reader, log, Some(header)).unwrap();
            }
            Next::Need(Need::Block(header)) => {
                walk.take_block(block(header.hash).cloned()).unwrap();
            }
            Next::Need(Need::HeightAfter(time)) => {
                let first = world.log.iter().find(|it| it.slice.timestamp > time).unwrap();
                walk.take_height(first.slice.height);
            }
            Next::Need(Need::Log { .. }) => {
                let slices: Vec<_> = world.log.iter().map(|it| &it.slice).collect();
                walk.take_log(reader, log, slices).unwrap();
            }
            Next::Need(Need::Limits(_)) => panic!("all limits are known"),
        }
    }
}

fn genesis(world: &World) -> lockstep_core::cursor::L2Header {
    let (hash, block) = world.engine.blocks.iter().find(|(_, it)| it.number == 0).unwrap();
    let (parent, timestamp) = (block.parent, block.timestamp);
    lockstep_core::cursor::L2Header { number: 0, hash: *hash, parent, timestamp, gas_limit: 0 }
}

fn run(seed: u64) -> (usize, usize) {
    let mut schedule = Schedule::new(seed);
    for _ in 0..STEPS {
        schedule.step();
    }
    schedule.finish();
    schedule.check();
    let blocks = schedule.world.canonical();
    let closed = |block: &&L2Block| {
        let recorded = schedule.world.book.sealed(&block.hash);
        recorded.is_some_and(|it| it.sealed.mode == SealMode::Closed)
    };
    (blocks.len(), blocks.iter().filter(closed).count())
}

#[test]
fn whatever_happens_calls_are_answered_and_cursors_are_what_a_cold_reader_finds() {
    let (mut blocks, mut closed) = (0, 0);
    for seed in 0..600 {
        let ran = std::panic::catch_unwind(|| run(seed));
        let (more_blocks, more_closed) = ran.unwrap_or_else(|_| panic!("seed {seed}"));
        blocks += more_blocks;
        closed += more_closed;
    }
    assert!(blocks > 4_000, "schedules make blocks: {blocks}");
    assert!(closed > 100, "some of them closed: {closed}");
}
