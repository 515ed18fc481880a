//! One node starts again and again while another one is away.

use std::time::Duration;

use super::ORIGINS_MAX;
use crate::model::{DotSet, Origin, Refusal, Reply, Request};
use crate::storage::{Batch, Table, rows};
use crate::testing::Cluster;

/// How many runs of nodes have written before the story begins; the rest of ten thousand it lives through.
const BEFORE: u64 = 9_970;
const RESTARTS: u64 = 30;

/// What disks hold after many runs of which each replaced what the one before had written.
fn long_life() -> Batch {
    let mut seen = DotSet::default();
    (1..=BEFORE).for_each(|run| seen.insert_run(Origin(run.wrapping_mul(0x9e37_79b9_7f4a_7c15)), 1, 3));
    let mut batch = Batch::default();
    seen.origins().for_each(|origin| rows::put_runs(&mut batch, Table::Seen, origin, seen.runs(origin)));
    batch
}

#[test]
fn after_ten_thousand_restarts_with_a_member_away_it_comes_back_within_all_bounds() {
    let mut cluster = Cluster::new("a b c", 5);
    cluster.put('a', "k", "first");
    cluster.settle();
    cluster.crash('c');
    for name in ['a', 'b'] {
        cluster.crash(name);
        cluster.damage(name, long_life());
    }
    cluster.start('a');
    cluster.start('b');
    cluster.settle();

    for restart in 0..RESTARTS {
        cluster.crash('b');
        cluster.start('b');
        cluster.run(Duration::from_millis(30));
        cluster.put('b', "k", &restart.to_string());
    }
    cluster.settle();
    cluster.start('c');
    cluster.settle();

    // That messages fit their frames is asserted with each of them.
    assert_eq!(cluster.get_everywhere("k"), ["29", "29", "29"]);
    let origins = |cluster: &mut Cluster, name| match cluster.ask(name, Request::Status) {
        Reply::Status(status) => (status.origins, status.seen_hash),
        other => panic!("{other:?}"),
    };
    let all = ['a', 'b', 'c'].map(|name| origins(&mut cluster, name));
    assert!(all[0].0 as u64 >= BEFORE + RESTARTS, "{all:?}");
    assert!(all[0] == all[1] && all[1] == all[2], "{all:?}");
}

#[test]
fn a_run_that_would_be_one_too_many_takes_no_writes_and_says_why() {
    let mut cluster = Cluster::new("a", 6);
    cluster.crash('a');
    let mut seen = DotSet::default();
    (1..=ORIGINS_MAX as u64).for_each(|run| seen.insert_run(Origin(run), 1, 1));
    let mut batch = Batch::default();
    seen.origins().for_each(|origin| rows::put_runs(&mut batch, Table::Seen, origin, seen.runs(origin)));
    cluster.damage('a', batch);
    cluster.start('a');

    let refused = cluster.put('a', "k", "v");

    assert_eq!(refused, Reply::Refused(Refusal::TooManyOrigins { limit: ORIGINS_MAX }));
}
