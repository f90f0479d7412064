#![doc = include_str!("../README.md")]

pub mod config;
pub mod limits;

pub mod feed;
pub mod keeper;
pub mod payloads;
pub mod records;
pub mod state_file;

pub mod build;
pub mod failing;
pub mod precheck;
pub mod proxy;
pub mod safe_head;
pub mod session;
pub mod trial;

pub mod health;
pub mod http;
pub mod metrics;
pub mod server;
pub mod sidecar;
