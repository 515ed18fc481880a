//! Makes a failure small: the least story that still breaks the same promise at the same kind of place.
//!
//! Works on the explicit scenario, never on dice: cuts the end off, takes the surroundings' trouble away, drops kinds
//! of faults, nodes and keys, then single faults and operations (ddmin, an interval with its end), and makes values
//! and times plain. What is left is a scenario like any other. A candidate counts only if its *first* violation has
//! the signature that is hunted; one that fails otherwise is another bug, and is left alone.
//!
//! How far it gets hangs on the time it is given, so its result is no function of the seed; the story that it
//! returns is, and was played twice with the same trace.

mod pieces;
mod simpler;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::check::Violation;
use crate::run::{self, Options, Outcome, RunError, World};
use crate::scenario::write::to_yaml;
use crate::scenario::{Scenario, Timed};

pub use pieces::Size;

/// What the small story is called in the folder of the run that failed.
const FILE: &str = "shrunk.yaml";
/// How long one failure is made smaller at the very most.
pub const TIME_MAX: Duration = Duration::from_secs(60);
/// Most runs of one hunt, whatever the time: a bound for machines that are very fast.
const RUNS_MAX: u64 = 20_000;
/// Stories of at most this many steps are tried with further dice before a candidate is given up, as their runs
/// are short and what is left of them is mostly timing.
const FEW_STEPS: usize = 60;
/// How many dice are tried then.
const DICE_MAX: u64 = 6;

/// A failure made small.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The story, its seed in it.
    pub scenario: Scenario,
    /// Where it fails: the fast world whenever the failure shows there too.
    pub world: World,
    /// What it breaks.
    pub violation: Violation,
    /// What it was, and what it is.
    pub sizes: (Size, Size),
    /// How many runs that took.
    pub runs: u64,
    /// How long that took.
    pub wall: Duration,
}

/// Makes the failure of `scenario` under `seed` small; `None` if it does not fail with `signature` in either world.
///
/// # Errors
/// Those of [`run::run`].
pub fn shrink(
    scenario: &Scenario,
    seed: u64,
    world: World,
    signature: &str,
    time_max: Duration,
) -> Result<Option<Shrunk>, RunError> {
    let began = run::wall_clock();
    let mut start = scenario.clone();
    start.seed = Some(seed);
    // A run of the fast world takes a hundredth of the other's time.
    let worlds: &[World] = if world == World::Full { &[World::Fast, World::Full] } else { &[World::Fast] };
    for (&world, runs) in worlds.iter().zip(1..) {
        let outcome = run::run(&start, seed, world, Options { only_first: true, ..Options::default() })?;
        let Some(violation) = broken(&outcome, signature) else { continue };
        let stop = Arc::new(AtomicBool::new(false));
        let mut hunt = Hunt {
            signature,
            world,
            best: start.clone(),
            violation,
            tried: BTreeSet::new(),
            runs,
            until: began + time_max,
            stop: stop.clone(),
            failure: None,
        };
        // A single run can take longer than all of them may.
        let (done, is_done) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let left = time_max.saturating_sub(began.elapsed());
            scope.spawn(move || {
                if is_done.recv_timeout(left) == Err(mpsc::RecvTimeoutError::Timeout) {
                    stop.store(true, Ordering::Relaxed);
                }
            });
            hunt.exhaust();
            drop(done);
        });
        if let Some(error) = hunt.failure {
            return Err(error);
        }
        let after = Size::of(&hunt.best);
        return Ok(Some(Shrunk {
            scenario: titled(hunt.best, scenario, seed, &hunt.violation),
            world,
            violation: hunt.violation,
            sizes: (Size::of(scenario), after),
            runs: hunt.runs,
            wall: began.elapsed(),
        }));
    }
    Ok(None)
}

impl Shrunk {
    /// Writes the story into the folder of the run that it came from.
    ///
    /// Returns what people read: what it was and is, the story's steps, how to see it, and how to keep it.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn leave(&self, folder: &Path) -> Result<String, RunError> {
        std::fs::create_dir_all(folder)
            .map_err(|error| RunError::Files { path: folder.to_owned(), error })?;
        let path = folder.join(FILE);
        run::write(&path, to_yaml(&self.scenario).as_bytes())?;
        let (before, after) = self.sizes;
        let Shrunk { scenario, world, violation, runs, wall, .. } = self;
        let (path, wall) = (path.display(), wall.as_secs_f64());
        let mut lines = vec![format!("small   {before}  ->  {after}; {runs} runs in {wall:.1} s")];
        lines.extend(scenario.timeline.iter().map(|timed| format!("        {timed}")));
        lines.push(format!("        {violation}"));
        lines.push(format!("replay  {} scenario={path} world={world}", run::just()));
        lines.push(format!("keep    cp {path} scenarios/regressions/{}.yaml", scenario.name));
        Ok(lines.join("\n"))
    }
}

