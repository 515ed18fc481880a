//! What a node does for clients and operators.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{
    Ack, Condition, Entry, Imported, Instant, Key, MemberState, Mode, Now, PeerStatus, Policy, Refusal,
    Reply, Request, RequestId, Status, Strategy, Timing, Token, Version, row,
};
use crate::protocol::history::{self, TRANSACTIONS_MAX};
use crate::protocol::replica::{Change, Merged};
use crate::protocol::resolve;
use crate::protocol::siblings::{self, RUNS_MAX, SIBLINGS_MAX, Saw};
use crate::storage::rows::{self, Record};
use crate::storage::{Storage, StorageError};

use super::{Level, Node};

/// How long a leaving node waits for somebody to hold all that it holds.
pub const LEAVE_PATIENCE: Duration = Duration::from_secs(10);

/// Most keys in quarantine that `/status` names.
const QUARANTINED_NAMED_MAX: usize = 100;
/// Most versions set aside whose keys `/status` names.
const SET_ASIDE_NAMED_MAX: usize = 100;

/// Most runs of nodes that may have written in a cluster, `max_origins`: every one is named in `seen` for ever, and a
/// `seen` of this many still fits a message with room to spare. A run that would be one more takes no writes.
pub const ORIGINS_MAX: usize = 1 << 15;

