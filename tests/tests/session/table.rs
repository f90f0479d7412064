//! Each call of op-node in each state of a job.

use std::sync::Arc;

use alloy_primitives::{B256, Bytes, keccak256};
use lockstep_core::record::{RecordBody, SealMode};
use lockstep_core::slice::Content;
use lockstep_core::types::ChainId;
use lockstep_core::window::{Offered, Place};
use lockstep_sidecar::config::{Role, WhenSilent};
use lockstep_sidecar::precheck::{self, Fees};
use lockstep_sidecar::session::effect::{CallId, EngineCall, Note, Question};
use lockstep_sidecar::session::error::JobError;
use lockstep_tests::scripted_engine::Refusal;
use serde_json::{Value, json};

use crate::world::{LEAD_MS, START, World, users};

/// How far the job for block 2 is, on block 1.
#[derive(Clone, Copy, Debug)]
enum State {
    None,
    /// Its window is open.
    Waiting,
    /// The engine was told to build it.
    Building,
    Built,
    /// The engine refuses what op-node itself wants.
    Failed,
    /// op-node went back to block 0.
    Left,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Heads,
    SameJob,
    OtherJob,
    Derive,
    Leave,
    Fetch,
    FetchUnknown,
    Bring,
}

const STATES: [State; 6] =
    [State::None, State::Waiting, State::Building, State::Built, State::Failed, State::Left];

/// By the states in their order.
const TABLE: [(Act, [&str; 6]); 8] = [
    (Act::Heads, ["heads", "heads", "held", "heads", "heads", "heads"]),
    (Act::SameJob, ["job", "same", "held", "same", "same", "same"]),
    (Act::OtherJob, ["job", "job", "held", "job", "job", "job"]),
    // The engine's own answer, whatever it is.
    (Act::Derive, ["engine", "engine", "held", "engine", "-38003", "engine"]),
    (Act::Leave, ["heads", "heads", "held", "heads", "heads", "heads"]),
    (Act::Fetch, ["-38001", "held", "held", "block", "-32000", "-38001"]),
    (Act::FetchUnknown, ["-38001", "-38001", "-38001", "-38001", "-38001", "-38001"]),
    (Act::Bring, ["VALID", "VALID", "VALID", "VALID", "VALID", "VALID"]),
];

struct Cell {
    world: World,
    genesis: B256,
    head: B256,
    job: Value,
}

/// Answers all questions but builds.
fn settle_but_builds(world: &mut World) {
    let is_build =
        |question: &Question| matches!(question, Question::Call(EngineCall::Build { .. }));
    while let Some(place) = world.asked.iter().position(|(_, question)| !is_build(question)) {
        world.reply(place);
    }
}

impl Cell {
    fn of(state: State) -> Self {
        let mut world = World::new();
        let genesis = world.engine.head;
        world.fill(START + 1, 1);
        world.block_on_head();
        let head = world.engine.head;
        let mut cell = Self { world, genesis, head, job: json!("0x0102030405060708") };
        let world = &mut cell.world;
        if matches!(state, State::Failed) {
            let attributes = world.attributes(START + 2);
            let deposit = serde_json::from_value::<alloy_primitives::Bytes>(
                attributes["transactions"][0].clone(),
            );
            world.engine.refused.insert(keccak256(deposit.unwrap()), Refusal::Execution);
        }
        if matches!(state, State::None) {
            return cell;
        }
        let call = world.start_job(head);
        world.settle();
        cell.job = world.answers[&call]["result"]["payloadId"].clone();
        match state {
            State::None | State::Waiting => {}
            State::Building => {
                world.fill(START + 2, 2);
                settle_but_builds(world);
            }
            State::Built | State::Failed => {
                world.fill(START + 2, 2);
                world.settle();
            }
            State::Left => {
                let heads = json!([world.heads(genesis), null]);
                world.call("engine_forkchoiceUpdatedV3", heads);
                world.settle();
            }
        }
        cell
    }

