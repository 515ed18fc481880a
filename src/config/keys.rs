//! The keys of the configuration, one row each: what a key is called, what it means, how it is read and shown.
//!
//! The file, the variables, the flags, `--help` and `--print-config` are all made from this table.

use super::values::{self, duration, duration_text, seconds_or_duration};
use super::{Config, ConfigError, Draft, Given};
use crate::model::{Address, NodeId, Policies};
use crate::node::settings::CollisionRule;

/// One key.
pub struct Key {
    /// Its name in the file; `REKNIT_` and the name in capitals as a variable, with dashes as a flag.
    pub name: &'static str,
    /// What it means, with its unit.
    pub about: &'static str,
    /// Whether it takes a list: in the file a sequence, elsewhere separated by commas.
    pub list: bool,
    /// Other keys that it sets.
    pub(super) sets: &'static [&'static str],
    pub(super) set: fn(&mut Draft, &Given) -> Result<(), ConfigError>,
    /// `None` for a secret, and for a key that is nothing of its own.
    pub(super) show: fn(&Config) -> Option<String>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The key whose items may be mappings in a file.
pub(super) const POLICIES: &str = "policies";
/// Shortest period of a timer: below it a node would do little else.
const PERIOD_MIN: &str = "10ms";
/// Longest period of a timer: beyond it the timer is not meant.
const PERIOD_MAX: &str = "8760h";

