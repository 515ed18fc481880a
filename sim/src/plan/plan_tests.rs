use std::collections::{BTreeMap, BTreeSet};

use crate::scenario::parse::parse;
use crate::scenario::stage::Stage;
use crate::scenario::write::to_yaml;
use crate::scenario::{Boundary, Draw, OnCrash, Step};

use super::*;

const SEEDS: u64 = 300;

#[test]
fn every_life_writes_and_parses_back_equal() {
    for seed in 0..SEEDS {
        let life = life(seed);
        let yaml = to_yaml(&life);
        let read = parse("plan.yaml", &yaml).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(read, life, "seed {seed}");
    }
}

#[test]
fn every_life_stands_in_time_order_and_makes_sense() {
    let all = Faults { disk_loss: true, membership: true };
    for seed in 0..SEEDS {
        for life in [life(seed), life_with(seed, all)] {
            assert!(life.timeline.is_sorted_by_key(|timed| timed.at), "seed {seed}");
            assert!(life.end() <= LIFE, "seed {seed}");
            let mut stage = Stage::of(&life);
            for timed in &life.timeline {
                stage.play(&timed.step).unwrap_or_else(|why| panic!("seed {seed}: {timed}: {why}"));
            }
        }
    }
}

#[test]
fn a_seed_always_stands_for_the_same_life() {
    assert!((0..SEEDS).all(|seed| life(seed) == life(seed)));
    let lives: BTreeSet<String> = (0..SEEDS).map(|seed| to_yaml(&life(seed))).collect();
    assert_eq!(lives.len(), SEEDS as usize);
}

#[test]
fn every_value_is_put_under_one_key_only() {
    for seed in 0..SEEDS {
        let mut values = BTreeMap::new();
        for timed in life(seed).timeline {
            if let Step::Put { key, value, .. } = timed.step {
                let other = values.insert(value, key.clone());
                assert!(other.is_none_or(|other| other == key), "seed {seed}");
            }
        }
    }
}

#[test]
fn disks_and_members_stay_unless_their_loss_was_asked_for() {
    for seed in 0..SEEDS {
        let life = life_with(seed, Faults::default());
        let lost =
            life.timeline.iter().find(|timed| kind(&timed.step).is_some_and(|kind| EXTRA.contains(&kind)));
        assert_eq!(lost, None, "seed {seed}");
        assert!(life.later.is_empty());
    }
}

const EXTRA: [&str; 7] = ["wipe", "backup", "restore", "clone", "join", "leave", "remove"];

fn kind(step: &Step) -> Option<&'static str> {
    Some(match step {
        Step::Crash { boundary: Boundary::BetweenTurns, .. } => "crash",
        Step::Crash { boundary: Boundary::BeforePersist, .. } => "crash before-persist",
        Step::Crash { boundary: Boundary::AfterPersist, .. } => "crash after-persist",
        Step::Crash { boundary: Boundary::MidSend, .. } => "crash mid-send",
        Step::Crash { boundary: Boundary::On(_), .. } => "crash on point",
        Step::Crash { boundary: Boundary::IoError, .. } => "io error",
        Step::Crash { boundary: Boundary::DiskFull, .. } => "disk full",
        Step::IsolateOn(..) => "isolate on point",
        Step::Clog(_) => "clog",
        Step::Unclog(_) => "unclog",
        Step::Slow(_, 1) => "quick",
        Step::Slow(..) => "slow",
        Step::Rot(..) => "rot",
        Step::Configure(..) => "configure",
        Step::SetBandwidth(_) => "set bandwidth",
        Step::Restart(_) => "restart",
        Step::Pause(_) => "pause",
        Step::Resume(_) => "resume",
        Step::Wipe(_) => "wipe",
        Step::Backup(_) => "backup",
        Step::Restore(_) => "restore",
        Step::Clone { .. } => "clone",
        Step::Join(_) => "join",
        Step::Leave(_) => "leave",
        Step::Remove(_) => "remove",
        Step::Partition(_) => "partition",
        Step::Isolate(_) => "isolate",
        Step::Cut { .. } => "cut",
        Step::Heal => "heal",
        Step::Skew(..) => "set skew",
        Step::Jump(_, offset) if offset.abs() > 100_000_000 => "far future",
        Step::Jump(..) => "jump",
        Step::Freeze(_) => "freeze",
        Step::Thaw(_) => "thaw",
        Step::SetLoss(_) => "set loss",
        Step::SetDuplicate(_) => "set duplicate",
        Step::SetDelay(_) => "set delay",
        Step::Put { .. } | Step::Delete { .. } | Step::Get { .. } | Step::Expect(_) | Step::StopWorkload => {
            return None;
        }
    })
}

