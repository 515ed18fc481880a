use reknit::model::{Origin, Stamp, WallTime};
use reknit::protocol::history::transaction::{Parent, Vector, value};

use super::*;

/// Histories under `log/`.
fn histories() -> Histories {
    let mut histories = Histories::default();
    histories
        .set_policies(Policies::new([(b"log/".to_vec(), Policy::History(Strategy::PreferNetwork))]).unwrap());
    histories
}

fn key() -> Key {
    Key::from_path("log/k").unwrap()
}

/// The `seq`-th write of `origin`, on top of `parents`.
fn write(origin: u64, seq: u64, kind: Kind, parents: &[&Version], bytes: &str) -> Version {
    let parents: Vec<Parent> = parents.iter().map(|parent| Transaction::read(parent).as_parent()).collect();
    Version {
        stamp: Stamp { millis: 100 * seq, counter: 0 },
        dot: Dot { origin: Origin(origin), seq },
        author_joined: WallTime(origin),
        ruling: 0,
        confirms: None,
        tombstone: false,
        expires_at: None,
        content_type: "text/plain".into(),
        value: value(kind, &parents, &Vector::default(), &Bytes::copy_from_slice(bytes.as_bytes())),
    }
}

fn ask(histories: &mut Histories, versions: &[Version]) {
    for version in versions {
        let transaction = Transaction::read(version);
        let offset = if let Kind::Patch { offset } = transaction.kind { offset } else { 0 };
        let asked = (transaction.kind.word(), offset, transaction.bytes);
        histories.keys.entry(key()).or_default().asked.insert(asked);
    }
}

fn codes(broken: &[Broken]) -> Vec<&'static str> {
    broken.iter().map(|(code, ..)| *code).collect()
}

fn dump(versions: &[Version]) -> Dump {
    Dump::from_iter([(key(), versions.to_vec())])
}

#[test]
fn a_node_that_loses_a_transaction_is_caught_and_one_whose_disk_was_replaced_is_not() {
    let mut histories = histories();
    let first = write(1, 1, Kind::Full, &[], "red");
    let second = write(1, 2, Kind::Full, &[&first], "blue");
    let both = [first.clone(), second.clone()];
    ask(&mut histories, &both);

    assert!(histories.dumped("a", &dump(&both)).is_empty());
    assert_eq!(codes(&histories.dumped("a", &dump(&both[..1]))), ["HIST"]);
    histories.forget("a");
    assert!(histories.dumped("a", &dump(&both[..1])).is_empty());
}

#[test]
fn what_one_has_all_end_with() {
    let mut histories = histories();
    let first = write(1, 1, Kind::Full, &[], "red");
    ask(&mut histories, std::slice::from_ref(&first));
    histories.acked("a", &key(), first.dot);

    let (with, without) = (dump(&[first]), Dump::new());
    let running = BTreeMap::from([("a".to_owned(), with.clone()), ("b".to_owned(), without)]);
    assert_eq!(codes(&histories.judge(&running)), ["HIST"]);
    let running = BTreeMap::from([("a".to_owned(), with.clone()), ("b".to_owned(), with)]);
    assert!(histories.judge(&running).is_empty());
}

#[test]
fn two_transactions_under_one_dot_and_one_that_nobody_asked_for_are_caught() {
    let mut histories = histories();
    let asked = write(1, 1, Kind::Full, &[], "red");
    ask(&mut histories, std::slice::from_ref(&asked));

    assert_eq!(histories.shown("a", &key(), &asked), None);
    let other = write(1, 1, Kind::Full, &[], "blue");
    assert_eq!(codes(&histories.shown("a", &key(), &other).into_iter().collect::<Vec<_>>()), ["DOT"]);
    let invented = write(1, 2, Kind::Patch { offset: 1 }, &[&asked], "red");
    assert_eq!(codes(&histories.shown("a", &key(), &invented).into_iter().collect::<Vec<_>>()), ["NOINV"]);
}

#[test]
fn a_run_that_leaves_two_heads_and_a_transaction_without_its_parent_are_caught() {
    let mut histories = histories();
    let first = write(1, 1, Kind::Full, &[], "red");
    let beside = write(1, 2, Kind::Full, &[], "blue");
    let orphan = write(2, 1, Kind::Full, &[&write(3, 9, Kind::Full, &[], "x")], "green");
    ask(&mut histories, &[first.clone(), beside.clone(), orphan.clone()]);

    for versions in [vec![first.clone(), beside], vec![first, orphan]] {
        let mut records = versions;
        records.sort_by_key(|version| version.dot);
        let running = BTreeMap::from([("a".to_owned(), dump(&records))]);
        assert_eq!(codes(&histories.judge(&running)), ["HIST"]);
    }
}

#[test]
fn a_patch_that_takes_effect_on_a_later_generation_is_caught() {
    let old = write(1, 1, Kind::Full, &[], "old");
    let delete = write(1, 2, Kind::Delete, &[&old], "");
    let new = write(1, 3, Kind::Full, &[&delete], "new");
    let late = write(2, 1, Kind::Patch { offset: 1 }, &[&old], "L");
    let own = write(3, 1, Kind::Patch { offset: 1 }, &[&new], "O");
    let versions = [old, delete, new, late, own];
    let (dag, mut view) = history::read(&versions, Strategy::LocalOverNetwork);

    assert_eq!(mixed(&dag, &view), None);
    assert_eq!(view.skipped.len(), 1);
    view.skipped.clear();
    assert!(mixed(&dag, &view).expect("the late patch is in effect").contains("later generation"));
}
