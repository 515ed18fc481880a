//! A scenario in pieces that can be taken out, each with what belongs to it: a crash with its restart, a cut with
//! its healing.

use std::collections::BTreeMap;
use std::fmt;

use crate::scenario::stage::Stage;
use crate::scenario::{Expectation, Place, Scenario, Step, Timed};

/// How much there is in a story, as people count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// What clients ask.
    pub operations: usize,
    /// What befalls nodes, links, disks and clocks; a fault and its end count once.
    pub faults: usize,
    /// Nodes that the story may start.
    pub nodes: usize,
}

impl Size {
    /// The size of this story.
    pub fn of(story: &Scenario) -> Size {
        Size {
            operations: operations(story).len(),
            faults: faults(story).len() + troubles(story),
            nodes: story.all_nodes().count(),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size { operations, faults, nodes } = self;
        write!(f, "{operations} operations, {faults} faults, {nodes} nodes")
    }
}

/// The troubles that hold from the start.
fn troubles(story: &Scenario) -> usize {
    let quiet = Scenario::quiet("", Vec::new());
    let network = [
        story.network.loss > 0.0,
        story.network.duplicate > 0.0,
        story.network.corrupt > 0.0,
        story.network.tail > 0.0,
        story.network.bandwidth.is_some(),
        story.network.delay != quiet.network.delay,
        story.disks != quiet.disks,
        story.clocks.all != quiet.clocks.all,
    ];
    network.into_iter().filter(|is_bad| *is_bad).count() + story.clocks.nodes.len()
}

/// Kinds of faults that are dropped as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Partitions and cuts.
    Links,
    /// Times of bad weather.
    Weather,
    /// Power losses.
    Power,
    /// Processes that stand still.
    Pauses,
    /// Wall clocks.
    Clocks,
    /// Disks wiped, restored, cloned.
    Disks,
    /// Nodes that come and go.
    Members,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 7] =
        [Kind::Links, Kind::Weather, Kind::Power, Kind::Pauses, Kind::Clocks, Kind::Disks, Kind::Members];

    /// The kind of a step; `None` for what clients and stories ask.
    pub fn of(step: &Step) -> Option<Kind> {
        match step {
            Step::Put { .. }
            | Step::Delete { .. }
            | Step::Get { .. }
            | Step::Expect(_)
            | Step::StopWorkload => None,
            Step::Partition(_) | Step::Isolate(_) | Step::Cut { .. } | Step::Heal => Some(Kind::Links),
            Step::SetLoss(_)
            | Step::SetDuplicate(_)
            | Step::SetDelay(_)
            | Step::SetBandwidth(_)
            | Step::Clog(_)
            | Step::Unclog(_) => Some(Kind::Weather),
            Step::Slow(..) | Step::Configure(..) => Some(Kind::Pauses),
            Step::Rot(..) => Some(Kind::Disks),
            Step::IsolateOn(..) => Some(Kind::Links),
            Step::Crash { .. } | Step::Restart(_) => Some(Kind::Power),
            Step::Pause(_) | Step::Resume(_) => Some(Kind::Pauses),
            Step::Skew(..) | Step::Jump(..) | Step::Freeze(_) | Step::Thaw(_) => Some(Kind::Clocks),
            Step::Wipe(_) | Step::Backup(_) | Step::Restore(_) | Step::Clone { .. } => Some(Kind::Disks),
            Step::Join(_) | Step::Leave(_) | Step::Remove(_) => Some(Kind::Members),
        }
    }
}

/// The places of a story's operations in its timeline, each alone.
pub fn operations(story: &Scenario) -> Vec<Vec<usize>> {
    let is_asked = |step: &Step| {
        matches!(step, Step::Put { .. } | Step::Delete { .. } | Step::Get { .. } | Step::Expect(_))
    };
    let steps = story.timeline.iter().enumerate();
    steps.filter(|(_, timed)| is_asked(&timed.step)).map(|(place, _)| vec![place]).collect()
}

/// The places of a story's faults in its timeline, each with what ends it.
pub fn faults(story: &Scenario) -> Vec<Vec<usize>> {
    let mut pieces: Vec<Vec<usize>> = Vec::new();
    // Which piece of each entity is still open.
    let mut open: BTreeMap<String, usize> = BTreeMap::new();
    for (place, Timed { step, .. }) in story.timeline.iter().enumerate() {
        let (entity, is_end) = match step {
            Step::Put { .. }
            | Step::Delete { .. }
            | Step::Get { .. }
            | Step::Expect(_)
            | Step::StopWorkload => {
                continue;
            }
            Step::Partition(_) | Step::Isolate(_) | Step::IsolateOn(..) | Step::Cut { .. } => {
                ("links".to_owned(), false)
            }
            Step::Heal => ("links".to_owned(), true),
            Step::SetLoss(share) => ("loss".to_owned(), *share == story.network.loss),
            Step::SetDuplicate(share) => ("duplicate".to_owned(), *share == story.network.duplicate),
            Step::SetDelay(delay) => ("delay".to_owned(), *delay == story.network.delay),
            Step::SetBandwidth(bandwidth) => ("bandwidth".to_owned(), *bandwidth == story.network.bandwidth),
            Step::Clog(node) => (format!("clog {node}"), false),
            Step::Unclog(node) => (format!("clog {node}"), true),
            Step::Slow(node, factor) => (format!("slow {node}"), *factor == 1),
            Step::Crash { node, .. }
            | Step::Wipe(node)
            | Step::Restore(node)
            | Step::Clone { to: node, .. } => (format!("power {node}"), false),
            Step::Restart(node) => (format!("power {node}"), true),
            Step::Pause(node) => (format!("pause {node}"), false),
            Step::Resume(node) => (format!("pause {node}"), true),
            Step::Freeze(node) => (format!("frozen {node}"), false),
            Step::Thaw(node) => (format!("frozen {node}"), true),
            Step::Skew(..)
            | Step::Jump(..)
            | Step::Backup(_)
            | Step::Rot(..)
            | Step::Configure(..)
            | Step::Join(_)
            | Step::Leave(_)
            | Step::Remove(_) => {
                pieces.push(vec![place]);
                continue;
            }
        };
        match open.get(&entity) {
            Some(&piece) => pieces[piece].push(place),
            None => {
                open.insert(entity.clone(), pieces.len());
                pieces.push(vec![place]);
            }
        }
        if is_end {
            open.remove(&entity);
        }
    }
    pieces
}

