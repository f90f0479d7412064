//! An engine that was away comes back with an older head: op-node hears of none but its own.

use alloy_primitives::B256;
use lockstep_sidecar::session::effect::{CallId, Kept};
use lockstep_sidecar::session::state::Before;
use serde_json::{Value, json};

use super::world::{START, World};

/// A chain of six blocks.
fn chain() -> World {
    let mut world = World::new();
    for number in 1..=6 {
        world.fill(START + number, 2);
        world.block_on_head();
    }
    world
}

fn number(world: &World, call: CallId) -> Value {
    world.answers[&call]["result"]["number"].clone()
}

#[test]
fn what_op_node_asks_first_waits_until_the_heads_are_its_own_again() {
    for lost in [1, 5] {
        let mut world = chain();
        let (head, chain) = (world.engine.head, world.canonical());
        world.is_away = true;
        let heads = json!([world.heads(head), null]);
        let first = world.call("engine_forkchoiceUpdatedV3", heads);
        world.settle();
        assert_eq!(world.answers[&first], json!({ "away": 502 }));
        // As long as it is away, what waits is told so: behind that nothing may have been let through.
        let second = world.ask_latest();
        world.settle();
        assert_eq!(world.answers[&second], json!({ "away": 502 }));
        world.is_away = false;
        world.engine.restart(6 - lost);
        let third = world.ask_latest();
        world.settle();
        assert_eq!(number(&world, third), "0x6", "after {lost} blocks were lost");
        assert_eq!(world.canonical(), chain);
        // From then on a call costs one question again.
        let before = world.questions;
        world.ask_latest();
        world.settle();
        assert_eq!(world.questions - before, 1);
    }
}

/// As op-geth under the path scheme: it knows blocks without their states, and says `VALID` to them.
#[test]
fn an_engine_that_lost_states_makes_them_again() {
    for (head, known) in [(0, 6), (0, 4), (3, 5), (5, 6), (6, 6)] {
        let mut world = chain();
        let chain = world.canonical();
        world.is_away = true;
        world.ask_latest();
        world.settle();
        world.is_away = false;
        world.engine.crash(head, known);
        let call = world.ask_latest();
        world.settle();
        assert_eq!(number(&world, call), "0x6", "{head} of {known}");
        assert_eq!(world.canonical(), chain, "{head} of {known}");
        // And goes on.
        world.fill(START + 7, 2);
        world.block_on_head();
        assert_eq!(world.canonical().len(), 7, "{head} of {known}");
    }
}

/// The whole machine crashed: all that is known is on disk.
#[test]
fn a_sidecar_that_starts_beside_an_engine_that_lost_blocks_gives_them_back() {
    for lost in [0, 1, 5] {
        let mut world = chain();
        let chain = world.canonical();
        let (heads, brought) = (world.wanted.clone(), world.payloads.clone());
        world.engine.restart(6 - lost);
        world.restart(Before { heads, brought, ..Before::default() });
        let call = world.ask_latest();
        world.settle();
        assert_eq!(number(&world, call), "0x6", "after {lost} blocks were lost");
        assert_eq!(world.canonical(), chain);
    }
}

/// What is on disk may be some blocks old, and the engine need not have lost any.
#[test]
fn a_sidecar_that_starts_never_moves_the_head_back() {
    let mut world = chain();
    let (heads, brought) = (world.wanted.clone(), world.payloads.clone());
    world.fill(START + 7, 2);
    world.block_on_head();
    let chain = world.canonical();
    world.restart(Before { heads, brought, kept: Kept::default(), safe: None });
    let call = world.ask_latest();
    world.settle();
    assert_eq!((number(&world, call), world.canonical()), (json!("0x7"), chain));
}

/// An engine with an opinion of its own is op-node's to hear: it is not asked for ever.
#[test]
fn an_engine_that_cannot_be_given_its_blocks_back_is_let_through() {
    let mut world = chain();
    let heads = json!([world.heads(B256::repeat_byte(9)), null]);
    world.call("engine_forkchoiceUpdatedV3", heads);
    world.settle();
    world.is_away = true;
    world.ask_latest();
    world.settle();
    world.is_away = false;
    // The heads, and the call; then the call alone.
    for questions in [2, 1] {
        let before = world.questions;
        let call = world.ask_latest();
        world.settle();
        assert_eq!(number(&world, call), "0x6");
        assert_eq!(world.questions - before, questions);
    }
}
