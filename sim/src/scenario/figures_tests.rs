use proptest::prelude::*;

use super::*;

#[test]
fn durations_read_as_people_write_them() {
    for (text, millis) in
        [("5s", 5_000), ("200ms", 200), ("1.5s", 1_500), ("1m30s", 90_000), ("0s", 0), ("2h", 7_200_000)]
    {
        assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    assert_eq!(duration("0.1ms"), Ok(Duration::from_micros(100)));
    assert_eq!(duration("100us"), Ok(Duration::from_micros(100)));
}

#[test]
fn what_is_no_duration_is_refused_with_an_example() {
    for text in ["5", "", "s", "-5s", "+5s", "5 parsecs", "soon", "1e3s", "5s ago"] {
        let error = duration(text).expect_err(text);
        assert!(error.contains("expected one such as 200ms"), "{error}");
    }
    assert!(duration("9000000h").expect_err("too long").contains("longest"));
}

#[test]
fn offsets_have_signs_and_whole_milliseconds() {
    assert_eq!(signed_millis("+5s"), Ok(5_000));
    assert_eq!(signed_millis("-1500ms"), Ok(-1_500));
    assert_eq!(signed_millis("20ms"), Ok(20));
    assert!(signed_millis("0.5ms").is_err());
    assert!(signed_millis("--5s").is_err());
}

#[test]
fn shares_are_percentages_or_numbers_up_to_one() {
    assert_eq!(share("20%"), Ok(0.2));
    assert_eq!(share("0.5%"), Ok(0.005));
    assert_eq!(share("0"), Ok(0.0));
    assert_eq!(share("0.25"), Ok(0.25));
    for text in ["101%", "-1%", "2", "lots", "%", "NaN", "inf"] {
        assert!(share(text).is_err(), "{text}");
    }
    assert_eq!(show_share(0.07), "7%");
    assert_eq!(show_share(0.005), "0.5%");
}

#[test]
fn ranges_say_how_often_they_are_drawn() {
    let ms = Duration::from_millis;
    assert_eq!(draw("1ms..20ms", duration), Ok(Draw::Each(ms(1)..=ms(20))));
    assert_eq!(draw("5ms", duration), Ok(Draw::Each(ms(5)..=ms(5))));
    assert_eq!(draw("any of 0ms..500ms", signed_millis), Ok(Draw::Once(0..=500)));
    assert_eq!(draw("any of -500ms..500ms", signed_millis), Ok(Draw::Once(-500..=500)));
    assert!(draw("20ms..1ms", duration).is_err());
    assert!(draw("any of", duration).is_err());
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same(nanos in 0u64..=u64::MAX / 4, millis in -3_000_000_000_000i64..=3_000_000_000_000, part in 0.0f64..=1.0) {
        let time = Duration::from_nanos(nanos);
        prop_assert_eq!(duration(&show_duration(time)), Ok(time));
        prop_assert_eq!(signed_millis(&show_offset(millis)), Ok(millis));
        prop_assert_eq!(share(&show_share(part)), Ok(part));
    }
}
