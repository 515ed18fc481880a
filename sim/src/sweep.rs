//! Many seeds of one scenario on all cores; what is told does not depend on which thread was faster.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::run::{self, Options, Outcome, RunError, Verdict, World};
use crate::scenario::Scenario;

/// Most seeds named per kind of failure.
const SEEDS_SHOWN_MAX: usize = 10;
/// Seeds in one row of characters.
const SEEDS_PER_ROW: usize = 100;
/// Fewer seeds than this say little about what never happens.
const SEEDS_THAT_TELL: u64 = 50;

/// What many runs came to.
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    /// The story.
    pub scenario: String,
    /// `fast` or `full`.
    pub world: &'static str,
    /// First seed, and the one after the last.
    pub seeds: (u64, u64),
    /// Runs that kept every promise.
    pub passed: u64,
    /// Runs that did not.
    pub failed: u64,
    /// Somebody ended it before all seeds had their turn.
    pub is_stopped: bool,
    /// Failures that look like one bug, by their signature.
    pub failures: Vec<Failure>,
    /// How often each thing happened in all runs together.
    pub counts: BTreeMap<String, u64>,
    /// The slowest convergence, in milliseconds, and the seed that had it.
    pub slowest_ms: Option<(u64, u64)>,
    /// How long all runs lived, in milliseconds of their own time.
    pub virtual_ms: u64,
    /// The hashes of all runs, hashed in the order of their seeds.
    pub trace_hash: String,
    /// How long it took, which is about the machine only.
    #[serde(skip)]
    pub wall: Duration,
}

/// Failures that look like one bug.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// What they have in common.
    pub signature: String,
    /// Which seeds, ascending.
    pub seeds: Vec<u64>,
    /// What the first of them says.
    pub first: String,
    /// How to see the first again.
    pub again: String,
}

/// The explicit scenario of a seed.
pub type Stories<'a> = &'a (dyn Fn(u64) -> Scenario + Sync);

/// Runs every seed of `seeds`; `called` is what the command line called the scenario, if it named one.
///
/// The first run of every kind of failure is run once more to leave its files.
///
/// # Errors
/// Those of [`run::run`].
pub fn sweep(
    scenario: Stories<'_>,
    called: Option<&str>,
    seeds: Range<u64>,
    world: World,
    (shows_progress, stop): (bool, Option<Arc<AtomicBool>>),
) -> Result<Sweep, RunError> {
    let began = run::wall_clock();
    let bar =
        if shows_progress { progress(seeds.end.saturating_sub(seeds.start)) } else { ProgressBar::hidden() };
    let called = called.map(str::to_owned);
    let rows = Rows::new(seeds.start, &bar);
    let outcomes = live_all(scenario, &called, seeds.clone(), world, (&rows, &stop))?;
    rows.end();
    bar.finish_and_clear();
    let mut sweep = Sweep {
        scenario: scenario(seeds.start).name,
        world: world.word(),
        seeds: (seeds.start, seeds.end),
        passed: 0,
        failed: 0,
        is_stopped: stop.is_some_and(|stop| stop.load(Ordering::Relaxed)),
        failures: Vec::new(),
        counts: BTreeMap::new(),
        slowest_ms: None,
        virtual_ms: 0,
        trace_hash: String::new(),
        wall: began.elapsed(),
    };
    let mut hashes = Vec::new();
    for outcome in &outcomes {
        hashes.extend_from_slice(&outcome.trace_hash.to_le_bytes());
        sweep.add(outcome);
    }
    sweep.trace_hash = run::hex(xxhash_rust::xxh3::xxh3_64(&hashes));
    for failure in &sweep.failures {
        let seed = failure.seeds[0];
        let options = Options { writes_files: true, called: called.clone(), ..Options::default() };
        run::run(&scenario(seed), seed, world, options)?;
    }
    Ok(sweep)
}

/// Every seed's outcome, in the order of the seeds.
fn live_all(
    scenario: Stories<'_>,
    called: &Option<String>,
    seeds: Range<u64>,
    world: World,
    (rows, stop): (&Rows<'_>, &Option<Arc<AtomicBool>>),
) -> Result<Vec<Outcome>, RunError> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicU64::new(seeds.start);
    let failure = Mutex::new(None);
    let (sender, outcomes) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (sender, next, failure, end) = (sender.clone(), &next, &failure, seeds.end);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_stopped = || stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
                    if seed >= end || is_stopped() {
                        return;
                    }
                    let options =
                        Options { called: called.clone(), stop: stop.clone(), ..Options::default() };
                    match run::run(&scenario(seed), seed, world, options) {
                        // It says nothing about its seed.
                        Ok(outcome) if outcome.verdict == Verdict::Stopped && is_stopped() => return,
                        Ok(outcome) => {
                            rows.add(&outcome);
                            // The receiver outlives the threads.
                            let _ = sender.send(outcome);
                        }
                        Err(error) => {
                            next.store(end, Ordering::Relaxed);
                            failure.lock().expect("no thread panics with it").get_or_insert(error);
                        }
                    }
                }
            });
        }
    });
    drop(sender);
    if let Some(error) = failure.into_inner().expect("no thread panics with it") {
        return Err(error);
    }
    let mut outcomes: Vec<Outcome> = outcomes.into_iter().collect();
    outcomes.sort_by_key(|outcome| outcome.seed);
    Ok(outcomes)
}

/// A character per seed, in rows: a dot for each that passed, a letter for each kind of failure.
struct Rows<'a> {
    bar: &'a ProgressBar,
    state: Mutex<RowsState>,
}

