//! One file per question of the engine, and the tasks they start.
//!
//! `handle` reads state, answers or starts a task; a task ends with a [`Done`](crate::app::Done).

pub(crate) mod decided;
pub(crate) mod finalized;
pub(crate) mod get_decided;
pub(crate) mod get_value;
pub(crate) mod judge;
pub(crate) mod process_synced;
pub(crate) mod ready;
pub(crate) mod received_part;
pub(crate) mod restream;
pub(crate) mod started_round;
