//! What both worlds share: the stage on which a scenario is played, and the orders that move it on.
//!
//! A [`Stage`] knows what shall happen next and what it means; a world only knows how nodes run. The world asks
//! for the next [`Order`], carries it out, and tells the stage everything that leaves a node. So both worlds
//! live the same story with the same faults, and are judged by the same checks.

pub mod asks;
pub mod fast;
pub mod full;
pub mod observe;
pub mod settings;
pub mod stage;

use std::collections::BTreeMap;
use std::time::Duration;

use reknit::model::Request;
use reknit::node::Output;

use crate::check::Violation;
use crate::scenario::Boundary;
pub use stage::Stage;

/// What the world shall do next.
#[derive(Clone, Debug)]
pub enum Order {
    /// Let virtual time pass until then.
    Until(Duration),
    /// Power a node on: open it with [`Stage::birth`].
    Start(usize),
    /// Let a node's power fail there; then [`Stage::crashed`].
    Crash(usize, Boundary),
    /// Flip a bit of a record on a node's disk, of a drawn one if none is named; then [`Stage::disk_rotted`].
    Rot(usize, Option<Vec<u8>>),
    /// Forget about a crash that was ordered and has not come about.
    Disarm(usize),
    /// Stop a node's process, memory kept.
    Pause(usize),
    /// Let it run on.
    Resume(usize),
    /// Empty the disk of a node that is off; then [`Stage::disk_replaced`].
    Wipe(usize),
    /// Copy a node's durable disk aside.
    Backup(usize),
    /// Put the last backup back, if there is one, of a node that is off; then [`Stage::disk_replaced`].
    Restore(usize),
    /// Copy the durable disk of one node over that of another, which is off; then [`Stage::disk_replaced`].
    Clone {
        /// From.
        from: usize,
        /// To.
        to: usize,
    },
    /// Hand a request to a node that is on; its answer goes to [`Stage::answered`].
    Ask {
        /// To whom.
        node: usize,
        /// Names it in the answer.
        id: u64,
        /// What.
        request: Request,
    },
    /// Say whether the nodes of [`Stage::core`] hold equal records: [`Stage::compared`].
    Compare,
    /// Show the records of the nodes of [`Stage::core`]: [`Stage::looked`].
    Look,
    /// The run is over.
    Over,
}

/// How many outputs of a turn leave a node whose power is to fail while it says something; nothing if the turn does
/// not say it.
pub fn dies_after(armed: Boundary, outputs: &[Output]) -> Option<usize> {
    match armed {
        Boundary::MidSend => {
            let sends = outputs.iter().any(|output| matches!(output, Output::Send { .. }));
            sends.then_some(outputs.len() / 2)
        }
        Boundary::On(point) => Some(1 + outputs.iter().position(|output| point.is_met_by(output))?),
        Boundary::BetweenTurns
        | Boundary::BeforePersist
        | Boundary::AfterPersist
        | Boundary::IoError
        | Boundary::DiskFull => None,
    }
}

/// What a world hands back: the stage after the last order, and the machines as they were then.
#[derive(Debug)]
pub struct Played {
    /// To be asked for its [`Ending`].
    pub stage: Stage,
    /// The virtual time at the end.
    pub at: Duration,
    /// One row per machine, in the order of the names.
    pub states: Vec<State>,
}

/// One machine at the end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Which.
    pub node: String,
    /// `up`, `paused`, `down`, `left` or `never started`.
    pub state: &'static str,
    /// Records on its disk, tombstones included.
    pub records: usize,
    /// Digest of its records.
    pub root: u64,
    /// Digest of what it has seen.
    pub seen: u64,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Broken promises, in the order they were noticed.
    pub violations: Vec<Violation>,
    /// Whether it was played to its end; `false` after `until=`.
    pub is_complete: bool,
    /// The hash of everything that happened.
    pub trace_hash: u64,
    /// How many events that was.
    pub events: u64,
    /// Virtual time at the end.
    pub virtual_time: Duration,
    /// How long after the end of the faults the replicas agreed.
    pub converged_after: Option<Duration>,
    /// How often each thing happened.
    pub counts: BTreeMap<String, u64>,
}
