//! Clusters of member tables that go through what is known to have broken other memberships, with many seeds each.
//!
//! A story panics where a promise is broken. They are tests, and `sim mutants` hunts the bugs of the tables with them.

use std::time::Duration;

use reknit::model::{MemberState, ProtocolRange};
use reknit::protocol::timing::Timing;

use super::world::{Setup, World, address, id, network, setups};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A node called `name` that joins through the places of `seeds`.
fn setup(name: &str, seeds: &[&str]) -> Setup {
    Setup::new(name, seeds.iter().map(|seed| address(seed)).collect())
}

fn world(setups: Vec<Setup>, seed: u64) -> World {
    World::new(setups, &network(0.0), Timing::default(), seed)
}

/// Lets time pass until everybody who runs is known to everybody, and nobody else is.
fn agrees_within(world: &mut World, time: Duration) -> bool {
    let until = world.at + time;
    world.run_until(until, World::agrees)
}

fn seeds_may_be_dead_wrong_oneself_or_named_twice(seed: u64) {
    let all = ["nobody", "a", "a", "b", "dead"];
    let mut world = world(vec![setup("a", &all), setup("b", &all), setup("dead", &[])], seed);

    world.start(0);
    world.start(1);

    assert!(agrees_within(&mut world, s(3)), "seed {seed}");
    world.run(s(60));
    assert_eq!(world.told("member-down") + world.told("name-conflict"), 0, "seed {seed}");
}

fn a_seed_that_comes_late_is_found_however_late(seed: u64) {
    let mut world = world(vec![setup("a", &["late"]), setup("late", &[])], seed);
    world.start(0);
    world.run(s(600));

    world.start(1);

    assert!(agrees_within(&mut world, s(35)), "seed {seed}");
}

fn two_halves_become_one_once_an_operator_names_a_node_of_the_other(seed: u64) {
    let nodes = ["a", "b", "c"].map(|name| setup(name, &["a"]));
    let others = ["d", "e", "f"].map(|name| setup(name, &["d"]));
    let mut world = world([nodes, others].concat(), seed);
    (0..6).for_each(|node| world.start(node));
    world.run(s(10));
    assert!(!world.agrees());

    world.with(1, |table, now, _| table.join(now, address("e")));

    assert!(agrees_within(&mut world, s(5)), "seed {seed}");
}

fn halves_whose_seed_lists_meet_become_one_by_themselves(seed: u64) {
    let nodes = [setup("a", &[]), setup("b", &["a", "d"]), setup("c", &[]), setup("d", &["c"])];
    let mut world = world(nodes.to_vec(), seed);
    world.links.partition(&[vec![0, 1], vec![2, 3]]);
    (0..4).for_each(|node| world.start(node));
    world.run(s(120));
    assert!(!world.agrees());

    world.links.heal();

    assert!(agrees_within(&mut world, s(35)), "seed {seed}");
}

fn ten_nodes_that_join_in_the_same_millisecond_all_get_in(seed: u64) {
    let mut world = world(setups(11), seed);
    world.start(0);
    world.run(s(1));

    (1..11).for_each(|node| world.start(node));

    assert!(agrees_within(&mut world, s(3)), "seed {seed}");
    world.run(s(60));
    assert_eq!(world.told("member-suspect") + world.told("member-down"), 0, "seed {seed}");
}

fn ten_nodes_that_start_in_the_same_millisecond_find_each_other(seed: u64) {
    let mut world = world(setups(10), seed);

    (0..10).for_each(|node| world.start(node));

    assert!(agrees_within(&mut world, s(4)), "seed {seed}");
}

