use std::io::Write;

use super::*;
use crate::scenario::{Draw, Expectation, Found, OnCrash, Place, Scenario, Step, Timed, WriteOptions};
use crate::trace::Trace;
use crate::world::Ending;

fn scenario(steps: impl IntoIterator<Item = (u64, Step)>) -> Scenario {
    let mut scenario = Scenario::quiet("test", ["a", "b", "c"].map(str::to_owned).to_vec());
    let timed = |(millis, step)| Timed { at: Duration::from_millis(millis), step };
    scenario.timeline = steps.into_iter().map(timed).collect();
    scenario
}

fn put(node: &str, key: &str, value: &str) -> Step {
    let (node, key, value) = (node.to_owned(), key.as_bytes().to_vec(), value.to_owned());
    Step::Put { node, key, value, options: WriteOptions::default() }
}

fn delete(node: &str, key: &str) -> Step {
    Step::Delete { node: node.to_owned(), key: key.as_bytes().to_vec(), options: WriteOptions::default() }
}

fn crash(node: &str, boundary: Boundary) -> Step {
    Step::Crash { node: node.to_owned(), boundary }
}

fn is(place: Place, key: &str, is: Found) -> Expectation {
    Expectation::Get { place, key: key.as_bytes().to_vec(), is }
}

fn live(scenario: &Scenario, seed: u64) -> Ending {
    let Played { stage, at, .. } = play(Stage::new(scenario, seed, None, Trace::hashed()));
    stage.finish(at).unwrap()
}

/// Everything at once, so that little of the world is left out.
fn eventful() -> Scenario {
    let mut story = scenario([
        (1_000, put("a", "k/1", "one")),
        (1_500, put("b", "k/2", "two")),
        (2_000, crash("c", Boundary::BetweenTurns)),
        (2_500, Step::Partition(vec![vec!["a".to_owned()], vec!["b".to_owned()]])),
        (3_000, put("a", "k/3", "three")),
        (3_000, put("b", "k/3", "drei")),
        (3_500, delete("b", "k/1")),
        (4_000, Step::Heal),
        (4_100, Step::Pause("b".to_owned())),
        (4_200, put("a", "k/4", "four")),
        (4_900, Step::Resume("b".to_owned())),
        (5_000, Step::Restart("c".to_owned())),
        (5_500, crash("a", Boundary::BeforePersist)),
        (5_600, put("a", "k/5", "five")),
        (6_000, Step::Restart("a".to_owned())),
        (6_500, crash("a", Boundary::AfterPersist)),
        (6_600, put("a", "k/5", "fünf")),
        (7_000, Step::Restart("a".to_owned())),
        (7_500, crash("b", Boundary::MidSend)),
        (7_600, put("b", "k/6", "six")),
        (8_000, Step::Restart("b".to_owned())),
        (8_100, Step::Backup("b".to_owned())),
        (8_200, put("c", "k/7", "seven")),
        (8_300, Step::Jump("c".to_owned(), -5_000)),
        (8_400, put("c", "k/8", "eight")),
    ]);
    story.network.loss = 0.05;
    story.network.duplicate = 0.05;
    story.network.corrupt = 0.02;
    story.network.delay = Draw::Each(Duration::from_millis(1)..=Duration::from_millis(40));
    story.disks.on_crash = OnCrash::TearUnpersisted;
    story
}

#[test]
fn a_quiet_cluster_keeps_every_promise() {
    let writes = (0..20).map(|n| (1_000 + n * 50, put("a", &format!("k/{n}"), &format!("v{n}"))));
    let ending = live(&scenario(writes), 7);

    assert_eq!(ending.violations, []);
    assert!(ending.is_complete && ending.converged_after.is_some());
}

#[test]
fn a_node_that_was_down_learns_of_writes_and_deletes() {
    let mut story = scenario([
        (1_000, put("a", "k/1", "one")),
        (1_500, put("b", "k/2", "two")),
        (3_000, crash("c", Boundary::BetweenTurns)),
        (4_000, put("a", "k/3", "three")),
        (5_000, delete("b", "k/1")),
        (8_000, Step::Restart("c".to_owned())),
    ]);
    story.check = vec![
        Expectation::Agree { within: Duration::from_secs(5) },
        is(Place::Everywhere, "k/1", Found::Absent),
        is(Place::Node("c".to_owned()), "k/3", Found::Value("three".to_owned())),
        Expectation::Count { place: Place::Everywhere, prefix: b"k/".to_vec(), is: 2 },
    ];

    assert_eq!(live(&story, 7).violations, []);
}

