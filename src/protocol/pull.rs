//! The taking end of streams: notices that a peer has something we lack, asks for it, and acknowledges each
//! step once it is durable.
//!
//! Every entry is merged when it arrives, whatever becomes of the stream; only the closing cover needs all
//! parts of its step. A stream that falls silent fails, and is tried again after a growing wait.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::{Rng, RngExt};

use super::meeting::Meetings;
use super::membership::Membership;
use super::message::Message;
use super::outbox::{Level, Outbox};
use super::outline::Outline;
use super::replica::{Merged, Replica};
use super::timing::Timing;
use crate::model::{DotSet, Entry, Instant, NodeId, Now, Origin, Row};
use crate::mutants;
use crate::storage::{Batch, Storage, StorageError, rows};

/// Most streams that a node takes at once. More would only bring the same entries several times.
pub const PULLS_MAX: usize = 2;
/// After this long without a word on the stream that runs, a second one may start beside it.
pub const SLOW_AFTER: Duration = Duration::from_millis(500);
/// How long a hole in pushed dots may be mere reordering.
pub const GAP_PATIENCE: Duration = Duration::from_millis(50);

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// Asked, nothing heard yet.
    Connecting,
    /// Steps arrive.
    Streaming,
    /// A step is complete and being applied.
    Applying,
    /// Its entries are applied, not yet durable.
    FsyncPending,
    /// They are durable; the peer is being told.
    Acknowledging,
    /// Nothing is missing as far as we know.
    Waiting,
    /// The stream failed; it is tried again later.
    Error,
}

impl StreamState {
    /// The field's word for it.
    pub fn word(self) -> &'static str {
        match self {
            StreamState::Connecting => "connecting",
            StreamState::Streaming => "streaming",
            StreamState::Applying => "applying",
            StreamState::FsyncPending => "fsync-pending",
            StreamState::Acknowledging => "acknowledging",
            StreamState::Waiting => "waiting",
            StreamState::Error => "error",
        }
    }

    /// Whether the stream may go from this state to `next`.
    fn may_become(self, next: StreamState) -> bool {
        use StreamState::{Acknowledging, Applying, Connecting, Error, FsyncPending, Streaming, Waiting};
        matches!(
            (self, next),
            (_, Error)
                | (Waiting | Error, Connecting)
                | (Connecting, Streaming)
                | (Streaming, Applying)
                | (Applying, FsyncPending)
                | (FsyncPending, Acknowledging)
                | (Acknowledging, Streaming | Waiting)
        )
    }
}

/// The streams that a node takes, one per peer.
#[derive(Debug)]
pub struct Pulls {
    timing: Timing,
    credit: u32,
    by_peer: BTreeMap<NodeId, Pull>,
    next_sync: Option<Instant>,
    next_catchup: Option<Instant>,
    /// Entries taken, and streams that came to their end.
    moved: u64,
    closed: u64,
    /// Streams that brought everything since the time that was wanted first.
    recent: u64,
    /// While this node fills an empty disk.
    filling: Option<Filling>,
}

/// How a node takes all that the others hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filling {
    /// Versions with stamps from this millisecond on come first; 0 if it does not matter.
    pub since: u64,
    /// Between a step that is durable and the leave to send the next one.
    pub throttle: Duration,
}

/// What streams have brought since the start of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Entries.
    pub moved: u64,
    /// Streams that came to their end.
    pub closed: u64,
    /// Streams that brought everything since the time that was wanted first.
    pub recent: u64,
    /// Whether some peer is in step.
    pub is_in_step: bool,
}

#[derive(Debug)]
struct Pull {
    state: StreamState,
    /// Digest of the peer's `seen` as last heard.
    digest: Option<u64>,
    /// Whether that digest was our own.
    in_step: bool,
    /// When it was last known to be, or when the peer was first heard of.
    in_step_at: Instant,
    /// When to look whether a stream is needed.
    look_at: Option<Instant>,
    /// An origin of which a push left a hole; the look is only for that hole if nothing else asked for it.
    hole: Option<Origin>,
    session: u64,
    step: u32,
    parts: BTreeSet<u16>,
    end: Option<(u16, Option<DotSet>)>,
    /// The step that is under way ends what was wanted first.
    recent_in: bool,
    /// Whether the step brought anything.
    has_entries: bool,
    /// When a durable step is acknowledged, if that is put off.
    ack_at: Option<Instant>,
    /// The last step of the stream waits for durability.
    closes: bool,
    /// When the stream was last heard, or asked for.
    heard_at: Instant,
    /// When the stream counts as failed.
    silent_at: Instant,
    failures: u32,
    /// When a failed stream may be tried again.
    retry_at: Option<Instant>,
    moved: u64,
}

