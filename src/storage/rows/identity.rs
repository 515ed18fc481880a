//! Whose disk this is, and whether it has begun to be filled.

use super::cursor::Cursor;
use super::damaged;
use crate::model::{NodeId, Stamp, WallTime};
use crate::storage::{Batch, Read, StorageError, Table};

/// Who this disk belongs to and how far its clock has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node that wrote the disk.
    pub id: NodeId,
    /// How often it was started.
    pub life: u64,
    /// When it first joined.
    pub joined: WallTime,
    /// The hybrid clock's durable high-water mark.
    pub high_water: Stamp,
}

const IDENTITY: &str = "identity";
const FORMAT_IDENTITY: u8 = 1;

/// Whether a row is the one that says who the disk belongs to.
pub(in crate::storage) fn is_identity(table: Table, key: &[u8]) -> bool {
    table == Table::Meta && key == IDENTITY.as_bytes()
}

/// Adds the identity to `batch`.
pub fn put_identity(batch: &mut Batch, identity: &Identity) {
    let mut value = vec![FORMAT_IDENTITY];
    value.extend_from_slice(&identity.life.to_be_bytes());
    value.extend_from_slice(&identity.joined.0.to_be_bytes());
    value.extend_from_slice(&identity.high_water.millis.to_be_bytes());
    value.extend_from_slice(&identity.high_water.counter.to_be_bytes());
    value.extend_from_slice(identity.id.as_str().as_bytes());
    batch.put(Table::Meta, IDENTITY, value);
}

/// The disk's identity; `None` on a new disk.
///
/// # Errors
/// Only when the disk is broken, or holds what is no identity.
pub fn identity(store: &(impl Read + ?Sized)) -> Result<Option<Identity>, StorageError> {
    let Some(value) = store.get(Table::Meta, IDENTITY.as_bytes())? else { return Ok(None) };
    let identity = decode_identity(&value).ok_or_else(|| damaged("identity", "not an identity row"))?;
    Ok(Some(identity))
}

fn decode_identity(value: &[u8]) -> Option<Identity> {
    let mut at = Cursor { bytes: value, at: 0 };
    if at.u8()? != FORMAT_IDENTITY {
        return None;
    }
    let life = at.u64()?;
    let joined = WallTime(at.u64()?);
    let high_water = Stamp { millis: at.u64()?, counter: at.u16()? };
    let id = NodeId::new(std::str::from_utf8(&value[at.at..]).ok()?).ok()?;
    Some(Identity { id, life, joined, high_water })
}

const FILLING: &str = "filling";

/// Notes that this node has begun to take all that others hold; until it has, what is missing here is no news.
pub fn put_filling(batch: &mut Batch, is_filling: bool) {
    if is_filling {
        batch.put(Table::Meta, FILLING, Vec::new());
    } else {
        batch.remove(Table::Meta, FILLING);
    }
}

/// Whether this node has begun to take all that others hold, and has not come to the end.
///
/// # Errors
/// Only when the disk is broken.
pub fn is_filling(store: &(impl Read + ?Sized)) -> Result<bool, StorageError> {
    Ok(store.get(Table::Meta, FILLING.as_bytes())?.is_some())
}
