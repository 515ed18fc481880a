use super::*;
use crate::scenario::{Expectation, Found, Place, Step, Timed, WriteOptions};

/// Every third seed expects what will not be.
fn scenario(seed: u64) -> Scenario {
    let mut scenario = Scenario::quiet("thirds", ["a", "b"].map(str::to_owned).to_vec());
    let step = Step::Put {
        node: "a".to_owned(),
        key: b"k".to_vec(),
        value: "v".to_owned(),
        options: WriteOptions::default(),
    };
    scenario.timeline.push(Timed { at: Duration::from_secs(1), step });
    let is = if seed.is_multiple_of(3) { Found::Absent } else { Found::Found };
    scenario.check.push(Expectation::Get { place: Place::Everywhere, key: b"k".to_vec(), is });
    scenario
}

#[test]
fn failures_are_grouped_and_told_in_the_order_of_seeds() {
    let bar = ProgressBar::hidden();
    let outcomes = live_all(&scenario, &None, 0..10, World::Fast, (&Rows::new(0, &bar), &None)).unwrap();

    let seeds: Vec<u64> = outcomes.iter().map(|outcome| outcome.seed).collect();
    assert_eq!(seeds, (0..10).collect::<Vec<_>>());
    let failed: Vec<u64> = outcomes
        .iter()
        .filter(|outcome| outcome.verdict == Verdict::Failed)
        .map(|outcome| outcome.seed)
        .collect();
    assert_eq!(failed, [0, 3, 6, 9]);
}

#[test]
fn a_sweep_tells_the_same_each_time() {
    let passing = |seed: u64| scenario(3 * seed + 1);
    let tell = || sweep(&passing, Some("thirds"), 0..8, World::Fast, (false, None)).unwrap().text();

    assert_eq!(tell(), tell());
    assert!(tell().contains("PASSED thirds seeds=0..8 world=fast: 8 passed, 0 failed"), "{}", tell());
}

#[test]
fn a_sweep_that_is_stopped_tells_what_it_learned_and_is_no_success() {
    let passing = |seed: u64| scenario(3 * seed + 1);
    let stop = Some(Arc::new(AtomicBool::new(true)));

    let swept = sweep(&passing, Some("thirds"), 0..8, World::Fast, (false, stop)).unwrap();

    assert!(swept.is_stopped);
    assert!(swept.verdict().starts_with("STOPPED thirds"), "{}", swept.verdict());
}
