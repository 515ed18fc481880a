//! What a node does for clients and operators.

use std::time::Duration;

use crate::model::{
    Ack, Condition, Entry, Instant, Key, MemberState, Mode, Now, PeerStatus, Refusal, Reply, Request,
    RequestId, Status, Version,
};
use crate::protocol::order;
use crate::protocol::replica::Change;
use crate::storage::rows::{self, Record};
use crate::storage::{Storage, StorageError};

use super::{Level, Node};

/// How long a leaving node waits for somebody to hold all that it holds.
pub const LEAVE_PATIENCE: Duration = Duration::from_secs(10);

/// A goodbye under way.
#[derive(Debug)]
pub(super) struct Leaving {
    asked_by: Vec<RequestId>,
    pub(super) at_latest: Instant,
}

/// How a write is to be confirmed.
struct Wanted {
    ack: Ack,
    timeout: Duration,
}

impl<S: Storage> Node<S> {
    pub(super) fn on_request(
        &mut self,
        now: Now,
        id: RequestId,
        request: Request,
    ) -> Result<(), StorageError> {
        match request {
            Request::Put { key, value, content_type, ttl, condition, ack, timeout } => {
                assert!(value.len() <= Version::VALUE_BYTES_MAX, "the door checks sizes");
                let change = Change::Value { value, content_type, ttl };
                self.on_write(now, id, key, &condition, change, Wanted { ack, timeout })?;
            }
            Request::Delete { key, condition, ack, timeout } => {
                let wanted = Wanted { ack, timeout };
                self.on_write(now, id, key, &condition, Change::Tombstone, wanted)?;
            }
            Request::Get { key } => {
                let reply = self.read(now, &key)?;
                self.out.reply(id, reply);
            }
            Request::Read { key, asked, timeout } => self.begin_read(now, (id, key), asked, timeout)?,
            Request::Sync { peer, prefix, dry_run } => {
                self.sessions.wish(id, peer, prefix, dry_run, &mut self.out);
            }
            Request::Members => self.out.reply(id, Reply::Members(self.membership.view(now))),
            Request::Status => {
                let status = self.status();
                self.out.reply(id, Reply::Status(Box::new(status)));
            }
            Request::Join { address } => {
                self.membership.join(now, address);
                self.out.reply(id, Reply::Done);
            }
            Request::Leave => self.begin_leaving(now, id),
            Request::Remove { id: member } => {
                let reply = match self.membership.remove(&member, &mut self.out) {
                    Ok(()) => {
                        self.pulls.on_gone(&member);
                        self.pushes.on_gone(&member);
                        self.serves.end(&member);
                        self.meetings.on_gone(&member, &mut self.out);
                        self.sessions.on_gone(now, &member, &mut self.out);
                        Reply::Done
                    }
                    Err(reason) => Reply::Refused(Refusal::Member(reason)),
                };
                self.out.reply(id, reply);
            }
            Request::Drain => {
                self.membership.update_me(|me| me.mode = Mode::Draining);
                self.out.event(Level::Info, "draining", "taking no more writes".into());
                self.out.reply(id, Reply::Done);
            }
        }
        Ok(())
    }

    /// Takes no more writes, and goes once somebody else holds what this node holds.
    fn begin_leaving(&mut self, now: Now, id: RequestId) {
        if self.membership.me().mode != Mode::Draining {
            self.membership.update_me(|me| me.mode = Mode::Draining);
        }
        match &mut self.leaving {
            Some(leaving) => leaving.asked_by.push(id),
            None => self.leaving = Some(Leaving { asked_by: vec![id], at_latest: now.mono + LEAVE_PATIENCE }),
        }
    }

    pub(super) fn leave_if_done(&mut self, now: Now) {
        let Some(leaving) = &self.leaving else { return };
        let own = self.replica.seen_digest();
        let reachable = self.membership.reachable();
        let is_alone = self.membership.count() == 1;
        let is_held = is_alone || reachable.iter().any(|peer| self.pulls.has_digest(peer, own));
        if !is_held && now.mono < leaving.at_latest {
            return;
        }
        if !is_held {
            let text = "nobody confirmed to hold all that this node holds".into();
            self.out.event(Level::Warn, "left-unconfirmed", text);
        }
        let leaving = self.leaving.take().expect("just looked");
        self.membership.leave(&mut self.out);
        for id in leaving.asked_by {
            self.out.reply(id, Reply::Done);
        }
        self.out.stop();
    }

