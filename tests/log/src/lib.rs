#![doc = include_str!("../README.md")]
#![expect(
    clippy::missing_panics_doc,
    reason = "a harness fails its test by a panic, wherever it is"
)]

pub mod keys;
pub mod liar;
pub mod memory;

pub use liar::Lies;
pub use memory::MemoryLog;
