//! The sidecar between doubles of all that it stands between: op-node, the engine, the committee. One theme per file.
//!
//! Log time and L2 time are the test's to choose: an offer depends on the log, the parent and the block alone, so hardly
//! anything here waits for a clock.

mod op_node;
mod rig;

mod access;
mod ahead;
mod answers;
mod endpoints;
mod heads;
mod health;
mod jobs;
mod judging;
mod passing;
mod shapes;
mod throttling;
mod verifying;
