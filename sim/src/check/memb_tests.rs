//! Histories made by hand: a bad one that is flagged, and its good twin, for each promise.

use reknit::model::{Address, Mode, ProtocolRange};

use super::*;

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
        joined: WallTime(5),
        mode: Mode::Normal,
        origin: None,
        policies: 0,
        protocol: ProtocolRange { min: 1, max: 1 },
    }
}

fn news(records: &[Member]) -> Message {
    Message::News { rumours: records.to_vec(), unreached: Vec::new() }
}

/// What node `a` says, one message after the other.
fn says(sayings: &mut Sayings, records: &[Member]) -> Option<&'static str> {
    records.iter().find_map(|record| sayings.said(0, "a", &news(std::slice::from_ref(record)))).map(|it| it.0)
}

/// The codes of what is wrong if `a`, in life 1, believes this, and the truth about `b`, in life 2, is that.
fn judged(believed: &[Member], truth: Truth) -> Vec<&'static str> {
    let others = believed.iter().map(|member| (member.id.clone(), member.clone())).collect();
    let mut tables = BTreeMap::from([(id("a"), Table { life: 1, others })]);
    if matches!(truth, Truth::Lives | Truth::LivesSlowly) {
        let others = BTreeMap::from([(id("a"), record("a", 1, 0, MemberState::Alive))]);
        tables.insert(id("b"), Table { life: 2, others });
    }
    let truth = BTreeMap::from([(id("a"), Truth::Lives), (id("b"), truth)]);
    judge(&tables, &truth).into_iter().map(|(_, (code, _))| code).collect()
}

#[test]
fn a_belief_that_goes_back_is_mem_mono_and_one_that_goes_on_is_not() {
    let (alive, down) = (record("b", 1, 0, MemberState::Alive), record("b", 1, 0, MemberState::Down));
    let refuted = record("b", 1, 1, MemberState::Alive);

    assert_eq!(says(&mut Sayings::default(), &[down.clone(), alive.clone()]), Some("MEM-MONO"));
    assert_eq!(says(&mut Sayings::default(), &[alive, down, refuted]), None);
}

#[test]
fn a_later_first_join_is_mem_mono_and_an_earlier_one_is_not() {
    let earlier = record("b", 1, 0, MemberState::Alive);
    let later = Member { joined: WallTime(9), ..earlier.clone() };

    assert_eq!(says(&mut Sayings::default(), &[earlier.clone(), later.clone()]), Some("MEM-MONO"));
    assert_eq!(says(&mut Sayings::default(), &[later, earlier]), None);
}

#[test]
fn a_start_in_a_life_that_has_been_is_mem_mono_and_one_in_the_next_is_not() {
    let own = |life| record("a", life, 0, MemberState::Alive);
    let after_a_restart = |life| {
        let mut sayings = Sayings::default();
        assert_eq!(says(&mut sayings, &[own(3)]), None);
        sayings.restarted(0, "a");
        says(&mut sayings, &[own(life)])
    };

    assert_eq!(after_a_restart(3), Some("MEM-MONO"));
    assert_eq!(after_a_restart(4), None);
}

#[test]
fn who_lost_its_disk_may_say_what_it_likes() {
    let mut sayings = Sayings::default();
    says(&mut sayings, &[record("a", 3, 0, MemberState::Alive), record("b", 1, 5, MemberState::Down)]);

    sayings.forget(0);

    assert_eq!(says(&mut sayings, &[record("a", 1, 0, MemberState::Alive)]), None);
    assert_eq!(says(&mut sayings, &[record("b", 1, 0, MemberState::Alive)]), None);
}

#[test]
fn who_lives_and_is_in_no_table_is_mem_comp_and_who_is_known_is_fine() {
    assert_eq!(judged(&[], Truth::Lives), ["MEM-COMP"]);
    assert_eq!(judged(&[record("b", 2, 0, MemberState::Alive)], Truth::Lives), [""; 0]);
}

