//! What an operator may set: read from YAML, overlaid by `REKNIT_*` variables, overlaid by flags.
//!
//! Promises that a value is checked wherever it came from, that an error says where that was (line and column in
//! a file), and that nothing is ever written. What a value means is documented in [`keys::KEYS`], one row per key.

mod keys;
mod values;
mod yaml;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::model::{Address, Mode, NodeId, Policies};
use crate::node::Settings;
use crate::node::settings::{CollisionRule, Timing};
pub use keys::{KEYS, Key};
pub use values::{LogFormat, LogLevel};

/// A node's configuration, checked. Fields are the keys of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each field is a key, and keys are documented once, in `KEYS`")]
pub struct Config {
    pub node_id: NodeId,
    pub bind_address: IpAddr,
    pub port: u16,
    pub advertise_address: Address,
    pub data_dir: PathBuf,
    pub seed_nodes: Vec<Address>,
    pub cluster_secret: String,
    pub insecure_peers: bool,
    pub peer_compression: bool,
    pub tokens_file: Option<PathBuf>,
    pub insecure_clients: bool,
    pub tls_certificate: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub tls_authority: Option<PathBuf>,
    pub read_only: bool,
    pub log_level: LogLevel,
    pub log_format: LogFormat,
    pub gossip_interval_min: Duration,
    pub gossip_interval_max: Duration,
    pub probe_interval: Duration,
    pub suspect_timeout: Duration,
    pub forget_after: Duration,
    pub sync_interval: Duration,
    pub catchup_interval: Duration,
    pub max_clock_drift: Duration,
    /// What becomes of two values of one key with equal stamps.
    pub collision: CollisionRule,
    pub policies: Policies,
    pub bootstrap_max_age_hours: u64,
    pub throttle_delay_ms: u64,
    pub fetch_delay_ms: u64,
    /// Where each key that is not at its default was set.
    origins: BTreeMap<&'static str, Origin>,
}

/// Where a value was set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// In a file.
    File {
        /// Which.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
    },
    /// In this variable.
    Variable(String),
    /// By this flag.
    Flag(String),
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}", path = .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Longer than [`Config::FILE_BYTES_MAX`].
    #[error(
        "{path} has {bytes} bytes; the limit of a configuration is {limit}",
        path = .path.display(),
        limit = Config::FILE_BYTES_MAX
    )]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// No YAML, or not a mapping of keys to values.
    #[error("{origin}: {why}{snippet}")]
    Yaml {
        /// Where.
        origin: Origin,
        /// What the parser did not understand.
        why: String,
        /// The offending line.
        snippet: String,
    },
    /// There is no such key.
    #[error("{origin}: unknown key `{name}`{hint}{snippet}")]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// What was written.
        name: String,
        /// The nearest known key, or all of them.
        hint: String,
        /// The offending line, where there is a file.
        snippet: String,
    },
    /// A key's value is none.
    #[error("{origin}: {key}: {why}{snippet}")]
    Value {
        /// Where.
        origin: Origin,
        /// Which key.
        key: &'static str,
        /// The rule it breaks.
        why: String,
        /// The offending line, where there is a file.
        snippet: String,
    },
    /// Values that are fine alone and do not go together.
    #[error("{0}")]
    Together(String),
}

/// A value as somebody wrote it, and where.
#[derive(Clone, Debug)]
struct Text {
    text: String,
    origin: Origin,
    /// The line of the file with a mark under the value.
    snippet: String,
}

/// A key as somebody set it: one text, or any number of them where the key takes a list.
#[derive(Clone, Debug)]
struct Given {
    key: &'static Key,
    /// Where the value begins.
    origin: Origin,
    texts: Vec<Text>,
}

/// A configuration in the making: `None` where the default depends on other keys.
struct Draft {
    node_id: Option<NodeId>,
    data_dir: Option<PathBuf>,
    advertise_address: Option<Address>,
    config: Config,
}

impl Config {
    /// Longest file, in bytes.
    pub const FILE_BYTES_MAX: u64 = 64 << 10;

