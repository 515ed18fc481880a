use super::*;

fn read(line: &str) -> Result<Command, String> {
    parse(line.split_whitespace().map(str::to_owned))
}

fn run(line: &str) -> Run {
    match read(line) {
        Ok(Command::Run(run)) => run,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_seed_is_understood_however_it_is_written() {
    for line in ["seed=7", "7", "--seed 7", "--seed=7"] {
        let run = run(line);
        assert_eq!(run.seeds, Seeds::One(7), "{line}");
        assert_eq!(run.world(), World::Full);
        assert_eq!(run.seeds(None), 7..8);
    }
}

#[test]
fn words_stand_in_any_order() {
    let expected = Run {
        seeds: Seeds::Many(0..200),
        scenario: Some("rejoin_stale".to_owned()),
        world: Some(World::Full),
        until: Some(Duration::from_secs(31)),
        mutant: Some("no-persist"),
        json: true,
        quiet: true,
        shrink: None,
    };
    assert_eq!(
        run("seeds=0..200 scenario=rejoin_stale world=full until=31s mutant=no-persist json quiet"),
        expected
    );
    assert_eq!(
        run(
            "--quiet --json --mutant no-persist until=31s --world full --scenario=rejoin_stale --seeds 0..200"
        ),
        expected
    );
}

#[test]
fn sweeps_are_fast_and_stories_have_seeds_of_their_own() {
    assert_eq!(run("seeds=3..5").world(), World::Fast);
    assert!(run("seeds=3..5").is_sweep());

    let mut story = Scenario::quiet("story", vec!["a".to_owned()]);
    assert_eq!(run("scenario=story").seeds(Some(&story)), 1..2);
    story.seed = Some(9);
    assert_eq!(run("scenario=story").seeds(Some(&story)), 9..10);
    assert_eq!(run("scenario=story seed=4").seeds(Some(&story)), 4..5);
    assert_eq!(run("").seeds(None), 1..2);
    assert_eq!(run("scenario=story").world(), World::Full);
}

#[test]
fn help_is_help_wherever_it_stands() {
    for line in ["help", "--help", "-h", "seed=7 help"] {
        assert_eq!(read(line), Ok(Command::Help), "{line}");
    }
    assert_eq!(read("help scenario"), Ok(Command::HelpScenario));
    assert!(help().contains("no-persist"));
    assert!(help_scenario().contains("partition A B | C D"));
}

#[test]
fn what_is_not_understood_is_answered_with_what_would_be() {
    for (line, part) in [
        ("sead=7", "did you mean 'seed'?"),
        ("--sead 7", "did you mean 'seed'?"),
        ("seed", "'seed=…' or '--seed …'"),
        ("--seed", "'seed=…' or '--seed …'"),
        ("seed=x", "expected a whole number"),
        ("seed=-1", "expected a whole number"),
        ("seed=0..5", "did you mean 'seeds=0..5'?"),
        ("0..5", "did you mean 'seeds=0..5'?"),
        ("seeds=5..5", "is empty"),
        ("seeds=7", "such as 0..200"),
        ("seeds=0..99999999999", "more than"),
        ("world=fats", "did you mean 'fast'?"),
        ("until=31", "no duration"),
        ("mutant=no-persits", "did you mean 'no-persist'?"),
        ("jsn", "did you mean 'json'?"),
        ("json=yes", "takes no value"),
        ("smoke", "did you mean 'scenario=smoke'?"),
        ("scenario=", "no name or path"),
        ("seed=7 8", "'seed' is given twice"),
        ("seed=7 seeds=0..5", "both"),
        ("seeds=0..5 seed=7", "both"),
        ("fault", "did you mean 'faults'?"),
        ("diff a", "two runs or traces"),
    ] {
        let error = read(line).expect_err(line);
        assert!(error.contains(part), "{line}: {error}");
    }
}
