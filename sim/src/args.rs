//! The command line: words in any order, `seed=7 world=fast` or `--seed 7 --world fast`.
//!
//! Promises that every word is understood or refused with a suggestion. Says nothing about whether a run succeeds.

use std::ops::Range;
use std::time::Duration;

use crate::run::World;
use crate::scenario::Scenario;
use crate::scenario::figures::duration;
use crate::suggest::{closest, instead};

/// Most seeds of one sweep.
pub const SEEDS_MAX: u64 = 10_000_000;

/// What the user asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Show [`help`].
    Help,
    /// Show the verbs and checks of scenarios.
    HelpScenario,
    /// Show the JSON Schema of scenarios.
    Schema,
    /// Show the faults and how they are drawn.
    Faults,
    /// Show where two traces part.
    Diff(String, String),
    /// Live one or more lives.
    Run(Run),
    /// Hunt known bugs: these, or all of them.
    Mutants(Vec<&'static str>),
    /// Live seeds until one fails, for the hunt that waits.
    Hunt(Run),
}

/// Which lives to live, and how to tell about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Which seeds.
    pub seeds: Seeds,
    /// A story by name or path; nothing is a life drawn from the seed.
    pub scenario: Option<String>,
    /// Where, if it was said.
    pub world: Option<World>,
    /// Stop there, print states, give no verdict.
    pub until: Option<Duration>,
    /// The bug to switch on.
    pub mutant: Option<&'static str>,
    /// Tell it to programs.
    pub json: bool,
    /// Tell the verdict only.
    pub quiet: bool,
    /// Whether to make a failure small: nothing said, a sweep does and a single run does not.
    pub shrink: Option<bool>,
}

/// Which seeds to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seeds {
    /// The scenario's own, else 1.
    #[default]
    Unsaid,
    /// One.
    One(u64),
    /// A sweep; the last is left out.
    Many(Range<u64>),
}

impl Run {
    /// The seeds to run; `scenario` is the story that was read, if one was asked for.
    pub fn seeds(&self, scenario: Option<&Scenario>) -> Range<u64> {
        match &self.seeds {
            Seeds::Many(seeds) => seeds.clone(),
            Seeds::One(seed) => *seed..seed + 1,
            Seeds::Unsaid => {
                let seed = scenario.and_then(|scenario| scenario.seed).unwrap_or(1);
                seed..seed + 1
            }
        }
    }

    /// Whether the first failure is made small.
    pub fn shrinks(&self) -> bool {
        self.shrink.unwrap_or(self.is_sweep())
    }

    /// Whether this is a sweep: a bar and a summary instead of one line per event.
    pub fn is_sweep(&self) -> bool {
        matches!(self.seeds, Seeds::Many(_))
    }

    /// The world that was asked for: without a word about it, sweeps are fast and all else is full.
    pub fn world(&self) -> World {
        self.world.unwrap_or(if self.is_sweep() { World::Fast } else { World::Full })
    }
}

/// Words with a value behind `=`.
const KEYS: [&str; 6] = ["seed", "seeds", "scenario", "world", "until", "mutant"];
/// Words that stand alone.
const FLAGS: [&str; 7] = ["json", "quiet", "shrink", "no-shrink", "help", "schema", "faults"];

