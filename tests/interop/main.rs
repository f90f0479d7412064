//! The suite against the real programs: stock op-node, op-geth, op-batcher and op-conductor, anvil, four validators, sidecars.
//!
//! Each scenario is one file and one world of its own. `make interop` builds the programs and runs all of them, one after
//! the other; where the programs are missing a scenario fails and says so. What is measured is printed.

mod load;
mod run;

mod attack;
mod bundles;
mod committee_stopped;
mod conductor;
mod derivation;
mod engine_killed;
mod footprint;
mod handover;
mod invalid_items;
mod l1_reorg;
mod op_node_restart;
mod sequencing;
mod sidecar_killed;
mod throttling;
mod validator_killed;
mod verifying_replica;
mod wallet;
