//! What befalls the nodes and links of a life, and when.
//!
//! Promises steps that make sense in their order: every restart follows its crash, every partition names all nodes.
//! Faults that outlast the life are not undone here; the end of the run heals everything.

use std::time::Duration;

use super::catalogue::percent;
use super::dice::{Dice, readable};
use super::kinds::{Kind, Kinds};
use super::surroundings::{TIMERS, millis, signed};
use super::{Faults, LIFE};
use crate::scenario::{Boundary, Draw, Point, Scenario, Setting, Step, Timed};

/// No fault before this: first the nodes start and find each other (in most lives).
const CALM: Duration = Duration::from_millis(1_500);
/// Most times that a flapping link goes away within one partition.
const FLAPS_MAX: u64 = 10;
/// Most restarts of one crash loop.
const LOOPS_MAX: u64 = 8;

/// How long a clock jumps to and fro, and how often.
const STROBE: Duration = Duration::from_secs(10);
const STROBE_FLIPS: u32 = 200;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// All faults of this life, in time order.
pub fn draw(seed: u64, kinds: &Kinds, faults: Faults, story: &Scenario) -> Vec<Timed> {
    let mut steps = Steps::default();
    if kinds.has(Kind::Partition) {
        partitions(seed, kinds, story, &mut steps);
    }
    weather(seed, kinds, story, &mut steps);
    clogs(seed, kinds, story, &mut steps);
    rot(seed, kinds, story, &mut steps);
    let rolling = rolling(seed, kinds, story, &mut steps);
    for node in &story.nodes {
        power(seed, kinds, faults, story, node, &rolling, &mut steps);
    }
    for node in story.all_nodes() {
        clock(seed, kinds, node, &mut steps);
        slow(seed, kinds, node, &mut steps);
        configure(seed, kinds, node, &mut steps);
    }
    if faults.membership {
        for node in &story.later {
            visit(seed, story, node, &mut steps);
        }
    }
    // Stable: steps of one entity stay in order where their times are equal.
    steps.0.sort_by_key(|timed| timed.at);
    steps.0
}

/// Steps in the order they were thought of; what would come after the life is left out.
#[derive(Default)]
struct Steps(Vec<Timed>);

impl Steps {
    fn at(&mut self, at: Duration, step: Step) {
        if at < LIFE {
            self.0.push(Timed { at, step });
        }
    }
}

fn first(dice: &mut Dice, gap: Duration) -> Duration {
    // Now and then the trouble begins before the cluster is one.
    let calm = if dice.chance(10) { ms(50) } else { CALM };
    calm + dice.exponential(gap)
}

fn partitions(seed: u64, kinds: &Kinds, story: &Scenario, steps: &mut Steps) {
    let mut dice = Dice::of(seed, "partitions");
    let gap = dice.log_between(ms(2_000), ms(15_000));
    let flapping = kinds.has(Kind::Flapping) && dice.chance(percent(Kind::Flapping));
    let nodes: Vec<String> = story.all_nodes().cloned().collect();
    let mut at = first(&mut dice, gap);
    for episode in 0.. {
        if at >= LIFE {
            break;
        }
        let mut dice = Dice::of(seed, &format!("partition/{episode}"));
        let length = dice.around(&TIMERS);
        let flap_at = |part: u32, of: u32| at + readable(length * part / of);
        let cuts = cuts(&mut dice, kinds, &nodes);
        let flaps = if flapping && dice.chance(50) { dice.number(2, FLAPS_MAX) as u32 } else { 1 };
        for flap in 0..flaps {
            let begin = flap_at(2 * flap, 2 * flaps);
            cuts.iter().for_each(|cut| steps.at(begin, cut.clone()));
            if flap + 1 < flaps {
                steps.at(flap_at(2 * flap + 1, 2 * flaps), Step::Heal);
            }
        }
        steps.at(at + length, Step::Heal);
        at += length + ms(1) + dice.exponential(gap);
    }
}

