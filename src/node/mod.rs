//! A node: one value that reacts to inputs. It composes the machines of [`crate::protocol`] over one store.
//!
//! `flush` is the only exit: it makes the turn's writes durable and only then hands its outputs over, so that
//! nothing leaves a node which a crash could take back.

mod bootstrap;
mod clients;
mod peers;
pub mod quirks;
mod room;
pub mod settings;
mod sync;

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::quirks::Quirk;
use crate::model::{
    Address, Instant, Key, Member, MemberState, Mode, NodeId, Now, Reply, Request, RequestId, Stamp, Version,
};
use crate::mutants;
use crate::protocol::Message;
use crate::protocol::collect::{Around, Collector};
use crate::protocol::confirm::Confirmations;
use crate::protocol::meeting::{Meetings, Own};
use crate::protocol::membership::Membership;
use crate::protocol::outbox::{Action, Outbox};
pub use crate::protocol::outbox::{Event, Level};
use crate::protocol::pull::Pulls;
use crate::protocol::push::Pushes;
use crate::protocol::reads::Reads;
use crate::protocol::rebase::Rebase;
use crate::protocol::replica::Replica;
use crate::protocol::serve::Serves;
use crate::protocol::sessions::Sessions;
use crate::protocol::summary::SummaryKey;
use crate::protocol::vote::Votes;
use crate::protocol::wire;
use crate::storage::rows::{self, Identity};
use crate::storage::{Batch, Storage, StorageError};
pub use clients::{LEAVE_PATIENCE, ORIGINS_MAX};
pub use settings::Settings;

/// Everything that can happen to a node. Nothing else ever changes its state.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client asks. Exactly one [`Output::Reply`] with this id follows.
    Request {
        /// Comes back in the reply.
        id: RequestId,
        /// What it asks.
        request: Request,
    },
    /// A peer's message arrives: possibly late, twice, or out of order.
    Message {
        /// Who sent it, as far as the connection could tell.
        from: NodeId,
        /// What it says.
        message: Message,
    },
    /// Time may have passed. Early, late and repeated ticks are harmless.
    Tick,
}

/// Everything a node can ask of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Best effort. The node survives this being lost or delivered twice.
    Send {
        /// Where the peer listens.
        to: Address,
        /// What to say.
        message: Message,
    },
    /// Answers one request.
    Reply {
        /// Which.
        id: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// Something worth a line in the log; decided once, here.
    Event(Event),
    /// The node has left its cluster and wants its process to end.
    Stop,
}

/// What a turn leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// How long the world still has to wait before it carries the outputs out: zero with a real disk.
    pub persist_takes: Duration,
    /// What to carry out then, in order.
    pub outputs: Vec<Output>,
}

/// One replica as a plain value: no threads, no sockets, no clock, no ambient randomness.
#[derive(Debug)]
pub struct Node<S> {
    store: S,
    settings: Settings,
    dice: ChaCha8Rng,
    /// The identity as the disk has it.
    saved: Identity,
    replica: Replica,
    membership: Membership,
    pushes: Pushes,
    confirmations: Confirmations,
    serves: Serves,
    pulls: Pulls,
    votes: Votes,
    meetings: Meetings,
    sessions: Sessions,
    reads: Reads,
    /// The first key of the chunk that the scrub looks at next.
    scrub_at: Vec<u8>,
    next_scrub: Option<Instant>,
    /// After which key in quarantine to look next.
    lift_at: Option<Key>,
    rebase: Rebase,
    collector: Collector,
    /// Whether this node has held anything, or has begun to take it.
    has_been_filled: bool,
    /// While it takes what the others hold.
    bootstrap: Option<bootstrap::Bootstrap>,
    leaving: Option<clients::Leaving>,
    room: room::Room,
    out: Outbox,
}

