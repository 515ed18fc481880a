//! Sync sessions: what holds after the streams are through, checked against one peer at a time and mended.
//!
//! Streams bring whatever a peer has seen and this node has not. A session finds what they cannot: rows that a disk
//! lost, and our own bugs. It opens with one print of everything, and while that is equal it is one small message
//! each way. Flights go to and fro, each end answering the last one, so a flight is the other end's leave to speak;
//! a session that falls silent is over, and as all it brought is merged, the next one goes on from there.
//!
//! Sessions are paced, bounded in time, bytes, ranges and memory, and there are never two between the same pair.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, RngExt};

use super::flight::{self, FLIGHT_CREDIT_MAX, Flight};
use super::meeting::Meetings;
use super::membership::Membership;
use super::message::{Message, Scope};
use super::outbox::{Level, Outbox};
use super::push::size;
use super::replica::{Merged, Replica};
use super::span::Span;
use super::talk::{Leave, ROOM_MIN, Talk};
use super::timing::Timing;
use crate::model::{Entry, Instant, NodeId, Now, Refusal, Reply, RequestId, SyncReport};
use crate::mutants;
use crate::storage::{Storage, StorageError};

/// Most sessions at once.
pub const SESSIONS_MAX: usize = 8;
/// Most operators' wishes that wait.
pub const WISHES_MAX: usize = 64;
/// A session that takes longer is over; the next one goes on with what is left.
pub const SESSION_TIME_MAX: Duration = Duration::from_secs(600);
/// A session that moved more bytes is over; the next one goes on with what is left.
pub const SESSION_BYTES_MAX: u64 = 16 << 30;
/// Most flights of a session.
pub const SESSION_FLIGHTS_MAX: u32 = 1 << 20;
/// Bytes of entries that sessions may bring in a second, and how many they may bring before that counts.
pub const RATE_BYTES: u64 = 64 << 20;
/// How often a check is put off because streams have something to do first.
pub const PUT_OFF_MAX: u32 = 3;
/// How long it is put off.
pub const PUT_OFF: Duration = Duration::from_secs(1);
/// Bytes of entries in the first answer, which no flight has given leave for.
const FIRST_CREDIT: u32 = 256 * 1024;

/// The sessions of one node.
#[derive(Debug)]
pub struct Sessions {
    timing: Timing,
    credit: u32,
    by_peer: BTreeMap<NodeId, Session>,
    next_check: Instant,
    is_hurried: bool,
    put_off: u32,
    wishes: VecDeque<Wish>,
    /// How the last session with each peer ended.
    last: BTreeMap<NodeId, Ended>,
    bucket: Bucket,
}

/// How a session ended, and when.
#[derive(Clone, Debug)]
pub struct Ended {
    /// When, by the monotonic clock.
    pub at: Instant,
    /// What it did.
    pub report: SyncReport,
}

/// What an operator wants compared.
#[derive(Debug)]
struct Wish {
    asked_by: RequestId,
    peer: NodeId,
    scope: Scope,
}

#[derive(Debug)]
struct Session {
    number: u32,
    is_mine: bool,
    scope: Scope,
    asked_by: Option<RequestId>,
    /// Nothing until there is something to talk about.
    talk: Talk,
    /// The last flight that this end sent.
    step: u32,
    said_nothing: bool,
    heard_nothing: bool,
    /// How much the next flight may say.
    leave: Leave,
    /// When the next flight goes out.
    send_at: Option<Instant>,
    silent_at: Instant,
    ends_at: Instant,
    /// Bytes of statements and entries, both ways.
    bytes: u64,
    took: u64,
}

/// Lets through so many bytes a second.
#[derive(Debug)]
struct Bucket {
    bytes: u64,
    at: Instant,
}

/// What a session works on.
pub struct Around<'a, S> {
    /// The rows.
    pub store: &'a mut S,
    /// The versions over them.
    pub replica: &'a mut Replica,
    /// Who is reachable.
    pub members: &'a Membership,
    /// With whom a meeting stands.
    pub meetings: &'a Meetings,
}

