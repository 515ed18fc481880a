//! Reads a scenario file: YAML for the shape, [`verbs`](super::verbs) for the lines of timeline and checks.
//!
//! Promises that nothing is ignored: an unknown word, node or field is an error that names file, line and
//! column, what was found and what was expected.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reknit::node::settings::CollisionRule;
use serde_saphyr::{Location, Spanned};

use super::fields::names_of;
use super::figures::{
    bandwidth, bytes, draw, duration, policies, quirks, rate, share, show_duration, signed_millis,
};
use super::line::{Complaint, Line, words};
use super::stage::Stage;
use super::tree::{self, Tree};
use super::verbs::{read_check, read_step};
use super::{ClockModel, Clocks, Disks, Draw, Mix, Network, NodeConfig, OnCrash, Scenario, Timed, Workload};
use crate::suggest::instead;

/// Longest scenario file.
pub const SOURCE_BYTES_MAX: usize = 16 << 20;
/// Most steps of one story, ranges and background load made explicit.
pub const STEPS_MAX: usize = 200_000;
/// Most nodes of one story.
pub const NODES_MAX: usize = 64;

/// Why a scenario cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// The file as the user named it.
    pub file: String,
    /// From 1; 0 if it is about the file as a whole.
    pub line: u64,
    /// From 1, in characters.
    pub column: u64,
    /// What was found and what was expected.
    pub message: String,
    /// The line of the file, to look at.
    pub excerpt: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}: {}", self.file, self.message);
        }
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        let gutter = self.line.to_string().len();
        let caret = " ".repeat(self.column.saturating_sub(1) as usize);
        write!(f, "\n  {} | {}\n  {:gutter$} | {caret}^", self.line, self.excerpt, "")
    }
}

impl std::error::Error for ScenarioError {}

/// Finds a story by its name under `scenarios/`, or by its path, and reads it.
///
/// # Errors
/// There is no such file, or it is no scenario.
pub fn load(name: &str) -> Result<Scenario, ScenarioError> {
    let path = find(name)?;
    let shown = path.display().to_string();
    let source = std::fs::read_to_string(&path)
        .map_err(|error| about_file(&shown, format!("cannot be read: {error}")))?;
    parse(&shown, &source)
}

/// Folders that a bare name is looked up in: of the current directory, else of where this was built.
fn folders() -> Vec<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let roots = [Path::new("scenarios").to_owned(), built.join("scenarios")];
    roots.into_iter().flat_map(|root| [root.join("regressions"), root]).rev().collect()
}

fn find(name: &str) -> Result<PathBuf, ScenarioError> {
    let path = Path::new(name);
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let mut names = Vec::new();
    for folder in folders() {
        let candidate = folder.join(format!("{name}.yaml"));
        if candidate.is_file() {
            return Ok(candidate);
        }
        names.extend(stories_in(&folder));
    }
    names.sort();
    names.dedup();
    let known = instead(name, names.iter().map(String::as_str));
    Err(about_file(name, format!("there is no such file and no such story in scenarios/; {known}")))
}

/// The names of all stories, sorted.
pub fn all_stories() -> BTreeSet<String> {
    folders().iter().flat_map(|folder| stories_in(folder)).collect()
}

/// Whether there is a story of this name.
pub fn is_story(name: &str) -> bool {
    folders().iter().any(|folder| folder.join(format!("{name}.yaml")).is_file())
}

/// The names of the stories in a folder, sorted.
pub fn stories_in(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let stories = files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let mut names: Vec<String> =
        stories.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

fn about_file(file: &str, message: String) -> ScenarioError {
    ScenarioError { file: file.to_owned(), line: 0, column: 0, message, excerpt: String::new() }
}

/// Reads the text of a scenario; `file` names it in errors, and its stem names the story.
///
/// # Errors
/// It is no scenario.
pub fn parse(file: &str, source: &str) -> Result<Scenario, ScenarioError> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(about_file(file, format!("is longer than {SOURCE_BYTES_MAX} bytes")));
    }
    let text = Text { file, source };
    let root = tree::read(source).map_err(|error| {
        let line = error.location().unwrap_or(Location::UNKNOWN);
        text.error(line, 0, plainly(&error.without_snippet().to_string()))
    })?;
    let stem = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or("scenario");
    let mut scenario = Scenario::quiet(stem, Vec::new());
    text.scenario(&root, &mut scenario)?;
    Ok(scenario)
}

/// The file being read, for the places in its errors.
struct Text<'a> {
    file: &'a str,
    source: &'a str,
}

