//! How a node that is behind catches up with what was deleted and collected without it.
//!
//! A peer has collected a cut that this node did not cover: a backup was restored, a disk lied, was wiped or
//! cloned, or the node was forgotten and is back. Nothing it holds is taken by anybody before it was held against
//! that peer, version by version: what the peer holds too stays; what the peer has covered and no longer holds is
//! removed; what the peer has not covered stays if its stamp is later than anything the peer collected in that
//! part of the keys, else it is *set aside* and listed. It is the only place where absence removes a version.
//!
//! Meanwhile no data passes to or from this node, so that nothing slips in behind the walk. A client's write
//! does, with a stamp above the peer's horizon, which is adopted first. The judging side keeps no state at all.

use std::time::Duration;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::history;
use super::meeting::{Meetings, Own};
use super::membership::Membership;
use super::message::Message;
use super::outbox::{Level, Outbox};
use super::pull::backoff;
use super::replica::Replica;
use super::timing::Timing;
use crate::model::{Dot, DotSet, Entry, Instant, Key, NodeId, Now, Origin, Policy, Row, Stamp};
use crate::mutants;
use crate::storage::rows::{self, Record};
use crate::storage::{Batch, Read, Storage, StorageError};

/// Most versions in one question.
pub const QUESTION_VERSIONS_MAX: usize = 256;
/// Most bytes of keys in one question, so that it fits a frame.
pub const QUESTION_BYTES_MAX: usize = 32 * 1024;
/// Most chunks in one answer.
pub const HORIZONS_MAX: usize = 1024;
/// A peer that did not answer this often in a row is left for another one.
pub const FAILURES_MAX: u32 = 5;
/// For how long after a question a peer counts as being held against this node.
pub const REFERENCE_PATIENCE: Duration = Duration::from_secs(2);

/// A version that its holder asks about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Its name.
    pub dot: Dot,
    /// Its key.
    pub key: Key,
    /// Its time.
    pub stamp: Stamp,
    /// Whether it is a delete.
    pub tombstone: bool,
}

/// What becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Fate {
    /// It stays.
    Stays,
    /// It was replaced, by something that may be collected by now: it goes.
    Goes,
    /// It cannot be told from deleted data: it is set aside.
    Aside,
}

/// The rebase of one node, as long as there is one, and those of others that it answers.
#[derive(Debug)]
pub struct Rebase {
    timing: Timing,
    running: Option<Running>,
    /// When a peer that is held against this node last asked.
    asked: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    peer: NodeId,
    /// The peer's number: with another one it starts again.
    fence: u64,
    /// What the peer had collected under that number.
    collected: DotSet,
    question: Question,
    nonce: u64,
    retry_at: Instant,
    failures: u32,
    removed: u64,
    aside: u64,
    /// Whether the log was told of it: not where there is nothing to hold against anybody.
    is_told: bool,
}

#[derive(Debug)]
enum Question {
    Horizons { after: Option<u16> },
    Versions { held: Vec<Held> },
}

impl Rebase {
    /// Nothing to catch up with yet.
    pub fn new(timing: Timing) -> Rebase {
        Rebase { timing, running: None, asked: None }
    }