impl<S: Storage> Around<'_, S> {
    /// Tombstones are compared only between nodes that have collected alike.
    fn talk(&self, peer: &NodeId, scope: &Scope) -> Talk {
        let is_alike = self.meetings.has_collected_alike(peer, self.replica);
        Talk::new(is_alike || mutants::is_on("tombstones-compared"), scope.dry_run)
    }

    fn print(&self, talk: &Talk, scope: &Scope) -> Result<u64, StorageError> {
        talk.print(&*self.store, self.replica.chunks(), &scope.span())
    }
}

impl Scope {
    fn span(&self) -> Span {
        Span::prefix(&self.prefix)
    }
}

impl Sessions {
    /// No session yet. `credit` is how many bytes of entries one flight may bring to this node.
    pub fn new(timing: Timing, credit: u32, now: Now) -> Sessions {
        Sessions {
            next_check: now.mono + timing.sync_interval,
            timing,
            credit,
            by_peer: BTreeMap::new(),
            is_hurried: false,
            put_off: 0,
            wishes: VecDeque::new(),
            last: BTreeMap::new(),
            bucket: Bucket { bytes: RATE_BYTES, at: now.mono },
        }
    }

    /// Takes other timers from now on; what is under way keeps its deadlines.
    pub fn set_timing(&mut self, now: Now, timing: Timing) {
        self.next_check = now.mono + timing.sync_interval;
        self.timing = timing;
    }

    /// An operator wants a comparison with a peer; the answer comes when it is over.
    pub fn wish(&mut self, id: RequestId, peer: NodeId, prefix: Bytes, dry_run: bool, out: &mut Outbox) {
        if self.wishes.len() >= WISHES_MAX {
            let text = format!("{WISHES_MAX} comparisons already wait");
            return out.reply(id, Reply::Refused(Refusal::Member(text)));
        }
        self.wishes.push_back(Wish { asked_by: id, peer, scope: Scope { prefix, dry_run } });
    }

