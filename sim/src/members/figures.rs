//! What the membership costs, how fast it is and how often it errs: `sim members`.
//!
//! All figures are of the node's default timers, over links with 1 to 20 ms of delay, in virtual time; the seeds
//! are part of the answer, and the same seeds give the same figures.

use std::fmt::Write;
use std::time::Duration;

use rand::RngExt;
use reknit::model::MemberState;
use reknit::protocol::timing::Timing;

use super::world::{Watched, World, id, network};
use crate::random;

/// How long a table has lived before anything is measured.
const SETTLE: Duration = Duration::from_secs(5);
/// Nobody waits longer than this for a death to be noticed, or for a fact to arrive.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// First seed; further runs take the following ones.
    pub seed: u64,
    /// Runs per figure that is a percentile.
    pub runs: u64,
    /// Simulated hours in which nobody may be called down.
    pub hours: u64,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan { seed: 1, runs: 100, hours: 24 }
    }
}

/// How soon a crash is noticed.
#[derive(Clone, Debug)]
pub struct Detection {
    /// By the first other node, one per run, ascending.
    pub first: Vec<Duration>,
    /// By the last other node, one per run, ascending.
    pub last: Vec<Duration>,
}

/// How news travels.
#[derive(Clone, Debug)]
pub struct Spread {
    /// Until every node has it, one per run, ascending.
    pub everywhere: Vec<Duration>,
    /// Copies per node beyond the one that it needs.
    pub redundant: f64,
}

/// Crashes one node of `nodes`, at a drawn moment, once per run.
pub fn detection(nodes: usize, loss: f64, plan: &Plan) -> Detection {
    let mut out = Detection { first: Vec::new(), last: Vec::new() };
    for seed in plan.seed..plan.seed + plan.runs {
        let mut dice = random::stream(seed, "figures/detection");
        let mut world = World::acquainted(nodes, &network(loss), Timing::default(), seed);
        world.run(SETTLE + Duration::from_millis(dice.random_range(0..5_000)));
        let victim = dice.random_range(0..nodes);
        let name = id(&format!("n{victim}"));
        world.crash(victim);
        let crashed = world.at;
        let mut noticed = Vec::new();
        // Whoever has noticed need not be looked at again.
        for node in (0..nodes).filter(|node| *node != victim) {
            let knows = |world: &World| world.state(node, &name) >= Some(MemberState::Down);
            if !world.run_until(crashed + PATIENCE, knows) {
                world.at = crashed + PATIENCE;
            }
        }
        let deaths = world.log.iter().filter(|(at, _, event)| {
            *at >= crashed && event.name == "member-down" && event.text.starts_with(&format!("{name} "))
        });
        noticed.extend(deaths.map(|(at, _, _)| *at - crashed));
        noticed.sort();
        assert_eq!(noticed.len(), nodes - 1, "everyone notices, and once (seed {seed})");
        out.first.push(noticed[0]);
        out.last.push(noticed[noticed.len() - 1]);
    }
    out.first.sort();
    out.last.sort();
    out
}

/// How often a node that lives is called down by another, and how often it is suspected, in a long time.
pub fn false_deaths(nodes: usize, loss: f64, plan: &Plan) -> (usize, usize) {
    let mut world = World::acquainted(nodes, &network(loss), Timing::default(), plan.seed);
    let (mut deaths, mut suspicions) = (0, 0);
    for _ in 0..plan.hours * 60 {
        world.run(Duration::from_secs(60));
        deaths += world.told("member-down");
        suspicions += world.told("member-suspect");
        world.log.clear();
    }
    (deaths, suspicions)
}

/// Messages and bytes that each node sends per second when nothing happens.
pub fn idle(nodes: usize, plan: &Plan) -> (f64, f64) {
    let time = Duration::from_secs(1_800);
    let mut world = World::acquainted(nodes, &network(0.0), Timing::default(), plan.seed);
    world.run(Duration::from_secs(60));
    world.sent = (0, 0);
    world.run(time);
    let share = 1.0 / (nodes as f64 * time.as_secs_f64());
    (world.sent.0 as f64 * share, world.sent.1 as f64 * share)
}