impl Pull {
    fn new() -> Pull {
        Pull {
            state: StreamState::Waiting,
            digest: None,
            in_step: false,
            in_step_at: Instant::default(),
            look_at: None,
            hole: None,
            session: 0,
            step: 0,
            parts: BTreeSet::new(),
            end: None,
            recent_in: false,
            has_entries: false,
            ack_at: None,
            closes: false,
            heard_at: Instant::default(),
            silent_at: Instant::default(),
            failures: 0,
            retry_at: None,
            moved: 0,
        }
    }

    fn become_state(&mut self, next: StreamState) {
        assert!(self.state.may_become(next), "a stream does not go from {:?} to {next:?}", self.state);
        self.state = next;
    }

    fn is_running(&self) -> bool {
        !matches!(self.state, StreamState::Waiting | StreamState::Error)
    }
}

impl Pulls {
    /// No streams yet.
    pub fn new(timing: Timing, credit: u32, now: Now) -> Pulls {
        let next_sync = Some(now.mono + timing.sync_interval);
        let next_catchup = Some(now.mono + timing.catchup_interval);
        Pulls {
            timing,
            credit,
            by_peer: BTreeMap::new(),
            next_sync,
            next_catchup,
            moved: 0,
            closed: 0,
            recent: 0,
            filling: None,
        }
    }

    /// How streams are taken from now on: gently and what is recent first, or as fast as they come.
    pub fn fill(&mut self, filling: Option<Filling>) {
        self.filling = filling;
    }

    /// Takes other timers from now on.
    pub fn set_timing(&mut self, now: Now, timing: Timing) {
        self.next_sync = Some(now.mono + timing.sync_interval);
        self.next_catchup = Some(now.mono + timing.catchup_interval);
        self.timing = timing;
    }

    /// The meeting with a peer is over: so is the stream from it.
    pub fn on_parted(&mut self, peer: &NodeId) {
        if let Some(pull) = self.by_peer.get_mut(peer).filter(|pull| pull.is_running()) {
            pull.state = StreamState::Error;
        }
    }

    /// A peer came (back): looks at once what it has.
    pub fn on_met(&mut self, now: Now, peer: &NodeId) {
        let pull = self.by_peer.entry(peer.clone()).or_insert_with(Pull::new);
        pull.digest = None;
        pull.in_step = false;
        pull.hole = None;
        if !mutants::is_on("gives-up") {
            pull.failures = 0;
        }
        pull.retry_at = None;
        if pull.is_running() {
            // The other end of this stream is another life of the peer, which does not know of it.
            pull.state = StreamState::Error;
        }
        pull.look_at = Some(now.mono);
    }

    /// A peer is gone for good.
    pub fn on_gone(&mut self, peer: &NodeId) {
        self.by_peer.remove(peer);
    }

    /// A peer said what its `seen` comes down to.
    pub fn on_digest(&mut self, now: Now, peer: &NodeId, digest: u64, own: u64) {
        let pull = self.by_peer.entry(peer.clone()).or_insert_with(Pull::new);
        pull.digest = Some(digest);
        pull.in_step = digest == own;
        if pull.in_step || pull.in_step_at == Instant::default() {
            pull.in_step_at = now.mono;
        }
        if !pull.in_step && !pull.is_running() {
            pull.hole = None;
            pull.look_at = Some(pull.look_at.map_or(now.mono, |at| at.min(now.mono)));
        }
    }

    /// A push left a hole in what we have seen of `origin`.
    pub fn on_hole(&mut self, now: Now, peer: &NodeId, origin: Origin) {
        let pull = self.by_peer.entry(peer.clone()).or_insert_with(Pull::new);
        if pull.look_at.is_none() && !pull.is_running() {
            pull.hole = Some(origin);
            pull.look_at = Some(now.mono + GAP_PATIENCE);
        }
    }