impl<S: Storage> Node<S> {
    /// Starts a node on its disk: reads what survived and begins a new life, durably. `dice` seeds everything
    /// the node draws; it must differ from start to start.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn open(mut store: S, settings: Settings, dice: [u8; 32], now: Now) -> Result<Node<S>, StorageError> {
        let mut dice = ChaCha8Rng::from_seed(dice);
        let mut out = Outbox::default();
        let identity = begin_life(&mut store, &settings, now, &mut out)?;
        let key = SummaryKey::new(&settings.cluster_secret);
        let replica = Replica::load(&store, &identity, key, settings.clock_drift_max, now)?;
        let mut replica = replica.with_policies(settings.policies.clone());
        let mut batch = Batch::default();
        replica.save(&mut batch);
        room::clear(&mut batch);
        store.apply(batch)?;
        store.persist()?;
        let me = Member {
            id: settings.id.clone(),
            address: settings.address.clone(),
            life: identity.life,
            incarnation: 0,
            state: MemberState::Alive,
            joined: identity.joined,
            mode: settings.mode,
            origin: None,
            policies: settings.policies.digest(),
            protocol: wire::PROTOCOL,
        };
        let known = rows::members(&store)?;
        let timing = settings.timing.clone();
        let votes = Votes::new(settings.collision, timing.vote_max);
        let membership = Membership::load(me, known, settings.seeds.clone(), timing.clone(), now, &mut dice);
        let meetings = Meetings::new(timing.clone(), settings.policies.digest(), &mut dice);
        let sessions = Sessions::new(timing.clone(), settings.stream_credit, now);
        let is_filling = rows::is_filling(&store)?;
        let has_been_filled = is_filling || !replica.seen().is_empty();
        let mut node = Node {
            store,
            dice,
            saved: identity,
            replica,
            membership,
            pushes: Pushes::default(),
            confirmations: Confirmations::default(),
            serves: Serves::default(),
            rebase: Rebase::new(timing.clone()),
            collector: Collector::new(timing.tombstone_grace, now),
            pulls: Pulls::new(timing, settings.stream_credit, now),
            votes,
            meetings,
            sessions,
            reads: Reads::default(),
            has_been_filled,
            bootstrap: None,
            scrub_at: Vec::new(),
            lift_at: None,
            next_scrub: settings.timing.scrub_interval.map(|interval| now.mono + interval),
            leaving: None,
            room: room::Room::Enough,
            out,
            settings,
        };
        if is_filling {
            node.go_on_filling(now);
        }
        Ok(node)
    }

    /// Reacts to one input. The only failure is a broken disk, which ends this node's run.
    ///
    /// # Errors
    /// The disk is broken; drop the node and open it again.
    pub fn handle(&mut self, now: Now, input: Input) -> Result<(), StorageError> {
        #[cfg(feature = "mutants")]
        self.mislead(now, &input);
        match input {
            Input::Request { id, request } => self.on_request(now, id, request)?,
            Input::Message { from, message } => self.on_message(now, &from, message)?,
            Input::Tick => self.on_tick(now)?,
        }
        self.follow_up(now)
    }

    /// For the mutants whose order of versions hangs on who looks.
    #[cfg(feature = "mutants")]
    fn mislead(&mut self, now: Now, input: &Input) {
        if mutants::is_on("tie-by-view") {
            self.replica.is_partial = self.membership.alive_count() < self.membership.count();
        }
        if let (Input::Message { from, .. }, true) = (input, mutants::is_on("tie-by-peer")) {
            let view = self.membership.view(now);
            let peer = view.iter().find(|view| view.member.id == *from);
            let joined = self.membership.me().joined;
            self.replica.is_served_by_older = peer.is_some_and(|peer| peer.member.joined < joined);
        }
    }

    /// Makes the turn's writes durable and only then hands its outputs over, so that nothing is ever sent or
    /// acknowledged which a crash could take back.
    ///
    /// # Errors
    /// The disk is broken; drop the node and open it again.
    pub fn flush(&mut self, now: Now) -> Result<Flushed, StorageError> {
        if !self.settings.quirks.strike(Quirk::HoldPush, now, &mut self.dice) {
            self.pushes.send_fresh(now.mono, &self.membership, &self.meetings, &mut self.out);
        }
        self.save()?;
        let persist_takes =
            if mutants::is_on("no-persist") { Duration::ZERO } else { self.store.persist()? };
        self.pulls.on_persisted(now, &mut self.out);
        self.pushes.on_persisted(&mut self.out);
        let actions = self.out.take();
        let outputs = actions.into_iter().filter_map(|action| self.output(action)).collect();
        Ok(Flushed { persist_takes, outputs })
    }

    /// When the node next wants an [`Input::Tick`], if no input comes before.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let wakeups = [
            self.membership.next_wakeup(),
            self.pulls.next_wakeup(),
            self.meetings.next_wakeup(),
            Some(self.sessions.next_wakeup()),
            self.reads.next_wakeup(),
            self.next_scrub,
            self.rebase.next_wakeup(),
            self.collector.next_wakeup(),
            self.bootstrap.as_ref().map(|bootstrap| bootstrap.ends_at),
            self.confirmations.next_wakeup(),
            self.votes.next_wakeup(),
            self.room.next_wakeup(),
            self.leaving.as_ref().map(|leaving| leaving.at_latest),
        ];
        wakeups.into_iter().flatten().min()
    }

    /// The node's name.
    pub fn id(&self) -> &NodeId {
        &self.settings.id
    }

    /// A number of this run's dice, for names that no earlier run may have used.
    pub fn draw(&mut self) -> u64 {
        self.dice.next_u64()
    }

    /// Everything counted since the start, by name.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.out.counters()
    }

    /// The store, for whoever plays the disk.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, for whoever plays the disk.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Ends the run without another word, as a crash would; what was persisted is in the store.
    pub fn into_store(self) -> S {
        self.store
    }

    fn on_tick(&mut self, now: Now) -> Result<(), StorageError> {
        self.tick_membership(now);
        if is_due(self.confirmations.next_wakeup(), now) {
            self.confirmations.on_tick(now.mono, &self.store, &self.membership, &mut self.out)?;
        }
        Ok(())
    }

    fn tick_membership(&mut self, now: Now) {
        if is_due(self.membership.next_wakeup(), now) {
            let seen = self.replica.seen_digest();
            self.membership.on_tick(now, seen, &mut self.dice, &mut self.out);
        }
    }

    fn tick_meetings(&mut self, now: Now) {
        if is_due(self.meetings.next_wakeup(), now) {
            let own = Own { replica: &self.replica, members: &self.membership };
            self.meetings.on_tick(now, own, &mut self.dice, &mut self.out);
        }
    }

    /// What one machine noticed and another one must act on, in the turn that noticed it.
    fn follow_up(&mut self, now: Now) -> Result<(), StorageError> {
        self.look_for_room(now)?;
        // News is told in the turn that brought it.
        self.tick_membership(now);
        for peer in self.membership.take_met() {
            let own = Own { replica: &self.replica, members: &self.membership };
            self.meetings.on_met(now, &peer, own, &mut self.out);
        }
        let own = Own { replica: &self.replica, members: &self.membership };
        let meetings = (&mut self.meetings, own);
        self.rebase.look(now, &self.store, meetings, &mut self.dice, &mut self.out)?;
        if is_due(self.collector.next_wakeup(), now) {
            self.collect(now)?;
        }
        // A rebase and a collection end meetings, and some of these have waited long enough to be opened anew.
        self.tick_meetings(now);
        for (peer, is_open) in self.meetings.take_changed() {
            self.serves.end(&peer);
            self.pulls.on_parted(&peer);
            self.sessions.on_parted(now, &peer, &mut self.out);
            if is_open {
                let (_, behind) = self.meetings.apart(&peer, self.replica.seen());
                if behind > 0 {
                    self.begin_bootstrap(now)?;
                }
                self.pulls.on_met(now, &peer);
            }
        }
        if is_due(self.pulls.next_wakeup(), now) {
            let around = (&mut self.replica, &self.membership, &self.meetings);
            self.pulls.on_tick(now, around, &mut self.dice, &mut self.out);
        }
        self.mend(now)?;
        self.tick_meetings(now);
        self.end_bootstrap_if_done(now)?;
        // A mode that has changed is told in this very turn.
        self.tick_membership(now);
        for (name, text) in self.replica.take_notices() {
            self.out.event(Level::Info, name, text);
        }
        for collision in self.replica.take_collisions() {
            let own = self.replica.origin();
            self.votes.on_collision(now.mono, own, collision, &mut self.dice, &mut self.out);
        }
        if is_due(self.votes.next_wakeup(), now) {
            let store = (&self.store, self.replica.seen());
            self.votes.on_tick(now.mono, store, &self.membership, &mut self.out)?;
        }
        self.rule()?;
        self.leave_if_done(now);
        Ok(())
    }

    /// Drops what nothing can need any more, but not while this node itself may hold what others have deleted.
    fn collect(&mut self, now: Now) -> Result<(), StorageError> {
        if self.rebase.is_running() {
            self.collector.put_off(now);
            return Ok(());
        }
        let around = Around {
            replica: &mut self.replica,
            meetings: &mut self.meetings,
            members: &self.membership,
            is_reference: self.rebase.is_reference(now.mono),
        };
        self.collector.on_tick(now, &mut self.store, around, &mut self.dice, &mut self.out)
    }

    /// Confirms what votes found. A node that takes no writes makes no rulings either: the order stands.
    fn rule(&mut self) -> Result<(), StorageError> {
        for verdict in self.votes.take_verdicts() {
            let takes_writes = self.membership.me().mode == Mode::Normal;
            let ruled = match takes_writes {
                true => self.replica.rule(&mut self.store, &mut self.dice, verdict)?,
                false => None,
            };
            let Some(entry) = ruled else {
                self.out.count("rulings_overtaken", 1);
                continue;
            };
            let Version { dot, confirms, ruling, .. } = &entry.version;
            let confirms = confirms.expect("a ruling confirms a write");
            let text = format!("{}: {dot} confirms {confirms} with {ruling} votes", entry.key);
            self.out.event(Level::Info, "ruling", text);
            self.pushes.add(entry);
        }
        Ok(())
    }

    /// Brings the rows of this turn's bookkeeping into its transaction.
    fn save(&mut self) -> Result<(), StorageError> {
        debug_assert_eq!(self.replica.chunks().first_wrong(&self.store)?, None);
        let mut batch = Batch::default();
        self.replica.save(&mut batch);
        self.membership.save(&mut batch);
        let me = self.membership.me();
        let identity = Identity {
            id: me.id.clone(),
            life: me.life,
            joined: me.joined,
            high_water: self.replica.clock().high_water(),
        };
        if identity != self.saved {
            rows::put_identity(&mut batch, &identity);
            self.saved = identity;
        }
        if batch.changes.is_empty() { Ok(()) } else { self.store.apply(batch) }
    }

    fn output(&self, action: Action) -> Option<Output> {
        Some(match action {
            Action::Send(to, message) => Output::Send { to: self.membership.address(&to)?.clone(), message },
            Action::SendTo(to, message) => Output::Send { to, message },
            Action::Reply(id, reply) => Output::Reply { id, reply },
            Action::Event(event) => Output::Event(event),
            Action::Stop => Output::Stop,
        })
    }
}

