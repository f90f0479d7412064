//! A load of real signed transactions and bundles, sent by the clock.
//!
//! The generator is open-loop: what is due is given by the time alone, so a slow network cannot slow the load down, and
//! what is sent late is counted as late. Accounts hold no money: validity on a chain is never asked here.

pub mod pace;
pub mod wallet;
