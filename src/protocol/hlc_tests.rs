//! Laws of the clock, under wall clocks that do what they like.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::WallTime;

const DRIFT: Duration = Duration::from_secs(60);

fn at(wall: u64) -> Now {
    Now { wall: WallTime(wall), ..Now::default() }
}

fn stamp(millis: u64, counter: u16) -> Stamp {
    Stamp { millis, counter }
}

/// A wall clock's reading: close to the others, an hour off, or nonsense.
fn wall() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 10_000_000_u64..10_000_010,
        1 => select(vec![0, 6_400_000, 13_600_000, Stamp::MILLIS_MAX, u64::MAX]),
    ]
}

proptest! {
    #[test]
    fn stamps_rise_whatever_the_wall_clock_does_by_less_than_the_drift(
        walls in vec(10_000_000_u64..10_060_000, 1..30),
    ) {
        let mut clock = Hlc::new(Stamp::default(), DRIFT, at(walls[0]));
        let mut last = Stamp::default();

        for wall in walls {
            let issued = clock.issue(at(wall), Stamp::default());
            prop_assert!(issued > last);
            prop_assert!(issued > Stamp::at(WallTime(wall)), "a stamp is not before its moment");
            prop_assert_eq!(clock.high_water(), issued);
            last = issued;
        }
    }

    #[test]
    fn a_stamp_is_later_than_its_floor_whatever_the_clocks_say(
        steps in vec((wall(), wall(), 0_u16..3), 1..30),
    ) {
        let mut clock = Hlc::new(Stamp::default(), DRIFT, at(10_000_000));

        for (wall, millis, counter) in steps {
            let floor = stamp(millis.min(Stamp::MILLIS_MAX), counter);
            let issued = clock.issue(at(wall), floor);
            prop_assert!(issued > floor, "the next write of a key wins, however far ahead the key is");
            prop_assert!(issued.millis <= Stamp::MILLIS_MAX, "others can take it");
        }
    }

    #[test]
    fn what_is_far_ahead_is_noted_and_moves_nothing(
        wall in 0_u64..1_000_000_000, millis in any::<u64>(), counter in any::<u16>(),
    ) {
        let mut clock = Hlc::new(Stamp::default(), DRIFT, at(wall));
        let is_far = clock.observe(stamp(millis, counter), at(wall));

        prop_assert_eq!(is_far, millis > wall + 60_000);
        let expected = if is_far { Stamp::default() } else { stamp(millis, counter) };
        prop_assert_eq!(clock.high_water(), expected);
    }

    #[test]
    fn the_time_of_reads_does_not_go_back(walls in vec(10_000_000_u64..10_060_000, 1..30)) {
        let mut clock = Hlc::new(Stamp::default(), DRIFT, at(walls[0]));
        let mut last = 0;

        for wall in walls {
            let written = clock.issue(at(wall), Stamp::default());
            let read = clock.read_millis(at(wall));
            prop_assert!(read >= last && read >= written.millis);
            last = read;
        }
    }
}

#[test]
fn a_full_counter_carries_into_the_milliseconds() {
    let mut clock = Hlc::new(stamp(1000, u16::MAX), DRIFT, at(1000));

    assert_eq!(clock.issue(at(1000), Stamp::default()), stamp(1001, 0));
}

#[test]
fn a_mark_that_a_broken_clock_left_far_ahead_starts_again_at_the_wall_clock() {
    let far = stamp(50_000_000, 3);

    let mut restarted = Hlc::new(far, DRIFT, at(1000));
    assert_eq!(restarted.issue(at(1000), Stamp::default()), stamp(1000, 1));

    let mut running = Hlc::new(far, DRIFT, at(50_000_000));
    assert_eq!(running.issue(at(1000), Stamp::default()), stamp(1000, 1));
}

#[test]
fn a_mark_within_the_drift_is_kept() {
    let mut clock = Hlc::new(stamp(61_000, 3), DRIFT, at(1000));

    assert_eq!(clock.issue(at(1000), Stamp::default()), stamp(61_000, 4));
}

#[test]
fn writes_of_a_key_far_ahead_leave_the_other_keys_alone() {
    let mut clock = Hlc::new(Stamp::default(), DRIFT, at(1000));
    let far = stamp(50_000_000, 7);

    assert_eq!(clock.issue(at(1000), far), stamp(50_000_000, 8));
    assert_eq!(clock.issue(at(1000), Stamp::default()), stamp(1000, 1));
}