fn of_two_nodes_with_one_name_the_later_one_is_refused_and_told_why_once(seed: u64) {
    let impostor = Setup { address: address("elsewhere"), ..setup("b", &["a"]) };
    let mut world = world(vec![setup("a", &["b"]), setup("b", &["a"]), impostor], seed);
    world.start(0);
    world.start(1);
    world.run(s(5));

    world.start(2);
    world.run(s(300));

    let held = world.table(0).and_then(|table| table.address(&id("b"))).cloned();
    assert_eq!(held, Some(address("b")), "seed {seed}");
    assert_eq!(world.told("member-moved"), 0, "the name does not flap (seed {seed})");
    let told =
        |node, name| world.log.iter().filter(|(_, at, event)| *at == node && event.name == name).count();
    assert!(told(0, "name-conflict") <= 2, "seed {seed}: {:?}", world.log);
    assert!(
        (1..=3).contains(&(told(2, "refused") + told(2, "name-conflict"))),
        "seed {seed}: {:?}",
        world.log
    );
    assert!(agree(&world, &[0, 1]), "seed {seed}");
}

/// Whether these hold each other for alive.
fn agree(world: &World, nodes: &[usize]) -> bool {
    let name = |node: usize| world.table(node).map(|table| table.me().id.clone()).expect("it runs");
    let knows = |node: usize, other: usize| world.state(node, &name(other)) == Some(MemberState::Alive);
    nodes.iter().all(|&node| nodes.iter().all(|&other| node == other || knows(node, other)))
}

fn an_address_that_another_node_has_taken_over_is_the_new_ones(seed: u64) {
    let heir = Setup { address: address("b"), ..setup("heir", &["a"]) };
    let mut world = world(vec![setup("a", &[]), setup("b", &["a"]), setup("c", &["a"]), heir], seed);
    (0..3).for_each(|node| world.start(node));
    world.run(s(5));

    world.crash(1);
    world.start(3);
    world.run(s(30));

    assert_eq!(world.state(0, &id("b")), Some(MemberState::Down), "seed {seed}");
    assert_eq!(world.state(2, &id("heir")), Some(MemberState::Alive), "seed {seed}");
    assert!(world.told("address-reused") >= 1, "seed {seed}");
    let suspicions = world.told("member-suspect");
    world.run(s(120));
    assert_eq!(world.told("member-suspect"), suspicions, "nothing flaps (seed {seed})");
}

fn a_node_that_moves_to_another_address_keeps_its_name(seed: u64) {
    let mut world = world(vec![setup("a", &[]), setup("b", &["a"]), setup("c", &["a"])], seed);
    (0..3).for_each(|node| world.start(node));
    world.run(s(5));

    world.crash(1);
    world.set_up(1, Setup { address: address("moved"), ..setup("b", &["a"]) });
    world.start(1);
    world.run(s(10));

    assert!(world.agrees(), "seed {seed}");
    let held = world.table(2).and_then(|table| table.address(&id("b"))).cloned();
    assert_eq!(held, Some(address("moved")), "seed {seed}");
}

fn a_wiped_node_comes_back_under_its_name(seed: u64) {
    let mut world = world(setups(3), seed);
    (0..3).for_each(|node| world.start(node));
    world.run(s(5));

    for _ in 0..3 {
        world.crash(1);
        world.wipe(1);
        world.start(1);
        assert!(agrees_within(&mut world, s(5)), "seed {seed}");
    }
}

fn a_cloned_disk_under_its_own_name_is_another_member(seed: u64) {
    let mut world = world(setups(3), seed);
    (0..2).for_each(|node| world.start(node));
    world.run(s(5));

    world.clone_disk(0, 2);
    world.start(2);

    assert!(agrees_within(&mut world, s(5)), "seed {seed}");
}

fn a_node_that_stood_still_comes_back_and_accuses_nobody(seed: u64) {
    let mut world = World::acquainted(5, &network(0.0), Timing::default(), seed);
    world.run(s(5));

    world.pause(2);
    world.run(s(30));
    assert_eq!(world.state(0, &id("n2")), Some(MemberState::Down), "seed {seed}");
    world.log.clear();
    world.resume(2);

    assert!(agrees_within(&mut world, s(5)), "seed {seed}");
    world.run(s(30));
    assert_eq!(world.told("member-down"), 0, "seed {seed}: {:?}", world.log);
}