    fn act(&mut self, act: Act) -> CallId {
        let (head, genesis) = (self.head, self.genesis);
        let world = &mut self.world;
        let update = |world: &mut World, head, attributes: Value| {
            world.call("engine_forkchoiceUpdatedV3", json!([world.heads(head), attributes]))
        };
        match act {
            Act::Heads => update(world, head, Value::Null),
            Act::Leave => update(world, genesis, Value::Null),
            Act::SameJob => world.start_job(head),
            Act::OtherJob => {
                world.entropy = 0xe1;
                world.start_job(head)
            }
            Act::Derive => {
                let mut attributes = world.attributes(START + 2);
                attributes["noTxPool"] = json!(true);
                update(world, head, attributes)
            }
            Act::Fetch => world.get_payload(&self.job),
            Act::FetchUnknown => world.get_payload(&json!("0x1111111111111111")),
            Act::Bring => {
                let mut attributes = world.attributes(START + 3);
                attributes["noTxPool"] = json!(true);
                let params = json!([world.heads(head), attributes]);
                let built = world.engine.call("engine_forkchoiceUpdatedV3", &params).unwrap();
                let payload =
                    world.engine.call("engine_getPayloadV4", &json!([built["payloadId"]])).unwrap()
                        ["executionPayload"]
                        .clone();
                let mut payload = payload;
                payload.as_object_mut().unwrap().remove("slotNumber");
                world.call("engine_newPayloadV4", json!([payload, [], B256::ZERO, []]))
            }
        }
    }

    fn shown(&self, call: CallId) -> String {
        let Some(answer) = self.world.answer(call) else { return "held".to_owned() };
        if let Some(code) = answer["error"]["code"].as_i64() {
            return code.to_string();
        }
        let result = &answer["result"];
        match &result["payloadId"] {
            id if *id == self.job => "same".to_owned(),
            Value::String(id) if id.starts_with("0x03") => "engine".to_owned(),
            Value::String(_) => "job".to_owned(),
            _ if result["executionPayload"].is_object() => "block".to_owned(),
            _ if result["payloadStatus"].is_object() => "heads".to_owned(),
            _ => result["status"].as_str().unwrap_or("?").to_owned(),
        }
    }
}

#[test]
fn each_call_in_each_state_is_answered_as_the_table_says() {
    for (act, row) in TABLE {
        for (state, expected) in STATES.into_iter().zip(row) {
            let mut cell = Cell::of(state);
            let call = cell.act(act);
            settle_but_builds(&mut cell.world);
            assert_eq!(cell.shown(call), expected, "{act:?} while the job is {state:?}");
        }
    }
}

#[test]
fn what_is_held_is_answered_once_the_engine_has_built_or_time_is_up() {
    for (act, expected) in [(Act::Heads, "heads"), (Act::SameJob, "same"), (Act::Fetch, "block")] {
        let mut cell = Cell::of(State::Building);
        let call = cell.act(act);
        settle_but_builds(&mut cell.world);
        assert_eq!(cell.shown(call), "held", "{act:?}");
        cell.world.settle();
        assert_eq!(cell.shown(call), expected, "{act:?}");
    }
    // The engine does not answer the build: op-node's call overtakes it, and no block is there in time.
    for (act, expected) in [(Act::Heads, "heads"), (Act::Leave, "heads"), (Act::Fetch, "-32000")] {
        let mut cell = Cell::of(State::Building);
        let call = cell.act(act);
        cell.world.pass(2_001);
        settle_but_builds(&mut cell.world);
        assert_eq!(cell.shown(call), expected, "{act:?}");
    }
}

#[test]
fn one_job_at_a_time_calls_the_engine_with_heads() {
    let mut cell = Cell::of(State::Building);
    cell.act(Act::Leave);
    let builds = |world: &World| {
        let is_build =
            |question: &Question| matches!(question, Question::Call(EngineCall::Build { .. }));
        world.asked.iter().filter(|(_, question)| is_build(question)).count()
    };
    assert_eq!(builds(&cell.world), 1);
    // The job's parent is no longer the head when its turn ends, so its next call never comes.
    cell.world.settle();
    assert_eq!(builds(&cell.world), 0);
    assert_eq!(cell.world.engine.head, cell.genesis);
}

/// The record of a block goes to the log once op-node brings the block back, and not before.
#[test]
fn a_block_is_recorded_when_op_node_brings_it_back() {
    let mut cell = Cell::of(State::Built);
    cell.world.records.clear();
    let call = cell.act(Act::Fetch);
    cell.world.settle();
    assert!(cell.world.records.is_empty());
    let envelope = cell.world.answers[&call]["result"].clone();
    assert_eq!(users(&envelope).len(), 2);
    cell.world.adopt(&envelope);
    cell.world.settle();
    let [RecordBody::Sealed(sealed)] = &cell.world.records[..] else {
        panic!("{:?}", cell.world.records)
    };
    assert_eq!((sealed.number, sealed.mode), (2, SealMode::Offered));
}

