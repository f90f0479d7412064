#![doc = include_str!("../README.md")]

pub mod devnet;

pub mod world;

pub mod layout;
pub mod ports;
pub mod process;

pub mod bundles;
pub mod follow;
pub mod health;
pub mod introduction;
pub mod json_rpc;
pub mod session;
pub mod traffic;
pub mod view;

pub mod load;

pub mod bench;