#[test]
fn who_is_back_and_called_down_or_known_from_an_earlier_life_is_l_rejoin() {
    assert_eq!(judged(&[record("b", 2, 0, MemberState::Down)], Truth::Lives), ["L-REJOIN"]);
    assert_eq!(judged(&[record("b", 2, 0, MemberState::Suspect)], Truth::Lives), ["L-REJOIN"]);
    assert_eq!(judged(&[record("b", 2, 0, MemberState::Suspect)], Truth::LivesSlowly), [""; 0]);
    assert_eq!(judged(&[record("b", 1, 0, MemberState::Suspect)], Truth::LivesSlowly), ["L-REJOIN"]);
    assert_eq!(judged(&[record("b", 2, 0, MemberState::Down)], Truth::LivesSlowly), ["L-REJOIN"]);
    assert_eq!(judged(&[record("b", 1, 7, MemberState::Alive)], Truth::Lives), ["L-REJOIN"]);
}

#[test]
fn a_death_that_nobody_noticed_is_mem_comp_and_one_that_was_noticed_is_fine() {
    assert_eq!(judged(&[record("b", 2, 0, MemberState::Suspect)], Truth::Off), ["MEM-COMP"]);
    assert_eq!(judged(&[record("b", 2, 0, MemberState::Down)], Truth::Off), [""; 0]);
}

#[test]
fn who_lives_within_reach_and_is_called_down_is_mem_acc_and_who_died_or_was_cut_off_is_fine() {
    let timing = Timing::default();
    let (calm, one) = (Some(calm_after(&timing)), Duration::from_millis(1));
    let called_down = |lives, calm| judge_death("b", lives, calm, &timing).map(|it| it.0);

    assert_eq!(called_down(true, calm), Some("MEM-ACC"));
    assert_eq!(called_down(true, calm.map(|calm| calm + one)), Some("MEM-ACC"));

    assert_eq!(called_down(false, calm), None, "it is off");
    assert_eq!(called_down(true, calm.map(|calm| calm - one)), None, "an older suspicion ends");
    assert_eq!(called_down(true, None), None, "it may be out of reach");
}

#[test]
fn who_is_gone_and_said_to_live_is_noghost_and_a_grave_is_none() {
    assert_eq!(judged(&[record("b", 2, 0, MemberState::Alive)], Truth::Gone), ["NOGHOST"]);
    assert_eq!(judged(&[record("b", 2, 0, MemberState::Left)], Truth::Gone), [""; 0]);
    assert_eq!(judged(&[record("b", 2, 0, MemberState::Forgotten)], Truth::Gone), [""; 0]);
    assert_eq!(judged(&[], Truth::Gone), [""; 0]);
}

#[test]
fn somebody_who_never_was_is_noghost() {
    let known = [record("b", 2, 0, MemberState::Alive), record("x", 1, 0, MemberState::Down)];
    assert_eq!(judged(&known, Truth::Lives), ["NOGHOST"]);
}

#[test]
fn data_or_an_answer_to_every_answer_among_idle_nodes_is_quiet_and_probes_are_fine() {
    let timing = Timing::default();
    let minute = Duration::from_secs(60);
    let judged = |data, all| judge_idle(&timing, 3, minute, (data, all)).map(|it| it.0);

    let probes_and_answers = 3 * 2 * 120;
    let one_that_never_ends_per_probe = 60 * 1000 / 10;
    assert_eq!(judged(0, one_that_never_ends_per_probe), Some("QUIET"));
    assert_eq!(judged(1, probes_and_answers), Some("QUIET"));

    assert_eq!(judged(0, probes_and_answers), None);
}

#[test]
fn a_mind_that_changes_again_and_again_is_noflap_and_a_death_that_is_noticed_is_fine() {
    let mut minds = Minds::default();
    let says = |minds: &mut Minds, events: &[&str]| {
        let codes = events.iter().filter_map(|event| minds.changed(0, event, "b at b:7000"));
        codes.map(|(code, _)| code).collect::<Vec<_>>()
    };

    assert_eq!(says(&mut minds, &["member-suspect", "member-down"]), [""; 0]);
    minds.forget();
    assert_eq!(says(&mut minds, &["member-rejoined"]), [""; 0]);
    (0..3).for_each(|_| assert_eq!(says(&mut minds, &["member-suspect", "member-refuted"]), [""; 0]));
    assert_eq!(says(&mut minds, &["member-suspect"]), ["NOFLAP"]);
    assert_eq!(minds.changed(1, "member-suspect", "b at b:7000"), None);
}
