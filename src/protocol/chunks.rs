//! Range summaries: key order is cut into chunks of some 256 keys, and of each chunk the sums of its versions are kept.
//!
//! They change with the rows, in the same transaction, so they are never stale and never rebuilt per round. The
//! cuts are at keys chosen by a keyed hash: nodes that hold the same keys cut alike, and no client can make a
//! chunk grow. In memory they are a map, read once at the start; on disk a row per chunk and one for the whole.
//! Promises `rows == recount`; leaves to others what is done about a difference.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::span::Span;
use super::summary::SummaryKey;
use crate::model::{Key, Sums, Version};
use crate::mutants;
use crate::storage::{Batch, Read, StorageError, rows};

/// Rows read at a time: a row holds up to 1 MiB, and more with several versions.
const PAGE: usize = 64;

/// The chunks of one store.
#[derive(Debug)]
pub struct Chunks {
    key: SummaryKey,
    /// By first key; the first chunk begins before every key.
    by_start: BTreeMap<Vec<u8>, Sums>,
    total: Sums,
    /// Chunks whose row in the store is behind, those that are no more among them.
    unsaved: BTreeSet<Vec<u8>>,
}

/// What a look at the rows of one span found.
#[derive(Debug, Default)]
pub struct Count {
    /// What the rows come down to.
    pub sums: Sums,
    /// Keys whose record fails its checksum.
    pub rotten: Vec<Key>,
}

/// What the scrub found in one chunk.
#[derive(Debug)]
pub struct Scrubbed {
    /// Keys whose record fails its checksum.
    pub rotten: Vec<Key>,
    /// Whether rows were missing, or there that should not be.
    pub is_wrong: bool,
    /// Where the next chunk begins.
    pub next: Vec<u8>,
}

