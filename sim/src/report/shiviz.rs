//! A recording as a log for ShiViz (https://bestchai.bitbucket.io/shiviz/): one event in two lines, the node with its
//! vector clock and then what happened.
//!
//! Its default pattern `(?<host>\\S*) (?<clock>{.*})\\n(?<event>.*)` reads it. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::recording::{Fate, Recording};

/// Most events that are written: a browser draws no more, and the beginning is where causes are.
pub const EVENTS_MAX: usize = 20_000;

enum Moment<'a> {
    Send(usize),
    Receive(usize),
    Happens(&'a str),
}

/// The log.
pub fn log(recording: &Recording) -> String {
    let mut moments: Vec<(Duration, usize, Moment<'_>)> = Vec::new();
    for (number, flight) in recording.flights.iter().enumerate() {
        moments.push((flight.at, flight.from, Moment::Send(number)));
        if let (Some(there), Fate::Arrived) = (flight.arrives[0], recording.fate(flight)) {
            moments.push((there, flight.to, Moment::Receive(number)));
        }
    }
    for happening in &recording.happenings {
        if let Some(node) = happening.node {
            moments.push((happening.at, node, Moment::Happens(&happening.text)));
        }
    }
    // Stable: what happens at one instant stays in its order, and messages come before what is told of them.
    moments.sort_by_key(|(at, _, _)| *at);
    let nodes = recording.names.len();
    let mut clocks = vec![vec![0_u64; nodes]; nodes];
    let mut under_way: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    let mut text = String::new();
    for (at, node, moment) in moments.into_iter().take(EVENTS_MAX) {
        clocks[node][node] += 1;
        let said = match moment {
            Moment::Send(number) => {
                under_way.insert(number, clocks[node].clone());
                let flight = &recording.flights[number];
                format!("sends {} to {}", recording.kinds[flight.kind], recording.names[flight.to])
            }
            Moment::Receive(number) => {
                for (own, theirs) in
                    clocks[node].iter_mut().zip(under_way.remove(&number).unwrap_or_default())
                {
                    *own = (*own).max(theirs);
                }
                let flight = &recording.flights[number];
                format!("hears {} from {}", recording.kinds[flight.kind], recording.names[flight.from])
            }
            Moment::Happens(text) => text.replace('\n', " "),
        };
        let clock: Vec<String> = (0..nodes)
            .filter(|&other| clocks[node][other] > 0)
            .map(|other| format!("\"{}\":{}", recording.names[other], clocks[node][other]))
            .collect();
        text +=
            &format!("{} {{{}}}\n{:.6}s {said}\n", recording.names[node], clock.join(","), at.as_secs_f64());
    }
    text
}