#[test]
fn what_a_story_expects_and_does_not_find_is_a_violation() {
    let mut story = scenario([(1_000, put("a", "k/1", "one"))]);
    story.check = vec![
        is(Place::Node("b".to_owned()), "k/1", Found::Absent),
        Expectation::Count { place: Place::Node("c".to_owned()), prefix: b"k/".to_vec(), is: 2 },
    ];

    let violations = live(&story, 7).violations;

    assert_eq!(violations.len(), 2, "{violations:?}");
    assert!(violations.iter().all(|violation| violation.code == "STORY"), "{violations:?}");
}

#[test]
fn crashes_partitions_and_torn_writes_break_no_promise() {
    for seed in 0..4 {
        let ending = live(&eventful(), seed);

        assert_eq!(ending.violations, [], "seed {seed}");
        assert!(ending.is_complete, "seed {seed}");
    }
}

#[test]
fn a_node_whose_power_fails_at_a_boundary_comes_back_with_what_it_acknowledged() {
    for boundary in [Boundary::BeforePersist, Boundary::AfterPersist, Boundary::MidSend] {
        let mut story = scenario([
            (1_000, put("a", "k/1", "one")),
            (2_000, crash("a", boundary)),
            (2_001, put("a", "k/2", "two")),
            (4_000, Step::Restart("a".to_owned())),
        ]);
        story.check = vec![is(Place::Everywhere, "k/1", Found::Value("one".to_owned()))];

        let ending = live(&story, 1);

        assert_eq!(ending.violations, [], "{boundary:?}");
        assert!(ending.counts["requests"] >= 2 && ending.is_complete);
    }
}

#[test]
fn disks_can_be_wiped_restored_and_cloned() {
    let mut story = scenario([
        (1_000, put("a", "k/1", "one")),
        (2_000, Step::Backup("b".to_owned())),
        (2_500, put("a", "k/2", "two")),
        (4_000, Step::Restore("b".to_owned())),
        (5_000, Step::Restart("b".to_owned())),
        (6_000, Step::Wipe("c".to_owned())),
        (7_000, Step::Restart("c".to_owned())),
        (9_000, Step::Clone { from: "a".to_owned(), to: "c".to_owned() }),
        (9_500, Step::Restart("c".to_owned())),
    ]);
    story.check = vec![
        is(Place::Everywhere, "k/1", Found::Value("one".to_owned())),
        is(Place::Everywhere, "k/2", Found::Value("two".to_owned())),
    ];

    assert_eq!(live(&story, 3).violations, []);
}

#[test]
fn a_node_that_leaves_is_gone_and_may_join_again() {
    let mut story = scenario([
        (1_000, put("a", "k/1", "one")),
        (2_000, Step::Leave("c".to_owned())),
        (4_000, put("a", "k/2", "two")),
        (6_000, Step::Join("c".to_owned())),
    ]);
    story.check = vec![is(Place::Node("c".to_owned()), "k/2", Found::Value("two".to_owned()))];

    assert_eq!(live(&story, 1).violations, []);
}

/// Lines that can be read while the trace has them.
#[derive(Clone, Default)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn one_seed_gives_one_trace_byte_for_byte() {
    let traced = |seed| {
        let (story, lines) = (eventful(), Lines::default());
        let trace = Trace::hashed().with_lines(Box::new(lines.clone()), story.nodes.clone());
        let Played { stage, at, .. } = play(Stage::new(&story, seed, None, trace));
        let hash = stage.finish(at).unwrap().trace_hash;
        (hash, String::from_utf8(lines.0.lock().unwrap().clone()).unwrap())
    };

    let (first, second, other) = (traced(5), traced(5), traced(6));

    let differ = first.1.lines().zip(second.1.lines()).find(|(one, two)| one != two);
    assert_eq!(differ, None);
    assert_eq!(first, second);
    assert_ne!(first.0, other.0);
}
