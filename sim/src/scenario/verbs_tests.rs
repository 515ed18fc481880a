use super::super::line::words;
use super::*;

fn read(line: &str) -> Result<Vec<Step>, String> {
    let nodes = ["a".to_owned(), "b".to_owned()];
    let words = words(line).expect("words");
    read_step(Duration::from_secs(8), &mut Line::new(&words, &nodes)).map_err(|complaint| complaint.message)
}

#[test]
fn options_stand_in_any_order_behind_the_value() {
    let options = |line: &str| match read(line).expect(line).remove(0) {
        Step::Put { options, .. } | Step::Delete { options, .. } => options,
        other => panic!("{other}"),
    };

    let all = options("put a k v ttl=10s expect 503 ack=majority");
    assert_eq!(
        all,
        WriteOptions {
            ack: Ack::Majority,
            ttl: Some(Duration::from_secs(10)),
            offset: None,
            saw: false,
            expect: Some(503)
        }
    );
    assert_eq!(options("put a k/1..2 ack=2").ack, Ack::Nodes(2));
    assert_eq!(options("delete a k expect 412").expect, Some(412));
}

#[test]
fn a_quoted_word_is_a_value_whatever_it_says() {
    let Step::Put { value, .. } = read(r#"put a k "ack=2""#).expect("a put").remove(0) else {
        panic!("a put")
    };
    assert_eq!(value, "ack=2");

    let Step::Expect(Expectation::Get { is, .. }) =
        read(r#"expect get a k is "absent""#).expect("a get").remove(0)
    else {
        panic!("a get")
    };
    assert_eq!(is, Found::Value("absent".to_owned()));
}

#[test]
fn a_line_that_stops_too_early_shows_how_the_verb_is_written() {
    assert_eq!(
        read("cut a").expect_err("half a cut"),
        "the line ends where '->' was expected; it is written 'cut A -> B'"
    );
    assert!(read("put a k").expect_err("no value").contains("put of a single key needs one"));
}
