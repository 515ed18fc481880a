use super::*;
use crate::run::{Options, World, run};
use crate::scenario::parse::parse;
use crate::world::{Stage, fast, full};

const STORY: &str = "
cluster: { nodes: a b c }
network: { delay: 1ms..5ms }
timeline:
  - 1s  put a color red
  - 2s  cut a -> b
  - 2s  isolate c
  - 3s  put a color blue
  - 4s  heal
  - 6s  delete b color
  - 8s  skew b +5s
  - 9s  crash c
  - 10s put a shape round
  - 12s restart c
";

fn recorded(world: World) -> (Recording, u64) {
    let scenario = parse("story.yaml", STORY).unwrap();
    let recorder = Recorder::new(scenario.all_nodes().cloned().collect());
    let trace = crate::trace::Trace::hashed().with_watch(Box::new(recorder.clone()));
    let stage = Stage::new(&scenario, 7, None, trace);
    let played = match world {
        World::Fast => fast::play(stage),
        World::Full => full::play(stage),
    };
    let ending = played.stage.finish(played.at).unwrap();
    assert!(ending.violations.is_empty(), "{:?}", ending.violations);
    let recording = recorder.recording().clone();
    (recording, ending.trace_hash)
}

fn values(recording: &Recording, node: usize, key: &str) -> Vec<String> {
    let key = recording.key_place(&Key::new(key.as_bytes().to_vec()).unwrap()).unwrap();
    let held = recording.held.iter().filter(|held| held.node == node && held.key == key);
    let shown = held.map(|held| {
        let shown = held.versions.iter().map(|version| &recording.versions[*version]);
        let shown =
            shown.map(|version| if version.is_tombstone { "deleted" } else { version.value.as_str() });
        shown.collect::<Vec<_>>().join(" ")
    });
    shown.collect()
}

#[test]
fn watching_a_run_changes_nothing_of_it() {
    let scenario = parse("story.yaml", STORY).unwrap();
    for world in [World::Fast, World::Full] {
        let alone = run(&scenario, 7, world, Options::default()).unwrap();

        assert_eq!(recorded(world).1, alone.trace_hash, "{world}");
    }
}

#[test]
fn it_knows_what_every_node_held_in_both_worlds() {
    for world in [World::Fast, World::Full] {
        let (recording, _) = recorded(world);

        for node in 0..3 {
            // In the end the tombstone is collected.
            assert_eq!(values(&recording, node, "color"), ["red", "blue", "deleted", ""], "{world} {node}");
        }
        assert_eq!(recording.apart.last().map(|(_, count)| *count), Some(0), "they agree in the end");
        assert!(recording.apart.iter().any(|(_, count)| *count > 0), "and did not all the time");
        assert!(recording.offsets.iter().any(|(_, node, millis)| *node == 1 && *millis >= 4_990));
    }
}

#[test]
fn it_knows_what_became_of_messages_and_which_keys_they_carried() {
    let (recording, _) = recorded(World::Fast);
    let color = recording.key_place(&Key::new(&b"color"[..]).unwrap()).unwrap();
    let about_color = recording.flights.iter().filter(|flight| flight.keys.contains(&color));
    let fates: Vec<(usize, usize, Fate)> =
        about_color.map(|flight| (flight.from, flight.to, recording.fate(flight))).collect();

    assert!(fates.contains(&(0, 1, Fate::Arrived)), "{fates:?}");
    assert!(fates.contains(&(0, 1, Fate::Cut)), "{fates:?}");
    let to_c = recording.flights.iter().filter(|flight| flight.to == 2);
    assert!(to_c.map(|flight| recording.fate(flight)).any(|fate| fate == Fate::NobodyThere));
}

#[test]
fn it_knows_what_clients_asked_and_what_they_heard() {
    let (recording, _) = recorded(World::Fast);
    let asks: Vec<(&str, &str, Option<u16>)> = recording
        .asks
        .iter()
        // In the end every node is asked whether it lives.
        .filter(|ask| ask.verb != "get")
        .map(|ask| (ask.verb.as_str(), ask.value.as_str(), ask.answered.map(|(_, status)| status)))
        .collect();

    assert_eq!(
        asks,
        [
            ("put", "red", Some(200)),
            ("put", "blue", Some(200)),
            ("delete", "", Some(200)),
            ("put", "round", Some(200))
        ]
    );
}

#[test]
fn long_values_and_line_breaks_do_not_break_a_line() {
    assert_eq!(excerpt(b"two\nlines"), "two·lines");
    assert_eq!(excerpt(&[b'x'; 200]), format!("{}… (200 bytes)", "x".repeat(48)));
}

#[test]
fn a_log_for_shiviz_has_clocks_that_grow_with_every_word() {
    let (recording, _) = recorded(World::Fast);

    let log = crate::report::shiviz::log(&recording);

    let lines: Vec<&str> = log.lines().collect();
    assert!(lines.len() > 100 && lines.len().is_multiple_of(2));
    assert!(lines[0].starts_with("a {\"a\":1}"), "{}", lines[0]);
    assert!(log.contains("sends push to b") && log.contains("hears push from"), "{}", &log[..2_000]);
    let of_a = lines.iter().step_by(2).filter(|line| line.starts_with("a {"));
    for (before, line) in of_a.enumerate() {
        let clock: serde_json::Value = serde_json::from_str(&line[2..]).unwrap();
        assert_eq!(clock["a"].as_u64().unwrap(), before as u64 + 1);
    }
}

#[test]
fn trace_events_are_json_and_every_arrow_has_both_ends() {
    let (recording, _) = recorded(World::Fast);

    let events: serde_json::Value =
        serde_json::from_str(&crate::report::perfetto::json_of(&recording)).unwrap();

    let events = events["traceEvents"].as_array().unwrap();
    let count = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
    assert!(count("s") > 50 && count("s") == count("f"));
    assert!(events.iter().any(|event| event["name"] == "put color"), "clients have a track");
}

#[test]
fn a_history_has_a_line_for_every_request() {
    let (recording, _) = recorded(World::Fast);

    let text = crate::report::history::text(&recording);

    assert_eq!(text.lines().count(), 1 + recording.asks.len());
    assert!(text.contains("put color \"red\"\t200"), "{text}");
}
