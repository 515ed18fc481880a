//! Members: nodes as others know them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::time::WallTime;
use super::version::Origin;

/// The name of a node's place in the cluster, such as `node1`; given by its operator. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

/// Where a node is reached, as `host:port`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Arc<str>);

/// A name that is no node id or no address, with the rule it breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// For node ids.
    #[error("`{0}` is no node id: 1 to 64 letters, digits, `.`, `_` or `-`")]
    NodeId(String),
    /// For addresses.
    #[error("`{0}` is no address: host:port with at most 255 bytes, such as 127.0.0.1:8080")]
    Address(String),
}

impl NodeId {
    /// Checks a name.
    ///
    /// # Errors
    /// [`NameError::NodeId`] unless it is 1 to 64 letters, digits, `.`, `_` or `-`.
    pub fn new(name: &str) -> Result<NodeId, NameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
            return Err(NameError::NodeId(name.to_owned()));
        }
        Ok(NodeId(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Address {
    /// Checks an address.
    ///
    /// # Errors
    /// [`NameError::Address`] unless it reads `host:port`.
    pub fn new(text: &str) -> Result<Address, NameError> {
        let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        let is_port = port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
        if !is_port || text.len() > 255 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NameError::Address(text.to_owned()));
        }
        Ok(Address(text.into()))
    }

    /// The address as `host:port`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_type {
    ($name:ident) => {
        // By hand, because names are in most of what nodes say and a derived one would copy each once more.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                struct Text;

                impl de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a name")
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::new(text).map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type!(NodeId);
text_type!(Address);

/// What the cluster believes of a member. Ordered by rank: within one life and incarnation the later wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// Answers.
    Alive,
    /// Missed a probe; has `suspect_timeout` to answer.
    Suspect,
    /// Does not answer. Keeps its place, is still probed, and is welcomed back by itself.
    Down,
    /// Said goodbye.
    Left,
    /// Removed by an operator.
    Forgotten,
}

/// What a node does for clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Reads and writes.
    Normal,
    /// Refuses clients' writes, takes replication.
    ReadOnly,
    /// On its way out: finishes what it has, takes no new writes.
    Draining,
    /// New and still taking what the others have: refuses clients' writes for a moment, takes replication.
    Syncing,
}

impl Mode {
    /// Whether a node may go from this mode to `next`. Nobody comes back from draining in one life.
    pub fn may_become(self, next: Mode) -> bool {
        match (self, next) {
            (Mode::Draining, _) => next == Mode::Draining,
            (_, Mode::Syncing) => self == Mode::Normal || self == Mode::ReadOnly,
            (Mode::Normal | Mode::ReadOnly | Mode::Syncing, _) => true,
        }
    }
}

/// The versions of the peer protocol that a node speaks, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub struct ProtocolRange {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl ProtocolRange {
    /// Whether two nodes have a version in common.
    pub fn meets(self, other: ProtocolRange) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

impl fmt::Display for ProtocolRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{} to {}", self.min, self.max)
        }
    }
}

/// A node as others know it.
///
/// Merged by the greatest `(life, incarnation, state)`, so a rumour and a full exchange are one merge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// The place.
    pub id: NodeId,
    /// Where it is reached.
    pub address: Address,
    /// Rises at every start of the node.
    pub life: u64,
    /// Raised by the member itself to refute `Suspect` and `Down`.
    pub incarnation: u32,
    /// What is believed of it.
    pub state: MemberState,
    /// When it first joined; never changes.
    pub joined: WallTime,
    /// What it does for clients.
    pub mode: Mode,
    /// The origin of its present life, once it has written.
    pub origin: Option<Origin>,
    /// Digest of its policies by prefix; members with another one exchange no data with it.
    pub policies: u64,
    /// What it speaks.
    pub protocol: ProtocolRange,
}
