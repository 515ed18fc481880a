//! `report.html`: a run as a picture in one file that needs no network.
//!
//! This file makes the data of it; `page.js` beside it draws them. Times are whole microseconds.

use std::collections::BTreeMap;

use serde::Serialize;

use super::recording::{Fate, Flight, Recording, micros};
use crate::run::{Outcome, hex};

/// Most messages of one page. Those that carry no rows are left out first.
pub const MESSAGES_MAX: usize = 60_000;
/// Most other things of one kind on one page.
const OTHERS_MAX: usize = 60_000;

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

#[derive(Serialize)]
struct Data<'a> {
    scenario: &'a str,
    about: &'a str,
    world: &'static str,
    seed: u64,
    verdict: &'static str,
    again: String,
    hash: String,
    count: u64,
    end: u64,
    /// Microseconds; -1 for never.
    agreed: i64,
    nodes: &'a [String],
    states: Vec<String>,
    violations: Vec<Broken<'a>>,
    kinds: &'a [String],
    fates: [&'static str; 6],
    keys: Vec<String>,
    /// Stamp, dot, value, whether it is a delete.
    versions: Vec<(String, String, &'a str, u8)>,
    messages: Vec<Arrow<'a>>,
    /// At, node or -1, what, text, key or -1.
    events: Vec<(u64, i64, &'static str, &'a str, i64)>,
    asks: Vec<Question<'a>>,
    /// At, node, key, versions.
    holds: Vec<(u64, usize, usize, &'a [usize])>,
    roots: Vec<(u64, usize, u32)>,
    apart: Vec<(u64, usize)>,
    offsets: Vec<(u64, usize, i64)>,
    /// At, cut links as `from * nodes + to`.
    cuts: Vec<(u64, Vec<usize>)>,
    left_out: u64,
}

/// At, from, to, kind, bytes, arrival of the first and of the second copy or -1, fate, keys.
type Arrow<'a> = (u64, usize, usize, usize, usize, i64, i64, usize, &'a [usize]);

/// At, node, verb, key or -1, value, answered at or -1, status or 0, answer.
type Question<'a> = (u64, usize, &'a str, i64, &'a str, i64, u16, &'a str);

#[derive(Serialize)]
struct Broken<'a> {
    code: &'static str,
    at: u64,
    node: i64,
    key: i64,
    text: &'a str,
}

/// The page of a run. `about` is what the story says of itself.
pub fn page(outcome: &Outcome, about: &str, recording: &Recording) -> String {
    let data = serde_json::to_string(&data(outcome, about, recording)).expect("a picture is plain data");
    // Inside a script element only these could end it.
    let data = data.replace("</", "<\\/").replace("<!--", "<\\!--");
    let title = format!("{} seed {}", outcome.scenario, outcome.seed);
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    // The data go in last: whatever stands in them is not looked at again.
    FRAME
        .replace("%TITLE%", &title)
        .replace("%STYLE%", STYLE)
        .replace("%SCRIPT%", SCRIPT)
        .replacen("%DATA%", &data, 1)
}

fn data<'a>(outcome: &'a Outcome, about: &'a str, recording: &'a Recording) -> Data<'a> {
    let (messages, more) = messages(recording);
    let others = [recording.happenings.len(), recording.asks.len(), recording.held.len()];
    let others: usize = others.iter().map(|count| count.saturating_sub(OTHERS_MAX)).sum();
    let states: BTreeMap<&str, String> =
        outcome.states.iter().map(|state| (state.node.as_str(), format!("{} keys", state.records))).collect();
    let state = |name: &String| states.get(name.as_str()).cloned().unwrap_or_default();
    let cut = |cuts: &std::collections::BTreeSet<(usize, usize)>| {
        cuts.iter().map(|(from, to)| from * recording.names.len() + to).collect()
    };
    Data {
        scenario: &outcome.scenario,
        about,
        world: outcome.world.word(),
        seed: outcome.seed,
        verdict: outcome.verdict.word(),
        again: outcome.again(),
        hash: hex(outcome.trace_hash),
        count: outcome.events,
        end: micros(outcome.virtual_time),
        agreed: outcome.converged_after.map_or(-1, |after| micros(after) as i64),
        nodes: &recording.names,
        states: recording.names.iter().map(state).collect(),
        violations: violations(outcome, recording),
        kinds: &recording.kinds,
        fates: Fate::ALL.map(Fate::word),
        keys: recording.keys.iter().map(ToString::to_string).collect(),
        versions: versions(recording),
        messages,
        events: events(outcome, recording),
        asks: asks(recording),
        holds: held(recording),
        roots: recording.roots.iter().map(|(at, node, root)| (micros(*at), *node, *root)).collect(),
        apart: recording.apart.iter().map(|(at, count)| (micros(*at), *count)).collect(),
        offsets: recording.offsets.iter().map(|(at, node, millis)| (micros(*at), *node, *millis)).collect(),
        cuts: recording.cuts.iter().map(|(at, cuts)| (micros(*at), cut(cuts))).collect(),
        left_out: recording.left_out + more + others as u64,
    }
}

