use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_log_even_draw_lands_in_every_power_of_two_alike() {
    let mut dice = Dice::of(1, "test");
    let mut counts = [0u32; 6];
    for _ in 0..6_000 {
        let drawn = dice.log_between(SECOND, 64 * SECOND);
        assert!((SECOND..=64 * SECOND).contains(&drawn));
        counts[(drawn.as_secs().ilog2() as usize).min(5)] += 1;
    }
    assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
}

#[test]
fn the_exponential_has_its_mean_and_its_tail() {
    let mut dice = Dice::of(1, "test");
    let waits: Vec<f64> = (0..20_000).map(|_| dice.exponential(SECOND).as_secs_f64()).collect();

    let mean = waits.iter().sum::<f64>() / 20_000.0;
    let late = waits.iter().filter(|wait| **wait > 3.0).count();
    assert!((0.98..1.02).contains(&mean), "{mean}");
    assert!((900..1090).contains(&late), "{late} of 996 expected");
}

#[test]
fn weights_are_kept() {
    let mut dice = Dice::of(1, "test");
    let ones = (0..10_000).filter(|_| dice.weighted(&[(1, 1), (0, 2), (3, 3)]) == 1).count();
    assert!((2_350..2_650).contains(&ones), "{ones}");
    assert!((0..1_000).all(|_| dice.weighted(&[(1, 1), (0, 2), (3, 3)]) != 2));
}

#[test]
fn a_fifth_of_the_lengths_stand_right_at_a_timer() {
    let mut dice = Dice::of(1, "test");
    let ms = Duration::from_millis;
    let near = (0..10_000).filter(|_| (ms(999)..=ms(1001)).contains(&dice.around(&[SECOND]))).count();
    assert!((1_850..2_300).contains(&near), "{near}");
}