    /// Whether this node is being held against a peer.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether a peer is being held against this node.
    pub fn is_reference(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now.since(asked) < REFERENCE_PATIENCE)
    }

    /// When the next thing is due.
    pub fn next_wakeup(&self) -> Option<Instant> {
        self.running.as_ref().map(|running| running.retry_at)
    }

    /// Begins where a peer is ahead, gives up where it is not any more, and asks again where no answer came.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn look(
        &mut self,
        now: Now,
        store: &impl Read,
        (meetings, own): (&mut Meetings, Own<'_>),
        dice: &mut impl Rng,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        if let Some(running) = &self.running {
            let is_same = meetings.fence_of(&running.peer) == Some(running.fence);
            let is_there = own.members.reachable().contains(&running.peer);
            if !is_same || !is_there || running.failures > FAILURES_MAX {
                out.count("rebases_given_up", 1);
                if running.is_told {
                    out.event(Level::Info, "rebase-left", format!("{} is no longer asked", running.peer));
                }
                self.running = None;
                meetings.suspend(false, own, out);
            }
        }
        if self.running.is_none() && !mutants::is_on("no-rebase") {
            self.begin(now, store, (meetings, own), dice, out)?;
        }
        if let Some(running) = self.running.as_mut().filter(|running| running.retry_at <= now.mono) {
            running.failures += 1;
            running.retry_at = now.mono + backoff(&self.timing, running.failures, dice);
            if running.failures > 1 {
                // The peer may have another number by now.
                meetings.refresh(now, &running.peer, own, out);
            }
            running.ask(out);
        }
        Ok(())
    }

    fn begin(
        &mut self,
        now: Now,
        store: &impl Read,
        (meetings, own): (&mut Meetings, Own<'_>),
        dice: &mut impl Rng,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let Some(peer) = meetings.find_ahead(own) else { return Ok(()) };
        let (Some(fence), Some(collected)) = (meetings.fence_of(&peer), meetings.behind(&peer, own)) else {
            return Ok(());
        };
        let collected = collected.clone();
        meetings.suspend(true, own, out);
        let is_told = !rows::dots(store, FIRST, LAST, 1)?.is_empty();
        if is_told {
            out.event(
                Level::Info,
                "rebase",
                format!("held against {peer}, which collected without this node"),
            );
        }
        let running = Running {
            peer,
            fence,
            collected,
            question: Question::Horizons { after: None },
            nonce: dice.next_u64(),
            retry_at: now.mono + self.timing.retry_min,
            failures: 0,
            removed: 0,
            aside: 0,
            is_told,
        };
        running.ask(out);
        self.running = Some(running);
        Ok(())
    }

    /// The peer's horizons, from where they were asked for.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn on_horizons(
        &mut self,
        now: Now,
        store: &mut impl Storage,
        (from, nonce, chunks, is_last): (&NodeId, u64, &[(u16, Stamp)], bool),
        machines: Machines<'_>,
        dice: &mut impl Rng,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let silence_max = self.timing.silence_max;
        let Some(running) = self.expecting(from, nonce) else { return Ok(()) };
        let Question::Horizons { after } = &mut running.question else { return Ok(()) };
        let mut batch = Batch::default();
        for (chunk, stamp) in chunks {
            if stamp.millis <= Stamp::MILLIS_MAX && rows::horizon(store, *chunk)? < *stamp {
                rows::put_horizon(&mut batch, *chunk, *stamp);
            }
        }
        store.apply(batch)?;
        match chunks.last().filter(|_| !is_last) {
            Some((chunk, _)) if after.is_none_or(|after| after < *chunk) => {
                *after = Some(*chunk);
                running.go_on(now, silence_max, dice, out);
                Ok(())
            }
            _ => self.ask_from(now, store, FIRST, machines, dice, out),
        }
    }

    /// The peer's verdicts on what it was asked about.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn on_judged(
        &mut self,
        now: Now,
        store: &mut impl Storage,
        (from, nonce, fates): (&NodeId, u64, &[Fate]),
        machines: Machines<'_>,
        dice: &mut impl Rng,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let Some(running) = self.expecting(from, nonce) else { return Ok(()) };
        let Question::Versions { held } = &running.question else { return Ok(()) };
        if held.len() != fates.len() {
            out.count("messages_malformed", 1);
            return Ok(());
        }
        let held = held.clone();
        for (held, fate) in held.iter().zip(fates) {
            match fate {
                Fate::Stays => {}
                Fate::Goes => running.removed += u64::from(take_out(store, machines.replica, held, false)?),
                Fate::Aside => running.aside += u64::from(take_out(store, machines.replica, held, true)?),
            }
        }
        let next = held.last().and_then(|held| after(held.dot));
        match next {
            Some(next) => self.ask_from(now, store, next, machines, dice, out),
            None => {
                self.finish(now, machines, dice, out);
                Ok(())
            }
        }
    }

    /// Asks about the next versions from `first` on; without any the rebase is done.
    fn ask_from(
        &mut self,
        now: Now,
        store: &impl Read,
        first: Dot,
        machines: Machines<'_>,
        dice: &mut impl Rng,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let running = self.running.as_mut().expect("the caller has just found it");
        let mut held = Vec::new();
        let (mut first, mut bytes) = (Some(first), 0);
        // Rows that cannot be read are no versions: they are passed over, a page at a time.
        while let Some(from) = first.filter(|_| held.is_empty()) {
            let page = rows::dots(store, from, LAST, QUESTION_VERSIONS_MAX)?;
            first = page.last().and_then(|(dot, _)| after(*dot));
            for (dot, key) in page {
                let record = rows::record(store, &key)?;
                let Some(version) = record.versions().iter().find(|version| version.dot == dot) else {
                    continue;
                };
                bytes += key.as_bytes().len() + 64;
                if bytes > QUESTION_BYTES_MAX && !held.is_empty() {
                    break;
                }
                held.push(Held { dot, stamp: version.stamp, tombstone: version.tombstone, key });
            }
        }
        if held.is_empty() {
            self.finish(now, machines, dice, out);
            return Ok(());
        }
        running.question = Question::Versions { held };
        running.go_on(now, self.timing.silence_max, dice, out);
        Ok(())
    }

    fn finish(&mut self, now: Now, machines: Machines<'_>, dice: &mut impl Rng, out: &mut Outbox) {
        let running = self.running.take().expect("the caller has just found it");
        machines.replica.collect_at(&running.collected);
        let own = Own { replica: machines.replica, members: machines.members };
        machines.meetings.suspend(false, own, out);
        machines.meetings.renew(now, own, dice, out);
        out.count("rebases", 1);
        out.count("versions_rebased_away", running.removed);
        if running.is_told {
            let Running { peer, removed, aside, .. } = running;
            let text =
                format!("held against {peer}: {removed} versions were deleted since, {aside} set aside");
            out.event(if aside > 0 { Level::Warn } else { Level::Info }, "rebased", text);
        }
    }

    fn expecting(&mut self, from: &NodeId, nonce: u64) -> Option<&mut Running> {
        self.running.as_mut().filter(|running| running.peer == *from && running.nonce == nonce)
    }

    /// Answers a peer that wants this node's horizons after a chunk.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn on_ask_horizons(
        &mut self,
        now: Now,
        store: &impl Read,
        from: &NodeId,
        (nonce, after): (u64, Option<u16>),
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        self.asked = Some(now.mono);
        let mut chunks = rows::horizons(store)?;
        chunks.retain(|(chunk, _)| after.is_none_or(|after| after < *chunk));
        let is_last = chunks.len() <= HORIZONS_MAX;
        chunks.truncate(HORIZONS_MAX);
        out.send(from, Message::Horizons { nonce, chunks, is_last });
        Ok(())
    }

    /// Judges the versions of a peer that is behind this node.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn on_ask_held(
        &mut self,
        now: Now,
        (store, replica): (&impl Read, &Replica),
        from: &NodeId,
        (nonce, held): (u64, &[Held]),
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        self.asked = Some(now.mono);
        let mut fates = Vec::with_capacity(held.len());
        for held in held.iter().take(QUESTION_VERSIONS_MAX) {
            fates.push(judge(store, replica.seen(), replica.policy(&held.key), held)?);
        }
        out.send(from, Message::Judged { nonce, fates });
        Ok(())
    }
}