fn violations<'a>(outcome: &'a Outcome, recording: &Recording) -> Vec<Broken<'a>> {
    let node = |name: &String| recording.names.iter().position(|known| known == name);
    let broken = outcome.violations.iter().map(|violation| Broken {
        code: violation.code,
        at: micros(violation.at),
        node: place(violation.node.as_ref().and_then(node)),
        key: place(violation.key.as_ref().and_then(|key| recording.key_place(key))),
        text: &violation.text,
    });
    broken.collect()
}

type Message<'a> = (u64, usize, usize, usize, usize, i64, i64, usize, &'a [usize]);

/// The messages of the page, and how many are left out.
fn messages(recording: &Recording) -> (Vec<Message<'_>>, u64) {
    let all = recording.flights.len();
    let is_crowd = all > MESSAGES_MAX;
    let shown = recording.flights.iter().filter(|flight| !is_crowd || !flight.keys.is_empty());
    let shown: Vec<Message<'_>> = shown.take(MESSAGES_MAX).map(|flight| message(recording, flight)).collect();
    let left_out = (all - shown.len()) as u64;
    (shown, left_out)
}

fn message<'a>(recording: &Recording, flight: &'a Flight) -> Message<'a> {
    let Flight { at, from, to, kind, bytes, arrives, keys, .. } = flight;
    let arrival = |at: Option<std::time::Duration>| at.map_or(-1, |at| micros(at) as i64);
    let fate = recording.fate(flight) as usize;
    (micros(*at), *from, *to, *kind, *bytes, arrival(arrives[0]), arrival(arrives[1]), fate, keys)
}

fn versions(recording: &Recording) -> Vec<(String, String, &str, u8)> {
    let shown = recording.versions.iter();
    let shown = shown.map(|version| {
        let (stamp, dot) = (version.stamp.to_string(), version.dot.to_string());
        (stamp, dot, version.value.as_str(), u8::from(version.is_tombstone))
    });
    shown.collect()
}

fn events<'a>(outcome: &Outcome, recording: &'a Recording) -> Vec<(u64, i64, &'static str, &'a str, i64)> {
    // What was broken is about a key, which its text need not name.
    let key = |at, text: &str| {
        let mut broken = outcome.violations.iter();
        let broken = broken.find(|violation| violation.at == at && text.ends_with(&violation.text));
        place(broken.and_then(|violation| recording.key_place(violation.key.as_ref()?)))
    };
    let happenings = recording.happenings.iter().take(OTHERS_MAX);
    let events = happenings.map(|happening| {
        let key = if happening.what == "broken" { key(happening.at, &happening.text) } else { -1 };
        (micros(happening.at), place(happening.node), happening.what, happening.text.as_str(), key)
    });
    let mut events: Vec<_> = events.collect();
    // A violation that only the end brought to light was recorded last.
    events.sort_by_key(|event| event.0);
    events
}

fn asks(recording: &Recording) -> Vec<Question<'_>> {
    let asks = recording.asks.iter().take(OTHERS_MAX).map(|asked| {
        let (answered, status) = asked.answered.map_or((-1, 0), |(at, status)| (micros(at) as i64, status));
        let (verb, value, answer) = (asked.verb.as_str(), asked.value.as_str(), asked.answer.as_str());
        (micros(asked.at), asked.node, verb, place(asked.key), value, answered, status, answer)
    });
    asks.collect()
}

fn held(recording: &Recording) -> Vec<(u64, usize, usize, &[usize])> {
    let held = recording.held.iter().take(OTHERS_MAX);
    held.map(|held| (micros(held.at), held.node, held.key, held.versions.as_slice())).collect()
}

fn place(place: Option<usize>) -> i64 {
    place.map_or(-1, |place| place as i64)
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
