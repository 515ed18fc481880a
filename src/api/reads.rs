//! Reads beside the loop: from snapshots of what is durable, so that they need no turn and promise nothing a
//! crash could take back.

use std::sync::{Arc, RwLock};

use super::problem::{Code, Problem};
use crate::model::{DotSet, Version, WallTime};
use crate::protocol::siblings::{self, Known};
use crate::storage::engine::Reader;
use crate::storage::{Read, StorageError, Table, rows};

/// The disk's reader, which goes and comes back when the node reopens its disk. Cheap to clone.
#[derive(Clone, Default)]
pub struct SharedReader(Arc<RwLock<Option<Reader>>>);

impl SharedReader {
    /// A handle that shows `reader`.
    pub fn new(reader: Reader) -> SharedReader {
        SharedReader(Arc::new(RwLock::new(Some(reader))))
    }

    /// Shows another disk from now on, or none. A disk can be opened again only once no reader holds it.
    pub fn set(&self, reader: Option<Reader>) {
        *self.0.write().expect("nobody panics while holding it") = reader;
    }

    /// Shows one durable state to `read`.
    ///
    /// # Errors
    /// The disk failed, or is being opened again.
    pub fn snapshot<T>(&self, read: impl FnOnce(&dyn Read) -> Result<T, StorageError>) -> Result<T, Problem> {
        let reader = self.0.read().expect("nobody panics while holding it").clone();
        let Some(reader) = reader else {
            return Err(Problem::new(Code::StorageFailed, "the disk is being opened again"));
        };
        Ok(reader.snapshot(read)?)
    }
}

/// [`read_millis`], as far as these versions need it: without a deadline among them any time will do.
///
/// # Errors
/// The disk is broken.
pub fn read_millis_for(store: &dyn Read, wall: WallTime, versions: &[Version]) -> Result<u64, StorageError> {
    match versions.iter().any(|version| version.expires_at.is_some()) {
        true => read_millis(store, wall),
        false => Ok(wall.0),
    }
}

/// The hybrid time that a snapshot's reads are judged by; unlike the wall clock it does not go back.
///
/// # Errors
/// The disk is broken.
pub fn read_millis(store: &dyn Read, wall: WallTime) -> Result<u64, StorageError> {
    let high_water = rows::identity(store)?.map_or(0, |identity| identity.high_water.millis);
    Ok(wall.0.max(high_water))
}

/// What a reader of these siblings knows of their key, in the state that they were read in.
///
/// # Errors
/// The disk is broken.
pub fn context(store: &dyn Read, versions: &[Version]) -> Result<DotSet, StorageError> {
    let mut seen = DotSet::default();
    let mut collected = DotSet::default();
    for origin in siblings::origins(versions) {
        for (set, table) in [(&mut seen, Table::Seen), (&mut collected, Table::Collected)] {
            for (first, last) in rows::runs(store, table, origin)? {
                set.insert_run(origin, first, last);
            }
        }
    }
    Ok(siblings::context(versions, Known { seen: &seen, collected: &collected }))
}
