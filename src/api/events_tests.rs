//! The list, the cursor, and what a slow reader is told.

use crate::driver::{EVENTS_KEPT_MAX, Pulse};
use crate::model::Now;
use crate::node::{Event, Level, Output};

fn told(pulse: &Pulse, count: usize) {
    let event = Event { level: Level::Info, name: "member-joined", text: "b at b:1".to_owned() };
    (0..count).for_each(|_| pulse.beat(Now::default(), &[Output::Event(event.clone())]));
}

#[test]
fn a_reader_goes_on_where_it_was_and_is_told_what_it_missed() {
    let pulse = Pulse::default();
    told(&pulse, 3);

    let first = pulse.noticed_after(0, 2);
    assert_eq!((first.events.len(), first.next, first.missed), (2, 2, 0));
    let second = pulse.noticed_after(first.next, 100);
    assert_eq!((second.events[0].0, second.next, second.missed), (3, 3, 0));

    told(&pulse, EVENTS_KEPT_MAX + 7);
    let late = pulse.noticed_after(second.next, usize::MAX);
    assert_eq!((late.events.len(), late.missed), (EVENTS_KEPT_MAX, 7));
    assert_eq!(late.next, 3 + EVENTS_KEPT_MAX as u64 + 7);
}

#[test]
fn an_id_of_an_earlier_run_begins_anew() {
    let pulse = Pulse::default();
    told(&pulse, 1);

    assert_eq!(pulse.noticed_after(900, 100).events.len(), 1);
    assert_eq!(pulse.noticed_after(u64::MAX, 0).next, 1, "now");
}
