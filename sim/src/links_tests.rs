use super::*;
use crate::scenario::Scenario;
use reknit::protocol::Message;
use reknit::protocol::wire::{self, Assembler};

const SECOND: Duration = Duration::from_secs(1);

fn names() -> Vec<String> {
    ["a", "b", "c"].map(str::to_owned).to_vec()
}

fn links(change: impl FnOnce(&mut Network)) -> Links {
    let mut network = Scenario::quiet("test", names()).network;
    change(&mut network);
    Links::new(&network, &names(), 7)
}

fn frame() -> Bytes {
    let message = Message::Refuse { reason: "because".into() };
    wire::encode(&message, 1).unwrap().remove(0)
}

fn arrivals(links: &mut Links, at: Duration, to: usize) -> Vec<Arrival> {
    links.fate(at, 0, to, frame()).into_iter().flatten().collect()
}

#[test]
fn a_quiet_link_delivers_every_frame_once_within_its_delay() {
    let mut links = links(|_| {});

    for n in 0..1000 {
        let arrivals = arrivals(&mut links, n * SECOND, 1);

        assert_eq!(arrivals.len(), 1);
        let took = arrivals[0].at - n * SECOND;
        assert!(took >= Duration::from_millis(1) && took <= Duration::from_millis(5));
        assert_eq!(arrivals[0].frame, frame());
    }
}

#[test]
fn loss_and_duplication_come_about_as_often_as_asked() {
    let mut links = links(|network| (network.loss, network.duplicate) = (0.2, 0.1));

    for n in 0..10_000 {
        arrivals(&mut links, n * SECOND / 100, 1);
    }

    assert!((1_800..2_200).contains(&links.counts.lost), "{:?}", links.counts);
    assert!((650..950).contains(&links.counts.duplicated), "{:?}", links.counts);
}

#[test]
fn taking_a_frame_out_leaves_the_fate_of_the_others() {
    let noisy = |network: &mut Network| (network.loss, network.duplicate, network.tail) = (0.3, 0.3, 0.3);
    let (mut all, mut fewer) = (links(noisy), links(noisy));

    for n in 0..100 {
        let fate = arrivals(&mut all, n * SECOND, 1);
        if n % 3 != 0 {
            assert_eq!(fate, arrivals(&mut fewer, n * SECOND, 1));
        }
    }
}

#[test]
fn frames_sent_in_one_instant_have_fates_of_their_own() {
    let mut links = links(|_| {});

    let first = arrivals(&mut links, SECOND, 1);
    let second = arrivals(&mut links, SECOND, 1);

    assert_ne!(first[0].at, second[0].at);
}

#[test]
fn the_wire_rejects_every_damaged_frame() {
    let mut links = links(|network| network.corrupt = 1.0);

    for n in 0..2_000 {
        let arrival = arrivals(&mut links, n * SECOND, 1).remove(0);
        let read = Assembler::default().push(arrival.frame.clone());
        // An even number of flips may hit the same bit and leave the frame whole.
        assert!(read.is_err() || arrival.frame == frame());
    }
}

#[test]
fn a_cut_loses_one_direction_and_what_is_under_way() {
    let mut links = links(|_| {});
    let under_way = arrivals(&mut links, SECOND, 1);
    assert_eq!(under_way.len(), 1);

    links.cut(0, 1);

    assert!(!links.arrives(0, 1));
    assert!(arrivals(&mut links, 2 * SECOND, 1).is_empty());
    assert!(links.arrives(1, 0));
}

#[test]
fn partitions_replace_each_other_and_heal_undoes_everything() {
    let mut links = links(|_| {});
    links.partition(&[vec![0], vec![1, 2]]);
    assert!(links.is_cut(0, 1) && links.is_cut(1, 0) && !links.is_cut(1, 2));

    links.partition(&[vec![0, 1], vec![2]]);
    assert!(!links.is_cut(0, 1) && links.is_cut(1, 2));

    links.isolate(0);
    assert!(links.is_cut(0, 1) && links.is_cut(1, 0));

    links.heal();
    assert!((0..3).all(|from| (0..3).all(|to| !links.is_cut(from, to))));
}

#[test]
fn a_clogged_node_gets_everything_at_once_when_it_is_let_through() {
    let mut links = links(|_| {});
    links.clog(1, 9 * SECOND);

    let held: Vec<Duration> = (0..5).map(|n| arrivals(&mut links, n * SECOND, 1)[0].at).collect();
    let others = arrivals(&mut links, SECOND, 2)[0].at;
    links.unclog(1);
    let after = arrivals(&mut links, 10 * SECOND, 1)[0].at;

    assert!(
        held.iter().all(|at| (9 * SECOND..=9 * SECOND + Duration::from_millis(10)).contains(at)),
        "{held:?}"
    );
    assert!(others < 2 * SECOND && after < 11 * SECOND);
    assert_eq!(links.counts.clogged, 5);
}

#[test]
fn losses_come_in_runs_where_they_are_asked_to() {
    let mut links = links(|network| (network.loss, network.burst) = (0.02, 10));
    let lost: Vec<bool> = (0..20_000).map(|n| arrivals(&mut links, n * SECOND / 100, 1).is_empty()).collect();

    let runs = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
    let all = lost.iter().filter(|lost| **lost).count();
    assert!((7..13).contains(&(all / runs)), "{all} lost in {runs} runs");
}

#[test]
fn little_bandwidth_makes_frames_wait_and_loses_what_would_wait_too_long() {
    let bytes = frame().len() as u64;
    let mut links = links(|network| network.bandwidth = Some(bytes * 10));

    let arrived: Vec<Duration> =
        (0..20).flat_map(|_| arrivals(&mut links, SECOND, 1)).map(|one| one.at).collect();

    // Ten a second: the first takes a tenth, and what would begin later than half a second from now is lost.
    assert_eq!(arrived.len(), 6);
    assert!(arrived[5] >= SECOND + Duration::from_millis(600), "{arrived:?}");
    assert_eq!(links.counts.overflowed, 14);
}

#[test]
fn damage_cuts_short_puts_two_together_or_flips_bits_and_never_leaves_a_frame_as_it_was_unsaid() {
    let mut links = links(|network| network.corrupt = 1.0);
    let (mut short, mut flipped) = (0, 0);
    for n in 0..400 {
        for Arrival { frame: arrived, is_damaged, .. } in arrivals(&mut links, n * SECOND, 1) {
            assert_eq!(is_damaged, arrived != frame());
            short += u32::from(arrived.len() < frame().len());
            flipped += u32::from(is_damaged && arrived.len() == frame().len());
        }
    }
    assert!(short > 20 && flipped > 200, "{short} {flipped}");
}
