#![doc = include_str!("../README.md")]

pub mod clock;
pub mod config;
pub mod descriptors;
pub mod genesis;
pub mod home;
pub mod init;
pub mod keys;
pub mod node;
pub mod output;
pub mod sidecar;
pub mod stop;
pub mod telemetry;
pub mod toml_file;
pub mod verifier;
