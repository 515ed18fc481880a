//! What must be true of a cluster. Each check judges [`facts`], which only the [`crate::ghost`] gathers.
//! [`promises`] lists their codes. A check never raises a false alarm: where the facts do not decide, it stays silent.

pub mod clock;
pub mod conv;
pub mod dot;
pub mod dur;
pub mod facts;
pub mod hist;
pub mod idx;
pub mod memb;
pub mod merk;
pub mod noinv;
pub mod nores;
pub mod ord;
pub mod promises;
pub mod repl;
pub mod sib;
pub mod vote;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::fmt;
use std::ops::{Bound, Deref, DerefMut};
use std::time::Duration;

use reknit::model::{DotSet, Key, MemberState, Version};
use reknit::storage::{Read, StorageError, Table, rows};

/// All the records of one disk or node: the versions under each key that has any, in dot order. It reads as that
/// map; what the disk says of versions that are no longer records stands beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump {
    rows: BTreeMap<Key, Vec<Version>>,
    /// The dots that it covers.
    pub seen: DotSet,
    /// The join of the cuts that were collected at.
    pub collected: DotSet,
    /// What was set aside.
    pub aside: DotSet,
}

impl Dump {
    /// An empty disk.
    pub fn new() -> Dump {
        Dump::default()
    }
}

impl Deref for Dump {
    type Target = BTreeMap<Key, Vec<Version>>;

    fn deref(&self) -> &Self::Target {
        &self.rows
    }
}

impl DerefMut for Dump {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.rows
    }
}

impl FromIterator<(Key, Vec<Version>)> for Dump {
    fn from_iter<T: IntoIterator<Item = (Key, Vec<Version>)>>(rows: T) -> Dump {
        Dump { rows: rows.into_iter().collect(), ..Dump::default() }
    }
}

impl<'a> IntoIterator for &'a Dump {
    type Item = (&'a Key, &'a Vec<Version>);
    type IntoIter = btree_map::Iter<'a, Key, Vec<Version>>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.iter()
    }
}

/// Reads all records of a store. A record that fails its checksum is left out, as if it were not there.
///
/// # Errors
/// The disk is broken.
pub fn dump(store: &(impl Read + ?Sized)) -> Result<Dump, StorageError> {
    let records = rows::records(store, (Bound::Unbounded, Bound::Unbounded), usize::MAX, false)?;
    let rows = records.into_iter().filter_map(|(key, record)| Some((key, record.row()?.versions)));
    let mut dump: Dump = rows.filter(|(_, versions)| !versions.is_empty()).collect();
    dump.seen = rows::dot_set(store, Table::Seen)?;
    dump.collected = rows::dot_set(store, Table::Collected)?;
    dump.aside = rows::aside(store, None, usize::MAX)?.into_iter().map(|entry| entry.version.dot).collect();
    Ok(dump)
}

/// The dots that a disk covers, was held against, or set aside.
///
/// # Errors
/// The disk is broken.
pub fn covered(store: &(impl Read + ?Sized)) -> Result<DotSet, StorageError> {
    let mut covered = rows::dot_set(store, Table::Seen)?;
    covered.union(&rows::dot_set(store, Table::Collected)?);
    let aside = rows::aside(store, None, usize::MAX)?;
    covered.union(&aside.into_iter().map(|entry| entry.version.dot).collect());
    Ok(covered)
}

/// The names of those that a disk knows as members.
///
/// # Errors
/// The disk is broken.
pub fn members(store: &(impl Read + ?Sized)) -> Result<BTreeSet<String>, StorageError> {
    let members = rows::members(store)?
        .into_iter()
        .map(|row| row.member)
        .filter(|member| member.state <= MemberState::Down);
    Ok(members.map(|member| member.id.to_string()).collect())
}

/// What is wrong within a disk: which promise, and how. Its sums, and its index.
pub fn inspect(store: &(impl Read + ?Sized)) -> Vec<(&'static str, String)> {
    let wrong = [("MERK", merk::judge(store)), ("IDX", idx::judge(store))];
    wrong.into_iter().filter_map(|(code, text)| Some((code, text?))).collect()
}

/// Where a violation was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// In the answer to a client.
    Reply,
    /// In a message that left a node.
    Message,
    /// In the records of a disk or node.
    Dump,
    /// When a phase was judged as a whole.
    Phase(Phase),
    /// In a node's log.
    Log,
}

/// The parts of a run that end with a judgement of the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Faults are off, clients are silent, the bound for convergence has passed.
    Quiet,
    /// The tombstones' grace has passed as well.
    Drained,
    /// Every node has lost its power and come back.
    Cold,
    /// Nothing has happened for a while.
    Idle,
    /// One node has died.
    Death,
    /// It has come back.
    Return,
}

impl Phase {
    /// The phase as reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Quiet => "quiet",
            Phase::Drained => "drained",
            Phase::Cold => "cold",
            Phase::Idle => "idle",
            Phase::Death => "death",
            Phase::Return => "return",
        }
    }
}

impl Site {
    fn name(self) -> &'static str {
        match self {
            Site::Reply => "reply",
            Site::Message => "message",
            Site::Dump => "dump",
            Site::Phase(phase) => phase.name(),
            Site::Log => "log",
        }
    }
}

/// One broken promise. Shown as `NORES t=41.203s node=c key=k3: served …`, which the runner completes with the
/// seed and the scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise, from the table above.
    pub code: &'static str,
    /// Where it was noticed.
    pub site: Site,
    /// When, in virtual time.
    pub at: Duration,
    /// At which node, if at one.
    pub node: Option<String>,
    /// Of which key, if of one.
    pub key: Option<Key>,
    /// What was seen, and what should have been.
    pub text: String,
}

impl Violation {
    /// Equal for failures that look like one bug: what they have in common whatever the seed.
    pub fn signature(&self) -> String {
        format!("{}/{}", self.code, self.site.name())
    }
}

/// A key as people read it: of a long one the beginning.
pub fn named(key: &Key) -> String {
    const SHOWN_MAX: usize = 40;
    let text = key.to_string();
    match text.char_indices().nth(SHOWN_MAX) {
        None => text,
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], key.as_bytes().len()),
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} t={:.3}s", self.code, self.at.as_secs_f64())?;
        if let Some(node) = &self.node {
            write!(f, " node={node}")?;
        }
        if let Some(key) = &self.key {
            write!(f, " key={}", named(key))?;
        }
        write!(f, ": {}", self.text)
    }
}
