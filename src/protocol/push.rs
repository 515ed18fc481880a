//! Live replication: what a node writes goes to every reachable peer at once.
//!
//! Best effort. A peer that lost a push, or was left out because too much was under way to it, notices by the
//! gap or by the digest of `seen`, and pulls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::membership::Membership;
use super::message::Message;
use super::outbox::{Level, Outbox};
use crate::model::{Dot, DotSet, Entry, Instant, Key, NodeId, Row, Version};
use crate::storage::rows;
use crate::storage::{Read, StorageError};

/// Most bytes of entries in one push or in one part of a step, so that it fits a frame unless one value alone
/// does not.
pub const BATCH_BYTES_MAX: usize = 48 * 1024;
/// Most entries under way to one peer without a confirmation.
pub const WINDOW_ENTRIES_MAX: usize = 8192;
/// Most bytes under way to one peer without a confirmation.
pub const WINDOW_BYTES_MAX: usize = 8 << 20;
/// After this long without a confirmation, what is under way counts as lost.
pub const WINDOW_PATIENCE: Duration = Duration::from_secs(2);

/// Most bytes of a row that travels, as [`row_size`] counts them: it is one message.
pub const ROW_BYTES_MAX: usize = super::wire::MESSAGE_BYTES_MAX - (1 << 20);

/// What a node has pushed and what it owes confirmations for.
#[derive(Debug, Default)]
pub struct Pushes {
    /// Own writes of this turn, in dot order.
    fresh: Vec<Entry>,
    /// Keys whose rows this turn wrote in.
    fresh_rows: BTreeSet<Key>,
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

    /// Remembers that this turn wrote in the row of this key.
    pub fn add_row(&mut self, key: Key) {
        self.fresh_rows.insert(key);
    }

    /// Sends the turn's writes to every reachable member: entries as they are, rows as the store has them now.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn send_fresh(
        &mut self,
        now: Instant,
        (store, seen): (&impl Read, &DotSet),
        members: &Membership,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        if self.fresh.is_empty() && self.fresh_rows.is_empty() {
            return Ok(());
        }
        let mut messages: Vec<Message> = Vec::new();
        for entries in batches(std::mem::take(&mut self.fresh)) {
            messages.push(Message::Push { entries });
        }
        let rows = read_rows(store, std::mem::take(&mut self.fresh_rows), out)?;
        for rows in row_batches(rows) {
            messages.push(Message::PushRows { seen: seen.clone(), rows });
        }
        let peers = members.reachable();
        for message in messages {
            let sizes = sizes(&message);
            for peer in &peers {
                if self.windows.entry(peer.clone()).or_default().admit(now, &sizes) {
                    out.send(peer, message.clone());
                } else {
                    out.count("pushes_left_to_pull", 1);
                }
            }
        }
        Ok(())
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
    /// Whether what has these dots and sizes may go out now; then it counts as under way.
    fn admit(&mut self, now: Instant, batch: &[(Dot, usize)]) -> bool {
        if self.unconfirmed.is_empty() || now.since(self.heard) > WINDOW_PATIENCE {
            *self = Window { heard: now, ..Window::default() };
        }
        if self.unconfirmed.len() >= WINDOW_ENTRIES_MAX || self.bytes >= WINDOW_BYTES_MAX {
            return false;
        }
        for &(dot, size) in batch {
            // A row goes out again with each write in it, and what it holds for long counts once.
            let before = self.unconfirmed.insert(dot, size).unwrap_or(0);
            self.bytes += size;
            self.bytes -= before;
        }
        true
    }
}

/// About how many bytes an entry takes in a message.
pub fn size(entry: &Entry) -> usize {
    entry.key.as_bytes().len() + version_size(&entry.version)
}

/// About how many bytes a row takes in a message.
pub fn row_size(key: &Key, row: &Row) -> usize {
    let versions: usize = row.versions.iter().map(version_size).sum();
    40 + key.as_bytes().len() + versions + 24 * row.context.iter().count()
}

fn version_size(version: &Version) -> usize {
    100 + version.content_type.len() + version.value.len()
}

/// The dots in a push and about how many bytes each stands for.
fn sizes(message: &Message) -> Vec<(Dot, usize)> {
    let of_version = |version: &Version| (version.dot, version_size(version));
    match message {
        Message::Push { entries } => entries.iter().map(|entry| (entry.version.dot, size(entry))).collect(),
        Message::PushRows { rows, .. } => {
            rows.iter().flat_map(|(_, row)| row.versions.iter().map(of_version)).collect()
        }
        other => unreachable!("{} is no push", super::wire::name(other)),
    }
}

/// The rows of these keys as the store has them. One that is too large to travel stays, and says so.
///
/// # Errors
/// The disk is broken.
pub fn read_rows(
    store: &impl Read,
    keys: impl IntoIterator<Item = Key>,
    out: &mut Outbox,
) -> Result<Vec<(Key, Row)>, StorageError> {
    let mut found = Vec::new();
    for key in keys {
        let Some(row) = rows::record(store, &key)?.row() else { continue };
        if row_size(&key, &row) > ROW_BYTES_MAX {
            complain_of_size(&key, &row, out);
        } else {
            found.push((key, row));
        }
    }
    Ok(found)
}

/// Tells the log of a row that cannot travel.
pub fn complain_of_size(key: &Key, row: &Row, out: &mut Outbox) {
    let (count, bytes) = (row.versions.len(), row_size(key, row));
    let text = format!("{key} has {count} siblings of {bytes} bytes; rows travel up to {ROW_BYTES_MAX}");
    out.event(Level::Warn, "row-too-large", text);
}

/// Cuts rows into batches of about [`BATCH_BYTES_MAX`], in order; a larger row has a batch of its own.
pub fn row_batches(rows: Vec<(Key, Row)>) -> Vec<Vec<(Key, Row)>> {
    cut(rows, |(key, row)| row_size(key, row))
}

/// Cuts entries into batches of about [`BATCH_BYTES_MAX`], in order; a larger entry has a batch of its own.
pub fn batches(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    cut(entries, size)
}

fn cut<T>(items: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut out: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let size = size(&item);
        match out.last_mut() {
            Some(batch) if bytes + size <= BATCH_BYTES_MAX => batch.push(item),
            _ => {
                out.push(vec![item]);
                bytes = 0;
            }
        }
        bytes += size;
    }
    out
}
