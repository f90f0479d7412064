#![doc = include_str!("../README.md")]

pub mod limits;

mod auditor;
mod error;
mod summary;

pub mod walk;

pub mod judge;

pub mod block;
pub mod book;
pub mod bundles;
pub mod finding;

pub mod log;
pub mod rpc;
pub mod start;

pub use auditor::{Auditor, ChainSource, Config, Progress};
pub use error::AuditError;
pub use summary::{SkippedCounts, Summary};
