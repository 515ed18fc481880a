use expect_test::{Expect, expect};

use super::super::{Boundary, Expectation, Found, Place, Step};
use super::*;

/// The example of the design, word for word.
const DESIGN: &str = include_str!("design_example.yaml");

fn read(yaml: &str) -> Scenario {
    parse("story.yaml", yaml).unwrap_or_else(|error| panic!("{error}"))
}

fn steps(lines: &str) -> Vec<Step> {
    let scenario = read(&format!("cluster: {{ nodes: a b c, later: d }}\ntimeline:\n{lines}\n"));
    scenario.timeline.into_iter().map(|timed| timed.step).collect()
}

fn refused(yaml: &str, expected: Expect) {
    let error = parse("scenarios/x.yaml", yaml).expect_err("this is no scenario");
    expected.assert_eq(&format!("{error}\n"));
}

fn refused_step(step: &str, expected: Expect) {
    let yaml = format!("cluster: {{ nodes: a b c, later: d }}\ntimeline:\n  - {step}\n");
    refused(&yaml, expected);
}

#[test]
fn the_example_of_the_design_parses_word_for_word() {
    let story = read(DESIGN);

    assert_eq!(story.nodes, ["a", "b", "c"]);
    assert!(story.about.starts_with("Node c misses fifty writes and a delete while it is down. Once back"));
    assert_eq!(story.config.sync_interval, Some(Duration::from_secs(2)));
    assert_eq!(story.config.gossip_interval_min, Some(Duration::from_millis(200)));
    assert_eq!(story.config.gossip_interval_max, Some(Duration::from_millis(200)));
    assert_eq!(story.network.delay, Draw::Each(Duration::from_millis(1)..=Duration::from_millis(20)));
    assert_eq!((story.network.loss, story.network.duplicate), (0.01, 0.005));
    assert_eq!(story.clocks.all.skew, Draw::Once(0..=500));
    assert_eq!(
        story.workload,
        Some(Workload { clients: 2, keys: 50, rate: 20.0, mix: Mix { put: 6, get: 3, delete: 1 } })
    );
    assert_eq!(story.timeline.len(), 100 + 3 + 50 + 5);
    assert_eq!(story.end(), Duration::from_secs(60));
    assert_eq!(story.timeline[102].step, Step::Partition(vec![vec!["a".to_owned()], vec!["b".to_owned()]]));
    assert_eq!(story.check.len(), 5);
    assert_eq!(
        story.check[3],
        Expectation::Get {
            place: Place::Everywhere,
            key: b"color".to_vec(),
            is: Found::Value("red".to_owned())
        }
    );
}

#[test]
fn a_range_is_one_step_per_key_with_values_of_their_own() {
    let puts = steps("  - 8s put a k/101..102 ack=2");

    let put = |number: u32| Step::Put {
        node: "a".to_owned(),
        key: format!("k/{number}").into_bytes(),
        value: format!("k/{number}@8s@a"),
        options: super::super::WriteOptions {
            ack: reknit::model::Ack::Nodes(2),
            ttl: None,
            offset: None,
            saw: false,
            expect: None,
        },
    };
    assert_eq!(puts, [put(101), put(102)]);
}

#[test]
fn clocks_of_single_nodes_inherit_what_they_do_not_say() {
    let story = read(
        "cluster: { nodes: a b c }\nclocks: { c: { skew: -1500ms }, granularity: 100ms, drift: 50ppm }\n",
    );

    let mut model = story.clocks.all.clone();
    assert_eq!((model.granularity, model.drift_ppm), (Duration::from_millis(100), 50));
    model.skew = Draw::Each(-1500..=-1500);
    assert_eq!(story.clocks.nodes, [("c".to_owned(), model)]);
}

#[test]
fn nodes_may_be_a_list_and_lines_may_be_quoted() {
    let story = read("cluster:\n  nodes: [a, b]\ntimeline:\n  - '1s put a \"x: y\" \"it''s #1: yes\"'\n");

    let Step::Put { key, value, .. } = &story.timeline[0].step else { panic!("a put") };
    assert_eq!((key.as_slice(), value.as_str()), (b"x: y".as_slice(), "it's #1: yes"));
}