fn links_that_flap_down_nobody_for_long(seed: u64) {
    let mut world = World::acquainted(5, &network(0.0), Timing::default(), seed);
    for _ in 0..100 {
        world.links.isolate(4);
        world.run(Duration::from_millis(700));
        world.links.heal();
        world.run(Duration::from_millis(300));
    }

    assert!(agrees_within(&mut world, s(5)), "seed {seed}");
}

fn one_deaf_link_downs_nobody_while_others_hear_both_ends(seed: u64) {
    let mut world = World::acquainted(5, &network(0.0), Timing::default(), seed);
    world.links.cut(0, 1);

    world.run(s(120));

    let suspicions = world.told("member-suspect");
    assert_eq!(suspicions + world.told("member-down"), 0, "others are asked to try (seed {seed})");
    assert!(world.agrees(), "seed {seed}");
}

fn a_quarter_of_all_messages_may_be_lost(seed: u64) {
    let mut world = World::new(setups(10), &network(0.25), Timing::default(), seed);
    (0..10).for_each(|node| world.start(node));

    assert!(agrees_within(&mut world, s(10)), "seed {seed}");
    world.run(s(300));
    assert_eq!(world.told("member-down"), 0, "seed {seed}");
}

fn two_nodes_meet_again_after_any_outage(seed: u64) {
    let mut world = World::acquainted(2, &network(0.0), Timing::default(), seed);
    world.links.isolate(0);
    world.run(s(3_600));

    world.links.heal();

    assert!(agrees_within(&mut world, s(5)), "seed {seed}");
}

fn who_leaves_is_gone_for_everybody_even_if_its_goodbye_is_lost_on_the_way_to_most(seed: u64) {
    let mut world = World::acquainted(10, &network(0.0), Timing::default(), seed);
    world.run(s(5));
    (1..9).for_each(|node| world.links.cut(0, node));

    world.with(0, |table, now, out| table.leave(now, out));
    world.crash(0);
    world.links.heal();
    world.run(s(10));

    for node in 1..10 {
        assert_eq!(world.state(node, &id("n0")), Some(MemberState::Left), "node {node}, seed {seed}");
    }
    assert_eq!(world.told("member-down"), 0, "seed {seed}");
}

fn who_is_removed_is_not_gossiped_back_and_comes_back_only_by_itself(seed: u64) {
    let mut world = World::acquainted(5, &network(0.0), Timing::default(), seed);
    world.crash(4);
    world.run(s(20));
    // One of them does not hear of it for a long time, and still holds the old record.
    world.links.isolate(3);
    world.with(0, |table, now, out| table.remove(now, &id("n4"), false, out).expect("it is down"));
    world.run(s(20));
    world.links.heal();
    world.run(s(200));

    for node in 0..4 {
        assert_eq!(world.state(node, &id("n4")), Some(MemberState::Forgotten), "node {node}, seed {seed}");
    }

    world.start(4);
    assert!(agrees_within(&mut world, s(10)), "seed {seed}");
    assert!(world.told("forgotten-returned") >= 1, "it is said aloud (seed {seed})");
}

fn the_long_gone_are_forgotten_by_a_majority_and_never_by_a_minority(seed: u64) {
    let timing = Timing { forget_after: s(60), ..Timing::default() };
    let mut world = World::acquainted(5, &network(0.0), timing, seed);
    world.links.partition(&[vec![0, 1, 2], vec![3, 4]]);

    world.run(s(120));

    assert_eq!(world.state(0, &id("n3")), Some(MemberState::Forgotten), "seed {seed}");
    assert_eq!(world.state(3, &id("n0")), Some(MemberState::Down), "seed {seed}");

    world.links.heal();
    assert!(agrees_within(&mut world, s(35)), "they meet again all the same (seed {seed})");
}

