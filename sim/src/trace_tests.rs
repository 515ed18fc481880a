use std::sync::{Arc, Mutex};

use super::*;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn hash(events: &[(u64, Event<'_>)]) -> u64 {
    let mut trace = Trace::hashed();
    for (at, event) in events {
        trace.record(Duration::from_millis(*at), Some(0), event);
    }
    trace.finish().unwrap()
}

#[test]
fn equal_runs_have_equal_hashes_and_any_difference_shows() {
    let run = [(1, Event::Start { start: 1 }), (2, Event::Crash { boundary: "between-turns" })];
    let later = [(1, Event::Start { start: 1 }), (3, Event::Crash { boundary: "between-turns" })];
    let other = [(1, Event::Start { start: 2 }), (2, Event::Crash { boundary: "between-turns" })];

    assert_eq!(hash(&run), hash(&run));
    assert_ne!(hash(&run), hash(&later));
    assert_ne!(hash(&run), hash(&other));
}

#[test]
fn where_one_text_ends_and_the_next_begins_shows_in_the_hash() {
    let log = |name, text| [(1, Event::Log { level: "info", name, text })];

    assert_ne!(hash(&log("ab", "c")), hash(&log("a", "bc")));
}

#[test]
fn writing_lines_does_not_change_the_hash() {
    let written = Shared::default();
    let names = vec!["a".to_owned()];
    let mut trace = Trace::hashed().with_lines(Box::new(written.clone()), names);
    let event = Event::Log { level: "warn", name: "refused", text: "\"quoted\"" };
    trace.record(Duration::from_millis(5), Some(0), &event);

    assert_eq!(trace.finish().unwrap(), hash(&[(5, event)]));
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert_eq!(
        text,
        "{\"ns\":5000000,\"node\":\"a\",\"what\":\"log\",\"level\":\"warn\",\"name\":\"refused\",\"text\":\"\\\"quoted\\\"\"}\n"
    );
}
