//! The in-memory model: what the simulator's fast world runs on, and the yardstick for the real engine.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Batch, Range, Read, Row, Storage, StorageError, Table};

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The rows of every table. A plain value: cloning it is a disk image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables([Rows; Table::ALL.len()]);

impl Tables {
    /// The rows of one table, for whoever compares disks.
    pub fn rows(&self, table: Table) -> &BTreeMap<Vec<u8>, Vec<u8>> {
        &self.0[table as usize]
    }

    /// The rows of one table, for whoever plays the disk: rot, images, counts.
    pub fn rows_mut(&mut self, table: Table) -> &mut BTreeMap<Vec<u8>, Vec<u8>> {
        &mut self.0[table as usize]
    }

    /// Sets or removes a row; returns what was there.
    fn set(&mut self, table: Table, key: Vec<u8>, value: Option<Vec<u8>>) -> Option<Vec<u8>> {
        let rows = self.rows_mut(table);
        match value {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        }
    }
}

impl Read for Tables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.0[table as usize].get(key).cloned())
    }

    fn scan(
        &self,
        table: Table,
        range: Range<'_>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StorageError> {
        if is_empty(range) {
            return Ok(Vec::new());
        }
        let rows = self.0[table as usize].range::<[u8], _>(range);
        let own = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(if reverse {
            rows.rev().take(limit).map(own).collect()
        } else {
            rows.take(limit).map(own).collect()
        })
    }
}

/// Whether no key can be in `range`; a map would panic on such a range.
pub(super) fn is_empty((from, to): Range<'_>) -> bool {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    match (from, to) {
        (Unbounded, _) | (_, Unbounded) => false,
        (Included(from), Included(to)) => from > to,
        (Included(from) | Excluded(from), Excluded(to)) | (Excluded(from), Included(to)) => from >= to,
    }
}

/// Storage in memory with the two-step rule of a disk: what was not persisted is lost by [`Memory::power_loss`].
#[derive(Debug, Default)]
pub struct Memory {
    tables: Tables,
    /// What a power loss puts back, oldest first: the rows as they were before each change since `persist`.
    undo: Vec<(Table, Vec<u8>, Option<Vec<u8>>)>,
    persist_takes: Duration,
    fails: Option<Fails>,
}

/// What a disk that is to fail refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fails {
    /// To take changes.
    AtApply,
    /// To make them durable.
    AtPersist,
}

impl Memory {
    /// A disk that holds `tables`.
    pub fn new(tables: Tables) -> Memory {
        Memory { tables, ..Memory::default() }
    }

    /// How long each persist that has something to do takes from now on.
    pub fn set_persist_takes(&mut self, duration: Duration) {
        self.persist_takes = duration;
    }

    /// Lets every apply or persist that has something to do fail from now on; nothing lets them succeed again.
    pub fn set_fails(&mut self, fails: Option<Fails>) {
        self.fails = fails;
    }

    /// What the disk holds, for whoever lets it rot.
    pub fn tables_mut(&mut self) -> &mut Tables {
        &mut self.tables
    }

    /// What the disk holds, unpersisted changes included.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Whether a power loss now would take something back.
    pub fn is_dirty(&self) -> bool {
        !self.undo.is_empty()
    }

    /// The disk after the power failed: exactly what the last `persist` covered.
    pub fn power_loss(mut self) -> Tables {
        for (table, key, before) in self.undo.drain(..).rev() {
            self.tables.set(table, key, before);
        }
        self.tables
    }
}

impl Read for Memory {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.tables.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: Range<'_>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StorageError> {
        self.tables.scan(table, range, limit, reverse)
    }
}

impl Storage for Memory {
    fn apply(&mut self, batch: Batch) -> Result<(), StorageError> {
        if self.fails == Some(Fails::AtApply) && !batch.changes.is_empty() {
            return Err(StorageError::Disk("no space left".into()));
        }
        for (table, key, value) in batch.changes {
            let before = self.tables.set(table, key.clone(), value);
            self.undo.push((table, key, before));
        }
        Ok(())
    }

    fn persist(&mut self) -> Result<Duration, StorageError> {
        if self.undo.is_empty() {
            return Ok(Duration::ZERO);
        }
        if self.fails == Some(Fails::AtPersist) {
            return Err(StorageError::Disk("a sync failed".into()));
        }
        self.undo.clear();
        Ok(self.persist_takes)
    }
}
