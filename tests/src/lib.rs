//! A harness for scenarios: a committee of real `lockstep` processes on loopback, and peers that lie to it.
//!
//! [`cluster::Cluster`] makes keys, genesis and options in a directory of its own, starts nodes, and ends every process
//! it started, however the test ends. Only one cluster runs at a time on a machine. Where a test fails, the directory
//! stays and its logs are named. [`attacker::Attacker`] is a peer of the mesh that holds a validator's keys;
//! [`raw::RawPeer`] writes what the mesh itself would refuse to send.
//!
//! For the sidecar there are doubles of what it stands between, in the test's own process:
//! [`scripted_engine::ScriptedEngine`] and [`scripted_log::ScriptedLog`].
//!
//! Nothing here sleeps in place of a condition: see [`wait`].

#![expect(
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a harness fails its test by a panic, wherever it is"
)]

pub mod attacker;
pub mod cluster;
pub mod entries;
pub mod landed;
pub mod load;
pub mod node;
pub mod raw;
pub mod scripted_engine;
pub mod scripted_log;
pub mod wait;