impl Chunks {
    /// Reads the chunks of a store; counts everything anew if a row of them is missing, damaged, or hashed with
    /// another key.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn load(store: &(impl Read + ?Sized), key: SummaryKey) -> Result<Chunks, StorageError> {
        let chunks = rows::chunks(store)?;
        let mut by_start = BTreeMap::new();
        let mut total = Sums::default();
        for (start, sums) in &chunks {
            let Some(sums) = sums else { break };
            total.join(sums);
            by_start.insert(start.clone(), *sums);
        }
        let is_whole = match rows::root(store)? {
            Some((name, root)) => name == key.name() && root.agrees(&total) && by_start.len() == chunks.len(),
            None => false,
        };
        if is_whole && by_start.contains_key(&[][..]) {
            return Ok(Chunks { key, by_start, total, unsaved: BTreeSet::new() });
        }
        let mut counted = Chunks::count_all(store, key)?;
        counted.unsaved.extend(chunks.into_iter().map(|(start, _)| start));
        Ok(counted)
    }

    /// Counts every row of a store. Records that fail their checksum are left out.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn count_all(store: &(impl Read + ?Sized), key: SummaryKey) -> Result<Chunks, StorageError> {
        let mut by_start = BTreeMap::from([(Vec::new(), Sums::default())]);
        let mut total = Sums::default();
        let mut start = Vec::new();
        for_each_row(store, &Span::all(), |at, versions| {
            let sums = key.sums(at, versions.unwrap_or_default());
            if sums.count() > 0 && key.is_boundary(at) {
                start = at.as_bytes().to_vec();
            }
            total.join(&sums);
            by_start.entry(start.clone()).or_default().join(&sums);
        })?;
        let unsaved = by_start.keys().cloned().collect();
        Ok(Chunks { key, by_start, total, unsaved })
    }

    /// The row of `key` has changed from `before` to `after`, in the store too.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn change(
        &mut self,
        store: &(impl Read + ?Sized),
        key: &Key,
        before: &[Version],
        after: &[Version],
    ) -> Result<(), StorageError> {
        if mutants::is_on("stale-summary") && !before.is_empty() {
            return Ok(());
        }
        let start = self.start_of(key.as_bytes()).to_vec();
        let (old, new) = (self.key.sums(key, before), self.key.sums(key, after));
        let sums = self.by_start.get_mut(&start).expect("just found");
        sums.part(&old);
        sums.join(&new);
        self.total.part(&old);
        self.total.join(&new);
        let (comes, goes) = (before.is_empty() && !after.is_empty(), after.is_empty() && !before.is_empty());
        if comes && start != key.as_bytes() && self.key.is_boundary(key) {
            self.split(store, &start, key)?;
        }
        if goes && start == key.as_bytes() {
            self.merge_into_previous(&start);
        }
        self.unsaved.insert(start);
        Ok(())
    }

    /// Counts the chunk of `key` anew, whatever its row said, cuts included; returns the keys that are rotten.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn recount(&mut self, store: &(impl Read + ?Sized), key: &[u8]) -> Result<Vec<Key>, StorageError> {
        let start = self.start_of(key).to_vec();
        let mut counted = BTreeMap::from([(start.clone(), Sums::default())]);
        let (mut part, mut has_cut, mut rotten) = (start.clone(), start.is_empty(), Vec::new());
        for_each_row(store, &self.span_of(&start), |at, versions| {
            let Some(versions) = versions else { return rotten.push(at.clone()) };
            let sums = self.key.sums(at, versions);
            if sums.count() > 0 && self.key.is_boundary(at) {
                part = at.as_bytes().to_vec();
                has_cut |= part == start;
            }
            counted.entry(part.clone()).or_default().join(&sums);
        })?;
        self.total.part(&self.by_start[&start]);
        for (start, sums) in counted {
            self.total.join(&sums);
            self.unsaved.insert(start.clone());
            self.by_start.insert(start, sums);
        }
        if !has_cut {
            // The key that made the cut is gone.
            self.merge_into_previous(&start);
        }
        Ok(rotten)
    }

    /// Looks at the rows of the chunk of `start`, and counts it anew if they are not what they are said to be.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn scrub(&mut self, store: &(impl Read + ?Sized), start: &[u8]) -> Result<Scrubbed, StorageError> {
        let start = self.start_of(start).to_vec();
        let next = self.next(&start).to_vec();
        let found = count(store, &self.key, &self.span_of(&start))?;
        // While records are rotten nothing can be said about the rest; they are taken out of the way first.
        let is_wrong = found.rotten.is_empty() && !found.sums.agrees(&self.by_start[&start]);
        if is_wrong {
            self.recount(store, &start)?;
        }
        Ok(Scrubbed { rotten: found.rotten, is_wrong, next })
    }

    /// Adds the rows that changed since the last call to `batch`.
    pub fn save(&mut self, batch: &mut Batch) {
        if self.unsaved.is_empty() {
            return;
        }
        for start in std::mem::take(&mut self.unsaved) {
            match self.by_start.get(&start) {
                Some(sums) => rows::put_chunk(batch, &start, sums),
                None => batch.remove(crate::storage::Table::Chunks, start),
            }
        }
        rows::put_root(batch, self.key.name(), &self.total);
    }

    /// The sums of the whole store.
    pub fn root(&self) -> &Sums {
        &self.total
    }

    /// The key of the hashes.
    pub fn key(&self) -> &SummaryKey {
        &self.key
    }

    /// How many chunks there are.
    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    /// Never: there is always the first one.
    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// The chunk after the one that begins at `start`; the first one after the last.
    pub fn next(&self, start: &[u8]) -> &[u8] {
        let after = self.by_start.range::<[u8], _>((Bound::Excluded(start), Bound::Unbounded)).next();
        after.map_or(&[], |(start, _)| start)
    }

    /// The keys of the chunk that begins at `start`.
    pub fn span_of(&self, start: &[u8]) -> Span {
        let next = self.next(start);
        Span { from: start.to_vec(), to: (!next.is_empty()).then(|| next.to_vec()) }
    }

    /// What the chunk that begins at `start` is said to come down to.
    pub fn sums_of(&self, start: &[u8]) -> Option<&Sums> {
        self.by_start.get(start)
    }

    /// Where chunks begin inside a span, after its own beginning.
    pub fn cuts(&self, span: &Span) -> Vec<&[u8]> {
        let inside = self.by_start.range::<[u8], _>((Bound::Excluded(span.from.as_slice()), span.upper()));
        inside.map(|(start, _)| start.as_slice()).collect()
    }

    /// What a span comes down to. Only of the chunks that it cuts are rows read: how many is added to `read`.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn sum(
        &self,
        store: &(impl Read + ?Sized),
        span: &Span,
        read: &mut usize,
    ) -> Result<Sums, StorageError> {
        let mut sums = Sums::default();
        if span.is_empty() {
            return Ok(sums);
        }
        if *span == Span::all() {
            return Ok(self.total);
        }
        let first = self.start_of(&span.from);
        let mut chunks = self.by_start.range::<[u8], _>((Bound::Included(first), span.upper())).peekable();
        while let Some((start, whole)) = chunks.next() {
            let to = match chunks.peek() {
                Some((next, _)) => Some((*next).clone()),
                None => self.span_of(start).to,
            };
            let chunk = Span { from: start.clone(), to };
            let piece = chunk.cut(span);
            if piece == chunk {
                sums.join(whole);
            } else {
                sums.join(&self.sum_of_piece(store, (&chunk, whole), &piece, read)?);
            }
        }
        Ok(sums)
    }

    /// Counts the piece of a chunk, or what it leaves out where that is next to nothing: a bound that a peer chose
    /// lies mostly between the rows where this node cuts as well.
    fn sum_of_piece(
        &self,
        store: &(impl Read + ?Sized),
        (chunk, whole): (&Span, &Sums),
        piece: &Span,
        read: &mut usize,
    ) -> Result<Sums, StorageError> {
        const FEW: usize = 8;
        let head = Span { from: chunk.from.clone(), to: Some(piece.from.clone()) };
        let mut left_out = rows::records(store, head.bounds(), FEW, false)?;
        if let (Some(to), true) = (&piece.to, left_out.len() < FEW) {
            let tail = Span { from: to.clone(), to: chunk.to.clone() };
            left_out.extend(rows::records(store, tail.bounds(), FEW, false)?);
        }
        *read += left_out.len();
        if left_out.len() < FEW {
            let mut sums = *whole;
            for (key, record) in &left_out {
                sums.part(&self.key.sums(key, record.versions()));
            }
            return Ok(sums);
        }
        let counted = count(store, &self.key, piece)?;
        *read += counted.sums.count() as usize;
        Ok(counted.sums)
    }

    /// The first chunk among `starts` whose row is not what a recount gives.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn first_wrong(&self, store: &(impl Read + ?Sized)) -> Result<Option<String>, StorageError> {
        for start in &self.unsaved {
            let Some(sums) = self.by_start.get(start) else { continue };
            let found = count(store, &self.key, &self.span_of(start))?;
            if found.rotten.is_empty() && !found.sums.agrees(sums) {
                return Ok(Some(format!("chunk {start:?} is said to be {sums:?}, and is {:?}", found.sums)));
            }
        }
        Ok(None)
    }

    fn start_of(&self, key: &[u8]) -> &[u8] {
        let floor = self.by_start.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        floor.expect("the first chunk begins before every key").0
    }

    /// Makes `key` the beginning of a chunk of its own.
    fn split(&mut self, store: &(impl Read + ?Sized), start: &[u8], key: &Key) -> Result<(), StorageError> {
        let upper = Span { from: key.as_bytes().to_vec(), to: self.span_of(start).to };
        let upper = count(store, &self.key, &upper)?;
        self.by_start.insert(key.as_bytes().to_vec(), upper.sums);
        self.unsaved.insert(key.as_bytes().to_vec());
        if upper.rotten.is_empty() {
            self.by_start.get_mut(start).expect("the caller found it").part(&upper.sums);
            return Ok(());
        }
        // What the rotten rows had added to the sums is unknown, so both halves are counted.
        let lower = count(store, &self.key, &self.span_of(start))?;
        let before =
            std::mem::replace(self.by_start.get_mut(start).expect("the caller found it"), lower.sums);
        self.total.part(&before);
        self.total.join(&lower.sums);
        self.total.join(&upper.sums);
        Ok(())
    }

    fn merge_into_previous(&mut self, start: &[u8]) {
        let sums = self.by_start.remove(start).expect("the caller found it");
        let previous = self.start_of(start).to_vec();
        self.by_start.get_mut(&previous).expect("just found").join(&sums);
        self.unsaved.insert(previous);
    }
}

