//! What a node does with its peers' messages: hands each to the machine it concerns.

use std::collections::BTreeSet;

use rand::Rng;

use super::Node;
use super::quirks::Quirk;
use crate::model::{Entry, Key, Member, NodeId, Now, Origin, Row};
use crate::mutants;
use crate::protocol::meeting::{Own, Told};
use crate::protocol::outbox::Level;
use crate::protocol::rebase::Machines;
use crate::protocol::replica::Merged;
use crate::protocol::serve::Asked;
use crate::protocol::{DotSet, Message};
use crate::storage::{Storage, StorageError, rows};

impl<S: Storage> Node<S> {
    pub(super) fn on_message(
        &mut self,
        now: Now,
        from: &NodeId,
        message: Message,
    ) -> Result<(), StorageError> {
        let is_greeting = matches!(
            message,
            Message::Table { .. }
                | Message::Ping { .. }
                | Message::Pong { .. }
                | Message::News { .. }
                | Message::Reach { .. }
                | Message::Reached { .. }
                | Message::Refuse { .. }
        );
        if !is_greeting && !self.membership.takes_data_from(from) {
            // It has to show its record first; then it is asked for, or asks again.
            self.out.count("messages_from_strangers", 1);
            return Ok(());
        }
        if !is_greeting {
            // A greeting is heard by itself, after its records: the first word of a run is news.
            self.membership.on_heard(now, from, &mut self.out);
        }
        let message = match message {
            Message::Within { meeting, data } => {
                let own = Own { replica: &self.replica, members: &self.membership };
                if !self.meetings.accepts(now, from, meeting, own, &mut self.out) {
                    return Ok(());
                }
                *data
            }
            message if message.needs_meeting() => {
                self.out.count("messages_without_meeting", 1);
                return Ok(());
            }
            message => message,
        };
        if !self.room.is_enough() && super::room::takes_room(&message) {
            self.out.count("messages_refused_disk_full", 1);
            return Ok(());
        }
        match message {
            Message::Table { members, answer } => {
                let own = self.replica.seen_digest();
                self.membership.on_table(now, from, members, (answer, own), &mut self.out);
            }
            Message::Ping { nonce, seen, table: _, rumours } => {
                let own = self.replica.seen_digest();
                let life = life_in(from, &rumours);
                self.membership.on_ping(now, from, (nonce, own), rumours, &mut self.out);
                self.on_digest(now, from, seen, life)?;
            }
            Message::Pong { nonce: _, seen, table, rumours } => {
                let own = self.replica.seen_digest();
                let life = life_in(from, &rumours);
                self.membership.on_pong(now, from, (table, own), rumours, &mut self.out);
                self.on_digest(now, from, seen, life)?;
            }
            Message::Push { entries } => self.on_push(now, from, &entries)?,
            Message::Durable { dots } => {
                self.meetings.covers(from, &dots);
                self.confirmations.on_durable(from, &dots, &mut self.out);
                self.pushes.on_durable(now.mono, from, &dots);
            }
            Message::Pull { session, seen, credit, since } => {
                if self.settings.quirks.strike(Quirk::DropPull, now, &mut self.dice) {
                    return Ok(());
                }
                let own = Own { replica: &self.replica, members: &self.membership };
                let Some(seen) = self.meetings.learn(from, &seen, own, &mut self.out) else {
                    // It pulls again, and by then this node knows what it has.
                    self.out.count("pulls_not_understood", 1);
                    return Ok(());
                };
                // What the peer has covered it has durably, however it came by it.
                self.confirmations.on_durable(from, &seen, &mut self.out);
                if mutants::is_on("absence-deletes") {
                    self.remove_what_lacks(&seen)?;
                }
                let (store, own) = (&self.store, self.replica.seen());
                let place = (from, session, self.dice.next_u32());
                let asked = Asked { known: seen, credit, since };
                self.serves.on_pull(store, own, place, asked, &mut self.out)?;
            }
            Message::Step { session, step, part, entries } => {
                let (store, replica) = (&mut self.store, &mut self.replica);
                let place = (session, step, part);
                self.pulls.on_step(now, (store, replica), from, place, &entries, &mut self.out)?;
            }
            Message::StepEnd { session, step, parts, cover, recent_in } => {
                let (replica, place) = (&mut self.replica, (session, step));
                let end = (parts, cover, recent_in);
                self.pulls.on_step_end(now, replica, from, place, end, &mut self.out);
            }
            Message::StepDone { session, step } => {
                if self.settings.quirks.strike(Quirk::DropStepDone, now, &mut self.dice) {
                    return Ok(());
                }
                let own = self.replica.seen();
                self.serves.on_step_done(&self.store, own, (from, session, step), &mut self.out)?;
            }
            Message::Ask { poll, key, pair } => {
                let store = (&self.store, self.replica.seen());
                self.votes.on_ask(store, from, (poll, &key, pair), &mut self.out)?;
            }
            Message::Answer { poll, first } => self.votes.on_answer(from, poll, first, &mut self.out),
            Message::News { rumours, unreached } => {
                let own = self.replica.seen_digest();
                self.membership.on_news(now, from, rumours, &unreached, own, &mut self.out);
            }
            Message::Reach { nonce, target } => {
                let own = self.replica.seen_digest();
                self.membership.on_reach(now, from, (nonce, target), own, &mut self.out);
            }
            Message::Reached { nonce, target, answered } => {
                self.membership.on_reached(now, from, (nonce, &target), answered, &mut self.out);
            }
            Message::Refuse { reason } => {
                self.membership.on_refused(from, &reason, &mut self.out);
                self.pulls.on_refused(now, from, &mut self.dice, &mut self.out);
            }
            Message::Meet { life, run, draws, fence, roster, policies, seen, collected, answer } => {
                let told = Told { life, run, draws, fence, roster, policies, seen, collected, answer };
                let own = Own { replica: &self.replica, members: &self.membership };
                self.meetings.on_meet(now, from, told, own, &mut self.out);
            }
            Message::AskDots { fence, which, digests, first } => {
                let own = Own { replica: &self.replica, members: &self.membership };
                self.meetings.on_ask(from, (fence, which), (&digests, first), own, &mut self.out);
            }
            Message::Dots { fence, which, part } => {
                let own = Own { replica: &self.replica, members: &self.membership };
                self.meetings.on_answer(from, (fence, which), &part, own, &mut self.out);
            }
            Message::Within { .. } => self.out.count("messages_malformed", 1),
            Message::SyncOpen { session, print, scope } => {
                self.on_sync_open(now, from, (session, print, scope.map(|scope| *scope)))?;
            }
            Message::SyncSame { session } => self.sessions.on_same(now, from, session, &mut self.out),
            Message::SyncFlight(flight) => self.on_flight(now, from, *flight)?,
            Message::ReadAsk { poll, key } => self.on_read_ask(from, poll, key)?,
            Message::ReadTell { poll, entries } => self.on_read_tell(now, from, (poll, entries))?,
            Message::Repair { entries } => self.on_repair(now, &entries)?,
            Message::AskHorizons { fence, nonce, after } => {
                if self.is_mine(fence) {
                    let asked = (nonce, after);
                    self.rebase.on_ask_horizons(now, &self.store, from, asked, &mut self.out)?;
                }
            }
            Message::AskHeld { fence, nonce, held } => {
                if self.is_mine(fence) {
                    let around = (&self.store, &self.replica);
                    self.rebase.on_ask_held(now, around, from, (nonce, &held), &mut self.out)?;
                }
            }
            Message::Horizons { nonce, chunks, is_last } => {
                let (answer, store) = ((from, nonce, chunks.as_slice(), is_last), &mut self.store);
                let machines = Machines {
                    replica: &mut self.replica,
                    meetings: &mut self.meetings,
                    members: &self.membership,
                };
                let (dice, out) = (&mut self.dice, &mut self.out);
                self.rebase.on_horizons(now, store, answer, machines, dice, out)?;
            }
            Message::Judged { nonce, fates } => {
                let store = &mut self.store;
                let machines = Machines {
                    replica: &mut self.replica,
                    meetings: &mut self.meetings,
                    members: &self.membership,
                };
                let (dice, out) = (&mut self.dice, &mut self.out);
                self.rebase.on_judged(now, store, (from, nonce, &fates), machines, dice, out)?;
            }
        }
        for key in self.serves.take_rotten() {
            self.set_apart(&key)?;
        }
        Ok(())
    }

