use super::*;
use crate::model::{Dot, Origin, Stamp, WallTime};

fn version(millis: u64, origin: u64, seq: u64) -> Version {
    Version {
        stamp: Stamp { millis, counter: 0 },
        dot: Dot { origin: Origin(origin), seq },
        author_joined: WallTime(origin),
        ruling: 0,
        confirms: None,
        tombstone: false,
        expires_at: None,
        content_type: "text/plain".into(),
        value: "v".into(),
    }
}

fn key(number: usize) -> Key {
    Key::from_path(&format!("k/{number}")).unwrap()
}

#[test]
fn each_rule_of_the_order_has_its_word() {
    let old = version(1, 1, 1);
    let tie = version(1, 2, 1);
    let deleted = Version { tombstone: true, ..tie.clone() };
    let ruled = Version { ruling: 2, ..tie.clone() };
    let twin = Version { author_joined: WallTime(1), ..tie.clone() };
    let forged = Version { value: "w".into(), ..old.clone() };

    assert_eq!(order::rule(&version(2, 2, 1), &old), "stamp");
    assert_eq!(order::rule(&deleted, &old), "tombstone");
    assert_eq!(order::rule(&ruled, &old), "ruling");
    assert_eq!(order::rule(&old, &tie), "older author");
    assert_eq!(order::rule(&twin, &old), "dot");
    assert_eq!(order::rule(&forged, &old), "content");
}

#[test]
fn only_the_last_decisions_of_the_last_keys_are_remembered() {
    let mut decisions = Decisions::default();
    for seq in 1..=10 {
        decisions.note(&key(0), &version(seq + 1, 1, seq + 1), &version(seq, 1, seq));
    }
    let latest = decisions.of(&key(0));
    assert_eq!((latest.len(), latest[0].winner.dot.seq, latest[0].rule), (OF_KEY_MAX, 11, "stamp"));
    assert!(latest[0].loser.value.is_empty());

    for number in 1..=KEYS_MAX {
        decisions.note(&key(number), &version(2, 1, 2), &version(1, 1, 1));
    }
    assert!(decisions.of(&key(0)).is_empty());
    assert_eq!(decisions.of(&key(1)).len(), 1);
}
