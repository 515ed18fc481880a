//! Laws of the member table, and the stories of probes and greetings.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::protocol::outbox::Action;
use crate::testing::arbitrary;

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn record(name: &str, life: u64, incarnation: u32, state: MemberState) -> Member {
    Member {
        id: id(name),
        address: Address::new(&format!("{name}:7000")).unwrap(),
        life,
        incarnation,
        state,
        joined: WallTime(1_000_000),
        mode: Mode::Normal,
        origin: None,
    }
}

fn at(millis: u64) -> Now {
    Now { mono: Instant(Duration::from_millis(millis)), wall: WallTime(1_000_000 + millis) }
}

/// Node `a` with these records on its disk.
fn load(known: Vec<Member>) -> Membership {
    let mut dice = ChaCha8Rng::from_seed([1; 32]);
    let me = record("a", 1, 0, MemberState::Alive);
    Membership::load(me, known, Vec::new(), Timing::default(), at(0), &mut dice)
}

/// Lets a table live to `end`; returns whom it pinged.
fn live(table: &mut Membership, end: u64) -> BTreeSet<NodeId> {
    let mut dice = ChaCha8Rng::from_seed([2; 32]);
    let mut out = Outbox::default();
    while let Some(mono) = table.next_wakeup().filter(|wakeup| *wakeup <= at(end).mono) {
        let now = Now { mono, ..at(end) };
        table.on_tick(now, 0, &mut dice, &mut out);
        assert!(table.next_wakeup().unwrap() > now.mono);
    }
    let pinged = out.take().into_iter().filter_map(|action| match action {
        Action::Send(to, Message::Ping { .. }) => Some(to),
        _ => None,
    });
    pinged.collect()
}

/// What a node believes of the others, in a form that two tables can be compared by.
fn beliefs(table: &Membership) -> Vec<Member> {
    table.peers.values().map(|peer| peer.member.clone()).collect()
}

/// Records of one rank are one record, as they are when only their subject makes them.
fn honest(member: Member) -> Member {
    let address = Address::new(&format!("{}:{}", member.id, 7000 + member.life % 1000)).unwrap();
    Member { address, mode: Mode::Normal, origin: None, ..member }
}

proptest! {
    #[test]
    fn any_order_of_rumours_gives_the_same_table(
        (rumours, shuffled) in vec(arbitrary::member().prop_map(honest), 0..20)
            .prop_flat_map(|rumours| (Just(rumours.clone()), Just(rumours).prop_shuffle())),
    ) {
        let mut out = Outbox::default();
        let (mut one, mut other) = (load(Vec::new()), load(Vec::new()));

        for rumour in rumours {
            one.merge(at(0), rumour, &mut out);
        }
        for rumour in &shuffled {
            other.merge(at(0), rumour.clone(), &mut out);
        }

        prop_assert_eq!(beliefs(&one), beliefs(&other));

        let before = beliefs(&one);
        for rumour in shuffled {
            one.merge(at(0), rumour, &mut out);
        }
        prop_assert_eq!(before, beliefs(&one), "a rumour heard again changes nothing");
    }

    #[test]
    fn whatever_is_said_of_a_node_its_own_record_is_alive_and_the_greatest(
        rumours in vec(arbitrary::member(), 0..20),
    ) {
        let mut table = load(Vec::new());
        let mut out = Outbox::default();

        for mut rumour in rumours {
            rumour.id = id("a");
            table.merge(at(0), rumour.clone(), &mut out);

            let is_believed = rumour.life <= LIFE_MAX;
            prop_assert_eq!(table.me().state, MemberState::Alive);
            prop_assert!(!is_believed || rank(table.me()) >= rank(&rumour));
        }
    }
}

#[test]
fn a_suspicion_is_outdone_by_the_next_incarnation_and_a_forgotten_life_by_the_next_life() {
    let mut table = load(Vec::new());
    let mut out = Outbox::default();

    table.merge(at(0), record("a", 1, 3, MemberState::Suspect), &mut out);
    assert_eq!((table.me().life, table.me().incarnation), (1, 4));

    table.merge(at(0), record("a", 7, 2, MemberState::Alive), &mut out);
    assert_eq!((table.me().life, table.me().incarnation), (8, 0));
}

#[test]
fn the_earliest_join_that_anybody_remembers_is_kept() {
    let mut table = load(vec![record("b", 2, 0, MemberState::Alive)]);
    let mut out = Outbox::default();
    let earlier = |name| Member { joined: WallTime(5), ..record(name, 1, 0, MemberState::Down) };

    table.merge(at(0), earlier("b"), &mut out);
    table.merge(at(0), earlier("a"), &mut out);

    assert_eq!(beliefs(&table), [Member { joined: WallTime(5), ..record("b", 2, 0, MemberState::Alive) }]);
    assert_eq!(table.me().joined, WallTime(5));
}

#[test]
fn members_that_are_down_are_still_probed_and_those_that_left_are_not() {
    let states = [
        ("b", MemberState::Alive),
        ("c", MemberState::Suspect),
        ("d", MemberState::Down),
        ("e", MemberState::Left),
        ("f", MemberState::Forgotten),
    ];
    let mut table = load(states.iter().map(|(name, state)| record(name, 1, 0, *state)).collect());

    let pinged = live(&mut table, 10_000);

    assert_eq!(pinged, ["b", "c", "d"].map(id).into());
}