/// Reads the words behind the program's name.
///
/// # Errors
/// What was found and what was expected; the caller exits with 2.
pub fn parse<I: IntoIterator<Item = String>>(words: I) -> Result<Command, String> {
    let mut words = words.into_iter().peekable();
    if words.next_if(|word| word == "mutants").is_some() {
        return Ok(Command::Mutants(words.map(|word| mutant(&word)).collect::<Result<_, _>>()?));
    }
    if words.next_if(|word| word == "diff").is_some() {
        let traces: Vec<String> = words.collect();
        let [one, other] = <[String; 2]>::try_from(traces).map_err(|traces| {
            format!("found {} names behind 'diff', expected two runs or traces: sim diff A B", traces.len())
        })?;
        return Ok(Command::Diff(one, other));
    }
    let mut run = Run::default();
    let mut given: Vec<String> = Vec::new();
    let (mut help, mut hunts) = (None, false);
    while let Some(word) = words.next() {
        let dashed = word.starts_with("--");
        let bare = word.strip_prefix("--").unwrap_or(&word);
        let (key, value) = match bare.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None if bare.parse::<u64>().is_ok() => ("seed".to_owned(), Some(bare.to_owned())),
            None => (bare.to_owned(), None),
        };
        if given.contains(&key) {
            return Err(format!("'{key}' is given twice"));
        }
        let value = match value {
            // `--seed 7`
            None if dashed && KEYS.contains(&key.as_str()) => words.next(),
            value => value,
        };
        match (key.as_str(), value) {
            ("help", None) => help = Some(Command::Help),
            ("schema", None) => help = Some(Command::Schema),
            ("faults", None) => help = Some(Command::Faults),
            ("-h", None) => help = Some(Command::Help),
            ("scenario" | "scenarios", None) if help.is_some() => help = Some(Command::HelpScenario),
            ("json", None) => run.json = true,
            ("quiet", None) => run.quiet = true,
            ("shrink", None) => run.shrink = Some(true),
            ("no-shrink", None) => run.shrink = Some(false),
            // Between two processes of `sim mutants` only.
            ("hunt", None) => hunts = true,
            (key, None) => return Err(stray(key)),
            (flag, Some(value)) if FLAGS.contains(&flag) => {
                return Err(format!("'{flag}' takes no value, found '{flag}={value}'"));
            }
            (key, Some(value)) => set(&mut run, key, value)?,
        }
        given.push(key);
    }
    if given.iter().any(|key| key == "shrink") && given.iter().any(|key| key == "no-shrink") {
        return Err("found both 'shrink' and 'no-shrink', expected one of them".to_owned());
    }
    if given.iter().any(|key| key == "seed") && run.is_sweep() {
        return Err("found both 'seed' and 'seeds', expected one of them".to_owned());
    }
    Ok(match help {
        Some(help) => help,
        None if hunts => Command::Hunt(run),
        None => Command::Run(run),
    })
}

fn set(run: &mut Run, key: &str, value: String) -> Result<(), String> {
    match key {
        // A seed never overwrites a sweep: the check for both comes when all words are read.
        "seed" => {
            let seed = seed(&value)?;
            if !run.is_sweep() {
                run.seeds = Seeds::One(seed);
            }
        }
        "seeds" => run.seeds = Seeds::Many(seeds(&value)?),
        "scenario" if value.is_empty() => return Err("'scenario=' has no name or path behind it".to_owned()),
        "scenario" => run.scenario = Some(value),
        "world" => run.world = Some(world(&value)?),
        "until" => run.until = Some(duration(&value)?),
        "mutant" => run.mutant = Some(mutant(&value)?),
        _ => return Err(format!("unknown word '{key}={value}', {}", instead(key, KEYS))),
    }
    Ok(())
}

/// A word without a value that is none of those that have none.
fn stray(word: &str) -> String {
    if KEYS.contains(&word) {
        return format!("'{word}' has no value; it is written '{word}=…' or '--{word} …'");
    }
    if word.contains("..") && word.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("unknown word '{word}', did you mean 'seeds={word}'?");
    }
    // Most often the name of a story without the word before it.
    if crate::scenario::parse::is_story(word) {
        return format!("unknown word '{word}', did you mean 'scenario={word}'?");
    }
    let known = KEYS.iter().chain(&FLAGS).copied();
    format!("unknown word '{word}', {}; 'sim help' shows them all", instead(word, known))
}

