//! How an empty node that joins others becomes one of them: it takes no writes until it holds what they hold.
//!
//! It begins with what was written lately (`bootstrap_max_age_hours`), then serves, and takes what is older meanwhile:
//! the age orders what comes and cuts nothing. That it has begun is durable, so a node that restarts in the middle goes
//! on. Streams choose the peers and go on where they were when a peer dies; here they are throttled. It always ends:
//! when a peer has nothing more, or when nothing has come for long. Before it has met a peer that holds anything, a
//! node is on its own, and serves.

use std::time::Duration;

use super::Node;
use crate::model::{Ack, Key, Mode, NodeId, Now, Refusal, Reply, RequestId};
use crate::mutants;
use crate::protocol::outbox::Level;
use crate::protocol::pull::Filling;
use crate::protocol::reads::READ_PATIENCE;
use crate::storage::rows::{self, Record};
use crate::storage::{Batch, Storage, StorageError};

/// After this long without an entry a bootstrap ends, whatever is missing: streams and sessions bring the rest.
pub const BOOTSTRAP_STALL_MAX: Duration = Duration::from_secs(30);

/// A bootstrap under way.
#[derive(Debug)]
pub(super) struct Bootstrap {
    /// When it gives up, if nothing comes.
    pub(super) ends_at: crate::model::Instant,
    moved: u64,
    /// Streams that had come to their end when it began.
    closed: u64,
    /// Streams that had brought what was wanted first.
    recent: u64,
}

impl<S: Storage> Node<S> {
    /// A node that comes with an empty disk to peers that have data takes no writes until it holds what they hold.
    pub(super) fn begin_bootstrap(&mut self, now: Now) -> Result<(), StorageError> {
        if self.has_been_filled || self.membership.me().mode != Mode::Normal || self.bootstrap.is_some() {
            return Ok(());
        }
        self.has_been_filled = true;
        if self.replica.seen().is_empty() {
            let mut batch = Batch::default();
            rows::put_filling(&mut batch, true);
            self.store.apply(batch)?;
            self.go_on_filling(now);
            self.out.event(Level::Info, "bootstrap-begins", "taking what the peers hold".into());
        }
        Ok(())
    }

    /// Takes what the others hold, from the beginning or after a restart.
    pub(super) fn go_on_filling(&mut self, now: Now) {
        let progress = self.pulls.progress();
        self.bootstrap = Some(Bootstrap {
            ends_at: now.mono + BOOTSTRAP_STALL_MAX,
            moved: progress.moved,
            closed: progress.closed,
            recent: progress.recent,
        });
        let window = self.settings.bootstrap_window;
        let first = now.wall.0.saturating_sub(u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
        let since = if window.is_zero() { 0 } else { first };
        self.pulls.fill(Some(Filling { since, throttle: self.settings.timing.throttle_delay }));
        if self.membership.me().mode == Mode::Normal {
            self.membership.update_me(now, |me| me.mode = Mode::Syncing);
        }
    }

    /// Serves once what is recent is here; ends the bootstrap once a peer has nothing more, or nothing has come for
    /// long.
    pub(super) fn end_bootstrap_if_done(&mut self, now: Now) -> Result<(), StorageError> {
        let Some(bootstrap) = &mut self.bootstrap else { return Ok(()) };
        let progress = self.pulls.progress();
        let is_through =
            progress.closed > bootstrap.closed || progress.is_in_step && !self.replica.seen().is_empty();
        let is_recent_in = progress.recent > bootstrap.recent;
        if progress.moved != bootstrap.moved {
            bootstrap.moved = progress.moved;
            bootstrap.ends_at = now.mono + BOOTSTRAP_STALL_MAX;
        }
        let gives_up = bootstrap.ends_at <= now.mono && !mutants::is_on("bootstrap-endless");
        if self.membership.me().mode == Mode::Syncing && (is_recent_in || is_through || gives_up) {
            self.membership.update_me(now, |me| me.mode = Mode::Normal);
            if is_recent_in && !is_through {
                let text = format!("took {} entries, what is recent; writes are welcome", progress.moved);
                self.out.event(Level::Info, "bootstrap-serves", text);
            }
        }
        if is_recent_in {
            // Should this stream break off, the next one need not look for them again.
            self.pulls.fill(Some(Filling { since: 0, throttle: self.settings.timing.throttle_delay }));
        }
        if !is_through && !gives_up {
            return Ok(());
        }
        let mut batch = Batch::default();
        rows::put_filling(&mut batch, false);
        self.store.apply(batch)?;
        self.bootstrap = None;
        self.pulls.fill(None);
        if is_through {
            let text = format!("took {} entries; writes are welcome", progress.moved);
            self.out.event(Level::Info, "bootstrap-ends", text);
        } else {
            let text = "no peer brings the data any further; serving what there is".into();
            self.out.event(Level::Warn, "bootstrap-stalled", text);
        }
        Ok(())
    }

    /// A client reads a key. What cannot be read here, and what is missing while this node is being filled, may be
    /// had elsewhere: a peer is asked.
    pub(super) fn on_get(&mut self, now: Now, id: RequestId, key: Key) -> Result<(), StorageError> {
        let instead = match rows::record(&self.store, &key)? {
            Record::Rotten => Refusal::Corrupt,
            Record::Absent if self.bootstrap.is_some() && !mutants::is_on("filling-blind") => {
                Refusal::Mode(Mode::Syncing)
            }
            Record::Absent | Record::Row(_) => {
                let reply = self.read(now, &key)?;
                self.out.reply(id, reply);
                return Ok(());
            }
        };
        if instead == Refusal::Corrupt {
            self.set_apart(&key)?;
        }
        let peers: Vec<NodeId> =
            self.membership.reachable().into_iter().filter(|peer| self.meetings.is_open(peer)).collect();
        if peers.is_empty() || !self.reads.has_room() {
            self.out.reply(id, Reply::Refused(instead));
            return Ok(());
        }
        let asked = self.asked(Ack::Nodes(2));
        let ends_at = now.mono + READ_PATIENCE;
        self.reads.begin((id, key), asked, peers, ends_at, &mut self.dice, &mut self.out);
        Ok(())
    }
}
