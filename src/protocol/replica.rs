//! One replica's versions: its own writes, the merging of others', and the set of dots it has seen.
//!
//! Promises that `seen` never runs ahead of the records: both change in the same turn, so in the same
//! transaction. Leaves to others who sends what to whom.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;

use super::chunks::{Chunks, Scrubbed};
use super::decisions::Decisions;
use super::history;
use super::hlc::Hlc;
use super::order;
use super::outbox::Outbox;
use super::outline::Which;
use super::siblings::{self, Known, Saw};
use super::summary::SummaryKey;
use super::vote::{Collision, Verdict};
use crate::model::{
    Decision, Dot, DotSet, Entry, Key, Now, Origin, Policies, Policy, Row, Stamp, Version, WallTime,
};
use crate::mutants;
use crate::storage::rows::{self, Identity, Record};
use crate::storage::{Batch, Read, Storage, StorageError, Table};

/// Most keys in quarantine that are looked at in one turn.
pub const LIFTED_MAX: usize = 64;

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
    /// These bytes from an offset on; only under policy `history`.
    Patch {
        /// In bytes.
        offset: u64,
        /// The bytes.
        value: Bytes,
        /// Their media type, if nothing lies under the key.
        content_type: String,
    },
}

/// What became of an entry from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// It is the record now.
    Won,
    /// What was there beats it.
    Lost,
    /// Its dot had been seen.
    Known,
    /// No client and no node of ours can have made it; it was dropped.
    Malformed,
}

/// A row that changed, for the summaries.
#[derive(Debug)]
struct Changed {
    key: Key,
    before: Vec<Version>,
    after: Vec<Version>,
}