/// One node changes what it says of itself, once per run.
pub fn spread(nodes: usize, loss: f64, plan: &Plan) -> Spread {
    let mut out = Spread { everywhere: Vec::new(), redundant: 0.0 };
    let mut copies = 0;
    for seed in plan.seed..plan.seed + plan.runs {
        let mut dice = random::stream(seed, "figures/spread");
        let mut world = World::acquainted(nodes, &network(loss), Timing::default(), seed);
        world.run(SETTLE);
        let source = dice.random_range(0..nodes);
        world.with(source, |table, now, _| table.update_me(now, |_| {}));
        let me = world.table(source).expect("it runs").me().clone();
        let fact = (me.life, me.incarnation);
        world.watched = Some(Watched { id: me.id.clone(), since: fact, copies: 0 });
        let begun = world.at;
        for node in (0..nodes).filter(|node| *node != source) {
            let knows = |world: &World| {
                let held = world.table(node).and_then(|table| table.member(&me.id));
                held.is_some_and(|held| (held.life, held.incarnation) >= fact)
            };
            world.run_until(begun + PATIENCE, knows);
        }
        out.everywhere.push(world.at - begun);
        // What is still being said of it costs as well.
        world.run(Duration::from_secs(10));
        copies += world.watched.take().expect("set above").copies;
    }
    out.everywhere.sort();
    let needed = plan.runs as f64 * (nodes as f64 - 1.0);
    out.redundant = copies as f64 / needed - 1.0;
    out
}

/// The value that a share of all values does not exceed.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}

/// All figures as tables.
pub fn report(plan: &Plan, mut progress: impl FnMut(&str)) -> String {
    let mut text = String::new();
    let mut line = |progress: &mut dyn FnMut(&str), row: String| {
        progress(&row);
        writeln!(text, "{row}").expect("a string takes any text");
    };
    let last = plan.seed + plan.runs - 1;
    let head = format!("Seeds {}..={last}; long runs seed {}.\n", plan.seed, plan.seed);
    line(&mut progress, head);
    line(
        &mut progress,
        "| a crash is noticed by | nodes | loss | p50 | p99 | max |\n|---|---|---|---|---|---|".into(),
    );
    for (nodes, loss) in [(5, 0.0), (50, 0.0), (200, 0.0), (5, 0.25), (50, 0.25), (200, 0.25)] {
        let Detection { first, last } = detection(nodes, loss, plan);
        for (who, times) in [("the first", first), ("the last", last)] {
            let row =
                [0.5, 0.99, 1.0].map(|share| format!("{:.2} s", percentile(&times, share).as_secs_f64()));
            line(&mut progress, format!("| {who} | {nodes} | {:.0} % | {} |", loss * 100.0, row.join(" | ")));
        }
    }
    line(&mut progress, "\n| a new fact reaches all | nodes | loss | p50 | p99 | max | redundant copies per node |\n|---|---|---|---|---|---|---|".into());
    for (nodes, loss) in [(10, 0.0), (50, 0.0), (200, 0.0), (200, 0.25)] {
        let Spread { everywhere, redundant } = spread(nodes, loss, plan);
        let row = [0.5, 0.99, 1.0].map(|share| format!("{} ms", percentile(&everywhere, share).as_millis()));
        line(
            &mut progress,
            format!("| | {nodes} | {:.0} % | {} | {redundant:.1} |", loss * 100.0, row.join(" | ")),
        );
    }
    line(&mut progress, "\n| idle, sent per node and second | messages | bytes |\n|---|---|---|".into());
    for nodes in [10, 100] {
        let (messages, bytes) = idle(nodes, plan);
        line(&mut progress, format!("| {nodes} nodes | {messages:.1} | {bytes:.0} |"));
    }
    let head = format!(
        "\n| {} simulated hours, 50 nodes, loss | false deaths | suspicions |\n|---|---|---|",
        plan.hours
    );
    line(&mut progress, head);
    for loss in [0.0, 0.1, 0.25] {
        let (deaths, suspicions) = false_deaths(50, loss, plan);
        line(&mut progress, format!("| {:.0} % | {deaths} | {suspicions} |", loss * 100.0));
    }
    text
}