    /// Takes a record that fails its checksum out of the way, and says so.
    pub(super) fn set_apart(&mut self, key: &Key) -> Result<(), StorageError> {
        if self.replica.quarantine(&mut self.store, key)? {
            self.out.count("records_rotten", 1);
            let text = format!(
                "the record of {key} fails its checksum; what cannot be read of it is set apart, and peers are asked for it"
            );
            self.out.event(Level::Warn, "record-rotten", text);
            // Its chunk was counted anew, so whatever else is missing there shows in a comparison, and only there.
            self.sessions.hurry();
        }
        Ok(())
    }

    /// For `absence-deletes`.
    fn remove_what_lacks(&mut self, seen: &DotSet) -> Result<(), StorageError> {
        let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        for (key, record) in rows::records(&self.store, all, usize::MAX, false)? {
            if record.versions().iter().any(|version| !seen.contains(version.dot)) {
                self.replica.set_row(&mut self.store, &key, &Row::default(), record.versions())?;
            }
        }
        Ok(())
    }

    fn on_digest(
        &mut self,
        now: Now,
        from: &NodeId,
        digest: u64,
        life: Option<u64>,
    ) -> Result<(), StorageError> {
        if self.membership.takes_data_from(from) {
            let own = self.replica.seen_digest();
            if let Some(life) = life.filter(|_| own == digest) {
                let own = Own { replica: &self.replica, members: &self.membership };
                self.meetings.is_equal(from, life, own);
            }
            if own != digest {
                self.begin_bootstrap(now)?;
            }
            self.pulls.on_digest(now, from, digest, own);
        }
        Ok(())
    }