fn a_table_survives_its_node_so_that_a_restart_needs_no_seed(seed: u64) {
    let mut world = world(vec![setup("a", &[]), setup("b", &["a"]), setup("c", &["a"])], seed);
    (0..3).for_each(|node| world.start(node));
    world.run(s(5));

    (0..3).for_each(|node| world.crash(node));
    (0..3).for_each(|node| world.set_up(node, setup(["a", "b", "c"][node], &[])));
    (0..3).for_each(|node| world.start(node));

    assert!(agrees_within(&mut world, s(5)), "seed {seed}");
}

fn a_first_join_is_remembered_for_life(seed: u64) {
    let mut world = world(setups(3), seed);
    (0..3).for_each(|node| world.start(node));
    world.run(s(5));
    let joined = |world: &World| world.table(0).and_then(|table| table.member(&id("n1"))).map(|it| it.joined);
    let first = joined(&world);

    for _ in 0..5 {
        world.crash(1);
        world.run(s(10));
        world.wipe(1);
        world.start(1);
        assert!(agrees_within(&mut world, s(5)), "seed {seed}");
    }

    assert_eq!(joined(&world), first, "seed {seed}");
    let own = world.table(1).map(|table| table.me().joined);
    assert_eq!(own, first, "a wiped node is told when it joined (seed {seed})");
}

fn a_node_that_hears_nobody_calls_nobody_down_at_once(seed: u64) {
    let mut world = World::acquainted(5, &network(0.0), Timing::default(), seed);
    world.run(s(5));
    (1..5).for_each(|node| world.links.cut(node, 0));

    world.run(Duration::from_millis(4_500));
    world.links.heal();

    assert!(agrees_within(&mut world, s(5)), "seed {seed}");
    assert_eq!(world.told("member-down"), 0, "nobody shared its suspicions (seed {seed}): {:?}", world.log);
}

fn who_hears_nothing_and_goes_on_talking_is_not_called_down(seed: u64) {
    let mut world = World::acquainted(5, &network(0.0), Timing::default(), seed);
    world.run(s(5));
    world.links.isolate(0);
    let is_suspect = |world: &World| world.state(1, &id("n0")) == Some(MemberState::Suspect);
    let until = world.at + s(10);
    assert!(world.run_until(until, is_suspect), "seed {seed}");

    // It can be heard again, and still hears nothing, so it cannot know what to refute.
    world.links.heal();
    (1..5).for_each(|node| world.links.cut(node, 0));
    world.run(s(6));

    let deaths = world.log.iter().filter(|(_, node, event)| *node != 0 && event.name == "member-down");
    let of_it = deaths.filter(|(_, _, event)| event.text.starts_with("n0 "));
    assert_eq!(of_it.count(), 0, "seed {seed}: {:?}", world.log);
}

fn a_node_that_stood_still_gives_its_suspects_their_time(seed: u64) {
    let mut world = World::acquainted(5, &network(0.0), Timing::default(), seed);
    world.run(s(5));
    world.links.isolate(3);
    let is_suspect = |world: &World| world.state(2, &id("n3")) == Some(MemberState::Suspect);
    let until = world.at + s(10);
    assert!(world.run_until(until, is_suspect), "seed {seed}");

    world.pause(2);
    world.links.heal();
    world.run(s(10));
    world.log.clear();
    world.resume(2);

    assert!(agrees_within(&mut world, s(5)), "seed {seed}");
    assert_eq!(world.told("member-down"), 0, "seed {seed}: {:?}", world.log);
}

fn a_death_among_fifty_is_noticed_within_five_seconds_and_known_to_all_in_one_more_half(seed: u64) {
    let mut world = World::acquainted(50, &network(0.0), Timing::default(), seed);
    world.run(s(3) + Duration::from_millis(seed * 137 % 1_000));
    let victim = usize::try_from(seed % 50).expect("below fifty");
    world.crash(victim);
    let crashed = world.at;

    let name = id(&format!("n{victim}"));
    let knows = |world: &World, node: usize| world.state(node, &name) == Some(MemberState::Down);
    let some = |world: &World| (0..50).any(|node| knows(world, node));
    assert!(world.run_until(crashed + s(5), some), "nobody noticed (seed {seed})");

    let all = |world: &World| (0..50).all(|node| node == victim || knows(world, node));
    let until = world.at + Duration::from_millis(500);
    assert!(world.run_until(until, all), "some have not heard (seed {seed})");
    assert_eq!(world.told("member-down"), 49, "and nobody else (seed {seed})");
}

