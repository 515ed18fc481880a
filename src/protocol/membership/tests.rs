//! Laws of the member table, and the stories of probes and greetings.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::merge::rank;
use super::*;
use crate::model::Mode;
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
        policies: 0,
        protocol: crate::protocol::wire::PROTOCOL,
    }
}

fn row(member: Member) -> MemberRow {
    MemberRow { member, last_seen: WallTime(0), away: Duration::ZERO }
}

fn at(millis: u64) -> Now {
    Now { mono: Instant(Duration::from_millis(millis)), wall: WallTime(1_000_000 + millis) }
}

/// Node `a` with these records on its disk.
fn load(known: Vec<Member>) -> Membership {
    let mut dice = ChaCha8Rng::from_seed([1; 32]);
    let me = record("a", 1, 0, MemberState::Alive);
    let known = known.into_iter().map(row).collect();
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
            (rumour.id, rumour.address) = (id("a"), table.me().address.clone());
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
        table.on_heard(at(second * 1000), &id("b"), &mut out);
        live(&mut table, second * 1000 + 500);
    }

    assert_eq!(beliefs(&table), [record("b", 1, 0, MemberState::Suspect)]);
}

#[test]
fn a_ping_tells_its_target_what_is_wrongly_believed_of_it() {
    let mut table = load(vec![record("b", 1, 0, MemberState::Down), record("c", 1, 0, MemberState::Alive)]);

    assert_eq!(table.rumours_for(&id("b"), RUMOURS_MAX)[1], record("b", 1, 0, MemberState::Down));
    assert_eq!(table.rumours_for(&id("c"), RUMOURS_MAX), [table.me().clone()]);
}

#[test]
fn a_rumour_is_told_a_bounded_number_of_times() {
    let mut table = load(vec![record("b", 1, 0, MemberState::Alive)]);
    table.merge(at(0), record("c", 1, 0, MemberState::Alive), &mut Outbox::default());

    let told = (0..100).filter(|_| table.rumours_for(&id("b"), RUMOURS_MAX).len() > 1).count();

    assert_eq!(told, gossip::tells(2) as usize);
}

/// What `b` says of itself in a ping from `address`.
fn ping_from(table: &mut Membership, now: Now, own: &Member, out: &mut Outbox) {
    table.on_ping(now, &own.id, (7, 0), vec![own.clone()], out);
}

fn refusals(out: &mut Outbox, to: &Address) -> usize {
    let is_it = |action: &Action| matches!(action, Action::SendTo(at, Message::Refuse { .. }) if at == to);
    out.take().iter().filter(|action| is_it(action)).count()
}

fn elsewhere() -> Address {
    Address::new("elsewhere:7000").unwrap()
}

#[test]
fn a_name_stays_with_its_holder_when_that_one_answers_and_the_other_is_told_why() {
    let mut table = load(Vec::new());
    let mut out = Outbox::default();
    let holder = record("b", 1, 0, MemberState::Alive);
    let claimant = Member { address: elsewhere(), joined: WallTime(9), life: 5, ..holder.clone() };
    ping_from(&mut table, at(0), &holder, &mut out);

    table.on_table(at(10), &id("b"), vec![claimant.clone()], (true, 0), &mut out);
    ping_from(&mut table, at(20), &holder, &mut out);

    assert_eq!(refusals(&mut out, &elsewhere()), 1);
    live(&mut table, 2_000);
    assert_eq!(table.address(&id("b")), Some(&holder.address));
}

#[test]
fn a_member_that_moved_has_its_name_once_nobody_answers_at_its_old_address() {
    let mut table = load(vec![record("b", 1, 0, MemberState::Alive)]);
    let mut out = Outbox::default();
    let moved = Member { address: elsewhere(), life: 2, ..record("b", 1, 0, MemberState::Alive) };

    table.on_table(at(10), &id("b"), vec![moved], (true, 0), &mut out);
    assert_ne!(table.address(&id("b")), Some(&elsewhere()), "the old place is asked first");
    live(&mut table, 2_000);

    assert_eq!(table.address(&id("b")), Some(&elsewhere()));
}

#[test]
fn of_two_nodes_with_one_name_the_one_that_joined_later_stands_back() {
    let (mut older, mut younger) = (load(Vec::new()), load(Vec::new()));
    let mut out = Outbox::default();
    younger.me.joined = WallTime(2_000_000);
    younger.me.address = elsewhere();
    let seen_of = |table: &Membership| Member { life: 9, ..table.me().clone() };

    let (of_older, of_younger) = (seen_of(&older), seen_of(&younger));
    older.merge(at(0), of_younger, &mut out);
    younger.merge(at(0), of_older, &mut out);

    assert!(!older.joining.stands_back() && younger.joining.stands_back());
    assert!(older.me().life == 10 && younger.me().life == 1, "only one of them goes on");
    assert!(live(&mut younger, 20_000).is_empty());
}

