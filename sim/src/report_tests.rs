use std::sync::{Arc, Mutex};

use super::*;
use crate::run::{Options, World, run};
use crate::scenario::Scenario;

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

#[test]
fn a_person_sees_what_happened_line_by_line() {
    let shown = Shared::default();
    let mut ladder = Ladder::new(shown.clone(), vec!["a".to_owned(), "b".to_owned()]);

    let log = Event::Log { level: "info", name: "member-joined", text: "b at b:7000" };
    let events = [
        (0, Some(0), Event::Start { start: 1 }),
        (100, Some(1), Event::Start { start: 1 }),
        (106, Some(0), log),
        (1_000, Some(0), Event::Ask { id: 1, verb: "put", key: None }),
        (2_000, None, Event::Links { deed: "partition a | b" }),
        (3_000, Some(1), Event::Crash { boundary: "mid-send" }),
        (3_500, Some(0), Event::Pause),
        (4_000, Some(1), Event::Start { start: 2 }),
        (4_500, Some(0), Event::Resume),
        (5_000, Some(0), Event::Clock { deed: "jump", millis: -10_000 }),
        (6_000, None, Event::Phase { name: "quiet" }),
        (6_100, None, Event::Agree { after_millis: 100 }),
        (7_000, Some(1), Event::Broken { code: "STORY", text: "no value was expected, but it was `v`" }),
    ];
    for (millis, node, event) in events {
        ladder.saw(Duration::from_millis(millis), node, &event);
    }

    let text = String::from_utf8(shown.0.lock().unwrap().clone()).unwrap();
    let expected = r#"
           a  b
   0.000s  ^      a starts
   0.100s  |  ^   b starts
   0.106s  *  |   a member-joined: b at b:7000
   2.000s  |  |   partition a | b
   3.000s  |  $   b loses its power (mid send)
   3.500s  =      a is paused
   4.000s  =  ^   b starts again
   4.500s  *  |   a runs on
   5.000s  *  |   a wall clock: jump -10000 ms
   6.000s  |  |   --- quiet
   6.100s  |  |   the replicas agree, 100 ms after the quiet began
   7.000s  |  !   b BROKEN STORY: no value was expected, but it was `v`
"#;
    assert_eq!(format!("\n{text}"), expected);
}

#[test]
fn the_verdict_ends_with_the_command_that_shows_it_again() {
    let scenario = Scenario::quiet("story", ["a", "b"].map(str::to_owned).to_vec());
    let options = Options { called: Some("story".to_owned()), ..Options::default() };
    let outcome = run(&scenario, 7, World::Fast, options).unwrap();

    let text = verdict(&outcome);

    assert!(text.starts_with("PASSED story seed=7 world=fast: "), "{text}");
    assert!(text.ends_with("\nagain just sim seed=7 scenario=story world=fast"), "{text}");
}

#[test]
fn long_lines_of_many_nodes_go_on_beside_the_columns() {
    let shown = Shared::default();
    let names = ["a", "b", "c", "d", "e", "f", "g"].map(str::to_owned).to_vec();
    let mut ladder = Ladder::new(shown.clone(), names).within(Some(80));
    (0..7).for_each(|node| ladder.saw(Duration::ZERO, Some(node), &Event::Start { start: 1 }));
    let text = "what differed from f was gone before anything had to move, and so nothing moved at all";

    ladder.saw(Duration::from_secs(100), Some(1), &Event::Log { level: "info", name: "sync-session", text });
    ladder.saw(Duration::from_secs(101), Some(6), &Event::Crash { boundary: "mid-send" });

    let text = String::from_utf8(shown.0.lock().unwrap().clone()).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let tail: Vec<&str> = text.lines().skip(8).collect();
    let expected = [
        " 100.000s  |  *  |  |  |  |  |   b sync-session: what differed from f was gone",
        "           |  |  |  |  |  |  |     before anything had to move, and so nothing",
        "           |  |  |  |  |  |  |     moved at all",
        " 101.000s  |  |  |  |  |  |  $   g loses its power (mid send)",
    ];
    assert_eq!(tail, expected);
}
