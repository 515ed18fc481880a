//! Drops tombstones, versions past their deadline, and what lies below the checkpoints of histories, once nothing can
//! need them any more.
//!
//! Promises that a version is dropped only if every member, unreachable ones included, had covered its dot (the
//! *stable cut*) for as long as the grace, and that the cut is in `collected`, and every meeting over, in the
//! turn of the first drop. The grace is an economy: what makes a drop safe is the check when two nodes meet.
//! The past of a checkpoint has to be stable *twice over*: all that any member had written when it covered the
//! checkpoint must have been covered by all. Then nobody can write beside the checkpoint any more, only on top of it.
//! Leaves to others: what the cut is (`meeting`), what a checkpoint is (`history`), and what becomes of those who missed a delete (`rebase`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::Rng;

use super::history;
use super::meeting::{Meetings, Own};
use super::membership::Membership;
use super::outbox::{Level, Outbox};
use super::replica::Replica;
use crate::model::{Dot, DotSet, Instant, Key, NodeId, Now, Policy, Row, Version};
use crate::mutants;
use crate::storage::rows::{self, Record};
use crate::storage::{Batch, Storage, StorageError, Table};

/// Most rows of the index of tombstones that one turn looks at.
pub const STEP_ROWS_MAX: usize = 256;
/// Most cuts that are kept while they ripen.
pub const CUTS_MAX: usize = 8;
/// Shortest time between two looks for something to collect.
pub const LOOK_MIN: Duration = Duration::from_millis(50);
/// Longest time between two looks.
pub const LOOK_MAX: Duration = Duration::from_secs(900);
/// How long a collection waits for others that are being held against this node just now.
pub const HELD_PATIENCE: Duration = Duration::from_secs(300);

/// The collection of one node.
#[derive(Debug)]
pub struct Collector {
    grace: Duration,
    next_look: Instant,
    /// Cuts as they became stable, oldest first. The first may be older than the grace, all others are younger.
    cuts: VecDeque<(Instant, DotSet)>,
    /// What is stable twice over.
    twice: Twice,
    /// What of that the last round that ended was about.
    truncated_at: DotSet,
    round: Option<Round>,
    /// Since when collections wait for somebody who is held against this node.
    held_since: Option<Instant>,
    /// Members of whom too little is known for anything to be collected, as of the last look.
    waits_for: Vec<NodeId>,
}

/// Finds what is stable twice over.
#[derive(Debug, Default)]
struct Twice {
    /// What all had covered when each had covered no more than the second set: once all have covered that, too, nobody
    /// can write anything any more that does not know of the first.
    next: Option<(DotSet, DotSet)>,
    cut: DotSet,
}

impl Twice {
    /// Notes that `cut` is stable just now.
    fn note(&mut self, cut: &DotSet, moments: impl FnOnce() -> Option<(DotSet, DotSet)>) {
        if self.next.as_ref().is_some_and(|(_, any)| cut.includes(any)) {
            let (all, _) = self.next.take().expect("just looked at");
            self.cut.union(&all);
        }
        if self.next.is_none() && !self.cut.includes(cut) {
            self.next = moments();
        }
    }
}

/// Two walks over the index of tombstones. The first one sorts out what has to stay for now, so that what is said to
/// be collected is what is dropped, and others can follow; the second one drops.
#[derive(Debug)]
struct Round {
    /// What every member has covered for long enough; after the first walk, without what stays.
    cut: DotSet,
    /// What somebody has dropped already.
    elsewhere: DotSet,
    /// Below which checkpoints there may be something to truncate; `None` if there was nothing left the last time.
    twice: Option<DotSet>,
    stays: DotSet,
    walk: Walk,
    after: Option<Dot>,
    dropped: u64,
    truncated: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Walk {
    Sort,
    Drop,
}

/// The machines that a collection acts on.
pub struct Around<'a> {
    /// What this node holds.
    pub replica: &'a mut Replica,
    /// Who has covered what.
    pub meetings: &'a mut Meetings,
    /// Who counts.
    pub members: &'a Membership,
    /// Whether somebody is held against this node just now.
    pub is_reference: bool,
}

impl Collector {
    /// Nothing ripens yet: the grace starts anew with each start.
    pub fn new(grace: Duration, now: Now) -> Collector {
        Collector {
            grace,
            next_look: now.mono + interval(grace),
            cuts: VecDeque::new(),
            twice: Twice::default(),
            truncated_at: DotSet::default(),
            round: None,
            held_since: None,
            waits_for: Vec::new(),
        }
    }

    /// When the next thing is due.
    pub fn next_wakeup(&self) -> Option<Instant> {
        Some(self.next_look)
    }

    /// Members for whom tombstones wait.
    pub fn waits_for(&self) -> &[NodeId] {
        &self.waits_for
    }

    /// Looks again later.
    pub fn put_off(&mut self, now: Now) {
        self.next_look = now.mono + interval(self.grace);
    }