type Outcome<T> = Result<T, ScenarioError>;
type Entry = (Spanned<String>, Spanned<Tree>);

impl Text<'_> {
    fn error(&self, location: Location, at: usize, message: impl Into<String>) -> ScenarioError {
        let excerpt =
            self.source.lines().nth((location.line() as usize).saturating_sub(1)).unwrap_or_default();
        // A line in YAML quotes begins behind the quote.
        let first = (location.column() as usize).saturating_sub(1);
        let quote = usize::from(excerpt.chars().nth(first).is_some_and(|c| c == '"' || c == '\'') && at > 0);
        let inside = first + quote + at;
        // A line that YAML folded or unescaped has other columns than the file: then its start must do.
        let column = if inside <= excerpt.chars().count() { inside } else { first };
        ScenarioError {
            file: self.file.to_owned(),
            line: location.line(),
            column: column as u64 + 1,
            message: message.into(),
            excerpt: excerpt.to_owned(),
        }
    }

    fn wrong<T>(&self, value: &Spanned<Tree>, expected: &str) -> Outcome<T> {
        let message = format!("found {}, expected {expected}", value.value.kind());
        Err(self.error(value.referenced, 0, message))
    }

    fn unknown<T>(&self, section: &str, key: &Spanned<String>, more: &[String]) -> Outcome<T> {
        let fields = names_of(section).map(|name| -> &str { name });
        let known = fields.chain(more.iter().map(String::as_str));
        let place = if section.is_empty() { String::new() } else { format!(" of {section}") };
        let message = format!("unknown field '{}'{place}, {}", key.value, instead(&key.value, known));
        Err(self.error(key.referenced, 0, message))
    }

    fn map<'t>(&self, value: &'t Spanned<Tree>, what: &str) -> Outcome<&'t [Entry]> {
        match &value.value {
            Tree::Map(entries) => Ok(entries),
            Tree::Nothing | Tree::Text(_) | Tree::List(_) => self.wrong(value, what),
        }
    }

    fn text<'t>(&self, value: &'t Spanned<Tree>) -> Outcome<&'t str> {
        match &value.value {
            Tree::Text(text) => Ok(text.trim()),
            Tree::Nothing | Tree::List(_) | Tree::Map(_) => self.wrong(value, "a text"),
        }
    }

    fn list<'t>(&self, value: &'t Spanned<Tree>) -> Outcome<&'t [Spanned<Tree>]> {
        match &value.value {
            Tree::Nothing => Ok(&[]),
            Tree::List(items) => Ok(items),
            Tree::Text(_) | Tree::Map(_) => self.wrong(value, "a list of lines that begin with '-'"),
        }
    }

    fn figure<T>(&self, value: &Spanned<Tree>, read: impl FnOnce(&str) -> Result<T, String>) -> Outcome<T> {
        read(self.text(value)?).map_err(|message| self.error(value.referenced, 0, message))
    }

    fn scenario(&self, root: &Spanned<Tree>, scenario: &mut Scenario) -> Outcome<()> {
        let fields = self.map(root, "a scenario: a mapping with 'cluster' and 'timeline'")?;
        let Some((_, cluster)) = fields.iter().find(|(key, _)| key.value == "cluster") else {
            return Err(self.error(
                root.referenced,
                0,
                "the field 'cluster' is missing, as in 'cluster: { nodes: a b c }'",
            ));
        };
        // Everything else may speak of nodes, wherever it stands in the file.
        self.cluster(cluster, scenario)?;
        for (key, value) in fields {
            match key.value.as_str() {
                "cluster" => {}
                "about" => scenario.about = self.text(value)?.to_owned(),
                "name" => scenario.name = self.figure(value, name)?,
                "seed" => scenario.seed = Some(self.figure(value, whole)?),
                "network" => self.network(value, &mut scenario.network)?,
                "clocks" => scenario.clocks = self.clocks(value, scenario)?,
                "disks" => self.disks(value, &mut scenario.disks)?,
                "workload" => scenario.workload = self.workload(value)?,
                "timeline" => scenario.timeline = self.timeline(value, scenario)?,
                "check" => scenario.check = self.check(value, scenario)?,
                _ => return self.unknown("", key, &[]),
            }
        }
        self.bounded(root, scenario)
    }

    fn bounded(&self, root: &Spanned<Tree>, scenario: &Scenario) -> Outcome<()> {
        let load = scenario.workload.as_ref().map_or(0.0, |load| load.rate * scenario.end().as_secs_f64());
        if scenario.timeline.len() as f64 + load > STEPS_MAX as f64 {
            let message = format!("this story has more than {STEPS_MAX} steps, its background load included");
            return Err(self.error(root.referenced, 0, message));
        }
        Ok(())
    }

    fn cluster(&self, value: &Spanned<Tree>, scenario: &mut Scenario) -> Outcome<()> {
        for (key, value) in self.map(value, "a mapping such as { nodes: a b c }")? {
            match key.value.as_str() {
                "nodes" => self.nodes(value, &mut scenario.nodes, &scenario.later)?,
                "later" => self.nodes(value, &mut scenario.later, &scenario.nodes)?,
                "config" => self.config(value, &mut scenario.config)?,
                _ => return self.unknown("cluster", key, &[]),
            }
        }
        match (scenario.nodes.len(), scenario.nodes.len() + scenario.later.len()) {
            (0, _) => Err(self.error(
                value.referenced,
                0,
                "the cluster has no nodes, expected such as 'nodes: a b c'",
            )),
            (_, all) if all > NODES_MAX => Err(self.error(
                value.referenced,
                0,
                format!("found {all} nodes, expected at most {NODES_MAX}"),
            )),
            _ => Ok(()),
        }
    }

    fn nodes(&self, value: &Spanned<Tree>, nodes: &mut Vec<String>, others: &[String]) -> Outcome<()> {
        let found: Vec<(Location, usize, String)> = match &value.value {
            Tree::Text(text) => {
                let words = words(text).map_err(|complaint| self.complain(value.referenced, complaint))?;
                words.into_iter().map(|word| (value.referenced, word.at, word.text)).collect()
            }
            Tree::List(items) => {
                let names = items.iter().map(|item| Ok((item.referenced, 0, self.text(item)?.to_owned())));
                names.collect::<Outcome<_>>()?
            }
            Tree::Nothing | Tree::Map(_) => {
                return self.wrong(value, "names of nodes such as 'a b c' or [a, b, c]");
            }
        };
        for (location, at, name) in found {
            let message = match node_name(&name) {
                Err(message) => message,
                Ok(()) if nodes.contains(&name) || others.contains(&name) => {
                    format!("node '{name}' is named twice")
                }
                Ok(()) => {
                    nodes.push(name);
                    continue;
                }
            };
            return Err(self.error(location, at, message));
        }
        Ok(())
    }

    fn config(&self, value: &Spanned<Tree>, config: &mut NodeConfig) -> Outcome<()> {
        for (key, value) in self.map(value, "a mapping of the node's configuration keys")? {
            let field = match key.value.as_str() {
                "probe_interval" => &mut config.probe_interval,
                "suspect_timeout" => &mut config.suspect_timeout,
                "forget_after" => &mut config.forget_after,
                "gossip_interval_min" => &mut config.gossip_interval_min,
                "gossip_interval_max" => &mut config.gossip_interval_max,
                "sync_interval" => &mut config.sync_interval,
                "catchup_interval" => &mut config.catchup_interval,
                "max_clock_drift" => &mut config.max_clock_drift,
                "tombstone_grace" => &mut config.tombstone_grace,
                "bootstrap_window" => &mut config.bootstrap_window,
                "policies" => {
                    config.policies = self.figure(value, policies)?;
                    continue;
                }
                "collision" => {
                    config.collision = Some(self.figure(value, CollisionRule::from_word)?);
                    continue;
                }
                "stream_credit" => {
                    config.stream_credit = Some(self.figure(value, bytes)?);
                    continue;
                }
                "quirks" => {
                    config.quirks = self.figure(value, quirks)?;
                    continue;
                }
                "gossip_interval" => {
                    let both = Some(self.figure(value, duration)?);
                    (config.gossip_interval_min, config.gossip_interval_max) = (both, both);
                    continue;
                }
                _ => return self.unknown("config", key, &[]),
            };
            *field = Some(self.figure(value, duration)?);
        }
        match (config.gossip_interval_min, config.gossip_interval_max) {
            (Some(min), Some(max)) if min > max => Err(self.error(
                value.referenced,
                0,
                "gossip_interval_min is greater than gossip_interval_max",
            )),
            _ => Ok(()),
        }
    }

    fn network(&self, value: &Spanned<Tree>, network: &mut Network) -> Outcome<()> {
        for (key, value) in self.map(value, "a mapping such as { delay: 1ms..20ms, loss: 1% }")? {
            match key.value.as_str() {
                "delay" => network.delay = self.figure(value, |text| draw(text, duration))?,
                "loss" => network.loss = self.figure(value, share)?,
                "duplicate" => network.duplicate = self.figure(value, share)?,
                "corrupt" => network.corrupt = self.figure(value, share)?,
                "tail" => network.tail = self.figure(value, share)?,
                "burst" => network.burst = self.figure(value, bytes)?,
                "bandwidth" => network.bandwidth = self.figure(value, bandwidth)?,
                _ => return self.unknown("network", key, &[]),
            }
        }
        Ok(())
    }

    fn clocks(&self, value: &Spanned<Tree>, scenario: &Scenario) -> Outcome<Clocks> {
        let names: Vec<String> = scenario.all_nodes().cloned().collect();
        let entries = self.map(value, "a mapping such as { skew: any of 0ms..500ms }")?;
        let mut clocks = Clocks { all: scenario.clocks.all.clone(), nodes: Vec::new() };
        for (key, value) in entries.iter().filter(|(key, _)| !names.contains(&key.value)) {
            self.clock(key, value, &mut clocks.all, &names)?;
        }
        for (node, figures) in entries.iter().filter(|(key, _)| names.contains(&key.value)) {
            let mut clock = clocks.all.clone();
            for (key, value) in self.map(figures, "a mapping such as { skew: -1500ms }")? {
                self.clock(key, value, &mut clock, &[])?;
            }
            clocks.nodes.push((node.value.clone(), clock));
        }
        Ok(clocks)
    }

    fn clock(
        &self,
        key: &Spanned<String>,
        value: &Spanned<Tree>,
        clock: &mut ClockModel,
        nodes: &[String],
    ) -> Outcome<()> {
        match key.value.as_str() {
            "skew" => clock.skew = self.figure(value, skew)?,
            "granularity" => clock.granularity = self.figure(value, granularity)?,
            "drift" => clock.drift_ppm = self.figure(value, drift)?,
            _ => return self.unknown("clocks", key, nodes),
        }
        Ok(())
    }

    fn disks(&self, value: &Spanned<Tree>, disks: &mut Disks) -> Outcome<()> {
        for (key, value) in self.map(value, "a mapping such as { persist: 1ms..5ms }")? {
            match key.value.as_str() {
                "persist" => disks.persist = self.figure(value, |text| draw(text, duration))?,
                "on_crash" => disks.on_crash = self.figure(value, on_crash)?,
                "spikes" => disks.spikes = self.figure(value, share)?,
                _ => return self.unknown("disks", key, &[]),
            }
        }
        Ok(())
    }

    fn workload(&self, value: &Spanned<Tree>) -> Outcome<Option<Workload>> {
        if value.value == Tree::Nothing {
            return Ok(None);
        }
        let mut load = Workload { clients: 1, keys: 10, rate: 10.0, mix: Mix { put: 6, get: 3, delete: 1 } };
        for (key, value) in self.map(value, "a mapping such as { clients: 2, keys: 50, rate: 20/s }")? {
            match key.value.as_str() {
                "clients" => load.clients = self.figure(value, some)?,
                "keys" => load.keys = self.figure(value, some)?,
                "rate" => load.rate = self.figure(value, rate)?,
                "mix" => load.mix = self.figure(value, mix)?,
                _ => return self.unknown("workload", key, &[]),
            }
        }
        Ok(Some(load))
    }

    fn timeline(&self, value: &Spanned<Tree>, scenario: &Scenario) -> Outcome<Vec<Timed>> {
        let nodes: Vec<String> = scenario.all_nodes().cloned().collect();
        let mut stage = Stage::of(scenario);
        let mut timeline: Vec<Timed> = Vec::new();
        for item in self.list(value)? {
            let complain = |complaint| self.complain(item.referenced, complaint);
            let words = words(self.line(item)?).map_err(complain)?;
            let mut line = Line::new(&words, &nodes);
            let time = |text: &str| {
                duration(text).map_err(|message| format!("a step begins with its time: {message}"))
            };
            let at = line.figure("a time such as 5s", time).map_err(complain)?;
            if let Some(last) = timeline.last().filter(|last| last.at > at) {
                let (last, at) = (show_duration(last.at), show_duration(at));
                let message = format!("steps stand in time order, but {at} comes after {last}");
                return Err(self.error(item.referenced, 0, message));
            }
            let verb = line.peek().map_or(0, |word| word.at);
            for step in read_step(at, &mut line).map_err(complain)? {
                stage.play(&step).map_err(|message| complain(Complaint { at: verb, message }))?;
                timeline.push(Timed { at, step });
            }
            if timeline.len() > STEPS_MAX {
                return Err(self.error(item.referenced, 0, format!("found more than {STEPS_MAX} steps")));
            }
        }
        Ok(timeline)
    }

    fn check(&self, value: &Spanned<Tree>, scenario: &Scenario) -> Outcome<Vec<super::Expectation>> {
        let nodes: Vec<String> = scenario.all_nodes().cloned().collect();
        let mut checks = Vec::new();
        for item in self.list(value)? {
            let complain = |complaint| self.complain(item.referenced, complaint);
            let words = words(self.line(item)?).map_err(complain)?;
            checks.push(read_check(&mut Line::new(&words, &nodes)).map_err(complain)?);
        }
        Ok(checks)
    }

    fn line<'t>(&self, item: &'t Spanned<Tree>) -> Outcome<&'t str> {
        match &item.value {
            Tree::Text(text) => Ok(text),
            // `- 1s put a k x: y` is a mapping to YAML.
            Tree::Map(_) => self.wrong(item, "a line of text; a line that contains ': ' is put in quotes"),
            Tree::Nothing | Tree::List(_) => self.wrong(item, "a line of text"),
        }
    }

    fn complain(&self, location: Location, complaint: Complaint) -> ScenarioError {
        self.error(location, complaint.at, complaint.message)
    }
}

