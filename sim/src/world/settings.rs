//! A node's settings as a scenario has them: the simulator's own timers, then the story's configuration.

use std::time::Duration;

use reknit::model::{Address, NodeId};
use reknit::node::Settings;
use reknit::node::settings::Timing;

use crate::scenario::{NodeConfig, Scenario};

/// How often a node counts a chunk again. It is most of what an idle node does, so no oftener than it must be.
pub const SCRUB_INTERVAL: Duration = Duration::from_secs(2);
/// Everybody listens here; the host is the node's name.
const PORT: u16 = 7000;

/// The settings of every node that the story may start, in the order of [`Scenario::all_nodes`].
pub fn settings(scenario: &Scenario) -> Vec<Settings> {
    let addresses: Vec<Address> = scenario.all_nodes().map(|name| address(name)).collect();
    let of = |(node, name): (usize, &String)| {
        let id = NodeId::new(name).expect("the parser checks names");
        // A node that starts later is nobody's seed: it is the one that introduces itself.
        let seeds = addresses.iter().take(scenario.nodes.len()).enumerate();
        let seeds = seeds.filter(|(other, _)| *other != node).map(|(_, seed)| seed.clone()).collect();
        let mut settings = Settings::new(id, addresses[node].clone(), seeds);
        settings.timing = timing(&scenario.config);
        if let Some(credit) = scenario.config.stream_credit {
            settings.stream_credit = credit;
        }
        if let Some(window) = scenario.config.bootstrap_window {
            settings.bootstrap_window = window;
        }
        settings.quirks.on.clone_from(&scenario.config.quirks);
        settings.policies = scenario.config.policies.clone();
        settings.collision = scenario.config.collision.unwrap_or(settings.collision);
        if let Some(drift) = scenario.config.max_clock_drift {
            settings.clock_drift_max = drift;
        }
        settings
    };
    scenario.all_nodes().enumerate().map(of).collect()
}

/// Where the node called `name` listens.
pub fn address(name: &str) -> Address {
    Address::new(&format!("{name}:{PORT}")).expect("a node's name is a host")
}

/// Timers scaled down, so that a minute holds many rounds of everything.
fn timing(config: &NodeConfig) -> Timing {
    let or = |chosen: Option<Duration>, millis| chosen.unwrap_or(Duration::from_millis(millis));
    let gossip_interval_min = or(config.gossip_interval_min, 1_000);
    Timing {
        probe_interval: or(config.probe_interval, 200),
        suspect_timeout: or(config.suspect_timeout, 1_000),
        gossip_interval_min,
        gossip_interval_max: or(config.gossip_interval_max, 2_000).max(gossip_interval_min),
        sync_interval: or(config.sync_interval, 2_000),
        catchup_interval: or(config.catchup_interval, 1_000),
        retry_min: Duration::from_millis(100),
        retry_max: Duration::from_secs(2),
        silence_max: Duration::from_secs(1),
        vote_max: Duration::from_secs(1),
        forget_after: config.forget_after.unwrap_or(Duration::from_secs(30 * 24 * 3600)),
        throttle_delay: Duration::from_millis(5),
        fetch_delay: Duration::from_millis(2),
        scrub_interval: Some(SCRUB_INTERVAL),
        tombstone_grace: or(config.tombstone_grace, 4_000),
    }
}

/// How long after the end of all faults `nodes` replicas may take to agree: every timer that may have to pass
/// first, one after the other, and one look at a peer for each doubling of the cluster and two more.
pub fn quiet_bound(timing: &Timing, nodes: usize) -> Duration {
    let nodes = u32::try_from(nodes.max(1)).unwrap_or(u32::MAX);
    let looks = 2 + nodes.next_power_of_two().ilog2();
    let look = timing.sync_interval.min(timing.catchup_interval) + timing.retry_max;
    timing.probe_interval * nodes
        + timing.suspect_timeout
        + timing.gossip_interval_max
        + timing.silence_max * 2
        + timing.scrub_interval.unwrap_or_default() * 2
        + look * looks
}
