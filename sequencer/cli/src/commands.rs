//! The commands, one file each: arguments, work, and what is printed. They hold no rules of the protocol.

pub mod audit;
pub mod completions;
pub mod endpoint;
pub mod genesis;
pub mod init;
pub mod keys;
pub mod node;
pub mod sidecar;
pub mod slice;
pub mod status;
pub mod submit;
pub mod verify;
pub mod watch;