/// Before a block of deposits only is handed out, it is on disk that it is closed; a sidecar that forgot it would take it for
/// one whose every item was bad.
#[test]
fn a_closed_block_is_on_disk_before_op_node_gets_it() {
    let mut world = World::of(Role::Sequencing, WhenSilent::DepositsOnly);
    world.fill(START + 1, 1);
    world.block_on_head();
    let job = world.start_job(world.engine.head);
    world.settle();
    let id = world.answers[&job]["result"]["payloadId"].clone();
    world.pass(5_000);
    let fetch = world.get_payload(&id);
    while !matches!(&world.asked[..], [(_, Question::Keep)]) {
        world.reply(0);
    }
    assert_eq!(world.answer(fetch), None, "it is not on disk yet");
    assert!(world.disk.closed.is_empty());
    world.settle();
    assert_eq!(world.disk.closed.len(), 1);
    let envelope = world.answers[&fetch]["result"].clone();
    assert!(users(&envelope).is_empty());
}

/// A block that was sealed closed, lost by the engine, and built again to the same hash from an offer whose every item is bad:
/// its record says closed, so that is what it is.
#[test]
fn a_closed_block_that_is_built_again_from_an_offer_stays_closed() {
    let mut world = World::of(Role::Sequencing, WhenSilent::DepositsOnly);
    world.fill(START + 1, 1);
    world.block_on_head();
    let head = world.engine.head;
    world.pass(5_000);
    world.block_on_head();
    let closed = world.engine.head;
    let items = world.fill(START + 2, 1);
    world.engine.refused.insert(keccak256(&items[0]), Refusal::Execution);
    world.pass(600);
    world.settle();
    let modes = |world: &World| -> Vec<_> {
        let sealed = world.records.iter().filter_map(|body| match body {
            RecordBody::Sealed(sealed) => Some((sealed.number, sealed.mode)),
            _ => None,
        });
        sealed.filter(|(number, _)| *number == 2).collect()
    };
    assert_eq!(modes(&world), [(2, SealMode::Closed)]);
    world.engine.restart(1);
    world.call("engine_forkchoiceUpdatedV3", json!([world.heads(head), null]));
    world.settle();
    world.block_on_head();
    assert_eq!(world.engine.head, closed, "the same block");
    assert!(modes(&world).iter().all(|it| *it == (2, SealMode::Closed)), "{:?}", modes(&world));
    let begin = |hash| world.session.known(&hash).expect("its cursor").found.begin.cursor;
    assert_eq!(begin(closed), begin(head), "what it was offered is not passed over");
}

/// Long silences cost the engine nothing: one look at a time, however many blocks wait for their records.
#[test]
fn a_long_silence_costs_no_more_questions_per_block() {
    let mut world = World::of(Role::Sequencing, WhenSilent::DepositsOnly);
    world.fill(START + 1, 1);
    world.block_on_head();
    world.pass(5_000);
    let mut asked = Vec::new();
    for _ in 0..200 {
        let before = world.questions;
        world.block_on_head();
        world.pass(1_000);
        world.settle();
        asked.push(world.questions - before);
    }
    assert!(asked[199] <= asked[5] + 2, "{asked:?}");
    // The log goes on, and every block gets its record.
    world.records.clear();
    let end = world.time_ms + LEAD_MS;
    world.decide(end, Vec::new());
    world.settle();
    for _ in 0..400 {
        world.pass(500);
        world.settle();
    }
    assert_eq!(world.records.len(), 200);
}