    /// Whether a question is about this node as it is: it may have collected since.
    fn is_mine(&mut self, fence: u64) -> bool {
        let is_mine = fence == self.meetings.fence();
        if !is_mine {
            self.out.count("asks_late", 1);
        }
        is_mine
    }

    fn on_push(&mut self, now: Now, from: &NodeId, entries: &[Entry]) -> Result<(), StorageError> {
        let mut origins: BTreeSet<Origin> = BTreeSet::new();
        let mut theirs = DotSet::default();
        let merged = self.replica.merge_all(now, &mut self.store, entries)?;
        for (entry, merged) in entries.iter().zip(merged) {
            // What is malformed may have a number that no version has.
            if merged != Merged::Malformed {
                theirs.insert(entry.version.dot);
            }
            match merged {
                Merged::Won | Merged::Lost => {
                    origins.insert(entry.version.dot.origin);
                    self.replica.count_far(now, entry, &mut self.out);
                }
                Merged::Known => self.out.count("entries_known", 1),
                Merged::Malformed => self.out.count("entries_malformed", 1),
            }
        }
        if mutants::is_on("push-jumps") {
            let mut jumped = DotSet::default();
            entries
                .iter()
                .for_each(|entry| jumped.insert_run(entry.version.dot.origin, 1, entry.version.dot.seq));
            self.replica.cover(&jumped);
        }
        self.meetings.covers(from, &theirs);
        let seen = self.replica.seen();
        let durable = entries.iter().map(|entry| entry.version.dot).filter(|dot| seen.contains(*dot));
        self.pushes.owe(from, durable);
        for origin in origins {
            if self.replica.seen().has_hole(origin) {
                self.pulls.on_hole(now, from, origin);
            }
        }
        Ok(())
    }
}

/// Which of its lives the sender of these rumours was in: its own record stands first.
fn life_in(from: &NodeId, rumours: &[Member]) -> Option<u64> {
    rumours.first().filter(|member| member.id == *from).map(|member| member.life)
}
