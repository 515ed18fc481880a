//! Stories about what streams alone cannot mend: lost rows, rot, and copies that a read finds stale.

use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::model::{Ack, Key, Mode, NodeId, Refusal, Reply, Request, SyncReport};
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

/// How much of something a node has counted since its start.
fn counted(cluster: &Cluster, at: char, what: &str) -> u64 {
    let counters = cluster.node(at).counters();
    counters.iter().find(|(name, _)| *name == what).map_or(0, |(_, count)| *count)
}

#[test]
fn a_session_that_is_killed_goes_on_where_it_was_and_sends_next_to_nothing_twice() {
    const LOST: usize = 1500;
    let mut cluster = Cluster::new("a b", 11);
    cluster.tune(|settings| {
        settings.stream_credit = 1024;
        settings.timing.scrub_interval = Some(Duration::from_millis(20));
        settings.timing.sync_interval = Duration::from_secs(1);
        settings.timing.throttle_delay = Duration::from_millis(5);
    });
    for n in 0..2 * LOST {
        cluster.put('a', &format!("k/{n}"), &n.to_string());
    }
    cluster.settle();
    cluster.crash('a');
    cluster.start('a');
    let mut batch = Batch::default();
    (0..2 * LOST).step_by(2).for_each(|n| batch.remove(Table::Records, key(&format!("k/{n}")).as_bytes()));
    cluster.crash('b');
    cluster.damage('b', batch);
    // The scrub makes the sums right before anybody compares.
    cluster.partition("a | b");
    cluster.start('b');
    cluster.run(Duration::from_secs(3));
    cluster.heal();

    let mut kills = 0;
    while cluster.row_count('b', Table::Records) < 2 * LOST {
        let before = cluster.row_count('b', Table::Records);
        for _ in 0..400 {
            cluster.run(Duration::from_millis(10));
            if cluster.row_count('b', Table::Records) > before + LOST / 4 {
                break;
            }
        }
        if cluster.row_count('b', Table::Records) < 2 * LOST {
            cluster.crash('b');
            cluster.start('b');
            kills += 1;
        }
    }

    let sent = counted(&cluster, 'a', "sync_entries_sent");
    assert!(kills >= 3, "killed {kills} times");
    assert!(sent as usize <= LOST + LOST / 100, "{sent} entries were sent for {LOST} that were lost");
    assert_eq!(cluster.records('a'), cluster.records('b'));
}

#[test]
fn sessions_keep_the_pace_that_they_are_told() {
    let took = |throttle: u64, fetch: u64| {
        let mut cluster = filled("a b");
        cluster.tune(if throttle > 0 {
            |settings| {
                settings.stream_credit = 256;
                settings.timing.throttle_delay = Duration::from_millis(200);
            }
        } else if fetch > 0 {
            |settings| {
                settings.stream_credit = 256;
                settings.timing.throttle_delay = Duration::ZERO;
                settings.timing.fetch_delay = Duration::from_millis(300);
            }
        } else {
            |settings| {
                settings.stream_credit = 256;
                settings.timing.throttle_delay = Duration::ZERO;
                settings.timing.fetch_delay = Duration::ZERO;
            }
        });
        cluster.partition("a | b");
        let many: Vec<String> = (1..=60).map(|n| format!("k/{}", 10 * n)).collect();
        lose(&mut cluster, 'b', &many.iter().map(String::as_str).collect::<Vec<_>>());
        cluster.crash('a');
        cluster.start('a');
        cluster.run(Duration::from_secs(10));
        cluster.heal();
        let mut waited = Duration::ZERO;
        while cluster.row_count('b', Table::Records) < 600 {
            cluster.run(Duration::from_millis(10));
            waited += Duration::from_millis(10);
        }
        waited
    };

    let (plain, throttled, fetched) = (took(0, 0), took(200, 0), took(0, 300));

    // Sixty entries of some hundred bytes, 256 bytes a flight.
    assert!(throttled >= plain + Duration::from_secs(2), "{throttled:?} against {plain:?}");
    assert!(fetched >= plain + Duration::from_millis(300), "{fetched:?} against {plain:?}");
}