/// The steps that make one partition.
fn cuts(dice: &mut Dice, kinds: &Kinds, nodes: &[String]) -> Vec<Step> {
    let nodes = dice.shuffled(nodes);
    let one_way = kinds.has(Kind::OneWay) && dice.chance(percent(Kind::OneWay));
    let both_ways =
        |from: &[String], to: &[String]| [cuts_between(from, to), cuts_between(to, from)].concat();
    let many = nodes.len() as u64;
    match dice.number(0, 99) {
        _ if many == 2 && !one_way => {
            vec![Step::Partition(vec![vec![nodes[0].clone()], vec![nodes[1].clone()]])]
        }
        // One directed link.
        0..10 => cuts_between(&nodes[..1], &nodes[1..2]),
        // A bridge: two halves that only the first node sees.
        10..25 if many >= 3 && !one_way => {
            let half = dice.number(2, many - 1) as usize;
            both_ways(&nodes[1..half], &nodes[half..])
        }
        // A ring: everyone sees two neighbours only.
        25..35 if many >= 4 && !one_way => {
            let apart = |i: usize, j: usize| j - i > 1 && j - i < nodes.len() - 1;
            let pairs = (0..nodes.len()).flat_map(|i| (i + 1..nodes.len()).map(move |j| (i, j)));
            let pairs = pairs.filter(|(i, j)| apart(*i, *j));
            pairs.flat_map(|(i, j)| both_ways(&nodes[i..=i], &nodes[j..=j])).collect()
        }
        // Everyone alone.
        35..40 if !one_way => vec![Step::Partition(nodes.iter().map(|node| vec![node.clone()]).collect())],
        kind => {
            let side = if kind < 70 { 1 } else { dice.number(1, many - 1) as usize };
            let (left, right) = nodes.split_at(side);
            match (one_way, side) {
                (true, _) if dice.chance(50) => cuts_between(left, right),
                (true, _) => cuts_between(right, left),
                (false, 1) if kinds.has(Kind::Points) && dice.chance(percent(Kind::Points)) => {
                    vec![Step::IsolateOn(left[0].clone(), point(dice))]
                }
                (false, 1) if dice.chance(50) => vec![Step::Isolate(left[0].clone())],
                (false, _) => vec![Step::Partition(vec![left.to_vec(), right.to_vec()])],
            }
        }
    }
}

fn cuts_between(from: &[String], to: &[String]) -> Vec<Step> {
    let cut = |(from, to): (&String, &String)| Step::Cut { from: from.clone(), to: to.clone() };
    from.iter().flat_map(|from| to.iter().map(move |to| (from, to))).map(cut).collect()
}

/// Times when the whole network is bad.
fn weather(seed: u64, kinds: &Kinds, story: &Scenario, steps: &mut Steps) {
    let mut dice = Dice::of(seed, "weather");
    let bad: Vec<Kind> =
        [Kind::Loss, Kind::Duplicate, Kind::Delay].into_iter().filter(|kind| kinds.has(*kind)).collect();
    if bad.is_empty() || !dice.chance(50) {
        return;
    }
    let gap = dice.log_between(ms(4_000), ms(20_000));
    let mut at = first(&mut dice, gap);
    while at < LIFE {
        let end = at + dice.around(&TIMERS);
        let (worse, before) = match dice.pick(&bad) {
            Kind::Loss => (Step::SetLoss(dice.share(100, 900)), Step::SetLoss(story.network.loss)),
            Kind::Duplicate => {
                (Step::SetDuplicate(dice.share(100, 900)), Step::SetDuplicate(story.network.duplicate))
            }
            _ => {
                let low = dice.log_between(ms(5), ms(500));
                let slow = Draw::Each(low..=low + dice.log_between(ms(5), ms(2_000)));
                (Step::SetDelay(slow), Step::SetDelay(story.network.delay.clone()))
            }
        };
        steps.at(at, worse);
        steps.at(end, before);
        at = end + ms(1) + dice.exponential(gap);
    }
}

/// The time in which nodes restart one after the other, if this life has one; no other crash falls into it.
type Window = Option<(Duration, Duration)>;