/// What a life has: kinds of steps, and what it stands on.
fn features(life: &Scenario) -> BTreeSet<&'static str> {
    let mut found: BTreeSet<&'static str> =
        life.timeline.iter().filter_map(|timed| kind(&timed.step)).collect();
    let mut add = |name, has: bool| has.then(|| found.insert(name));
    let network = &life.network;
    add("loss", network.loss > 0.0);
    add("duplicate", network.duplicate > 0.0);
    add("corrupt", network.corrupt > 0.0);
    add("tail", network.tail > 0.0);
    add("burst", network.burst > 1);
    add("bandwidth", network.bandwidth.is_some());
    add("spikes", life.disks.spikes > 0.0);
    add("storm", life.timeline.len() as u64 > OPERATIONS.1 + STORM);
    add("delay", network.delay != Scenario::quiet("", Vec::new()).network.delay);
    add("coarse clocks", life.clocks.all.granularity == Duration::from_millis(100));
    add("skew", life.clocks.nodes.iter().any(|(_, model)| model.skew != Draw::Each(0..=0)));
    add("drift", life.clocks.nodes.iter().any(|(_, model)| model.drift_ppm != 0));
    add("tear", life.disks.on_crash == OnCrash::TearUnpersisted);
    add("two nodes", life.nodes.len() == 2);
    add("three nodes", life.nodes.len() == 3);
    add("four nodes", life.nodes.len() == 4);
    add("five nodes", life.nodes.len() == 5);
    for timed in &life.timeline {
        if let Step::Put { options, value, .. } = &timed.step {
            add("ttl", options.ttl.is_some());
            add("ack", options.ack != reknit::model::Ack::Local);
            add("large value", value.len() > 65_536);
        }
    }
    found
}

#[test]
fn every_kind_of_fault_occurs_often_enough() {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut calm = 0;
    for seed in 0..SEEDS {
        let life = life(seed);
        calm += u64::from(!life.timeline.iter().any(|timed| kind(&timed.step).is_some()));
        features(&life).into_iter().for_each(|feature| *counts.entry(feature).or_default() += 1);
    }
    let share = |feature: &str| counts.get(feature).copied().unwrap_or_default() * 100 / SEEDS;
    for (feature, least) in [
        ("crash", 50),
        ("crash before-persist", 30),
        ("crash after-persist", 30),
        ("crash mid-send", 30),
        ("restart", 50),
        ("pause", 40),
        ("resume", 40),
        ("partition", 50),
        ("isolate", 30),
        ("cut", 30),
        ("heal", 50),
        ("set skew", 20),
        ("jump", 30),
        ("far future", 2),
        ("freeze", 25),
        ("thaw", 25),
        ("set loss", 10),
        ("set duplicate", 10),
        ("set delay", 10),
        ("loss", 30),
        ("duplicate", 25),
        ("corrupt", 10),
        ("tail", 25),
        ("delay", 50),
        ("coarse clocks", 45),
        ("skew", 50),
        ("drift", 60),
        ("tear", 20),
        ("two nodes", 8),
        ("three nodes", 45),
        ("four nodes", 8),
        ("five nodes", 8),
        ("crash on point", 25),
        ("isolate on point", 10),
        ("io error", 25),
        ("disk full", 15),
        ("clog", 8),
        ("unclog", 8),
        ("slow", 20),
        ("quick", 20),
        ("rot", 5),
        ("configure", 12),
        ("burst", 15),
        ("bandwidth", 6),
        ("spikes", 10),
        ("storm", 3),
        ("ttl", 25),
        ("ack", 40),
        ("large value", 1),
    ] {
        assert!(
            share(feature) >= least,
            "{feature} in {}% of the lives, expected {least}%: {counts:?}",
            share(feature)
        );
    }
    assert!((3..60).contains(&calm), "{calm} calm lives of {SEEDS}");
}

#[test]
fn with_all_faults_disks_and_members_come_and_go() {
    let all = Faults { disk_loss: true, membership: true };
    let found: BTreeSet<&str> = (0..SEEDS).flat_map(|seed| features(&life_with(seed, all))).collect();
    assert!(EXTRA.iter().all(|kind| found.contains(kind)), "{found:?}");
}

#[test]
fn clients_are_busy_and_race_each_other() {
    let (mut races, mut deletes, mut puts) = (0, 0, 0);
    for seed in 0..SEEDS {
        let life = life(seed);
        let writes: Vec<_> = life
            .timeline
            .iter()
            .filter_map(|timed| match &timed.step {
                Step::Put { node, key, .. } => {
                    puts += 1;
                    Some((timed.at, node, key))
                }
                Step::Delete { node, key, .. } => {
                    deletes += 1;
                    Some((timed.at, node, key))
                }
                _ => None,
            })
            .collect();
        let operations = life.timeline.iter().filter(|timed| kind(&timed.step).is_none()).count() as u64;
        assert!((OPERATIONS.0..=OPERATIONS.1 + STORM + 2).contains(&operations), "seed {seed}: {operations}");
        races += writes
            .windows(2)
            .filter(|pair| pair[0].0 == pair[1].0 && pair[0].2 == pair[1].2 && pair[0].1 != pair[1].1)
            .count();
    }
    assert!(races > 5 * SEEDS as usize, "{races} races at the same instant in {SEEDS} lives");
    assert!(deletes * 5 > puts && puts > deletes, "{deletes} deletes, {puts} puts");
}
