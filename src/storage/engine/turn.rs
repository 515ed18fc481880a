//! What a turn has changed so far, over what was durable before it.
//!
//! redb gets it all at once when the turn is persisted: a row that the turn changes many times (clock, summaries, the
//! set of dots) is written once, every table is opened once, and rows go in in order, so that neighbours share pages.
//! One transaction for each `apply` would do the same work as often as there are writes in the turn.

use std::collections::BTreeMap;

use crate::storage::memory::is_empty;
use crate::storage::{Batch, Range, Row, StorageError, Table};

type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The changes of one turn, each row's last one. As large as the turn's batches, which the driver bounds.
#[derive(Debug, Default)]
pub struct Turn {
    tables: [Changes; Table::ALL.len()],
    is_begun: bool,
}

impl Turn {
    /// Whether anything was applied.
    pub fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Of several changes to one row the last one counts.
    pub fn apply(&mut self, batch: Batch) {
        self.is_begun = true;
        for (table, key, value) in batch.changes {
            self.tables[table as usize].insert(key, value);
        }
    }

    /// The tables that were changed, and how.
    pub fn into_changes(self) -> impl Iterator<Item = (Table, Changes)> {
        Table::ALL.into_iter().zip(self.tables).filter(|(_, changes)| !changes.is_empty())
    }

    /// What the turn says about a row: nothing, or that it has this value, or none.
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Option<Vec<u8>>> {
        self.tables[table as usize].get(key).cloned()
    }

    /// The rows of `range` as the turn has made them of the `durable` ones, which come in the order asked for.
    pub fn scan(
        &self,
        table: Table,
        range: Range<'_>,
        durable: impl Iterator<Item = Result<Row, StorageError>>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StorageError> {
        if is_empty(range) {
            return Ok(Vec::new());
        }
        let changes = self.tables[table as usize].range::<[u8], _>(range);
        if reverse {
            merge(changes.rev(), durable, limit, |change, row| change > row)
        } else {
            merge(changes, durable, limit, |change, row| change < row)
        }
    }
}

/// Both in one order; where they speak of one row, the change counts.
fn merge<'a>(
    changes: impl Iterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)>,
    durable: impl Iterator<Item = Result<Row, StorageError>>,
    limit: usize,
    is_first: impl Fn(&Vec<u8>, &Vec<u8>) -> bool,
) -> Result<Vec<Row>, StorageError> {
    let (mut changes, mut durable) = (changes.peekable(), durable.peekable());
    let mut rows = Vec::new();
    while rows.len() < limit {
        let change = match (changes.peek(), durable.peek()) {
            (_, Some(Err(_))) => return durable.next().expect("it was there").map(|_| rows),
            (None, None) => break,
            (Some(_), None) => changes.next(),
            (None, Some(Ok(_))) => None,
            (Some((key, _)), Some(Ok((durable_key, _)))) if *key == durable_key => {
                durable.next();
                changes.next()
            }
            (Some((key, _)), Some(Ok((durable_key, _)))) if is_first(key, durable_key) => changes.next(),
            (Some(_), Some(Ok(_))) => None,
        };
        match change {
            Some((key, Some(value))) => rows.push((key.clone(), value.clone())),
            Some((_, None)) => {}
            None => rows.push(durable.next().expect("it was there")?),
        }
    }
    Ok(rows)
}