#[test]
fn two_nodes_that_open_a_session_at_the_same_moment_hold_one() {
    let mut cluster = filled("a b");
    lose(&mut cluster, 'b', &["k/7"]);
    cluster.partition("a | b");
    cluster.run(Duration::from_secs(10));
    cluster.tune(|settings| settings.timing.sync_interval = Duration::from_secs(500));
    for node in ['a', 'b'] {
        cluster.crash(node);
        cluster.start(node);
    }
    cluster.heal();
    cluster.run(Duration::from_secs(5));
    let before = ['a', 'b'].map(|node| counted(&cluster, node, "sync_entries_sent"));

    let wish =
        |peer: &str| Request::Sync { peer: NodeId::new(peer).unwrap(), prefix: Bytes::new(), dry_run: false };
    let replies = cluster.ask_both([('a', wish("b")), ('b', wish("a"))]);

    let ended = replies.map(|reply| match reply {
        Reply::Synced(report) => report.ended,
        other => panic!("a comparison was answered with {other:?}"),
    });
    assert!(ended.iter().all(|ended| ["repaired", "equal"].contains(ended)), "{ended:?}");
    let sent = ['a', 'b'].map(|node| counted(&cluster, node, "sync_entries_sent"));
    assert!(sent.iter().sum::<u64>() <= before.iter().sum::<u64>() + 1, "{before:?}, then {sent:?}");
    assert_eq!(cluster.get_everywhere("k/7"), ["7", "7"]);
}

#[test]
fn what_a_node_cannot_read_it_answers_from_a_peer_and_mends() {
    let mut cluster = filled("a b");
    let mut batch = Batch::default();
    batch.put(Table::Records, key("k/7").as_bytes(), vec![1; 40]);
    cluster.crash('b');
    cluster.damage('b', batch);
    cluster.tune(|settings| settings.timing.scrub_interval = None);
    cluster.start('b');
    cluster.partition("a | b");
    cluster.run(Duration::from_secs(3));

    let alone = cluster.ask('b', Request::Get { key: key("k/7") });
    let again = cluster.ask('b', Request::Get { key: key("k/7") });
    cluster.heal();
    cluster.run(Duration::from_secs(3));

    // It is neither served nor taken for absence, and comes back by itself.
    assert_eq!(alone, Reply::Refused(Refusal::Corrupt));
    assert_eq!(again, Reply::Refused(Refusal::Corrupt));
    assert_eq!(cluster.get('b', "k/7"), "7");
    assert_eq!(counted(&cluster, 'b', "records_rotten"), 1);
}

#[test]
fn a_peer_answers_at_once_for_a_record_that_rotted() {
    let mut cluster = filled("a b");
    let mut batch = Batch::default();
    batch.put(Table::Records, key("k/7").as_bytes(), vec![1; 40]);
    cluster.crash('b');
    cluster.damage('b', batch);
    cluster.tune(|settings| settings.timing.scrub_interval = None);
    cluster.start('b');
    cluster.run(Duration::from_millis(500));

    assert_eq!(cluster.get('b', "k/7"), "7");
}

/// A cluster of two with old and new keys, to which `c` comes, empty, on slow steps.
fn joined_by_an_empty_node() -> Cluster {
    let mut cluster = Cluster::new("a b", 11);
    for n in 1..=400 {
        cluster.put('a', &format!("old/{n}"), "long ago");
    }
    cluster.run(Duration::from_secs(60));
    for n in 1..=100 {
        cluster.put('b', &format!("new/{n}"), "lately");
    }
    cluster.settle();
    cluster.tune(|settings| {
        settings.stream_credit = 2048;
        settings.bootstrap_window = Duration::from_secs(50);
        settings.timing.throttle_delay = Duration::from_millis(100);
    });
    for node in ['a', 'b'] {
        cluster.crash(node);
        cluster.start(node);
    }
    cluster.run(Duration::from_secs(3));
    cluster.add('c');
    cluster.start('c');
    for _ in 0..400 {
        if mode(&mut cluster, 'c') == Mode::Syncing {
            return cluster;
        }
        cluster.run(Duration::from_millis(5));
    }
    panic!("it never begins to take what the others hold");
}

