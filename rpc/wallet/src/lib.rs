#![doc = include_str!("../README.md")]

pub mod limits;

mod metrics;
mod port;

mod gate;
mod listener;
mod server;
mod socket;

mod overlay;
mod pool;
mod refused;
mod transaction;

mod engine;

#[cfg(test)]
mod fixtures;

pub use gate::is_reading;
pub use metrics::WalletMetrics;
pub use port::{Config, Handle, ServeError, serve, serve_to};