    /// Puts a configuration together: flags win over variables, these over the file, the file over defaults.
    ///
    /// `variables` may be the whole environment; only names that begin with `REKNIT_` are looked at. `flags` are
    /// pairs of a key's name, with dashes or underscores, and its value.
    ///
    /// # Errors
    /// The first thing that is wrong, also where a later layer would have replaced it.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let mut draft = Draft::new();
        if let Some(path) = file {
            draft.apply(yaml::read(path)?)?;
        }
        draft.apply(from_variables(variables)?)?;
        draft.apply(from_flags(flags)?)?;
        draft.finish()
    }

    /// A configuration from the text of a file alone; `path` is what it is called in errors.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_text(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let mut draft = Draft::new();
        draft.apply(yaml::parse(path, text)?)?;
        draft.finish()
    }

    /// Where to listen.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.bind_address, self.port)
    }

    /// The files of certificate, key and authority, where TLS is spoken.
    pub fn tls(&self) -> Option<[&Path; 3]> {
        let paths = [&self.tls_certificate, &self.tls_key, &self.tls_authority];
        let [Some(certificate), Some(key), Some(authority)] = paths else { return None };
        Some([certificate, key, authority])
    }

    /// What the node value is told.
    pub fn settings(&self) -> Settings {
        let settings =
            Settings::new(self.node_id.clone(), self.advertise_address.clone(), self.seed_nodes.clone());
        Settings {
            mode: if self.read_only { Mode::ReadOnly } else { Mode::Normal },
            cluster_secret: self.cluster_secret.clone().into_bytes(),
            timing: Timing {
                probe_interval: self.probe_interval,
                suspect_timeout: self.suspect_timeout,
                forget_after: self.forget_after,
                gossip_interval_min: self.gossip_interval_min,
                gossip_interval_max: self.gossip_interval_max,
                sync_interval: self.sync_interval,
                catchup_interval: self.catchup_interval,
                throttle_delay: Duration::from_millis(self.throttle_delay_ms),
                fetch_delay: Duration::from_millis(self.fetch_delay_ms),
                ..settings.timing
            },
            clock_drift_max: self.max_clock_drift,
            collision: self.collision,
            bootstrap_window: Duration::from_secs(self.bootstrap_max_age_hours.saturating_mul(3600)),
            policies: self.policies.clone(),
            ..settings
        }
    }

    /// The configuration as a file that would give it again, each line saying where its value came from. The
    /// secret is not shown.
    pub fn to_yaml(&self) -> String {
        let line = |key: &Key| {
            let value = (key.show)(self)?;
            let setting = format!("{}: {value}", key.name);
            Some(format!("{setting:<40} # {}\n", self.origin(key.name)))
        };
        let mut yaml: String = KEYS.iter().filter_map(line).collect();
        if !self.cluster_secret.is_empty() {
            yaml.push_str(&format!(
                "# cluster_secret is set and not shown # {}\n",
                self.origin("cluster_secret")
            ));
        }
        yaml
    }

    /// Things that are allowed and that an operator should hear about.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.bind_address.is_unspecified() && !self.origins.contains_key("advertise_address") {
            warnings.push(format!(
                "bind_address is {}, and peers are told {}: set advertise_address so that other machines can join",
                self.bind_address, self.advertise_address
            ));
        }
        if self.insecure_clients && self.tokens_file.is_none() && !self.bind_address.is_loopback() {
            warnings.push(
                "insecure_clients is set: whoever reaches this port can read, write and delete everything"
                    .into(),
            );
        }
        if self.insecure_peers {
            warnings.push(
                "insecure_peers is set: whoever reaches this port can join the cluster without a secret"
                    .into(),
            );
        }
        warnings
    }

    fn origin(&self, key: &str) -> String {
        self.origins.get(key).map_or("default".to_owned(), Origin::to_string)
    }
}

