//! Makes a story explicit: what `any of` leaves open is drawn, and background load becomes steps.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::RngExt;
use rand::distr::uniform::SampleUniform;
use reknit::model::Ack;

use super::dice::Dice;
use crate::random::stream;
use crate::scenario::{Draw, Scenario, Step, Timed, Workload, WriteOptions};

/// The same story with nothing left to draw but what is drawn per message or per persist; its seed is `seed`.
///
/// The load ends at `stop workload`, or else with the timeline. Keys are `w/1`, `w/2`, …, values unique.
pub fn materialise(scenario: &Scenario, seed: u64) -> Scenario {
    let mut story = scenario.clone();
    story.seed = Some(seed);
    settle(seed, "network/delay", &mut story.network.delay, micros_of, Duration::from_micros);
    settle(seed, "disks/persist", &mut story.disks.persist, micros_of, Duration::from_micros);
    settle_clocks(seed, &mut story);
    for (index, timed) in story.timeline.iter_mut().enumerate() {
        if let Step::SetDelay(delay) = &mut timed.step {
            settle(seed, &format!("step/{index}/delay"), delay, micros_of, Duration::from_micros);
        }
    }
    if let Some(load) = story.workload.take() {
        let stop = story.timeline.iter().find(|timed| timed.step == Step::StopWorkload);
        let end = stop.map_or(story.end(), |timed| timed.at);
        let clients =
            (1..=load.clients).flat_map(|client| client_steps(seed, client, &load, &story.nodes, end));
        let steps: Vec<Timed> = clients.collect();
        // Stable: at equal times the story's own steps stay in front.
        story.timeline.extend(steps);
        story.timeline.sort_by_key(|timed| timed.at);
    }
    story
}

fn micros_of(duration: &Duration) -> u64 {
    u64::try_from(duration.as_micros()).expect("delays are shorter than centuries")
}

fn settle<T: Clone + PartialOrd, N: SampleUniform + PartialOrd>(
    seed: u64,
    name: &str,
    draw: &mut Draw<T>,
    number_of: impl Fn(&T) -> N,
    of_number: impl Fn(N) -> T,
) {
    let Draw::Once(range) = draw else { return };
    let numbers: RangeInclusive<N> = number_of(range.start())..=number_of(range.end());
    let drawn = of_number(stream(seed, &format!("plan/once/{name}")).random_range(numbers));
    // A range of less than a microsecond would otherwise be left at its lower end.
    let drawn = if drawn < *range.start() { range.start().clone() } else { drawn };
    *draw = Draw::Each(drawn.clone()..=drawn);
}

/// A skew that is drawn for all is drawn for each: every node then has a clock of its own.
fn settle_clocks(seed: u64, story: &mut Scenario) {
    let nodes: Vec<String> = story.all_nodes().cloned().collect();
    let clocks = &mut story.clocks;
    if matches!(clocks.all.skew, Draw::Once(_)) {
        for node in nodes {
            if !clocks.nodes.iter().any(|(named, _)| *named == node) {
                clocks.nodes.push((node, clocks.all.clone()));
            }
        }
        clocks.all.skew = Draw::Each(0..=0);
    }
    for (node, model) in &mut clocks.nodes {
        settle(seed, &format!("clock/{node}"), &mut model.skew, |skew| *skew, |skew| skew);
    }
}

fn client_steps(seed: u64, client: u32, load: &Workload, nodes: &[String], end: Duration) -> Vec<Timed> {
    let mut steps = Vec::new();
    if load.rate <= 0.0 {
        return steps;
    }
    let mut dice = Dice::of(seed, &format!("workload/client/{client}"));
    let mean = Duration::from_secs_f64(f64::from(load.clients) / load.rate);
    let mut at = dice.exponential(mean);
    let mut number = 0;
    while at < end {
        number += 1;
        let node = dice.pick(nodes).clone();
        let key = format!("w/{}", dice.number(1, load.keys.into())).into_bytes();
        let options = WriteOptions::default();
        let mix = &load.mix;
        let step = match dice.weighted(&[(mix.put.into(), 0), (mix.get.into(), 1), (mix.delete.into(), 2)]) {
            0 => Step::Put { node, key, value: format!("client{client}.{number}"), options },
            1 => Step::Get { node, key, asked: Ack::Local },
            _ => Step::Delete { node, key, options },
        };
        steps.push(Timed { at, step });
        // A clock tick at least, so that no draw can make this endless.
        at += dice.exponential(mean).max(Duration::from_micros(100));
    }
    steps
}

#[cfg(test)]
#[path = "materialise_tests.rs"]
mod tests;