/// The keys, in the order of the seeds' file, the additions beside their kin. A layer is applied in this order.
pub const KEYS: &[Key] = &[
    Key {
        name: "node_id",
        about: "Unique name of this node; `hostname`, the default, means the host's name",
        list: false,
        sets: &[],
        set: |draft, given| {
            draft.node_id = given.one(|text| match text {
                "hostname" => Ok(None),
                name => NodeId::new(name).map(Some).map_err(|error| error.to_string()),
            })?;
            Ok(())
        },
        show: |config| quoted(&config.node_id),
    },
    Key {
        name: "bind_address",
        about: "IP address to listen on [default: 127.0.0.1]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::ip).map(|ip| draft.config.bind_address = ip),
        show: |config| quoted(config.bind_address),
    },
    Key {
        name: "port",
        about: "Port for clients and peers [default: 8080]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::port).map(|port| draft.config.port = port),
        show: |config| Some(config.port.to_string()),
    },
    Key {
        name: "advertise_address",
        about: "host:port where peers reach this node [default: bind_address and port]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(address).map(|address| draft.advertise_address = Some(address)),
        show: |config| quoted(&config.advertise_address),
    },
    Key {
        name: "data_dir",
        about: "Directory of the database [default: ./data, or ./data/NODE_ID where node_id is set]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::path).map(|path| draft.data_dir = Some(path)),
        show: |config| quoted(config.data_dir.display()),
    },
    Key {
        name: "seed_nodes",
        about: "host:port of members to join through; none starts a cluster of one",
        list: true,
        sets: &[],
        set: |draft, given| given.each(address).map(|seeds| draft.config.seed_nodes = seeds),
        show: |config| {
            let seeds: Vec<_> = config.seed_nodes.iter().filter_map(quoted).collect();
            Some(format!("[{}]", seeds.join(", ")))
        },
    },
    Key {
        name: "cluster_secret",
        about: "Peers must know it to connect; needed for peers on other machines",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::secret).map(|secret| draft.config.cluster_secret = secret),
        show: |_| None,
    },
    Key {
        name: "insecure_peers",
        about: "Talk to peers on other machines without a secret [default: false]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::boolean).map(|yes| draft.config.insecure_peers = yes),
        show: |config| Some(config.insecure_peers.to_string()),
    },
    Key {
        name: "peer_compression",
        about: "Compress what goes to other nodes with zstd; pays on slow or metered links [default: false]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::boolean).map(|yes| draft.config.peer_compression = yes),
        show: |config| Some(config.peer_compression.to_string()),
    },
    Key {
        name: "tokens_file",
        about: "File of bearer tokens that clients must show, one `name scopes hash [prefix]` a line",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::path).map(|path| draft.config.tokens_file = Some(path)),
        show: |config| config.tokens_file.as_ref().and_then(|path| quoted(path.display())),
    },
    Key {
        name: "insecure_clients",
        about: "Listen beyond this host without tokens [default: false]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::boolean).map(|yes| draft.config.insecure_clients = yes),
        show: |config| Some(config.insecure_clients.to_string()),
    },
    Key {
        name: "tls_certificate",
        about: "PEM file of this node's certificate; with it the port speaks TLS only, and peers show each other theirs",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::path).map(|path| draft.config.tls_certificate = Some(path)),
        show: |config| config.tls_certificate.as_ref().and_then(|path| quoted(path.display())),
    },
    Key {
        name: "tls_key",
        about: "PEM file of the certificate's key",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::path).map(|path| draft.config.tls_key = Some(path)),
        show: |config| config.tls_key.as_ref().and_then(|path| quoted(path.display())),
    },
    Key {
        name: "tls_authority",
        about: "PEM file of the authority that signs the certificates of all nodes",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::path).map(|path| draft.config.tls_authority = Some(path)),
        show: |config| config.tls_authority.as_ref().and_then(|path| quoted(path.display())),
    },
    Key {
        name: "read_only",
        about: "Refuse clients' writes, take replication [default: false]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::boolean).map(|yes| draft.config.read_only = yes),
        show: |config| Some(config.read_only.to_string()),
    },
    Key {
        name: "log_level",
        about: "debug, info, warn or error (or trace) [default: info]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::log_level).map(|level| draft.config.log_level = level),
        show: |config| quoted(config.log_level),
    },
    Key {
        name: "log_format",
        about: "text or json, one line per event on standard error [default: text]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::log_format).map(|format| draft.config.log_format = format),
        show: |config| quoted(config.log_format),
    },
    Key {
        name: "gossip_interval",
        about: "Sets gossip_interval_min and gossip_interval_max",
        list: false,
        sets: &["gossip_interval_min", "gossip_interval_max"],
        set: |draft, given| {
            let interval = given.one(seconds)?;
            draft.config.gossip_interval_min = interval;
            draft.config.gossip_interval_max = interval;
            Ok(())
        },
        show: |_| None,
    },
    Key {
        name: "gossip_interval_min",
        about: "Shortest time between exchanges of the member table [seconds, default: 60s]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(seconds).map(|time| draft.config.gossip_interval_min = time),
        show: |config| Some(duration_text(config.gossip_interval_min)),
    },
    Key {
        name: "gossip_interval_max",
        about: "Longest time between exchanges of the member table [seconds, default: 120s]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(seconds).map(|time| draft.config.gossip_interval_max = time),
        show: |config| Some(duration_text(config.gossip_interval_max)),
    },
    Key {
        name: "probe_interval",
        about: "Time between two probes for dead members [default: 500ms]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(period).map(|time| draft.config.probe_interval = time),
        show: |config| Some(duration_text(config.probe_interval)),
    },
    Key {
        name: "suspect_timeout",
        about: "How long a member that missed a probe has to answer [default: 2500ms]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(period).map(|time| draft.config.suspect_timeout = time),
        show: |config| Some(duration_text(config.suspect_timeout)),
    },
    Key {
        name: "forget_after",
        about: "How long a member may be down before a majority of the others forgets it [default: 720h]",
        list: false,
        sets: &[],
        set: |draft, given| {
            given.one(|text| duration(text, "1m", "87600h")).map(|time| draft.config.forget_after = time)
        },
        show: |config| Some(duration_text(config.forget_after)),
    },
    Key {
        name: "sync_interval",
        about: "Time between two checks of the summary with a random peer [seconds, default: 300s]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(seconds).map(|time| draft.config.sync_interval = time),
        show: |config| Some(duration_text(config.sync_interval)),
    },
    Key {
        name: "catchup_interval",
        about: "Time between two checks with a peer that is ahead [seconds, default: 120s]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(seconds).map(|time| draft.config.catchup_interval = time),
        show: |config| Some(duration_text(config.catchup_interval)),
    },
    Key {
        name: "max_clock_drift",
        about: "How far ahead a stamp may be and still move this node's clock [default: 60s]",
        list: false,
        sets: &[],
        set: |draft, given| {
            given.one(|text| duration(text, "1ms", "24h")).map(|time| draft.config.max_clock_drift = time)
        },
        show: |config| Some(duration_text(config.max_clock_drift)),
    },
    Key {
        name: "collision",
        about: "Two values of one key with equal stamps: majority (the members vote on which came first) or oldest \
                (the older author wins) [default: majority]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(CollisionRule::from_word).map(|rule| draft.config.collision = rule),
        show: |config| Some(config.collision.word().to_owned()),
    },
    Key {
        name: POLICIES,
        about: "How versions are resolved, by prefix, alike on all nodes: PREFIX=POLICY[:STRATEGY], or {prefix, policy, strategy}",
        list: true,
        sets: &[],
        set: |draft, given| {
            let rules = given.each(values::policy)?;
            draft.config.policies = Policies::new(rules).map_err(|error| given.refused(error.to_string()))?;
            Ok(())
        },
        show: |config| {
            let rules: Vec<_> =
                config.policies.rules().filter_map(|rule| quoted(values::policy_text(rule))).collect();
            Some(format!("[{}]", rules.join(", ")))
        },
    },
    Key {
        name: "bootstrap_max_age_hours",
        about: "An empty node takes what is younger than this first, serves once it has that, and takes the rest afterwards; nothing is left out. 0: no order [hours, default: 720]",
        list: false,
        sets: &[],
        set: |draft, given| {
            given.one(values::hours).map(|hours| draft.config.bootstrap_max_age_hours = hours)
        },
        show: |config| Some(config.bootstrap_max_age_hours.to_string()),
    },
    Key {
        name: "throttle_delay_ms",
        about: "Pause of a sync session after a flight that brought entries [milliseconds, default: 100]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::delay_ms).map(|delay| draft.config.throttle_delay_ms = delay),
        show: |config| Some(config.throttle_delay_ms.to_string()),
    },
    Key {
        name: "fetch_delay_ms",
        about: "Pause of a sync session before it answers a wish for rows [milliseconds, default: 50]",
        list: false,
        sets: &[],
        set: |draft, given| given.one(values::delay_ms).map(|delay| draft.config.fetch_delay_ms = delay),
        show: |config| Some(config.fetch_delay_ms.to_string()),
    },
];

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// What to say of a name that is no key.
pub(super) fn hint(name: &str) -> String {
    let near = |key: &&Key| strsim::damerau_levenshtein(name, key.name);
    match KEYS.iter().min_by_key(near) {
        Some(key) if near(&key) * 3 <= key.name.len() => format!("; did you mean `{}`?", key.name),
        _ => {
            let names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
            format!("; the keys are {}", names.join(", "))
        }
    }
}

fn address(text: &str) -> Result<Address, String> {
    Address::new(text).map_err(|error| error.to_string())
}

fn seconds(text: &str) -> Result<std::time::Duration, String> {
    seconds_or_duration(text, PERIOD_MIN, PERIOD_MAX)
}

fn period(text: &str) -> Result<std::time::Duration, String> {
    duration(text, PERIOD_MIN, PERIOD_MAX)
}

/// A YAML string: JSON's quoting is part of YAML's.
fn quoted(value: impl std::fmt::Display) -> Option<String> {
    Some(serde_json::Value::String(value.to_string()).to_string())
}