/// The versions of one node over its store.
#[derive(Debug)]
pub struct Replica {
    seen: DotSet,
    /// Origins whose row in the store is behind `seen`.
    unsaved: BTreeSet<Origin>,
    /// The join of all cuts ever collected at, here or by those this node was held against.
    collected: DotSet,
    /// Origins whose row in the store is behind `collected`.
    uncollected: BTreeSet<Origin>,
    digest: Option<u64>,
    clock: Hlc,
    origin: Option<Origin>,
    /// For `tie-by-view`: whether some member is not alive.
    #[cfg(feature = "mutants")]
    pub is_partial: bool,
    /// For `tie-by-peer`: whether the peer whose message is being taken joined before this node.
    #[cfg(feature = "mutants")]
    pub is_served_by_older: bool,
    /// The last number that this run's origin has issued. `seen` may have lost it again, to rot.
    issued: u64,
    chunks: Chunks,
    policies: Policies,
    /// Rows that are not written yet, and whether they wait for more.
    gathered: Batch,
    changed: Vec<Changed>,
    is_gathering: bool,
    /// Whether there may be records in quarantine.
    has_quarantine: bool,
    /// Timestamp collisions of this turn.
    collisions: Vec<Collision>,
    /// Concurrent values and forks that this turn's merges found, by the names of their events.
    notices: Vec<(&'static str, String)>,
    decisions: Decisions,
}

impl Replica {
    /// Reads what the disk has seen. `identity` gives the clock's durable mark, `key` hashes the summaries.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn load(
        store: &impl Read,
        identity: &Identity,
        key: SummaryKey,
        drift_max: Duration,
        now: Now,
    ) -> Result<Replica, StorageError> {
        let seen = rows::dot_set(store, Table::Seen)?;
        let collected = rows::dot_set(store, Table::Collected)?;
        let clock = Hlc::new(identity.high_water, drift_max, now);
        let mut origin = mutants::is_on("dot-reuse").then(|| seen.origins().next()).flatten();
        if mutants::is_on("origin-fixed") {
            let name = identity.id.as_str().bytes();
            origin = Some(Origin(name.fold(17, |sum, byte| sum * 31 + u64::from(byte))));
        }
        Ok(Replica {
            seen,
            unsaved: BTreeSet::new(),
            digest: None,
            clock,
            origin,
            #[cfg(feature = "mutants")]
            is_partial: false,
            #[cfg(feature = "mutants")]
            is_served_by_older: false,
            collected,
            uncollected: BTreeSet::new(),
            issued: 0,
            chunks: Chunks::load(store, key)?,
            policies: Policies::default(),
            gathered: Batch::default(),
            changed: Vec::new(),
            is_gathering: false,
            has_quarantine: !rows::quarantine(store, Bound::Unbounded, 1)?.is_empty(),
            collisions: Vec::new(),
            notices: Vec::new(),
            decisions: Decisions::default(),
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
        (change, saw): (Change, &Saw),
    ) -> Result<Entry, StorageError> {
        let current = self.saved(store, &key, current)?;
        let replaced = current.versions();
        let mut floor = replaced.iter().map(|version| version.stamp).max().unwrap_or_default();
        if !current.is_sound() {
            // A stamp that is far ahead is damage more likely than a broken clock's, and would hold the key for years.
            let seems = rows::quarantined_stamp(store, &key)?;
            floor = if self.clock.is_far(seems, now) { Stamp::default() } else { seems };
        }
        // A delete whose tombstone was collected is not in the row any more, and must not beat this write elsewhere.
        if !mutants::is_on("stamp-below-horizon") {
            floor = floor.max(rows::horizon(store, rows::chunk(&key))?);
        }
        if let Saw::Token(token) = saw {
            floor = floor.max(token.stamp);
        }
        let stamp = match change {
            Change::Tombstone if mutants::is_on("delete-early") => {
                Stamp { millis: now.wall.0.min(Stamp::MILLIS_MAX), counter: 0 }
            }
            Change::Tombstone | Change::Value { .. } | Change::Patch { .. } => self.clock.issue(now, floor),
        };
        let dot = self.next_dot(dice);
        if let Policy::History(_) = self.policy(&key) {
            let version = self.transaction((stamp, dot, author_joined), replaced, change);
            let entry = Entry { key, version };
            self.add_transaction(store, &entry, replaced)?;
            return Ok(entry);
        }
        let version = match change {
            Change::Patch { .. } => unreachable!("the node takes patches of histories only"),
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
        };
        let mut entry = Entry { key, version };
        if self.policy(&entry.key) == Policy::Siblings {
            let mut context = self.replaced_by(saw, replaced, now);
            // Only a token that nobody gave out can name what is only now being written.
            context.remove(dot);
            entry.version.value = siblings::value(&context, &entry.version.value);
            self.add_sibling(store, &entry, replaced)?;
            if let (Saw::Token(token), true) = (saw, mutants::is_on("token-marks-seen")) {
                self.cover(&token.context);
            }
            return Ok(entry);
        }
        let removes = entry.version.tombstone && mutants::is_on("delete-removes");
        let row = if removes { Row::default() } else { Row::one(entry.version.clone()) };
        self.set_row(store, &entry.key, &row, replaced)?;
        self.mark(dot);
        Ok(entry)
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
        if !is_well_formed(&entry.version, self.policy(&entry.key)) {
            return Ok(Merged::Malformed);
        }
        if self.seen.contains(entry.version.dot) {
            return Ok(Merged::Known);
        }
        if mutants::is_on("far-refused") && self.clock.is_far(entry.version.stamp, now) {
            return Ok(Merged::Malformed);
        }
        let current = rows::record(store, &entry.key)?;
        self.settle(now, store, entry, &current)
    }

    /// Merges an entry although its dot may have been seen: the row that held it may be lost. Only for what a peer
    /// shows in a meeting, so that nothing comes back that was deleted and collected since.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn repair(
        &mut self,
        now: Now,
        store: &mut impl Storage,
        entry: &Entry,
    ) -> Result<Merged, StorageError> {
        let version = &entry.version;
        if !is_well_formed(version, self.policy(&entry.key)) {
            return Ok(Merged::Malformed);
        }
        let current = rows::record(store, &entry.key)?;
        let is_held = current.versions().contains(version);
        let is_collected = self.collected.contains(version.dot) && !mutants::is_on("tombstones-compared");
        if is_held || is_collected && self.is_over_somewhere(now, version) {
            return Ok(Merged::Known);
        }
        if is_collected && self.is_past(entry, current.versions()) {
            return Ok(Merged::Known);
        }
        if mutants::is_on("repair-overwrites") {
            self.set_row(store, &entry.key, &Row::one(version.clone()), current.versions())?;
            return Ok(Merged::Won);
        }
        let was_lost = self.seen.contains(version.dot);
        let merged = self.settle(now, store, entry, &current)?;
        if was_lost && merged == Merged::Won {
            // The sums may speak of the lost row still, and would now do so twice.
            self.chunks.recount(store, entry.key.as_bytes())?;
        }
        Ok(merged)
    }

    fn settle(
        &mut self,
        now: Now,
        store: &mut impl Storage,
        entry: &Entry,
        current: &Record,
    ) -> Result<Merged, StorageError> {
        let current = &*self.saved(store, &entry.key, current)?;
        if !mutants::is_on("clock-unseen") {
            self.clock.observe(entry.version.stamp, now);
        }
        if let Policy::History(_) = self.policy(&entry.key) {
            self.add_transaction(store, entry, current.versions())?;
            self.note_fork(entry, current.versions());
            return Ok(Merged::Won);
        }
        if self.policy(&entry.key) == Policy::Siblings {
            return self.add_sibling(store, entry, current.versions());
        }
        self.mark(entry.version.dot);
        let held = order::greatest(current.versions());
        if let Some(held) = held.filter(|held| order::collide(held, &entry.version)) {
            let (key, came) = (entry.key.clone(), entry.version.clone());
            self.collisions.push(Collision { key, held: held.clone(), came });
        }
        let wins = held.is_none_or(|current| self.beats(&entry.version, current));
        if let Some(held) = held {
            let (winner, loser) = if wins { (&entry.version, held) } else { (held, &entry.version) };
            self.decisions.note(&entry.key, winner, loser);
        }
        if !wins {
            return Ok(Merged::Lost);
        }
        #[cfg(feature = "mutants")]
        let entry = &rearmed(now, entry);
        self.set_row(store, &entry.key, &Row::one(entry.version.clone()), current.versions())?;
        Ok(Merged::Won)
    }

    /// A client's change as a transaction on top of all heads that the writer holds.
    fn transaction(
        &self,
        (stamp, dot, author_joined): (Stamp, Dot, WallTime),
        held: &[Version],
        change: Change,
    ) -> Version {
        let (kind, bytes, content_type) = match change {
            Change::Value { value, content_type, ttl: _ } => (history::Kind::Full, value, content_type),
            Change::Tombstone => (history::Kind::Delete, Bytes::new(), String::new()),
            Change::Patch { offset, value, content_type } => {
                (history::Kind::Patch { offset }, value, content_type)
            }
        };
        let (parents, vector) = history::heads(held, &self.seen, &self.collected);
        Version {
            stamp,
            dot,
            author_joined,
            ruling: 0,
            confirms: None,
            tombstone: false,
            expires_at: None,
            content_type,
            value: history::transaction::value(kind, &parents, &vector, &bytes),
        }
    }

    /// Adds a transaction to the history of its key, whose transactions so far are `held`.
    fn add_transaction(
        &mut self,
        store: &mut impl Storage,
        entry: &Entry,
        held: &[Version],
    ) -> Result<(), StorageError> {
        let mut versions = history::merge(held, std::slice::from_ref(&entry.version));
        if mutants::is_on("history-last-only") {
            versions.retain(|version| version.dot == entry.version.dot);
        }
        let row = Row { versions, context: DotSet::default() };
        self.set_row(store, &entry.key, &row, held)?;
        self.mark(entry.version.dot);
        Ok(())
    }

    /// Whether a transaction lies below a checkpoint that is here.
    fn is_past(&self, entry: &Entry, held: &[Version]) -> bool {
        let is_history = matches!(self.policy(&entry.key), Policy::History(_));
        let merged = || history::merge(held, std::slice::from_ref(&entry.version));
        is_history && history::past(&merged()).contains(&entry.version.dot)
    }

    /// Notes if the history of a key has more ends than it had.
    fn note_fork(&mut self, entry: &Entry, held: &[Version]) {
        let before = history::ends(held);
        let after = history::ends(&history::merge(held, std::slice::from_ref(&entry.version)));
        if after > before.max(1) {
            let text = format!(
                "{}: {} and others were written without knowing of each other; {after} heads",
                entry.key, entry.version.dot
            );
            self.notices.push(("history-forked", text));
            self.note_discarded(entry, held);
        }
    }

    /// Notes what the view leaves out since the history of a key forked: nothing is dropped silently.
    fn note_discarded(&mut self, entry: &Entry, held: &[Version]) {
        let Policy::History(strategy) = self.policy(&entry.key) else { return };
        let discarded = |versions: &[Version]| {
            let (dag, view) = history::read(versions, strategy);
            view.discarded(&dag)
        };
        let before = discarded(held);
        let after = discarded(&history::merge(held, std::slice::from_ref(&entry.version)));
        if after > before {
            let name = strategy.name();
            let text = format!("{}: {after} transactions are kept and not shown under {name}", entry.key);
            self.notices.push(("branch-discarded", text));
        }
    }

    /// Concurrent values and forks that merges found since the last call.
    pub fn take_notices(&mut self) -> Vec<(&'static str, String)> {
        std::mem::take(&mut self.notices)
    }

    /// How versions of a key that met here were decided between, the latest first.
    pub fn decisions(&self, key: &Key) -> Vec<Decision> {
        self.decisions.of(key)
    }

    /// Adds a sibling beside those of its key, without those that it replaces.
    fn add_sibling(
        &mut self,
        store: &mut impl Storage,
        entry: &Entry,
        held: &[Version],
    ) -> Result<Merged, StorageError> {
        let versions = siblings::merge(held, std::slice::from_ref(&entry.version));
        self.mark(entry.version.dot);
        if versions == held {
            return Ok(Merged::Lost);
        }
        let values = |versions: &[Version]| versions.iter().filter(|version| !version.tombstone).count();
        if values(&versions) > values(held).max(1) {
            let text = format!("{}: {} concurrent values", entry.key, values(&versions));
            self.notices.push(("siblings-concurrent", text));
        }
        let row = Row { versions, context: DotSet::default() };
        self.set_row(store, &entry.key, &row, held)?;
        Ok(Merged::Won)
    }

    /// What a write replaces that saw `saw` of these siblings.
    pub fn replaced_by(&self, saw: &Saw, versions: &[Version], now: Now) -> DotSet {
        siblings::replaced_by(saw, versions, self.known(), self.clock.read_millis(now))
    }

    /// What a reader of these siblings knows of their key.
    pub fn context(&self, versions: &[Version]) -> DotSet {
        siblings::context(versions, self.known())
    }

    fn known(&self) -> Known<'_> {
        Known { seen: &self.seen, collected: &self.collected }
    }

