//! Versions: one write each, immutable once made, and the names and times that tell them apart.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::key::Key;
use super::time::WallTime;

/// The hybrid-logical time of a version. Ordered by `millis`, then `counter`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// Milliseconds since 1970, as far as the writer's clock and what it had seen could tell.
    pub millis: u64,
    /// Tells apart what happened within one millisecond.
    pub counter: u16,
}

impl Stamp {
    /// The end of the year 9999: a stamp beyond it is malformed.
    pub const MILLIS_MAX: u64 = 253_402_300_799_999;

    /// The stamp of a wall clock's reading, before anything happened in its millisecond.
    pub fn at(wall: WallTime) -> Stamp {
        Stamp { millis: wall.0, counter: 0 }
    }

    /// The smallest later stamp: a full counter carries into `millis`.
    pub fn next(self) -> Stamp {
        match self.counter.checked_add(1) {
            Some(counter) => Stamp { counter, ..self },
            None => Stamp { millis: self.millis + 1, counter: 0 },
        }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.millis, self.counter)
    }
}

/// One run of one process: 64 random bits drawn before its first write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub struct Origin(pub u64);

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The unique name of a version: the `seq`-th write (from 1) of an origin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// Whose write.
    pub origin: Origin,
    /// Which one, counted from 1.
    pub seq: u64,
}

impl Dot {
    /// The greatest number of an origin: far beyond what any run writes, far enough from the end of the type.
    pub const SEQ_MAX: u64 = u64::MAX / 4;
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin, self.seq)
    }
}

/// One write under one key: a value, or the tombstone of a delete.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Version {
    /// When, by the writer's hybrid clock.
    pub stamp: Stamp,
    /// The version's unique name.
    pub dot: Dot,
    /// When the writer first joined its cluster; the smaller is the older author. Frozen at the write.
    pub author_joined: WallTime,
    /// Votes that confirmed this version, or 0 for a client's own write.
    pub ruling: u16,
    /// The write that a ruling confirms.
    pub confirms: Option<Dot>,
    /// Whether this is a delete; then `value` is empty.
    pub tombstone: bool,
    /// When reads stop showing the value. Expiry changes reads only, never the order.
    pub expires_at: Option<WallTime>,
    /// The media type the client gave, at most [`Version::CONTENT_TYPE_BYTES_MAX`] bytes.
    pub content_type: String,
    /// The client's bytes, at most [`Version::VALUE_BYTES_MAX`].
    pub value: Bytes,
}

/// The least head of a transaction in a history, up to how many parents it has.
const HISTORY_HEAD_BYTES: usize = 11;

/// What tells a client which version it has: enough to name it, not to order it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct VersionId {
    /// The version's stamp.
    pub stamp: Stamp,
    /// The version's dot.
    pub dot: Dot,
    /// The API's `uuid` of the version.
    pub uuid: Uuid,
}

impl Version {
    /// Largest value, in bytes.
    pub const VALUE_BYTES_MAX: usize = 1 << 20;
    /// Longest media type, in bytes.
    pub const CONTENT_TYPE_BYTES_MAX: usize = 255;

    /// Whether a read at hybrid time `millis` shows this version's value.
    pub fn is_live_at(&self, millis: u64) -> bool {
        !self.tombstone && self.expires_at.is_none_or(|deadline| millis < deadline.0)
    }

    /// Whether this may be a full write or a delete in a history that can stand without what it was made on top of
    /// (`protocol::history::transaction` says how its value begins): then what lies below it may be truncated one day.
    pub fn may_be_checkpoint(&self) -> bool {
        matches!(self.value.get(..2), Some([0xE1, 3 | 4]))
    }

    /// Where the client's bytes begin: a transaction of a history has a head before them
    /// (`protocol::history::transaction` says how it is laid out).
    pub fn body_at(&self) -> usize {
        let number = |at: usize| self.value.get(at).copied().map(usize::from);
        let parents_end = || Some(HISTORY_HEAD_BYTES + number(HISTORY_HEAD_BYTES - 1)? * (16 + 16));
        let end = || match (number(0)?, number(1)?) {
            (0xE1, 0..=2) => parents_end(),
            (0xE1, 3 | 4) => {
                let at = parents_end()?;
                Some(at + 2 + ((number(at)? << 8) + number(at + 1)?) * 16)
            }
            _ => None,
        };
        end().filter(|end| *end <= self.value.len()).unwrap_or(0)
    }

    /// The version's identity as clients see it.
    pub fn id(&self) -> VersionId {
        VersionId { stamp: self.stamp, dot: self.dot, uuid: self.uuid() }
    }

    /// A UUIDv8: 48 bits of milliseconds, then a hash of the write that this version is or confirms,
    /// so that a ruling keeps the uuid of the write it confirms.
    pub fn uuid(&self) -> Uuid {
        let dot = self.confirms.unwrap_or(self.dot);
        let mut name = [0; 16];
        name[..8].copy_from_slice(&dot.origin.0.to_be_bytes());
        name[8..].copy_from_slice(&dot.seq.to_be_bytes());
        let hash = blake3::derive_key("reknit 2026-11 uuid of a dot", &name);
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&self.stamp.millis.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&hash[..10]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

/// A version under its key: the unit that storage keeps and peers exchange.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Where.
    pub key: Key,
    /// What.
    pub version: Version,
}
