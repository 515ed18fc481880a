//! Candidates that say the same with plainer values: good surroundings, short times, names from the front of the
//! alphabet. Whether they still fail is not decided here.

use std::collections::BTreeMap;
use std::time::Duration;

use reknit::model::Ack;

use super::pieces;
use crate::scenario::{Boundary, NodeConfig, Place, Scenario, Step};
use crate::scenario::{ClockModel, Expectation};

/// Gaps between two steps that read well, the shortest first.
const GAPS: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_millis(1_000),
    Duration::from_millis(5_000),
];
/// Offsets of wall clocks that read well, in milliseconds.
const OFFSETS: [i64; 4] = [1_000, 10_000, 60_000, 365 * 24 * 3_600_000];

/// Everything around the nodes as in a good world.
pub fn calm(story: &Scenario) -> Scenario {
    let quiet = quiet_of(story);
    let mut out = story.clone();
    (out.network, out.clocks, out.disks, out.config) =
        (quiet.network, quiet.clocks, quiet.disks, quiet.config);
    out
}

fn quiet_of(story: &Scenario) -> Scenario {
    Scenario::quiet(&story.name, story.nodes.clone())
}

/// One thing of many made good.
pub type Calmer = Box<dyn Fn(&Scenario) -> Scenario>;

/// One of the surroundings at a time as in a good world.
pub fn calmer(story: &Scenario) -> Vec<Calmer> {
    fn one(change: impl Fn(&mut Scenario, Scenario) + 'static) -> Calmer {
        Box::new(move |story| {
            let mut out = story.clone();
            change(&mut out, quiet_of(story));
            out
        })
    }
    let mut out = vec![
        one(|story, quiet| story.network = quiet.network),
        one(|story, quiet| story.network.delay = quiet.network.delay),
        one(|story, _| story.network.loss = 0.0),
        one(|story, _| story.network.duplicate = 0.0),
        one(|story, _| story.network.corrupt = 0.0),
        one(|story, _| story.network.tail = 0.0),
        one(|story, _| story.network.burst = 1),
        one(|story, _| story.network.bandwidth = None),
        one(|story, _| story.disks.spikes = 0.0),
        one(|story, quiet| story.disks = quiet.disks),
        one(|story, quiet| story.disks.on_crash = quiet.disks.on_crash),
        one(|story, quiet| story.clocks = quiet.clocks),
        one(|story, _| story.clocks.nodes.clear()),
        one(|story, quiet| {
            let calm: ClockModel = quiet.clocks.all;
            story.clocks.all.granularity = calm.granularity;
            story.clocks.nodes.iter_mut().for_each(|(_, model)| model.granularity = calm.granularity);
        }),
        one(|story, _| story.config = NodeConfig::default()),
        one(|story, _| story.config.stream_credit = None),
        one(|story, _| story.config.quirks.clear()),
    ];
    for node in story.clocks.nodes.iter().map(|(node, _)| node.clone()) {
        out.push(one(move |story, _| story.clocks.nodes.retain(|(name, _)| *name != node)));
    }
    out
}

/// Plainer forms of one step, the plainest first.
pub fn steps(story: &Scenario, place: usize) -> Vec<Scenario> {
    let mut forms: Vec<Step> = Vec::new();
    let Some(timed) = story.timeline.get(place) else { return Vec::new() };
    match &timed.step {
        Step::Get { node, key, asked } if *asked != Ack::Local => {
            forms.push(Step::Get { node: node.clone(), key: key.clone(), asked: Ack::Local });
        }
        Step::Put { options, .. } | Step::Delete { options, .. } => {
            let mut bare = options.clone();
            (bare.ack, bare.ttl) = (Ack::Local, None);
            for plainer in [bare.clone(), {
                bare.ttl = options.ttl;
                bare
            }] {
                let mut step = timed.step.clone();
                if let Step::Put { options, .. } | Step::Delete { options, .. } = &mut step {
                    *options = plainer;
                }
                forms.push(step);
            }
        }
        Step::Crash { node, boundary } if *boundary != Boundary::BetweenTurns => {
            forms.push(Step::Crash { node: node.clone(), boundary: Boundary::BetweenTurns });
        }
        Step::Jump(node, by) => forms.extend(offsets(*by).map(|by| Step::Jump(node.clone(), by))),
        Step::Skew(node, by) => forms.extend(offsets(*by).map(|by| Step::Skew(node.clone(), by))),
        Step::IsolateOn(node, _) => forms.push(Step::Isolate(node.clone())),
        Step::SetLoss(_) => forms.push(Step::SetLoss(1.0)),
        _ => {}
    }
    let form = |step: Step| {
        let mut out = story.clone();
        out.timeline[place].step = step;
        out
    };
    forms.into_iter().filter(|step| *step != timed.step).map(form).collect()
}

