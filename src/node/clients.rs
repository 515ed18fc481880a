//! What a node does for clients and operators.

use std::time::Duration;

use crate::model::{
    Ack, Condition, Entry, Instant, Key, MemberState, Mode, Now, PeerStatus, Policy, Refusal, Reply, Request,
    RequestId, Row, Status, Token, Version, row,
};
use crate::protocol::replica::{Change, Saw};
use crate::protocol::resolve;
use crate::protocol::siblings::{self, SIBLINGS_MAX};
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

/// What a write under policy `siblings` replaces. A client whose condition named what this node shows has seen it
/// as surely as one with a token; a delete without either means what this node has.
fn saw(condition: &Condition, change: &Change) -> Saw {
    match (condition, change) {
        (Condition::Saw(token), _) => Saw::Token(token.clone()),
        (Condition::Matches(_), _) | (_, Change::Tombstone) => Saw::Everything,
        (Condition::None | Condition::Exists | Condition::Absent | Condition::Differs(_), _) => Saw::Nothing,
    }
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
        let policy = self.replica.policy(&key);
        let refusal = self.refuses(now, (policy, &current), condition, asked);
        let saw = saw(condition, &change);
        let is_sibling = policy == Policy::Siblings;
        let crowded = || self.refuses_sibling(now, &current, &change, &saw).filter(|_| is_sibling);
        if let Some(refusal) = refusal.or_else(crowded) {
            self.out.reply(id, Reply::Refused(refusal));
            return Ok(());
        }
        let joined = self.membership.me().joined;
        let (store, dice) = (&mut self.store, &mut self.dice);
        let entry = if is_sibling {
            let what = (change, &saw);
            self.replica.write_sibling(now, store, dice, joined, (key, &current), what)?
        } else {
            self.replica.write(now, store, dice, joined, (key, &current), change)?
        };
        let origin = self.replica.origin();
        if self.membership.me().origin != origin {
            self.membership.update_me(|me| me.origin = origin);
        }
        if is_sibling {
            self.pushes.add_row(entry.key.clone())
        } else {
            self.pushes.add(entry.clone())
        }
        self.confirm(now, id, entry, asked, wanted.timeout);
        Ok(())
    }

    /// The bound on siblings, which only a node that takes a write keeps: a merge takes all it meets.
    fn refuses_sibling(&self, now: Now, current: &Record, change: &Change, saw: &Saw) -> Option<Refusal> {
        let (Change::Value { .. }, Record::Row(row)) = (change, current) else { return None };
        let millis = self.replica.clock().read_millis(now);
        let count = siblings::count_after(row, &self.replica.saw(row, saw), millis);
        (count > SIBLINGS_MAX).then_some(Refusal::TooManySiblings { limit: SIBLINGS_MAX })
    }

    /// Why a write must not happen, if there is a reason.
    fn refuses(
        &self,
        now: Now,
        (policy, current): (Policy, &Record),
        condition: &Condition,
        asked: u16,
    ) -> Option<Refusal> {
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
        let shown = self.shown(now, policy, current.versions());
        let tag = row::tag(shown.iter().copied());
        let holds = match condition {
            Condition::None | Condition::Saw(_) => true,
            Condition::Exists => tag.is_some(),
            Condition::Absent => tag.is_none(),
            Condition::Matches(uuids) => tag.is_some_and(|tag| uuids.contains(&tag)),
            Condition::Differs(uuids) => tag.is_none_or(|tag| !uuids.contains(&tag)),
        };
        (!holds).then(|| Refusal::Condition { found: shown.first().map(|version| version.id()) })
    }

    fn confirm(&mut self, now: Now, id: RequestId, entry: Entry, asked: u16, timeout: Duration) {
        if asked <= 1 {
            self.out.reply(id, Reply::Written { id: entry.version.id(), acked: 1 });
        } else {
            self.confirmations.wait(now.mono, id, entry, asked, now.mono + timeout);
        }
    }

    fn asked(&self, ack: Ack) -> u16 {
        match ack {
            Ack::Local => 1,
            Ack::Nodes(nodes) => nodes,
            Ack::Majority => u16::try_from(self.membership.count() / 2 + 1).unwrap_or(u16::MAX),
        }
    }

    fn read(&self, now: Now, key: &Key) -> Result<Reply, StorageError> {
        let policy = self.replica.policy(key);
        let row = match rows::record(&self.store, key)? {
            Record::Rotten => return Ok(Reply::Refused(Refusal::Corrupt)),
            Record::Absent => Row::default(),
            Record::Row(row) => row,
        };
        let shown = self.shown(now, policy, &row.versions).into_iter().cloned();
        Ok(match policy {
            Policy::Siblings => {
                let token = Token { context: self.replica.context(&row), stamp: row.stamp() };
                Reply::Siblings { live: shown.collect(), token }
            }
            Policy::Lww | Policy::History(_) => Reply::Value(shown.last()),
        })
    }

    /// The versions that a read shows.
    fn shown<'a>(&self, now: Now, policy: Policy, versions: &'a [Version]) -> Vec<&'a Version> {
        resolve::shown(policy, versions, self.replica.clock().read_millis(now))
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
