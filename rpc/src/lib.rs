#![doc = include_str!("../README.md")]

pub mod config;
pub mod connections;
pub mod health;
pub mod limits;
pub mod node;
pub mod quota;

pub mod http;
pub mod metrics;
pub mod server;

pub mod client;

pub mod outcomes;

mod ingress;
mod log;
mod places;
mod reads;
mod recent;
mod seldom;
mod streams;
mod turns;
