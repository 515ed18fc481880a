//! Nodes stepped by hand, for tests that read like a conversation or like a story about a cluster.
//!
//! The network here is instant in order and lossy only where a test says so; models of links, disks and clocks
//! belong to the simulator.

#[cfg(test)]
pub mod arbitrary;
pub mod cluster;
mod notation;
pub mod transcript;

pub use cluster::Cluster;
pub use transcript::transcript;
