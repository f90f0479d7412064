//! The lanes between validators as plain data: what is held and acknowledged, this validator's own, and the wire.
//!
//! [`crate::application`] moves them: a batch is acknowledged, pushed, or put into a cut only after it was synced.

pub(crate) mod asked;
pub mod forks;
pub mod own;
pub mod table;
pub mod wire;