/// The violation that is hunted, if it is the first of this run.
fn broken(outcome: &Outcome, signature: &str) -> Option<Violation> {
    outcome.violations.first().filter(|violation| violation.signature() == signature).cloned()
}

/// The story under a name of its own, and what it is about.
fn titled(mut story: Scenario, from: &Scenario, seed: u64, violation: &Violation) -> Scenario {
    let words = format!("{}_{}", violation.signature().to_lowercase().replace(['/', '-'], "_"), seed);
    story.name = words;
    let text: String =
        violation.text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    story.about = format!(
        "Made small from seed {seed} of {}. It broke {}: {}.",
        from.name,
        violation.code,
        words.join(" ")
    );
    story
}

/// One failure on its way to becoming small.
struct Hunt<'a> {
    signature: &'a str,
    world: World,
    /// The smallest story so far that fails as it should.
    best: Scenario,
    /// How it fails.
    violation: Violation,
    /// Hashes of the candidates that were tried.
    tried: BTreeSet<u64>,
    runs: u64,
    until: std::time::Instant,
    /// Is raised then.
    stop: Arc<AtomicBool>,
    failure: Option<RunError>,
}

impl Hunt<'_> {
    /// Round after round of all passes, until a whole round changes nothing or the time is over.
    fn exhaust(&mut self) {
        loop {
            let before = self.best.clone();
            self.truncate();
            self.calm_surroundings();
            self.drop_kinds();
            self.drop_nodes();
            self.drop_keys();
            self.thin(pieces::faults(&self.best));
            self.thin(pieces::operations(&self.best));
            self.thin((0..self.best.timeline.len()).map(|step| vec![step]).collect());
            self.drop_checks();
            self.simplify();
            if self.best == before || self.is_over() {
                return;
            }
        }
    }

    fn is_over(&self) -> bool {
        self.failure.is_some() || self.runs >= RUNS_MAX || run::wall_clock() >= self.until
    }

    /// Takes the candidate for the best story if it fails as it should.
    fn accepts(&mut self, candidate: Scenario) -> bool {
        let candidate = pieces::sensible(candidate);
        if candidate == self.best || candidate.nodes.is_empty() || self.takes_the_story_away(&candidate) {
            return false;
        }
        let own = candidate.seed.expect("the hunt began with one");
        let dice_max = if candidate.timeline.len() <= FEW_STEPS { DICE_MAX } else { 1 };
        // Small numbers besides the story's own: whoever reads the regression has to read them too.
        let dice = std::iter::once(own).chain((1..dice_max).filter(|dice| *dice != own));
        dice.into_iter().any(|dice| self.tries(&candidate, dice))
    }

    fn tries(&mut self, candidate: &Scenario, dice: u64) -> bool {
        let mut candidate = candidate.clone();
        candidate.seed = Some(dice);
        if self.is_over() || !self.tried.insert(xxh3_64(to_yaml(&candidate).as_bytes())) {
            return false;
        }
        match self.fails(&candidate, dice) {
            Some((violation, first))
                if self.fails(&candidate, dice).is_some_and(|again| again.1 == first) =>
            {
                (self.best, self.violation) = (candidate, violation);
                true
            }
            _ => false,
        }
    }

    fn fails(&mut self, candidate: &Scenario, dice: u64) -> Option<(Violation, u64)> {
        self.runs += 1;
        let options = Options { only_first: true, stop: Some(self.stop.clone()), ..Options::default() };
        match run::run(candidate, dice, self.world, options) {
            Ok(outcome) => Some((broken(&outcome, self.signature)?, outcome.trace_hash)),
            Err(error) => {
                self.failure.get_or_insert(error);
                None
            }
        }
    }

    /// A story's own check fails at once without what it asks for: such an end is no smaller form of the failure.
    fn takes_the_story_away(&self, candidate: &Scenario) -> bool {
        if self.violation.code != "STORY" {
            return false;
        }
        let asked = self.violation.key.as_ref().map(reknit::model::Key::as_bytes);
        let kept = |story: &Scenario| -> Vec<_> {
            let about = |timed: &&Timed| match (pieces::key_of(&timed.step), asked) {
                (Some(key), Some(asked)) => key == asked,
                (Some(_), None) => true,
                (None, _) => false,
            };
            story.timeline.iter().filter(about).map(|timed| timed.step.clone()).collect()
        };
        kept(candidate) != kept(&self.best)
            || candidate.nodes != self.best.nodes
            || candidate.check != self.best.check
    }

    /// Cuts off what comes after the failure, then as much before it as can go.
    fn truncate(&mut self) {
        let at = self.violation.at;
        self.accepts(pieces::keeping(&self.best, |_, timed| timed.at <= at));
        let (mut enough, mut few) = (self.best.timeline.len(), 0);
        while few < enough {
            let half = few + (enough - few) / 2;
            match self.accepts(pieces::keeping(&self.best, |step, _| step < half)) {
                true => enough = half.min(self.best.timeline.len()),
                false => few = half + 1,
            }
        }
    }

    /// Gives the nodes good links, clocks and disks and the usual settings: all at once, else one by one.
    fn calm_surroundings(&mut self) {
        if !self.accepts(simpler::calm(&self.best)) {
            for candidate in simpler::calmer(&self.best) {
                self.accepts(candidate(&self.best));
            }
        }
    }

    fn drop_kinds(&mut self) {
        for kind in pieces::Kind::ALL {
            self.accepts(pieces::keeping(&self.best, |_, timed| pieces::Kind::of(&timed.step) != Some(kind)));
        }
    }

    /// Takes nodes out, from the last to the first: with all they were asked, or asking another one instead.
    fn drop_nodes(&mut self) {
        let all: Vec<String> = self.best.all_nodes().cloned().collect();
        for node in all.iter().rev() {
            if self.accepts(pieces::without_node(&self.best, node, None)) {
                continue;
            }
            let others: Vec<String> = self.best.all_nodes().filter(|other| *other != node).cloned().collect();
            let _ =
                others.iter().any(|other| self.accepts(pieces::without_node(&self.best, node, Some(other))));
        }
    }

    fn drop_keys(&mut self) {
        let keys: BTreeSet<Vec<u8>> = self
            .best
            .timeline
            .iter()
            .filter_map(|timed| pieces::key_of(&timed.step))
            .map(<[u8]>::to_vec)
            .collect();
        let keys: Vec<Vec<u8>> = keys.into_iter().collect();
        let pieces = keys.iter().map(|key| pieces::about_key(&self.best, key)).collect();
        self.thin(pieces);
    }

    /// Delta debugging: takes out runs of pieces, all of them first, at last each one alone.
    fn thin(&mut self, pieces: Vec<Vec<usize>>) {
        let base = self.best.clone();
        let mut gone: BTreeSet<usize> = BTreeSet::new();
        let mut left = pieces;
        let mut many = left.len();
        while many > 0 && !self.is_over() {
            let mut at = 0;
            while at < left.len() {
                let end = (at + many).min(left.len());
                let mut without = gone.clone();
                without.extend(left[at..end].iter().flatten());
                let mut candidate = pieces::keeping(&base, |step, _| !without.contains(&step));
                candidate.seed = self.best.seed;
                if self.accepts(candidate) {
                    gone = without;
                    left.drain(at..end);
                } else {
                    at = end;
                }
            }
            many = if many == 1 { 0 } else { many.div_ceil(2) };
        }
    }

    fn drop_checks(&mut self) {
        for check in (0..self.best.check.len()).rev() {
            let mut candidate = self.best.clone();
            candidate.check.remove(check);
            self.accepts(candidate);
        }
    }

    /// Plain values, plain times, plain names.
    fn simplify(&mut self) {
        for step in 0..self.best.timeline.len() {
            for plainer in simpler::steps(&self.best, step) {
                if self.accepts(plainer) {
                    break;
                }
            }
        }
        for step in 0..self.best.timeline.len() {
            for sooner in simpler::times(&self.best, step) {
                if self.accepts(sooner) {
                    break;
                }
            }
        }
        self.accepts(simpler::plain_keys(&self.best));
        self.accepts(simpler::plain_values(&self.best));
        self.accepts(simpler::plain_nodes(&self.best));
    }
}

#[cfg(test)]
#[path = "shrink_tests.rs"]
mod tests;
