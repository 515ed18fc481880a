//! Writes that wait until enough nodes hold them durably (`ack=N`, `ack=majority`).
//!
//! Confirmations are counted by node, not by message, so repeats are harmless; dots name one run of one
//! process, so a late confirmation cannot answer for another write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::membership::Membership;
use super::message::Message;
use super::outbox::Outbox;
use super::push::{WINDOW_BYTES_MAX, batches, size};
use crate::model::{Dot, DotSet, Entry, Instant, NodeId, Refusal, Reply, RequestId};
use crate::mutants;
use crate::storage::rows;
use crate::storage::{Read, StorageError};

/// Most writes that wait at once.
pub const PENDING_MAX: usize = 4096;
/// Most bytes of values that wait at once.
pub const PENDING_BYTES_MAX: usize = 64 << 20;
/// How often a write is pushed again to those who have not confirmed it.
pub const PUSH_AGAIN: Duration = Duration::from_millis(300);

/// The writes that wait for confirmations.
#[derive(Debug, Default)]
pub struct Confirmations {
    pending: BTreeMap<Dot, Pending>,
    bytes: usize,
    push_again: Option<Instant>,
}

#[derive(Debug)]
struct Pending {
    id: RequestId,
    entry: Entry,
    asked: u16,
    by: BTreeSet<NodeId>,
    deadline: Instant,
}

impl Pending {
    /// The writer itself holds it too.
    fn acked(&self) -> u16 {
        u16::try_from(self.by.len() + 1).unwrap_or(u16::MAX)
    }
}

impl Confirmations {
    /// Whether one more write may wait.
    pub fn has_room(&self) -> bool {
        self.pending.len() < PENDING_MAX && self.bytes < PENDING_BYTES_MAX
    }

    /// Waits until `asked` nodes, the writer included, hold `entry`, or until `deadline`.
    pub fn wait(&mut self, now: Instant, id: RequestId, entry: Entry, asked: u16, deadline: Instant) {
        self.bytes += entry.version.value.len();
        self.push_again.get_or_insert(now + PUSH_AGAIN);
        let pending = Pending { id, entry, asked, by: BTreeSet::new(), deadline };
        self.pending.insert(pending.entry.version.dot, pending);
    }

    /// A peer durably holds `dots`.
    pub fn on_durable(&mut self, peer: &NodeId, dots: &DotSet, out: &mut Outbox) {
        let confirmed: Vec<Dot> = self.pending.keys().copied().filter(|dot| dots.contains(*dot)).collect();
        for dot in confirmed {
            let pending = self.pending.get_mut(&dot).expect("just listed");
            let is_new = pending.by.insert(peer.clone());
            if !is_new && mutants::is_on("ack-counts-messages") {
                let again = format!("{peer}-again-{}", pending.by.len());
                pending.by.insert(NodeId::new(&again).expect("a node id with a number behind it is one"));
            }
            if pending.acked() >= pending.asked {
                let pending = self.remove(dot);
                let (id, acked) = (pending.entry.version.id(), pending.acked());
                out.reply(pending.id, Reply::Written { id, acked });
            }
        }
    }

    /// Gives up on what is overdue, and pushes the rest again now and then.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn on_tick(
        &mut self,
        now: Instant,
        store: &impl Read,
        members: &Membership,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let overdue: Vec<Dot> =
            self.pending.iter().filter(|(_, pending)| pending.deadline <= now).map(|(dot, _)| *dot).collect();
        for dot in overdue {
            let pending = self.remove(dot);
            let (acked, asked) = (pending.acked(), pending.asked);
            let refusal = Refusal::AckTimeout { id: pending.entry.version.id(), acked, asked };
            out.reply(pending.id, Reply::Refused(refusal));
        }
        if self.push_again.is_some_and(|at| at <= now) {
            let held = self.still_held(store)?;
            for peer in members.data_peers() {
                for entries in batches(self.unconfirmed_by(&peer, &held)) {
                    out.send(&peer, Message::Push { entries });
                }
            }
            self.push_again = Some(now + PUSH_AGAIN);
        }
        if self.pending.is_empty() {
            self.push_again = None;
        }
        Ok(())
    }

    /// The writes that wait and have not been replaced here. What has been may have been deleted, and the delete be
    /// collected by now: it must not go out any more, and is confirmed by those who pull what came after it.
    fn still_held(&self, store: &impl Read) -> Result<BTreeSet<Dot>, StorageError> {
        let mut held = BTreeSet::new();
        for (dot, pending) in &self.pending {
            let record = rows::record(store, &pending.entry.key)?;
            if record.versions().iter().any(|version| version.dot == *dot)
                || mutants::is_on("push-from-memory")
            {
                held.insert(*dot);
            }
        }
        Ok(held)
    }

    /// When the next thing is due.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let deadlines = self.pending.values().map(|pending| pending.deadline);
        deadlines.chain(self.push_again).min()
    }

    /// The oldest writes that wait for this peer, as many as may be under way to it.
    fn unconfirmed_by(&self, peer: &NodeId, held: &BTreeSet<Dot>) -> Vec<Entry> {
        let mut bytes = 0;
        let waiting =
            self.pending.iter().filter(|(dot, pending)| held.contains(dot) && !pending.by.contains(peer));
        let entries = waiting.map(|(_, pending)| &pending.entry).take_while(|entry| {
            let has_room = bytes < WINDOW_BYTES_MAX;
            bytes += size(entry);
            has_room
        });
        entries.cloned().collect()
    }

    fn remove(&mut self, dot: Dot) -> Pending {
        let pending = self.pending.remove(&dot).expect("the caller found it there");
        self.bytes -= pending.entry.version.value.len();
        pending
    }
}
