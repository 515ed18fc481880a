//! The members that a node remembers.

use std::ops::Bound;
use std::time::Duration;

use super::cursor::Cursor;
use super::damaged;
use crate::model::{Address, Member, MemberState, Mode, NodeId, Origin, ProtocolRange, WallTime};
use crate::storage::{Batch, Read, StorageError, Table};

/// A member as the disk has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// The record that members exchange.
    pub member: Member,
    /// When this node last heard of it, as far as the row was written since.
    pub last_seen: WallTime,
    /// How long it has been down while this node ran.
    pub away: Duration,
}

/// Adds a member to `batch`.
pub fn put_member(batch: &mut Batch, row: &MemberRow) {
    let member = &row.member;
    let mut value = vec![FORMAT_MEMBER];
    value.extend_from_slice(&member.life.to_be_bytes());
    value.extend_from_slice(&member.incarnation.to_be_bytes());
    value.push(match member.state {
        MemberState::Alive => 0,
        MemberState::Suspect => 1,
        MemberState::Down => 2,
        MemberState::Left => 3,
        MemberState::Forgotten => 4,
    });
    value.push(match member.mode {
        Mode::Normal => 0,
        Mode::ReadOnly => 1,
        Mode::Draining => 2,
        Mode::Syncing => 3,
    });
    value.extend_from_slice(&row.last_seen.0.to_be_bytes());
    value.extend_from_slice(&row.away.as_secs().to_be_bytes());
    value.extend_from_slice(&member.policies.to_be_bytes());
    value.extend_from_slice(&member.protocol.min.to_be_bytes());
    value.extend_from_slice(&member.protocol.max.to_be_bytes());
    value.extend_from_slice(&member.joined.0.to_be_bytes());
    value.push(u8::from(member.origin.is_some()));
    value.extend_from_slice(&member.origin.map_or(0, |origin| origin.0).to_be_bytes());
    value.extend_from_slice(member.address.as_str().as_bytes());
    batch.put(Table::Members, member.id.as_str(), value);
}

const FORMAT_MEMBER: u8 = 2;

/// Removes a member from the disk.
pub fn remove_member(batch: &mut Batch, id: &NodeId) {
    batch.remove(Table::Members, id.as_str());
}

/// Every member.
///
/// # Errors
/// Only when the disk is broken, or holds what is no member.
pub fn members(store: &(impl Read + ?Sized)) -> Result<Vec<MemberRow>, StorageError> {
    let rows = store.scan(Table::Members, (Bound::Unbounded, Bound::Unbounded), usize::MAX, false)?;
    rows.iter()
        .map(|(id, value)| decode_member(id, value).ok_or_else(|| damaged("member", "not a member row")))
        .collect()
}

fn decode_member(id: &[u8], value: &[u8]) -> Option<MemberRow> {
    let mut at = Cursor { bytes: value, at: 0 };
    if at.u8()? != FORMAT_MEMBER {
        return None;
    }
    let id = NodeId::new(std::str::from_utf8(id).ok()?).ok()?;
    let life = at.u64()?;
    let incarnation = u32::from_be_bytes(at.take(4)?.try_into().ok()?);
    let state = match at.u8()? {
        0 => MemberState::Alive,
        1 => MemberState::Suspect,
        2 => MemberState::Down,
        3 => MemberState::Left,
        4 => MemberState::Forgotten,
        _ => return None,
    };
    let mode = match at.u8()? {
        0 => Mode::Normal,
        1 => Mode::ReadOnly,
        2 => Mode::Draining,
        3 => Mode::Syncing,
        _ => return None,
    };
    let last_seen = WallTime(at.u64()?);
    let away = Duration::from_secs(at.u64()?);
    let policies = at.u64()?;
    let mut version = || Some(u16::from_be_bytes(at.take(2)?.try_into().ok()?));
    let protocol = ProtocolRange { min: version()?, max: version()? };
    let joined = WallTime(at.u64()?);
    let has_origin = at.u8()? != 0;
    let origin = at.u64()?;
    let origin = has_origin.then_some(Origin(origin));
    let address = Address::new(std::str::from_utf8(&value[at.at..]).ok()?).ok()?;
    let member = Member { id, address, life, incarnation, state, joined, mode, origin, policies, protocol };
    Some(MemberRow { member, last_seen, away })
}
