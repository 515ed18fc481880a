//! How an empty node that joins others becomes one of them: it takes no writes until it holds what they hold.
//!
//! It always ends: when a peer has nothing more, or when nothing has come for long. Streams choose the peers, pace
//! themselves, and go on where they were when a peer dies. A node that restarts in the middle is a stale node like any
//! other. Before it has met a peer that holds anything, a node is on its own, and serves.

use std::time::Duration;

use super::Node;
use crate::model::{Mode, Now};
use crate::protocol::outbox::Level;
use crate::storage::Storage;

/// After this long without an entry a bootstrap ends, whatever is missing: streams and sessions bring the rest.
pub const BOOTSTRAP_STALL_MAX: Duration = Duration::from_secs(30);

impl<S: Storage> Node<S> {
    /// A node that comes with an empty disk to peers that have data takes no writes until it holds what they hold.
    pub(super) fn begin_bootstrap(&mut self, now: Now) {
        let me = self.membership.me();
        if self.has_been_filled || me.mode != Mode::Normal || self.bootstrap_ends_at.is_some() {
            return;
        }
        self.has_been_filled = true;
        if self.replica.seen().is_empty() {
            self.bootstrap_ends_at = Some(now.mono + BOOTSTRAP_STALL_MAX);
            self.bootstrap_closed = self.pulls.progress().1;
            self.membership.update_me(now, |me| me.mode = Mode::Syncing);
            self.out.event(Level::Info, "bootstrap-begins", "taking what the peers hold".into());
        }
    }

    /// Ends the bootstrap once a peer has nothing more, or nothing has come for long.
    pub(super) fn end_bootstrap_if_done(&mut self, now: Now) {
        let Some(ends_at) = self.bootstrap_ends_at else { return };
        let (moved, closed, is_in_step) = self.pulls.progress();
        let is_through = closed > self.bootstrap_closed || is_in_step && !self.replica.seen().is_empty();
        if !is_through && moved != self.bootstrap_moved {
            self.bootstrap_moved = moved;
            self.bootstrap_ends_at = Some(now.mono + BOOTSTRAP_STALL_MAX);
            return;
        }
        if !is_through && (ends_at > now.mono || crate::mutants::is_on("bootstrap-endless")) {
            return;
        }
        self.bootstrap_ends_at = None;
        if self.membership.me().mode == Mode::Syncing {
            self.membership.update_me(now, |me| me.mode = Mode::Normal);
        }
        if is_through {
            let text = format!("took {moved} entries; writes are welcome");
            self.out.event(Level::Info, "bootstrap-ends", text);
        } else {
            let text = "no peer brings the data any further; serving what there is".into();
            self.out.event(Level::Warn, "bootstrap-stalled", text);
        }
    }
}