fn rolling(seed: u64, kinds: &Kinds, story: &Scenario, steps: &mut Steps) -> Window {
    let mut dice = Dice::of(seed, "rolling");
    if !kinds.has(Kind::Rolling) || !dice.chance(percent(Kind::Rolling)) {
        return None;
    }
    let begin = dice.between(CALM, LIFE * 3 / 4);
    let mut at = begin;
    for node in dice.shuffled(&story.nodes) {
        let back = at + dice.around(&TIMERS[1..]);
        steps.at(at, Step::Crash { node: node.clone(), boundary: boundary(&mut dice, kinds) });
        steps.at(back, Step::Restart(node));
        at = back + dice.log_between(ms(10), ms(2_000));
    }
    Some((begin, at))
}

fn boundary(dice: &mut Dice, kinds: &Kinds) -> Boundary {
    if kinds.has(Kind::Points) && dice.chance(percent(Kind::Points)) {
        return Boundary::On(point(dice));
    }
    if kinds.has(Kind::BadDisk) && dice.chance(15) {
        // A sync fails twice as often as a disk is full.
        return *dice.pick(&[Boundary::IoError, Boundary::IoError, Boundary::DiskFull]);
    }
    let within = if kinds.has(Kind::Boundary) { 2 } else { 0 };
    dice.weighted(&[
        (4, Boundary::BetweenTurns),
        (within, Boundary::BeforePersist),
        (within, Boundary::AfterPersist),
        (within, Boundary::MidSend),
    ])
}

fn point(dice: &mut Dice) -> Point {
    let points: Vec<Point> = Point::all().collect();
    *dice.pick(&points)
}

/// One node's power: up, down, up again; or standing still.
fn power(
    seed: u64,
    kinds: &Kinds,
    faults: Faults,
    story: &Scenario,
    node: &str,
    rolling: &Window,
    steps: &mut Steps,
) {
    let mut dice = Dice::of(seed, &format!("power/{node}"));
    let weight = |kind, weight| if kinds.has(kind) { weight } else { 0 };
    let kinds_of = [
        (weight(Kind::Crash, 6), Kind::Crash),
        (weight(Kind::CrashLoop, 1), Kind::CrashLoop),
        (weight(Kind::Pause, 3), Kind::Pause),
    ];
    if kinds_of.iter().all(|(weight, _)| *weight == 0) {
        return;
    }
    let gap = *Dice::of(seed, "power").pick(&[ms(8_000), ms(16_000), ms(32_000)]);
    let mut at = first(&mut dice, gap);
    while at < LIFE {
        let kind = dice.weighted(&kinds_of);
        let mut mine = Steps::default();
        let end = match kind {
            Kind::Pause => pause(&mut dice, node, at, &mut mine),
            Kind::CrashLoop => crash_loop(&mut dice, kinds, node, at, &mut mine),
            _ => crash(&mut dice, kinds, faults, story, node, at, &mut mine),
        };
        at = match rolling {
            Some((from, to)) if at <= *to && end >= *from => *to,
            _ => {
                steps.0.append(&mut mine.0);
                end
            }
        };
        at += ms(1) + dice.exponential(gap);
    }
}

fn pause(dice: &mut Dice, node: &str, at: Duration, steps: &mut Steps) -> Duration {
    let end = at
        + if dice.chance(80) {
            dice.log_between(ms(200), ms(3_000))
        } else {
            dice.log_between(ms(1_000), ms(20_000))
        };
    steps.at(at, Step::Pause(node.to_owned()));
    steps.at(end, Step::Resume(node.to_owned()));
    end
}

fn crash_loop(dice: &mut Dice, kinds: &Kinds, node: &str, at: Duration, steps: &mut Steps) -> Duration {
    let mut at = at;
    for _ in 0..dice.number(3, LOOPS_MAX) {
        steps.at(at, Step::Crash { node: node.to_owned(), boundary: boundary(dice, kinds) });
        let back = at + dice.log_between(ms(10), ms(1_000));
        steps.at(back, Step::Restart(node.to_owned()));
        at = back + dice.log_between(ms(10), ms(1_000));
    }
    at
}

