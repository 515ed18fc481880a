use std::time::Duration;

use crate::storage::Table;
use crate::testing::Cluster;

/// Longer than the grace of a [`Cluster`]'s nodes and all that comes after it.
const LONG: Duration = Duration::from_secs(30);

#[test]
fn a_tombstone_that_all_have_covered_is_collected_after_the_grace_and_the_key_stays_deleted() {
    let mut cluster = Cluster::new("a b c", 1);
    cluster.put('a', "k", "red");
    cluster.put('a', "l", "red");
    cluster.run(Duration::from_secs(1));
    cluster.delete('b', "k");

    cluster.run(LONG);

    assert_eq!(['a', 'b', 'c'].map(|node| cluster.row_count(node, Table::Records)), [1, 1, 1]);
    assert_eq!(cluster.get_everywhere("k"), ["-", "-", "-"]);
    assert_eq!(cluster.get_everywhere("l"), ["red", "red", "red"]);
}

#[test]
fn a_tombstone_waits_for_a_member_that_cannot_be_reached() {
    let mut cluster = Cluster::new("a b c", 1);
    cluster.put('a', "k", "red");
    cluster.run(Duration::from_secs(1));
    cluster.crash('c');
    cluster.delete('b', "k");

    cluster.run(LONG);
    assert_eq!(['a', 'b'].map(|node| cluster.row_count(node, Table::Tombs)), [1, 1]);

    cluster.start('c');
    cluster.run(LONG);
    assert_eq!(['a', 'b', 'c'].map(|node| cluster.row_count(node, Table::Tombs)), [0, 0, 0]);
    assert_eq!(cluster.get_everywhere("k"), ["-", "-", "-"]);
}

#[test]
fn an_old_backup_brings_nothing_back_that_was_collected() {
    let mut cluster = Cluster::new("a b c", 1);
    cluster.put('a', "k", "red");
    cluster.put('c', "l", "blue");
    cluster.run(Duration::from_secs(1));
    cluster.crash('c');
    let backup = cluster.disk('c');
    cluster.start('c');
    cluster.delete('a', "k");
    cluster.run(LONG);
    assert_eq!(cluster.row_count('a', Table::Tombs), 0);

    cluster.crash('c');
    cluster.replace_disk('c', backup);
    cluster.start('c');
    cluster.settle();

    assert_eq!(cluster.get_everywhere("k"), ["-", "-", "-"]);
    assert_eq!(cluster.get_everywhere("l"), ["blue", "blue", "blue"]);
}
