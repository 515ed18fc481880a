//! What the nodes of a life stand on from its start: links, clocks, disks, timers.

use std::time::Duration;

use reknit::model::{Policies, Policy, Strategy};
use reknit::node::quirks::Quirk;
use reknit::node::settings::CollisionRule;

use super::catalogue::{KNOB_PERCENT, percent};
use super::dice::Dice;
use super::kinds::{Kind, Kinds};
use crate::scenario::{ClockModel, Clocks, Disks, Draw, Network, NodeConfig, OnCrash};

/// The timers of simulated nodes: short, so that a minute holds many of each. In half of the seeds a stream has so
/// little credit that it needs several steps: only between two of them can a version be replaced behind its back.
pub fn config(seed: u64) -> NodeConfig {
    let ms = |ms| Some(Duration::from_millis(ms));
    let mut dice = Dice::of(seed, "config");
    NodeConfig {
        stream_credit: if dice.chance(50) { Some(*dice.pick(&[1, 400, 1_000, 4_000])) } else { None },
        probe_interval: ms(200),
        suspect_timeout: ms(1_000),
        gossip_interval_min: ms(1_000),
        gossip_interval_max: ms(2_000),
        // Knobs: a session after nearly every write, and a look at peers that are ahead as often.
        sync_interval: ms(if dice.chance(KNOB_PERCENT) { 300 } else { 2_000 }),
        catchup_interval: ms(if dice.chance(KNOB_PERCENT) { 150 } else { 1_000 }),
        max_clock_drift: None,
        quirks: quirks(seed),
        forget_after: None,
        policies: policies(seed),
        collision: if dice.chance(10) { Some(CollisionRule::Oldest) } else { None },
        // Shorter than many delays and partitions: what is safe must not hang on it.
        tombstone_grace: Some(*Dice::of(seed, "grace").pick(&GRACES)),
        bootstrap_window: bootstrap_window(seed),
    }
}

/// A knob: much of what there is comes after a node that was empty has begun to serve.
fn bootstrap_window(seed: u64) -> Option<Duration> {
    let mut dice = Dice::of(seed, "bootstrap window");
    dice.chance(KNOB_PERCENT).then(|| *dice.pick(&[Duration::from_secs(1), Duration::from_secs(10)]))
}

/// Each quirk in a quarter of the lives.
fn quirks(seed: u64) -> Vec<Quirk> {
    let mut dice = Dice::of(seed, "quirks");
    let all = Quirk::NAMES.into_iter().map(|(_, quirk)| quirk);
    all.filter(|_| dice.chance(KNOB_PERCENT)).collect()
}

/// In half of the lives some of the hot keys keep histories, each with a strategy of its own; and in half of them some
/// keep siblings.
fn policies(seed: u64) -> Policies {
    let mut dice = Dice::of(seed, "policies");
    let mut rules: Vec<(Vec<u8>, Policy)> = Vec::new();
    if dice.chance(50) {
        let evens = (1..=8).filter(|number| number % 2 == 0 && dice.chance(60));
        let prefixes: Vec<String> = evens.map(|number| format!("h/{number}")).collect();
        let rule = |prefix: String| (prefix.into_bytes(), Policy::History(*dice.pick(&Strategy::ALL)));
        rules.extend(prefixes.into_iter().map(rule));
    }
    let mut dice = Dice::of(seed, "siblings");
    if dice.chance(50) {
        let some = [1, 5].into_iter().filter(|_| dice.chance(70));
        rules.extend(some.map(|number| (format!("h/{number}").into_bytes(), Policy::Siblings)));
    }
    Policies::new(rules).expect("the prefixes differ")
}

/// Lengths of time that mean something to such nodes: a few messages, a probe, a suspicion, a round of sync, and
/// time enough for all of them.
pub const TIMERS: [Duration; 5] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(1_000),
    Duration::from_millis(2_000),
    Duration::from_millis(6_000),
];

const GRACES: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_millis(1_000),
    Duration::from_millis(3_000),
    Duration::from_millis(8_000),
];