fn crash(
    dice: &mut Dice,
    kinds: &Kinds,
    faults: Faults,
    story: &Scenario,
    node: &str,
    at: Duration,
    steps: &mut Steps,
) -> Duration {
    let end = at + dice.around(&TIMERS);
    steps.at(at, Step::Crash { node: node.to_owned(), boundary: boundary(dice, kinds) });
    if faults.disk_loss && dice.chance(30) {
        let others: Vec<&String> = story.nodes.iter().filter(|other| *other != node).collect();
        let step = match dice.number(0, 9) {
            0..5 => Step::Wipe(node.to_owned()),
            5..8 => Step::Restore(node.to_owned()),
            _ => Step::Clone { from: (*dice.pick(&others)).clone(), to: node.to_owned() },
        };
        steps.at(at + readable((end - at) / 2), step);
    }
    steps.at(end, Step::Restart(node.to_owned()));
    if faults.disk_loss && dice.chance(30) {
        steps.at(end + dice.log_between(ms(100), ms(5_000)), Step::Backup(node.to_owned()));
    }
    end
}

/// One node's wall clock.
fn clock(seed: u64, kinds: &Kinds, node: &str, steps: &mut Steps) {
    let mut dice = Dice::of(seed, &format!("clock-faults/{node}"));
    let name = || node.to_owned();
    if kinds.has(Kind::Jump) && dice.chance(percent(Kind::Jump)) {
        let mut at = first(&mut dice, ms(15_000));
        while at < LIFE {
            let size = millis(dice.log_between(ms(10), ms(40_000)));
            let offset = signed(&mut dice, size);
            steps.at(
                at,
                if dice.chance(75) { Step::Jump(name(), offset) } else { Step::Skew(name(), offset) },
            );
            at += dice.exponential(ms(15_000));
        }
    }
    if kinds.has(Kind::Freeze) && dice.chance(percent(Kind::Freeze)) {
        let mut at = first(&mut dice, ms(15_000));
        while at < LIFE {
            let end = at + dice.log_between(ms(200), ms(8_000));
            steps.at(at, Step::Freeze(name()));
            steps.at(end, Step::Thaw(name()));
            at = end + dice.exponential(ms(15_000));
        }
    }
    if kinds.has(Kind::Strobe) && dice.chance(percent(Kind::Strobe)) {
        let begin = dice.between(CALM, LIFE - STROBE);
        let size = millis(dice.log_between(ms(10), ms(5_000))) as i64;
        for flip in 0..STROBE_FLIPS {
            let by = if flip % 2 == 0 { size } else { -size };
            steps.at(begin + readable(STROBE * flip / STROBE_FLIPS), Step::Jump(name(), by));
        }
    }
    if kinds.has(Kind::FarFuture) && dice.chance(percent(Kind::FarFuture)) {
        const YEAR: i64 = 365 * 24 * 3_600_000;
        let ahead = YEAR * dice.number(10, 80) as i64;
        let at = dice.between(CALM, LIFE - ms(10_000));
        steps.at(at, Step::Jump(name(), ahead));
        steps.at(at + dice.between(ms(100), ms(5_000)), Step::Jump(name(), -ahead));
    }
}

/// Times when some nodes' links hold everything up.
fn clogs(seed: u64, kinds: &Kinds, story: &Scenario, steps: &mut Steps) {
    let mut dice = Dice::of(seed, "clogs");
    if !kinds.has(Kind::Clog) || !dice.chance(percent(Kind::Clog)) {
        return;
    }
    let nodes: Vec<String> = story.all_nodes().cloned().collect();
    let gap = dice.log_between(ms(4_000), ms(20_000));
    let mut at = first(&mut dice, gap);
    while at < LIFE {
        let many = if dice.chance(70) { 1 } else { nodes.len() / 2 };
        let held = dice.shuffled(&nodes)[..many].to_vec();
        let end = at + dice.around(&TIMERS);
        held.iter().for_each(|node| steps.at(at, Step::Clog(node.clone())));
        // Let through in another order.
        dice.shuffled(&held).into_iter().for_each(|node| steps.at(end, Step::Unclog(node)));
        at = end + ms(1) + dice.exponential(gap);
    }
}