impl Draft {
    fn new() -> Draft {
        let timing = Timing::default();
        let placeholder = "the placeholder is well formed";
        let config = Config {
            node_id: NodeId::new("localhost").expect(placeholder),
            bind_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8080,
            advertise_address: Address::new("localhost:1").expect(placeholder),
            data_dir: PathBuf::from("./data"),
            seed_nodes: Vec::new(),
            cluster_secret: String::new(),
            insecure_peers: false,
            peer_compression: false,
            tokens_file: None,
            insecure_clients: false,
            tls_certificate: None,
            tls_key: None,
            tls_authority: None,
            read_only: false,
            log_level: LogLevel::Info,
            log_format: LogFormat::Text,
            gossip_interval_min: timing.gossip_interval_min,
            gossip_interval_max: timing.gossip_interval_max,
            probe_interval: timing.probe_interval,
            suspect_timeout: timing.suspect_timeout,
            forget_after: timing.forget_after,
            sync_interval: timing.sync_interval,
            catchup_interval: timing.catchup_interval,
            max_clock_drift: Duration::from_secs(60),
            collision: CollisionRule::Majority,
            policies: Policies::default(),
            bootstrap_max_age_hours: 720,
            throttle_delay_ms: 100,
            fetch_delay_ms: 50,
            origins: BTreeMap::new(),
        };
        Draft { node_id: None, data_dir: None, advertise_address: None, config }
    }

    /// Applies one layer. Its order is the table's, so that `gossip_interval` comes before the two it sets.
    fn apply(&mut self, mut layer: Vec<Given>) -> Result<(), ConfigError> {
        layer.sort_by_key(|given| KEYS.iter().position(|key| key.name == given.key.name));
        for given in layer {
            (given.key.set)(self, &given)?;
            for name in std::iter::once(given.key.name).chain(given.key.sets.iter().copied()) {
                self.config.origins.insert(name, given.origin.clone());
            }
        }
        Ok(())
    }

    /// Fills in what depends on other keys, and checks what must go together.
    fn finish(self) -> Result<Config, ConfigError> {
        let mut config = self.config;
        let is_named = self.node_id.is_some();
        config.node_id = match self.node_id {
            Some(id) => id,
            None => host_name()?,
        };
        // Three nodes started from one directory must not share one folder, and the seeds' files give none.
        config.data_dir = match self.data_dir {
            Some(path) => path,
            None if is_named => PathBuf::from("./data").join(config.node_id.as_str()),
            None => PathBuf::from("./data"),
        };
        config.advertise_address = match self.advertise_address {
            Some(address) => address,
            None => own_address(&config)?,
        };
        check(&config)?;
        Ok(config)
    }
}

fn host_name() -> Result<NodeId, ConfigError> {
    let name = gethostname::gethostname();
    NodeId::new(&name.to_string_lossy()).map_err(|error| {
        ConfigError::Together(format!("the host name cannot be node_id ({error}): set node_id"))
    })
}

fn own_address(config: &Config) -> Result<Address, ConfigError> {
    let reachable = match config.bind_address {
        bind if !bind.is_unspecified() => config.listen(),
        bind if !config.seed_nodes.is_empty() => {
            return Err(ConfigError::Together(format!(
                "bind_address {bind} says where to listen, not where peers reach this node: \
                 set advertise_address, such as 192.168.1.10:{}",
                config.port
            )));
        }
        _ => SocketAddr::from((Ipv4Addr::LOCALHOST, config.port)),
    };
    Ok(Address::new(&reachable.to_string()).expect("a socket address with a port is an address"))
}

fn check(config: &Config) -> Result<(), ConfigError> {
    not_after(config, "gossip_interval_min", config.gossip_interval_min)(
        "gossip_interval_max",
        config.gossip_interval_max,
    )?;
    not_after(config, "probe_interval", config.probe_interval)("suspect_timeout", config.suspect_timeout)?;
    if !config.bind_address.is_loopback() && config.tokens_file.is_none() && !config.insecure_clients {
        return Err(ConfigError::Together(format!(
            "bind_address is {} ({}), where other machines reach it: set tokens_file, \
             or insecure_clients: true where everybody on the network may read and write everything",
            config.bind_address,
            config.origin("bind_address")
        )));
    }
    let tls = [&config.tls_certificate, &config.tls_key, &config.tls_authority];
    if tls.iter().any(|path| path.is_some()) && config.tls().is_none() {
        let what = "tls_certificate, tls_key and tls_authority go together: set all three, or none";
        return Err(ConfigError::Together(what.into()));
    }
    let remote = config.seed_nodes.iter().find(|seed| !may_be_this_machine(seed));
    if let Some(seed) = remote
        && config.cluster_secret.is_empty()
        && config.tls().is_none()
        && !config.insecure_peers
    {
        return Err(ConfigError::Together(format!(
            "seed_nodes ({}) names {seed}, another machine: set cluster_secret or certificates on all nodes, \
             or insecure_peers: true where the network itself is trusted",
            config.origin("seed_nodes")
        )));
    }
    Ok(())
}

