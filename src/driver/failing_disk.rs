//! A disk for tests of what happens when a disk gives up.

use std::time::Duration;

use crate::storage::memory::Memory;
use crate::storage::{Batch, Range, Read, Row, Storage, StorageError, Table};

/// A disk that does `good` persists and no more.
pub struct FailingDisk {
    /// The rows.
    pub disk: Memory,
    /// How many persists are left.
    pub good: usize,
}

impl Read for FailingDisk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.disk.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: Range<'_>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StorageError> {
        self.disk.scan(table, range, limit, reverse)
    }
}

impl Storage for FailingDisk {
    fn apply(&mut self, batch: Batch) -> Result<(), StorageError> {
        self.disk.apply(batch)
    }

    fn persist(&mut self) -> Result<Duration, StorageError> {
        if self.disk.is_dirty() {
            self.good = self.good.checked_sub(1).ok_or_else(|| StorageError::Disk("worn out".into()))?;
        }
        self.disk.persist()
    }
}
