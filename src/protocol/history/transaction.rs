//! One step of a history: a full write, a patch or a delete, made on top of what its writer saw.
//!
//! A transaction travels and is stored as a [`Version`] with a dot of its own; what a version has no field for stands at
//! the head of its value:
//!
//! ```text
//! format u8 | kind u8 | offset u64 | parents u8 | (id 16, origin 8, seq 8) for each parent | the client's bytes
//! ```
//!
//! Kinds 3 and 4 are a full write and a delete that can be shown without what they were made on top of: after the
//! parents they tell their whole past as a version vector, `origins u16 | (origin 8, seq 8) for each`.
//!
//! Integers are big-endian. A version that does not begin like this, or would end beyond the largest value, was written
//! before its key had a history; it counts as a full write without parents, so that a policy can be given to keys that
//! exist.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::{Dot, Origin, Stamp, Version, WallTime};
use crate::storage::rows;

/// Most parents of one transaction: the heads that its writer closed.
pub const PARENTS_MAX: usize = 64;
/// Most origins in the vector of one transaction. A write with a longer past never becomes a checkpoint.
pub const VECTOR_MAX: usize = 256;
/// Longest head of a value, in bytes.
pub const HEAD_BYTES_MAX: usize = 1 + 1 + 8 + 1 + PARENTS_MAX * PARENT_BYTES + 2 + VECTOR_MAX * DOT_BYTES;

const FORMAT: u8 = 0xE1;
const PARENT_BYTES: usize = 16 + DOT_BYTES;
const DOT_BYTES: usize = 16;

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

/// What a transaction was made on top of, ancestors of ancestors included: of each origin all of the key's
/// transactions up to a number. That says it exactly, because a run writes on top of all that it wrote before.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Vector(BTreeMap<Origin, u64>);

impl Vector {
    /// Whether this transaction is in it.
    pub fn covers(&self, dot: Dot) -> bool {
        self.0.get(&dot.origin).is_some_and(|last| dot.seq <= *last)
    }

    /// Adds a transaction, and so all that its run had written before.
    pub fn insert(&mut self, dot: Dot) {
        let last = self.0.entry(dot.origin).or_default();
        *last = dot.seq.max(*last);
    }

    /// How many origins.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last transaction of each origin.
    pub fn dots(&self) -> impl Iterator<Item = Dot> + '_ {
        self.0.iter().map(|(origin, seq)| Dot { origin: *origin, seq: *seq })
    }
}

impl FromIterator<Dot> for Vector {
    fn from_iter<T: IntoIterator<Item = Dot>>(dots: T) -> Vector {
        let mut vector = Vector::default();
        dots.into_iter().for_each(|dot| vector.insert(dot));
        vector
    }
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
    /// All that it was made on top of, if it can stand without it.
    pub vector: Option<Vector>,
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
        let head = read_head(&version.value).filter(|head| head.fits(version.value.len()));
        let legacy = if version.tombstone { Kind::Delete } else { Kind::Full };
        let Head { kind, parents, vector, len } =
            head.unwrap_or(Head { kind: legacy, parents: Vec::new(), vector: None, len: 0 });
        Transaction {
            id: id(version),
            dot: version.dot,
            stamp: version.stamp,
            author_joined: version.author_joined,
            parents,
            vector,
            kind,
            content_type: version.content_type.clone(),
            expires_at: version.expires_at,
            bytes: version.value.slice(len..),
        }
    }

    /// How a child names it.
    pub fn as_parent(&self) -> Parent {
        Parent { id: self.id, dot: self.dot }
    }
}

