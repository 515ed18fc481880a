//! Histories in a cluster: what forks, what every node shows, and who may close a fork.

use std::time::Duration;

use crate::model::{
    Ack, Condition, DotSet, Key, Policies, Policy, Refusal, Reply, Request, Strategy, VersionId,
};
use crate::protocol::history::{self, TRANSACTIONS_MAX};
use crate::storage::Table;
use crate::testing::Cluster;

const KEY: &str = "log/k";

fn cluster(strategy: Strategy) -> Cluster {
    let rules = [(b"log/".to_vec(), Policy::History(strategy))];
    Cluster::with_policies("a b c", 7, Policies::new(rules).expect("a table"))
}

fn patch(cluster: &mut Cluster, at: char, offset: u64, value: &str) -> Reply {
    let (key, value) = (Key::from_path(KEY).unwrap(), value.as_bytes().to_vec().into());
    let (condition, ack, timeout) = (Condition::None, Ack::Local, Duration::from_secs(1));
    let content_type = "text/plain".into();
    cluster.ask(at, Request::Patch { key, offset, value, content_type, condition, ack, timeout })
}

fn put_if(cluster: &mut Cluster, at: char, value: &str, condition: Condition) -> Reply {
    let (key, value) = (Key::from_path(KEY).unwrap(), value.as_bytes().to_vec().into());
    let (ack, timeout) = (Ack::Local, Duration::from_secs(1));
    let content_type = "text/plain".into();
    cluster.ask(at, Request::Put { key, value, content_type, ttl: None, condition, ack, timeout })
}

/// A common part, then a patch on each side of a partition that has ended.
fn forked(strategy: Strategy) -> Cluster {
    let mut cluster = cluster(strategy);
    cluster.put('a', KEY, "....");
    cluster.settle();
    cluster.partition("a | b c");
    patch(&mut cluster, 'a', 0, "NN");
    patch(&mut cluster, 'b', 1, "LL");
    cluster.heal();
    cluster.settle();
    cluster
}

fn heads_of(reply: Reply) -> Vec<VersionId> {
    match reply {
        Reply::Refused(Refusal::Heads { heads }) => heads,
        other => panic!("no conflict: {other:?}"),
    }
}

fn read(cluster: &mut Cluster, at: char) -> Reply {
    cluster.ask(at, Request::Get { key: Key::from_path(KEY).unwrap() })
}

#[test]
fn every_strategy_shows_the_same_on_all_nodes() {
    let shown = |strategy| forked(strategy).get_everywhere(KEY);

    assert_eq!(shown(Strategy::PreferNetwork), ["NN.."; 3]);
    assert_eq!(shown(Strategy::PreferLocal), [".LL."; 3]);
    assert_eq!(shown(Strategy::LocalOverNetwork), ["NLL."; 3]);
    assert_eq!(shown(Strategy::NetworkOverLocal), ["NNL."; 3]);
}

#[test]
fn a_write_over_a_fork_closes_it_for_everybody() {
    let mut cluster = forked(Strategy::PreferNetwork);

    patch(&mut cluster, 'c', 3, "c");
    cluster.settle();

    assert_eq!(cluster.get_everywhere(KEY), ["NN.c"; 3]);
    for name in ['a', 'b', 'c'] {
        let versions: Vec<_> = cluster.records(name).into_iter().map(|(_, version)| version).collect();
        assert_eq!(
            (versions.len(), history::heads(&versions, &DotSet::default(), &DotSet::default()).0.len()),
            (4, 1)
        );
    }
}

#[test]
fn under_fail_only_a_full_write_that_names_all_heads_resolves() {
    let mut cluster = forked(Strategy::Fail);
    let heads = heads_of(read(&mut cluster, 'c'));
    let uuids: Vec<_> = heads.iter().map(|head| head.uuid).collect();

    assert_eq!(heads.len(), 2);
    assert_eq!(heads_of(read(&mut cluster, 'a')), heads);
    assert_eq!(heads_of(put_if(&mut cluster, 'a', "x", Condition::None)), heads);
    assert_eq!(heads_of(put_if(&mut cluster, 'a', "x", Condition::Matches(uuids[..1].to_vec()))), heads);
    assert_eq!(heads_of(patch(&mut cluster, 'a', 0, "x")), heads);
    let resolved = put_if(&mut cluster, 'b', "both", Condition::Matches(uuids));
    assert!(matches!(resolved, Reply::Written { .. }), "{resolved:?}");
    cluster.settle();

    assert_eq!(cluster.get_everywhere(KEY), ["both"; 3]);
}