fn mode(cluster: &mut Cluster, at: char) -> Mode {
    match cluster.ask(at, Request::Status) {
        Reply::Status(status) => status.me.mode,
        other => panic!("asked for its status, the node said {other:?}"),
    }
}

#[test]
fn an_empty_node_takes_what_is_recent_first_serves_and_then_takes_the_rest() {
    let mut cluster = joined_by_an_empty_node();
    cluster.run(Duration::from_millis(200));
    assert_eq!(cluster.put('c', "mine", "x"), Reply::Refused(Refusal::Mode(Mode::Syncing)));
    assert_eq!(cluster.get('c', "old/399"), "long ago", "a miss is asked elsewhere");

    for _ in 0..3000 {
        if mode(&mut cluster, 'c') == Mode::Normal {
            break;
        }
        cluster.run(Duration::from_millis(20));
    }
    let held = cluster.row_count('c', Table::Records);
    assert!((100..300).contains(&held), "it serves with {held} of 500");
    assert_eq!(cluster.get('c', "old/398"), "long ago");
    assert!(matches!(cluster.put('c', "mine", "x"), Reply::Written { .. }));

    cluster.settle();
    assert_eq!(cluster.records('c'), cluster.records('a'));
    assert_eq!(cluster.get('c', "nowhere"), "-");
}

#[test]
fn a_bootstrap_goes_on_after_a_restart_and_from_another_peer_and_keeps_its_pace() {
    let mut cluster = joined_by_an_empty_node();
    let began = cluster.elapsed();
    cluster.run(Duration::from_millis(200));
    cluster.crash('c');
    cluster.start('c');
    assert_eq!(mode(&mut cluster, 'c'), Mode::Syncing);
    cluster.run(Duration::from_millis(800));
    cluster.crash('a');
    for _ in 0..3000 {
        if cluster.row_count('c', Table::Records) >= 500 {
            break;
        }
        cluster.run(Duration::from_millis(20));
    }

    // Some sixty steps of 2 KiB, a tenth of a second each.
    let took = cluster.elapsed() - began;
    assert!(took > Duration::from_secs(2), "{took:?}");
    cluster.settle();
    assert_eq!(cluster.records('c'), cluster.records('b'));
    assert_eq!(mode(&mut cluster, 'c'), Mode::Normal);
}

#[test]
fn a_bootstrap_that_nobody_can_bring_to_its_end_ends_all_the_same() {
    let mut cluster = joined_by_an_empty_node();
    cluster.run(Duration::from_millis(200));
    cluster.partition("a b | c");
    cluster.run(Duration::from_secs(20));
    assert_eq!(mode(&mut cluster, 'c'), Mode::Syncing);

    cluster.run(Duration::from_secs(20));

    assert_eq!(mode(&mut cluster, 'c'), Mode::Normal);
    cluster.heal();
    cluster.settle();
    assert_eq!(cluster.records('c'), cluster.records('a'));
}

#[test]
fn a_peer_that_is_behind_is_seen_to_be_and_for_how_long() {
    let mut cluster = filled("a b");
    cluster.partition("a | b");
    for n in 1..=5 {
        cluster.put('a', &format!("more/{n}"), "x");
    }
    cluster.run(Duration::from_secs(7));
    let apart = |cluster: &mut Cluster, at| match cluster.ask(at, Request::Status) {
        Reply::Status(status) => (status.peers[0].lag, status.peers[0].divergent_ms),
        other => panic!("asked for its status, the node said {other:?}"),
    };

    let during = apart(&mut cluster, 'a');
    cluster.heal();
    cluster.settle();
    let after = apart(&mut cluster, 'a');

    assert_eq!(during.0, 5);
    assert!(during.1 >= 5000, "{during:?}");
    assert_eq!(after, (0, 0));
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
