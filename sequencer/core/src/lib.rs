#![doc = include_str!("../README.md")]

pub mod encoding;
pub mod limits;
pub mod merkle;
pub mod params;
pub mod planted;
pub mod recent;
pub mod signing;
pub mod token_bucket;
pub mod types;
pub mod validator_set;

pub mod bundle;
pub mod entry;
pub mod record;
pub mod transaction;

pub mod batch;
pub mod certificate;
pub mod cut;
pub mod header;
pub mod state;

pub mod light_client;
pub mod proof;
pub mod slice;

pub mod cursor;
pub mod deposit;
pub mod landing;
pub mod reader;
pub mod records;
pub mod weight;
pub mod window;

pub mod admission;
pub mod block;
pub mod budget;
pub mod dedup;
pub mod lane;
pub mod proposal;
pub mod waste;
