//! Live replication: what a node writes goes to every reachable peer at once.
//!
//! Best effort. A peer that lost a push, or was left out because too much was under way to it, notices by the
//! gap or by the digest of `seen`, and pulls.

use std::collections::BTreeMap;
use std::time::Duration;

use super::meeting::Meetings;
use super::membership::Membership;
use super::message::Message;
use super::outbox::Outbox;
use crate::model::{Dot, DotSet, Entry, Instant, NodeId};

/// Most bytes of entries in one push or in one part of a step, so that it fits a frame unless one value alone
/// does not.
pub const BATCH_BYTES_MAX: usize = 48 * 1024;
/// Most entries under way to one peer without a confirmation.
pub const WINDOW_ENTRIES_MAX: usize = 8192;
/// Most bytes under way to one peer without a confirmation.
pub const WINDOW_BYTES_MAX: usize = 8 << 20;
/// After this long without a confirmation, what is under way counts as lost.
pub const WINDOW_PATIENCE: Duration = Duration::from_secs(2);

/// What a node has pushed and what it owes confirmations for.
#[derive(Debug, Default)]
pub struct Pushes {
    /// Own writes of this turn, in dot order.
    fresh: Vec<Entry>,
    windows: BTreeMap<NodeId, Window>,
    /// Dots that became durable here with this turn, by who pushed them.
    owed: BTreeMap<NodeId, DotSet>,
}

/// What is under way to one peer.
#[derive(Debug, Default)]
struct Window {
    unconfirmed: BTreeMap<Dot, usize>,
    bytes: usize,
    heard: Instant,
}

impl Pushes {
    /// Remembers a write of this turn.
    pub fn add(&mut self, entry: Entry) {
        self.fresh.push(entry);
    }

    /// Sends the turn's writes to every reachable member that a meeting stands with.
    pub fn send_fresh(&mut self, now: Instant, members: &Membership, meetings: &Meetings, out: &mut Outbox) {
        if self.fresh.is_empty() {
            return;
        }
        let peers: Vec<NodeId> =
            members.data_peers().into_iter().filter(|peer| meetings.is_open(peer)).collect();
        for batch in batches(std::mem::take(&mut self.fresh)) {
            for peer in &peers {
                if self.windows.entry(peer.clone()).or_default().admit(now, &batch) {
                    out.send(peer, Message::Push { entries: batch.clone() });
                } else {
                    out.count("pushes_left_to_pull", 1);
                }
            }
        }
    }

    /// A peer durably holds `dots`.
    pub fn on_durable(&mut self, now: Instant, peer: &NodeId, dots: &DotSet) {
        let Some(window) = self.windows.get_mut(peer) else { return };
        window.heard = now;
        for (origin, first, last) in dots.iter() {
            let run = Dot { origin, seq: first }..=Dot { origin, seq: last };
            let confirmed: Vec<Dot> = window.unconfirmed.range(run).map(|(dot, _)| *dot).collect();
            for dot in confirmed {
                window.bytes -= window.unconfirmed.remove(&dot).expect("just listed");
            }
        }
    }

    /// A peer is gone for good.
    pub fn on_gone(&mut self, peer: &NodeId) {
        self.windows.remove(peer);
    }

    /// Notes that a peer wants to hear when these dots are durable.
    pub fn owe(&mut self, peer: &NodeId, dots: impl IntoIterator<Item = Dot>) {
        let owed = self.owed.entry(peer.clone()).or_default();
        for dot in dots {
            owed.insert(dot);
        }
    }

    /// The turn is durable: says so to those who pushed.
    pub fn on_persisted(&mut self, out: &mut Outbox) {
        for (peer, dots) in std::mem::take(&mut self.owed) {
            out.send(&peer, Message::Durable { dots });
        }
    }
}

impl Window {
    /// Whether `batch` may go out now; then it counts as under way.
    fn admit(&mut self, now: Instant, batch: &[Entry]) -> bool {
        if self.unconfirmed.is_empty() || now.since(self.heard) > WINDOW_PATIENCE {
            *self = Window { heard: now, ..Window::default() };
        }
        if self.unconfirmed.len() >= WINDOW_ENTRIES_MAX || self.bytes >= WINDOW_BYTES_MAX {
            return false;
        }
        for entry in batch {
            self.bytes += size(entry);
            self.unconfirmed.insert(entry.version.dot, size(entry));
        }
        true
    }
}

/// About how many bytes an entry takes in a message.
pub fn size(entry: &Entry) -> usize {
    100 + entry.key.as_bytes().len() + entry.version.content_type.len() + entry.version.value.len()
}

/// Cuts entries into batches of about [`BATCH_BYTES_MAX`], in order; a larger entry has a batch of its own.
pub fn batches(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut out: Vec<Vec<Entry>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let size = size(&entry);
        match out.last_mut() {
            Some(batch) if bytes + size <= BATCH_BYTES_MAX => batch.push(entry),
            _ => {
                out.push(vec![entry]);
                bytes = 0;
            }
        }
        bytes += size;
    }
    out
}
