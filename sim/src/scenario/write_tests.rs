use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::parse::parse;
use super::super::stage::Stage;
use super::super::*;
use super::*;

fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0u64..100_000).prop_map(Duration::from_millis),
        any::<u32>().prop_map(|n| Duration::from_nanos(n.into()))
    ]
}

fn delay() -> impl Strategy<Value = Draw<Duration>> {
    (time(), time(), any::<bool>()).prop_map(|(one, other, once)| {
        let range = one.min(other)..=one.max(other);
        if once { Draw::Once(range) } else { Draw::Each(range) }
    })
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    let odd = vec(any::<u8>(), 1..9)
        .prop_filter_map("a key", |bytes| Some(reknit::model::Key::new(bytes).ok()?.as_bytes().to_vec()));
    prop_oneof![Just(b"k/1..100".to_vec()), Just(b"1...2".to_vec()), Just(b"expect".to_vec()), odd]
}

fn value() -> impl Strategy<Value = String> {
    let words = [
        "found", "absent", "expect", "ack=2", "x: y", "a #b", "|", "->", "", "it's", "'", "\"", "- x",
        "\u{85}",
    ];
    prop_oneof![select(words.to_vec()).prop_map(str::to_owned), any::<String>()]
}

fn node() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned)
}

fn options(with_ttl: bool) -> impl Strategy<Value = WriteOptions> {
    let ack = prop_oneof![Just(Ack::Local), Just(Ack::Majority), (1u16..9).prop_map(Ack::Nodes)];
    let ttl = option::of(time()).prop_map(move |ttl| ttl.filter(|_| with_ttl));
    (ack, ttl, option::of(100u16..600), any::<bool>()).prop_map(|(ack, ttl, expect, saw)| WriteOptions {
        ack,
        ttl,
        expect,
        offset: None,
        saw,
    })
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![Just(Place::Everywhere), node().prop_map(Place::Node)]
}

