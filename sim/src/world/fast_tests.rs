use super::*;
use reknit::model::Ack;

use crate::scenario::{Expectation, Found, Place, Scenario, Step, Timed, WriteOptions};
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

fn live(scenario: &Scenario, seed: u64) -> Ending {
    let Played { stage, at, .. } = play(Stage::new(scenario, seed, None, Trace::hashed()));
    stage.finish(at).unwrap()
}

#[test]
fn a_quiet_cluster_keeps_every_promise() {
    let writes = (0..20).map(|n| (1_000 + n * 50, put("a", &format!("k/{n}"), &format!("v{n}"))));
    let ending = live(&scenario(writes), 7);

    assert_eq!(ending.violations, []);
    assert!(ending.is_complete && ending.converged_after.is_some());
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

    let said: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert_eq!(violations.len(), 2, "{said:?}");
    assert!(violations.iter().all(|violation| violation.code == "STORY"), "{said:?}");
}

#[test]
fn a_status_is_expected_of_one_answer() {
    let mut story = scenario([]);
    let with = |ack, expect| Step::Put {
        node: "a".to_owned(),
        key: b"k".to_vec(),
        value: "v".to_owned(),
        options: WriteOptions { ack, ttl: None, offset: None, saw: false, expect: Some(expect) },
    };
    let at = |millis, step| Timed { at: Duration::from_millis(millis), step };
    story.timeline = vec![
        at(2_000, with(Ack::Nodes(3), 200)),
        at(3_000, with(Ack::Nodes(4), 400)),
        at(4_000, Step::Isolate("a".to_owned())),
        at(4_500, with(Ack::Majority, 504)),
        at(12_000, Step::Heal),
    ];

    assert_eq!(live(&story, 7).violations, []);
}

#[test]
fn power_may_fail_at_every_boundary() {
    for boundary in
        [Boundary::BetweenTurns, Boundary::BeforePersist, Boundary::AfterPersist, Boundary::MidSend]
    {
        let steps = (0..40).flat_map(|n: u64| {
            let at = 1_000 + n * 500;
            let (key, value) = (format!("k/{}", n % 7), format!("v{n}"));
            let write = (at + 3, put("b", &key, &value));
            let other = (at + 4, put(if n.is_multiple_of(2) { "a" } else { "c" }, &key, &format!("w{n}")));
            let off = (at, crash("b", boundary));
            let on = (at + 400, Step::Restart("b".to_owned()));
            if n % 4 == 1 { vec![off, write, other, on] } else { vec![write, other] }
        });
        let ending = live(&scenario(steps), 7);

        assert_eq!(ending.violations, [], "{boundary:?}");
        // The ten crashes of the story, three for the power cycle, and the one that everybody must notice.
        assert_eq!(ending.counts["restarts"], 14, "{boundary:?}");
    }
}

#[test]
fn the_same_seed_leaves_the_same_trace_and_another_one_another() {
    let mut story = scenario((0..50).map(|n| (1_000 + n * 37, put("b", "k", &format!("v{n}")))));
    (story.network.loss, story.network.duplicate) = (0.1, 0.1);
    (story.network.corrupt, story.network.tail) = (0.02, 0.01);

    assert_eq!(live(&story, 7).trace_hash, live(&story, 7).trace_hash);
    assert_ne!(live(&story, 7).trace_hash, live(&story, 8).trace_hash);
    assert_eq!(live(&story, 7).violations, []);
}

#[test]
fn disks_are_wiped_restored_and_cloned_and_the_cluster_goes_on() {
    let name = |name: &str| name.to_owned();
    let story = scenario([
        (1_000, put("a", "k/1", "one")),
        (2_000, Step::Backup(name("b"))),
        (3_000, put("b", "k/2", "two")),
        (5_000, crash("b", Boundary::BetweenTurns)),
        (5_500, Step::Restore(name("b"))),
        (6_000, Step::Restart(name("b"))),
        (7_000, put("b", "k/3", "three")),
        (9_000, Step::Wipe(name("c"))),
        (9_500, put("a", "k/4", "four")),
        (10_000, Step::Restart(name("c"))),
        (12_000, crash("c", Boundary::BetweenTurns)),
        (13_000, Step::Clone { from: name("a"), to: name("c") }),
        (14_000, Step::Restart(name("c"))),
        (14_500, put("c", "k/5", "five")),
    ]);

    let ending = live(&story, 7);

    assert_eq!(ending.violations, []);
    assert_eq!(ending.counts["disks_replaced"], 3);
}

#[test]
fn a_node_joins_late_leaves_and_is_removed() {
    let name = |name: &str| name.to_owned();
    let mut story = scenario([
        (1_000, put("a", "k/1", "one")),
        (3_000, Step::Join(name("d"))),
        (5_000, put("d", "k/2", "two")),
        (7_000, Step::Leave(name("c"))),
        (8_000, crash("b", Boundary::BetweenTurns)),
        (14_000, Step::Remove(name("b"))),
        (15_000, put("a", "k/3", "three")),
    ]);
    story.later = vec![name("d")];
    story.check =
        vec![is(Place::Everywhere, "k/2", Found::Found), is(Place::Node(name("d")), "k/3", Found::Found)];

    assert_eq!(live(&story, 7).violations, []);
}

#[test]
fn pauses_partitions_and_wrong_clocks_are_survived() {
    let name = |name: &str| name.to_owned();
    let mut steps: Vec<(u64, Step)> = (0..100)
        .map(|n| {
            (1_000 + n * 100, put(["a", "b", "c"][n as usize % 3], &format!("k/{}", n % 5), &format!("v{n}")))
        })
        .collect();
    steps.extend([
        (1_900, Step::Pause(name("a"))),
        (2_500, Step::Jump(name("b"), -10_000)),
        (3_000, Step::Partition(vec![vec![name("a"), name("b")], vec![name("c")]])),
        (4_100, Step::Resume(name("a"))),
        (5_000, Step::Freeze(name("c"))),
        (6_000, Step::Cut { from: name("a"), to: name("b") }),
        (7_000, Step::Skew(name("a"), 5_000)),
        (8_000, Step::Heal),
    ]);
    steps.sort_by_key(|(at, _)| *at);

    assert_eq!(live(&scenario(steps), 7).violations, []);
}

#[test]
fn a_run_that_is_stopped_early_shows_its_machines_and_is_not_complete() {
    let later = (9_000, put("a", "k", "w"));
    let story = scenario([(1_000, put("a", "k", "v")), (5_000, crash("c", Boundary::BetweenTurns)), later]);
    let stage = Stage::new(&story, 7, Some(Duration::from_secs(6)), Trace::hashed());

    let Played { stage, at, states } = play(stage);

    assert_eq!(at, Duration::from_secs(6));
    let shown: Vec<(&str, usize)> = states.iter().map(|state| (state.state, state.records)).collect();
    assert_eq!(shown, [("up", 1), ("up", 1), ("down", 1)]);
    assert!(!stage.finish(at).unwrap().is_complete);
}