fn offsets(millis: i64) -> impl Iterator<Item = i64> {
    OFFSETS.into_iter().filter(move |size| *size < millis.abs()).map(move |size| size * millis.signum())
}

/// The story with one step, and all after it, sooner or at a rounder time.
pub fn times(story: &Scenario, place: usize) -> Vec<Scenario> {
    let Some(timed) = story.timeline.get(place) else { return Vec::new() };
    let before = place.checked_sub(1).map_or(Duration::ZERO, |before| story.timeline[before].at);
    let gap = timed.at - before;
    let mut gaps: Vec<Duration> = GAPS.into_iter().filter(|shorter| *shorter < gap).collect();
    if place > 0 && gap > Duration::ZERO {
        gaps.insert(0, Duration::ZERO);
    }
    gaps.extend([1_000, 100, 10].map(|step| rounded(gap, step)).into_iter().filter(|round| *round < gap));
    let moved = |shorter: Duration| {
        let mut out = story.clone();
        out.timeline[place..].iter_mut().for_each(|timed| timed.at -= gap - shorter);
        out
    };
    gaps.into_iter().map(moved).collect()
}

fn rounded(gap: Duration, millis: u64) -> Duration {
    let whole = gap.as_millis() as u64 / millis * millis;
    Duration::from_millis(whole)
}

/// The story with keys `k1`, `k2`, … in the order of their first mention.
pub fn plain_keys(story: &Scenario) -> Scenario {
    let mut out = story.clone();
    let mut names: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let checks = out.check.iter().any(|check| matches!(check, Expectation::Count { .. }));
    if checks {
        return out;
    }
    let mut rename = |key: &mut Vec<u8>| {
        let next = format!("k{}", names.len() + 1).into_bytes();
        *key = names.entry(key.clone()).or_insert(next).clone();
    };
    for timed in &mut out.timeline {
        match &mut timed.step {
            Step::Put { key, .. }
            | Step::Delete { key, .. }
            | Step::Get { key, .. }
            | Step::Rot(_, Some(key)) => rename(key),
            Step::Expect(Expectation::Get { key, .. }) => rename(key),
            _ => {}
        }
    }
    for check in &mut out.check {
        if let Expectation::Get { key, .. } = check {
            rename(key);
        }
    }
    out
}

/// The story with values `v1`, `v2`, …, unless it asks for one by name.
pub fn plain_values(story: &Scenario) -> Scenario {
    let mut out = story.clone();
    let asks = |expectation: &Expectation| matches!(expectation, Expectation::Get { .. });
    let is_asked = |step: &Step| matches!(step, Step::Expect(expectation) if asks(expectation));
    if out.check.iter().any(asks) || out.timeline.iter().any(|timed| is_asked(&timed.step)) {
        return out;
    }
    let mut number = 0;
    for timed in &mut out.timeline {
        if let Step::Put { value, .. } = &mut timed.step {
            number += 1;
            *value = format!("v{number}");
        }
    }
    out
}

/// The story with its nodes called `a`, `b`, … in their order.
pub fn plain_nodes(story: &Scenario) -> Scenario {
    let mut out = story.clone();
    let old: Vec<String> = story.all_nodes().cloned().collect();
    let names: BTreeMap<&str, String> =
        old.iter().zip('a'..='z').map(|(node, letter)| (node.as_str(), letter.to_string())).collect();
    let rename = |node: &mut String| {
        if let Some(name) = names.get(node.as_str()) {
            node.clone_from(name);
        }
    };
    out.nodes.iter_mut().chain(&mut out.later).for_each(rename);
    out.clocks.nodes.iter_mut().for_each(|(node, _)| rename(node));
    let place = |expectation: &mut Expectation| match expectation {
        Expectation::Get { place: Place::Node(node), .. }
        | Expectation::Count { place: Place::Node(node), .. } => {
            rename(node);
        }
        _ => {}
    };
    out.check.iter_mut().for_each(place);
    for timed in &mut out.timeline {
        match &mut timed.step {
            Step::Expect(expectation) => place(expectation),
            step => pieces::nodes_of(step).into_iter().for_each(rename),
        }
    }
    out
}