#[test]
fn a_member_whose_address_another_one_speaks_from_is_not_there_any_more() {
    let mut table = load(vec![record("b", 1, 0, MemberState::Alive)]);
    let mut out = Outbox::default();
    let other =
        Member { address: table.address(&id("b")).unwrap().clone(), ..record("c", 1, 0, MemberState::Alive) };

    ping_from(&mut table, at(0), &other, &mut out);

    assert_eq!(table.member(&id("b")).unwrap().state, MemberState::Suspect);
}

#[test]
fn a_node_that_speaks_another_protocol_is_told_so_and_counted_once() {
    let mut table = load(Vec::new());
    let mut out = Outbox::default();
    let protocol = crate::model::ProtocolRange { min: 90, max: 99 };
    let stranger = Member { protocol, ..record("b", 1, 0, MemberState::Alive) };

    for second in 0..20 {
        table.on_table(at(second * 1000), &id("b"), vec![stranger.clone()], (true, 0), &mut out);
    }

    assert_eq!(table.count(), 1);
    assert!(out.counters().contains(&("joins_refused", 1)), "{:?}", out.counters());
    assert_eq!(refusals(&mut out, &stranger.address), 20);
}

#[test]
fn a_suspicion_ends_sooner_the_more_nodes_share_it() {
    let others = ["b", "c", "d", "e", "f"].map(|name| record(name, 1, 0, MemberState::Alive));
    let mut out = Outbox::default();
    let mut lasts = Vec::new();
    for confirming in 0..5 {
        let mut table = load(others.to_vec());
        table.accuse(at(0), &id("b"), &mut out);
        for name in ["c", "d", "e", "f"].iter().take(confirming) {
            table.on_unreached(&id(name), &[id("b")]);
            table.on_unreached(&id(name), &[id("b")]);
        }
        lasts.push(table.peers[&id("b")].suspicion.as_ref().unwrap().down_at.0);
    }

    assert!(lasts.windows(2).all(|pair| pair[0] >= pair[1]), "{lasts:?}");
    assert_eq!(lasts[0], Timing::default().suspect_timeout * 2);
    assert_eq!(lasts[3], Timing::default().suspect_timeout);
}

#[test]
fn a_node_that_was_stopped_blames_nobody_for_its_own_silence() {
    let mut table = load(vec![record("b", 1, 0, MemberState::Alive), record("c", 1, 0, MemberState::Alive)]);
    let mut out = Outbox::default();
    let mut dice = ChaCha8Rng::from_seed([3; 32]);
    for name in ["b", "c"] {
        table.on_heard(at(0), &id(name), &mut out);
    }
    table.accuse(at(0), &id("b"), &mut out);
    table.on_tick(at(400), 0, &mut dice, &mut out);

    table.on_tick(at(60_000), 0, &mut dice, &mut out);

    assert_eq!(table.member(&id("b")).unwrap().state, MemberState::Suspect);
    assert_eq!(table.member(&id("c")).unwrap().state, MemberState::Alive);
}

#[test]
fn what_is_down_for_too_long_is_forgotten_by_a_majority_and_by_no_minority() {
    let down = ["c", "d", "e"].map(|name| record(name, 1, 0, MemberState::Down));
    let forget = |known: Vec<Member>| {
        let mut table = load(known);
        table.timing.forget_after = Duration::from_secs(60);
        for name in ["b", "f", "g"] {
            if let Some(peer) = table.peers.get_mut(&id(name)) {
                peer.heard = Some(at(0).mono);
            }
        }
        table.next_away = at(0).mono;
        let mut out = Outbox::default();
        for step in 0..300 {
            table.forget_the_long_gone(at(step * 250), &mut out);
        }
        table.in_states(&[MemberState::Forgotten]).len()
    };
    let alive = ["b", "f", "g"].map(|name| record(name, 1, 0, MemberState::Alive));

    assert_eq!(forget([&down[..], &alive[..]].concat()), 3);
    assert_eq!(forget([&down[..], &alive[..2]].concat()), 0, "three of six are no majority");
}

#[test]
fn graves_are_bounded() {
    let mut table = load(Vec::new());
    let mut out = Outbox::default();

    for number in 0..1_000_u64 {
        let name = format!("n{number}");
        table.merge(at(0), record(&name, 1, 0, MemberState::Alive), &mut out);
        table.merge(at(0), record(&name, 1, 0, MemberState::Left), &mut out);
    }

    assert_eq!(table.others().count(), GRAVES_MAX);
}

#[test]
fn a_node_that_is_its_own_seed_by_another_name_does_not_refuse_itself() {
    let mut table = load(Vec::new());
    let mut out = Outbox::default();

    table.on_table(at(0), &id("a"), vec![table.me().clone()], (true, 0), &mut out);

    assert_eq!(out.take(), []);
}

#[test]
fn a_member_is_removed_only_when_it_is_down_and_its_data_counts_no_more() {
    let mut table = load(vec![record("b", 1, 0, MemberState::Alive), record("c", 1, 0, MemberState::Down)]);
    let mut out = Outbox::default();

    assert!(table.remove(at(0), &id("b"), false, &mut out).is_err());
    assert!(table.remove(at(0), &id("x"), false, &mut out).is_err());
    table.remove(at(0), &id("c"), false, &mut out).unwrap();

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