/// A goodbye under way.
#[derive(Debug)]
pub(super) struct Leaving {
    asked_by: Vec<RequestId>,
    /// Whether it goes even if nobody is known to hold what it holds.
    is_forced: bool,
    pub(super) at_latest: Instant,
    /// The mode to go back to, if it stays.
    before: Mode,
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
            Request::Patch { key, offset, value, content_type, condition, ack, timeout } => {
                let end = offset.checked_add(value.len() as u64);
                assert!(
                    end.is_some_and(|end| end <= Version::VALUE_BYTES_MAX as u64),
                    "the door checks sizes"
                );
                let change = Change::Patch { offset, value, content_type };
                self.on_write(now, id, key, &condition, change, Wanted { ack, timeout })?;
            }
            Request::Delete { key, condition, ack, timeout } => {
                let wanted = Wanted { ack, timeout };
                self.on_write(now, id, key, &condition, Change::Tombstone, wanted)?;
            }
            Request::Get { key } => self.on_get(now, id, key)?,
            Request::Read { key, asked, timeout } => self.begin_read(now, (id, key), asked, timeout)?,
            Request::Sync { peer, prefix, dry_run } => {
                self.sessions.wish(id, peer, prefix, dry_run, &mut self.out);
            }
            Request::Members => self.out.reply(id, Reply::Members(self.membership.view(now))),
            Request::Status => {
                let status = self.status(now)?;
                self.out.reply(id, Reply::Status(Box::new(status)));
            }
            Request::Join { address } => {
                self.membership.join(now, address);
                self.out.reply(id, Reply::Done);
            }
            Request::Leave { force } => self.begin_leaving(now, id, force),
            Request::Remove { id: member, force } => {
                let reply = match self.membership.remove(now, &member, force, &mut self.out) {
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
                self.membership.update_me(now, |me| me.mode = Mode::Draining);
                self.out.event(Level::Info, "draining", "taking no more writes".into());
                self.out.reply(id, Reply::Done);
            }
            Request::Explain { key } => {
                let decisions = self.replica.decisions(&key);
                self.out.reply(id, Reply::Explained(decisions));
            }
            Request::SetMode { mode } => {
                let reply = self.set_mode(now, mode);
                self.out.reply(id, reply);
            }
            Request::Retime { timing } => {
                self.retime(now, *timing);
                self.out.reply(id, Reply::Done);
            }
            Request::Import { entries } => self.on_import(now, id, &entries)?,
        }
        Ok(())
    }

    /// Takes versions as a peer's push would bring them; other members fetch what they lack.
    fn on_import(&mut self, now: Now, id: RequestId, entries: &[Entry]) -> Result<(), StorageError> {
        if !self.room.is_enough() {
            self.out.reply(id, Reply::Refused(Refusal::DiskFull));
            return Ok(());
        }
        let mode = self.membership.me().mode;
        if mode != Mode::Normal {
            self.out.reply(id, Reply::Refused(Refusal::Mode(mode)));
            return Ok(());
        }
        let mut imported = Imported::default();
        for entry in entries {
            let count = match self.replica.merge(now, &mut self.store, entry)? {
                Merged::Won => &mut imported.taken,
                Merged::Lost => &mut imported.beaten,
                Merged::Known => &mut imported.known,
                Merged::Malformed => &mut imported.malformed,
            };
            *count += 1;
        }
        self.out.count("entries_imported", imported.taken);
        self.out.reply(id, Reply::Imported(imported));
        Ok(())
    }

    /// An operator's switch. A node on its way out stays that, and one that is still taking the data may be made
    /// read-only and then ends as that.
    fn set_mode(&mut self, now: Now, mode: Mode) -> Reply {
        let present = self.membership.me().mode;
        let is_operators = matches!(mode, Mode::Normal | Mode::ReadOnly);
        if !is_operators || !present.may_become(mode) {
            return Reply::Refused(Refusal::Mode(present));
        }
        if mode != present {
            self.membership.update_me(now, |me| me.mode = mode);
            self.out.event(
                Level::Info,
                "mode-changed",
                format!("from {present:?} to {mode:?}").to_lowercase(),
            );
        }
        Reply::Done
    }

    fn retime(&mut self, now: Now, timing: Timing) {
        self.membership.set_timing(now, timing.clone(), &mut self.dice);
        self.pulls.set_timing(now, timing.clone());
        self.meetings.set_timing(timing.clone());
        self.sessions.set_timing(now, timing.clone());
        self.votes.set_patience(timing.vote_max);
        self.next_scrub = timing.scrub_interval.map(|interval| now.mono + interval);
        self.settings.timing = timing;
        self.out.event(Level::Info, "retimed", "new intervals count from now on".into());
    }

    /// Takes no more writes, and goes once somebody else holds what this node holds.
    fn begin_leaving(&mut self, now: Now, id: RequestId, force: bool) {
        let before = self.membership.me().mode;
        if before != Mode::Draining {
            self.membership.update_me(now, |me| me.mode = Mode::Draining);
        }
        let at_latest = now.mono + LEAVE_PATIENCE;
        let new = || Leaving { asked_by: Vec::new(), is_forced: false, at_latest, before };
        let leaving = self.leaving.get_or_insert_with(new);
        leaving.asked_by.push(id);
        leaving.is_forced |= force;
    }

    pub(super) fn leave_if_done(&mut self, now: Now) {
        let Some(leaving) = &self.leaving else { return };
        let own = self.replica.seen_digest();
        let reachable = self.membership.data_peers();
        let is_alone = self.membership.count() == 1;
        let is_held = is_alone || reachable.iter().any(|peer| self.pulls.has_digest(peer, own));
        if !is_held && now.mono < leaving.at_latest {
            return;
        }
        let leaving = self.leaving.take().expect("just looked");
        if !is_held {
            let text = "nobody confirmed to hold all that this node holds";
            if !leaving.is_forced {
                return self.stay(now, leaving, text);
            }
            self.out.event(Level::Warn, "left-unconfirmed", text.into());
        }
        self.membership.leave(now, &mut self.out);
        for id in leaving.asked_by {
            self.out.reply(id, Reply::Done);
        }
        self.out.stop();
    }

    /// Does not leave after all: what only this node holds would be gone with its disk.
    fn stay(&mut self, now: Now, leaving: Leaving, why: &str) {
        let text = format!("{why}, so it stays; bring back a member, or force it");
        self.out.event(Level::Warn, "leave-unconfirmed", text.clone());
        self.membership.update_me(now, |me| me.mode = leaving.before);
        for id in leaving.asked_by {
            self.out.reply(id, Reply::Refused(Refusal::Member(text.clone())));
        }
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
        let refusal = refusal.or_else(|| refuses_change(policy, &current, &change));
        let saw = saw(condition, &change);
        let crowded = || self.refuses_sibling(now, current.versions(), &change, &saw);
        let refusal = refusal.or_else(|| if policy == Policy::Siblings { crowded() } else { None });
        if let Some(refusal) = refusal {
            self.out.reply(id, Reply::Refused(refusal));
            return Ok(());
        }
        let joined = self.membership.me().joined;
        let (store, dice) = (&mut self.store, &mut self.dice);
        let entry = self.replica.write(now, store, dice, joined, (key, &current), (change, &saw))?;
        let origin = self.replica.origin();
        if self.membership.me().origin != origin {
            self.membership.update_me(now, |me| me.origin = origin);
        }
        self.pushes.add(entry.clone());
        self.confirm(now, id, entry, asked, wanted.timeout);
        Ok(())
    }

    /// Why a write must not happen, if there is a reason.
    fn refuses(
        &self,
        now: Now,
        (policy, current): (Policy, &Record),
        condition: &Condition,
        asked: u16,
    ) -> Option<Refusal> {
        if !self.room.is_enough() {
            return Some(Refusal::DiskFull);
        }
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
        let origins = self.replica.seen().origin_count();
        if self.replica.origin().is_none() && origins >= ORIGINS_MAX {
            return Some(Refusal::TooManyOrigins { limit: ORIGINS_MAX });
        }
        if let Policy::History(strategy) = policy
            && let Some(outcome) = refuses_heads(strategy, current, condition)
        {
            return outcome;
        }
        let live = self.shown(now, policy, current.versions());
        let live = live.as_deref();
        let tag = match policy {
            Policy::Siblings => row::tag(&self.live(now, current.versions())),
            Policy::Lww | Policy::History(_) => live.map(Version::uuid),
        };
        let holds = match condition {
            Condition::None | Condition::Saw(_) => true,
            Condition::Exists => tag.is_some(),
            Condition::Absent => tag.is_none(),
            Condition::Matches(uuids) => tag.is_some_and(|tag| uuids.contains(&tag)),
            Condition::Differs(uuids) => tag.is_none_or(|tag| !uuids.contains(&tag)),
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
        let mut record = rows::record(&self.store, key)?;
        if !record.is_sound() {
            self.set_apart(key)?;
            record = rows::record(&self.store, key)?;
        }
        let policy = self.replica.policy(key);
        Ok(match record {
            Record::Rotten => Reply::Refused(Refusal::Corrupt),
            Record::Row(_) | Record::Absent if policy == Policy::Siblings => {
                let versions = record.versions();
                let stamp = versions.iter().map(|version| version.stamp).max().unwrap_or_default();
                let token = Token { context: self.replica.context(versions), stamp };
                Reply::Siblings { live: self.live(now, versions), token }
            }
            Record::Absent => Reply::Value(None),
            Record::Row(row) => match resolve::conflict(policy, &row.versions) {
                Some(heads) => Reply::Refused(Refusal::Heads { heads }),
                None => Reply::Value(self.shown(now, policy, &row.versions).map(Cow::into_owned)),
            },
        })
    }

    /// The version that a read shows.
    fn shown<'a>(&self, now: Now, policy: Policy, versions: &'a [Version]) -> Option<Cow<'a, Version>> {
        resolve::shown(policy, versions, self.replica.clock().read_millis(now))
    }

    /// The siblings that a read shows.
    fn live(&self, now: Now, versions: &[Version]) -> Vec<Version> {
        resolve::live(versions, self.replica.clock().read_millis(now)).collect()
    }

    /// The bounds on siblings, which only a node that takes a write keeps: a merge takes all it meets.
    fn refuses_sibling(&self, now: Now, versions: &[Version], change: &Change, saw: &Saw) -> Option<Refusal> {
        let millis = self.replica.clock().read_millis(now);
        let replaced = self.replica.replaced_by(saw, versions, now);
        if replaced.run_count() >= RUNS_MAX {
            return Some(Refusal::Policy(
                "more process runs have written this key than one version can name as replaced",
            ));
        }
        let adds = matches!(change, Change::Value { .. });
        let count = siblings::count_after(versions, &replaced, millis);
        (adds && count > SIBLINGS_MAX).then_some(Refusal::TooManySiblings { limit: SIBLINGS_MAX })
    }

    fn status(&mut self, now: Now) -> Result<Status, StorageError> {
        let view = self.membership.view(Now::default());
        let others = view.iter().map(|view| &view.member).filter(|member| member.id != self.settings.id);
        let peers = others.filter(|member| member.state <= MemberState::Down).map(|member| {
            let (lag, behind) = self.meetings.apart(&member.id, self.replica.seen());
            let (stream, in_step) = self.pulls.status(&member.id);
            let (in_session, last) = self.sessions.status(&member.id);
            PeerStatus {
                id: member.id.clone(),
                stream,
                in_step: in_step && lag + behind == 0,
                seen_hash: self.pulls.digest(&member.id),
                lag,
                behind,
                divergent_ms: millis(self.pulls.divergent_for(now, &member.id, lag + behind > 0)),
                in_session,
                last_session: last.map(|ended| (millis(now.mono.since(ended.at)), ended.report.clone())),
            }
        });
        let peers = peers.collect();
        let seen = self.replica.seen();
        let aside = rows::aside(&self.store, None, SET_ASIDE_NAMED_MAX)?;
        let set_aside: BTreeSet<Key> = aside.into_iter().filter_map(|(_, entry)| Some(entry?.key)).collect();
        Ok(Status {
            set_aside: set_aside.into_iter().collect(),
            quarantined: rows::quarantine(&self.store, std::ops::Bound::Unbounded, QUARANTINED_NAMED_MAX)?,
            me: self.membership.me().clone(),
            disk_full: !self.room.is_enough(),
            member_count: self.membership.count(),
            alive_count: self.membership.alive_count(),
            origins: seen.origin_count(),
            dots_seen: seen.count(),
            high_water: self.replica.clock().high_water(),
            peers,
            counters: self.out.counters(),
            seen_hash: self.replica.seen_digest(),
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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

/// Why a key's policy does not take a change, if there is a reason.
fn refuses_change(policy: Policy, current: &Record, change: &Change) -> Option<Refusal> {
    let Policy::History(strategy) = policy else {
        let patch = "a part of a value can be written under policy history only";
        return matches!(change, Change::Patch { .. }).then_some(Refusal::Policy(patch));
    };
    let versions = current.versions();
    let bytes = match change {
        Change::Value { ttl: Some(_), .. } => {
            return Some(Refusal::Policy(
                "policy history takes no time to live: what was written stays listed",
            ));
        }
        Change::Patch { value, .. } => {
            // A resolution replaces the whole value: what a patch would be applied to is in dispute.
            if let Some(heads) = resolve::conflict(Policy::History(strategy), versions) {
                return Some(Refusal::Heads { heads });
            }
            value.len()
        }
        Change::Value { value, .. } => value.len(),
        Change::Tombstone => 0,
    };
    let limit = history::full(versions, bytes)?;
    let what = if limit == TRANSACTIONS_MAX { "transactions" } else { "bytes" };
    Some(Refusal::HistoryFull { what, limit })
}

/// What the heads of a forked history say of a write: under `fail` it has to name all of them, and with any
/// strategy a condition that does holds. `None` leaves the answer to what a read shows.
fn refuses_heads(strategy: Strategy, current: &Record, condition: &Condition) -> Option<Option<Refusal>> {
    let heads = resolve::heads(current.versions());
    if heads.len() < 2 {
        return None;
    }
    let named = match condition {
        Condition::Matches(uuids) => heads.iter().all(|head| uuids.contains(&head.uuid)),
        Condition::None
        | Condition::Exists
        | Condition::Absent
        | Condition::Differs(_)
        | Condition::Saw(_) => false,
    };
    if named {
        return Some(None);
    }
    (strategy == Strategy::Fail).then_some(Some(Refusal::Heads { heads }))
}
