//! What a person at a terminal sees: one line per notable event with a column per node, then the verdict.
//!
//! The modules below tell of a run in files: a [`recording`] of it becomes a [`page`], a [`history`], and traces for
//! [`shiviz`] and [`perfetto`].

pub mod contents;
pub mod history;
pub mod page;
pub mod perfetto;
pub mod recording;
pub mod shiviz;

use std::io::Write;
use std::time::Duration;

use crate::run::{Outcome, Verdict, hex};
use crate::trace::{Event, Watch};

/// Most broken promises shown; `summary.json` has them all.
const VIOLATIONS_SHOWN_MAX: usize = 10;
/// However narrow a terminal is, and however many nodes there are, a line has room for this much text.
const ROOM_MIN: usize = 30;

/// Prints notable events as they happen.
///
/// Each node has a column: `^` it starts, `$` its power fails, `|` it runs, `=` it is paused, `*` this line is
/// about it.
pub struct Ladder<W> {
    out: W,
    names: Vec<String>,
    marks: Vec<char>,
    /// Where lines are broken, if somewhere.
    width: Option<usize>,
    /// Whoever read so far has gone away (`sim | head`); nothing more is written.
    is_gone: bool,
}

impl<W: Write + Send> Ladder<W> {
    /// A ladder for these nodes.
    pub fn new(mut out: W, names: Vec<String>) -> Ladder<W> {
        let heads: Vec<String> = names.iter().map(|name| format!("{name:^3}")).collect();
        let is_gone = writeln!(out, "{:>9} {}", "", heads.concat().trim_end()).is_err();
        Ladder { out, marks: vec![' '; names.len()], names, width: None, is_gone }
    }

    /// Lines that would be longer than the terminal go on in the next, beside the columns.
    pub fn within(self, width: Option<u16>) -> Ladder<W> {
        Ladder { width: width.map(usize::from), ..self }
    }

    fn line(&mut self, at: Duration, node: Option<(usize, char)>, text: &str) {
        let mut head = format!("{:>8.3}s {}  ", at.as_secs_f64(), self.columns(node));
        let width = self.width.unwrap_or(usize::MAX);
        let room = width.saturating_sub(head.chars().count()).max(ROOM_MIN);
        for part in broken_at(text, room) {
            self.is_gone |= writeln!(self.out, "{head}{part}").is_err();
            let after = node.map(|(node, mark)| (node, if mark == '$' { ' ' } else { '|' }));
            head = format!("{:>9} {}  ", "", self.columns(after));
        }
    }

    fn columns(&self, node: Option<(usize, char)>) -> String {
        let column = |(place, mark): (usize, &char)| {
            let shown = node.filter(|(node, _)| *node == place).map_or(*mark, |(_, mark)| mark);
            let width = self.names[place].chars().count().max(3);
            format!("{shown:^width$}")
        };
        self.marks.iter().enumerate().map(column).collect()
    }

    /// A line about a node, which has `mark` in it and `then` from now on.
    fn change(&mut self, at: Duration, node: usize, (mark, then): (char, char), text: &str) {
        self.line(at, Some((node, mark)), &format!("{} {text}", self.names[node]));
        self.marks[node] = then;
    }

    fn about(&mut self, at: Duration, node: usize, text: &str) {
        self.change(at, node, ('*', self.marks[node]), text);
    }
}

