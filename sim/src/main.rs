//! `sim`: lives the life of a cluster, or many of them, and says whether every promise was kept.
//!
//! Exit: 0 passed, 1 a promise was broken, 2 it could not run.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use reknit::mutants::{self, Class, Hunted};
use reknit_sim::args::{self, Command, Run};
use reknit_sim::diff;
use reknit_sim::members::figures;
use reknit_sim::plan::{self, catalogue};
use reknit_sim::report::{self, Ladder};
use reknit_sim::run::{self, Options, Verdict};
use reknit_sim::scenario::Scenario;
use reknit_sim::scenario::parse::load;
use reknit_sim::scenario::schema::schema;
use reknit_sim::{kills, shrink, sweep};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BROKEN: u8 = 1;
const COULD_NOT_RUN: u8 = 2;
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("members") {
        return measure_members();
    }
    let done = match args::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => say(&args::help()),
        Ok(Command::HelpScenario) => say(&args::help_scenario()),
        Ok(Command::Schema) => say(&schema()),
        Ok(Command::Faults) => say(&catalogue::text()),
        Ok(Command::Diff(one, other)) => compare(&one, &other),
        Ok(Command::Run(run)) => live(&run),
        Ok(Command::Mutants(ids)) => hunt_all(&ids),
        Ok(Command::Hunt(run)) => hunt(&run),
        Err(text) => Err(anyhow::Error::msg(text)),
    };
    done.unwrap_or_else(|error| {
        eprintln!("sim: {error:#}");
        ExitCode::from(COULD_NOT_RUN)
    })
}

fn compare(one: &str, other: &str) -> Result<ExitCode> {
    let (text, are_equal) = diff::diff(one.as_ref(), other.as_ref())?;
    say(&text)?;
    Ok(exit(are_equal))
}

/// `sim members [runs=N] [seed=N] [hours=N]`
fn measure_members() -> ExitCode {
    let mut plan = figures::Plan::default();
    for argument in std::env::args().skip(2) {
        let (key, value) = argument.split_once('=').unwrap_or((&argument, ""));
        let number = value.parse().ok();
        match (key, number) {
            ("runs", Some(number @ 1..)) => plan.runs = number,
            ("seed", Some(number)) => plan.seed = number,
            ("hours", Some(number)) => plan.hours = number,
            _ => {
                eprintln!("sim members: expected runs=N, seed=N or hours=N, found '{argument}'");
                return ExitCode::from(COULD_NOT_RUN);
            }
        }
    }
    // Each row as soon as it is known: the long ones take a while.
    figures::report(&plan, |row| println!("{row}"));
    ExitCode::SUCCESS
}

fn live(asked: &Run) -> Result<ExitCode> {
    if let Some(id) = asked.mutant {
        choose(id)?;
    }
    let story = asked.scenario.as_deref().map(load).transpose()?;
    // A life is drawn whole; of a story only what it leaves open is.
    let of_seed = |seed| match &story {
        Some(story) => plan::materialise(story, seed),
        None => plan::life(seed),
    };
    if asked.is_sweep() { live_many(asked, &of_seed) } else { live_one(asked, story.as_ref(), &of_seed) }
}

fn live_one(asked: &Run, story: Option<&Scenario>, of_seed: sweep::Stories<'_>) -> Result<ExitCode> {
    let seed = asked.seeds(story).start;
    let scenario = of_seed(seed);
    let mut options = Options {
        until: asked.until,
        writes_files: true,
        called: asked.scenario.clone(),
        stop: Some(interruption()?),
        ..Options::default()
    };
    if !asked.json && !asked.quiet {
        if !scenario.about.is_empty() {
            println!("{}", scenario.about);
        }
        let ladder = Ladder::new(stdout(), scenario.all_nodes().cloned().collect());
        let width = console::Term::stdout().size_checked().map(|(_, columns)| columns);
        options.watch = Some(Box::new(ladder.within(width)));
    }
    let outcome = run::run(&scenario, seed, asked.world(), options)?;
    if asked.json {
        say(&outcome.summary())?;
    } else {
        say(&format!("{}\n", report::verdict(&outcome)))?;
    }
    if let Some(violation) = outcome.violations.first().filter(|_| asked.shrinks()) {
        make_small(asked, &scenario, seed, &violation.signature())?;
    }
    Ok(exit(outcome.verdict != Verdict::Failed))
}

