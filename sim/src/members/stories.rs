//! Clusters of member tables that go through what is known to have broken other memberships, with many seeds each.

use std::time::Duration;

use reknit::model::MemberState;
use reknit::protocol::timing::Timing;

use super::world::{Setup, World, address, id, network, setups};

const SEEDS: std::ops::Range<u64> = 0..10;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A node called `name` that joins through the places of `seeds`.
fn setup(name: &str, seeds: &[&str]) -> Setup {
    Setup { id: id(name), address: address(name), seeds: seeds.iter().map(|seed| address(seed)).collect() }
}

fn world(setups: Vec<Setup>, seed: u64) -> World {
    World::new(setups, &network(0.0), Timing::default(), seed)
}

/// Lets time pass until everybody who runs is known to everybody, and nobody else is.
fn agrees_within(world: &mut World, time: Duration) -> bool {
    let until = world.at + time;
    world.run_until(until, World::agrees)
}

#[test]
fn seeds_may_be_dead_wrong_oneself_or_named_twice() {
    for seed in SEEDS {
        let all = ["nobody", "a", "a", "b", "dead"];
        let mut world = world(vec![setup("a", &all), setup("b", &all), setup("dead", &[])], seed);

        world.start(0);
        world.start(1);

        assert!(agrees_within(&mut world, s(3)), "seed {seed}");
        world.run(s(60));
        assert_eq!(world.told("member-down") + world.told("name-conflict"), 0, "seed {seed}");
    }
}

#[test]
fn a_seed_that_comes_late_is_found_however_late() {
    for seed in SEEDS {
        let mut world = world(vec![setup("a", &["late"]), setup("late", &[])], seed);
        world.start(0);
        world.run(s(600));

        world.start(1);

        assert!(agrees_within(&mut world, s(35)), "seed {seed}");
    }
}

#[test]
fn two_halves_become_one_once_an_operator_names_a_node_of_the_other() {
    for seed in SEEDS {
        let nodes = ["a", "b", "c"].map(|name| setup(name, &["a"]));
        let others = ["d", "e", "f"].map(|name| setup(name, &["d"]));
        let mut world = world([nodes, others].concat(), seed);
        (0..6).for_each(|node| world.start(node));
        world.run(s(10));
        assert!(!world.agrees());

        world.with(1, |table, now, _| table.join(now, address("e")));

        assert!(agrees_within(&mut world, s(5)), "seed {seed}");
    }
}

#[test]
fn halves_whose_seed_lists_meet_become_one_by_themselves() {
    for seed in SEEDS {
        let nodes = [setup("a", &[]), setup("b", &["a", "d"]), setup("c", &[]), setup("d", &["c"])];
        let mut world = world(nodes.to_vec(), seed);
        world.links.partition(&[vec![0, 1], vec![2, 3]]);
        (0..4).for_each(|node| world.start(node));
        world.run(s(120));
        assert!(!world.agrees());

        world.links.heal();

        assert!(agrees_within(&mut world, s(35)), "seed {seed}");
    }
}

#[test]
fn ten_nodes_that_join_in_the_same_millisecond_all_get_in() {
    for seed in SEEDS {
        let mut world = world(setups(11), seed);
        world.start(0);
        world.run(s(1));

        (1..11).for_each(|node| world.start(node));

        assert!(agrees_within(&mut world, s(3)), "seed {seed}");
        world.run(s(60));
        assert_eq!(world.told("member-suspect") + world.told("member-down"), 0, "seed {seed}");
    }
}

#[test]
fn ten_nodes_that_start_in_the_same_millisecond_find_each_other() {
    for seed in SEEDS {
        let mut world = world(setups(10), seed);

        (0..10).for_each(|node| world.start(node));

        assert!(agrees_within(&mut world, s(4)), "seed {seed}");
    }
}

