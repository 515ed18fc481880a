use super::*;
use crate::model::{Version, WallTime};
use crate::protocol::history::{self, Kind, Transaction};
use crate::storage::Table;
use crate::storage::memory::{Memory, Tables};

const KEY: &str = "k";

fn dot(origin: u64, seq: u64) -> Dot {
    Dot { origin: Origin(origin), seq }
}

fn at(millis: u64) -> Stamp {
    Stamp { millis, counter: 0 }
}

fn version(dot: Dot, stamp: Stamp) -> Version {
    Version {
        stamp,
        dot,
        author_joined: WallTime(0),
        ruling: 0,
        confirms: None,
        tombstone: false,
        expires_at: None,
        content_type: "text/plain".into(),
        value: "v".into(),
    }
}

fn key() -> Key {
    Key::from_path(KEY).expect("a test's key")
}

/// A store that holds `row` under the key and collected up to `horizon` in its chunk.
fn store(row: &[Version], horizon: Stamp) -> Memory {
    let mut store = Memory::new(Tables::default());
    let mut batch = Batch::default();
    rows::put_row(&mut batch, &key(), &Row { versions: row.to_vec(), ..Row::default() }, &[]);
    rows::put_horizon(&mut batch, rows::chunk(&key()), horizon);
    store.apply(batch).expect("a memory disk does not break");
    store
}

fn fate(store: &Memory, seen: &[Dot], held: &Version) -> Fate {
    fate_under(Policy::Lww, store, seen, held)
}

fn fate_under(policy: Policy, store: &Memory, seen: &[Dot], held: &Version) -> Fate {
    let seen = seen.iter().copied().collect();
    let held = Held { dot: held.dot, key: key(), stamp: held.stamp, tombstone: held.tombstone };
    judge(store, &seen, policy, &held).expect("a memory disk does not break")
}

#[test]
fn what_the_judge_holds_too_stays() {
    let held = version(dot(1, 1), at(5));

    assert_eq!(fate(&store(std::slice::from_ref(&held), at(9)), &[held.dot], &held), Fate::Stays);
}

#[test]
fn what_the_judge_has_covered_and_holds_no_longer_goes() {
    let held = version(dot(1, 1), at(5));

    assert_eq!(fate(&store(&[], at(9)), &[held.dot], &held), Fate::Goes);
}

#[test]
fn what_a_later_version_will_replace_waits_for_it() {
    let (held, later) = (version(dot(1, 1), at(5)), version(dot(2, 1), at(6)));

    assert_eq!(fate(&store(std::slice::from_ref(&later), at(0)), &[held.dot, later.dot], &held), Fate::Stays);
}

#[test]
fn what_meets_another_one_of_its_stamp_waits_for_it() {
    let (held, other) = (version(dot(1, 1), at(5)), version(dot(2, 1), at(5)));

    assert_eq!(fate(&store(std::slice::from_ref(&other), at(0)), &[held.dot, other.dot], &held), Fate::Stays);
}

#[test]
fn what_the_judge_never_covered_stays_if_it_is_later_than_all_that_was_collected_there() {
    let held = version(dot(1, 1), at(5));

    assert_eq!(fate(&store(&[], at(4)), &[], &held), Fate::Stays);
    assert_eq!(fate(&store(&[], at(5)), &[], &held), Fate::Aside);
}

#[test]
fn a_delete_stays_however_old_it_is() {
    let held = Version { tombstone: true, value: "".into(), ..version(dot(1, 1), at(5)) };

    assert_eq!(fate(&store(&[], at(9)), &[], &held), Fate::Stays);
}

#[test]
fn a_record_that_cannot_be_read_is_no_absence() {
    let held = version(dot(1, 1), at(5));
    let mut store = store(std::slice::from_ref(&held), at(9));
    let mut batch = Batch::default();
    batch.put(Table::Records, key().as_bytes(), b"rot".as_slice());
    store.apply(batch).expect("a memory disk does not break");

    assert_eq!(fate(&store, &[held.dot], &held), Fate::Stays);
}

#[test]
fn the_walk_over_dots_comes_to_its_end() {
    assert_eq!(after(dot(1, 4)), Some(dot(1, 5)));
    assert_eq!(after(dot(1, u64::MAX)), Some(dot(2, 0)));
    assert_eq!(after(dot(u64::MAX, u64::MAX)), None);
}

#[test]
fn a_transaction_of_a_history_goes_only_if_it_was_covered_and_lies_in_nobody_s_past() {
    let held = version(dot(1, 1), at(5));
    let history = Policy::History(crate::model::Strategy::default());
    let later = |vector: &[Dot]| {
        let transaction = Transaction::read(&held);
        let vector = vector.iter().copied().collect();
        let value = history::transaction::value(Kind::Full, &[transaction.as_parent()], &vector, &"w".into());
        Version { value, ..version(dot(2, 1), at(7)) }
    };
    let unrelated = version(dot(3, 1), at(7));

    assert_eq!(fate_under(history, &store(&[], at(9)), &[], &held), Fate::Stays, "nobody had it");
    assert_eq!(fate_under(history, &store(&[later(&[held.dot])], at(9)), &[held.dot], &held), Fate::Stays);
    assert_eq!(
        fate_under(history, &store(&[later(&[])], at(9)), &[held.dot], &held),
        Fate::Stays,
        "it is named"
    );
    // What was collected is left out of a vector that is too long.
    assert_eq!(fate_under(history, &store(&[unrelated], at(9)), &[held.dot], &held), Fate::Goes);
}

#[test]
fn a_later_sibling_does_not_vouch_for_one_that_was_replaced() {
    let (held, later) = (version(dot(1, 1), at(5)), version(dot(2, 1), at(7)));

    assert_eq!(
        fate_under(Policy::Siblings, &store(std::slice::from_ref(&later), at(1)), &[held.dot], &held),
        Fate::Goes
    );
}

#[test]
fn a_row_that_the_log_still_leads_to_is_lost_and_not_gone() {
    let held = version(dot(1, 1), at(5));
    let mut store = store(std::slice::from_ref(&held), at(9));
    let mut batch = Batch::default();
    batch.remove(Table::Records, key().as_bytes());
    store.apply(batch).expect("a memory disk does not break");

    assert_eq!(fate(&store, &[held.dot], &held), Fate::Stays);
}
