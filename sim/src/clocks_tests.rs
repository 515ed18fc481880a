use std::time::Duration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn clock(drift_ppm: i64, granularity_millis: u64) -> MachineClock {
    let granularity = Duration::from_millis(granularity_millis);
    MachineClock::new(&ClockModel { skew: Draw::Each(0..=0), granularity, drift_ppm }, 7, "a")
}

fn wall(clock: &MachineClock, at: Duration) -> i64 {
    i64::try_from(clock.now(at, Duration::ZERO).wall.0).unwrap() - i64::try_from(START_MILLIS).unwrap()
}

#[test]
fn skew_is_drawn_once_per_seed_and_node() {
    let model =
        ClockModel { skew: Draw::Once(-500..=500), granularity: Duration::from_millis(1), drift_ppm: 0 };
    let of = |seed, name| wall(&MachineClock::new(&model, seed, name), SECOND);

    assert_eq!(of(7, "a"), of(7, "a"));
    assert_ne!(of(7, "a"), of(7, "b"));
    assert_ne!(of(7, "a"), of(8, "a"));
}

#[test]
fn a_coarse_clock_shows_multiples_of_its_step() {
    let clock = clock(0, 100);

    assert_eq!(wall(&clock, Duration::from_millis(199)), 100);
    assert_eq!(wall(&clock, Duration::from_millis(200)), 200);
}

#[test]
fn jumps_and_skews_move_the_wall_clock_only() {
    let mut clock = clock(0, 1);
    clock.skew(5_000);
    clock.jump(-10_000);

    assert_eq!(wall(&clock, SECOND), -4_000);
    assert_eq!(clock.now(SECOND, Duration::ZERO).mono, Instant(SECOND));
}

#[test]
fn a_frozen_clock_stands_still_and_thaws_to_true_time() {
    let mut clock = clock(0, 1);
    clock.freeze(SECOND);

    assert_eq!(wall(&clock, 5 * SECOND), 1_000);
    clock.thaw();
    assert_eq!(wall(&clock, 5 * SECOND), 5_000);
}

#[test]
fn a_timer_fires_when_the_nodes_own_clock_has_reached_it_and_no_nanosecond_before() {
    for drift_ppm in [-50_000, -137, 0, 1, 999, 50_000] {
        let clock = clock(drift_ppm, 1);
        for nanos in [1, 999, 1_000_000, 123_456_789, 86_400_000_000_007] {
            let timer = Instant(Duration::from_nanos(nanos));
            let at = clock.when(timer, SECOND);

            assert!(clock.now(at, SECOND).mono >= timer, "{drift_ppm} ppm, {nanos} ns");
            let before = at.saturating_sub(Duration::from_nanos(3));
            assert!(clock.now(before, SECOND).mono < timer, "{drift_ppm} ppm, {nanos} ns");
        }
    }
}
