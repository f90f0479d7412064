#![doc = include_str!("../README.md")]

mod actor;
mod actors;
mod app;
mod codec;
mod config;
mod context;
mod failure;
mod gate;
mod handle;
mod hub;
mod inbox;
mod locks;
mod network;
mod outbox;
mod quota;
mod reader;
pub mod replica;
mod request;
mod signing;
mod start;
mod wal;
mod wire;

pub use config::{Config, Mode, SYNC_HEIGHTS_MAX, SyncOptions};
pub use failure::Failure;
pub use gate::Peers;
pub use handle::{EngineHandle, PublishError, StopError};
pub use inbox::ProposalTicket;
pub use network::{Class, Incoming, Multiaddr, Outgoing, PeerId, Transport};
pub use outbox::Counters;
pub use request::{
    Evidence, FirstPart, PartContent, PartMessage, ProposedBlock, Request, STREAM_ID_BYTES_MAX,
    StartHeight, StreamId, SyncOutcome, Timeouts,
};
pub use signing::{ConsensusSigner, SignError};
pub use start::{StartError, start};
pub use wal::{OwnMessage, WalError, WalReport, inspect_wal};