/// Tells the smallest story that fails likewise; beside JSON, where only one thing can be told, on the other stream.
fn make_small(asked: &Run, scenario: &Scenario, seed: u64, signature: &str) -> Result<()> {
    let shrunk = shrink::shrink(scenario, seed, asked.world(), signature, shrink::TIME_MAX)?;
    let text = match shrunk {
        Some(shrunk) => shrunk.leave(&run::files_of(&scenario.name, asked.world(), seed))?,
        None => format!("the failure {signature} did not show again, so it was not made small"),
    };
    if asked.json {
        eprintln!("{text}");
    } else {
        say(&format!("{text}\n"))?;
    }
    Ok(())
}

fn live_many(asked: &Run, of_seed: sweep::Stories<'_>) -> Result<ExitCode> {
    if asked.until.is_some() {
        bail!("'until' stops one run; expected one 'seed' with it, found 'seeds'");
    }
    let (seeds, world) = (asked.seeds(None), asked.world());
    let shows_progress = !asked.json && !asked.quiet;
    let stop = Some(interruption()?);
    let swept = sweep::sweep(of_seed, asked.scenario.as_deref(), seeds, world, (shows_progress, stop))?;
    if asked.json {
        say(&swept.json())?;
    } else {
        say(&format!("{}\n", if asked.quiet { swept.verdict() } else { swept.text() }))?;
        eprintln!("{}", swept.speed());
    }
    if let Some(failure) = swept.failures.first().filter(|_| asked.shrinks()) {
        make_small(asked, &of_seed(failure.seeds[0]), failure.seeds[0], &failure.signature)?;
    }
    match swept.failed {
        0 if swept.is_stopped => Ok(ExitCode::from(COULD_NOT_RUN)),
        failed => Ok(exit(failed == 0)),
    }
}

/// Is raised by Ctrl-C, so that what was learned so far can be told; a second one ends the program at once.
fn interruption() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .context("cannot listen for Ctrl-C")?;
    }
    Ok(stop)
}

/// Hunts known bugs, each in a process of its own.
fn hunt_all(ids: &[&'static str]) -> Result<ExitCode> {
    if !cfg!(feature = "mutants") {
        bail!("this build has no mutants; with them it is: just mutants");
    }
    let (table, is_good) = kills::table(ids, |line| eprintln!("{line}"))?;
    say(&table)?;
    Ok(exit(is_good))
}

fn hunt(asked: &Run) -> Result<ExitCode> {
    if let Some(id) = asked.mutant {
        choose(id)?;
    }
    let seeds = asked.seeds(None).end;
    let mutant = asked.mutant.and_then(mutants::find);
    // The unmutated build has to pass what the hardest bug has to.
    let class = mutant.map_or(Class::Hard, |mutant| mutant.class);
    let kill = match mutant.map_or(Hunted::Lives, |mutant| mutant.hunted) {
        Hunted::Lives => kills::hunt(class == Class::Hard, seeds)?,
        Hunted::Tables => kills::hunt_tables(seeds),
    };
    say(&serde_json::to_string(&kill)?)
}

#[cfg(feature = "mutants")]
fn choose(id: &'static str) -> Result<()> {
    if !reknit::mutants::choose(id) {
        bail!("the mutant '{id}' cannot be switched on");
    }
    Ok(())
}

#[cfg(not(feature = "mutants"))]
fn choose(id: &'static str) -> Result<()> {
    bail!(
        "this build has no mutants; with them it is: \
         cargo run --release -p reknit-sim --features mutants -- mutant={id}"
    );
}

fn exit(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) }
}

fn say(text: &str) -> Result<ExitCode> {
    match stdout().write_all(text.as_bytes()) {
        // Whoever read along (`sim | head`) has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        done => done.context("cannot write to the terminal")?,
    }
    Ok(ExitCode::SUCCESS)
}