#[test]
fn a_suspect_on_the_disk_that_stays_silent_is_down_in_the_end() {
    let mut table = load(vec![record("b", 1, 0, MemberState::Suspect)]);

    live(&mut table, 10_000);

    assert_eq!(beliefs(&table), [record("b", 1, 0, MemberState::Down)]);
}

#[test]
fn a_suspect_that_talks_to_us_does_not_go_down() {
    let mut table = load(vec![record("b", 1, 0, MemberState::Alive)]);
    let mut out = Outbox::default();
    table.merge(at(0), record("b", 1, 0, MemberState::Suspect), &mut out);

    for second in 1..20 {
        table.on_heard(at(second * 1000), &id("b"));
        live(&mut table, second * 1000 + 500);
    }

    assert_eq!(beliefs(&table), [record("b", 1, 0, MemberState::Suspect)]);
}

#[test]
fn a_ping_tells_its_target_what_is_wrongly_believed_of_it() {
    let mut table = load(vec![record("b", 1, 0, MemberState::Down), record("c", 1, 0, MemberState::Alive)]);

    assert_eq!(table.rumours_for(&id("b"))[1], record("b", 1, 0, MemberState::Down));
    assert_eq!(table.rumours_for(&id("c")), [table.me().clone()]);
}

#[test]
fn a_rumour_is_told_a_bounded_number_of_times() {
    let mut table = load(vec![record("b", 1, 0, MemberState::Alive)]);
    table.merge(at(0), record("c", 1, 0, MemberState::Alive), &mut Outbox::default());

    let told = (0..100).filter(|_| table.rumours_for(&id("b")).len() > 1).count();

    assert!((3..=12).contains(&told), "told {told} times");
}

#[test]
fn the_second_node_of_one_name_is_refused_and_a_node_that_moved_is_not() {
    let mut table = load(Vec::new());
    let mut out = Outbox::default();
    let first = record("b", 1, 0, MemberState::Alive);
    table.on_table(at(0), &id("b"), vec![first.clone()], false, &mut out);
    let elsewhere = Address::new("elsewhere:7000").unwrap();

    let second = Member { address: elsewhere.clone(), joined: WallTime(9), ..first.clone() };
    table.on_table(at(10), &id("b"), vec![second], true, &mut out);
    let moved = Member { address: elsewhere.clone(), life: 2, ..first };
    table.on_table(at(20), &id("b"), vec![moved], false, &mut out);

    let refusal = Message::Refuse { reason: "node_id b is alive at b:7000".into() };
    assert!(out.take().contains(&Action::SendTo(elsewhere.clone(), refusal)));
    assert_eq!(table.address(&id("b")), Some(&elsewhere));
}

#[test]
fn a_node_that_is_its_own_seed_by_another_name_does_not_refuse_itself() {
    let mut table = load(Vec::new());
    let mut out = Outbox::default();

    table.on_table(at(0), &id("a"), vec![table.me().clone()], true, &mut out);

    assert_eq!(out.take(), []);
}

#[test]
fn a_member_is_removed_only_when_it_is_down_and_its_data_counts_no_more() {
    let mut table = load(vec![record("b", 1, 0, MemberState::Alive), record("c", 1, 0, MemberState::Down)]);
    let mut out = Outbox::default();

    assert!(table.remove(&id("b"), &mut out).is_err());
    assert!(table.remove(&id("x"), &mut out).is_err());
    table.remove(&id("c"), &mut out).unwrap();

    assert!(table.takes_data_from(&id("b")) && !table.takes_data_from(&id("c")));
    assert_eq!(table.count(), 2);
}

#[test]
fn a_reason_is_told_once_and_not_at_any_length() {
    let mut table = load(Vec::new());
    let mut out = Outbox::default();

    table.on_refused(&id("b"), &"x".repeat(1_000_000), &mut out);
    table.on_refused(&id("b"), &"x".repeat(1_000_000), &mut out);

    let actions = out.take();
    let [Action::Event(event)] = &actions[..] else { panic!("{actions:?}") };
    assert!(event.text.len() < 300);
}

#[test]
fn two_nodes_that_called_each_other_down_meet_again_by_themselves() {
    let mut cluster = crate::testing::Cluster::new("a b", 11);
    let states = |cluster: &mut crate::testing::Cluster, name| match cluster
        .ask(name, crate::model::Request::Members)
    {
        crate::model::Reply::Members(views) => {
            views.into_iter().map(|view| view.member.state).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    cluster.partition("a | b");
    cluster.run(Duration::from_secs(10));
    assert_eq!(states(&mut cluster, 'a'), [MemberState::Alive, MemberState::Down]);
    assert_eq!(states(&mut cluster, 'b'), [MemberState::Down, MemberState::Alive]);

    cluster.heal();
    cluster.run(Duration::from_secs(2));

    assert_eq!(states(&mut cluster, 'a'), [MemberState::Alive, MemberState::Alive]);
    assert_eq!(states(&mut cluster, 'b'), [MemberState::Alive, MemberState::Alive]);
}