fn is_due(wakeup: Option<Instant>, now: Now) -> bool {
    wakeup.is_some_and(|at| at <= now.mono)
}

/// Raises the disk's life and writes it back; it has to be durable before the node says a word in it.
fn begin_life(
    store: &mut impl Storage,
    settings: &Settings,
    now: Now,
    out: &mut Outbox,
) -> Result<Identity, StorageError> {
    let id = settings.id.clone();
    let mut batch = Batch::default();
    let identity = match rows::identity(store)? {
        None => Identity { id, life: 1, joined: now.wall, high_water: Stamp::default() },
        Some(found) if found.id == id => Identity { life: found.life + 1, ..found },
        Some(found) => {
            // Somebody copied or renamed a data directory. The versions are as good as ever; the identity is not.
            let text = format!("the data directory was {}'s; it is {id}'s now", found.id);
            out.event(Level::Warn, "data-of-another-node", text);
            let before = rows::members(store)?.into_iter().find(|row| row.member.id == id);
            rows::remove_member(&mut batch, &id);
            let (life, joined) = before.map_or((0, now.wall), |row| (row.member.life, row.member.joined));
            Identity { life: found.life.max(life) + 1, joined, id, ..found }
        }
    };
    rows::put_identity(&mut batch, &identity);
    store.apply(batch)?;
    Ok(identity)
}

#[cfg(test)]
mod conversation_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod lives_tests;
#[cfg(test)]
mod siblings_tests;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod sync_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vote_tests;
