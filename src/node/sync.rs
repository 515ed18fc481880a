//! What a node does so that its rows stay right: sync sessions, reads that repair, and the slow scrub.

use std::time::Duration;

use super::quirks::Quirk;
use super::{Node, is_due};
use crate::model::{Ack, Entry, Key, NodeId, Now, Refusal, Reply, RequestId};
use crate::protocol::Message;
use crate::protocol::flight::Flight;
use crate::protocol::message::Scope;
use crate::protocol::outbox::Level;
use crate::protocol::replica::Merged;
use crate::protocol::sessions::Around;
use crate::storage::rows::{self, Record};
use crate::storage::{Storage, StorageError};

/// Keys named in one warning about rotten records.
const ROTTEN_NAMED_MAX: usize = 8;

impl<S: Storage> Node<S> {
    pub(super) fn on_sync_open(
        &mut self,
        now: Now,
        from: &NodeId,
        (session, print, scope): (u32, u64, Option<Scope>),
    ) -> Result<(), StorageError> {
        let around = Around {
            store: &mut self.store,
            replica: &mut self.replica,
            members: &self.membership,
            meetings: &self.meetings,
        };
        let me = &self.settings.id;
        self.sessions.on_open(now, from, (session, print, scope), me, around, &mut self.out)
    }

    pub(super) fn on_flight(&mut self, now: Now, from: &NodeId, flight: Flight) -> Result<(), StorageError> {
        let around = Around {
            store: &mut self.store,
            replica: &mut self.replica,
            members: &self.membership,
            meetings: &self.meetings,
        };
        self.sessions.on_flight(now, from, flight, around, &mut self.out)
    }

    /// Lets sessions, reads and the scrub do what is due.
    pub(super) fn mend(&mut self, now: Now) -> Result<(), StorageError> {
        if self.sessions.next_wakeup() <= now.mono || self.sessions.has_wish() {
            let pulls = &self.pulls;
            let compares_always = self.settings.quirks.strike(Quirk::CompareAlways, now, &mut self.dice);
            let in_step = |peer: &NodeId| pulls.status(peer).1 && !compares_always;
            let around = Around {
                store: &mut self.store,
                replica: &mut self.replica,
                members: &self.membership,
                meetings: &self.meetings,
            };
            self.sessions.on_tick(now, around, in_step, &mut self.dice, &mut self.out)?;
        }
        if is_due(self.reads.next_wakeup(), now) {
            self.reads.on_tick(now.mono, &mut self.out);
        }
        if is_due(self.next_scrub, now) {
            self.next_scrub = self.settings.timing.scrub_interval.map(|interval| now.mono + interval);
            self.scrub_step()?;
        }
        Ok(())
    }

    /// Looks at the rows of one chunk: takes rotten records out of the way, and counts the chunk anew if a row went
    /// missing, so that the next session finds the difference.
    fn scrub_step(&mut self) -> Result<(), StorageError> {
        let found = self.replica.scrub(&self.store, &self.scrub_at)?;
        self.out.count("scrubbed_chunks", 1);
        for key in &found.rotten {
            self.set_apart(key)?;
        }
        if found.rotten.len() > ROTTEN_NAMED_MAX {
            self.out.count("scrub_chunks_mostly_rotten", 1);
        }
        if found.is_wrong {
            let name = String::from_utf8_lossy(&self.scrub_at).into_owned();
            let text = format!("rows are missing from the chunk that begins at `{name}`; peers are asked");
            self.out.event(Level::Warn, "rows-missing", text);
            self.sessions.hurry();
        }
        self.scrub_at = found.next;
        self.lift_at = self.replica.lift_quarantine(&mut self.store, self.lift_at.as_ref())?;
        Ok(())
    }

    /// A client wants what the greatest of several nodes' versions shows.
    pub(super) fn begin_read(
        &mut self,
        now: Now,
        (id, key): (RequestId, Key),
        ack: Ack,
        timeout: Duration,
    ) -> Result<(), StorageError> {
        let asked = self.asked(ack);
        let members = u16::try_from(self.membership.count()).unwrap_or(u16::MAX);
        let peers: Vec<NodeId> =
            self.membership.reachable().into_iter().filter(|peer| self.meetings.is_open(peer)).collect();
        if asked > members {
            self.out.reply(id, Reply::Refused(Refusal::AckAboveMembers { asked, members }));
        } else if asked <= 1 {
            let reply = self.read(now, &key)?;
            self.out.reply(id, reply);
        } else if !self.reads.has_room() {
            let limit = crate::protocol::reads::READS_MAX;
            self.out.reply(id, Reply::Refused(Refusal::TooManyPending { limit }));
        } else {
            let ends_at = now.mono + timeout;
            self.reads.begin((id, key), asked, peers, ends_at, &mut self.dice, &mut self.out);
        }
        Ok(())
    }

    pub(super) fn on_read_ask(&mut self, from: &NodeId, poll: u64, key: Key) -> Result<(), StorageError> {
        if let Some(entries) = self.row(key)? {
            self.out.send(from, Message::ReadTell { poll, entries });
        }
        Ok(())
    }

    pub(super) fn on_read_tell(
        &mut self,
        now: Now,
        from: &NodeId,
        (poll, told): (u64, Vec<Entry>),
    ) -> Result<(), StorageError> {
        let Some(key) = self.reads.key_of(poll, from).cloned() else { return Ok(()) };
        if told.iter().any(|entry| entry.key != key) {
            self.out.count("messages_malformed", 1);
            return Ok(());
        }
        self.on_repair(now, &told)?;
        let Some(row) = self.row(key.clone())? else { return Ok(()) };
        if let Some(id) = self.reads.on_tell(from, (poll, &told), &row, &mut self.out) {
            let reply = self.read(now, &key)?;
            self.out.reply(id, reply);
        }
        Ok(())
    }

    /// Merges what a peer found this node to lack.
    pub(super) fn on_repair(&mut self, now: Now, entries: &[Entry]) -> Result<(), StorageError> {
        for entry in entries {
            match self.replica.repair(now, &mut self.store, entry)? {
                Merged::Won => {
                    self.out.count("entries_repaired", 1);
                    self.replica.count_far(now, entry, &mut self.out);
                }
                Merged::Lost | Merged::Known => {}
                Merged::Malformed => self.out.count("entries_malformed", 1),
            }
        }
        Ok(())
    }

    /// The versions under a key; `None` if they cannot be read.
    fn row(&mut self, key: Key) -> Result<Option<Vec<Entry>>, StorageError> {
        Ok(match rows::record(&self.store, &key)? {
            Record::Rotten => {
                self.set_apart(&key)?;
                None
            }
            Record::Absent => Some(Vec::new()),
            Record::Row(row) => {
                let entry = |version| Entry { key: key.clone(), version };
                Some(row.versions.into_iter().map(entry).collect())
            }
        })
    }
}
