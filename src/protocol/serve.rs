//! The giving end of a stream: sends a peer the live entries whose dots it lacks, in dot order, in steps.
//!
//! A *pass* goes over the gap between our `seen` and the peer's once. Only a pass that fits one step, so that
//! all its rows and `seen` are read in one transaction, is closed by a cover; a pass that needed several steps
//! is followed by another over what is left. A superseded dot has no row: it is the cover that marks it, and
//! it may do so only if whatever superseded it went out before. DESIGN's trace T2 shows what goes wrong else.
//!
//! A peer that begins with nothing may want the versions since some time first. Then the first pass leaves out what is
//! older, and its end is told; the passes after it are those of any stream, so it orders what comes and cuts nothing.

use std::collections::BTreeMap;

use super::message::Message;
use super::outbox::Outbox;
use super::push::{batches, size};
use crate::model::{Dot, DotSet, Entry, Key, NodeId};
use crate::mutants;
use crate::storage::rows::{self, Record};
use crate::storage::{Read, StorageError};

/// Most bytes of entries in one step, whatever credit the puller gives.
pub const STEP_BYTES_MAX: usize = 4 << 20;
/// Most entries in one step, those counted that it leaves out for now.
pub const STEP_ENTRIES_MAX: usize = 8192;
/// How many rows of the log are read at a time.
const PAGE: usize = 512;

/// The streams that a node serves, at most one per peer.
#[derive(Debug, Default)]
pub struct Serves {
    by_peer: BTreeMap<NodeId, Serve>,
    /// Keys of records that failed their checksum since the last call of [`Serves::take_rotten`].
    rotten: Vec<Key>,
}

#[derive(Debug)]
struct Serve {
    session: u64,
    /// What the peer is known to hold durably: what it pulled with, and every step it said was done.
    known: DotSet,
    credit: usize,
    /// The step that is under way.
    step: u32,
    /// The dots of the step that is under way.
    sent: DotSet,
    /// Where the pass goes on; `None` at its start.
    cursor: Option<Dot>,
    /// While the pass is over what is no older than this alone, by its stamps.
    since: Option<u64>,
    is_last: bool,
}

/// What a peer asks with.
#[derive(Debug)]
pub struct Asked {
    /// What it has.
    pub known: DotSet,
    /// How many bytes of entries may be under way at once.
    pub credit: u32,
    /// Versions with stamps from this millisecond on are wanted first; 0 if it does not matter.
    pub since: u64,
}

/// What one step holds.
#[derive(Debug, Default)]
struct Step {
    entries: Vec<Entry>,
    bytes: usize,
    /// Set when the step's last pass began and ended within it.
    is_closed: bool,
    /// Set when everything since the time that the peer named went out.
    is_recent_in: bool,
    /// Rows that were left out for now because they are older than that.
    left_out: usize,
    /// Keys of records that cannot be read. They go into quarantine; until then no cover may close the stream.
    rotten: Vec<Key>,
}

impl Serves {
    /// Opens a stream to `peer` in place of any older one, and sends its first step.
    ///
    /// `first_step` is drawn anew each time. A pull that arrives again after a restart, or after its stream was
    /// ended, is answered from other rows than the first time; were both answers numbered alike, the puller would
    /// take a part of one and the cover of the other for one step.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn on_pull(
        &mut self,
        store: &impl Read,
        seen: &DotSet,
        (peer, session, first_step): (&NodeId, u64, u32),
        asked: Asked,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        if self.by_peer.get(peer).is_some_and(|serve| serve.session == session) {
            // The pull arrived twice; the stream it opened is under way.
            return Ok(());
        }
        let Asked { known, credit, since } = asked;
        let credit = usize::try_from(credit).unwrap_or(usize::MAX).min(STEP_BYTES_MAX);
        let (sent, since) = (DotSet::default(), (since > 0).then_some(since));
        let step = first_step;
        let serve = Serve { session, known, credit, step, sent, cursor: None, since, is_last: false };
        self.by_peer.insert(peer.clone(), serve);
        self.send_step(store, seen, peer, out)
    }

    /// The step is durable at the peer: goes on with the next one.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn on_step_done(
        &mut self,
        store: &impl Read,
        seen: &DotSet,
        (peer, session, step): (&NodeId, u64, u32),
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let Some(serve) = self.by_peer.get_mut(peer) else { return Ok(()) };
        if (serve.session, serve.step) != (session, step) {
            return Ok(());
        }
        if serve.is_last {
            self.by_peer.remove(peer);
            return Ok(());
        }
        serve.known.union(&std::mem::take(&mut serve.sent));
        serve.step = serve.step.wrapping_add(1);
        self.send_step(store, seen, peer, out)
    }

    /// Keys that streams found rotten since the last call. Once they are in quarantine, their dots are in no gap.
    pub fn take_rotten(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.rotten)
    }

    /// Forgets the stream to a peer that is gone.
    pub fn end(&mut self, peer: &NodeId) {
        self.by_peer.remove(peer);
    }

    fn send_step(
        &mut self,
        store: &impl Read,
        seen: &DotSet,
        peer: &NodeId,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let serve = self.by_peer.get_mut(peer).expect("the caller has just found or put it");
        let content = serve.next_step(store, seen)?;
        let (session, step) = (serve.session, serve.step);
        let closes = content.is_closed && content.rotten.is_empty() || mutants::is_on("cover-early");
        let cover = closes.then(|| seen.minus(&serve.known));
        serve.is_last = closes;
        out.count("stream_entries_sent", content.entries.len() as u64);
        let batches = batches(content.entries);
        let parts = u16::try_from(batches.len()).expect("a step has fewer entries than that");
        for (part, entries) in (0..).zip(batches) {
            out.send(peer, Message::Step { session, step, part, entries });
        }
        let recent_in = content.is_recent_in;
        out.send(peer, Message::StepEnd { session, step, parts, cover, recent_in });
        self.rotten.extend(content.rotten);
        Ok(())
    }
}

