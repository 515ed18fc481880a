//! One step of a history: a full write, a patch or a delete, made on top of what its writer saw.
//!
//! A transaction travels and is stored as a [`Version`] with a dot of its own; what a version has no field for stands at
//! the head of its value:
//!
//! ```text
//! format u8 | kind u8 | offset u64 | parents u8 | (id 16, origin 8, seq 8) for each parent | the client's bytes
//! ```
//!
//! Integers are big-endian. A version that does not begin like this was written before its key had a history; it
//! counts as a full write without parents, so that a policy can be given to keys that exist.

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::{Dot, Origin, Stamp, Version, WallTime};

/// Most parents of one transaction: the heads that its writer closed.
pub const PARENTS_MAX: usize = 64;
/// Longest head of a value, in bytes.
pub const HEAD_BYTES_MAX: usize = 1 + 1 + 8 + 1 + PARENTS_MAX * PARENT_BYTES;

const FORMAT: u8 = 0xE1;
const PARENT_BYTES: usize = 16 + 16;

/// A hash of everything else in a transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct TransactionId(pub u128);

/// A transaction that another one was made on top of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Parent {
    /// What it is.
    pub id: TransactionId,
    /// Where it can be asked for.
    pub dot: Dot,
}

/// What a transaction does to the value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Replaces it.
    Full,
    /// Writes its bytes from this offset on; what lies between the end and the offset becomes zeros.
    Patch {
        /// In bytes.
        offset: u64,
    },
    /// Empties it: what follows is a new generation.
    Delete,
}

impl Kind {
    /// The kind's name in listings.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Full => "full",
            Kind::Patch { .. } => "patch",
            Kind::Delete => "delete",
        }
    }
}

/// One step of a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// Its name among parents.
    pub id: TransactionId,
    /// Its name among versions.
    pub dot: Dot,
    /// When, by the writer's hybrid clock.
    pub stamp: Stamp,
    /// How old its author is: the older author's branch is the network's.
    pub author_joined: WallTime,
    /// Every head that its writer saw, in id order.
    pub parents: Vec<Parent>,
    /// What it does.
    pub kind: Kind,
    /// The media type the client gave.
    pub content_type: String,
    /// When reads stop showing the value that it wrote.
    pub expires_at: Option<WallTime>,
    /// The client's bytes.
    pub bytes: Bytes,
}

impl Transaction {
    /// Reads a stored or received version.
    pub fn read(version: &Version) -> Transaction {
        let head = read_head(&version.value);
        let legacy = if version.tombstone { Kind::Delete } else { Kind::Full };
        let (kind, parents, at) = head.unwrap_or((legacy, Vec::new(), 0));
        Transaction {
            id: id(version),
            dot: version.dot,
            stamp: version.stamp,
            author_joined: version.author_joined,
            parents,
            kind,
            content_type: version.content_type.clone(),
            expires_at: version.expires_at,
            bytes: version.value.slice(at..),
        }
    }

    /// How a child names it.
    pub fn as_parent(&self) -> Parent {
        Parent { id: self.id, dot: self.dot }
    }
}

/// The value of a version that is this transaction: its head, then the client's bytes. `parents` in any order.
///
/// # Panics
/// There are more than [`PARENTS_MAX`] parents; the caller refuses such a write.
pub fn value(kind: Kind, parents: &[Parent], bytes: &Bytes) -> Bytes {
    assert!(parents.len() <= PARENTS_MAX, "the caller checks how many heads it closes");
    let mut parents = parents.to_vec();
    parents.sort();
    let mut out = BytesMut::with_capacity(11 + parents.len() * PARENT_BYTES + bytes.len());
    out.put_u8(FORMAT);
    let (number, offset) = match kind {
        Kind::Full => (0, 0),
        Kind::Patch { offset } => (1, offset),
        Kind::Delete => (2, 0),
    };
    out.put_u8(number);
    out.put_u64(offset);
    out.put_u8(parents.len() as u8);
    for parent in parents {
        out.put_u128(parent.id.0);
        out.put_u64(parent.dot.origin.0);
        out.put_u64(parent.dot.seq);
    }
    out.put_slice(bytes);
    out.freeze()
}

/// What a version names as its parents.
pub fn parents(version: &Version) -> Vec<Parent> {
    read_head(&version.value).map_or_else(Vec::new, |(_, parents, _)| parents)
}

/// Kind, parents, and where the client's bytes begin; `None` for what no transaction begins like.
fn read_head(value: &[u8]) -> Option<(Kind, Vec<Parent>, usize)> {
    let (&[format, number], rest) = value.split_first_chunk::<2>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (&count, rest) = rest.split_first()?;
    let (offset, count) = (u64::from_be_bytes(*offset), usize::from(count));
    let kind = match (format, number) {
        (FORMAT, 0) if offset == 0 => Kind::Full,
        (FORMAT, 1) => Kind::Patch { offset },
        (FORMAT, 2) if offset == 0 => Kind::Delete,
        _ => return None,
    };
    let named = rest.get(..count * PARENT_BYTES).filter(|_| count <= PARENTS_MAX)?;
    let parents: Vec<Parent> = named.chunks_exact(PARENT_BYTES).map(read_parent).collect();
    let is_ordered = parents.windows(2).all(|pair| pair[0] < pair[1]);
    is_ordered.then_some((kind, parents, 11 + named.len()))
}

fn read_parent(bytes: &[u8]) -> Parent {
    let number = |from: usize| u64::from_be_bytes(bytes[from..from + 8].try_into().expect("eight bytes"));
    let id = TransactionId(u128::from_be_bytes(bytes[..16].try_into().expect("sixteen bytes")));
    Parent { id, dot: Dot { origin: Origin(number(16)), seq: number(24) } }
}

fn id(version: &Version) -> TransactionId {
    let mut hasher = blake3::Hasher::new_derive_key("reknit 2026-11 id of a transaction");
    hasher.update(&version.stamp.millis.to_be_bytes());
    hasher.update(&version.stamp.counter.to_be_bytes());
    hasher.update(&version.dot.origin.0.to_be_bytes());
    hasher.update(&version.dot.seq.to_be_bytes());
    hasher.update(&version.author_joined.0.to_be_bytes());
    hasher.update(&[u8::from(version.tombstone), u8::from(version.expires_at.is_some())]);
    hasher.update(&version.expires_at.map_or(0, |deadline| deadline.0).to_be_bytes());
    hasher.update(&(version.content_type.len() as u64).to_be_bytes());
    hasher.update(version.content_type.as_bytes());
    hasher.update(&version.value);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    TransactionId(u128::from_be_bytes(bytes))
}