    /// Looks what has ripened, or goes on with a round, for one bounded step.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn on_tick(
        &mut self,
        now: Now,
        store: &mut impl Storage,
        mut around: Around<'_>,
        dice: &mut impl Rng,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        self.put_off(now);
        if self.is_held(now.mono, around.is_reference) {
            return Ok(());
        }
        if self.round.is_none() {
            self.look(now, store, &mut around, out)?;
        }
        let Some(mut round) = self.round.take() else { return Ok(()) };
        if !round.step(now, store, &mut around, dice, out)? {
            self.round = Some(round);
            self.next_look = now.mono + Duration::from_millis(1);
            return Ok(());
        }
        self.truncated_at = round.twice.unwrap_or(std::mem::take(&mut self.truncated_at));
        if round.dropped + round.truncated > 0 {
            // Every collection ends the meetings. What streams in them must get on between two of them.
            self.next_look = now.mono + self.grace.clamp(LOOK_MIN, LOOK_MAX);
        }
        Ok(())
    }

    /// Notes the present cut, and adds the latest one that is older than the grace to `ripe`.
    fn ripen(&mut self, now: Instant, cut: &DotSet, ripe: &mut DotSet) {
        if self.cuts.back().is_none_or(|(_, last)| last != cut) && self.cuts.len() < CUTS_MAX {
            self.cuts.push_back((now, cut.clone()));
        }
        let grace = if mutants::is_on("collect-now") { Duration::ZERO } else { self.grace };
        let is_ripe = |(since, _): &(Instant, DotSet)| now.since(*since) >= grace;
        while self.cuts.get(1).is_some_and(is_ripe) {
            self.cuts.pop_front();
        }
        if let Some((_, own)) = self.cuts.front().filter(|cut| is_ripe(cut)) {
            ripe.union(own);
        }
    }

    fn is_held(&mut self, now: Instant, is_reference: bool) -> bool {
        if !is_reference {
            self.held_since = None;
            return false;
        }
        now.since(*self.held_since.get_or_insert(now)) < HELD_PATIENCE
    }

    /// Notes the present cut, and begins a round if an earlier one has ripened.
    fn look(
        &mut self,
        now: Now,
        store: &impl Storage,
        around: &mut Around<'_>,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        if rows::tombs(store, None, 1)?.is_empty() {
            self.cuts.clear();
            self.twice = Twice::default();
            self.waits_for.clear();
            return Ok(());
        }
        if !around.members.knows_members() {
            // A node whose disk was wiped thinks that it is alone, until it is told otherwise.
            return Ok(());
        }
        let own = Own { replica: around.replica, members: around.members };
        let (mut cut, mut unknown) = around.meetings.stable_cut(own);
        if mutants::is_on("grace-only") {
            (cut, unknown) = (own.replica.seen().clone(), Vec::new());
        }
        for peer in own.members.reachable() {
            if !around.meetings.is_whole(&peer, own) {
                around.meetings.refresh(now, &peer, own, out);
            }
        }
        self.waits_for = unknown;
        // What others have collected has waited long enough, and while this node keeps it they do not compare equal.
        let elsewhere = around.meetings.collected_elsewhere();
        let mut ripe = elsewhere.clone();
        // What was stable before still is while somebody is unknown, but nobody can say so just now.
        if self.waits_for.is_empty() {
            self.ripen(now.mono, &cut, &mut ripe);
            self.twice.note(&cut, || around.meetings.moments(own));
        }
        // A member that came, or came back with less, since then counts as well.
        let cut = ripe.intersection(&cut);
        if !cut.is_empty() {
            let (stays, walk) = (DotSet::default(), Walk::Sort);
            let twice =
                if mutants::is_on("truncate-once") { cut.clone() } else { self.twice.cut.intersection(&cut) };
            let twice = Some(twice).filter(|twice| *twice != self.truncated_at);
            self.round =
                Some(Round { cut, elsewhere, twice, stays, walk, after: None, dropped: 0, truncated: 0 });
        }
        Ok(())
    }
}

impl Round {
    /// Looks at one page of the index; says whether that was the last one.
    fn step(
        &mut self,
        now: Now,
        store: &mut impl Storage,
        around: &mut Around<'_>,
        dice: &mut impl Rng,
        out: &mut Outbox,
    ) -> Result<bool, StorageError> {
        let page = rows::tombs(store, self.after, STEP_ROWS_MAX)?;
        let is_last = page.len() < STEP_ROWS_MAX;
        self.after = page.last().map(|(dot, _)| *dot);
        match self.walk {
            Walk::Sort => {
                for (dot, key) in page {
                    if !self.cut.contains(dot) || is_history(around.replica, &key) {
                        continue;
                    }
                    if !self.may_go(now, store, around.replica, (dot, &key))? {
                        self.stays.insert(dot);
                    }
                }
                if is_last {
                    self.cut = self.cut.minus(&self.stays);
                    (self.walk, self.after) = (Walk::Drop, None);
                }
                Ok(false)
            }
            Walk::Drop => {
                self.drop_page(now, store, around, page, dice, out)?;
                if is_last && self.dropped > 0 {
                    let text = format!("{} tombstones and expired versions", self.dropped);
                    out.event(Level::Info, "collected", text);
                }
                if is_last && self.truncated > 0 {
                    let text = format!("{} transactions below checkpoints", self.truncated);
                    out.event(Level::Info, "history-truncated", text);
                }
                Ok(is_last)
            }
        }
    }