fn news_reaches_fifty_nodes_within_a_second(seed: u64) {
    let mut world = World::acquainted(50, &network(0.0), Timing::default(), seed);
    world.run(s(3));

    world.with(0, |table, now, _| table.update_me(now, |_| {}));
    let fact = world.table(0).expect("it runs").me().incarnation;

    let until = world.at + s(1);
    let knows = |world: &World, node: usize| {
        let held = world.table(node).and_then(|table| table.member(&id("n0")));
        held.is_some_and(|held| held.incarnation >= fact)
    };
    let all = |world: &World| (1..50).all(|node| knows(world, node));
    assert!(world.run_until(until, all), "seed {seed}");
}

fn who_was_cut_off_from_all_news_is_told_within_seconds(seed: u64) {
    let mut world = World::acquainted(5, &network(0.0), Timing::default(), seed);
    world.crash(4);
    world.run(s(20));
    world.links.isolate(3);
    world.with(0, |table, now, out| table.remove(now, &id("n4"), false, out).expect("it is down"));
    world.run(s(20));

    world.links.heal();

    let until = world.at + s(15);
    let is_told = |world: &World| world.state(3, &id("n4")) == Some(MemberState::Forgotten);
    assert!(world.run_until(until, is_told), "seed {seed}");
}

fn who_speaks_another_version_is_refused_and_both_are_told_why_once(seed: u64) {
    let later = ProtocolRange { min: 7, max: 9 };
    let other = Setup { protocol: later, ..setup("c", &["a", "b"]) };
    let mut world = world(vec![setup("a", &[]), setup("b", &["a"]), other], seed);
    (0..3).for_each(|node| world.start(node));

    world.run(s(300));

    let told =
        |node, name| world.log.iter().filter(|(_, at, event)| *at == node && event.name == name).count();
    for node in 0..2 {
        assert_eq!(world.state(node, &id("c")), None, "seed {seed}");
        assert_eq!(told(node, "protocol-conflict"), 1, "seed {seed}: {:?}", world.log);
    }
    // Each of the two gives a reason of its own.
    assert_eq!(told(2, "refused"), 2, "seed {seed}: {:?}", world.log);
    assert!(agree(&world, &[0, 1]), "seed {seed}");

    // With the same version as the others it is let in.
    world.crash(2);
    world.set_up(2, setup("c", &["a", "b"]));
    world.start(2);
    assert!(agrees_within(&mut world, s(5)), "seed {seed}");
}

fn who_has_other_policies_is_a_member_without_data_and_that_is_said_once(seed: u64) {
    let other = Setup { policies: 5, ..setup("c", &["a"]) };
    let mut world = world(vec![setup("a", &[]), setup("b", &["a"]), other], seed);
    (0..3).for_each(|node| world.start(node));

    world.run(s(300));

    assert!(world.agrees(), "seed {seed}");
    let takes = |node: usize, name| world.table(node).expect("it runs").takes_data_from(&id(name));
    assert!(takes(0, "b") && takes(1, "a"), "seed {seed}");
    assert!(!takes(0, "c") && !takes(1, "c") && !takes(2, "a") && !takes(2, "b"), "seed {seed}");
    let told = |node| {
        world.log.iter().filter(|(_, at, event)| *at == node && event.name == "policies-differ").count()
    };
    assert_eq!((told(0), told(1), told(2)), (1, 1, 2), "once per member: seed {seed}: {:?}", world.log);

    world.crash(2);
    world.set_up(2, setup("c", &["a"]));
    world.start(2);
    world.run(s(5));
    let takes = |node: usize, name| world.table(node).expect("it runs").takes_data_from(&id(name));
    assert!(world.agrees() && takes(0, "c") && takes(1, "c") && takes(2, "a"), "seed {seed}");
}