    /// Entries of a step arrived.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn on_step(
        &mut self,
        now: Now,
        (store, replica): (&mut impl Storage, &mut Replica),
        peer: &NodeId,
        (session, step, part): (u64, u32, u16),
        entries: &[Entry],
        out: &mut Outbox,
    ) -> Result<(), StorageError> {
        let silence_max = self.timing.silence_max;
        let Some(pull) = self.expecting(peer, session, step) else {
            out.count("stream_frames_late", 1);
            return Ok(());
        };
        pull.heard(now, silence_max);
        let moved_before = pull.moved;
        if mutants::is_on("step-overwrites") {
            for entry in entries {
                let mut batch = Batch::default();
                rows::put_row(&mut batch, &entry.key, &Row::one(entry.version.clone()), &[]);
                store.apply(batch)?;
            }
        }
        for (entry, merged) in entries.iter().zip(replica.merge_all(now, store, entries)?) {
            match merged {
                Merged::Won | Merged::Lost => {
                    pull.moved += 1;
                    replica.count_far(now, entry, out);
                }
                Merged::Known => out.count("entries_known", 1),
                Merged::Malformed => {
                    // It may have replaced what the closing cover would mark, so no cover may come: the stream
                    // is worth no more than a silent one.
                    pull.silent_at = now.mono;
                    out.count("entries_malformed", 1);
                    let text = format!("{peer} streams an entry that no node can have made: {}", entry.key);
                    out.event(Level::Warn, "entry-malformed", text);
                    return Ok(());
                }
            }
        }
        pull.parts.insert(part);
        pull.has_entries |= !entries.is_empty();
        let moved = pull.moved - moved_before;
        pull.complete(replica);
        self.moved += moved;
        Ok(())
    }

    /// A step is over on the peer's side.
    pub fn on_step_end(
        &mut self,
        now: Now,
        replica: &mut Replica,
        peer: &NodeId,
        (session, step): (u64, u32),
        (parts, cover, recent_in): (u16, Option<DotSet>, bool),
        out: &mut Outbox,
    ) {
        let silence_max = self.timing.silence_max;
        let Some(pull) = self.expecting(peer, session, step) else {
            out.count("stream_frames_late", 1);
            return;
        };
        pull.heard(now, silence_max);
        pull.end = Some((parts, cover));
        pull.recent_in = recent_in;
        pull.complete(replica);
    }

    /// The peer refuses to stream.
    pub fn on_refused(&mut self, now: Now, peer: &NodeId, dice: &mut impl Rng, out: &mut Outbox) {
        if self.by_peer.get(peer).is_some_and(Pull::is_running) {
            self.fail(now, peer, dice, out);
        }
    }

    /// The turn is durable: acknowledges the steps that it completed, at once or after a while.
    pub fn on_persisted(&mut self, now: Now, out: &mut Outbox) {
        let throttle = self.filling.map_or(Duration::ZERO, |filling| filling.throttle);
        for pull in self.by_peer.values_mut().filter(|pull| pull.state == StreamState::FsyncPending) {
            pull.become_state(StreamState::Acknowledging);
            self.recent += u64::from(pull.recent_in);
            let is_put_off = throttle > Duration::ZERO && pull.has_entries && !pull.closes;
            let ack_at = if is_put_off { now.mono + throttle } else { now.mono };
            pull.ack_at = Some(ack_at);
            pull.silent_at = ack_at + self.timing.silence_max;
        }
        self.acknowledge(now, out);
        // Whoever waited for room is due in the past by now, and a timer must not be set there. What is due
        // later stays, or turns that follow each other closely would put it off for ever.
        let not_past = |at: Instant| if at > now.mono { at } else { now.mono + Duration::from_millis(1) };
        for pull in self.by_peer.values_mut().filter(|pull| !pull.is_running()) {
            pull.look_at = pull.look_at.map(not_past);
            pull.retry_at = pull.retry_at.map(not_past);
        }
    }

    fn acknowledge(&mut self, now: Now, out: &mut Outbox) {
        for (peer, pull) in &mut self.by_peer {
            let is_due = pull.ack_at.is_some_and(|at| at <= now.mono);
            if pull.state != StreamState::Acknowledging || !is_due {
                continue;
            }
            pull.ack_at = None;
            out.send(peer, Message::StepDone { session: pull.session, step: pull.step });
            if pull.closes {
                self.closed += 1;
                pull.become_state(StreamState::Waiting);
                pull.failures = 0;
                if pull.moved > 0 {
                    let text = format!("took {} entries from {peer}", pull.moved);
                    out.event(Level::Info, "caught-up", text);
                }
            } else {
                pull.become_state(StreamState::Streaming);
                pull.step = pull.step.wrapping_add(1);
                pull.parts.clear();
                pull.end = None;
                pull.has_entries = false;
            }
        }
    }

    /// Acknowledges what was put off, fails what is silent, and starts what is due.
    pub fn on_tick(
        &mut self,
        now: Now,
        (replica, members, meetings): (&mut Replica, &Membership, &Meetings),
        dice: &mut impl Rng,
        out: &mut Outbox,
    ) {
        self.acknowledge(now, out);
        let reachable: Vec<NodeId> =
            members.data_peers().into_iter().filter(|peer| meetings.is_open(peer)).collect();
        let open_origins = members.open_origins();
        let silent = |pull: &Pull| pull.is_running() && pull.silent_at <= now.mono;
        let failed: Vec<NodeId> =
            self.by_peer.iter().filter(|(_, pull)| silent(pull)).map(|(peer, _)| peer.clone()).collect();
        for peer in failed {
            self.fail(now, &peer, dice, out);
        }
        self.plan_checks(now, &reachable, dice);
        self.start_due(now, replica, (&reachable, &open_origins), dice, out);
    }

    /// When the next thing is due.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let room_at = self.room_at();
        let of_pull = |pull: &Pull| {
            if pull.is_running() {
                return Some(pull.ack_at.map_or(pull.silent_at, |at| at.min(pull.silent_at)));
            }
            Some(pull.due()?.max(room_at?))
        };
        let pulls = self.by_peer.values().filter_map(of_pull);
        pulls.chain(self.next_sync).chain(self.next_catchup).min()
    }

    /// The state of the stream from `peer`, and whether the last digest heard from it was ours.
    pub fn status(&self, peer: &NodeId) -> (&'static str, bool) {
        self.by_peer.get(peer).map_or(("waiting", false), |pull| (pull.state.word(), pull.in_step))
    }

    /// The digest of the peer's `seen` as last heard.
    pub fn digest(&self, peer: &NodeId) -> Option<u64> {
        self.by_peer.get(peer)?.digest
    }

    /// What streams have brought.
    pub fn progress(&self) -> Progress {
        let is_in_step = self.by_peer.values().any(|pull| pull.in_step);
        Progress { moved: self.moved, closed: self.closed, recent: self.recent, is_in_step }
    }

    /// For how long `peer` has not been known to hold just what this node holds.
    /// `is_apart` says that something is known that only one of the two holds, whatever was heard last.
    pub fn divergent_for(&self, now: Now, peer: &NodeId, is_apart: bool) -> Duration {
        match self.by_peer.get(peer) {
            Some(pull) if (is_apart || !pull.in_step) && pull.in_step_at != Instant::default() => {
                now.mono.since(pull.in_step_at)
            }
            _ => Duration::ZERO,
        }
    }

    /// Whether the last digest heard from `peer` is this one.
    pub fn has_digest(&self, peer: &NodeId, digest: u64) -> bool {
        self.by_peer.get(peer).is_some_and(|pull| pull.digest == Some(digest))
    }

    /// When one more stream may start, as things stand: at once if none runs, and beside one that is slow.
    fn room_at(&self) -> Option<Instant> {
        let running = self.by_peer.values().filter(|pull| pull.is_running());
        let (count, heard_at) =
            running.fold((0, Instant::default()), |(count, at), pull| (count + 1, at.max(pull.heard_at)));
        match count {
            0 => Some(Instant::default()),
            PULLS_MAX.. => None,
            _ => Some(heard_at + SLOW_AFTER),
        }
    }

    fn expecting(&mut self, peer: &NodeId, session: u64, step: u32) -> Option<&mut Pull> {
        let pull = self.by_peer.get_mut(peer).filter(|pull| pull.session == session)?;
        match pull.state {
            // The peer numbers its steps from wherever it likes; the first word binds us to this answer of its.
            StreamState::Connecting => {
                pull.step = step;
                Some(pull)
            }
            StreamState::Streaming if pull.step == step => Some(pull),
            _ => None,
        }
    }

    /// `sync_interval` and `catchup_interval`: looks that nothing in particular asked for.
    fn plan_checks(&mut self, now: Now, reachable: &[NodeId], dice: &mut impl Rng) {
        if self.next_sync.is_some_and(|at| at <= now.mono) {
            self.next_sync = Some(now.mono + self.timing.sync_interval);
            if !reachable.is_empty() {
                let peer = reachable[dice.random_range(0..reachable.len())].clone();
                let pull = self.by_peer.entry(peer).or_insert_with(Pull::new);
                pull.hole = None;
                pull.look_at.get_or_insert(now.mono);
            }
        }
        if self.next_catchup.is_some_and(|at| at <= now.mono) {
            self.next_catchup = Some(now.mono + self.timing.catchup_interval);
            for pull in self.by_peer.values_mut().filter(|pull| !pull.in_step && !pull.is_running()) {
                pull.look_at.get_or_insert(now.mono);
            }
        }
    }

    fn start_due(
        &mut self,
        now: Now,
        replica: &mut Replica,
        (reachable, open_origins): (&[NodeId], &BTreeSet<Origin>),
        dice: &mut impl Rng,
        out: &mut Outbox,
    ) {
        let own = replica.seen_digest();
        let mut room_at = self.room_at();
        for (peer, pull) in &mut self.by_peer {
            if pull.is_running() || pull.due().is_none_or(|at| at > now.mono) {
                continue;
            }
            if !reachable.contains(peer) {
                // It is asked again when it is met again.
                pull.look_at = None;
                pull.retry_at = None;
                continue;
            }
            let hole = pull.hole.take();
            let is_filled = hole.is_some_and(|origin| !replica.seen().has_hole(origin));
            let is_mutant = mutants::is_on("no-pull") || mutants::is_on("gives-up") && pull.failures > 0;
            if is_filled || pull.digest == Some(own) || is_mutant {
                pull.look_at = None;
                pull.retry_at = None;
                continue;
            }
            if room_at.is_none_or(|at| at > now.mono) {
                pull.hole = hole;
                continue;
            }
            // What this one brings may be all that the others were wanted for.
            room_at = None;
            pull.start(now, dice, self.timing.silence_max);
            let seen = Outline::of(replica.seen(), open_origins);
            let since = self.filling.map_or(0, |filling| filling.since);
            let message = Message::Pull { session: pull.session, seen, credit: self.credit, since };
            out.send(peer, message);
            out.count("pulls", 1);
        }
    }

    fn fail(&mut self, now: Now, peer: &NodeId, dice: &mut impl Rng, out: &mut Outbox) {
        let pull = self.by_peer.get_mut(peer).expect("the caller has just found it");
        pull.become_state(StreamState::Error);
        pull.failures += 1;
        let wait = backoff(&self.timing, pull.failures, dice);
        pull.retry_at = Some(now.mono + wait);
        out.count("pulls_failed", 1);
    }
}

