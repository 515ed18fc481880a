//! The kill table: hunts every known bug of `reknit::mutants` and says how many lives it took to find it.
//!
//! A bug is switched on for a whole process, so each hunt is a process of its own: `sim mutant=ID hunt`, which lives
//! one seed after the other in the fast world until one fails, makes that failure small, and prints a line of JSON. For
//! a hard bug the stories of `scenarios/` come before the lives: some of them are told for its sake. Bugs of the member
//! tables that no life waits for are hunted with the stories of [`stories`]. The unmutated build is hunted too: it must
//! survive.

use std::collections::{BTreeSet, VecDeque};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use reknit::mutants::{ALL, Class, MUSEUM, Mutant};
use serde::{Deserialize, Serialize};

use crate::members::stories;
use crate::panics::caught;
use crate::run::{self, Options, World};
use crate::scenario::Scenario;
use crate::scenario::parse::{all_stories, load};
use crate::{plan, shrink};

/// How many lives the unmutated build must survive beside the hunts.
pub const CONTROL_SEEDS: u64 = 2_000;

/// What a hunt came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kill {
    /// The story that failed, if it was none drawn from a seed.
    pub story: Option<String>,
    /// The first seed that failed.
    pub seed: u64,
    /// How, and where.
    pub signature: String,
    /// The whole line.
    pub violation: String,
    /// How long the lives up to it took, in seconds.
    pub found_s: f64,
    /// Operations, faults and nodes of the small story; a story of member tables is not made smaller.
    pub small: Option<(usize, usize, usize)>,
    /// How long making it small took, in seconds.
    pub small_s: f64,
}

impl Kill {
    fn place(&self) -> String {
        self.story.as_ref().map_or_else(|| format!("seed {}", self.seed), |story| format!("`{story}`"))
    }
}

/// Plays all stories, if they are wanted, and lives seeds from 0 to `seeds`, until one fails; `None` if none does.
///
/// # Errors
/// A story could not be read, or those of [`run::run`].
pub fn hunt(stories: bool, seeds: u64) -> Result<Option<Kill>> {
    let began = run::wall_clock();
    for name in if stories { all_stories() } else { BTreeSet::new() } {
        let story = load(&name)?;
        let seed = story.seed.unwrap_or(1);
        if let Some(kill) = fails(&plan::materialise(&story, seed), seed, began)? {
            return Ok(Some(Kill { story: Some(name), ..kill }));
        }
    }
    for seed in 0..seeds {
        if let Some(kill) = fails(&plan::life(seed), seed, began)? {
            return Ok(Some(kill));
        }
    }
    Ok(None)
}

/// Tells the stories of member tables with seeds from 0 to `seeds` until one fails; `None` if none does.
pub fn hunt_tables(seeds: u64) -> Option<Kill> {
    let began = run::wall_clock();
    for seed in 0..seeds {
        for (name, story) in stories::ALL {
            let Err(violation) = caught(|| story(seed)) else { continue };
            let signature = name.replace('_', " ");
            let found_s = began.elapsed().as_secs_f64();
            return Some(Kill {
                story: None,
                seed,
                signature,
                violation,
                found_s,
                small: None,
                small_s: 0.0,
            });
        }
    }
    None
}

/// Lives one life; if it fails, makes it small.
fn fails(life: &Scenario, seed: u64, began: std::time::Instant) -> Result<Option<Kill>> {
    let outcome = run::run(life, seed, World::Fast, Options { only_first: true, ..Options::default() })?;
    let Some(violation) = outcome.violations.first() else { return Ok(None) };
    let (found, signature) = (began.elapsed(), violation.signature());
    let shrunk = shrink::shrink(life, seed, World::Fast, &signature, shrink::TIME_MAX)?;
    let Some(shrunk) = shrunk else { bail!("{signature} of seed {seed} did not show a second time") };
    shrunk.leave(&run::files_of(&life.name, World::Fast, seed))?;
    let size = shrunk.sizes.1;
    Ok(Some(Kill {
        story: None,
        seed,
        signature,
        violation: violation.to_string(),
        found_s: found.as_secs_f64(),
        small: Some((size.operations, size.faults, size.nodes)),
        small_s: shrunk.wall.as_secs_f64(),
    }))
}

/// One row of the table.
struct Row {
    mutant: &'static Mutant,
    kill: Option<Kill>,
}

