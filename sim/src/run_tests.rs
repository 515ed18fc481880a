use super::*;
use crate::scenario::{Step, Timed, WriteOptions};

fn scenario(name: &str) -> Scenario {
    let mut scenario = Scenario::quiet(name, ["a", "b"].map(str::to_owned).to_vec());
    let step = Step::Put {
        node: "a".to_owned(),
        key: b"k".to_vec(),
        value: "v".to_owned(),
        options: WriteOptions::default(),
    };
    scenario.timeline.push(Timed { at: Duration::from_secs(1), step });
    scenario
}

#[test]
fn a_summary_is_the_same_for_the_same_run() {
    let called = Some("stories/same.yaml".to_owned());
    let options = || Options { called: called.clone(), ..Options::default() };
    let live = || run(&scenario("same"), 7, World::Fast, options()).unwrap();

    let (one, two) = (live(), live());

    assert_eq!(one.verdict, Verdict::Passed);
    assert_eq!(one.summary(), two.summary());
    assert!(one.summary().contains("\"again\": \"just sim seed=7 scenario=stories/same.yaml world=fast\""));
}

#[test]
fn a_run_that_is_stopped_has_no_verdict() {
    let options = Options { until: Some(Duration::from_secs(2)), ..Options::default() };
    let outcome = run(&scenario("stopped"), 7, World::Fast, options).unwrap();

    assert_eq!(outcome.verdict, Verdict::Stopped);
    assert_eq!(outcome.virtual_time, Duration::from_secs(2));
    assert_eq!(outcome.states[0].records, 1);
}

#[test]
fn a_life_is_seen_again_without_naming_a_scenario() {
    let outcome = run(&scenario("life"), 7, World::Fast, Options::default()).unwrap();

    assert_eq!(outcome.again(), "just sim seed=7 world=fast");
}
