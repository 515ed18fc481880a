//! What must survive: a small ordered map of tables whose writes become durable in two steps.
//!
//! One turn is one transaction: [`Storage::apply`] collects, [`Storage::persist`] makes all of it durable at
//! once. A crash in between takes all of it back. [`rows`] gives the tables their meaning; the two
//! implementations, [`memory`] and [`engine`], only know bytes.

pub mod backup;
pub mod engine;
pub mod memory;
pub mod rows;

use std::ops::Bound;
use std::time::Duration;

/// The tables of a node's disk. The numbers are part of the disk format.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Table {
    /// Key → record.
    Records,
    /// Dot → key: the log of live records, in the order streams send them.
    Dots,
    /// Origin → the runs of its numbers that this node has covered.
    Seen,
    /// Node id → member.
    Members,
    /// Name → value: identity and clock.
    Meta,
    /// Dot → key, of tombstones, of versions with a deadline and of what may become a checkpoint of a history: where
    /// there may be something to collect one day.
    Tombs,
    /// Origin → the runs of its numbers in the join of all cuts that this node ever collected at.
    Collected,
    /// Chunk → the greatest stamp of a version collected in it.
    Horizon,
    /// Dot → an entry that came back too old to be told from deleted data.
    Aside,
    /// First key of a chunk (empty for the first one) → what its versions come down to.
    Chunks,
    /// Key → the bytes of a record that failed its checksum.
    Quarantine,
    /// Key, then dot → a version, where several lie under one key.
    Versions,
    /// Key, then hash → the bytes that versions which lie apart have in common, once for all of them.
    Bodies,
}

impl Table {
    /// Every table.
    pub const ALL: [Table; 13] = [
        Table::Records,
        Table::Dots,
        Table::Seen,
        Table::Members,
        Table::Meta,
        Table::Tombs,
        Table::Collected,
        Table::Horizon,
        Table::Aside,
        Table::Chunks,
        Table::Quarantine,
        Table::Versions,
        Table::Bodies,
    ];
}

/// A broken disk. It ends the node value that met it; a restart reads what survived.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The engine or the system under it failed.
    #[error("the disk failed: {0}")]
    Disk(String),
    /// There is no room for what was written.
    #[error("the disk is full: {0}")]
    Full(String),
    /// What the disk holds cannot be a node's data.
    #[error("the data is damaged: {0}")]
    Damaged(String),
    /// Another process holds the data directory.
    #[error("the data directory is in use by another process")]
    Locked,
}

/// The changes of one step, applied in order.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// `None` removes.
    pub changes: Vec<(Table, Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Sets a row.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push((table, key.into(), Some(value.into())));
    }

    /// Removes a row, if it is there.
    pub fn remove(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.changes.push((table, key.into(), None));
    }
}

/// A range of row keys.
pub type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A row as bytes: key, then value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Reading rows.
pub trait Read {
    /// The row's value.
    ///
    /// # Errors
    /// Only when the disk is broken.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError>;

    /// At most `limit` rows of `range`, in key order, or from its end in reverse order. An empty or inverted
    /// range has no rows.
    ///
    /// # Errors
    /// Only when the disk is broken.
    fn scan(
        &self,
        table: Table,
        range: Range<'_>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StorageError>;
}

/// A local ordered map whose writes become durable in two steps. Reads see what was applied.
///
/// After any error the value is broken: drop it and open the disk again, which shows either the state before
/// the failed turn or the state after it.
pub trait Storage: Read {
    /// Atomic, and visible to the next read of this value; lost by a crash that comes before `persist`.
    ///
    /// # Errors
    /// Only when the disk is broken.
    fn apply(&mut self, batch: Batch) -> Result<(), StorageError>;

    /// Makes everything applied durable, then visible to readers. Costs nothing when nothing was applied.
    ///
    /// Returns how long the caller still has to wait until that is true: zero for a real disk, which has
    /// already waited, and the drawn delay of a simulated one.
    ///
    /// # Errors
    /// Only when the disk is broken; whether the turn is durable is then unknown.
    fn persist(&mut self) -> Result<Duration, StorageError>;
}

#[cfg(test)]
mod tests;
