//! Statements come out as they went in, and nonsense does no harm.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn bound() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(b'a'), Just(b'b'), any::<u8>()], 0..12)
}

fn span() -> impl Strategy<Value = Span> {
    (bound(), proptest::option::of(vec(any::<u8>(), 1..6))).prop_map(|(from, more)| {
        let to = more.map(|more| [from.as_slice(), more.as_slice()].concat());
        Span { from, to }
    })
}

fn part() -> impl Strategy<Value = Part> {
    let pieces = (proptest::collection::btree_set(bound(), 2..20), any::<bool>(), any::<u64>());
    prop_oneof![
        pieces.prop_map(|(bounds, is_last, print)| {
            let mut bounds = bounds.into_iter();
            let from = bounds.next().unwrap();
            let mut pieces: Vec<_> = bounds.map(|to| (Some(to), print)).collect();
            if is_last {
                pieces.push((None, print));
            }
            Part::Pieces { from, pieces }
        }),
        (span(), vec(0..1_u64 << 48, 0..20)).prop_map(|(span, prints)| Part::Rows(span, prints)),
        (span(), vec(0..1_u64 << 48, 0..20)).prop_map(|(span, prints)| Part::Want(span, prints)),
    ]
}

proptest! {
    #[test]
    fn statements_come_out_as_they_went_in(parts in vec(part(), 0..8)) {
        let mut writer = Writer::default();
        for part in &parts {
            writer.add(part);
        }

        prop_assert_eq!(read(&writer.into_bytes()), Some(parts));
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn a_flight_cut_short_never_says_more_than_it_did(parts in vec(part(), 1..4), cut in any::<prop::sample::Index>()) {
        let mut writer = Writer::default();
        for part in &parts {
            writer.add(part);
        }
        let bytes = writer.into_bytes();
        let cut = cut.index(bytes.len());

        if let Some(read) = read(&bytes[..cut]) {
            prop_assert!(read.len() < parts.len() && read == parts[..read.len()]);
        }
    }
}