/// An engine that was killed comes up without its newest blocks: it has them again before op-node is told that it lacks them,
/// whatever op-node asks first.
#[test]
fn an_engine_that_lost_its_newest_blocks_is_given_them_back() {
    for lost in [1, 2, 5] {
        for act in ["heads", "job", "payload"] {
            let mut world = World::new();
            for number in 1..=6 {
                world.fill(START + number, 2);
                world.block_on_head();
            }
            let head = world.engine.head;
            let chain = world.canonical();
            let next = {
                let mut attributes = world.attributes(START + 7);
                attributes["noTxPool"] = json!(true);
                let params = json!([world.heads(head), attributes]);
                let built = world.engine.call("engine_forkchoiceUpdatedV3", &params).unwrap();
                let id = json!([built["payloadId"]]);
                world.engine.call("engine_getPayloadV4", &id).unwrap()["executionPayload"].clone()
            };
            world.engine.restart(6 - lost);
            let call = match act {
                "heads" => {
                    let heads = json!([world.heads(head), null]);
                    world.call("engine_forkchoiceUpdatedV3", heads)
                }
                "job" => {
                    let params = json!([world.heads(head), world.attributes(START + 7)]);
                    world.call("engine_forkchoiceUpdatedV3", params)
                }
                _ => {
                    let mut payload = next;
                    payload.as_object_mut().unwrap().remove("slotNumber");
                    world.call("engine_newPayloadV4", json!([payload, [], B256::ZERO, []]))
                }
            };
            world.settle();
            let result = &world.answers[&call]["result"];
            let status = match act {
                "payload" => &result["status"],
                _ => &result["payloadStatus"]["status"],
            };
            assert_eq!(status, "VALID", "{act} after {lost} blocks were lost: {result}");
            let params = json!([world.heads(head), null]);
            world.call("engine_forkchoiceUpdatedV3", params);
            world.settle();
            assert_eq!(world.canonical(), chain, "{act}");
        }
    }
}

/// What was never brought through here can't be given back: op-node is told what the engine says.
#[test]
fn an_engine_that_lacks_what_nobody_brought_is_not_asked_twice() {
    let mut cell = Cell::of(State::None);
    let heads = json!([cell.world.heads(B256::repeat_byte(9)), null]);
    let before = cell.world.questions;
    let call = cell.world.call("engine_forkchoiceUpdatedV3", heads);
    cell.world.settle();
    let status = &cell.world.answers[&call]["result"]["payloadStatus"]["status"];
    assert_eq!((status, cell.world.questions - before), (&json!("SYNCING"), 1));
}

/// An engine that begins from nothing lacks more than is kept: that is found out once, and not with each of op-node's calls.
#[test]
fn an_engine_that_lost_more_than_is_kept_is_tried_once() {
    let mut world = World::new();
    for number in 1..=6 {
        world.fill(START + number, 1);
        world.block_on_head();
    }
    let head = world.engine.head;
    world.engine = lockstep_tests::scripted_engine::chain::Chain::new(
        lockstep_tests::scripted_engine::EngineKind::OpGeth,
        START + 1_000,
        30_000_000,
    );
    let mut counts = Vec::new();
    for _ in 0..3 {
        let before = world.questions;
        let heads = json!([world.heads(head), null]);
        let call = world.call("engine_forkchoiceUpdatedV3", heads);
        world.settle();
        assert_eq!(world.answers[&call]["result"]["payloadStatus"]["status"], "SYNCING");
        counts.push(world.questions - before);
    }
    // The call, the heads, six payloads, their first parent as the head, the heads, the call again; then the call alone.
    assert_eq!(counts, [11, 1, 1]);
}

/// Else it would wait for its window, and for its turn, in the way of the next one.
#[test]
fn a_job_whose_parent_is_left_ends_at_once() {
    let cell = Cell::of(State::Left);
    let is_end = |note: &Note| matches!(note, Note::JobEnded { reason: JobError::NotHead(_), .. });
    assert!(cell.world.notes.iter().any(is_end), "{:?}", cell.world.notes);
}

/// Whoever fills a window with more than that does not switch the pre-check off.
#[test]
fn of_a_large_offer_the_first_two_thousand_transactions_are_read() {
    let mut world = World::new();
    let transfers = world.transfers(2_001);
    let content = |bytes: &Bytes| Content::Transaction { bytes: bytes.clone() };
    world.decide(START * 1_000 + 100, transfers.iter().map(content).collect());
    let slice = &world.log.last().unwrap().slice;
    let items = slice.items.iter().map(|item| Offered {
        place: Place { height: slice.height, item: item.item.index },
        item: Arc::clone(item),
    });
    let items: Vec<Offered> = items.collect();
    let facts = precheck::facts(ChainId(901), &items, Fees::of(&[]));
    assert_eq!(facts.iter().position(Option::is_none), Some(2_000));
}