#[derive(Default)]
struct RowsState {
    next: u64,
    row: String,
    /// Of seeds whose turn it is not yet.
    waiting: BTreeMap<u64, char>,
    kinds: Vec<String>,
}

impl Rows<'_> {
    fn new(first: u64, bar: &ProgressBar) -> Rows<'_> {
        Rows { bar, state: Mutex::new(RowsState { next: first, ..RowsState::default() }) }
    }

    fn add(&self, outcome: &Outcome) {
        self.bar.inc(1);
        let state = &mut *self.state.lock().expect("no thread panics with it");
        let mark = match outcome.violations.first() {
            None => '.',
            Some(violation) => {
                let signature = violation.signature();
                let known = state.kinds.iter().position(|kind| *kind == signature);
                let place = known.unwrap_or_else(|| {
                    state.kinds.push(signature);
                    state.kinds.len() - 1
                });
                char::from(b'A' + u8::try_from(place).unwrap_or(u8::MAX).min(25))
            }
        };
        state.waiting.insert(outcome.seed, mark);
        while let Some(mark) = state.waiting.remove(&state.next) {
            state.row.push(mark);
            state.next += 1;
            if state.row.len() == SEEDS_PER_ROW {
                self.print(state);
            }
        }
    }

    fn print(&self, state: &mut RowsState) {
        let row = std::mem::take(&mut state.row);
        self.bar.println(format!("{:>8} {row}", state.next - row.len() as u64));
    }

    fn end(&self) {
        let state = &mut *self.state.lock().expect("no thread panics with it");
        if !state.row.is_empty() {
            self.print(state);
        }
        for (place, kind) in state.kinds.iter().enumerate() {
            self.bar.println(format!(
                "{:>8} {kind}",
                char::from(b'A' + u8::try_from(place).unwrap_or(25).min(25))
            ));
        }
    }
}

fn progress(seeds: u64) -> ProgressBar {
    let template = "{bar:30} {pos}/{len} seeds, {per_sec}, {eta} to go";
    let style = ProgressStyle::with_template(template).expect("the template is right");
    ProgressBar::new(seeds).with_style(style)
}

impl Sweep {
    fn add(&mut self, outcome: &Outcome) {
        for (name, count) in &outcome.counts {
            *self.counts.entry(name.clone()).or_default() += count;
        }
        self.virtual_ms += outcome.virtual_time.as_millis() as u64;
        if let Some(after) = outcome.converged_after {
            let millis = after.as_millis() as u64;
            if self.slowest_ms.is_none_or(|(slowest, _)| millis > slowest) {
                self.slowest_ms = Some((millis, outcome.seed));
            }
        }
        if outcome.verdict != Verdict::Failed {
            self.passed += 1;
            return;
        }
        self.failed += 1;
        let first = outcome.violations.first().expect("a failed run has broken something");
        let signature = first.signature();
        match self.failures.iter_mut().find(|failure| failure.signature == signature) {
            Some(failure) => failure.seeds.push(outcome.seed),
            None => self.failures.push(Failure {
                signature,
                seeds: vec![outcome.seed],
                first: first.to_string(),
                again: outcome.again(),
            }),
        }
    }

    /// What people read: failures by kind, what never happened, the sum.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for failure in &self.failures {
            let shown = failure.seeds.iter().take(SEEDS_SHOWN_MAX).map(u64::to_string);
            let mut seeds: Vec<String> = shown.collect();
            if failure.seeds.len() > SEEDS_SHOWN_MAX {
                seeds.push("…".to_owned());
            }
            let (count, seeds) = (failure.seeds.len(), seeds.join(", "));
            lines.push(format!("{} in {count} seeds: {seeds}", failure.signature));
            lines.push(format!("    {}", failure.first));
            lines.push(format!("    {}", failure.again));
        }
        let (first, end) = self.seeds;
        if end.saturating_sub(first) >= SEEDS_THAT_TELL {
            let counts: Vec<String> =
                self.counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            lines.push(format!("reached: {}", counts.join(", ")));
            let never: Vec<&str> =
                self.counts.iter().filter(|(_, count)| **count == 0).map(|(name, _)| name.as_str()).collect();
            if !never.is_empty() {
                lines.push(format!("never reached, so nothing is proven about: {}", never.join(", ")));
            }
        }
        if let Some((millis, seed)) = self.slowest_ms {
            lines.push(format!("slowest agreement: {millis} ms after the faults, seed {seed}"));
        }
        lines.push(self.verdict());
        lines.join("\n")
    }

    /// The last line.
    pub fn verdict(&self) -> String {
        let word = match (self.failed, self.is_stopped) {
            (0, false) => "PASSED",
            (0, true) => "STOPPED",
            _ => "FAILED",
        };
        let Sweep { scenario, world, seeds: (first, end), passed, failed, trace_hash, .. } = self;
        let counted = format!("{passed} passed, {failed} failed, traces {trace_hash}");
        format!("{word} {scenario} seeds={first}..{end} world={world}: {counted}")
    }

    /// The same for programs.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("a sweep is plain data");
        text.push('\n');
        text
    }

    /// How fast it was, for the terminal's other stream: the only line that differs from run to run.
    pub fn speed(&self) -> String {
        let seeds = (self.passed + self.failed) as f64;
        let seconds = self.wall.as_secs_f64().max(1e-9);
        let lived = self.virtual_ms as f64 / 1000.0 / seconds;
        format!("{seeds} seeds in {seconds:.1} s: {:.1} seeds/s, {lived:.0} s lived per s", seeds / seconds)
    }
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
