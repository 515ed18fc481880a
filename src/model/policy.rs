//! Policies: how the versions under a key are resolved, chosen by the key's prefix, alike on all nodes.

use std::fmt;

use super::key::Key;

/// How concurrent versions under a key are resolved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Policy {
    /// The greatest version in the documented order is kept, all others go.
    #[default]
    Lww,
    /// All concurrent versions are kept until a write that saw them replaces them.
    Siblings,
    /// Every transaction is kept, and what a read shows is a view of their graph.
    History(Strategy),
}

/// How the view of a history treats two branches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Strategy {
    /// The older author's branch.
    #[default]
    PreferNetwork,
    /// The younger author's branch.
    PreferLocal,
    /// The older author's branch, then the younger one's on top.
    LocalOverNetwork,
    /// The younger author's branch, then the older one's on top.
    NetworkOverLocal,
    /// Only what the branches have in common; the conflict is an error that somebody resolves.
    Fail,
}

impl Policy {
    /// The policy's name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Lww => "lww",
            Policy::Siblings => "siblings",
            Policy::History(_) => "history",
        }
    }

    /// The policy of this name, with this strategy where it takes one.
    ///
    /// # Errors
    /// There is no such policy or strategy, or the policy takes none.
    pub fn from_names(policy: &str, strategy: Option<&str>) -> Result<Policy, PolicyError> {
        match (policy, strategy) {
            ("lww", None) => Ok(Policy::Lww),
            ("siblings", None) => Ok(Policy::Siblings),
            ("lww" | "siblings", Some(_)) => Err(PolicyError::NoStrategy(policy.to_owned())),
            ("history", None) => Ok(Policy::History(Strategy::default())),
            ("history", Some(strategy)) => Strategy::from_name(strategy).map(Policy::History),
            _ => Err(PolicyError::UnknownPolicy(policy.to_owned())),
        }
    }

    /// The strategy, where there is one.
    pub fn strategy(self) -> Option<Strategy> {
        match self {
            Policy::History(strategy) => Some(strategy),
            Policy::Lww | Policy::Siblings => None,
        }
    }
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Strategy; 5] = [
        Strategy::PreferNetwork,
        Strategy::PreferLocal,
        Strategy::LocalOverNetwork,
        Strategy::NetworkOverLocal,
        Strategy::Fail,
    ];

    /// The strategy's name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::PreferNetwork => "prefer-network",
            Strategy::PreferLocal => "prefer-local",
            Strategy::LocalOverNetwork => "local-over-network",
            Strategy::NetworkOverLocal => "network-over-local",
            Strategy::Fail => "fail",
        }
    }

    /// The strategy of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn from_name(name: &str) -> Result<Strategy, PolicyError> {
        let found = Strategy::ALL.into_iter().find(|strategy| strategy.name() == name);
        found.ok_or_else(|| PolicyError::UnknownStrategy(name.to_owned()))
    }
}

/// Why some words are no table of policies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No such policy.
    #[error("`{0}` is no policy: lww, siblings or history")]
    UnknownPolicy(String),
    /// No such strategy.
    #[error(
        "`{0}` is no strategy: prefer-network, prefer-local, local-over-network, network-over-local or fail"
    )]
    UnknownStrategy(String),
    /// Only `history` has strategies.
    #[error("policy {0} takes no strategy")]
    NoStrategy(String),
    /// A prefix stands twice.
    #[error("the prefix `{0}` has two policies")]
    Twice(String),
    /// A prefix that no key can have.
    #[error("a prefix has {bytes} bytes; the limit of a key is {limit}", limit = Key::BYTES_MAX)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// More than [`Policies::RULES_MAX`].
    #[error("{0} policies; the limit is {limit}", limit = Policies::RULES_MAX)]
    TooMany(usize),
}

/// The table of a cluster: prefixes of keys and their policies. The longest prefix of a key decides; a key
/// without one is `lww`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Policies {
    /// By prefix, each once.
    rules: Vec<(Vec<u8>, Policy)>,
}

impl Policies {
    /// Most rules in a table.
    pub const RULES_MAX: usize = 256;

    /// A table of these rules, in any order.
    ///
    /// # Errors
    /// A prefix stands twice or is longer than any key, or there are too many.
    pub fn new(rules: impl IntoIterator<Item = (Vec<u8>, Policy)>) -> Result<Policies, PolicyError> {
        let mut rules: Vec<(Vec<u8>, Policy)> = rules.into_iter().collect();
        if rules.len() > Policies::RULES_MAX {
            return Err(PolicyError::TooMany(rules.len()));
        }
        if let Some((prefix, _)) = rules.iter().find(|(prefix, _)| prefix.len() > Key::BYTES_MAX) {
            return Err(PolicyError::TooLong { bytes: prefix.len() });
        }
        rules.sort();
        if let Some(twice) = rules.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(PolicyError::Twice(super::key::encode(&twice[0].0)));
        }
        Ok(Policies { rules })
    }

    /// The policy of a key.
    pub fn of(&self, key: &Key) -> Policy {
        let fits = self.rules.iter().filter(|(prefix, _)| key.as_bytes().starts_with(prefix));
        fits.max_by_key(|(prefix, _)| prefix.len()).map_or(Policy::Lww, |(_, policy)| *policy)
    }

    /// The rules in the order of their prefixes.
    pub fn rules(&self) -> impl Iterator<Item = (&[u8], Policy)> {
        self.rules.iter().map(|(prefix, policy)| (prefix.as_slice(), *policy))
    }

    /// Whether every key is `lww` by default.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// A digest that two nodes compare before they exchange data: equal tables have equal digests, and unequal
    /// ones differ as far as 64 bits can tell. That of an empty table is zero.
    pub fn digest(&self) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
        for (prefix, policy) in &self.rules {
            hasher.update(&(prefix.len() as u64).to_be_bytes());
            hasher.update(prefix);
            hasher.update(policy.name().as_bytes());
            hasher.update(policy.strategy().map_or("", Strategy::name).as_bytes());
            hasher.update(&[0]);
        }
        hasher.digest()
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = |(prefix, policy): (&[u8], Policy)| (String::from_utf8_lossy(prefix).into_owned(), policy);
        f.debug_map().entries(self.rules().map(rule)).finish()
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
