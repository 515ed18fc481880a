//! Stories about what streams alone cannot mend: lost rows, rot, and copies that a read finds stale.

use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::model::{Ack, Key, NodeId, Refusal, Reply, Request, SyncReport};
use crate::protocol::chunks;
use crate::protocol::summary::SummaryKey;
use crate::storage::{Batch, Table};
use crate::testing::Cluster;

fn key(text: &str) -> Key {
    Key::from_path(text).unwrap()
}

/// A cluster whose nodes hold `k/1` to `k/600`.
fn filled(names: &str) -> Cluster {
    let mut cluster = Cluster::new(names, 11);
    for n in 1..=600 {
        cluster.put('a', &format!("k/{n}"), &n.to_string());
    }
    cluster.settle();
    cluster
}

fn lose(cluster: &mut Cluster, at: char, keys: &[&str]) {
    let mut batch = Batch::default();
    for lost in keys {
        batch.remove(Table::Records, key(lost).as_bytes());
    }
    cluster.crash(at);
    cluster.damage(at, batch);
    cluster.start(at);
}

fn sync(cluster: &mut Cluster, at: char, with: &str, prefix: &'static str, dry_run: bool) -> SyncReport {
    let peer = NodeId::new(with).unwrap();
    match cluster.ask(at, Request::Sync { peer, prefix: Bytes::from_static(prefix.as_bytes()), dry_run }) {
        Reply::Synced(report) => report,
        other => panic!("a comparison was answered with {other:?}"),
    }
}

fn read(cluster: &mut Cluster, at: char, text: &str, asked: Ack) -> Reply {
    cluster.ask(at, Request::Read { key: key(text), asked, timeout: Duration::from_secs(1) })
}

fn shown(reply: Reply) -> Option<Bytes> {
    match reply {
        Reply::Value(version) => version.map(|version| version.value),
        other => panic!("a read was answered with {other:?}"),
    }
}

#[test]
fn rows_that_a_disk_lost_come_back_and_their_absence_deletes_nothing() {
    let mut cluster = filled("a b c");
    lose(&mut cluster, 'b', &["k/7", "k/300", "k/555"]);

    cluster.settle();

    assert_eq!(cluster.get_everywhere("k/300"), ["300", "300", "300"]);
    assert_eq!(cluster.records('b'), cluster.records('a'));
    assert_eq!(cluster.records('c').len(), 600);
}

#[test]
fn a_record_that_rotted_comes_back_from_a_peer() {
    let mut cluster = filled("a b");
    let mut batch = Batch::default();
    batch.put(Table::Records, key("k/7").as_bytes(), vec![1; 40]);
    cluster.crash('b');
    cluster.damage('b', batch);
    cluster.start('b');

    cluster.settle();

    assert_eq!(cluster.get_everywhere("k/7"), ["7", "7"]);
    assert_eq!(cluster.row_count('b', Table::Quarantine), 0);
    assert_eq!(cluster.records('a'), cluster.records('b'));
}

#[test]
fn an_operator_can_count_first_and_repair_a_prefix_then() {
    let mut cluster = filled("a b");
    cluster.put('a', "other", "x");
    cluster.settle();
    lose(&mut cluster, 'b', &["k/7", "k/8", "other"]);
    // The scrub makes b notice; the check that follows would mend at once, were a not out of reach.
    cluster.partition("a | b");
    cluster.run(Duration::from_secs(10));
    cluster.heal();
    cluster.run(Duration::from_millis(300));

    let counted = sync(&mut cluster, 'b', "a", "k/", true);
    let repaired = sync(&mut cluster, 'b', "a", "k/", false);
    let again = sync(&mut cluster, 'b', "a", "k/", false);

    assert_eq!((counted.ended, counted.behind + counted.ahead, counted.took), ("repaired", 2, 0));
    assert_eq!((repaired.ended, repaired.took, repaired.sent), ("repaired", 2, 0));
    assert_eq!(again.ended, "equal");
}

#[test]
fn equal_stores_of_any_size_cost_one_small_message_each_way() {
    let mut cluster = filled("a b");

    let report = sync(&mut cluster, 'a', "b", "", false);

    assert_eq!((report.ended, report.flights, report.bytes), ("equal", 0, 0));
}

