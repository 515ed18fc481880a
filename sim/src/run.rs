//! One run from end to end: sets the stage, lets a world play, and writes down what came of it.
//!
//! Everything in an [`Outcome`] but the time it took is a function of the scenario, the seed and the world.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use reknit::mutants;
use serde::Serialize;

use crate::check::Violation;
use crate::report::page::page;
use crate::report::recording::Recorder;
use crate::report::{history, perfetto, shiviz};
use crate::scenario::Scenario;
use crate::scenario::write::to_yaml;
use crate::trace::{Trace, Watch};
use crate::world::{Ending, Played, Stage, State, fast, full};

/// Where runs leave their files, below the directory the simulator was started in.
pub const FILES: &str = "target/sim";

/// Which world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Nodes stepped directly in one thread.
    Fast,
    /// The real driver on madsim.
    Full,
}

impl World {
    /// As the command line has it.
    pub fn word(self) -> &'static str {
        match self {
            World::Fast => "fast",
            World::Full => "full",
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What a run leaves behind besides its outcome.
#[derive(Default)]
pub struct Options {
    /// Ends the run early, without a verdict.
    pub until: Option<Duration>,
    /// Writes `summary.json`, `trace.jsonl`, `plan.yaml`, `report.html` and what is made of the same recording.
    pub writes_files: bool,
    /// Sees every event as it happens.
    pub watch: Option<Box<dyn Watch>>,
    /// What the command line called the scenario, if it named one.
    pub called: Option<String>,
    /// Ends the run early, without a verdict, once it is raised.
    pub stop: Option<Arc<AtomicBool>>,
    /// Ends the run soon after the first broken promise: enough for those who want to know which it is.
    pub only_first: bool,
}

/// What came of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every promise was kept.
    Passed,
    /// A promise was broken.
    Failed,
    /// It was stopped early, so nobody can tell.
    Stopped,
}

impl Verdict {
    /// As reports have it.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Stopped => "stopped",
        }
    }
}

/// All there is to tell about a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The story's name.
    pub scenario: String,
    /// What the command line called it, if it named one.
    pub called: Option<String>,
    /// Who played.
    pub world: World,
    /// From which seed.
    pub seed: u64,
    /// What came of it.
    pub verdict: Verdict,
    /// Broken promises, in the order of their times.
    pub violations: Vec<Violation>,
    /// The hash of everything that happened.
    pub trace_hash: u64,
    /// How many events that was.
    pub events: u64,
    /// Virtual time at the end.
    pub virtual_time: Duration,
    /// How long after the end of the faults the replicas agreed.
    pub converged_after: Option<Duration>,
    /// How often each thing happened.
    pub counts: BTreeMap<String, u64>,
    /// The machines at the end.
    pub states: Vec<State>,
    /// Where its files are, if it left any.
    pub files: Option<PathBuf>,
    /// How long it took. Not part of what replays.
    pub wall: Duration,
}

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its files could not be written.
    #[error("cannot write {path}: {error}")]
    Files {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// Plays `scenario`, in which everything is explicit, with every draw from `seed`.
///
/// # Errors
/// The files that were asked for could not be written.
pub fn run(scenario: &Scenario, seed: u64, world: World, options: Options) -> Result<Outcome, RunError> {
    let began = wall_clock();
    let files = options.writes_files.then(|| files_of(&scenario.name, world, seed));
    let mut trace = Trace::hashed();
    if let Some(folder) = &files {
        std::fs::create_dir_all(folder).map_err(|error| RunError::Files { path: folder.clone(), error })?;
        write(&folder.join("plan.yaml"), to_yaml(scenario).as_bytes())?;
        let path = folder.join("trace.jsonl");
        let lines = File::create(&path).map_err(|error| RunError::Files { path, error })?;
        let names = scenario.all_nodes().cloned().collect();
        trace = trace.with_lines(Box::new(BufWriter::new(lines)), names);
    }
    if let Some(watch) = options.watch {
        trace = trace.with_watch(watch);
    }
    let recorder = files.is_some().then(|| Recorder::new(scenario.all_nodes().cloned().collect()));
    if let Some(recorder) = &recorder {
        trace = trace.with_watch(Box::new(recorder.clone()));
    }
    let mut stage = Stage::new(scenario, seed, options.until, trace);
    if let Some(stop) = options.stop {
        stage.stop_at(stop);
    }
    if options.only_first {
        stage.stop_at_first();
    }
    let Played { stage, at, states } = match world {
        World::Fast => fast::play(stage),
        World::Full => full::play(stage),
    };
    let trace_path = files.as_ref().map(|folder| folder.join("trace.jsonl")).unwrap_or_default();
    let ending = stage.finish(at).map_err(|error| RunError::Files { path: trace_path, error })?;
    let called = options.called;
    let outcome = outcome(scenario, (called, seed, world), ending, states, (files, began.elapsed()));
    if let Some(folder) = &outcome.files {
        write(&folder.join("summary.json"), outcome.summary().as_bytes())?;
        if let Some(recorder) = recorder {
            let page = page(&outcome, &scenario.about, &recorder.recording());
            write(&folder.join("report.html"), page.as_bytes())?;
            let recording = recorder.recording();
            write(&folder.join("shiviz.log"), shiviz::log(&recording).as_bytes())?;
            write(&folder.join("perfetto.json"), perfetto::json_of(&recording).as_bytes())?;
            write(&folder.join("history.txt"), history::text(&recording).as_bytes())?;
        }
    }
    Ok(outcome)
}

/// The folder of a run's files.
pub fn files_of(scenario: &str, world: World, seed: u64) -> PathBuf {
    Path::new(FILES).join(format!("{scenario}-{world}-{seed}"))
}

fn outcome(
    scenario: &Scenario,
    (called, seed, world): (Option<String>, u64, World),
    ending: Ending,
    states: Vec<State>,
    (files, wall): (Option<PathBuf>, Duration),
) -> Outcome {
    let verdict = match (ending.violations.is_empty(), ending.is_complete) {
        (false, _) => Verdict::Failed,
        (true, true) => Verdict::Passed,
        (true, false) => Verdict::Stopped,
    };
    Outcome {
        scenario: scenario.name.clone(),
        called,
        world,
        seed,
        verdict,
        violations: ending.violations,
        trace_hash: ending.trace_hash,
        events: ending.events,
        virtual_time: ending.virtual_time,
        converged_after: ending.converged_after,
        counts: ending.counts,
        states,
        files,
        wall,
    }
}

#[derive(Serialize)]
struct Summary<'a> {
    scenario: &'a str,
    world: &'static str,
    seed: u64,
    verdict: &'static str,
    violations: Vec<Broken<'a>>,
    trace_hash: String,
    events: u64,
    virtual_ms: u64,
    converged_after_ms: Option<u64>,
    counts: &'a BTreeMap<String, u64>,
    nodes: Vec<NodeLine<'a>>,
    again: String,
}