#[test]
fn a_conflicted_key_stops_no_other_key() {
    let mut cluster = forked(Strategy::Fail);

    cluster.put('a', "log/other", "fine");
    cluster.put('b', "plain", "fine");
    cluster.settle();

    assert_eq!(cluster.get_everywhere("log/other"), ["fine"; 3]);
    assert_eq!(cluster.get_everywhere("plain"), ["fine"; 3]);
    assert_eq!(heads_of(read(&mut cluster, 'b')).len(), 2);
}

#[test]
fn an_old_log_does_not_mix_into_what_was_written_after_a_delete() {
    let mut cluster = cluster(Strategy::LocalOverNetwork);
    cluster.put('a', KEY, "old.");
    cluster.settle();
    cluster.partition("a b | c");
    patch(&mut cluster, 'c', 2, "LL");
    cluster.delete('a', KEY);
    cluster.put('a', KEY, "new");
    cluster.heal();
    cluster.settle();

    assert_eq!(cluster.get_everywhere(KEY), ["new"; 3]);
}

#[test]
fn a_node_that_crashes_between_merges_has_every_transaction_once() {
    let mut cluster = cluster(Strategy::LocalOverNetwork);
    cluster.put('a', KEY, "....");
    cluster.settle();
    cluster.partition("a | b c");
    patch(&mut cluster, 'a', 0, "a");
    patch(&mut cluster, 'b', 1, "b");
    cluster.run(Duration::from_millis(3));
    cluster.crash('c');
    cluster.heal();
    cluster.run(Duration::from_millis(300));
    cluster.crash('b');
    cluster.start('c');
    cluster.start('b');
    cluster.settle();

    assert_eq!(cluster.get_everywhere(KEY), ["ab.."; 3]);
    for name in ['a', 'b', 'c'] {
        assert_eq!(cluster.records(name).len(), 3);
        assert_eq!(cluster.row_count(name, Table::Versions), 3);
        assert_eq!(cluster.row_count(name, Table::Records), 1);
        assert_eq!(cluster.row_count(name, Table::Dots), 3);
    }
}

#[test]
fn what_a_policy_cannot_do_is_refused_and_nothing_is_stored() {
    let mut cluster = cluster(Strategy::PreferLocal);
    let key = Key::from_path("plain").unwrap();
    let (condition, ack, timeout) = (Condition::None, Ack::Local, Duration::from_secs(1));
    let content_type = String::from("text/plain");
    let patch = Request::Patch {
        key,
        offset: 1,
        value: "x".into(),
        content_type: content_type.clone(),
        condition: condition.clone(),
        ack,
        timeout,
    };
    let ttl = Request::Put {
        key: Key::from_path(KEY).unwrap(),
        value: "x".into(),
        content_type,
        ttl: Some(Duration::from_secs(9)),
        condition,
        ack,
        timeout,
    };

    assert!(matches!(cluster.ask('a', patch), Reply::Refused(Refusal::Policy(_))));
    assert!(matches!(cluster.ask('a', ttl), Reply::Refused(Refusal::Policy(_))));
    assert_eq!(cluster.records('a'), []);
}

#[test]
fn a_history_has_a_limit_with_a_name() {
    let mut cluster = cluster(Strategy::PreferLocal);
    for _ in 0..TRANSACTIONS_MAX {
        let written = patch(&mut cluster, 'a', 0, "x");
        assert!(matches!(written, Reply::Written { .. }), "{written:?}");
    }

    let refused = patch(&mut cluster, 'a', 0, "x");

    assert_eq!(
        refused,
        Reply::Refused(Refusal::HistoryFull { what: "transactions", limit: TRANSACTIONS_MAX })
    );
}