fn not_after<'a>(
    config: &'a Config,
    low: &'a str,
    low_value: Duration,
) -> impl Fn(&'a str, Duration) -> Result<(), ConfigError> {
    move |high, high_value| {
        if low_value <= high_value {
            return Ok(());
        }
        Err(ConfigError::Together(format!(
            "{low} is {} ({}) and {high} is {} ({}): the first must not be longer",
            values::duration_text(low_value),
            config.origin(low),
            values::duration_text(high_value),
            config.origin(high),
        )))
    }
}

/// Whether an address may be on this machine. A name that is no literal may; the network finds out.
fn may_be_this_machine(address: &Address) -> bool {
    match address.as_str().parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => true,
    }
}

/// What every variable of a node begins with.
const PREFIX: &str = "REKNIT_";

/// Variables of other programs of the project.
const NOT_OURS: &[&str] = &["REKNIT_ENDPOINTS", "REKNIT_TOKEN", "REKNIT_TOKEN_FILE", "REKNIT_CA"];

fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Result<Vec<Given>, ConfigError> {
    let ours = |(name, _): &(String, String)| name.starts_with(PREFIX) && !NOT_OURS.contains(&name.as_str());
    let given = |(name, text): (String, String)| {
        let key = name[PREFIX.len()..].to_ascii_lowercase();
        given(&key, &text, Origin::Variable(name))
    };
    variables.into_iter().filter(ours).map(given).collect()
}

fn from_flags(flags: impl IntoIterator<Item = (String, String)>) -> Result<Vec<Given>, ConfigError> {
    let given = |(name, text): (String, String)| {
        let origin = Origin::Flag(format!("--{}", name.replace('_', "-")));
        given(&name.replace('-', "_"), &text, origin)
    };
    flags.into_iter().map(given).collect()
}

/// A value from a place that only knows text: a list is separated by commas.
fn given(name: &str, text: &str, origin: Origin) -> Result<Given, ConfigError> {
    let key = keys::find(name).ok_or_else(|| ConfigError::UnknownKey {
        origin: origin.clone(),
        name: name.to_owned(),
        hint: keys::hint(name),
        snippet: String::new(),
    })?;
    let text_at = |text: &str| Text { text: text.to_owned(), origin: origin.clone(), snippet: String::new() };
    let texts = if key.list {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(text_at).collect()
    } else {
        vec![text_at(text)]
    };
    Ok(Given { key, origin, texts })
}

impl Given {
    /// Reads the one value of a key that takes one.
    fn one<T>(&self, read: impl Fn(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        let text = self.texts.first().expect("a key without a list has one text");
        self.read(text, &read)
    }

    /// Reads the values of a key that takes a list.
    fn each<T>(&self, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, ConfigError> {
        self.texts.iter().map(|text| self.read(text, &read)).collect()
    }

    /// What is wrong with the values together.
    fn refused(&self, why: String) -> ConfigError {
        let snippet = self.texts.first().map_or(String::new(), |text| text.snippet.clone());
        ConfigError::Value { origin: self.origin.clone(), key: self.key.name, why, snippet }
    }

    fn read<T>(&self, text: &Text, read: &impl Fn(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        read(&text.text).map_err(|why| ConfigError::Value {
            origin: text.origin.clone(),
            key: self.key.name,
            why,
            snippet: text.snippet.clone(),
        })
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::File { path, line, column } => {
                write!(f, "{}: line {line} column {column}", path.display())
            }
            Origin::Variable(name) | Origin::Flag(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests;