/// The machines that a rebase acts on.
pub struct Machines<'a> {
    /// What this node holds.
    pub replica: &'a mut Replica,
    /// What it has agreed with whom.
    pub meetings: &'a mut Meetings,
    /// Who counts.
    pub members: &'a Membership,
}

impl Running {
    fn ask(&self, out: &mut Outbox) {
        let (fence, nonce) = (self.fence, self.nonce);
        let message = match &self.question {
            Question::Horizons { after } => Message::AskHorizons { fence, nonce, after: *after },
            Question::Versions { held } => Message::AskHeld { fence, nonce, held: held.clone() },
        };
        out.send(&self.peer, message);
    }

    /// Asks the next question.
    fn go_on(&mut self, now: Now, silence_max: Duration, dice: &mut impl Rng, out: &mut Outbox) {
        self.nonce = dice.next_u64();
        self.failures = 0;
        self.retry_at = now.mono + silence_max;
        self.ask(out);
    }
}

const FIRST: Dot = Dot { origin: Origin(0), seq: 0 };
const LAST: Dot = Dot { origin: Origin(u64::MAX), seq: u64::MAX };

/// The next dot there may be.
fn after(dot: Dot) -> Option<Dot> {
    match dot.seq.checked_add(1) {
        Some(seq) => Some(Dot { seq, ..dot }),
        None => Some(Dot { origin: Origin(dot.origin.0.checked_add(1)?), seq: 0 }),
    }
}

