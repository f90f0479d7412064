//! Engines of one small network in one process: real consensus, real logs on disk, and an application and a transport
//! that are a page each. No sockets; every wait has a deadline.

#![expect(clippy::arithmetic_side_effects, reason = "heights and places of a test are small")]

#[cfg(test)]
mod app;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod router;
#[cfg(test)]
mod scenarios;
