use expect_test::expect;

use super::*;
use crate::run::{Options, World, run};
use crate::scenario::{Boundary, Scenario, Step, Timed, WriteOptions};
use std::sync::{Arc, Mutex};

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

fn story() -> Scenario {
    let mut story = Scenario::quiet("story", ["a", "b"].map(str::to_owned).to_vec());
    let name = |name: &str| name.to_owned();
    let put = |node: &str, key: &str| Step::Put {
        node: name(node),
        key: key.as_bytes().to_vec(),
        value: "v".to_owned(),
        options: WriteOptions::default(),
    };
    let steps = [
        (1_000, put("a", "k/1")),
        (2_000, Step::Partition(vec![vec![name("a")], vec![name("b")]])),
        (3_000, Step::Crash { node: name("b"), boundary: Boundary::BetweenTurns }),
        (3_500, put("a", "k/2")),
        (4_000, Step::Heal),
        (5_000, Step::Restart(name("b"))),
        (6_000, Step::Jump(name("a"), -10_000)),
    ];
    let timed = |(millis, step)| Timed { at: Duration::from_millis(millis), step };
    story.timeline = steps.into_iter().map(timed).collect();
    story
}

#[test]
fn a_person_sees_what_happened_line_by_line() {
    let shown = Shared::default();
    let ladder = Ladder::new(shown.clone(), vec!["a".to_owned(), "b".to_owned()]);
    let options = Options { watch: Some(Box::new(ladder)), ..Options::default() };

    run(&story(), 7, World::Fast, options).unwrap();

    let text = String::from_utf8(shown.0.lock().unwrap().clone()).unwrap();
    expect![[r#"
                   a  b
           0.000s  ^      a starts
           0.100s  |  ^   b starts
           0.106s  *  |   a member-joined: b at b:7000
           0.113s  |  *   b member-joined: a at a:7000
           2.000s  |  |   partition a | b
           2.203s  *  |   a member-suspect: b at b:7000
           2.305s  |  *   b member-suspect: a at a:7000
           3.000s  |  $   b loses its power (between turns)
           3.205s  *      a member-down: b at b:7000
           4.000s  |      heal
           5.000s  |  ^   b starts again
           5.009s  *  |   a member-rejoined: b at b:7000
           5.011s  |  *   b caught-up: took 1 entries from a
           5.015s  |  *   b member-refuted: a at a:7000
           6.000s  *  |   a wall clock: jump -10000 ms
           6.000s  |  |   --- heal
           6.000s  |  |   --- quiet
           6.000s  |  |   the replicas agree, 0 ms after the quiet began
          11.000s  |  |   --- power-cycle
          11.000s  |  |   --- cold
          11.000s  $  |   a loses its power (between turns)
          11.000s     $   b loses its power (between turns)
          11.000s  ^      a starts again
          11.000s  |  ^   b starts again
          11.000s  |  |   the replicas agree, 0 ms after the quiet began
          11.006s  *  |   a member-rejoined: b at b:7000
          11.008s  |  *   b member-rejoined: a at a:7000
          16.000s  |  |   --- idle
          26.000s  |  |   --- check
    "#]]
    .assert_eq(&text);
}

#[test]
fn the_verdict_ends_with_the_command_that_shows_it_again() {
    let options = Options { called: Some("story".to_owned()), ..Options::default() };
    let outcome = run(&story(), 7, World::Fast, options).unwrap();

    let text = verdict(&outcome);

    assert!(text.starts_with("PASSED story seed=7 world=fast: "), "{text}");
    assert!(text.ends_with("\nagain just sim seed=7 scenario=story world=fast"), "{text}");
}
