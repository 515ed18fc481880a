//! How often a node does what it does by itself.

use std::time::Duration;

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
    /// How long a vote on a timestamp collision may take.
    pub vote_max: Duration,
    /// How long a member may be down before a majority of the others forgets it.
    pub forget_after: Duration,
    /// How long a tombstone is kept once every member has covered it.
    pub tombstone_grace: Duration,
    /// Between the flights of a sync session that bring entries.
    pub throttle_delay: Duration,
    /// Before a sync session answers a wish for rows.
    pub fetch_delay: Duration,
    /// Between two chunks that the scrub looks at; `None` turns it off.
    pub scrub_interval: Option<Duration>,
}

impl Timing {
    /// How long a session may be silent: the peer paces itself as this node does.
    pub fn session_silence_max(&self) -> Duration {
        self.silence_max + self.throttle_delay + self.fetch_delay + Duration::from_secs(1)
    }
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
            vote_max: Duration::from_secs(5),
            forget_after: Duration::from_secs(30 * 24 * 3600),
            tombstone_grace: Duration::from_secs(3600),
            throttle_delay: Duration::from_millis(100),
            fetch_delay: Duration::from_millis(50),
            scrub_interval: Some(Duration::from_secs(1)),
        }
    }
}