/// What the YAML reader says, without the place (which is ours to say) and its advice to programmers.
fn plainly(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or_default();
    line.split(", set DuplicateKeyPolicy").next().unwrap_or_default().to_owned()
}

fn whole<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("found '{text}', expected a whole number"))
}

fn some(text: &str) -> Result<u32, String> {
    whole(text).and_then(|number| match number {
        0 => Err("found 0, expected at least 1".to_owned()),
        _ => Ok(number),
    })
}

fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    // It becomes the name of a folder.
    if !text.is_empty() && text.chars().all(plain) && !text.starts_with('.') {
        return Ok(text.to_owned());
    }
    Err(format!("'{text}' is no name; expected letters, digits, '_', '-' and '.'"))
}

fn node_name(text: &str) -> Result<(), String> {
    const TAKEN: [&str; 4] = ["everywhere", "skew", "granularity", "drift"];
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if TAKEN.contains(&text) {
        return Err(format!("'{text}' is a word of the language and no name for a node"));
    }
    match text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(plain) {
        true => Ok(()),
        false => Err(format!(
            "'{text}' is no name for a node; expected a letter, then letters, digits, '_' and '-'"
        )),
    }
}

fn skew(text: &str) -> Result<Draw<i64>, String> {
    match draw(text, signed_millis)? {
        Draw::Each(range) if range.start() != range.end() => {
            Err(format!("a clock has one skew: write 'any of {text}' to draw it from the seed"))
        }
        skew => Ok(skew),
    }
}

