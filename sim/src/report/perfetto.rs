//! A recording as trace events, which Perfetto (https://ui.perfetto.dev) and chrome://tracing show: a process per node,
//! with a track for its faults and log, one for clients, and one for messages, whose arrows are flows.
//!
//! Pure; one event per line, in the order of the recording.

use serde_json::{Value, json};

use super::recording::{Fate, Recording, micros};

/// The tracks of a node.
const EVENTS: u64 = 1;
const CLIENTS: u64 = 2;
const MESSAGES: u64 = 3;
/// How long the slice of a message is, in microseconds: long enough to be seen and shorter than any delay.
const SLICE_MICROS: u64 = 100;

/// The file.
pub fn json_of(recording: &Recording) -> String {
    let mut lines: Vec<Value> = Vec::new();
    for (node, name) in recording.names.iter().enumerate() {
        lines.push(json!({ "ph": "M", "name": "process_name", "pid": node, "args": { "name": name } }));
        for (track, name) in [(EVENTS, "events"), (CLIENTS, "clients"), (MESSAGES, "messages")] {
            let args = json!({ "name": name });
            lines.push(json!({ "ph": "M", "name": "thread_name", "pid": node, "tid": track, "args": args }));
        }
    }
    for happening in &recording.happenings {
        // What is at no node is drawn across all of them.
        let (scope, node) = happening.node.map_or(("g", 0), |node| ("t", node));
        let at = micros(happening.at);
        lines.push(json!({
            "ph": "i", "name": happening.text, "cat": happening.what, "ts": at, "pid": node, "tid": EVENTS, "s": scope
        }));
    }
    for asked in &recording.asks {
        let begin = micros(asked.at);
        let end = asked.answered.map_or(begin, |(at, _)| micros(at));
        let key = asked.key.map(|key| recording.keys[key].to_string()).unwrap_or_default();
        let status = asked.answered.map(|(_, status)| status);
        let args = json!({ "value": asked.value, "status": status, "answer": asked.answer });
        lines.push(json!({
            "ph": "X", "name": format!("{} {key}", asked.verb), "cat": "client", "ts": begin, "dur": end - begin,
            "pid": asked.node, "tid": CLIENTS, "args": args
        }));
    }
    for (number, flight) in recording.flights.iter().enumerate() {
        let (kind, sent) = (&recording.kinds[flight.kind], micros(flight.at));
        let fate = recording.fate(flight);
        let args = json!({ "to": recording.names[flight.to], "bytes": flight.bytes, "fate": fate.word() });
        let slice = |node: usize, at: u64| {
            json!({
                "ph": "X", "name": kind, "cat": "message", "ts": at, "dur": SLICE_MICROS, "pid": node,
                "tid": MESSAGES, "args": args
            })
        };
        lines.push(slice(flight.from, sent));
        let Some(there) = flight.arrives[0].filter(|_| fate == Fate::Arrived).map(micros) else { continue };
        lines.push(slice(flight.to, there));
        for (phase, node, at) in [("s", flight.from, sent), ("f", flight.to, there)] {
            lines.push(json!({
                "ph": phase, "bp": "e", "id": number, "name": kind, "cat": "message", "ts": at, "pid": node,
                "tid": MESSAGES
            }));
        }
    }
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    format!("{{\"traceEvents\":[\n{}\n]}}\n", lines.join(",\n"))
}
