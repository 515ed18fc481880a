//! What a stage tells those who look closer. All of it is looking: nothing here changes what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use reknit::protocol::wire::Assembler;

use super::Stage;
use crate::check::Dump;
use crate::clocks::START_MILLIS;
use crate::links::Arrival;
use crate::report::contents;
use crate::trace::Fact;

/// How long nobody looks at a node again, for every record that it showed: large stores are looked at less often.
const REST_PER_RECORD: Duration = Duration::from_micros(20);
/// However much a node holds, it is looked at this often.
const REST_MAX: Duration = Duration::from_secs(1);

/// What the observer must remember.
#[derive(Debug)]
pub(super) struct Observer {
    assemblers: BTreeMap<(usize, usize), Assembler>,
    /// When each node may be looked at again.
    rested: Vec<Duration>,
}

impl Observer {
    pub(super) fn new(nodes: usize) -> Observer {
        Observer { assemblers: BTreeMap::new(), rested: vec![Duration::ZERO; nodes] }
    }
}

impl Stage {
    /// A node has ended a turn. Whether somebody wants to see its records, if they have changed since the last time:
    /// [`Stage::holds`].
    pub fn turned(&mut self, at: Duration, node: usize) -> bool {
        let Some(observer) = &self.observer else { return false };
        let is_rested = observer.rested[node] <= at;
        let wall = self.now(node, at).wall.0 as i64;
        let offset = wall - START_MILLIS as i64 - at.as_millis() as i64;
        self.trace.tell(at, Some(node), &Fact::Offset(offset));
        is_rested
    }

    /// These are a node's durable records.
    pub fn holds(&mut self, at: Duration, node: usize, records: &Dump) {
        if let Some(observer) = &mut self.observer {
            observer.rested[node] = at + (REST_PER_RECORD * records.len() as u32).min(REST_MAX);
            self.trace.tell(at, Some(node), &Fact::Holds(records));
        }
    }

    /// The links have changed.
    pub(super) fn tell_cuts(&mut self, at: Duration) {
        if self.observer.is_some() {
            let nodes = 0..self.names().len();
            let pairs = nodes.clone().flat_map(|from| nodes.clone().map(move |to| (from, to)));
            let cuts: BTreeSet<(usize, usize)> =
                pairs.filter(|(from, to)| from != to && self.links.is_cut(*from, *to)).collect();
            self.trace.tell(at, None, &Fact::Cuts(cuts));
        }
    }

    pub(super) fn look_into(
        &mut self,
        at: Duration,
        (from, to): (usize, usize),
        frame: Bytes,
        arrival: &Option<Arrival>,
    ) {
        let Some(observer) = &mut self.observer else { return };
        let is_damaged = arrival.as_ref().is_some_and(|arrival| arrival.frame != frame);
        let assembler = observer.assemblers.entry((from, to)).or_default();
        let message = assembler.push(frame).ok().flatten();
        let keys = message.as_ref().map(contents::keys).unwrap_or_default();
        if is_damaged || !keys.is_empty() {
            self.trace.tell(at, Some(from), &Fact::Carries { keys: &keys, is_damaged });
        }
    }
}
