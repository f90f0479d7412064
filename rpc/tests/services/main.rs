//! The services over loopback: a real server and real clients, a log and an ingress in memory.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a step that fails here is a test that fails"
)]

mod network;

mod caps;
mod following;
mod landing;
mod lies;
mod limits;
mod listening;
mod reading;
mod records;
mod shares;
mod sharing;
mod statuses;
mod streaming;
mod submitting;
mod times;
mod verifying;
