//! Stories about a cluster. One node's conversations are in `conversation_tests.rs`.

use crate::storage::Table;
use crate::testing::Cluster;

#[test]
fn a_write_on_one_node_is_soon_on_all() {
    let mut cluster = Cluster::new("a b c", 1);

    cluster.put('a', "k", "red");
    cluster.run(std::time::Duration::from_millis(5));

    assert_eq!(cluster.get_everywhere("k"), ["red", "red", "red"]);
}

#[test]
fn both_sides_of_a_partition_agree_after_it_heals() {
    let mut cluster = Cluster::new("a b c", 7);
    cluster.partition("a | b c");
    cluster.put('a', "k", "red");
    cluster.run(std::time::Duration::from_millis(10));
    cluster.put('b', "k", "blue");

    cluster.heal();
    cluster.settle();

    assert_eq!(cluster.get_everywhere("k"), ["blue", "blue", "blue"]);
}

#[test]
fn a_node_that_was_away_holds_what_the_others_hold_and_the_deleted_key_stays_deleted() {
    let mut cluster = Cluster::new("a b c", 3);
    for n in 1..=100 {
        cluster.put('a', &format!("k/{n}"), &n.to_string());
    }
    cluster.settle();
    cluster.crash('c');
    for n in 101..=150 {
        cluster.put('a', &format!("k/{n}"), &n.to_string());
    }
    cluster.delete('b', "k/7");
    cluster.settle();

    cluster.start('c');
    cluster.settle();

    assert_eq!(cluster.get('c', "k/125"), "125");
    assert_eq!(cluster.get_everywhere("k/7"), ["-", "-", "-"]);
    assert_eq!(cluster.records('a'), cluster.records('c'));
    assert_eq!(cluster.records('a'), cluster.records('b'));
}

#[test]
fn after_a_pull_the_digests_of_seen_are_equal_although_much_was_overwritten() {
    let mut cluster = Cluster::new("a b", 4);
    cluster.crash('b');
    for round in 0..20 {
        for n in 0..10 {
            cluster.put('a', &format!("k/{n}"), &format!("{n} {round}"));
        }
    }

    cluster.start('b');
    cluster.settle();

    let seen = |cluster: &mut Cluster, at| match cluster.ask(at, crate::model::Request::Status) {
        crate::model::Reply::Status(status) => (status.seen_hash, status.dots_seen),
        other => panic!("{other:?}"),
    };
    assert_eq!(seen(&mut cluster, 'a'), seen(&mut cluster, 'b'));
    assert_eq!(seen(&mut cluster, 'b').1, 200);
    assert_eq!(cluster.row_count('b', Table::Dots), 10, "superseded entries drop out of the log");
}

#[test]
fn what_was_acknowledged_is_there_after_every_node_lost_its_power() {
    let mut cluster = Cluster::new("a b c", 5);
    cluster.put('a', "k", "red");
    cluster.put('b', "l", "blue");
    for name in ['a', 'b', 'c'] {
        cluster.crash(name);
    }

    for name in ['c', 'a', 'b'] {
        cluster.start(name);
    }
    cluster.settle();

    assert_eq!(cluster.get_everywhere("k"), ["red", "red", "red"]);
    assert_eq!(cluster.get_everywhere("l"), ["blue", "blue", "blue"]);
}

#[test]
fn a_value_that_needs_many_frames_arrives_whole() {
    let mut cluster = Cluster::new("a b", 6);
    let large = "x".repeat(crate::model::Version::VALUE_BYTES_MAX);

    cluster.put('a', "large", &large);
    cluster.settle();

    assert_eq!(cluster.get('b', "large"), large);
}

#[test]
fn a_cluster_with_nothing_to_say_sends_no_data() {
    let mut cluster = Cluster::new("a b c", 8);
    cluster.put('a', "k", "red");
    cluster.settle();
    let pulls = |cluster: &Cluster, at| {
        let counters = cluster.node(at).counters();
        counters.iter().find(|(name, _)| *name == "pulls").map_or(0, |(_, count)| *count)
    };
    let before: Vec<u64> = ['a', 'b', 'c'].iter().map(|at| pulls(&cluster, *at)).collect();

    cluster.settle();

    let after: Vec<u64> = ['a', 'b', 'c'].iter().map(|at| pulls(&cluster, *at)).collect();
    assert_eq!(before, after);
}

#[test]
fn a_node_that_leaves_goes_only_once_another_holds_what_it_holds() {
    let mut cluster = Cluster::new("a b", 9);
    cluster.partition("a | b");
    cluster.put('b', "k", "red");
    cluster.run(std::time::Duration::from_millis(100));
    cluster.heal();

    cluster.ask('b', crate::model::Request::Leave { force: false });
    cluster.crash('b');

    assert_eq!(cluster.get('a', "k"), "red");
}
