use super::*;

#[test]
fn a_slip_of_the_finger_finds_the_word_that_was_meant() {
    for (found, meant) in [("krash", "crash"), ("hael", "heal"), ("partion", "partition"), ("Put", "put")] {
        assert_eq!(closest(found, ["put", "crash", "heal", "partition"]), Some(meant));
    }
}

#[test]
fn a_word_like_nothing_known_gets_no_suggestion() {
    assert_eq!(closest("explode", ["put", "crash", "heal"]), None);
    assert_eq!(closest("", ["put"]), None);
}
