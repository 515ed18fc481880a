//! Whole lives in a world without nodes: everything is done and answered as good nodes would, but for what a test
//! spoils. So each promise that the stage judges itself is broken once, and kept once.

use reknit::node::{Event as Said, Level};

use super::*;
use crate::scenario::{Expectation, Found, Place};

fn story() -> Scenario {
    Scenario::quiet("puppets", ["a", "b"].map(str::to_owned).to_vec())
}

/// Lives the story; `spoils` says whether it has carried an order out itself. The codes of what was broken, each once.
fn live(scenario: &Scenario, spoils: impl Fn(&mut Stage, Duration, &Order) -> bool) -> Vec<&'static str> {
    let mut stage = Stage::new(scenario, 1, None, Trace::hashed());
    let mut at = Duration::ZERO;
    loop {
        let order = stage.next(at);
        if spoils(&mut stage, at, &order) {
            continue;
        }
        match order {
            Order::Until(until) => at = until,
            Order::Start(node) => drop(stage.birth(at, node)),
            Order::Crash(node, boundary) => stage.crashed(at, node, boundary, &Dump::new()),
            Order::Ask { id, .. } => stage.answered(at, id, &Reply::Value(None)),
            Order::Compare => stage.compared(at, true),
            Order::Look => {
                let records = stage.core().into_iter().map(|node| (node, Dump::new())).collect();
                stage.looked(at, &records);
            }
            Order::Over => break,
            other => panic!("no story here orders {other:?}"),
        }
    }
    let ending = stage.finish(at).unwrap();
    let codes: BTreeSet<&str> = ending.violations.iter().map(|violation| violation.code).collect();
    assert!(ending.is_complete || codes.contains("CRASH"));
    codes.into_iter().collect()
}

/// Whether time passes in a part of the life in which nobody should have anything to say.
fn is_idle(stage: &Stage, order: &Order) -> bool {
    matches!((&stage.part, order), (Part::Idle { .. }, Order::Until(_)))
}

fn says(stage: &mut Stage, at: Duration, name: &'static str, text: &str) {
    let event = Said { level: Level::Info, name, text: text.to_owned() };
    stage.said(at, 0, &Output::Event(event));
}

#[test]
fn a_life_in_which_nothing_goes_wrong_keeps_every_promise() {
    assert_eq!(live(&story(), |_, _, _| false), [""; 0]);
}

#[test]
fn a_node_that_answers_nobody_is_not_alive() {
    assert_eq!(live(&story(), |_, _, order| matches!(order, Order::Ask { .. })), ["ALIVE"]);
}

#[test]
fn a_story_is_held_to_what_it_says_itself() {
    let asking = |is: Found| {
        let mut story = story();
        story.check.push(Expectation::Get { place: Place::Everywhere, key: b"k".to_vec(), is });
        live(&story, |_, _, _| false)
    };

    assert_eq!(asking(Found::Absent), [""; 0]);
    assert_eq!(asking(Found::Found), ["STORY"]);
}

#[test]
fn data_that_is_sent_although_all_agree_is_no_quiet() {
    let sending = |message: Message| {
        live(&story(), |stage, at, order| {
            if is_idle(stage, order) {
                let to = stage.settings[1].address.clone();
                for frame in wire::encode(&message, 1).unwrap() {
                    let _ = stage.frame(at, 0, &to, frame);
                }
            }
            false
        })
    };

    assert_eq!(sending(Message::Refuse { reason: "because".into() }), [""; 0]);
    assert_eq!(sending(Message::Repair { entries: Vec::new() }), ["QUIET"]);
}

#[test]
fn more_frames_than_probes_need_are_no_quiet() {
    let frame = wire::encode(&Message::Refuse { reason: "because".into() }, 1).unwrap().remove(0);
    let found = live(&story(), |stage, at, order| {
        let to = stage.settings[1].address.clone();
        for _ in 0..if is_idle(stage, order) { 100_000 } else { 0 } {
            let _ = stage.frame(at, 0, &to, frame.clone());
        }
        false
    });

    assert_eq!(found, ["QUIET"]);
}