fn granularity(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("found 0s, expected at least 1ns".to_owned()),
        granularity => Ok(granularity),
    }
}

fn drift(text: &str) -> Result<i64, String> {
    const PPM_MAX: i64 = 500_000;
    let ppm = text.strip_suffix("ppm").and_then(|digits| digits.parse::<i64>().ok());
    let ppm = ppm.filter(|ppm| ppm.abs() <= PPM_MAX);
    ppm.ok_or_else(|| format!("'{text}' is no drift; expected one such as 200ppm, up to {PPM_MAX}ppm"))
}

fn on_crash(text: &str) -> Result<OnCrash, String> {
    match text {
        "lose unpersisted" => Ok(OnCrash::LoseUnpersisted),
        "tear unpersisted" => Ok(OnCrash::TearUnpersisted),
        _ => Err(format!("found '{text}', expected 'lose unpersisted' or 'tear unpersisted'")),
    }
}

fn mix(text: &str) -> Result<Mix, String> {
    let mut mix = Mix { put: 0, get: 0, delete: 0 };
    let words: Vec<&str> = text.split_whitespace().collect();
    for pair in words.chunks(2) {
        let weight = match pair {
            [_, weight] => weight.parse::<u32>().ok().filter(|weight| *weight <= 1_000_000),
            _ => None,
        };
        let slot = match pair[0] {
            "put" => &mut mix.put,
            "get" => &mut mix.get,
            "delete" => &mut mix.delete,
            other => {
                return Err(format!(
                    "unknown operation '{other}', {}",
                    instead(other, ["put", "get", "delete"])
                ));
            }
        };
        *slot = weight.ok_or_else(|| format!("'{}' has no weight, as in 'put 6 get 3 delete 1'", pair[0]))?;
    }
    if mix.put + mix.get + mix.delete == 0 {
        return Err(format!("found '{text}', expected weights such as 'put 6 get 3 delete 1'"));
    }
    Ok(mix)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