fn seed(text: &str) -> Result<u64, String> {
    let seed = text.parse().ok().filter(|seed| *seed < u64::MAX);
    seed.ok_or_else(|| match text.contains("..") {
        true => format!("'{text}' is no seed, did you mean 'seeds={text}'?"),
        false => format!("'{text}' is no seed; expected a whole number such as 7"),
    })
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let ends = text.split_once("..").and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    let (low, high): (u64, u64) =
        ends.ok_or_else(|| format!("'{text}' is no range of seeds; expected one such as 0..200"))?;
    if low >= high {
        return Err(format!("the range of seeds '{text}' is empty: the last is left out"));
    }
    if high - low > SEEDS_MAX {
        return Err(format!("'{text}' is more than {SEEDS_MAX} seeds"));
    }
    Ok(low..high)
}

fn world(text: &str) -> Result<World, String> {
    match text {
        "fast" => Ok(World::Fast),
        "full" => Ok(World::Full),
        _ => Err(format!("unknown world '{text}', {}", instead(text, ["fast", "full"]))),
    }
}

fn mutant(text: &str) -> Result<&'static str, String> {
    let known = || reknit::mutants::ALL.iter().map(|mutant| mutant.id);
    let found = reknit::mutants::find(text).map(|mutant| mutant.id);
    found.ok_or_else(|| match closest(text, known()) {
        Some(near) => format!("unknown mutant '{text}', did you mean '{near}'?"),
        None => format!("unknown mutant '{text}', {}", instead(text, known())),
    })
}

/// What `sim help` shows.
pub fn help() -> String {
    let mutants = reknit::mutants::ALL.iter().map(|mutant| format!("{:>19}  {}\n", mutant.id, mutant.what));
    let mutants: String = mutants.collect();
    format!("{HELP}{mutants}")
}

/// What `sim help scenario` shows.
pub fn help_scenario() -> String {
    use crate::scenario::{help, verbs};
    let checks = verbs::CHECKS.iter().map(|check| format!("  {}\n      {}\n", check.form, check.meaning));
    let checks: String = checks.collect();
    let options = verbs::OPTIONS.iter().map(|(option, meaning)| format!("  {option:<12}{meaning}\n"));
    let options: String = options.collect();
    format!(
        "Steps of a timeline, each behind its time as in '5s crash c':\n\n{}\nOptions of put and delete:\n\n{options}\n\
         Checks:\n\n{checks}\nThe whole language: docs/scenarios.md\n",
        help::verbs()
    )
}

const HELP: &str = "\
Lives the life of a cluster and judges it. The same seed gives the same life.

  just sim seed=7                          a random cluster life drawn from the seed, all faults
  just sim seed=7 scenario=rejoin_stale    a story from scenarios/, by name or path
  just sim seeds=0..1000                   a sweep: every seed from 0 to 999
  just sim seeds=0..50 scenario=smoke      a story with many dice
  just sim seed=7 shrink                   a life, and if it fails the smallest story that fails likewise

Words, in any order, also as --word value or --word=value:

  seed=N or just N   which dice (default: what the scenario says, else 1)
  seeds=N..M         every seed from N on and below M
  scenario=NAME      a story of scenarios/ or scenarios/regressions/, or the path of a file, plan.yaml included
                     (default: a life drawn from the seed)
  world=fast|full    fast steps the nodes in one thread with memory for disks; full runs the real driver and
                     storage on madsim (default: fast for seeds=, full for everything else)
  until=31s          stop there and print the states, without a verdict
  json               tell it in JSON
  quiet              tell the verdict only
  shrink, no-shrink  whether a failure is made small, in a minute at most: a sweep does so with its first one, a
                     single run only when told to. The small story is left beside the run as shrunk.yaml
  help               this; 'help scenario' shows the steps and checks of scenarios
  schema             the JSON Schema of scenarios, for editors
  faults             every fault that lives suffer, and how it is drawn
  diff A B           where two runs part: their folders, or their trace.jsonl

Exit: 0 passed, 1 a promise was broken, 2 it could not run.
Every run of one seed leaves target/sim/SCENARIO-WORLD-SEED/ with report.html, a picture of it for a browser,
summary.json, trace.jsonl and plan.yaml, which is itself a scenario. docs/runs.md describes them all.

  mutants [ID …]     hunts known bugs and prints the table, in a build with --features mutants: just mutants
  mutant=ID          lives with one of them:
";

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
