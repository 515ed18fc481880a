use std::collections::BTreeSet;

use super::super::super::scenario::parse::parse;
use super::*;

const STORY: &str = "
cluster: { nodes: a b c }
clocks: { skew: any of -500ms..500ms, b: { skew: 3s } }
network: { delay: any of 1ms..20ms }
workload: { clients: 3, keys: 5, rate: 50/s, mix: put 6 get 3 delete 1 }
timeline: [ 1s heal, 5s set delay any of 1ms..9ms, 20s stop workload, 30s heal ]
";

fn story() -> Scenario {
    parse("story.yaml", STORY).expect("a story")
}

fn load(story: &Scenario) -> Vec<&Timed> {
    let of_load = |step: &Step| matches!(step, Step::Put { .. } | Step::Get { .. } | Step::Delete { .. });
    story.timeline.iter().filter(|timed| of_load(&timed.step)).collect()
}

#[test]
fn load_comes_at_its_rate_and_in_its_mix_until_it_is_stopped() {
    let story = materialise(&story(), 7);

    let load = load(&story);
    assert!((900..1100).contains(&load.len()), "{} of 1000 expected", load.len());
    assert!(load.iter().all(|timed| timed.at < Duration::from_secs(20)));
    let puts = load.iter().filter(|timed| matches!(timed.step, Step::Put { .. })).count();
    assert!((520..680).contains(&puts), "{puts} of 600 expected");
    assert!(story.timeline.is_sorted_by_key(|timed| timed.at));
    assert_eq!(story.workload, None);
    assert_eq!(story.end(), Duration::from_secs(30));
}

#[test]
fn every_value_of_the_load_is_unique_and_every_key_its_own() {
    let story = materialise(&story(), 7);
    let mut values = BTreeSet::new();

    for timed in load(&story) {
        if let Step::Put { key, value, .. } = &timed.step {
            assert!(values.insert(value.clone()), "{value} twice");
            assert!(key.starts_with(b"w/"));
        }
    }
}

#[test]
fn what_is_drawn_once_is_drawn_now() {
    let plan = materialise(&story(), 7);

    let once = |draw: &Draw<Duration>| matches!(draw, Draw::Once(_));
    assert!(!once(&plan.network.delay));
    assert!(plan.timeline.iter().all(|timed| !matches!(&timed.step, Step::SetDelay(delay) if once(delay))));
    let skews: Vec<_> = plan.clocks.nodes.iter().map(|(node, model)| (node.as_str(), &model.skew)).collect();
    assert_eq!(skews.len(), 3);
    assert!(skews.contains(&("b", &Draw::Each(3000..=3000))));
    assert!(skews.iter().all(|(_, skew)| matches!(skew, Draw::Each(range) if range.start() == range.end())));
    assert_ne!(plan, materialise(&story(), 8));
}

#[test]
fn an_explicit_plan_stays_as_it_is() {
    let plan = materialise(&story(), 7);

    assert_eq!(materialise(&plan, 7), plan);
    let yaml = crate::scenario::write::to_yaml(&plan);
    assert_eq!(parse("plan.yaml", &yaml).expect("a plan is a scenario"), plan);
}