/// What becomes of a version that a peer holds which is behind, as far as this node can say.
///
/// Where this node holds a later version of the key, or one just as late, the two meet in the usual way, and until they do
/// the peer holds what it says it has covered. A delete that was not covered stays, however old: it brings nothing
/// back. So does a transaction of a history, which may have been written on top of what was truncated since, and
/// one that is known to lie below a checkpoint; what was covered and is in nobody's past any more goes.
///
/// # Errors
/// The disk is broken.
pub fn judge(store: &impl Read, seen: &DotSet, policy: Policy, held: &Held) -> Result<Fate, StorageError> {
    let is_held = match (rows::record(store, &held.key)?, policy) {
        // It may be in there.
        (Record::Rotten, _) => true,
        (record, Policy::Lww) => {
            record.versions().iter().any(|version| version.dot == held.dot || version.stamp >= held.stamp)
        }
        (record, Policy::Siblings) => record.versions().iter().any(|version| version.dot == held.dot),
        (record, Policy::History(_)) => {
            !seen.contains(held.dot) || history::knows(record.versions(), held.dot)
        }
    };
    Ok(if is_held {
        Fate::Stays
    } else if !rows::dots(store, held.dot, held.dot, 1)?.is_empty() {
        // The log still leads to it: it is not gone, its row is lost.
        Fate::Stays
    } else if seen.contains(held.dot) {
        Fate::Goes
    } else if held.tombstone
        || held.stamp > rows::horizon(store, rows::chunk(&held.key))?
        || mutants::is_on("no-aside")
    {
        Fate::Stays
    } else {
        Fate::Aside
    })
}

/// Takes a version out of its row, if it is still there; says whether it was.
fn take_out(
    store: &mut impl Storage,
    replica: &mut Replica,
    held: &Held,
    is_aside: bool,
) -> Result<bool, StorageError> {
    let Record::Row(row) = rows::record(store, &held.key)? else { return Ok(false) };
    let Some(version) = row.version(held.dot) else { return Ok(false) };
    if is_aside {
        let mut batch = Batch::default();
        rows::put_aside(&mut batch, &Entry { key: held.key.clone(), version: version.clone() });
        store.apply(batch)?;
    }
    // What came after it need not be here yet.
    replica.uncover(held.dot);
    let left = row.versions.iter().filter(|version| version.dot != held.dot).cloned().collect();
    let after = Row { versions: left, context: row.context.clone() };
    replica.set_row(store, &held.key, &after, &row.versions)?;
    Ok(true)
}

#[cfg(test)]
#[path = "rebase_tests.rs"]
mod tests;