impl Pull {
    /// When a stream that does not run is worth another look.
    fn due(&self) -> Option<Instant> {
        match (self.state, self.retry_at) {
            (StreamState::Error, Some(retry_at)) => Some(retry_at),
            _ => self.look_at,
        }
    }

    fn start(&mut self, now: Now, dice: &mut impl Rng, silence_max: Duration) {
        self.become_state(StreamState::Connecting);
        self.session = dice.next_u64();
        self.step = 0;
        self.parts.clear();
        self.end = None;
        self.recent_in = false;
        self.has_entries = false;
        self.ack_at = None;
        self.closes = false;
        self.look_at = None;
        self.retry_at = None;
        self.moved = 0;
        self.heard_at = now.mono;
        self.silent_at = now.mono + silence_max;
    }

    fn heard(&mut self, now: Now, silence_max: Duration) {
        self.heard_at = now.mono;
        self.silent_at = now.mono + silence_max;
        if self.state == StreamState::Connecting {
            self.become_state(StreamState::Streaming);
        }
    }

    /// Once all parts of a step are here: takes its cover and leaves the rest to the disk.
    fn complete(&mut self, replica: &mut Replica) {
        let Some((parts, _)) = &self.end else { return };
        if self.parts.range(..*parts).count() < usize::from(*parts) {
            return;
        }
        self.become_state(StreamState::Applying);
        let cover = self.end.take().and_then(|(_, cover)| cover);
        self.closes = cover.is_some();
        if let Some(cover) = cover {
            replica.cover(&cover);
        }
        self.become_state(StreamState::FsyncPending);
    }
}

/// Doubles with each failure up to `retry_max`, and draws from the upper half so that peers do not march in step.
pub fn backoff(timing: &Timing, failures: u32, dice: &mut impl Rng) -> Duration {
    let doubled = timing.retry_min.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let wait = doubled.min(timing.retry_max);
    wait.mul_f64(dice.random_range(0.5..=1.0))
}