/// The value of a version that is this transaction: its head, then the client's bytes. `parents` in any order;
/// `vector` is left out where it says no more than they do, or is too long.
///
/// # Panics
/// There are more than [`PARENTS_MAX`] parents; the caller refuses such a write.
pub fn value(kind: Kind, parents: &[Parent], vector: &Vector, bytes: &Bytes) -> Bytes {
    assert!(parents.len() <= PARENTS_MAX, "the caller checks how many heads it closes");
    let mut parents = parents.to_vec();
    parents.sort();
    let is_whole = !parents.is_empty() && vector.len() <= VECTOR_MAX;
    let (number, offset) = match kind {
        Kind::Full if is_whole => (WHOLE_FULL, 0),
        Kind::Delete if is_whole => (WHOLE_DELETE, 0),
        Kind::Full => (FULL, 0),
        Kind::Patch { offset } => (PATCH, offset),
        Kind::Delete => (DELETE, 0),
    };
    let mut out = BytesMut::with_capacity(HEAD_BYTES_MIN + parents.len() * PARENT_BYTES + bytes.len());
    out.put_u8(FORMAT);
    out.put_u8(number);
    out.put_u64(offset);
    out.put_u8(parents.len() as u8);
    for parent in parents {
        out.put_u128(parent.id.0);
        out.put_slice(&rows::encode_dot(parent.dot));
    }
    if matches!(number, WHOLE_FULL | WHOLE_DELETE) {
        out.put_u16(vector.len() as u16);
        for dot in vector.dots() {
            out.put_slice(&rows::encode_dot(dot));
        }
    }
    out.put_slice(bytes);
    out.freeze()
}

/// What a version names as its parents.
pub fn parents(version: &Version) -> Vec<Parent> {
    read_head(&version.value).map_or_else(Vec::new, |head| head.parents)
}

const FULL: u8 = 0;
const PATCH: u8 = 1;
const DELETE: u8 = 2;
const WHOLE_FULL: u8 = 3;
const WHOLE_DELETE: u8 = 4;

/// Format, kind, offset and the number of parents.
const HEAD_BYTES_MIN: usize = 11;

/// What stands before the client's bytes.
struct Head {
    kind: Kind,
    parents: Vec<Parent>,
    vector: Option<Vector>,
    len: usize,
}

/// The head of a value; `None` for what no transaction begins like.
impl Head {
    /// Whether what it says ends where a value may. What does not is bytes that a client wrote under another policy.
    fn fits(&self, value_bytes: usize) -> bool {
        let offset = if let Kind::Patch { offset } = self.kind { offset } else { 0 };
        let end = offset.checked_add((value_bytes - self.len) as u64);
        end.is_some_and(|end| end <= Version::VALUE_BYTES_MAX as u64)
    }
}

fn read_head(value: &[u8]) -> Option<Head> {
    let (&[format, number], rest) = value.split_first_chunk::<2>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (&count, rest) = rest.split_first()?;
    let (offset, count) = (u64::from_be_bytes(*offset), usize::from(count));
    let kind = match (format, number) {
        (FORMAT, FULL | WHOLE_FULL) if offset == 0 => Kind::Full,
        (FORMAT, PATCH) => Kind::Patch { offset },
        (FORMAT, DELETE | WHOLE_DELETE) if offset == 0 => Kind::Delete,
        _ => return None,
    };
    let named = rest.get(..count * PARENT_BYTES).filter(|_| count <= PARENTS_MAX)?;
    let parents: Vec<Parent> = named.chunks_exact(PARENT_BYTES).map(read_parent).collect();
    let is_ordered = parents.windows(2).all(|pair| pair[0] < pair[1]);
    let mut len = HEAD_BYTES_MIN + named.len();
    let vector = match number {
        WHOLE_FULL | WHOLE_DELETE => Some(read_vector(&value[len..], &mut len)?),
        _ => None,
    };
    is_ordered.then_some(Head { kind, parents, vector, len })
}

/// Adds what it has read to `len`.
fn read_vector(bytes: &[u8], len: &mut usize) -> Option<Vector> {
    let (count, rest) = bytes.split_first_chunk::<2>()?;
    let count = usize::from(u16::from_be_bytes(*count));
    let listed = rest.get(..count * DOT_BYTES).filter(|_| count <= VECTOR_MAX)?;
    let dots: Vec<Dot> = listed.chunks_exact(DOT_BYTES).map(read_dot).collect();
    *len += 2 + listed.len();
    let is_ordered = dots.windows(2).all(|pair| pair[0].origin < pair[1].origin);
    is_ordered.then(|| Vector(dots.into_iter().map(|dot| (dot.origin, dot.seq)).collect()))
}

fn read_parent(bytes: &[u8]) -> Parent {
    let id = TransactionId(u128::from_be_bytes(bytes[..16].try_into().expect("sixteen bytes")));
    Parent { id, dot: read_dot(&bytes[16..]) }
}

fn read_dot(bytes: &[u8]) -> Dot {
    let number = |from: usize| u64::from_be_bytes(bytes[from..from + 8].try_into().expect("eight bytes"));
    Dot { origin: Origin(number(0)), seq: number(8) }
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
