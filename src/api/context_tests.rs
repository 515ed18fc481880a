use proptest::prelude::*;

use super::*;
use crate::testing::arbitrary;

fn key(text: &str) -> Key {
    Key::from_path(text).unwrap()
}

fn headers(text: &str) -> HeaderMap {
    HeaderMap::from_iter([(CONTEXT, HeaderValue::from_str(text).unwrap())])
}

fn refused(seal: &Seal, text: &str, at: &str) -> String {
    seal.read(&headers(text), &key(at)).expect_err("no token").to_string()
}

proptest! {
    #[test]
    fn a_token_reads_as_it_was_given(context in arbitrary::wild_dot_set(), millis in 0..Stamp::MILLIS_MAX, counter: u16) {
        let token = Token { context, stamp: Stamp { millis, counter } };
        let seal = Seal::new(b"secret");
        let text = seal.text(&key("k"), &token).expect("a few origins fit");

        prop_assert_eq!(seal.read(&headers(&text), &key("k")).unwrap(), Some(token));
    }

    #[test]
    fn a_token_that_was_changed_is_refused(context in arbitrary::dot_set(), place: prop::sample::Index) {
        let seal = Seal::new(b"secret");
        let token = Token { context, stamp: Stamp::default() };
        let text = seal.text(&key("k"), &token).expect("a few origins fit");
        let mut changed = text.clone().into_bytes();
        let place = place.index(changed.len());
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();

        // The last character may carry bits that mean nothing.
        if let Ok(read) = seal.read(&headers(&changed), &key("k")) {
            prop_assert_eq!(read, Some(token));
        }
    }

    #[test]
    fn nonsense_is_refused_and_nothing_panics(text in "[ -~]{0,80}") {
        let text = text.trim();
        prop_assert!(seal_of_nothing().read(&headers(text), &key("k")).is_err());
    }
}

fn seal_of_nothing() -> Seal {
    Seal::new(b"")
}

#[test]
fn a_token_is_for_one_key_of_one_cluster() {
    let token = Token { context: DotSet::from_iter([Dot { origin: Origin(1), seq: 1 }]), ..Token::default() };
    let text = Seal::new(b"ours").text(&key("k"), &token).unwrap();

    let ours = Seal::new(b"ours");
    assert_eq!(refused(&ours, &text, "l"), "bad-context: the token belongs to another key");
    assert_eq!(refused(&Seal::new(b"theirs"), &text, "k"), "bad-context: the token belongs to another key");
    assert_eq!(refused(&ours, "AAAA", "k"), "bad-context: the token is cut short");
    let long = "A".repeat(TEXT_BYTES_MAX + 1);
    assert_eq!(refused(&ours, &long, "k"), "bad-context: the token has 4097 characters; the limit is 4096");
}

#[test]
fn a_context_too_large_for_a_token_has_none() {
    let context: DotSet = (1..=2_000).map(|origin| Dot { origin: Origin(origin), seq: 1 }).collect();

    assert_eq!(seal_of_nothing().header(&key("k"), &Token { context, stamp: Stamp::default() }), None);
}

#[test]
fn the_largest_context_that_a_version_may_name_fits_a_token() {
    let runs = crate::protocol::siblings::RUNS_MAX as u64;
    let dot = |origin| Dot { origin: Origin(u64::MAX - origin), seq: 1 << 40 };
    let context: DotSet = (0..=runs).map(dot).collect();

    assert!(seal_of_nothing().header(&key("k"), &Token { context, stamp: Stamp::default() }).is_some());
}
