//! What a node is told at its start.

use std::time::Duration;

use super::quirks::Quirks;
use crate::model::{Address, Mode, NodeId, Policies};
pub use crate::protocol::timing::Timing;
pub use crate::protocol::vote::CollisionRule;

/// A node's settings, checked by whoever read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name of this node's place.
    pub id: NodeId,
    /// Where peers reach it.
    pub address: Address,
    /// Addresses of nodes to join through; its own among them is harmless.
    pub seeds: Vec<Address>,
    /// [`Mode::Normal`] or [`Mode::ReadOnly`].
    pub mode: Mode,
    /// The cluster's secret, empty for an open cluster; here it keys the summaries.
    pub cluster_secret: Vec<u8>,
    /// How versions are resolved, by prefix; alike on all nodes of a cluster.
    pub policies: Policies,
    /// The timers.
    pub timing: Timing,
    /// How far ahead of the wall clock a stamp may be and still move the hybrid clock.
    pub clock_drift_max: Duration,
    /// What becomes of two values of one key with equal stamps.
    pub collision: CollisionRule,
    /// What was written in so much of the time before now comes first when this node fills an empty disk, and then it
    /// serves; zero makes no difference between old and new.
    pub bootstrap_window: Duration,
    /// How many bytes of entries a peer may have under way to this node on one stream.
    pub stream_credit: u32,
    /// What it does that is allowed and rarely done; nothing in production.
    pub quirks: Quirks,
}

impl Settings {
    /// Defaults for everything but the name, the address and the seeds.
    pub fn new(id: NodeId, address: Address, seeds: Vec<Address>) -> Settings {
        Settings {
            id,
            address,
            seeds,
            mode: Mode::Normal,
            cluster_secret: Vec::new(),
            policies: Policies::default(),
            timing: Timing::default(),
            clock_drift_max: Duration::from_secs(60),
            collision: CollisionRule::Majority,
            bootstrap_window: Duration::from_secs(720 * 3600),
            stream_credit: 1 << 20,
            quirks: Quirks::default(),
        }
    }
}