#[test]
fn a_read_of_several_nodes_shows_the_newest_and_mends_every_stale_copy_it_met() {
    let mut cluster = filled("a b c");
    lose(&mut cluster, 'b', &["k/7"]);
    cluster.run(Duration::from_millis(100));

    let found = shown(read(&mut cluster, 'b', "k/7", Ack::Nodes(2)));
    let others = shown(read(&mut cluster, 'c', "k/7", Ack::Nodes(3)));
    cluster.run(Duration::from_millis(20));

    assert_eq!((found.as_deref(), others.as_deref()), (Some(&b"7"[..]), Some(&b"7"[..])));
    assert_eq!(cluster.get_everywhere("k/7"), ["7", "7", "7"]);
}

#[test]
fn a_fresh_write_that_two_stale_copies_outvote_stands() {
    let mut cluster = filled("a b c");
    cluster.partition("a b | c");
    cluster.put('c', "k/7", "fresh");
    cluster.run(Duration::from_millis(50));
    cluster.heal();

    // c's write is on c alone as yet, whoever is asked.
    cluster.run(Duration::from_millis(3000));
    let seen = shown(read(&mut cluster, 'a', "k/7", Ack::Nodes(3)));

    assert_eq!(seen.as_deref(), Some(&b"fresh"[..]));
    assert_eq!(cluster.get_everywhere("k/7"), ["fresh", "fresh", "fresh"]);
}

#[test]
fn a_read_that_too_few_nodes_answer_says_how_many_did() {
    let mut cluster = filled("a b c");
    cluster.partition("a b | c");

    let reply = read(&mut cluster, 'a', "k/7", Ack::Nodes(3));
    let two = shown(read(&mut cluster, 'a', "k/7", Ack::Majority));

    assert_eq!(reply, Reply::Refused(Refusal::ReadTimeout { answered: 2, asked: 3 }));
    assert_eq!(two.as_deref(), Some(&b"7"[..]));
}

/// Keys that two nodes do not hold alike.
fn unlike(cluster: &Cluster, a: char, b: char) -> Vec<(char, Key, u64)> {
    let (a_rows, b_rows) = (cluster.records(a), cluster.records(b));
    let only =
        |name: char, rows: &[(Key, crate::model::Version)], others: &[(Key, crate::model::Version)]| {
            let lone = rows.iter().filter(|row| !others.contains(row));
            lone.map(|(key, version)| (name, key.clone(), version.dot.seq)).collect::<Vec<_>>()
        };
    [only(a, &a_rows, &b_rows), only(b, &b_rows, &a_rows)].concat()
}

/// What may go wrong on the disk of a node that is off.
#[derive(Clone, Debug)]
enum Damage {
    Lost(u16),
    Rotten(u16),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![(1_u16..200).prop_map(Damage::Lost), (1_u16..200).prop_map(Damage::Rotten)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_one_disk_loses_comes_back_while_another_has_it(
        seed in any::<u64>(),
        deleted in vec(1_u16..200, 0..20),
        damages in vec(damage(), 1..30),
        meanwhile in vec(1_u16..260, 0..20),
    ) {
        let mut cluster = Cluster::new("a b c", seed);
        for n in 1..200 {
            cluster.put(if n % 3 == 0 { 'b' } else { 'a' }, &format!("k/{n}"), &n.to_string());
        }
        cluster.settle();
        for n in &deleted {
            cluster.delete('c', &format!("k/{n}"));
        }
        cluster.settle();
        cluster.crash('b');
        let mut batch = Batch::default();
        for damage in damages {
            match damage {
                Damage::Lost(n) => batch.remove(Table::Records, key(&format!("k/{n}")).as_bytes()),
                Damage::Rotten(n) => {
                    batch.put(Table::Records, key(&format!("k/{n}")).as_bytes(), vec![1; 30]);
                }
            }
        }
        cluster.damage('b', batch);
        for n in &meanwhile {
            cluster.put('a', &format!("k/{n}"), "newer");
        }
        // The scrub comes first: the debug assertion on the sums knows of our bugs, and not of disks.
        cluster.partition("a c | b");
        cluster.start('b');
        cluster.run(Duration::from_secs(3));
        cluster.heal();

        cluster.settle();

        prop_assert_eq!(unlike(&cluster, 'a', 'b'), []);
        prop_assert_eq!(unlike(&cluster, 'a', 'c'), []);
        for n in deleted.iter().filter(|n| !meanwhile.contains(n)) {
            prop_assert_eq!(cluster.get('b', &format!("k/{n}")), "-");
        }
        for n in &meanwhile {
            prop_assert_eq!(cluster.get('b', &format!("k/{n}")), "newer");
        }
        let summed = chunks::judge(cluster.node('b').store(), &SummaryKey::new(b"")).unwrap();
        prop_assert_eq!(summed, None);
    }
}