#[test]
fn of_two_nodes_with_one_name_the_later_one_is_refused_and_told_why_once() {
    for seed in SEEDS {
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
}

/// Whether these hold each other for alive.
fn agree(world: &World, nodes: &[usize]) -> bool {
    let name = |node: usize| world.table(node).map(|table| table.me().id.clone()).expect("it runs");
    let knows = |node: usize, other: usize| world.state(node, &name(other)) == Some(MemberState::Alive);
    nodes.iter().all(|&node| nodes.iter().all(|&other| node == other || knows(node, other)))
}

#[test]
fn an_address_that_another_node_has_taken_over_is_the_new_ones() {
    for seed in SEEDS {
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
}

#[test]
fn a_node_that_moves_to_another_address_keeps_its_name() {
    for seed in SEEDS {
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
}

#[test]
fn a_wiped_node_comes_back_under_its_name() {
    for seed in SEEDS {
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
}

#[test]
fn a_cloned_disk_under_its_own_name_is_another_member() {
    for seed in SEEDS {
        let mut world = world(setups(3), seed);
        (0..2).for_each(|node| world.start(node));
        world.run(s(5));

        world.clone_disk(0, 2);
        world.start(2);

        assert!(agrees_within(&mut world, s(5)), "seed {seed}");
    }
}

#[test]
fn a_node_that_stood_still_comes_back_and_accuses_nobody() {
    for seed in SEEDS {
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
}

#[test]
fn links_that_flap_down_nobody_for_long() {
    for seed in SEEDS {
        let mut world = World::acquainted(5, &network(0.0), Timing::default(), seed);
        for _ in 0..100 {
            world.links.isolate(4);
            world.run(Duration::from_millis(700));
            world.links.heal();
            world.run(Duration::from_millis(300));
        }

        assert!(agrees_within(&mut world, s(5)), "seed {seed}");
    }
}

#[test]
fn one_deaf_link_downs_nobody_while_others_hear_both_ends() {
    for seed in SEEDS {
        let mut world = World::acquainted(5, &network(0.0), Timing::default(), seed);
        world.links.cut(0, 1);

        world.run(s(120));

        assert_eq!(world.told("member-down"), 0, "seed {seed}");
        assert!(world.agrees(), "seed {seed}");
    }
}

#[test]
fn a_quarter_of_all_messages_may_be_lost() {
    for seed in SEEDS {
        let mut world = World::new(setups(10), &network(0.25), Timing::default(), seed);
        (0..10).for_each(|node| world.start(node));

        assert!(agrees_within(&mut world, s(10)), "seed {seed}");
        world.run(s(300));
        assert_eq!(world.told("member-down"), 0, "seed {seed}");
    }
}

#[test]
fn two_nodes_meet_again_after_any_outage() {
    for seed in SEEDS {
        let mut world = World::acquainted(2, &network(0.0), Timing::default(), seed);
        world.links.isolate(0);
        world.run(s(3_600));

        world.links.heal();

        assert!(agrees_within(&mut world, s(5)), "seed {seed}");
    }
}

#[test]
fn who_leaves_is_gone_for_everybody_even_if_its_goodbye_is_lost_on_the_way_to_most() {
    for seed in SEEDS {
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
}

#[test]
fn who_is_removed_is_not_gossiped_back_and_comes_back_only_by_itself() {
    for seed in SEEDS {
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
            assert_eq!(
                world.state(node, &id("n4")),
                Some(MemberState::Forgotten),
                "node {node}, seed {seed}"
            );
        }

        world.start(4);
        assert!(agrees_within(&mut world, s(10)), "seed {seed}");
        assert!(world.told("forgotten-returned") >= 1, "it is said aloud (seed {seed})");
    }
}

#[test]
fn the_long_gone_are_forgotten_by_a_majority_and_never_by_a_minority() {
    for seed in SEEDS {
        let timing = Timing { forget_after: s(60), ..Timing::default() };
        let mut world = World::acquainted(5, &network(0.0), timing, seed);
        world.links.partition(&[vec![0, 1, 2], vec![3, 4]]);

        world.run(s(120));

        assert_eq!(world.state(0, &id("n3")), Some(MemberState::Forgotten), "seed {seed}");
        assert_eq!(world.state(3, &id("n0")), Some(MemberState::Down), "seed {seed}");

        world.links.heal();
        assert!(agrees_within(&mut world, s(35)), "they meet again all the same (seed {seed})");
    }
}

#[test]
fn a_table_survives_its_node_so_that_a_restart_needs_no_seed() {
    for seed in SEEDS {
        let mut world = world(vec![setup("a", &[]), setup("b", &["a"]), setup("c", &["a"])], seed);
        (0..3).for_each(|node| world.start(node));
        world.run(s(5));

        (0..3).for_each(|node| world.crash(node));
        (0..3).for_each(|node| world.set_up(node, setup(["a", "b", "c"][node], &[])));
        (0..3).for_each(|node| world.start(node));

        assert!(agrees_within(&mut world, s(5)), "seed {seed}");
    }
}

#[test]
fn a_first_join_is_remembered_for_life() {
    for seed in SEEDS {
        let mut world = world(setups(3), seed);
        (0..3).for_each(|node| world.start(node));
        world.run(s(5));
        let joined =
            |world: &World| world.table(0).and_then(|table| table.member(&id("n1"))).map(|it| it.joined);
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
}