fn momentary() -> impl Strategy<Value = Expectation> {
    let found = prop_oneof![
        value().prop_map(Found::Value),
        Just(Found::Found),
        Just(Found::Absent),
        any::<usize>().prop_map(Found::Siblings),
    ];
    prop_oneof![
        (place(), key(), found).prop_map(|(place, key, is)| Expectation::Get { place, key, is }),
        (place(), vec(any::<u8>(), 0..4), any::<usize>())
            .prop_map(|(place, prefix, is)| Expectation::Count { place, prefix, is }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let boundaries =
        [Boundary::BetweenTurns, Boundary::BeforePersist, Boundary::AfterPersist, Boundary::MidSend];
    let boundaries: Vec<Boundary> = boundaries
        .into_iter()
        .chain([Boundary::IoError, Boundary::DiskFull])
        .chain(Point::all().map(Boundary::On))
        .collect();
    let points: Vec<Point> = Point::all().collect();
    let offset = || -4_000_000_000_000i64..4_000_000_000_000;
    let names = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let sides = vec![vec![names("a"), names("b c d")], vec![names("a b"), names("c"), names("d")]];
    let on_one: Vec<fn(String) -> Step> = vec![
        Step::Restart,
        Step::Pause,
        Step::Resume,
        Step::Wipe,
        Step::Backup,
        Step::Restore,
        Step::Join,
        Step::Leave,
        Step::Remove,
        Step::Isolate,
        Step::Freeze,
        Step::Thaw,
        Step::Clog,
        Step::Unclog,
    ];
    prop_oneof![
        4 => (node(), key(), value(), options(true))
            .prop_map(|(node, key, value, options)| Step::Put { node, key, value, options }),
        2 => (node(), key(), options(false)).prop_map(|(node, key, options)| Step::Delete { node, key, options }),
        1 => (node(), key(), options(false))
            .prop_map(|(node, key, options)| Step::Get { node, key, asked: options.ack }),
        1 => momentary().prop_map(Step::Expect),
        4 => (node(), select(boundaries)).prop_map(|(node, boundary)| Step::Crash { node, boundary }),
        9 => (node(), select(on_one)).prop_map(|(node, step)| step(node)),
        1 => (node(), node()).prop_map(|(from, to)| Step::Clone { from, to }),
        1 => (node(), node()).prop_map(|(from, to)| Step::Cut { from, to }),
        1 => select(sides).prop_map(Step::Partition),
        1 => (node(), offset()).prop_map(|(node, offset)| Step::Skew(node, offset)),
        1 => (node(), offset()).prop_map(|(node, offset)| Step::Jump(node, offset)),
        1 => (0.0f64..=1.0).prop_map(Step::SetLoss),
        1 => (0.0f64..=1.0).prop_map(Step::SetDuplicate),
        1 => delay().prop_map(Step::SetDelay),
        1 => option::of(1u64..1_000_000).prop_map(Step::SetBandwidth),
        1 => (node(), 1u32..100).prop_map(|(node, factor)| Step::Slow(node, factor)),
        1 => (node(), option::of(key())).prop_map(|(node, key)| Step::Rot(node, key)),
        1 => (node(), select(points)).prop_map(|(node, point)| Step::IsolateOn(node, point)),
        1 => (node(), select(Setting::NAMES.to_vec()), time())
            .prop_map(|(node, name, value)| Step::Configure(node, Setting { name, value })),
        1 => select(vec![Step::Heal, Step::StopWorkload]),
    ]
}

fn clock() -> impl Strategy<Value = ClockModel> {
    let skew = (-9_000i64..9_000, 0i64..9_000, any::<bool>()).prop_map(|(low, more, once)| match once {
        true => Draw::Once(low..=low + more),
        false => Draw::Each(low..=low),
    });
    let granularity = time().prop_filter("some", |time| !time.is_zero());
    (skew, granularity, -500i64..500).prop_map(|(skew, granularity, drift_ppm)| ClockModel {
        skew,
        granularity,
        drift_ppm,
    })
}

fn surroundings() -> impl Strategy<Value = (Network, Clocks, Disks, Option<Workload>)> {
    let share = || 0.0f64..=1.0;
    let network =
        (delay(), share(), share(), share(), share(), 1u32..9, option::of(1u64..9_999)).prop_map(|figures| {
            let (delay, loss, duplicate, corrupt, tail, burst, bandwidth) = figures;
            Network { delay, loss, duplicate, corrupt, tail, burst, bandwidth }
        });
    let clocks = (clock(), option::of(clock()))
        .prop_map(|(all, b)| Clocks { all, nodes: b.into_iter().map(|b| ("b".to_owned(), b)).collect() });
    let disks = (delay(), select(vec![OnCrash::LoseUnpersisted, OnCrash::TearUnpersisted]))
        .prop_map(|(persist, on_crash)| Disks { persist, on_crash, spikes: 0.25 });
    let load =
        (1u32..9, 1u32..99, 0.0f64..50.0, 1u32..9, 0u32..9).prop_map(|(clients, keys, rate, put, delete)| {
            Workload { clients, keys, rate, mix: Mix { put, get: 1, delete } }
        });
    (network, clocks, disks, option::of(load))
}

fn config() -> impl Strategy<Value = NodeConfig> {
    let figures = (option::of(time()), option::of(time()), option::of(time()), option::of(1..u32::MAX));
    let rule = option::of(select(vec![CollisionRule::Majority, CollisionRule::Oldest]));
    (figures, rule).prop_map(|((probe, gossip, drift, stream_credit), collision)| NodeConfig {
        collision,
        stream_credit,
        quirks: vec![Quirk::HoldPush, Quirk::CompareAlways],
        probe_interval: probe,
        gossip_interval_max: gossip,
        max_clock_drift: drift,
        ..NodeConfig::default()
    })
}

fn about() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,300}", any::<String>()].prop_map(|about| about.trim().to_owned())
}

prop_compose! {
    fn scenario()(
        about in about(),
        seed in option::of(any::<u64>()),
        config in config(),
        (network, clocks, disks, workload) in surroundings(),
        mut moments in vec(time(), 0..40),
        steps in vec(step(), 40),
        check in vec(momentary(), 0..3),
        within in time(),
    ) -> Scenario {
        let nodes = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let mut story = Scenario { about, seed, config, network, clocks, disks, workload, ..Scenario::quiet("story", nodes) };
        story.later = vec!["d".to_owned()];
        let mut stage = Stage::of(&story);
        moments.sort();
        // Steps that make no sense where they fell are left out.
        let sensible = moments.into_iter().zip(steps).filter(|(_, step)| stage.play(step).is_ok());
        story.timeline = sensible.map(|(at, step)| Timed { at, step }).collect();
        story.check = check;
        story.check.push(Expectation::Agree { within });
        story
    }
}

proptest! {
    #[test]
    fn what_is_written_parses_back_to_an_equal_scenario(story in scenario()) {
        let yaml = to_yaml(&story);

        let read = parse("other.yaml", &yaml).map_err(|error| TestCaseError::fail(format!("{error}\n{yaml}")))?;
        prop_assert_eq!(read, story, "{}", yaml);
    }
}
