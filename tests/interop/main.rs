//! The suite against the real programs: stock op-node, op-geth and op-batcher, anvil, four validators, sidecars.
//!
//! Each scenario is one file and one world of its own. `make interop` builds the programs and runs all of them, one after
//! the other; where the programs are missing a scenario fails and says so. What is measured is printed.

mod load;
mod run;

mod sequencing;
mod bundles;
mod derivation;
mod op_node_restart;
mod handover;
mod sidecar_killed;
mod engine_killed;
mod footprint;
mod validator_killed;
mod committee_stopped;
mod l1_reorg;
mod invalid_items;
mod verifying_replica;
mod wallet;
