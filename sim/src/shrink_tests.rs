use std::time::Duration;

use super::pieces::{self, Size};
use super::{shrink, simpler};
use crate::run::World;
use crate::scenario::parse::parse;
use crate::scenario::{Scenario, Step};
use crate::{plan, scenario};

fn story(yaml: &str) -> Scenario {
    parse("small", yaml).expect("the test's story is right")
}

const LONG: &str = "
cluster: { nodes: a b c }
timeline:
  - 1s put a k red
  - 2s crash c
  - 3s put a k blue
  - 3500ms isolate b
  - 4s get b k
  - 5s restart c
  - 6s heal
  - 7s skew a +5s
  - 8s expect get a k is green
  - 9s put b other x
";

#[test]
fn a_failure_keeps_what_it_needs_and_loses_the_rest() {
    let story = story(LONG);

    let shrunk = shrink(&story, 1, World::Fast, "STORY/reply", Duration::from_secs(120)).unwrap().unwrap();

    let left: Vec<String> = shrunk.scenario.timeline.iter().map(|timed| timed.step.to_string()).collect();
    assert_eq!(left, ["put a k red", "put a k blue", "get b k", "expect get a k is green"]);
    assert_eq!(shrunk.sizes.1, Size { operations: 4, faults: 0, nodes: 3 });
    assert_eq!(shrunk.violation.signature(), "STORY/reply");
}

#[test]
fn what_does_not_fail_as_was_said_is_not_made_small() {
    let story = story(LONG);

    assert!(shrink(&story, 1, World::Fast, "DUR/reply", Duration::from_secs(5)).unwrap().is_none());
}

#[test]
fn a_fault_goes_with_its_end() {
    let story = story(LONG);

    let pieces = pieces::faults(&story);

    assert_eq!(pieces, [vec![1, 5], vec![3, 6], vec![7]]);
    assert_eq!(Size::of(&story), Size { operations: 5, faults: 3, nodes: 3 });
}

#[test]
fn a_restart_without_its_crash_is_no_step() {
    let story = story(LONG);

    let left = pieces::sensible(pieces::keeping(&story, |step, _| step != 1 && step != 3));

    assert!(!left.timeline.iter().any(|timed| matches!(timed.step, Step::Restart(_) | Step::Heal)));
}

#[test]
fn a_node_leaves_with_its_faults_and_another_is_asked_instead() {
    let story = story(LONG);

    let without = pieces::without_node(&story, "b", Some("a"));

    let left: Vec<String> = without.timeline.iter().map(|timed| timed.step.to_string()).collect();
    assert!(left.contains(&"get a k".to_owned()), "{left:?}");
    assert!(!left.iter().any(|step| step.starts_with("isolate")), "{left:?}");
    assert_eq!(without.nodes, ["a", "c"]);
}

#[test]
fn every_plainer_form_of_a_life_is_a_story_that_can_be_read_back() {
    for seed in 0..5 {
        let life = plan::life(seed);
        let mut forms = vec![
            simpler::calm(&life),
            simpler::plain_keys(&life),
            simpler::plain_values(&life),
            simpler::plain_nodes(&life),
            pieces::without_node(&life, &life.nodes[0], None),
        ];
        for step in (0..life.timeline.len()).step_by(17) {
            forms.extend(simpler::steps(&life, step));
            forms.extend(simpler::times(&life, step));
        }
        for form in forms.into_iter().map(pieces::sensible) {
            let yaml = scenario::write::to_yaml(&form);

            assert_eq!(parse("life", &yaml).expect(&yaml), form);
        }
    }
}
