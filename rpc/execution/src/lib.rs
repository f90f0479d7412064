#![doc = include_str!("../README.md")]

pub mod limits;

pub mod client;
pub mod jwt;

pub mod blocks;
pub mod chain;

pub mod attributes;
pub mod payload;
pub mod refusal;

pub mod gas;
pub mod json_rpc;