    fn beats(&self, new: &Version, old: &Version) -> bool {
        let is_tie = new.stamp == old.stamp;
        let are_values = !new.tombstone && !old.tombstone;
        if mutants::is_on("tie-incoming") && is_tie
            || mutants::is_on("tie-delete") && is_tie && new.tombstone != old.tombstone
        {
            return true;
        }
        if mutants::is_on("tie-keeps") && is_tie && are_values {
            return false;
        }
        #[cfg(feature = "mutants")]
        if is_tie && are_values && mutants::is_on("tie-by-peer") {
            return self.is_served_by_older;
        }
        #[cfg(feature = "mutants")]
        if self.is_partial && is_tie && are_values && new.author_joined != old.author_joined {
            return new.author_joined > old.author_joined;
        }
        order::beats(new, old)
    }

    /// Makes `row` the record of `key` in place of `before`, in the summaries too; an empty row removes it. The
    /// one way in which a record may change.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn set_row(
        &mut self,
        store: &mut impl Storage,
        key: &Key,
        row: &Row,
        before: &[Version],
    ) -> Result<(), StorageError> {
        self.put_row(key, row, before);
        let changed = Changed { key: key.clone(), before: before.to_vec(), after: row.versions.clone() };
        self.changed.push(changed);
        self.settle_rows(store)
    }

    /// Merges what a stream brought, as [`Replica::merge`] does one by one, and writes it in few steps: a table that
    /// is opened once for a hundred rows costs a hundredth.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn merge_all(
        &mut self,
        now: Now,
        store: &mut impl Storage,
        entries: &[Entry],
    ) -> Result<Vec<Merged>, StorageError> {
        let mut merged = Vec::with_capacity(entries.len());
        let mut touched = BTreeSet::new();
        for entry in entries {
            // A row is read from the store, and a new cut counts what lies there: both must have been written.
            if !touched.insert(&entry.key) || self.chunks.key().is_boundary(&entry.key) {
                self.settle_rows(store)?;
            }
            self.is_gathering = true;
            let result = self.merge(now, store, entry);
            self.is_gathering = false;
            merged.push(result?);
            if self.chunks.key().is_boundary(&entry.key) {
                self.settle_rows(store)?;
            }
        }
        self.settle_rows(store)?;
        Ok(merged)
    }

    fn put_row(&mut self, key: &Key, row: &Row, before: &[Version]) {
        rows::put_row(&mut self.gathered, key, row, before);
        if before.is_empty() && self.has_quarantine {
            // Only then can there have been a record in quarantine, which this one replaces.
            self.gathered.remove(Table::Quarantine, key.as_bytes());
        }
    }

    /// Writes the rows that were gathered, and lets the summaries follow.
    fn settle_rows(&mut self, store: &mut impl Storage) -> Result<(), StorageError> {
        if self.is_gathering || self.changed.is_empty() {
            return Ok(());
        }
        store.apply(std::mem::take(&mut self.gathered))?;
        for Changed { key, before, after } in std::mem::take(&mut self.changed) {
            self.chunks.change(store, &key, &before, &after)?;
        }
        Ok(())
    }

    /// Takes a record that fails its checksum out of the way: what can be read of its versions makes it up again, the
    /// dots of what cannot are no longer seen, and so whoever holds them sends them again. Says whether there was such a
    /// record.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn quarantine(&mut self, store: &mut impl Storage, key: &Key) -> Result<bool, StorageError> {
        // The chunk is counted below: what waits must be in it.
        let was_gathering = std::mem::take(&mut self.is_gathering);
        self.settle_rows(store)?;
        self.is_gathering = was_gathering;
        let Some(record) = store.get(Table::Records, key.as_bytes())? else { return Ok(false) };
        if rows::record(store, key)?.is_sound() {
            return Ok(false);
        }
        self.has_quarantine = true;
        let dots = rows::dots_of(store, key, &record)?;
        let mut batch = Batch::default();
        let lost = rows::put_in_quarantine(store, &mut batch, key, record, &dots)?;
        store.apply(batch)?;
        for dot in lost {
            self.uncover(dot);
        }
        self.chunks.recount(store, key.as_bytes())?;
        Ok(true)
    }

    /// A record that is about to be changed. One that cannot be read goes into quarantine first, and what could be saved
    /// from it is changed.
    fn saved<'a>(
        &mut self,
        store: &mut impl Storage,
        key: &Key,
        current: &'a Record,
    ) -> Result<Cow<'a, Record>, StorageError> {
        if current.is_sound() {
            return Ok(Cow::Borrowed(current));
        }
        self.quarantine(store, key)?;
        Ok(Cow::Owned(rows::record(store, key)?))
    }

    /// Forgets records in quarantine whose dots are all covered again although no record came with them: whoever has
    /// covered them holds none any more, because it was deleted and the delete collected. A record that no dot led to
    /// stood where nothing had been. Looks at a page of keys
    /// after `after`; says where to go on, if there are more.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn lift_quarantine(
        &mut self,
        store: &mut impl Storage,
        after: Option<&Key>,
    ) -> Result<Option<Key>, StorageError> {
        if !self.has_quarantine {
            return Ok(None);
        }
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_bytes()));
        let page = rows::quarantine(store, from, LIFTED_MAX)?;
        let mut batch = Batch::default();
        for key in &page {
            let lost = rows::quarantined_dots(store, key)?;
            if lost.iter().all(|dot| self.seen.contains(*dot)) {
                batch.remove(Table::Quarantine, key.as_bytes());
            }
        }
        store.apply(batch)?;
        let has_more = page.len() == LIFTED_MAX;
        Ok(page.into_iter().last().filter(|_| has_more))
    }

    /// Writes what a vote found, unless the row is no longer one of the two that were voted on.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn rule(
        &mut self,
        store: &mut impl Storage,
        dice: &mut impl Rng,
        verdict: Verdict,
    ) -> Result<Option<Entry>, StorageError> {
        let Verdict { key, pair, confirmed, votes } = verdict;
        let current = rows::record(store, &key)?;
        let is_open = order::greatest(current.versions()).is_some_and(|held| pair.contains(&held.dot));
        if !is_open {
            return Ok(None);
        }
        let mut dot = self.next_dot(dice);
        if mutants::is_on("vote-in-place") {
            dot = confirmed.dot;
        }
        let (ruling, confirms) = (votes.max(1), Some(confirmed.dot));
        let entry = Entry { key, version: Version { dot, ruling, confirms, ..confirmed } };
        self.set_row(store, &entry.key, &Row::one(entry.version.clone()), current.versions())?;
        self.mark(dot);
        Ok(Some(entry))
    }

    /// The timestamp collisions that merges met since the last call.
    pub fn take_collisions(&mut self) -> Vec<Collision> {
        std::mem::take(&mut self.collisions)
    }

    /// Marks what a peer had covered, once every record of its pass is here.
    pub fn cover(&mut self, covered: &DotSet) {
        for (origin, first, last) in covered.iter() {
            self.seen.insert_run(origin, first, last);
            self.unsaved.insert(origin);
        }
        self.digest = None;
    }

    /// Whether a version says no more than nothing would: it is a tombstone, or past its deadline.
    pub fn is_over(&self, now: Now, version: &Version) -> bool {
        !version.is_live_at(self.clock.read_millis(now))
    }

    /// Whether a version says no more than nothing would by a clock that is ahead of this one, as far as clocks may
    /// stray.
    pub fn is_over_somewhere(&self, now: Now, version: &Version) -> bool {
        let drift = u64::try_from(self.clock.drift_max().as_millis()).unwrap_or(u64::MAX);
        !version.is_live_at(self.clock.read_millis(now).saturating_add(drift))
    }

    /// Adds a cut to what was collected.
    pub fn collect_at(&mut self, cut: &DotSet) {
        let news = cut.minus(&self.collected);
        self.uncollected.extend(news.origins());
        self.collected.union(&news);
    }

    /// Takes a dot out again: its version is gone here, to rot or to a rebase, so this node covers it no longer,
    /// until a peer that holds it, or what came after, says that it does.
    pub fn uncover(&mut self, dot: Dot) {
        self.seen.remove(dot);
        self.unsaved.insert(dot.origin);
        self.digest = None;
    }

    /// Adds the rows of `seen` and `collected` that changed since the last call to `batch`.
    pub fn save(&mut self, batch: &mut Batch) {
        for origin in std::mem::take(&mut self.unsaved) {
            rows::put_runs(batch, Table::Seen, origin, self.seen.runs(origin));
        }
        for origin in std::mem::take(&mut self.uncollected) {
            rows::put_runs(batch, Table::Collected, origin, self.collected.runs(origin));
        }
        self.chunks.save(batch);
    }

    /// The join of all cuts ever collected at. No version that a tombstone in it beats is here, or ever comes.
    pub fn collected(&self) -> &DotSet {
        &self.collected
    }

    /// One of this node's sets.
    pub fn set(&self, which: Which) -> &DotSet {
        match which {
            Which::Seen => &self.seen,
            Which::Collected => &self.collected,
        }
    }

    /// Looks at the rows of the chunk that begins at or before `start`, and counts it anew if they are not what they
    /// are said to be.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn scrub(&mut self, store: &impl Read, start: &[u8]) -> Result<Scrubbed, StorageError> {
        self.chunks.scrub(store, start)
    }

    /// What the versions of each range of keys come down to.
    pub fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// The dots this replica has covered.
    pub fn seen(&self) -> &DotSet {
        &self.seen
    }

    /// Digest of `seen`.
    pub fn seen_digest(&mut self) -> u64 {
        let own = if mutants::is_on("digest-own") { self.origin.map_or(0, |origin| origin.0) } else { 0 };
        *self.digest.get_or_insert_with(|| self.seen.digest() ^ own)
    }

    /// Counts a merged entry whose stamp is too far ahead to move the clock.
    pub fn count_far(&self, now: Now, entry: &Entry, out: &mut Outbox) {
        if self.clock.is_far(entry.version.stamp, now) {
            out.count("stamps_far_ahead", 1);
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
            self.issued = 0;
        }
        // A number may have been given out and not be covered any more, after a rebase.
        self.issued = self.issued.max(self.seen.last(origin)) + 1;
        Dot { origin, seq: self.issued }
    }

    fn mark(&mut self, dot: Dot) {
        self.seen.insert(dot);
        self.unsaved.insert(dot.origin);
        if !mutants::is_on("digest-stale") {
            self.digest = None;
        }
    }
}

/// For `ttl-rearmed`.
#[cfg(feature = "mutants")]
fn rearmed(now: Now, entry: &Entry) -> Entry {
    let mut entry = entry.clone();
    if let Some(deadline) = entry.version.expires_at.filter(|_| mutants::is_on("ttl-rearmed")) {
        let ttl = Duration::from_millis(deadline.0.saturating_sub(entry.version.stamp.millis));
        entry.version.expires_at = Some(now.wall.after(ttl));
    }
    entry
}

fn is_well_formed(version: &Version, policy: Policy) -> bool {
    let is_value_good = match policy {
        Policy::History(_) => history::is_well_formed(version),
        Policy::Siblings => siblings::is_well_formed(version),
        Policy::Lww => version.value.len() <= Version::VALUE_BYTES_MAX,
    };
    (1..=Dot::SEQ_MAX).contains(&version.dot.seq)
        && version.stamp.millis <= Stamp::MILLIS_MAX
        && is_value_good
        && version.content_type.len() <= Version::CONTENT_TYPE_BYTES_MAX
        && (!version.tombstone || version.value.is_empty() || policy == Policy::Siblings)
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