    /// A peer opens a session.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn on_open<S: Storage>(
        &mut self,
        now: Now,
        from: &NodeId,
        (number, print, scope): (u32, u64, Option<Scope>),
        me: &NodeId,
        around: Around<'_, S>,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let mine = self.by_peer.get(from).filter(|session| session.is_mine);
        if mine.is_some() && me < from {
            // Both opened at once; the peer takes ours.
            return Ok(());
        }
        let asked_by = mine.and_then(|session| session.asked_by);
        if let (Some(id), Some(session)) = (asked_by, self.by_peer.remove(from)) {
            self.wishes.push_front(Wish { asked_by: id, peer: from.clone(), scope: session.scope });
        }
        let scope = scope.unwrap_or_default();
        let mut talk = around.talk(from, &scope);
        if around.print(&talk, &scope)? == print || mutants::is_on("session-blind") {
            out.send(from, Message::SyncSame { session: number });
            self.note(now, from, SyncReport { ended: "equal", ..SyncReport::default() });
            return Ok(());
        }
        if self.by_peer.len() >= SESSIONS_MAX && !self.by_peer.contains_key(from) {
            out.count("sync_sessions_refused", 1);
            return Ok(());
        }
        talk.hear_print(scope.span(), print);
        let session = self.session(now, (number, false), scope, talk);
        self.by_peer.insert(from.clone(), session);
        Ok(())
    }

    /// A peer holds just the same.
    pub fn on_same(&mut self, now: Now, from: &NodeId, number: u32, out: &mut Outbox) {
        if self.by_peer.get(from).is_some_and(|session| session.is_mine && session.number == number) {
            self.end(now, from, "equal", out);
        }
    }

    /// A flight arrives: takes what it brings, and leaves the answer to [`Sessions::on_tick`].
    ///
    /// # Errors
    /// The disk is broken.
    pub fn on_flight<S: Storage>(
        &mut self,
        now: Now,
        from: &NodeId,
        flight: Flight,
        around: Around<'_, S>,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let Flight { session: number, step, credit, room, more, parts, entries } = flight;
        let is_next = |session: &&mut Session| {
            session.number == number && step == session.step + 1 && session.send_at.is_none()
        };
        let Some(session) = self.by_peer.get_mut(from).filter(is_next) else {
            out.count("sync_flights_late", 1);
            return Ok(());
        };
        let bytes = entries.iter().map(size).sum::<usize>();
        session.bytes += (bytes + parts.len()) as u64;
        let Some(said) = flight::read(&parts) else {
            self.end(now, from, "nonsense", out);
            return Ok(());
        };
        let wants = said.iter().any(|part| matches!(part, flight::Part::Want(..)));
        session.heard_nothing = said.is_empty() && entries.is_empty() && !more;
        session.talk.hear_entries(around.replica.chunks(), &entries);
        let is_sense = session.talk.hear(said) & take(now, session, &entries, around, out)?;
        session.step = step;
        let bytes_allowed = usize::try_from(credit).unwrap_or(usize::MAX).min(FLIGHT_CREDIT_MAX);
        session.leave = Leave { bytes: bytes_allowed, ranges: usize::from(room) };
        let is_over = session.bytes > SESSION_BYTES_MAX || step >= SESSION_FLIGHTS_MAX;
        let is_through = session.heard_nothing && session.said_nothing && session.talk.is_done();
        let how = match (is_sense, is_over, is_through) {
            (false, _, _) => "nonsense",
            (true, true, _) => "bounds",
            (true, false, true) => "repaired",
            (true, false, false) => {
                let throttle = if entries.is_empty() { Duration::ZERO } else { self.timing.throttle_delay };
                let fetch = if wants { self.timing.fetch_delay } else { Duration::ZERO };
                let wait = self.bucket.take(now.mono, bytes as u64).max(throttle).max(fetch);
                session.send_at = Some(now.mono + wait);
                return Ok(());
            }
        };
        self.end(now, from, how, out);
        Ok(())
    }

    /// The meeting with a peer is over, and so is everything in it.
    pub fn on_parted(&mut self, now: Now, peer: &NodeId, out: &mut Outbox) {
        if self.by_peer.contains_key(peer) {
            self.end(now, peer, "parted", out);
        }
    }

    /// Ends what is silent or too long, sends what is due, and begins what is wanted.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn on_tick<S: Storage>(
        &mut self,
        now: Now,
        mut around: Around<'_, S>,
        in_step: impl Fn(&NodeId) -> bool,
        dice: &mut impl Rng,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let peers: Vec<NodeId> = self.by_peer.keys().cloned().collect();
        for peer in peers {
            let session = &self.by_peer[&peer];
            if session.send_at.is_some_and(|at| at <= now.mono) {
                self.send(now, &peer, &mut around, out)?;
            } else if session.send_at.is_none() && session.silent_at <= now.mono {
                self.end(now, &peer, "silent", out);
            } else if session.ends_at <= now.mono {
                self.end(now, &peer, "bounds", out);
            }
        }
        let reachable: Vec<NodeId> =
            around.members.reachable().into_iter().filter(|peer| around.meetings.is_open(peer)).collect();
        for _ in 0..self.wishes.len() {
            let wish = self.wishes.pop_front().expect("counted");
            if !reachable.contains(&wish.peer) {
                let text = format!("no data passes between this node and {} just now", wish.peer);
                out.reply(wish.asked_by, Reply::Refused(Refusal::Member(text)));
            } else if self.by_peer.contains_key(&wish.peer) || self.by_peer.len() >= SESSIONS_MAX {
                self.wishes.push_back(wish);
            } else {
                let (peer, asked_by) = (wish.peer, Some(wish.asked_by));
                self.open(now, &peer, (wish.scope, asked_by), &around, dice, out)?;
            }
        }
        if self.is_hurried && self.put_off == 0 && !reachable.is_empty() {
            self.next_check = now.mono;
        }
        if self.next_check <= now.mono {
            self.check(now, &reachable, &around, in_step, dice, out)?;
        }
        Ok(())
    }

    /// When the next thing is due.
    pub fn next_wakeup(&self) -> Instant {
        let due = self
            .by_peer
            .values()
            .map(|session| session.send_at.unwrap_or(session.silent_at).min(session.ends_at));
        due.min().map_or(self.next_check, |due| due.min(self.next_check))
    }

    /// Something was found missing: the next check need not wait its time.
    pub fn hurry(&mut self) {
        self.is_hurried = true;
    }

    /// Whether a wish waits that may be taken up now.
    pub fn has_wish(&self) -> bool {
        self.wishes.iter().any(|wish| !self.by_peer.contains_key(&wish.peer))
            && self.by_peer.len() < SESSIONS_MAX
            || self.is_hurried
    }

    /// The state of things with a peer: whether a session is under way, and how the last one ended.
    pub fn status(&self, peer: &NodeId) -> (bool, Option<&Ended>) {
        (self.by_peer.contains_key(peer), self.last.get(peer))
    }

    /// A peer is gone for good.
    pub fn on_gone(&mut self, now: Now, peer: &NodeId, out: &mut Outbox) {
        self.on_parted(now, peer, out);
        self.last.remove(peer);
    }

    /// A check that nothing in particular asked for, with a peer drawn by lot.
    fn check<S: Storage>(
        &mut self,
        now: Now,
        reachable: &[NodeId],
        around: &Around<'_, S>,
        in_step: impl Fn(&NodeId) -> bool,
        dice: &mut impl Rng,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        self.next_check = now.mono + self.timing.sync_interval;
        let free: Vec<&NodeId> = reachable.iter().filter(|peer| !self.by_peer.contains_key(peer)).collect();
        if free.is_empty() || self.by_peer.len() >= SESSIONS_MAX {
            return Ok(());
        }
        let peer = free[dice.random_range(0..free.len())].clone();
        if !in_step(&peer) && self.put_off < PUT_OFF_MAX {
            // Streams come first: what they are about to bring would be taken for a difference.
            self.put_off += 1;
            self.next_check = now.mono + PUT_OFF.min(self.timing.sync_interval);
            return Ok(());
        }
        self.put_off = 0;
        self.is_hurried = false;
        self.open(now, &peer, (Scope::default(), None), around, dice, out)
    }

    fn open<S: Storage>(
        &mut self,
        now: Now,
        peer: &NodeId,
        (scope, asked_by): (Scope, Option<RequestId>),
        around: &Around<'_, S>,
        dice: &mut impl Rng,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let talk = around.talk(peer, &scope);
        let print = around.print(&talk, &scope)?;
        let number = dice.next_u32();
        let told = (scope != Scope::default()).then(|| Box::new(scope.clone()));
        out.send(peer, Message::SyncOpen { session: number, print, scope: told });
        out.count("sync_sessions", 1);
        let mut session = self.session(now, (number, true), scope, talk);
        session.asked_by = asked_by;
        session.send_at = None;
        self.by_peer.insert(peer.clone(), session);
        Ok(())
    }

    fn session(&self, now: Now, (number, is_mine): (u32, bool), scope: Scope, talk: Talk) -> Session {
        Session {
            number,
            is_mine,
            scope,
            asked_by: None,
            talk,
            step: 0,
            said_nothing: false,
            heard_nothing: false,
            leave: Leave { bytes: FIRST_CREDIT as usize, ranges: ROOM_MIN },
            send_at: (!is_mine).then_some(now.mono),
            silent_at: now.mono + self.timing.session_silence_max(),
            ends_at: now.mono + SESSION_TIME_MAX,
            bytes: 0,
            took: 0,
        }
    }

    fn send<S: Storage>(
        &mut self,
        now: Now,
        peer: &NodeId,
        around: &mut Around<'_, S>,
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let credit = self.credit;
        let session = self.by_peer.get_mut(peer).expect("the caller has just looked");
        let chunks = around.replica.chunks();
        let answer = session.talk.answer(&*around.store, chunks, session.leave)?;
        let room = u16::try_from(session.talk.room()).unwrap_or(u16::MAX);
        session.said_nothing = answer.is_idle();
        session.step += 1;
        session.send_at = None;
        session.silent_at = now.mono + self.timing.session_silence_max();
        session.bytes += (answer.entries.iter().map(size).sum::<usize>() + answer.parts.len()) as u64;
        let is_through = session.heard_nothing && session.said_nothing;
        out.count("sync_entries_sent", answer.entries.len() as u64);
        let (number, step) = (session.number, session.step);
        let flight = Flight {
            session: number,
            step,
            credit,
            room,
            more: answer.more,
            parts: answer.parts.into(),
            entries: answer.entries,
        };
        out.send(peer, Message::SyncFlight(Box::new(flight)));
        if is_through {
            self.end(now, peer, "repaired", out);
        }
        Ok(())
    }

    fn end(&mut self, now: Now, peer: &NodeId, how: &'static str, out: &mut Outbox) {
        let Some(session) = self.by_peer.remove(peer) else { return };
        let talk = &session.talk;
        let report = SyncReport {
            ended: how,
            ahead: talk.ahead,
            behind: talk.behind,
            sent: talk.sent,
            took: session.took,
            bytes: session.bytes,
            flights: session.step,
        };
        if how != "equal" {
            out.count("sync_sessions_with_differences", 1);
        }
        if talk.differing > 0 && !session.scope.dry_run {
            let text = match (how, report.sent + report.took) {
                ("repaired", 0) => format!("what differed from {peer} was gone before anything had to move"),
                ("repaired", _) => format!("sent {} and took {} entries, {peer}", report.sent, report.took),
                _ => format!(
                    "sent {} and took {} entries, {peer}, before it ended: {how}",
                    report.sent, report.took
                ),
            };
            out.event(Level::Info, "sync-session", text);
        }
        if let Some(id) = session.asked_by {
            out.reply(id, Reply::Synced(report.clone()));
        }
        self.note(now, peer, report);
    }

    fn note(&mut self, now: Now, peer: &NodeId, report: SyncReport) {
        self.last.insert(peer.clone(), Ended { at: now.mono, report });
    }
}

