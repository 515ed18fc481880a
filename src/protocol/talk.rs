//! One end of a sync session, as a value: compares ranges of keys with the other end's, and names the rows that
//! either lacks. No I/O and no time; [`super::sessions`] decides when it speaks.
//!
//! Both ends follow the same rule. A range whose prints are equal is done with. Of one that differs an end tells the
//! prints of its pieces, and once few rows are left, the prints of the rows; whoever hears these sends what the
//! other lacks and asks for what it lacks itself. So a row that one side holds is never taken for a deletion by the
//! side that does not. Every answer is bounded in bytes, entries and rows read; what does not fit waits its turn.
//!
//! What was heard last is answered first, so a session finishes ranges as it goes, from the first keys on: what was
//! mended when it breaks off stays mended, and no end piles up ranges that the other has no time for. Each flight says how many more ranges its sender has room for.

use std::collections::{BTreeSet, VecDeque};

use super::chunks::Chunks;
use super::flight::{FLIGHT_BYTES_MAX, Part, Piece, Writer};
use super::push::size;
use super::span::Span;
use crate::model::{Entry, Key, Sums, Version};
use crate::mutants;
use crate::storage::{Read, StorageError, rows};

/// Into how many pieces a range is cut.
pub const PIECES: usize = 16;
/// A range of no more rows is told row by row.
pub const ROWS_MAX: u64 = 24;
/// Most rows that one answer reads; what is left of the work waits for the next one.
pub const ROWS_READ_MAX: usize = 1 << 16;
/// Most ranges that wait to be answered. A peer that tells more is telling nonsense: it knows how much room there is.
pub const TASKS_MAX: usize = 1 << 14;
/// A full end still takes so many ranges a flight, or two full ends would wait for each other. It answers them before
/// all others, so they pile up no higher than ranges can be cut.
pub const ROOM_MIN: usize = TASKS_MAX / 32;
/// Most prints of received rows that are remembered. What is forgotten may be sent back once, for nothing.
const HEARD_MAX: usize = 1 << 16;
/// Rows read at a time.
const PAGE: usize = 256;

/// One end of a session.
#[derive(Debug)]
pub struct Talk {
    /// Whether tombstones are compared: only while both ends have collected alike.
    with_tombstones: bool,
    /// Only count what would move.
    is_dry: bool,
    /// What is answered next stands in front.
    tasks: VecDeque<Task>,
    tasks_max: usize,
    /// Prints of what the other end has sent while something waits to be answered.
    heard: BTreeSet<u64>,
    /// How many rows this end was found to have that the other lacks.
    pub ahead: u64,
    /// How many rows the other was found to have that this end lacks.
    pub behind: u64,
    /// How many entries this end has sent.
    pub sent: u64,
    /// How many ranges were found to differ.
    pub differing: u64,
}

/// Something the other end said that is not answered yet.
#[derive(Debug)]
enum Task {
    /// It told the print of a span.
    Compare(Span, u64),
    /// It told all the rows it has in a span. The second span is what is left to look at, the set what is not
    /// accounted for yet, the number how many it told.
    Match(Span, Span, BTreeSet<u64>, usize),
    /// It wants rows: those in the set, or all of them.
    Give(Span, Option<BTreeSet<u64>>),
    /// It showed a version that lost here against the row of this key.
    Show(Key),
}

/// How much an end may say at a time.
#[derive(Clone, Copy, Debug)]
pub struct Leave {
    /// Bytes of entries, about.
    pub bytes: usize,
    /// Ranges, about.
    pub ranges: usize,
}

/// What one end says at a time.
#[derive(Debug, Default)]
pub struct Answer {
    /// Statements, as [`super::flight`] writes them.
    pub parts: Vec<u8>,
    /// Entries the other end lacks.
    pub entries: Vec<Entry>,
    /// Whether there is more to say already.
    pub more: bool,
    /// Whether it asks for rows.
    pub wants: bool,
}

impl Answer {
    /// Whether it says nothing.
    pub fn is_idle(&self) -> bool {
        self.parts.is_empty() && self.entries.is_empty() && !self.more
    }
}

/// What one end has said so far, against its bounds.
struct Draft {
    writer: Writer,
    answer: Answer,
    bytes: usize,
    ranges: usize,
    leave: Leave,
    read: usize,
}