    fn drop_page(
        &mut self,
        now: Now,
        store: &mut impl Storage,
        around: &mut Around<'_>,
        page: Vec<(Dot, Key)>,
        dice: &mut impl Rng,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let (mut dropped, mut truncated) = (0, 0);
        let mut histories: BTreeMap<Key, Vec<Dot>> = BTreeMap::new();
        for (dot, key) in page.into_iter().filter(|(dot, _)| self.cut.contains(*dot)) {
            if is_history(around.replica, &key) {
                histories.entry(key).or_default().push(dot);
            } else {
                dropped += u64::from(drop_one(store, around.replica, (dot, &key))?);
            }
        }
        if let Some(twice) = &self.twice {
            for (key, dots) in histories {
                truncated += truncate(store, around.replica, &key, (&dots, twice))?;
            }
        }
        if dropped + truncated > 0 && self.dropped + self.truncated == 0 {
            around.replica.collect_at(&self.cut);
            if !mutants::is_on("no-epoch") {
                let own = Own { replica: around.replica, members: around.members };
                around.meetings.renew(now, own, dice, out);
            }
        }
        self.dropped += dropped;
        self.truncated += truncated;
        out.count("tombstones_collected", dropped);
        out.count("transactions_truncated", truncated);
        Ok(())
    }

    /// Whether the time of a version has come, here or, as far as clocks may stray, where it was dropped. What is
    /// stamped further ahead than that waits until it no longer is, so that the horizon does not run ahead of the
    /// clocks; unless a clock that was wrong has let it go already.
    fn may_go(
        &self,
        now: Now,
        store: &impl Storage,
        replica: &Replica,
        (dot, key): (Dot, &Key),
    ) -> Result<bool, StorageError> {
        let record = match rows::record(store, key)? {
            // Whatever is in there waits for its repair.
            Record::Rotten => return Ok(false),
            record => record,
        };
        let Some(version) = record.versions().iter().find(|version| version.dot == dot) else {
            // Left over from a record that could not be read when it was replaced.
            return Ok(true);
        };
        if self.elsewhere.contains(dot) && replica.is_over_somewhere(now, version) {
            return Ok(true);
        }
        let is_far = replica.clock().is_far(version.stamp, now);
        Ok(replica.is_over(now, version) && !is_far)
    }
}

/// Takes a version out of its row and remembers how late it was; says whether it was there.
fn drop_one(
    store: &mut impl Storage,
    replica: &mut Replica,
    (dot, key): (Dot, &Key),
) -> Result<bool, StorageError> {
    let row = match rows::record(store, key)? {
        Record::Rotten => return Ok(false),
        Record::Row(row) => row,
        Record::Absent => Row::default(),
    };
    let mut batch = Batch::default();
    let Some(version) = row.version(dot) else {
        batch.remove(Table::Tombs, rows::encode_dot(dot));
        store.apply(batch)?;
        return Ok(false);
    };
    let chunk = rows::chunk(key);
    if rows::horizon(store, chunk)? < version.stamp && !mutants::is_on("no-horizon") {
        rows::put_horizon(&mut batch, chunk, version.stamp);
    }
    let left = row.versions.iter().filter(|held| held.dot != dot).cloned().collect();
    let after = Row { versions: left, context: row.context.minus(replica.seen()) };
    store.apply(batch)?;
    replica.set_row(store, key, &after, &row.versions)?;
    Ok(true)
}

/// Takes out of the history of a key what lies below its latest checkpoint that is stable twice over with all its past;
/// says how many transactions that were. `dots` may be checkpoints; those that nothing comes below any more are
/// forgotten as such.
fn truncate(
    store: &mut impl Storage,
    replica: &mut Replica,
    key: &Key,
    (dots, twice): (&[Dot], &DotSet),
) -> Result<u64, StorageError> {
    let Record::Row(row) = rows::record(store, key)? else { return Ok(0) };
    let dag = history::dag(&row.versions, replica.seen());
    let gone = history::truncatable(&dag, twice);
    let stays = |version: &&Version| !gone.contains(&version.dot);
    let goes = |at: &usize| gone.contains(&dag.transaction(*at).dot);
    // One that is not held is left over from a record that could not be read when it was replaced.
    let is_bare =
        |dot: &&Dot| dag.place(**dot).is_none_or(|at| twice.contains(**dot) && dag.past(at).iter().all(goes));
    let mut batch = Batch::default();
    for dot in dots.iter().filter(is_bare) {
        batch.remove(Table::Tombs, rows::encode_dot(*dot));
    }
    store.apply(batch)?;
    if !gone.is_empty() {
        let versions = row.versions.iter().filter(stays).cloned().collect();
        replica.set_row(store, key, &Row { versions, context: row.context }, &row.versions)?;
    }
    Ok(gone.len() as u64)
}

fn is_history(replica: &Replica, key: &Key) -> bool {
    matches!(replica.policy(key), Policy::History(_))
}

fn interval(grace: Duration) -> Duration {
    (grace / 4).clamp(LOOK_MIN, LOOK_MAX)
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