#[test]
fn a_crash_names_where_in_the_turn_the_power_fails() {
    let crashes = steps("  - 1s crash a\n  - 1s crash b before-persist\n  - 1s crash c mid-send");

    let boundary = |step: &Step| match step {
        Step::Crash { boundary, .. } => *boundary,
        other => panic!("{other}"),
    };
    let boundaries: Vec<Boundary> = crashes.iter().map(boundary).collect();
    assert_eq!(boundaries, [Boundary::BetweenTurns, Boundary::BeforePersist, Boundary::MidSend]);
}

#[test]
fn a_node_without_power_need_not_stand_in_a_partition() {
    assert_eq!(steps("  - 1s crash c\n  - 2s partition a | b").len(), 2);
    assert_eq!(steps("  - 1s partition a b | c").len(), 1);
}

#[test]
fn unknown_words_are_named_with_their_place_and_a_suggestion() {
    refused_step(
        "5s  krash c",
        expect![[r#"
            scenarios/x.yaml:3:9: unknown verb 'krash', did you mean 'crash'? Expected one of put, delete, get, expect, crash, restart, pause, resume, wipe, backup, restore, clone, join, leave, remove, partition, isolate, cut, heal, clog, unclog, slow, rot, configure, skew, jump, freeze, thaw, set, stop
              3 |   - 5s  krash c
                |         ^
        "#]],
    );
    refused_step(
        "5s crash e",
        expect![[r#"
            scenarios/x.yaml:3:14: unknown node 'e', expected one of a, b, c, d
              3 |   - 5s crash e
                |              ^
        "#]],
    );
    refused_step(
        "'5s crash e'",
        expect![[r#"
            scenarios/x.yaml:3:15: unknown node 'e', expected one of a, b, c, d
              3 |   - '5s crash e'
                |               ^
        "#]],
    );
    refused_step(
        "5s crash c before-persit",
        expect![[r#"
            scenarios/x.yaml:3:16: unknown boundary 'before-persit', did you mean 'before-persist'? Expected one of before-persist, after-persist, mid-send, io-error, disk-full
              3 |   - 5s crash c before-persit
                |                ^
        "#]],
    );
    refused_step(
        "5s set los 5%",
        expect![[r#"
            scenarios/x.yaml:3:12: unknown figure 'los', did you mean 'loss'? Expected one of loss, duplicate, delay, bandwidth
              3 |   - 5s set los 5%
                |            ^
        "#]],
    );
    refused_step(
        "5s put a k v tll=5s",
        expect![[r#"
            scenarios/x.yaml:3:18: found 'tll=5s'; expected one of ack=2, ttl=10s, offset=4, saw=last, expect 503; values of several words are quoted
              3 |   - 5s put a k v tll=5s
                |                  ^
        "#]],
    );
    refused(
        "cluster: { nodes: a b c }\nnetwork:\n  los: 5%\n",
        expect![[r#"
            scenarios/x.yaml:3:3: unknown field 'los' of network, did you mean 'loss'? Expected one of delay, loss, duplicate, corrupt, tail, burst, bandwidth
              3 |   los: 5%
                |   ^
        "#]],
    );
    refused(
        "cluster: { nodes: a b c, config: { port: 8080 } }\n",
        expect![[r#"
            scenarios/x.yaml:1:36: unknown field 'port' of config, expected one of probe_interval, suspect_timeout, forget_after, gossip_interval, gossip_interval_min, gossip_interval_max, sync_interval, catchup_interval, max_clock_drift, policies, collision, stream_credit, quirks, tombstone_grace, bootstrap_window
              1 | cluster: { nodes: a b c, config: { port: 8080 } }
                |                                    ^
        "#]],
    );
    refused(
        "cluster: { nodes: a b c }\ntimelime: []\n",
        expect![[r#"
        scenarios/x.yaml:2:1: unknown field 'timelime', did you mean 'timeline'? Expected one of about, name, seed, cluster, network, clocks, disks, workload, timeline, check
          2 | timelime: []
            | ^
    "#]],
    );
    refused(
        "cluster: { nodes: a b c }\ncheck:\n  - get nowhere k is found\n",
        expect![[r#"
        scenarios/x.yaml:3:9: unknown place 'nowhere', expected one of a, b, c, everywhere
          3 |   - get nowhere k is found
            |         ^
    "#]],
    );
}

#[test]
fn what_is_missing_or_too_much_is_said() {
    refused_step(
        "5s",
        expect![[r#"
        scenarios/x.yaml:3:7: the line ends where a verb was expected
          3 |   - 5s
            |       ^
    "#]],
    );
    refused_step(
        "5s put a k",
        expect![[r#"
        scenarios/x.yaml:3:15: the line ends where a value (put of a single key needs one) was expected; it is written 'put N KEY VALUE [OPTIONS]' or 'put N PREFIX1..9 [OPTIONS]'
          3 |   - 5s put a k
            |               ^
    "#]],
    );
    refused_step(
        "5s put a k ack=2",
        expect![[r#"
        scenarios/x.yaml:3:16: found the option 'ack=2' where a value was expected; quote it if it is the value
          3 |   - 5s put a k ack=2
            |                ^
    "#]],
    );
    refused_step(
        "5s put a k two words",
        expect![[r#"
            scenarios/x.yaml:3:20: found 'words'; expected one of ack=2, ttl=10s, offset=4, saw=last, expect 503; values of several words are quoted
              3 |   - 5s put a k two words
                |                    ^
        "#]],
    );
    refused_step(
        "5s put a k/1..5 v",
        expect![[r#"
        scenarios/x.yaml:3:21: found a value behind a range, whose keys get values of their own
          3 |   - 5s put a k/1..5 v
            |                     ^
    "#]],
    );
    refused_step(
        "5s heal c",
        expect![[r#"
        scenarios/x.yaml:3:13: found 'c', expected the end of the line
          3 |   - 5s heal c
            |             ^
    "#]],
    );
    refused_step(
        "5s partition a b c",
        expect![[r#"
        scenarios/x.yaml:3:23: the line ends where '|' and the other side was expected; it is written 'partition A B | C D [| …]'
          3 |   - 5s partition a b c
            |                       ^
    "#]],
    );
    refused_step(
        "put a k v",
        expect![[r#"
            scenarios/x.yaml:3:5: a step begins with its time: 'put' is no duration; expected one such as 200ms, 5s or 1m30s
              3 |   - put a k v
                |     ^
        "#]],
    );
    refused_step(
        "5 put a k v",
        expect![[r#"
            scenarios/x.yaml:3:5: a step begins with its time: '5' is no duration; expected one such as 200ms, 5s or 1m30s
              3 |   - 5 put a k v
                |     ^
        "#]],
    );
    refused_step(
        "5s delete a k ttl=3s",
        expect![[r#"
        scenarios/x.yaml:3:19: a delete has no ttl
          3 |   - 5s delete a k ttl=3s
            |                   ^
    "#]],
    );
    refused_step(
        "5s put a a//b v",
        expect![[r#"
        scenarios/x.yaml:3:14: 'a//b' is no key: the key has an empty segment
          3 |   - 5s put a a//b v
            |              ^
    "#]],
    );
    refused_step(
        "5s put a k x: y",
        expect![[r#"
        scenarios/x.yaml:3:5: found a mapping, expected a line of text; a line that contains ': ' is put in quotes
          3 |   - 5s put a k x: y
            |     ^
    "#]],
    );
}

#[test]
fn steps_that_make_no_sense_are_refused() {
    refused_step(
        "5s restart c",
        expect![[r#"
        scenarios/x.yaml:3:8: c is running, so it cannot restart
          3 |   - 5s restart c
            |        ^
    "#]],
    );
    refused_step(
        "5s partition a | b",
        expect![[r#"
        scenarios/x.yaml:3:8: c stands on no side of the partition, which lists every node that is up
          3 |   - 5s partition a | b
            |        ^
    "#]],
    );
    refused_step(
        "5s partition a b | b c",
        expect![[r#"
        scenarios/x.yaml:3:8: b stands on two sides of the partition
          3 |   - 5s partition a b | b c
            |        ^
    "#]],
    );
    refused_step(
        "5s wipe c",
        expect![[r#"
        scenarios/x.yaml:3:8: c is running, so only a powered-off disk can be wiped
          3 |   - 5s wipe c
            |        ^
    "#]],
    );
    refused_step(
        "5s put d k v",
        expect![[r#"
        scenarios/x.yaml:3:8: d is not started yet: it waits for a join, so a client cannot ask it
          3 |   - 5s put d k v
            |        ^
    "#]],
    );
    refused_step(
        "5s heal\n  - 4s heal",
        expect![[r#"
        scenarios/x.yaml:4:5: steps stand in time order, but 4s comes after 5s
          4 |   - 4s heal
            |     ^
    "#]],
    );
}

#[test]
fn figures_that_make_no_sense_are_refused() {
    refused(
        "cluster: { nodes: a b }\nnetwork: { loss: 120% }\n",
        expect![[r#"
        scenarios/x.yaml:2:18: '120%' is no share; expected one from 0% to 100%
          2 | network: { loss: 120% }
            |                  ^
    "#]],
    );
    refused(
        "cluster: { nodes: a b }\nnetwork: { delay: 20ms..1ms }\n",
        expect![[r#"
        scenarios/x.yaml:2:19: the range '20ms..1ms' ends before it begins
          2 | network: { delay: 20ms..1ms }
            |                   ^
    "#]],
    );
    refused(
        "cluster: { nodes: a b }\nclocks: { skew: 0ms..5ms }\n",
        expect![[r#"
        scenarios/x.yaml:2:17: a clock has one skew: write 'any of 0ms..5ms' to draw it from the seed
          2 | clocks: { skew: 0ms..5ms }
            |                 ^
    "#]],
    );
    refused(
        "cluster: { nodes: a b }\nworkload: { mix: put 6 gets 3 }\n",
        expect![[r#"
        scenarios/x.yaml:2:18: unknown operation 'gets', did you mean 'get'? Expected one of put, get, delete
          2 | workload: { mix: put 6 gets 3 }
            |                  ^
    "#]],
    );
    refused(
        "cluster: { nodes: a b, config: { sync_interval: 2 } }\n",
        expect![[r#"
        scenarios/x.yaml:1:49: '2' is no duration; expected one such as 200ms, 5s or 1m30s
          1 | cluster: { nodes: a b, config: { sync_interval: 2 } }
            |                                                 ^
    "#]],
    );
    refused(
        "cluster: { nodes: a a }\n",
        expect![[r#"
        scenarios/x.yaml:1:21: node 'a' is named twice
          1 | cluster: { nodes: a a }
            |                     ^
    "#]],
    );
    refused(
        "cluster: { nodes: a everywhere }\n",
        expect![[r#"
        scenarios/x.yaml:1:21: 'everywhere' is a word of the language and no name for a node
          1 | cluster: { nodes: a everywhere }
            |                     ^
    "#]],
    );
    refused(
        "cluster: { nodes: a }\nworkload: { rate: 99999999/s }\ntimeline: [ 60s stop workload ]\n",
        expect![[r#"
        scenarios/x.yaml:1:1: this story has more than 200000 steps, its background load included
          1 | cluster: { nodes: a }
            | ^
    "#]],
    );
}

#[test]
fn what_is_no_scenario_at_all_is_refused() {
    refused(
        "",
        expect![[r#"
        scenarios/x.yaml:1:1: found nothing, expected a scenario: a mapping with 'cluster' and 'timeline'
          1 | 
            | ^
    "#]],
    );
    refused(
        "- 1s heal\n",
        expect![[r#"
        scenarios/x.yaml:1:1: found a list, expected a scenario: a mapping with 'cluster' and 'timeline'
          1 | - 1s heal
            | ^
    "#]],
    );
    refused(
        "about: x\n",
        expect![[r#"
        scenarios/x.yaml:1:1: the field 'cluster' is missing, as in 'cluster: { nodes: a b c }'
          1 | about: x
            | ^
    "#]],
    );
    refused(
        "cluster: { nodes: a b\n",
        expect![[r#"
            scenarios/x.yaml:1:10: unclosed bracket '{'
              1 | cluster: { nodes: a b
                |          ^
        "#]],
    );
    refused(
        "cluster: { nodes: a }\ncluster: { nodes: b }\n",
        expect![[r#"
            scenarios/x.yaml:2:1: duplicate mapping key: cluster
              2 | cluster: { nodes: b }
                | ^
        "#]],
    );
}

#[test]
fn a_story_that_is_not_there_is_answered_with_those_that_are() {
    let error = load("rejoin_stael").expect_err("no such story").to_string();
    assert!(error.starts_with("rejoin_stael: there is no such file"), "{error}");
    assert!(error.contains("did you mean 'rejoin_stale'?"), "{error}");
}

#[test]
fn every_story_that_is_shipped_parses() {
    let scenarios = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut stories = 0;
    for folder in [scenarios.clone(), scenarios.join("regressions")] {
        for name in stories_in(&folder) {
            let story = load(&folder.join(format!("{name}.yaml")).display().to_string());
            let story = story.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(story.name, name);
            assert!(!story.about.is_empty(), "{name} says what it is about");
            stories += 1;
        }
    }
    assert!(stories >= 6, "found only {stories} stories");
}
