//! A node whose disk is full: it serves reads, takes nothing, and finds out by itself when there is room again.
//!
//! Whoever opens the node again after such a failure says so. From then on writes are refused, peers' entries are
//! dropped (they are sent again later), and after a while a row of some size is written for trial: either that ends
//! this run as the write before it did, or there is room.

use std::time::Duration;

use super::{Level, Node, is_due};
use crate::model::{Instant, Mode, Now};
use crate::protocol::Message;
use crate::storage::{Batch, Storage, StorageError, Table};

/// What is written for trial: more than what a turn of small writes takes.
const TRIAL_BYTES: usize = 1 << 20;
/// The turn that shows how the trial ended is another one.
const TRIAL_PAUSE: Duration = Duration::from_millis(1);
/// Where it is written.
const TRIAL: &str = "trial";

/// Whether the disk takes more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Room {
    Enough,
    /// It was full; nothing is tried before this.
    None {
        until: Instant,
    },
    /// A row is written for trial. If another turn comes, after this, there is room.
    Trying {
        until: Instant,
    },
}

impl Room {
    pub(super) fn is_enough(self) -> bool {
        self == Room::Enough
    }

    pub(super) fn next_wakeup(self) -> Option<Instant> {
        match self {
            Room::Enough => None,
            Room::None { until } | Room::Trying { until } => Some(until),
        }
    }
}

/// Takes back what an interrupted trial left.
pub(super) fn clear(batch: &mut Batch) {
    batch.remove(Table::Meta, TRIAL);
}

/// Whether a peer's message may have to be stored.
pub(super) fn takes_room(message: &Message) -> bool {
    matches!(
        message,
        Message::Push { .. }
            | Message::Step { .. }
            | Message::StepEnd { .. }
            | Message::SyncOpen { .. }
            | Message::SyncSame { .. }
            | Message::SyncFlight(_)
            | Message::ReadTell { .. }
            | Message::Repair { .. }
    )
}

impl<S: Storage> Node<S> {
    /// The disk was full a moment ago: takes nothing until a trial after `until` shows that it no longer is.
    pub fn wait_for_room(&mut self, now: Now, until: Instant) {
        self.room = Room::None { until };
        if self.membership.me().mode == Mode::Normal {
            self.membership.update_me(now, |me| me.mode = Mode::ReadOnly);
        }
        self.out.event(Level::Warn, "disk-full", "the disk is full: reads only, until there is room".into());
    }

    /// Tries whether there is room again, if it is time to.
    pub(super) fn look_for_room(&mut self, now: Now) -> Result<(), StorageError> {
        if !is_due(self.room.next_wakeup(), now) {
            return Ok(());
        }
        let mut batch = Batch::default();
        match self.room {
            Room::Enough => return Ok(()),
            Room::None { .. } => {
                batch.put(Table::Meta, TRIAL, vec![0; TRIAL_BYTES]);
                self.room = Room::Trying { until: now.mono + TRIAL_PAUSE };
            }
            Room::Trying { .. } => {
                clear(&mut batch);
                self.room = Room::Enough;
                if self.membership.me().mode == Mode::ReadOnly && self.settings.mode == Mode::Normal {
                    self.membership.update_me(now, |me| me.mode = Mode::Normal);
                }
                self.out.event(
                    Level::Info,
                    "disk-has-room",
                    "there is room again; writes are welcome".into(),
                );
            }
        }
        self.store.apply(batch)
    }
}