fn a_living_clone_under_the_same_name_stands_back_and_the_name_does_not_flap(seed: u64) {
    let clone = Setup { address: address("clone"), ..setup("b", &["a"]) };
    let mut world = world(vec![setup("a", &["b"]), setup("b", &["a"]), setup("c", &["a"]), clone], seed);
    (0..3).for_each(|node| world.start(node));
    world.run(s(5));

    // Its whole disk, life and first join included, comes to life a second time elsewhere.
    world.clone_disk(1, 3);
    world.start(3);
    world.run(s(300));

    for node in [0, 2] {
        let held = world.table(node).and_then(|table| table.address(&id("b"))).cloned();
        assert_eq!(held, Some(address("b")), "seed {seed}: {:?}", world.log);
    }
    // The clone is turned away, so it may think what it likes.
    let flaps = world.log.iter().filter(|(_, node, event)| {
        *node != 3 && ["member-moved", "member-suspect", "member-down"].contains(&event.name)
    });
    assert_eq!(flaps.count(), 0, "seed {seed}: {:?}", world.log);
    let told =
        |node, name| world.log.iter().filter(|(_, at, event)| *at == node && event.name == name).count();
    assert!(
        (1..=3).contains(&(told(3, "refused") + told(3, "name-conflict"))),
        "seed {seed}: {:?}",
        world.log
    );
    assert!(agree(&world, &[0, 1, 2]), "seed {seed}");
}

macro_rules! stories {
    ($($name:ident)*) => {
        /// All of them, by name.
        pub const ALL: &[(&str, fn(u64))] = &[$((stringify!($name), $name)),*];

        #[cfg(test)]
        mod tests {
            $(
                #[test]
                fn $name() {
                    (0..10).for_each(super::$name);
                }
            )*
        }
    };
}

stories! {
    seeds_may_be_dead_wrong_oneself_or_named_twice
    a_seed_that_comes_late_is_found_however_late
    two_halves_become_one_once_an_operator_names_a_node_of_the_other
    halves_whose_seed_lists_meet_become_one_by_themselves
    ten_nodes_that_join_in_the_same_millisecond_all_get_in
    ten_nodes_that_start_in_the_same_millisecond_find_each_other
    of_two_nodes_with_one_name_the_later_one_is_refused_and_told_why_once
    an_address_that_another_node_has_taken_over_is_the_new_ones
    a_node_that_moves_to_another_address_keeps_its_name
    a_wiped_node_comes_back_under_its_name
    a_cloned_disk_under_its_own_name_is_another_member
    a_node_that_stood_still_comes_back_and_accuses_nobody
    links_that_flap_down_nobody_for_long
    one_deaf_link_downs_nobody_while_others_hear_both_ends
    a_quarter_of_all_messages_may_be_lost
    two_nodes_meet_again_after_any_outage
    who_leaves_is_gone_for_everybody_even_if_its_goodbye_is_lost_on_the_way_to_most
    who_is_removed_is_not_gossiped_back_and_comes_back_only_by_itself
    the_long_gone_are_forgotten_by_a_majority_and_never_by_a_minority
    a_table_survives_its_node_so_that_a_restart_needs_no_seed
    a_first_join_is_remembered_for_life
    a_node_that_hears_nobody_calls_nobody_down_at_once
    who_hears_nothing_and_goes_on_talking_is_not_called_down
    a_node_that_stood_still_gives_its_suspects_their_time
    a_death_among_fifty_is_noticed_within_five_seconds_and_known_to_all_in_one_more_half
    news_reaches_fifty_nodes_within_a_second
    who_was_cut_off_from_all_news_is_told_within_seconds
    who_speaks_another_version_is_refused_and_both_are_told_why_once
    who_has_other_policies_is_a_member_without_data_and_that_is_said_once
    a_living_clone_under_the_same_name_stands_back_and_the_name_does_not_flap
}
