use super::*;
use crate::scenario::{Scenario, Step, Timed, WriteOptions};
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
    let mut stage = Stage::new(scenario, seed, None, Trace::hashed());
    let at = play(&mut stage);
    stage.finish(at).unwrap()
}

#[test]
fn a_quiet_cluster_keeps_every_promise() {
    let writes = (0..20).map(|n| (1_000 + n * 50, put("a", &format!("k/{n}"), &format!("v{n}"))));
    let ending = live(&scenario(writes), 7);

    assert_eq!(ending.violations, []);
    assert!(ending.is_complete && ending.converged_after.is_some());
}