fn rot(seed: u64, kinds: &Kinds, story: &Scenario, steps: &mut Steps) {
    let mut dice = Dice::of(seed, "rot");
    if !kinds.has(Kind::Rot) || !dice.chance(percent(Kind::Rot)) {
        return;
    }
    let gap = dice.log_between(ms(5_000), ms(30_000));
    let mut at = first(&mut dice, gap);
    while at < LIFE {
        steps.at(at, Step::Rot(dice.pick(&story.nodes).clone(), None));
        at += ms(1) + dice.exponential(gap);
    }
}

/// A machine on which everything takes long, now and then.
fn slow(seed: u64, kinds: &Kinds, node: &str, steps: &mut Steps) {
    let mut dice = Dice::of(seed, &format!("slow/{node}"));
    if !kinds.has(Kind::Slow) || !dice.chance(percent(Kind::Slow)) {
        return;
    }
    let mut at = first(&mut dice, ms(15_000));
    while at < LIFE {
        let end = at + dice.around(&TIMERS);
        steps.at(at, Step::Slow(node.to_owned(), dice.number(10, 100) as u32));
        steps.at(end, Step::Slow(node.to_owned(), 1));
        at = end + ms(1) + dice.exponential(ms(15_000));
    }
}

/// A node that comes back with another timer, if it ever does.
fn configure(seed: u64, kinds: &Kinds, node: &str, steps: &mut Steps) {
    let mut dice = Dice::of(seed, &format!("configure/{node}"));
    if !kinds.has(Kind::Configure) || !dice.chance(percent(Kind::Configure)) {
        return;
    }
    let name = *dice.pick(&Setting::NAMES);
    let usual = match name {
        "probe_interval" => ms(200),
        "suspect_timeout" | "gossip_interval_min" | "catchup_interval" => ms(1_000),
        _ => ms(2_000),
    };
    let setting = Setting { name, value: dice.log_between(usual / 5, usual * 3) };
    let at = dice.between(CALM, LIFE - ms(10_000));
    steps.at(at, Step::Configure(node.to_owned(), setting));
}

/// A node that joins late, and may leave or be removed again.
fn visit(seed: u64, story: &Scenario, node: &str, steps: &mut Steps) {
    let mut dice = Dice::of(seed, &format!("visit/{node}"));
    let joins = dice.between(CALM, LIFE / 2);
    steps.at(joins, Step::Join(node.to_owned()));
    let goes = joins + dice.log_between(ms(200), ms(30_000));
    match dice.number(0, 4) {
        0 => {
            steps.at(goes, Step::Leave(node.to_owned()));
            steps.at(goes + dice.log_between(ms(200), ms(20_000)), Step::Join(node.to_owned()));
        }
        1 => steps.at(goes, Step::Leave(node.to_owned())),
        2 => {
            steps.at(goes, Step::Crash { node: node.to_owned(), boundary: Boundary::BetweenTurns });
            steps.at(goes + dice.log_between(ms(200), ms(10_000)), Step::Remove(node.to_owned()));
        }
        // It writes what nobody else hears of, is forgotten, and comes back when much of it was deleted since.
        3 => {
            let others: Vec<String> = story.all_nodes().filter(|other| *other != node).cloned().collect();
            let me = [node.to_owned()];
            cuts_between(&me, &others).into_iter().for_each(|cut| steps.at(goes, cut));
            let dies = goes + dice.log_between(ms(500), ms(4_000));
            steps.at(dies, Step::Crash { node: node.to_owned(), boundary: Boundary::BetweenTurns });
            let forgotten = dies + dice.log_between(ms(200), ms(2_000));
            steps.at(forgotten, Step::Remove(node.to_owned()));
            let back = forgotten + dice.log_between(ms(2_000), ms(20_000));
            steps.at(back, Step::Restart(node.to_owned()));
        }
        _ => {}
    }
}
