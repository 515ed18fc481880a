//! One replica's versions: its own writes, the merging of others', and the set of dots it has seen.
//!
//! Promises that `seen` never runs ahead of the records: both change in the same turn, so in the same
//! transaction. Leaves to others who sends what to whom.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;

use super::hlc::Hlc;
use super::order;
use super::outbox::Outbox;
use super::siblings;
use crate::model::{
    Dot, DotSet, Entry, Key, Now, Origin, Policies, Policy, Row, Stamp, Token, Version, WallTime,
};
use crate::mutants;
use crate::storage::rows::{self, Identity, Record};
use crate::storage::{Batch, Read, Storage, StorageError};

/// What a client wants under a key.
#[derive(Clone, Debug)]
pub enum Change {
    /// This value.
    Value {
        /// The bytes.
        value: Bytes,
        /// Their media type.
        content_type: String,
        /// For how long, from the stamp on.
        ttl: Option<Duration>,
    },
    /// Nothing any more.
    Tombstone,
}

/// What a write under policy `siblings` replaces.
#[derive(Clone, Debug)]
pub enum Saw {
    /// Nothing: it stands beside what is there.
    Nothing,
    /// All that this replica has under the key.
    Everything,
    /// What a read somewhere told the client.
    Token(Token),
}

/// What peers exchange of a key: an entry, or under policy `siblings` the whole row.
#[derive(Clone, Copy, Debug)]
pub enum Cargo<'a> {
    /// One version under its key.
    Entry(&'a Entry),
    /// A row, and what its holder had seen when it read it.
    Row {
        /// Where.
        key: &'a Key,
        /// What.
        row: &'a Row,
        /// The holder's `seen`.
        seen: &'a DotSet,
    },
}

impl<'a> Cargo<'a> {
    /// What a message of entries brings.
    pub fn entries(entries: &'a [Entry]) -> Vec<Cargo<'a>> {
        entries.iter().map(Cargo::Entry).collect()
    }

    /// What a message of rows brings.
    pub fn rows(seen: &'a DotSet, rows: &'a [(Key, Row)]) -> Vec<Cargo<'a>> {
        rows.iter().map(|(key, row)| Cargo::Row { key, row, seen }).collect()
    }

    /// Its key.
    pub fn key(&self) -> &'a Key {
        match self {
            Cargo::Entry(entry) => &entry.key,
            Cargo::Row { key, .. } => key,
        }
    }

    /// Its versions.
    pub fn versions(&self) -> &'a [Version] {
        match self {
            Cargo::Entry(entry) => std::slice::from_ref(&entry.version),
            Cargo::Row { row, .. } => &row.versions,
        }
    }
}

/// What became of an entry or a row from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// It is in the record now, or a part of it is.
    Won,
    /// What was there beats it, or had replaced it.
    Lost,
    /// Its dot had been seen, or all of its dots.
    Known,
    /// No client and no node of ours can have made it; it was dropped.
    Malformed,
}

/// The versions of one node over its store.
#[derive(Debug)]
pub struct Replica {
    seen: DotSet,
    /// Origins whose row in the store is behind `seen`.
    unsaved: BTreeSet<Origin>,
    digest: Option<u64>,
    clock: Hlc,
    origin: Option<Origin>,
    policies: Policies,
}