impl<W: Write + Send> Watch for Ladder<W> {
    fn saw(&mut self, at: Duration, node: Option<usize>, event: &Event<'_>) {
        if self.is_gone {
            return;
        }
        match (*event, node) {
            (Event::Phase { name }, _) => self.line(at, None, &format!("--- {name}")),
            (Event::Start { start: 1 }, Some(node)) => self.change(at, node, ('^', '|'), "starts"),
            (Event::Start { .. }, Some(node)) => self.change(at, node, ('^', '|'), "starts again"),
            (Event::Crash { boundary }, Some(node)) => {
                let text = format!("loses its power ({})", boundary.replace('-', " "));
                self.change(at, node, ('$', ' '), &text);
            }
            (Event::Pause, Some(node)) => self.change(at, node, ('=', '='), "is paused"),
            (Event::Resume, Some(node)) => self.change(at, node, ('*', '|'), "runs on"),
            (Event::Left, Some(node)) => self.change(at, node, ('*', ' '), "has left"),
            (Event::Disk { deed }, Some(node)) => self.about(at, node, &format!("disk: {deed}")),
            (Event::Clock { deed, millis }, Some(node)) => {
                let by = if millis == 0 { String::new() } else { format!(" {millis:+} ms") };
                self.about(at, node, &format!("wall clock: {deed}{by}"));
            }
            (Event::Links { deed }, _) => self.line(at, None, deed),
            (Event::Ask { verb: verb @ ("leave" | "remove"), .. }, Some(node)) => {
                self.about(at, node, &format!("is asked: {verb}"));
            }
            (Event::Log { name, text, .. }, Some(node)) => self.about(at, node, &format!("{name}: {text}")),
            (Event::Agree { after_millis }, _) => {
                self.line(at, None, &format!("the replicas agree, {after_millis} ms after the quiet began"));
            }
            (Event::Broken { code, text }, Some(node)) => {
                self.change(at, node, ('!', self.marks[node]), &format!("BROKEN {code}: {text}"));
            }
            (Event::Broken { code, text }, None) => self.line(at, None, &format!("BROKEN {code}: {text}")),
            (
                Event::Start { .. }
                | Event::Crash { .. }
                | Event::Pause
                | Event::Resume
                | Event::Left
                | Event::Disk { .. }
                | Event::Clock { .. }
                | Event::Ask { .. }
                | Event::Answer { .. }
                | Event::NoAnswer { .. }
                | Event::Send { .. }
                | Event::Reject { .. }
                | Event::Log { .. }
                | Event::Digest { .. },
                _,
            ) => {}
        }
    }
}

/// A text in lines of at most `room` characters, broken between words where there are any.
fn broken_at(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut length = 0;
    for word in text.split(' ') {
        let next = word.chars().count();
        if length > 0 && length + 1 + next > room {
            lines.push("  ".to_owned());
            length = 2;
        } else if length > 0 {
            length += 1;
            lines.last_mut().expect("there is one").push(' ');
        }
        lines.last_mut().expect("there is one").push_str(word);
        length += next;
    }
    lines
}

/// The lines below the ladder: what was broken, the verdict, the hash, and how to see it again.
pub fn verdict(outcome: &Outcome) -> String {
    let mut lines: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
    if lines.len() > VIOLATIONS_SHOWN_MAX {
        let more = lines.len() - VIOLATIONS_SHOWN_MAX;
        lines.truncate(VIOLATIONS_SHOWN_MAX);
        lines.push(format!("… and {more} more"));
    }
    let Outcome { scenario, seed, world, .. } = outcome;
    let word = outcome.verdict.word().to_uppercase();
    let took = outcome.virtual_time.as_secs_f64();
    let agreed = match (outcome.verdict, outcome.converged_after) {
        (Verdict::Stopped, _) => String::new(),
        (_, Some(after)) => format!(", agreed {} ms after the faults", after.as_millis()),
        (_, None) => ", never agreed".to_owned(),
    };
    lines.push(format!("{word} {scenario} seed={seed} world={world}: {took:.1} s lived{agreed}"));
    if outcome.verdict == Verdict::Stopped {
        lines.extend(states(outcome));
    }
    lines.push(format!("trace {} over {} events", hex(outcome.trace_hash), outcome.events));
    if let Some(files) = &outcome.files {
        lines.push(format!("files {}", files.display()));
    }
    lines.push(format!("again {}", outcome.again()));
    lines.join("\n")
}

fn states(outcome: &Outcome) -> impl Iterator<Item = String> {
    outcome.states.iter().map(|state| {
        let (root, seen) = (hex(state.root), hex(state.seen));
        format!("{:>8} {:<13} {:>6} keys  root {root}  seen {seen}", state.node, state.state, state.records)
    })
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
