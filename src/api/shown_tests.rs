use proptest::prelude::*;

use super::*;
use crate::model::{Dot, Origin, Stamp, WallTime};

#[test]
fn a_json_value_becomes_one_line_without_changing_what_it_says() {
    let text = "{\r\n  \"a b\" : [ 1.50, \"x\\\" \\\\\" ] ,\t\"c\" : \"\\n\" }";
    let version = Version {
        stamp: Stamp::default(),
        dot: Dot { origin: Origin(1), seq: 1 },
        author_joined: WallTime(0),
        ruling: 0,
        confirms: None,
        tombstone: false,
        expires_at: None,
        content_type: "application/json".into(),
        value: text.into(),
    };

    let line = one_line(&version).unwrap();

    assert_eq!(line.get(), r#"{"a b":[1.50,"x\" \\"],"c":"\n"}"#);
}

#[test]
fn only_a_named_media_type_is_accepted() {
    let headers = |value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, value.parse().unwrap());
        headers
    };

    assert!(accepts(&headers("text/html, Text/Event-Stream;q=0.5"), EVENT_STREAM));
    assert!(!accepts(&headers("*/*"), EVENT_STREAM));
    assert!(!accepts(&HeaderMap::new(), EVENT_STREAM));
    assert!(!accepts(&headers("*/*, text/event-stream; q=0.0"), EVENT_STREAM));
}

proptest! {
    #[test]
    fn bytes_come_back_exactly(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let json = serde_json::to_string(&Exact::of(&bytes)).unwrap();
        let back: Exact = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(back.bytes(), Some(bytes));
    }
}
