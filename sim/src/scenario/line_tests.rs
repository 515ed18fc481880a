use proptest::prelude::*;

use super::*;

fn one_key(text: &str) -> Result<Keys, String> {
    let words = words(text).map_err(|complaint| complaint.message)?;
    Line::new(&words, &[]).keys().map_err(|complaint| complaint.message)
}

#[test]
fn words_keep_their_columns() {
    let words = words(r#"put  a "two words" x"#).expect("words");

    let places: Vec<_> = words.iter().map(|word| (word.text.as_str(), word.at, word.quoted)).collect();
    assert_eq!(places, [("put", 0, false), ("a", 5, false), ("two words", 7, true), ("x", 19, false)]);
}

#[test]
fn broken_quotes_are_refused_where_they_stand() {
    assert_eq!(words(r#"put a "k"#).expect_err("open").at, 6);
    assert_eq!(words(r#"put a "k"x"#).expect_err("glued").at, 9);
    assert!(words(r#""\q""#).expect_err("escape").message.contains("JSON"));
}

#[test]
fn keys_are_encoded_quoted_or_ranges() {
    assert_eq!(one_key("a/b"), Ok(Keys::One(b"a/b".to_vec())));
    assert_eq!(one_key("/a%20b%FF"), Ok(Keys::One(b"a b\xff".to_vec())));
    assert_eq!(one_key(r#""100% k/1..2""#), Ok(Keys::One(b"100% k/1..2".to_vec())));
    assert_eq!(one_key("k/1..100"), Ok(Keys::Range("k/".to_owned(), 1..=100)));
    assert_eq!(one_key("1..2"), Ok(Keys::Range(String::new(), 1..=2)));
    assert_eq!(one_key("a..b"), Ok(Keys::One(b"a..b".to_vec())));
    assert_eq!(one_key("k/1%2E.2"), Ok(Keys::One(b"k/1..2".to_vec())));
}

#[test]
fn what_is_no_key_says_which_rule_it_breaks() {
    assert!(one_key("a//b").expect_err("segment").contains("empty segment"));
    assert!(one_key("a%2").expect_err("escape").contains("hexadecimal"));
    assert!(one_key("k/5..1").expect_err("backwards").contains("ends before it begins"));
    assert!(one_key("k/01..5").expect_err("zeros").contains("leading zeros"));
    assert!(one_key("k/1..99999999").expect_err("many").contains("more than 10000 keys"));
}

proptest! {
    #[test]
    fn any_text_survives_as_a_word(text in any::<String>()) {
        let shown = show_word(&text);
        prop_assert!(shown.is_ascii());

        let read = words(&shown).expect("one word");
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(&read[0].text, &text);
    }
}
