#![doc = include_str!("../README.md")]

pub mod store;

pub mod ledger;

pub mod checker;
pub mod lanes;
pub mod mesh;

pub mod abstention;
pub mod application;
pub mod evidence;
pub mod guard;
mod pace;
pub mod parts;
pub mod settle;
pub mod tracker;
pub mod watchers;

#[cfg(test)]
mod fixtures;

mod app;
mod bridge;
mod claims;
mod fair;
mod publish;
mod signer;

pub mod follower;
pub mod health;
pub mod ingress;
pub mod metrics;
pub mod validator;