    fn on_write(
        &mut self,
        now: Now,
        id: RequestId,
        key: Key,
        condition: &Condition,
        change: Change,
        wanted: Wanted,
    ) -> Result<(), StorageError> {
        let current = rows::record(&self.store, &key)?;
        let asked = self.asked(wanted.ack);
        if let Some(refusal) = self.refuses(now, &current, condition, asked) {
            self.out.reply(id, Reply::Refused(refusal));
            return Ok(());
        }
        let joined = self.membership.me().joined;
        let (store, dice) = (&mut self.store, &mut self.dice);
        let entry = self.replica.write(now, store, dice, joined, (key, &current), change)?;
        let origin = self.replica.origin();
        if self.membership.me().origin != origin {
            self.membership.update_me(|me| me.origin = origin);
        }
        self.pushes.add(entry.clone());
        self.confirm(now, id, entry, asked, wanted.timeout);
        Ok(())
    }

    /// Why a write must not happen, if there is a reason.
    fn refuses(&self, now: Now, current: &Record, condition: &Condition, asked: u16) -> Option<Refusal> {
        let me = self.membership.me();
        if me.mode != Mode::Normal {
            return Some(Refusal::Mode(me.mode));
        }
        let members = u16::try_from(self.membership.count()).unwrap_or(u16::MAX);
        if asked > members {
            return Some(Refusal::AckAboveMembers { asked, members });
        }
        if asked > 1 && !self.confirmations.has_room() {
            return Some(Refusal::TooManyPending { limit: crate::protocol::confirm::PENDING_MAX });
        }
        let live = order::greatest(current.versions()).filter(|version| self.is_live(now, version));
        let holds = match condition {
            Condition::None => true,
            Condition::Exists => live.is_some(),
            Condition::Absent => live.is_none(),
            Condition::Matches(uuids) => live.is_some_and(|version| uuids.contains(&version.uuid())),
            Condition::Differs(uuids) => live.is_none_or(|version| !uuids.contains(&version.uuid())),
        };
        (!holds).then(|| Refusal::Condition { found: live.map(Version::id) })
    }

    fn confirm(&mut self, now: Now, id: RequestId, entry: Entry, asked: u16, timeout: Duration) {
        if asked <= 1 {
            self.out.reply(id, Reply::Written { id: entry.version.id(), acked: 1 });
        } else {
            self.confirmations.wait(now.mono, id, entry, asked, now.mono + timeout);
        }
    }

    pub(super) fn asked(&self, ack: Ack) -> u16 {
        match ack {
            Ack::Local => 1,
            Ack::Nodes(nodes) => nodes,
            Ack::Majority => u16::try_from(self.membership.count() / 2 + 1).unwrap_or(u16::MAX),
        }
    }

    pub(super) fn read(&mut self, now: Now, key: &Key) -> Result<Reply, StorageError> {
        let record = rows::record(&self.store, key)?;
        if !record.is_sound() {
            self.set_apart(key)?;
        }
        Ok(match record {
            Record::Rotten => Reply::Refused(Refusal::Corrupt),
            Record::Absent => Reply::Value(None),
            Record::Row(row) => {
                let shown = order::greatest(&row.versions).filter(|version| self.is_live(now, version));
                Reply::Value(shown.cloned())
            }
        })
    }

    fn is_live(&self, now: Now, version: &Version) -> bool {
        version.is_live_at(self.replica.clock().read_millis(now))
    }

    fn status(&mut self) -> Status {
        let view = self.membership.view(Now::default());
        let others = view.iter().map(|view| &view.member).filter(|member| member.id != self.settings.id);
        let peers = others.filter(|member| member.state <= MemberState::Down).map(|member| {
            let (stream, in_step) = self.pulls.status(&member.id);
            PeerStatus { id: member.id.clone(), stream, in_step }
        });
        let peers = peers.collect();
        let seen = self.replica.seen();
        Status {
            me: self.membership.me().clone(),
            member_count: self.membership.count(),
            alive_count: self.membership.alive_count(),
            origins: seen.origin_count(),
            dots_seen: seen.count(),
            high_water: self.replica.clock().high_water(),
            peers,
            counters: self.out.counters(),
            seen_hash: self.replica.seen_digest(),
        }
    }
}