#[derive(Serialize)]
struct Broken<'a> {
    code: &'static str,
    signature: String,
    at_ms: u64,
    node: Option<&'a str>,
    key: Option<String>,
    text: &'a str,
}

#[derive(Serialize)]
struct NodeLine<'a> {
    node: &'a str,
    state: &'static str,
    records: usize,
    root: String,
    seen: String,
}

impl Outcome {
    /// The run in one piece of JSON, ending with a newline; equal for equal runs.
    pub fn summary(&self) -> String {
        let violations = self.violations.iter().map(|violation| Broken {
            code: violation.code,
            signature: violation.signature(),
            at_ms: millis(violation.at),
            node: violation.node.as_deref(),
            key: violation.key.as_ref().map(ToString::to_string),
            text: &violation.text,
        });
        let nodes = self.states.iter().map(|state| NodeLine {
            node: &state.node,
            state: state.state,
            records: state.records,
            root: hex(state.root),
            seen: hex(state.seen),
        });
        let summary = Summary {
            scenario: &self.scenario,
            world: self.world.word(),
            seed: self.seed,
            verdict: self.verdict.word(),
            violations: violations.collect(),
            trace_hash: hex(self.trace_hash),
            events: self.events,
            virtual_ms: millis(self.virtual_time),
            converged_after_ms: self.converged_after.map(millis),
            counts: &self.counts,
            nodes: nodes.collect(),
            again: self.again(),
        };
        let mut text = serde_json::to_string_pretty(&summary).expect("a summary is plain data");
        text.push('\n');
        text
    }

    /// The command that shows this run again.
    pub fn again(&self) -> String {
        let Outcome { seed, world, .. } = self;
        let just = just();
        match &self.called {
            None => format!("{just} seed={seed} world={world}"),
            Some(called) => format!("{just} seed={seed} scenario={called} world={world}"),
        }
    }
}

/// The command that starts this program as it was started: with the known bug that is switched on, if one is.
pub fn just() -> String {
    mutants::chosen().map_or("just sim".to_owned(), |id| format!("just mutant {id}"))
}

/// A digest as people read it.
pub fn hex(digest: u64) -> String {
    format!("{digest:016x}")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    std::fs::write(path, bytes).map_err(|error| RunError::Files { path: path.to_owned(), error })
}

#[allow(clippy::disallowed_methods, reason = "how long a run takes is about the machine that simulates")]
pub(crate) fn wall_clock() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