impl Replica {
    /// Reads what the disk has seen. `identity` gives the clock's durable mark.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn load(
        store: &impl Read,
        identity: &Identity,
        drift_max: Duration,
        now: Now,
    ) -> Result<Replica, StorageError> {
        let mut seen = DotSet::default();
        for (origin, runs) in rows::seen(store)? {
            for (first, last) in runs {
                if first == 0 || last < first || last > Dot::SEQ_MAX {
                    return Err(StorageError::Damaged("seen: not a run of numbers".into()));
                }
                seen.insert_run(origin, first, last);
            }
        }
        let clock = Hlc::new(identity.high_water, drift_max, now);
        let origin = mutants::is_on("dot-reuse").then(|| seen.origins().next()).flatten();
        Ok(Replica {
            seen,
            unsaved: BTreeSet::new(),
            digest: None,
            clock,
            origin,
            policies: Policies::default(),
        })
    }

    /// The same replica with this table of policies.
    pub fn with_policies(self, policies: Policies) -> Replica {
        Replica { policies, ..self }
    }

    /// The policy of a key.
    pub fn policy(&self, key: &Key) -> Policy {
        self.policies.of(key)
    }

    /// Writes a client's change over `current`, the key's record. `dice` draws the origin before the first write.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn write(
        &mut self,
        now: Now,
        store: &mut impl Storage,
        dice: &mut impl Rng,
        author_joined: WallTime,
        (key, current): (Key, &Record),
        change: Change,
    ) -> Result<Entry, StorageError> {
        let replaced = current.versions();
        let floor = replaced.iter().map(|version| version.stamp).max().unwrap_or_default();
        let version = self.version(now, dice, author_joined, floor, change);
        let entry = Entry { key, version };
        let mut batch = Batch::default();
        if entry.version.tombstone && mutants::is_on("delete-removes") {
            batch.remove(crate::storage::Table::Records, entry.key.as_bytes());
        } else {
            rows::put_row(&mut batch, &entry.key, &Row::one(entry.version.clone()), replaced);
        }
        store.apply(batch)?;
        self.mark(entry.version.dot);
        Ok(entry)
    }

    /// Writes a client's change into a row of policy `siblings`, in place of what the client saw.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn write_sibling(
        &mut self,
        now: Now,
        store: &mut impl Storage,
        dice: &mut impl Rng,
        author_joined: WallTime,
        (key, current): (Key, &Record),
        (change, saw): (Change, &Saw),
    ) -> Result<Entry, StorageError> {
        let absent = Row::default();
        let row = if let Record::Row(row) = current { row } else { &absent };
        let read_millis = self.clock.read_millis(now);
        let told = if let Saw::Token(token) = saw { token.stamp } else { Stamp::default() };
        let version = self.version(now, dice, author_joined, row.stamp().max(told), change);
        let entry = Entry { key, version };
        let saw = self.saw(row, saw);
        self.mark(entry.version.dot);
        let new = siblings::write(row, &saw, entry.version.clone(), &self.seen, read_millis);
        let mut batch = Batch::default();
        rows::put_row(&mut batch, &entry.key, &new, &row.versions);
        store.apply(batch)?;
        Ok(entry)
    }

    /// The dots that a write under policy `siblings` replaces.
    pub fn saw(&self, row: &Row, saw: &Saw) -> DotSet {
        match saw {
            Saw::Nothing => DotSet::default(),
            Saw::Everything => self.context(row),
            Saw::Token(token) => token.context.clone(),
        }
    }

    /// The whole context of a row of this replica.
    pub fn context(&self, row: &Row) -> DotSet {
        let mut context = self.seen.clone();
        context.union(&row.context);
        context
    }

    /// A new version of this run's, stamped later than `floor`.
    fn version(
        &mut self,
        now: Now,
        dice: &mut impl Rng,
        author_joined: WallTime,
        floor: Stamp,
        change: Change,
    ) -> Version {
        let stamp = self.clock.issue(now, floor);
        let dot = self.next_dot(dice);
        match change {
            Change::Value { value, content_type, ttl } => Version {
                stamp,
                dot,
                author_joined,
                ruling: 0,
                confirms: None,
                tombstone: false,
                expires_at: ttl.map(|ttl| WallTime(stamp.millis).after(ttl)),
                content_type,
                value,
            },
            Change::Tombstone => Version {
                stamp,
                dot,
                author_joined,
                ruling: 0,
                confirms: None,
                tombstone: true,
                expires_at: None,
                content_type: String::new(),
                value: Bytes::new(),
            },
        }
    }

    /// Merges what a peer sent into the record of its key. What is not the key's unit of exchange comes from a
    /// peer with other policies, and is malformed here.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn take(
        &mut self,
        now: Now,
        store: &mut impl Storage,
        cargo: Cargo<'_>,
    ) -> Result<Merged, StorageError> {
        let is_row = self.policy(cargo.key()) == Policy::Siblings;
        match cargo {
            Cargo::Entry(entry) if !is_row => self.merge(now, store, entry),
            Cargo::Row { key, row, seen } if is_row => self.merge_row(now, store, key, (row, seen)),
            Cargo::Entry(_) | Cargo::Row { .. } => Ok(Merged::Malformed),
        }
    }

    /// Merges a row of policy `siblings`, read by a peer together with its `seen`.
    ///
    /// A row that is missing here altogether is taken as it is: its absence is a loss and no knowledge.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn merge_row(
        &mut self,
        now: Now,
        store: &mut impl Storage,
        key: &Key,
        (theirs, their_seen): (&Row, &DotSet),
    ) -> Result<Merged, StorageError> {
        let is_ordered = theirs.versions.windows(2).all(|pair| pair[0].dot < pair[1].dot);
        if !is_ordered || theirs.versions.is_empty() || !theirs.versions.iter().all(is_well_formed) {
            return Ok(Merged::Malformed);
        }
        if theirs.dots().all(|dot| self.seen.contains(dot)) {
            return Ok(Merged::Known);
        }
        let current = rows::record(store, key)?;
        let before = self.seen.clone();
        for version in &theirs.versions {
            self.clock.observe(version.stamp, now);
            self.mark(version.dot);
        }
        let theirs = siblings::Side { row: theirs, seen: their_seen };
        let new = match &current {
            Record::Row(row) => siblings::merge(siblings::Side { row, seen: &before }, theirs, &self.seen),
            Record::Absent | Record::Rotten => siblings::taken_whole(theirs, &self.seen),
        };
        let won = new.versions != current.versions();
        let mut batch = Batch::default();
        rows::put_row(&mut batch, key, &new, current.versions());
        store.apply(batch)?;
        Ok(if won { Merged::Won } else { Merged::Lost })
    }

    /// Merges an entry from elsewhere into the record of its key.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn merge(
        &mut self,
        now: Now,
        store: &mut impl Storage,
        entry: &Entry,
    ) -> Result<Merged, StorageError> {
        if !is_well_formed(&entry.version) {
            return Ok(Merged::Malformed);
        }
        if self.seen.contains(entry.version.dot) {
            return Ok(Merged::Known);
        }
        let current = rows::record(store, &entry.key)?;
        if !mutants::is_on("clock-unseen") {
            self.clock.observe(entry.version.stamp, now);
        }
        self.mark(entry.version.dot);
        let wins = order::greatest(current.versions()).is_none_or(|current| {
            order::beats(&entry.version, current)
                || mutants::is_on("tie-incoming") && entry.version.stamp == current.stamp
        });
        if !wins {
            return Ok(Merged::Lost);
        }
        let mut batch = Batch::default();
        rows::put_row(&mut batch, &entry.key, &Row::one(entry.version.clone()), current.versions());
        store.apply(batch)?;
        Ok(Merged::Won)
    }

    /// Marks what a peer had covered, once every record of its pass is here.
    pub fn cover(&mut self, covered: &DotSet) {
        for (origin, first, last) in covered.iter() {
            self.seen.insert_run(origin, first, last);
            self.unsaved.insert(origin);
        }
        self.digest = None;
    }

    /// Adds the rows of `seen` that changed since the last call to `batch`.
    pub fn save(&mut self, batch: &mut Batch) {
        for origin in std::mem::take(&mut self.unsaved) {
            rows::put_seen(batch, origin, self.seen.runs(origin));
        }
    }

    /// The dots this replica has covered.
    pub fn seen(&self) -> &DotSet {
        &self.seen
    }

    /// Digest of `seen`.
    pub fn seen_digest(&mut self) -> u64 {
        *self.digest.get_or_insert_with(|| self.seen.digest())
    }

    /// Counts merged versions whose stamps are too far ahead to move the clock.
    pub fn count_far(&self, now: Now, versions: &[Version], out: &mut Outbox) {
        let far = versions.iter().filter(|version| self.clock.is_far(version.stamp, now)).count();
        if far > 0 {
            out.count("stamps_far_ahead", far as u64);
        }
    }

    /// The hybrid clock.
    pub fn clock(&self) -> &Hlc {
        &self.clock
    }

    /// The origin of this run, once it has written.
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    fn next_dot(&mut self, dice: &mut impl Rng) -> Dot {
        let mut origin = *self.origin.get_or_insert_with(|| Origin(dice.next_u64()));
        if self.seen.last(origin) >= Dot::SEQ_MAX {
            // Only a peer's nonsense can have used an origin up.
            origin = Origin(dice.next_u64());
            self.origin = Some(origin);
        }
        Dot { origin, seq: self.seen.last(origin) + 1 }
    }

    fn mark(&mut self, dot: Dot) {
        self.seen.insert(dot);
        self.unsaved.insert(dot.origin);
        self.digest = None;
    }
}

fn is_well_formed(version: &Version) -> bool {
    (1..=Dot::SEQ_MAX).contains(&version.dot.seq)
        && version.stamp.millis <= Stamp::MILLIS_MAX
        && version.value.len() <= Version::VALUE_BYTES_MAX
        && version.content_type.len() <= Version::CONTENT_TYPE_BYTES_MAX
        && (!version.tombstone || version.value.is_empty())
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