/// The key that a step is about.
pub fn key_of(step: &Step) -> Option<&[u8]> {
    match step {
        Step::Put { key, .. } | Step::Delete { key, .. } | Step::Get { key, .. } => Some(key),
        Step::Expect(Expectation::Get { key, .. }) => Some(key),
        _ => None,
    }
}

/// The places of the steps about a key.
pub fn about_key(story: &Scenario, key: &[u8]) -> Vec<usize> {
    let steps = story.timeline.iter().enumerate();
    steps.filter(|(_, timed)| key_of(&timed.step) == Some(key)).map(|(place, _)| place).collect()
}

/// The story with these steps only.
pub fn keeping(story: &Scenario, mut is_kept: impl FnMut(usize, &Timed) -> bool) -> Scenario {
    let mut out = story.clone();
    let mut place = 0;
    out.timeline.retain(|timed| {
        place += 1;
        is_kept(place - 1, timed)
    });
    out
}

/// The story without a node; what clients asked of it goes to `instead`, or is not asked.
pub fn without_node(story: &Scenario, node: &str, instead: Option<&str>) -> Scenario {
    let mut out = story.clone();
    out.nodes.retain(|name| name != node);
    out.later.retain(|name| name != node);
    out.clocks.nodes.retain(|(name, _)| name != node);
    let about = |expectation: &Expectation| match expectation {
        Expectation::Get { place, .. } | Expectation::Count { place, .. } => {
            *place == Place::Node(node.to_owned())
        }
        Expectation::Agree { .. } => false,
    };
    out.check.retain(|expectation| !about(expectation));
    let steps = std::mem::take(&mut out.timeline);
    let steps = steps.into_iter().filter_map(|Timed { at, mut step }| {
        match &mut step {
            Step::Put { node: asked, .. }
            | Step::Delete { node: asked, .. }
            | Step::Get { node: asked, .. }
                if asked == node =>
            {
                instead?.clone_into(asked);
            }
            Step::Expect(expectation) if about(expectation) => return None,
            Step::Partition(sides) => {
                sides.iter_mut().for_each(|side| side.retain(|name| name != node));
                sides.retain(|side| !side.is_empty());
                if sides.len() < 2 {
                    return None;
                }
            }
            step => {
                if nodes_of(step).iter().any(|name| *name == node) {
                    return None;
                }
            }
        }
        Some(Timed { at, step })
    });
    out.timeline = steps.collect();
    out
}

/// The story without the steps that make no sense any more, such as a restart whose crash is gone.
pub fn sensible(mut story: Scenario) -> Scenario {
    let mut stage = Stage::of(&story);
    let mut cuts = false;
    story.timeline.retain(|timed| {
        let is_idle = match &timed.step {
            Step::Heal => !std::mem::take(&mut cuts),
            Step::Partition(_) | Step::Isolate(_) | Step::IsolateOn(..) | Step::Cut { .. } => {
                cuts = true;
                false
            }
            _ => false,
        };
        !is_idle && stage.play(&timed.step).is_ok()
    });
    story
}

/// Every name of a node in a step; expectations aside.
pub fn nodes_of(step: &mut Step) -> Vec<&mut String> {
    match step {
        Step::Put { node, .. }
        | Step::Delete { node, .. }
        | Step::Get { node, .. }
        | Step::Crash { node, .. }
        | Step::Restart(node)
        | Step::Pause(node)
        | Step::Resume(node)
        | Step::Wipe(node)
        | Step::Backup(node)
        | Step::Restore(node)
        | Step::Join(node)
        | Step::Leave(node)
        | Step::Remove(node)
        | Step::Isolate(node)
        | Step::Skew(node, _)
        | Step::Jump(node, _)
        | Step::Freeze(node)
        | Step::Clog(node)
        | Step::Unclog(node)
        | Step::Slow(node, _)
        | Step::Rot(node, _)
        | Step::IsolateOn(node, _)
        | Step::Configure(node, _)
        | Step::Thaw(node) => vec![node],
        Step::Clone { from, to } | Step::Cut { from, to } => vec![from, to],
        Step::Partition(sides) => sides.iter_mut().flatten().collect(),
        Step::Expect(_)
        | Step::Heal
        | Step::SetLoss(_)
        | Step::SetDuplicate(_)
        | Step::SetDelay(_)
        | Step::SetBandwidth(_)
        | Step::StopWorkload => Vec::new(),
    }
}