/// Counts the rows of a span.
///
/// # Errors
/// The disk is broken.
pub fn count(store: &(impl Read + ?Sized), key: &SummaryKey, span: &Span) -> Result<Count, StorageError> {
    let mut count = Count::default();
    for_each_row(store, span, |at, versions| match versions {
        Some(versions) => count.sums.join(&key.sums(at, versions)),
        None => count.rotten.push(at.clone()),
    })?;
    Ok(count)
}

/// Shows every row of a span in key order: its versions, or `None` if it is rotten.
fn for_each_row(
    store: &(impl Read + ?Sized),
    span: &Span,
    mut look: impl FnMut(&Key, Option<&[Version]>),
) -> Result<(), StorageError> {
    let mut after: Option<Key> = None;
    loop {
        let from = match &after {
            Some(key) => Bound::Excluded(key.as_bytes()),
            None => Bound::Included(span.from.as_slice()),
        };
        let page = rows::records(store, (from, span.upper()), PAGE, false)?;
        let is_end = page.len() < PAGE;
        for (key, record) in &page {
            look(key, record.is_sound().then(|| record.versions()));
        }
        if is_end {
            return Ok(());
        }
        after = page.into_iter().next_back().map(|(key, _)| key);
    }
}

/// What is wrong with the summaries that a store holds, if something is: `rows == recount`, said of a whole disk.
///
/// # Errors
/// The disk is broken.
pub fn judge(store: &(impl Read + ?Sized), key: &SummaryKey) -> Result<Option<String>, StorageError> {
    let counted = Chunks::count_all(store, key.clone())?;
    let said: BTreeMap<Vec<u8>, Option<Sums>> = rows::chunks(store)?.into_iter().collect();
    for (start, sums) in &counted.by_start {
        let agrees = said.get(start).is_some_and(|said| said.is_some_and(|said| said.agrees(sums)));
        if !agrees {
            let name = String::from_utf8_lossy(start);
            return Ok(Some(format!("chunk `{name}` is said to be {:?}, and is {sums:?}", said.get(start))));
        }
    }
    if let Some(start) = said.keys().find(|start| !counted.by_start.contains_key(*start)) {
        return Ok(Some(format!(
            "chunk `{}` begins at a key that is no cut",
            String::from_utf8_lossy(start)
        )));
    }
    match rows::root(store)? {
        Some((_, root)) if root.agrees(&counted.total) => Ok(None),
        root => Ok(Some(format!("the root is said to be {root:?}, and is {:?}", counted.total))),
    }
}

#[cfg(test)]
#[path = "chunks_tests.rs"]
mod tests;
