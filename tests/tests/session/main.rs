//! The sidecar's session, stepped without a runtime: each call in each state, and random schedules.

mod reviving;
mod schedules;
mod table;
mod world;