/// Hunts these bugs, or all of them with an empty list, on all cores; returns the table and whether it is as it
/// should be: every bug found within its class, and nothing found in the unmutated build.
///
/// # Errors
/// This program could not be started again, or said what is no hunt's end.
pub fn table(ids: &[&'static str], tell: impl Fn(&str) + Sync) -> Result<(String, bool)> {
    let wanted: VecDeque<&Mutant> =
        ALL.iter().filter(|mutant| ids.is_empty() || ids.contains(&mutant.id)).collect();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (queue, rows) = (Mutex::new(wanted), Mutex::new(Vec::new()));
    let work = || -> Result<()> {
        loop {
            let next = queue.lock().expect("no thread panics with it").pop_front();
            let Some(mutant) = next else { return Ok(()) };
            let kill = hunt_apart(Some(mutant))?;
            let found = kill.as_ref().map_or("survives".to_owned(), |kill| {
                let small = kill.small.map(|small| format!(", {small:?} in {:.1} s", kill.small_s));
                format!("{}, {}{}", kill.place(), kill.signature, small.unwrap_or_default())
            });
            tell(&format!("{:<20} {found}", mutant.id));
            rows.lock().expect("no thread panics with it").push(Row { mutant, kill });
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a hunt does not panic"))
    })?;
    let control = if ids.is_empty() { hunt_apart(None)? } else { None };
    let mut rows = rows.into_inner().expect("no thread panicked with it");
    rows.sort_by_key(|row| ALL.iter().position(|mutant| mutant.id == row.mutant.id));
    let is_good = control.is_none() && rows.iter().all(|row| row.kill.is_some());
    Ok((text(&rows, ids.is_empty(), control.as_ref()), is_good))
}

/// Hunts in a process of its own.
fn hunt_apart(mutant: Option<&Mutant>) -> Result<Option<Kill>> {
    let seeds = mutant.map_or(CONTROL_SEEDS, |mutant| mutant.class.seeds_max());
    let mut command = Command::new(std::env::current_exe().context("where is this program?")?);
    command.args(mutant.map(|mutant| format!("mutant={}", mutant.id)));
    command.arg(format!("seeds=0..{seeds}")).arg("hunt").stderr(Stdio::inherit());
    let output = command.output().context("cannot start this program again")?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).with_context(|| format!("the hunt ended with {}: {text}", output.status))
}

/// The table as Markdown.
fn text(rows: &[Row], is_whole: bool, control: Option<&Kill>) -> String {
    let mut lines = vec![
        "# Known bugs, and how long the simulator takes to find each\n".to_owned(),
        "<!-- Made by `just mutants`, which fails if a bug survives its class. -->\n".to_owned(),
        "Each bug is put into the node on its own, and lives are lived one after the other, from seed 0 on, in the fast \
         world until one fails; then the failure is made small. A bug of class E must be found within 10 lives, M \
         within 100, H by a story of `scenarios/` or within 2,000 lives. What is wrong with member tables alone is hunted \
         with the stories of large clusters of them (`sim/src/members/stories.rs`) instead, one seed after the other; the \
         story that failed is named as the check. Times are those of one core among others at work.\n"
            .to_owned(),
        "| bug | class | first | check | found in | small: operations, faults, nodes | what it does |"
            .to_owned(),
        "|---|---|---|---|---|---|---|".to_owned(),
    ];
    for Row { mutant, kill } in rows {
        let Mutant { id, class, what, .. } = mutant;
        let class = match class {
            Class::Easy => "E",
            Class::Middling => "M",
            Class::Hard => "H",
        };
        lines.push(match kill {
            None => {
                format!("| `{id}` | {class} | **survives {}** | | | | {what} |", mutant.class.seeds_max())
            }
            Some(kill) => {
                let Kill { signature, found_s, small_s, .. } = kill;
                let place = kill.place();
                let small = kill.small.map(|(operations, faults, nodes)| {
                    format!("{operations}, {faults}, {nodes} in {small_s:.1} s")
                });
                let small = small.unwrap_or_default();
                format!("| `{id}` | {class} | {place} | {signature} | {found_s:.2} s | {small} | {what} |")
            }
        });
    }
    let kills: Vec<&Kill> = rows.iter().filter_map(|row| row.kill.as_ref()).collect();
    lines.push(String::new());
    lines.push(format!("{} of {} found.", kills.len(), rows.len()));
    let made_small = kills.iter().filter_map(|kill| Some((*kill, kill.small?)));
    let made_small: Vec<(&Kill, (usize, usize, usize))> = made_small.collect();
    if !made_small.is_empty() {
        let median = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        let in_lives = made_small.iter().filter(|(kill, _)| kill.story.is_none());
        let sizes = || made_small.iter().map(|(_, small)| small);
        lines.push(format!(
            "Medians of those found in lives: first seed {}; made small to {} operations, {} faults, {} nodes in {:.1} s.",
            median(in_lives.map(|(kill, _)| kill.seed as f64).collect()),
            median(sizes().map(|small| small.0 as f64).collect()),
            median(sizes().map(|small| small.1 as f64).collect()),
            median(sizes().map(|small| small.2 as f64).collect()),
            median(made_small.iter().map(|(kill, _)| kill.small_s).collect()),
        ));
    }
    if is_whole {
        lines.push(match control {
            None => format!("The unmutated build survives all stories and seeds 0 to {}.", CONTROL_SEEDS - 1),
            Some(kill) => format!("**The unmutated build fails**, {}: {}", kill.place(), kill.violation),
        });
    }
    if is_whole {
        let museum = MUSEUM.iter().map(|(bug, mutants)| format!("{bug} `{}`", mutants.join("`, `")));
        let museum: Vec<String> = museum.collect();
        lines.push(format!(
            "\nBugs of other stores that are among them, by their numbers in [hazards.md](hazards.md): {}.",
            museum.join(", ")
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}
