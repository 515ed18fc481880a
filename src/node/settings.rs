//! What a node is told at its start.

use std::time::Duration;

use crate::model::{Address, Mode, NodeId};

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
    /// The timers.
    pub timing: Timing,
    /// How far ahead of the wall clock a stamp may be and still move the hybrid clock.
    pub clock_drift_max: Duration,
    /// How many bytes of entries a peer may have under way to this node on one stream.
    pub stream_credit: u32,
}

/// How often a node does what it does by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two probes; each goes to the next member of a shuffled round.
    pub probe_interval: Duration,
    /// How long a suspect has to answer.
    pub suspect_timeout: Duration,
    /// Shortest time between two exchanges of the whole member table.
    pub gossip_interval_min: Duration,
    /// Longest time between two exchanges of the whole member table.
    pub gossip_interval_max: Duration,
    /// Between two checks of the summary with a random peer.
    pub sync_interval: Duration,
    /// Between two checks with a peer that is ahead while no stream from it runs.
    pub catchup_interval: Duration,
    /// First wait after a failed stream or join; doubles up to `retry_max`.
    pub retry_min: Duration,
    /// Longest wait after a failed stream or join.
    pub retry_max: Duration,
    /// How long a stream or a join may be silent before it counts as failed.
    pub silence_max: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            probe_interval: Duration::from_millis(500),
            suspect_timeout: Duration::from_millis(2500),
            gossip_interval_min: Duration::from_secs(60),
            gossip_interval_max: Duration::from_secs(120),
            sync_interval: Duration::from_secs(300),
            catchup_interval: Duration::from_secs(120),
            retry_min: Duration::from_millis(250),
            retry_max: Duration::from_secs(30),
            silence_max: Duration::from_secs(2),
        }
    }
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
            timing: Timing::default(),
            clock_drift_max: Duration::from_secs(60),
            stream_credit: 1 << 20,
        }
    }
}