/// The links at the start.
pub fn network(seed: u64, kinds: &Kinds) -> Network {
    let mut dice = Dice::of(seed, "network");
    let ms = Duration::from_millis;
    let delay = if kinds.has(Kind::Delay) {
        let low = dice.between(ms(0), ms(30));
        low..=low + dice.log_between(ms(1), ms(200))
    } else {
        ms(1)..=ms(5)
    };
    let mut share = |kind, high| {
        if kinds.has(kind) && dice.chance(percent(kind)) { dice.share(1, high) } else { 0.0 }
    };
    Network {
        delay: Draw::Each(delay),
        loss: share(Kind::Loss, 300),
        duplicate: share(Kind::Duplicate, 300),
        corrupt: share(Kind::Corrupt, 10),
        tail: share(Kind::Tail, 20),
        burst: burst(seed, kinds),
        bandwidth: bandwidth(seed, kinds),
    }
}

fn burst(seed: u64, kinds: &Kinds) -> u32 {
    let mut dice = Dice::of(seed, "burst");
    let comes = kinds.has(Kind::Burst) && dice.chance(percent(Kind::Burst));
    if comes { dice.number(3, 20) as u32 } else { 1 }
}

fn bandwidth(seed: u64, kinds: &Kinds) -> Option<u64> {
    let mut dice = Dice::of(seed, "bandwidth");
    let comes = kinds.has(Kind::Bandwidth) && dice.chance(percent(Kind::Bandwidth));
    // 8 kB/s to 8 MB/s: as likely to be ten times as much wherever one stands.
    comes.then(|| *dice.pick(&[8_000, 25_000, 80_000, 250_000, 800_000, 2_500_000, 8_000_000]))
}

/// The clocks: one granularity for all, an offset and a drift for each.
pub fn clocks(seed: u64, kinds: &Kinds, nodes: &[String]) -> Clocks {
    let mut dice = Dice::of(seed, "clocks");
    let millis: u64 = match kinds.has(Kind::Coarse) {
        true => dice.weighted(&[(12, 100), (2, 10), (2, 1_000)]),
        false => 1,
    };
    let all =
        ClockModel { skew: Draw::Each(0..=0), granularity: Duration::from_millis(millis), drift_ppm: 0 };
    let clock = |node: &String| {
        let mut dice = Dice::of(seed, &format!("clock/{node}"));
        let mut model = all.clone();
        if kinds.has(Kind::Skew) {
            let skew = skew(&mut dice);
            model.skew = Draw::Each(skew..=skew);
        }
        if kinds.has(Kind::Drift) {
            let ppm = if dice.chance(5) { dice.number(0, 50_000) } else { dice.number(0, 500) };
            model.drift_ppm = signed(&mut dice, ppm);
        }
        (node.clone(), model)
    };
    let nodes = nodes.iter().map(clock).filter(|(_, model)| *model != all).collect();
    Clocks { all, nodes }
}

fn skew(dice: &mut Dice) -> i64 {
    let ms = Duration::from_millis;
    let size = match dice.number(0, 99) {
        0..40 => Duration::ZERO,
        40..70 => dice.between(ms(0), ms(50)),
        70..95 => dice.log_between(ms(50), ms(5_000)),
        _ => dice.log_between(ms(5_000), ms(50_000)),
    };
    signed(dice, millis(size))
}

/// This number, or its negative.
pub fn signed(dice: &mut Dice, size: u64) -> i64 {
    let size = i64::try_from(size).expect("sizes are small");
    if dice.chance(50) { size } else { -size }
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("plans last less than centuries")
}

/// The disks.
pub fn disks(seed: u64, kinds: &Kinds) -> Disks {
    let mut dice = Dice::of(seed, "disks");
    let ms = Duration::from_millis;
    let persist = match kinds.has(Kind::SlowDisk) {
        true => ms(1)..=ms(2) + dice.log_between(ms(1), ms(300)),
        false => ms(1)..=ms(5),
    };
    let tear = kinds.has(Kind::Tear) && dice.chance(percent(Kind::Tear));
    let on_crash = if tear { OnCrash::TearUnpersisted } else { OnCrash::LoseUnpersisted };
    let mut dice = Dice::of(seed, "spikes");
    let spikes = kinds.has(Kind::Spikes) && dice.chance(percent(Kind::Spikes));
    let spikes = if spikes { dice.share(1, 20) } else { 0.0 };
    Disks { persist: Draw::Each(persist), on_crash, spikes }
}