/// Longer than the grace of a [`Cluster`]'s nodes and all that comes after it.
const LONG: Duration = Duration::from_secs(40);

/// How many transactions each node holds.
fn held(cluster: &Cluster) -> [usize; 3] {
    ['a', 'b', 'c'].map(|name| cluster.records(name).len())
}

#[test]
fn what_lies_below_a_full_write_is_truncated_everywhere_and_the_view_stays() {
    let mut cluster = cluster(Strategy::LocalOverNetwork);
    cluster.put('a', KEY, "one");
    patch(&mut cluster, 'b', 3, "two");
    cluster.settle();
    cluster.put('c', KEY, "three");
    cluster.settle();
    patch(&mut cluster, 'a', 5, "four");

    cluster.run(LONG);

    assert_eq!(held(&cluster), [2; 3], "the checkpoint and what is on top of it");
    assert_eq!(cluster.get_everywhere(KEY), ["threefour"; 3]);
    let tables = [Table::Versions, Table::Dots, Table::Tombs];
    for name in ['a', 'b', 'c'] {
        assert_eq!(tables.map(|table| cluster.row_count(name, table)), [2, 2, 0], "{name}");
    }
}

#[test]
fn a_delete_stays_as_the_checkpoint() {
    let mut cluster = cluster(Strategy::PreferNetwork);
    cluster.put('a', KEY, "one");
    cluster.settle();
    cluster.delete('b', KEY);

    cluster.run(LONG);

    assert_eq!(held(&cluster), [1; 3]);
    assert_eq!(cluster.get_everywhere(KEY), ["-"; 3]);
}

#[test]
fn nothing_is_truncated_while_a_member_may_have_written_beside_the_checkpoint() {
    let mut cluster = cluster(Strategy::LocalOverNetwork);
    cluster.put('a', KEY, "....");
    cluster.settle();
    cluster.partition("a b | c");
    patch(&mut cluster, 'c', 3, "c");
    cluster.put('a', KEY, "a");

    cluster.run(LONG);
    assert_eq!(held(&cluster), [2, 2, 2]);

    cluster.heal();
    cluster.run(LONG);
    assert_eq!(held(&cluster), [3; 3], "a fork is no checkpoint");
    assert_eq!(cluster.get_everywhere(KEY), ["a\0\0c"; 3]);

    cluster.put('b', KEY, "whole");
    cluster.run(LONG);
    assert_eq!(held(&cluster), [1; 3]);
    assert_eq!(cluster.get_everywhere(KEY), ["whole"; 3]);
}

#[test]
fn an_old_backup_brings_nothing_back_that_was_truncated() {
    let mut cluster = cluster(Strategy::LocalOverNetwork);
    cluster.put('a', KEY, "old");
    patch(&mut cluster, 'b', 3, "er");
    cluster.settle();
    cluster.crash('c');
    let backup = cluster.disk('c');
    cluster.start('c');
    cluster.put('b', KEY, "new");
    cluster.run(LONG);
    assert_eq!(held(&cluster), [1; 3]);

    cluster.crash('c');
    cluster.replace_disk('c', backup);
    cluster.start('c');
    cluster.run(LONG);

    assert_eq!(held(&cluster), [1; 3]);
    assert_eq!(cluster.get_everywhere(KEY), ["new"; 3]);
}

#[test]
fn a_row_that_is_lost_is_repaired_from_where_its_past_is_gone() {
    let mut cluster = cluster(Strategy::LocalOverNetwork);
    cluster.put('a', KEY, "old");
    cluster.settle();
    cluster.put('b', KEY, "new");
    cluster.settle();
    patch(&mut cluster, 'c', 0, "N");
    cluster.run(LONG);
    assert_eq!(held(&cluster), [2; 3]);
    let mut batch = crate::storage::Batch::default();
    batch.put(Table::Records, KEY.as_bytes(), b"rot".to_vec());
    cluster.crash('a');
    cluster.damage('a', batch);
    cluster.start('a');
    read(&mut cluster, 'a');
    cluster.run(LONG);

    assert_eq!(held(&cluster), [2; 3]);
    assert_eq!(cluster.get_everywhere(KEY), ["New"; 3]);
}