impl Serve {
    /// Reads on from the cursor until the credit is used or a whole pass has found nothing more to send.
    fn next_step(&mut self, store: &impl Read, seen: &DotSet) -> Result<Step, StorageError> {
        let mut step = Step::default();
        loop {
            let is_whole_pass = self.cursor.is_none();
            let mut known = self.known.clone();
            known.union(&self.sent);
            let gap = seen.minus(&known);
            if !self.read_pass(store, &gap, &mut step)? {
                return Ok(step);
            }
            self.cursor = None;
            if self.since.take().is_some() && !mutants::is_on("bootstrap-cuts") {
                step.is_recent_in = true;
                return Ok(step);
            }
            if is_whole_pass || mutants::is_on("cover-patchwork") {
                step.is_closed = true;
                return Ok(step);
            }
        }
    }

    /// Goes over `gap` from the cursor on; says whether it came to the end.
    fn read_pass(&mut self, store: &impl Read, gap: &DotSet, step: &mut Step) -> Result<bool, StorageError> {
        for origin in gap.origins() {
            let last = Dot { origin, seq: gap.last(origin) };
            while let Some(first) = self.next_in_gap(gap, origin) {
                let page = rows::dots(store, first, last, PAGE)?;
                let is_end = page.len() < PAGE;
                for (dot, key) in page {
                    if gap.contains(dot) {
                        if step.is_full(self.credit) {
                            return Ok(false);
                        }
                        self.read_entry(store, dot, key, step)?;
                    }
                    self.cursor = Some(Dot { seq: dot.seq + 1, ..dot });
                }
                if is_end {
                    self.cursor = Some(Dot { seq: last.seq + 1, ..last });
                }
            }
        }
        Ok(true)
    }

    /// The first dot of `origin` in the gap that the pass has not come to.
    fn next_in_gap(&self, gap: &DotSet, origin: crate::model::Origin) -> Option<Dot> {
        let from = match self.cursor {
            Some(cursor) if cursor.origin > origin => return None,
            Some(cursor) if cursor.origin == origin => cursor.seq,
            _ if mutants::is_on("stream-skips") && self.cursor.is_none() => gap.runs(origin).first()?.0 + 1,
            _ => 1,
        };
        let run = gap.runs(origin).iter().find(|(_, last)| *last >= from)?;
        Some(Dot { origin, seq: run.0.max(from) })
    }

    fn read_entry(
        &mut self,
        store: &impl Read,
        dot: Dot,
        key: Key,
        step: &mut Step,
    ) -> Result<(), StorageError> {
        match rows::version(store, &key, dot)? {
            Record::Row(row) if row.version(dot).is_some() => {
                let is_old = |since: u64| row.version(dot).is_some_and(|held| held.stamp.millis < since);
                if self.since.is_some_and(is_old) {
                    step.left_out += 1;
                    return Ok(());
                }
                let version = row.versions.into_iter().find(|version| version.dot == dot);
                let version = version.expect("just seen");
                let entry = Entry { key, version };
                step.bytes += size(&entry);
                step.entries.push(entry);
                self.sent.insert(dot);
            }
            // The log's row is left over from a record that could not be read when it was replaced.
            Record::Row(_) | Record::Absent => {}
            Record::Rotten => step.rotten.push(key),
        }
        Ok(())
    }
}

impl Step {
    fn is_full(&self, credit: usize) -> bool {
        self.entries.len() + self.left_out >= STEP_ENTRIES_MAX
            || self.bytes >= credit && !self.entries.is_empty()
    }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