impl Draft {
    fn is_full(&self) -> bool {
        self.writer.len() >= FLIGHT_BYTES_MAX
            || self.bytes >= self.leave.bytes
            || self.ranges >= self.leave.ranges
            || self.read >= ROWS_READ_MAX
    }

    fn say(&mut self, part: &Part) {
        self.ranges += match part {
            Part::Pieces { pieces, .. } => pieces.len(),
            Part::Rows(..) | Part::Want(..) => 1,
        };
        self.writer.add(part);
    }
}

impl Talk {
    /// An end that has heard nothing yet.
    pub fn new(with_tombstones: bool, is_dry: bool) -> Talk {
        Talk {
            with_tombstones,
            is_dry,
            tasks: VecDeque::new(),
            tasks_max: TASKS_MAX,
            heard: BTreeSet::new(),
            ahead: 0,
            behind: 0,
            sent: 0,
            differing: 0,
        }
    }

    /// The print of what this end holds in a span.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn print(
        &self,
        store: &(impl Read + ?Sized),
        chunks: &Chunks,
        span: &Span,
    ) -> Result<u64, StorageError> {
        Ok(self.print_of(&chunks.sum(store, span, &mut 0)?))
    }

    /// The other end told the print of a span.
    pub fn hear_print(&mut self, span: Span, print: u64) {
        self.tasks.push_back(Task::Compare(span, print));
    }

    /// The other end said this. `false` if it is more than anybody has to say.
    pub fn hear(&mut self, parts: Vec<Part>) -> bool {
        let mut news = Vec::new();
        for part in parts {
            match part {
                Part::Pieces { from, pieces } => {
                    let mut from = from;
                    for (to, print) in pieces {
                        let span = Span { from: from.clone(), to: to.clone() };
                        from = to.unwrap_or_default();
                        news.push(Task::Compare(span, print));
                    }
                }
                Part::Rows(span, prints) => {
                    let told: BTreeSet<u64> = prints.into_iter().collect();
                    let count = told.len();
                    news.push(Task::Match(span.clone(), span, told, count));
                }
                Part::Want(span, prints) => {
                    let wanted = (!prints.is_empty()).then(|| prints.into_iter().collect());
                    news.push(Task::Give(span, wanted));
                }
            }
        }
        if self.tasks.len() + news.len() > self.tasks_max {
            return false;
        }
        for task in news.into_iter().rev() {
            self.tasks.push_front(task);
        }
        true
    }

    /// For how many more ranges there is room. Half of it is kept for [`ROOM_MIN`].
    pub fn room(&self) -> usize {
        let min = self.tasks_max * ROOM_MIN / TASKS_MAX;
        (self.tasks_max / 2).saturating_sub(self.tasks.len()).max(min)
    }

    /// The other end sent these; to be called before [`Talk::hear`].
    pub fn hear_entries(&mut self, chunks: &Chunks, entries: &[Entry]) {
        if self.is_done() || self.heard.len() >= HEARD_MAX {
            self.heard.clear();
        }
        for Entry { key, version } in entries {
            let sums = chunks.key().sums(key, std::slice::from_ref(version));
            self.heard.insert(self.row_print(&sums));
        }
    }

    /// The other end showed a version that lost against what is here: it is shown that.
    pub fn hear_loser(&mut self, key: Key) {
        // Where tombstones are compared, the row that wins is asked for anyway.
        if !self.with_tombstones && !self.is_dry && self.tasks.len() < self.tasks_max {
            self.tasks.push_front(Task::Show(key));
        }
    }

    /// Whether everything heard was answered.
    pub fn is_done(&self) -> bool {
        self.tasks.is_empty()
    }

    /// How many ranges wait for an answer.
    pub fn frontier(&self) -> usize {
        self.tasks.len()
    }

    /// Answers what was heard, as far as one flight goes and the other end gave leave.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn answer(
        &mut self,
        store: &(impl Read + ?Sized),
        chunks: &Chunks,
        leave: Leave,
    ) -> Result<Answer, StorageError> {
        let (writer, answer) = (Writer::default(), Answer::default());
        let mut draft = Draft { writer, answer, bytes: 0, ranges: 0, leave, read: 0 };
        while !draft.is_full() {
            let Some(task) = self.tasks.pop_front() else { break };
            let rest = match task {
                Task::Compare(span, print) => self.compare(store, chunks, (span, print), &mut draft)?,
                Task::Match(whole, rest, theirs, told) => {
                    self.match_rows(store, chunks, (whole, rest), (theirs, told), &mut draft)?
                }
                Task::Give(span, wanted) => self.give(store, chunks, (span, wanted), &mut draft)?,
                Task::Show(key) => self.show(store, &key, &mut draft)?,
            };
            if let Some(rest) = rest {
                self.tasks.push_front(rest);
            }
        }
        let mut answer = draft.answer;
        answer.parts = draft.writer.into_bytes();
        answer.more = !self.is_done();
        self.sent += answer.entries.len() as u64;
        Ok(answer)
    }

    fn compare(
        &mut self,
        store: &(impl Read + ?Sized),
        chunks: &Chunks,
        (span, theirs): (Span, u64),
        draft: &mut Draft,
    ) -> Result<Option<Task>, StorageError> {
        let sums = chunks.sum(store, &span, &mut draft.read)?;
        if self.print_of(&sums) == theirs {
            return Ok(None);
        }
        self.differing += 1;
        let dead = if self.with_tombstones { sums.dead.count } else { 0 };
        if sums.live.count + dead > ROWS_MAX {
            let pieces = self.cut(store, chunks, &span, draft)?;
            // One row of many versions is not cut any further.
            if pieces.len() > 1 {
                draft.say(&Part::Pieces { from: span.from, pieces });
                return Ok(None);
            }
        }
        let found = self.rows(store, chunks, &span, usize::MAX, draft)?;
        let prints = found.into_iter().map(|row| row.print).collect();
        draft.say(&Part::Rows(span, prints));
        Ok(None)
    }

    /// Tells a span's prints piece by piece: whole chunks where there are enough of them, else some rows each.
    fn cut(
        &self,
        store: &(impl Read + ?Sized),
        chunks: &Chunks,
        span: &Span,
        draft: &mut Draft,
    ) -> Result<Vec<Piece>, StorageError> {
        let cuts = chunks.cuts(span);
        if cuts.len() < PIECES / 4 {
            return self.cut_rows(store, chunks, span, draft);
        }
        let each = (cuts.len() + 1).div_ceil(PIECES);
        let starts = cuts.into_iter().skip(each - 1).step_by(each);
        let mut pieces = Vec::with_capacity(PIECES);
        let mut from = span.from.clone();
        for start in starts {
            let to = separator(store, start)?;
            if to <= from {
                continue;
            }
            let piece = Span { from: std::mem::replace(&mut from, to.clone()), to: Some(to.clone()) };
            let print = self.print_of(&chunks.sum(store, &piece, &mut draft.read)?);
            pieces.push((Some(to), print));
        }
        let last = Span { from, to: span.to.clone() };
        let print = self.print_of(&chunks.sum(store, &last, &mut draft.read)?);
        pieces.push((span.to.clone(), print));
        Ok(pieces)
    }

    /// Tells the prints of some rows each. The rows are read once: hashing them is most of what a comparison costs.
    fn cut_rows(
        &self,
        store: &(impl Read + ?Sized),
        chunks: &Chunks,
        span: &Span,
        draft: &mut Draft,
    ) -> Result<Vec<Piece>, StorageError> {
        let found = self.rows(store, chunks, span, usize::MAX, draft)?;
        let each = found.len().div_ceil(PIECES).max(1);
        let mut pieces: Vec<Piece> = Vec::with_capacity(PIECES);
        let mut groups = found.chunks(each).peekable();
        while let Some(group) = groups.next() {
            let mut sums = Sums::default();
            group.iter().for_each(|row| sums.join(&row.sums));
            let to = match groups.peek() {
                Some(next) => Some(separator(store, next[0].key.as_bytes())?),
                None => span.to.clone(),
            };
            pieces.push((to, self.print_of(&sums)));
        }
        Ok(pieces)
    }

    /// They told their rows in a span: sends those of ours that they lack, and then asks for those that we lack.
    fn match_rows(
        &mut self,
        store: &(impl Read + ?Sized),
        chunks: &Chunks,
        (whole, mut span): (Span, Span),
        (mut theirs, told): (BTreeSet<u64>, usize),
        draft: &mut Draft,
    ) -> Result<Option<Task>, StorageError> {
        loop {
            let page = self.rows(store, chunks, &span, PAGE, draft)?;
            let is_last = page.len() < PAGE;
            for row in page {
                if draft.is_full() {
                    return Ok(Some(Task::Match(whole, span, theirs, told)));
                }
                span.from = row.key.as_bytes().to_vec();
                span.from.push(0);
                if theirs.remove(&row.print) {
                    continue;
                }
                self.ahead += 1;
                self.send(row.key, row.versions, draft);
            }
            if is_last {
                break;
            }
        }
        self.behind += theirs.len() as u64;
        if !theirs.is_empty() && !self.is_dry {
            draft.answer.wants = true;
            let named = if theirs.len() == told { Vec::new() } else { theirs.into_iter().collect() };
            draft.say(&Part::Want(whole, named));
        }
        Ok(None)
    }

    fn give(
        &mut self,
        store: &(impl Read + ?Sized),
        chunks: &Chunks,
        (mut span, mut wanted): (Span, Option<BTreeSet<u64>>),
        draft: &mut Draft,
    ) -> Result<Option<Task>, StorageError> {
        while wanted.as_ref().is_none_or(|wanted| !wanted.is_empty()) {
            let page = self.rows(store, chunks, &span, PAGE, draft)?;
            let is_last = page.len() < PAGE;
            for row in page {
                if draft.is_full() {
                    return Ok(Some(Task::Give(span, wanted)));
                }
                span.from = row.key.as_bytes().to_vec();
                span.from.push(0);
                let is_wanted = match &mut wanted {
                    Some(wanted) => wanted.remove(&row.print),
                    // What it has just sent itself it need not be sent.
                    None => !self.heard.contains(&row.print),
                };
                if is_wanted {
                    self.send(row.key, row.versions, draft);
                }
            }
            if is_last {
                break;
            }
        }
        // What is wanted and no longer here was replaced meanwhile, and its replacement goes out by itself.
        Ok(None)
    }

    fn show(
        &mut self,
        store: &(impl Read + ?Sized),
        key: &Key,
        draft: &mut Draft,
    ) -> Result<Option<Task>, StorageError> {
        let record = rows::record(store, key)?;
        self.send(key.clone(), record.versions().to_vec(), draft);
        Ok(None)
    }

    fn send(&self, key: Key, versions: Vec<Version>, draft: &mut Draft) {
        if self.is_dry || mutants::is_on("session-silent") {
            return;
        }
        for version in versions {
            let entry = Entry { key: key.clone(), version };
            draft.bytes += size(&entry);
            draft.answer.entries.push(entry);
        }
    }

    /// At most `limit` of the rows in a span that count, in key order.
    fn rows(
        &self,
        store: &(impl Read + ?Sized),
        chunks: &Chunks,
        span: &Span,
        limit: usize,
        draft: &mut Draft,
    ) -> Result<Vec<Row>, StorageError> {
        let mut found = Vec::new();
        let mut rest = span.clone();
        while found.len() < limit {
            let page = rows::records(store, rest.bounds(), PAGE, false)?;
            draft.read += page.len();
            let is_last = page.len() < PAGE;
            let Some((last, _)) = page.last() else { break };
            rest.from = last.as_bytes().to_vec();
            rest.from.push(0);
            for (key, record) in page {
                let sums = chunks.key().sums(&key, record.versions());
                if sums.live.count > 0 || self.with_tombstones && sums.dead.count > 0 {
                    let print = self.row_print(&sums);
                    found.push(Row { key, print, sums, versions: record.versions().to_vec() });
                }
            }
            if is_last {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// The six bytes that stand for a row.
    fn row_print(&self, sums: &Sums) -> u64 {
        self.print_of(sums) >> 16
    }

    fn print_of(&self, sums: &Sums) -> u64 {
        let dead = if self.with_tombstones { sums.dead.sum } else { 0 };
        (sums.live.sum.wrapping_add(dead) >> 64) as u64
    }
}

/// A row as it is compared.
struct Row {
    key: Key,
    print: u64,
    sums: Sums,
    versions: Vec<Version>,
}

/// The shortest bound between `start` and the row before it.
fn separator(store: &(impl Read + ?Sized), start: &[u8]) -> Result<Vec<u8>, StorageError> {
    use std::ops::Bound::{Excluded, Unbounded};
    let before = store.scan(crate::storage::Table::Records, (Unbounded, Excluded(start)), 1, true)?;
    let Some((before, _)) = before.first() else { return Ok(start.to_vec()) };
    let shared = start.iter().zip(before).take_while(|(a, b)| a == b).count();
    Ok(start[..=shared.min(start.len() - 1)].to_vec())
}

#[cfg(test)]
#[path = "talk_tests.rs"]
mod tests;