#[test]
fn a_node_that_ends_of_itself_has_crashed() {
    let found = live(&story(), |stage, at, order| {
        let breaks = is_idle(stage, order);
        if breaks {
            stage.broke(at, 0, "a panic".to_owned());
        }
        breaks
    });

    assert_eq!(found, ["CRASH"]);
}

#[test]
fn a_damaged_frame_must_not_be_taken() {
    let meets = |takes: bool| {
        live(&story(), |stage, at, order| {
            if is_idle(stage, order) {
                if takes { stage.took_damaged(at, 0, 1) } else { stage.rejected(at, 0, 1) }
            }
            false
        })
    };

    assert_eq!(meets(false), [""; 0]);
    assert_eq!(meets(true), ["WIRE"]);
}

#[test]
fn who_lives_must_not_be_called_down_when_all_is_well() {
    let down = |member: &str| {
        live(&story(), |stage, at, order| {
            if is_idle(stage, order) {
                says(stage, at, "member-down", member);
            }
            false
        })
    };

    assert_eq!(down("x: no such member"), [""; 0]);
    assert_eq!(down("b at b:7000"), ["MEM-ACC"]);
}

#[test]
fn a_mind_must_not_change_all_the_time_when_all_is_well() {
    let found = live(&story(), |stage, at, order| {
        if is_idle(stage, order) {
            for name in ["member-suspect", "member-refuted"].repeat(4) {
                says(stage, at, name, "b at b:7000");
            }
        }
        false
    });

    assert_eq!(found, ["NOFLAP"]);
}

#[test]
fn a_request_must_not_be_answered_twice() {
    let answering = |times: usize| {
        let mut story = story();
        story.check.push(Expectation::Get {
            place: Place::Everywhere,
            key: b"k".to_vec(),
            is: Found::Absent,
        });
        live(&story, |stage, at, order| {
            let Order::Ask { id, .. } = order else { return false };
            (0..times).for_each(|_| stage.answered(at, *id, &Reply::Value(None)));
            true
        })
    };

    assert_eq!(answering(1), [""; 0]);
    assert_eq!(answering(2), ["REPLY"]);
}

#[test]
fn streams_that_are_asked_for_although_all_agree_are_no_quiet() {
    let found = live(&story(), |stage, at, order| {
        if is_idle(stage, order) {
            let (session, credit, since) = (1, 1, 0);
            let seen = reknit::protocol::outline::Outline::Whole(DotSet::default());
            let to = stage.settings[1].address.clone();
            let message = Message::Pull { session, seen, credit, since };
            stage.said(at, 0, &Output::Send { to, message });
        }
        false
    });

    assert_eq!(found, ["QUIET"]);
}

#[test]
fn a_write_must_not_be_stamped_far_ahead_of_its_clock() {
    let stamped = |ahead: u64| {
        let mut story = story();
        let (node, key, value) = ("a".to_owned(), b"k".to_vec(), "v".to_owned());
        let step = Step::Put { node, key, value, options: Default::default() };
        story.timeline.push(crate::scenario::Timed { at: Duration::from_secs(1), step });
        live(&story, |stage, at, order| {
            let Order::Ask { id, request: reknit::model::Request::Put { .. }, .. } = order else {
                return false;
            };
            let stamp = Stamp { millis: START_MILLIS + at.as_millis() as u64 + ahead, counter: 0 };
            let dot = Dot { origin: reknit::model::Origin(1), seq: 1 };
            let name = reknit::model::VersionId { stamp, dot, uuid: Default::default() };
            stage.answered(at, *id, &Reply::Written { id: name, acked: 1 });
            true
        })
    };

    // Nobody holds it in the end, which is another promise.
    assert_eq!(stamped(0), ["DUR"]);
    assert_eq!(stamped(1_000_000), ["DUR", "HLC"]);
}