/// Merges what a flight brought, each against the row as it is now. `false` if no node can have made it.
fn take<S: Storage>(
    now: Now,
    session: &mut Session,
    entries: &[Entry],
    around: Around<'_, S>,
    out: &mut Outbox,
) -> Result<bool, StorageError> {
    if session.scope.dry_run && !entries.is_empty() {
        return Ok(false);
    }
    for entry in entries {
        match around.replica.repair(now, &mut *around.store, entry)? {
            Merged::Won => {
                session.took += 1;
                out.count("sync_entries_taken", 1);
                around.replica.count_far(now, entry, out);
            }
            Merged::Lost => session.talk.hear_loser(entry.key.clone()),
            Merged::Known => out.count("sync_entries_known", 1),
            Merged::Malformed => {
                out.count("entries_malformed", 1);
                return Ok(false);
            }
        }
    }
    Ok(true)
}

impl Bucket {
    /// Takes so many bytes out, and says how long to wait until there are any left.
    fn take(&mut self, now: Instant, bytes: u64) -> Duration {
        let since = now.since(self.at);
        let refilled = (since.as_secs_f64() * RATE_BYTES as f64) as u64;
        self.bytes = self.bytes.saturating_add(refilled).min(RATE_BYTES);
        self.at = now;
        let lacking = bytes.saturating_sub(self.bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
        Duration::from_secs_f64(lacking as f64 / RATE_BYTES as f64)
    }
}
