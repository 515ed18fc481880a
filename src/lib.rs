//! Reknit: a leaderless, eventually consistent key-value store that is proven by deterministic simulation.
//!
//! The modules stand in reading order, and each uses only what stands before it; `tests/layers.rs` sees to
//! that. Everything before [`driver`] is pure: time, dice and disk come in as arguments.

pub mod model;
pub mod mutants;
pub mod storage;
pub mod protocol;
pub mod node;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod driver;
pub mod api;
pub mod config;
pub mod client;
