//! The meaning of the rows: keys and headers laid out by hand, so that no library owns the format on disk.
//!
//! Integers are big-endian, so that rows sort as the numbers do. A record carries an xxh3-64 over its key and
//! all its bytes: the engine does not check ordinary reads, so rot would otherwise be served as data.

mod cursor;
mod identity;
mod member;
mod quarantine;
mod sets;
mod sums;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3Default;

use super::{Batch, Read, StorageError, Table};
use crate::model::{Dot, DotSet, Entry, Key, Origin, Row, Stamp, Version, WallTime};
use crate::mutants;
use cursor::Cursor;
pub(super) use identity::is_identity;
pub use identity::{Identity, identity, is_filling, put_filling, put_identity};
pub use member::{MemberRow, members, put_member, remove_member};
pub use quarantine::{
    aside, dots_of, put_aside, put_in_quarantine, quarantine, quarantined_dots, quarantined_stamp,
};
pub use sets::{CHUNKS, Runs, chunk, dot_set, horizon, horizons, put_horizon, put_runs, runs};
pub use sums::{ChunkRow, chunks, put_chunk, put_root, root};

/// What is stored under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Nothing.
    Absent,
    /// Versions; how many there may be is a matter of the key's policy.
    Row(Row),
    /// Bytes that fail their checksum: not data, and not absence either.
    Rotten,
}

impl Record {
    /// The row, if there is one that can be trusted.
    pub fn row(self) -> Option<Row> {
        match self {
            Record::Row(row) => Some(row),
            Record::Absent | Record::Rotten => None,
        }
    }

    /// Whether what is there can be trusted; nothing can.
    pub fn is_sound(&self) -> bool {
        !matches!(self, Record::Rotten)
    }

    /// The versions that can be trusted, in dot order.
    pub fn versions(&self) -> &[Version] {
        match self {
            Record::Row(row) => &row.versions,
            Record::Absent | Record::Rotten => &[],
        }
    }
}

/// First byte of a record: what follows is a checksum, then one version with nothing beside it.
const FORMAT_ONE_VERSION: u8 = 1;
/// First byte of a record: what follows is a checksum, then a context and any number of versions.
const FORMAT_ROW: u8 = 2;
/// First byte of a record: what follows is a checksum, then a context and the dots of several versions. Each of them
/// lies in [`Table::Versions`] as a record of its own, so that a write costs as much as what it adds.
const FORMAT_INDEX: u8 = 3;
/// A version whose body lies in [`Table::Bodies`]: the version with the rest of its value, then the body's hash.
const FORMAT_BODILESS: u8 = 4;
/// From how many bytes on the body of a version that lies apart is stored by its hash: equal ones once.
pub const BODY_BYTES_MIN: usize = 64;
const BODY_HASH_BYTES: usize = 16;
/// Format and checksum.
const HEAD_BYTES: usize = 9;

/// Where a record of one version names its dot: after the flags and the stamp.
const DOT_AT: usize = HEAD_BYTES + 1 + 10;

const FLAG_TOMBSTONE: u8 = 1;
const FLAG_CONFIRMS: u8 = 2;
const FLAG_EXPIRES: u8 = 4;
const FLAGS: u8 = FLAG_TOMBSTONE | FLAG_CONFIRMS | FLAG_EXPIRES;

/// The record under `key`.
///
/// # Errors
/// Only when the disk is broken.
pub fn record(store: &(impl Read + ?Sized), key: &Key) -> Result<Record, StorageError> {
    if let Some(bytes) = store.get(Table::Records, key.as_bytes())? {
        return decode_stored(store, key, bytes.into());
    }
    // A record in quarantine is no data, and no absence either.
    let is_quarantined = store.get(Table::Quarantine, key.as_bytes())?.is_some();
    Ok(if is_quarantined { Record::Rotten } else { Record::Absent })
}

/// At most `limit` records with keys in `range`, in key order or in reverse.
///
/// # Errors
/// Only when the disk is broken, or holds a row under what is no key.
pub fn records(
    store: &(impl Read + ?Sized),
    range: super::Range<'_>,
    limit: usize,
    reverse: bool,
) -> Result<Vec<(Key, Record)>, StorageError> {
    let rows = store.scan(Table::Records, range, limit, reverse)?;
    rows.into_iter()
        .map(|(key, bytes)| {
            let key = Key::try_from(Bytes::from(key)).map_err(|error| damaged("record key", error))?;
            let record = decode_stored(store, &key, bytes.into())?;
            Ok((key, record))
        })
        .collect()
}

/// Adds to `batch` what makes `row` the record of `key` in place of `before`; an empty row removes it.
pub fn put_row(batch: &mut Batch, key: &Key, row: &Row, before: &[Version]) {
    let (was_apart, is_apart) = (lie_apart(before), lie_apart(&row.versions));
    let held: BTreeMap<Dot, &Version> = before.iter().map(|version| (version.dot, version)).collect();
    let kept: BTreeSet<Dot> = row.dots().collect();
    for old in before {
        let stays = kept.contains(&old.dot);
        if !stays && !mutants::is_on("index-leak") {
            batch.remove(Table::Dots, encode_dot(old.dot));
            if is_collected_one_day(old) {
                batch.remove(Table::Tombs, encode_dot(old.dot));
            }
        }
        if was_apart && !(stays && is_apart) {
            batch.remove(Table::Versions, place_apart(key, old.dot));
            let body = body(old);
            let is_shared = is_apart && row.versions.iter().any(|version| self::body(version) == body);
            if let Some(body) = body.filter(|_| !is_shared) {
                batch.remove(Table::Bodies, place_of_body(key, &hash_of_body(body)));
            }
        }
    }
    if row.versions.is_empty() && row.context.is_empty() {
        batch.remove(Table::Records, key.as_bytes());
    } else if is_apart {
        batch.put(Table::Records, key.as_bytes(), encode_index(key, row));
    } else {
        batch.put(Table::Records, key.as_bytes(), encode_row(key, row));
    }
    for version in &row.versions {
        let is_there = held.get(&version.dot).is_some_and(|held| *held == version);
        if is_apart && !(is_there && was_apart) {
            put_apart(batch, key, version);
        }
        if is_there {
            continue;
        }
        if !(version.tombstone && mutants::is_on("tombstone-unlogged")) {
            batch.put(Table::Dots, encode_dot(version.dot), key.as_bytes());
        }
        if is_collected_one_day(version) {
            batch.put(Table::Tombs, encode_dot(version.dot), key.as_bytes());
        }
    }
}

/// Whether versions of one key lie in a table of their own, each by its dot.
fn lie_apart(versions: &[Version]) -> bool {
    versions.len() > 1
}

/// Where a version lies that lies apart: after its key, so that the versions of a key are neighbours.
fn place_apart(key: &Key, dot: Dot) -> Vec<u8> {
    [key.as_bytes(), &encode_dot(dot)].concat()
}

/// Whether a row of a table belongs to the record of this key.
pub fn is_of(table: Table, place: &[u8], key: &[u8]) -> bool {
    match table {
        Table::Records => place == key,
        Table::Versions => place.len() == key.len() + 16 && place.starts_with(key),
        Table::Bodies => place
            .get(2..)
            .and_then(|rest| rest.strip_prefix(key))
            .is_some_and(|hash| hash.len() == BODY_HASH_BYTES),
        _ => false,
    }
}

fn put_apart(batch: &mut Batch, key: &Key, version: &Version) {
    let Some(body) = body(version) else {
        return batch.put(Table::Versions, place_apart(key, version.dot), encode_record(key, version));
    };
    let hash = hash_of_body(body);
    let mut out = vec![0; HEAD_BYTES];
    let value = version.value.slice(..version.body_at());
    encode_version(&mut out, &Version { value, ..version.clone() });
    out.extend_from_slice(&hash);
    batch.put(Table::Versions, place_apart(key, version.dot), seal(FORMAT_BODILESS, key, out));
    batch.put(Table::Bodies, place_of_body(key, &hash), body);
}

/// Where the bodies lie that versions under one key have by themselves.
pub fn places_of_bodies(key: &Key, versions: &[Version]) -> BTreeSet<Vec<u8>> {
    let bodies = versions.iter().filter(|_| lie_apart(versions)).filter_map(body);
    bodies.map(|body| place_of_body(key, &hash_of_body(body))).collect()
}

/// The client's bytes of a transaction, if they are worth a row of their own.
fn body(version: &Version) -> Option<&[u8]> {
    let at = version.body_at();
    version.value.get(at..).filter(|body| at > 0 && body.len() >= BODY_BYTES_MIN)
}

fn hash_of_body(body: &[u8]) -> [u8; BODY_HASH_BYTES] {
    let hash = blake3::hash(body);
    hash.as_bytes()[..BODY_HASH_BYTES].try_into().expect("a hash has thirty-two bytes")
}

/// The length comes first: what lies under a key must not lie between what lies under a longer one.
fn place_of_body(key: &Key, hash: &[u8]) -> Vec<u8> {
    let len = u16::try_from(key.as_bytes().len()).expect("keys are bounded").to_be_bytes();
    [&len, key.as_bytes(), hash].concat()
}

/// A version that was stored without its body; `None` if that is not what it was.
fn with_body(
    store: &(impl Read + ?Sized),
    key: &Key,
    bytes: &Bytes,
) -> Result<Option<Version>, StorageError> {
    let (head, hash) = bytes.split_at(bytes.len().saturating_sub(BODY_HASH_BYTES));
    let sum = bytes.get(1..HEAD_BYTES).map(|sum| u64::from_be_bytes(sum.try_into().expect("eight bytes")));
    let is_sound = sum == bytes.get(HEAD_BYTES..).map(|rest| checksum(key, FORMAT_BODILESS, rest));
    if head.len() < HEAD_BYTES || !is_sound {
        return Ok(None);
    }
    let version = decode_version(&bytes.slice(HEAD_BYTES..head.len()));
    let body = store.get(Table::Bodies, &place_of_body(key, hash))?.filter(|body| hash_of_body(body) == hash);
    let whole = version.zip(body).map(|(version, body)| {
        let value = [&version.value[..], &body].concat().into();
        Version { value, ..version }
    });
    Ok(whole)
}

fn encode_index(key: &Key, row: &Row) -> Vec<u8> {
    let mut out = vec![0; HEAD_BYTES];
    encode_context(&mut out, &row.context);
    out.extend_from_slice(&count(row.versions.len()));
    for dot in row.dots() {
        out.extend_from_slice(&encode_dot(dot));
    }
    seal(FORMAT_INDEX, key, out)
}

fn encode_context(out: &mut Vec<u8>, context: &DotSet) {
    out.extend_from_slice(&count(context.iter().count()));
    for (origin, first, last) in context.iter() {
        for number in [origin.0, first, last] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

fn count(count: usize) -> [u8; 4] {
    u32::try_from(count).expect("rows have far fewer parts").to_be_bytes()
}

/// Reads a record as it lies in the store, with the versions that lie apart from it.
fn decode_stored(store: &(impl Read + ?Sized), key: &Key, bytes: Bytes) -> Result<Record, StorageError> {
    if bytes.first() != Some(&FORMAT_INDEX) {
        return Ok(decode_record(key, bytes));
    }
    let Some((context, dots)) = decode_index(key, &bytes) else { return Ok(Record::Rotten) };
    let mut row = Row { versions: Vec::with_capacity(dots.len()), context };
    for dot in dots {
        match version_apart(store, key, dot)? {
            Some(version) => row.versions.push(version),
            None => return Ok(Record::Rotten),
        }
    }
    Ok(Record::Row(row))
}

/// A version that lies apart from its record; `None` if it does not, or cannot be trusted.
fn version_apart(store: &(impl Read + ?Sized), key: &Key, dot: Dot) -> Result<Option<Version>, StorageError> {
    let Some(bytes) = store.get(Table::Versions, &place_apart(key, dot))? else { return Ok(None) };
    if bytes.first() == Some(&FORMAT_BODILESS) {
        return Ok(with_body(store, key, &bytes.into())?.filter(|version| version.dot == dot));
    }
    let row = decode_record(key, bytes.into()).row();
    Ok(row.and_then(|row| row.versions.into_iter().find(|version| version.dot == dot)))
}

/// The version with this dot under `key`, read without the versions beside it where they lie apart.
///
/// # Errors
/// Only when the disk is broken.
pub fn version(store: &(impl Read + ?Sized), key: &Key, dot: Dot) -> Result<Record, StorageError> {
    if let Some(version) = version_apart(store, key, dot)? {
        return Ok(Record::Row(Row::one(version)));
    }
    record(store, key)
}

fn decode_index(key: &Key, bytes: &Bytes) -> Option<(DotSet, Vec<Dot>)> {
    let mut at = Cursor { bytes, at: 0 };
    let (_, sum) = (at.u8()?, at.u64()?);
    if sum != checksum(key, FORMAT_INDEX, &bytes[HEAD_BYTES..]) {
        return None;
    }
    let context = decode_context(&mut at)?;
    let mut dots = Vec::new();
    for _ in 0..at.u32()? {
        dots.push(at.dot()?);
    }
    at.is_done().then_some((context, dots))
}

fn decode_context(at: &mut Cursor<'_>) -> Option<DotSet> {
    let mut context = DotSet::default();
    for _ in 0..at.u32()? {
        let (origin, first, last) = (Origin(at.u64()?), at.u64()?, at.u64()?);
        if first == 0 || last < first || last > Dot::SEQ_MAX {
            return None;
        }
        context.insert_run(origin, first, last);
    }
    Some(context)
}

/// Whether a version is of the kind that is collected, a tombstone or one with a deadline, or that others are
/// collected for.
fn is_collected_one_day(version: &Version) -> bool {
    version.tombstone || version.expires_at.is_some() || version.may_be_checkpoint()
}

/// A record's bytes. One version with nothing beside it is laid out as [`encode_record`] does.
pub fn encode_row(key: &Key, row: &Row) -> Vec<u8> {
    if let ([version], true) = (row.versions.as_slice(), row.context.is_empty()) {
        return encode_record(key, version);
    }
    let mut out = vec![0; HEAD_BYTES];
    encode_context(&mut out, &row.context);
    out.extend_from_slice(&count(row.versions.len()));
    for version in &row.versions {
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        encode_version(&mut out, version);
        let len = count(out.len() - at - 4);
        out[at..at + 4].copy_from_slice(&len);
    }
    seal(FORMAT_ROW, key, out)
}

/// The bytes of a record of one version: format, checksum, then the version's header, media type and value.
pub fn encode_record(key: &Key, version: &Version) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + version.content_type.len() + version.value.len());
    out.extend_from_slice(&[0; HEAD_BYTES]);
    encode_version(&mut out, version);
    seal(FORMAT_ONE_VERSION, key, out)
}

/// Fills in the head that was left open.
fn seal(format: u8, key: &Key, mut record: Vec<u8>) -> Vec<u8> {
    let sum = checksum(key, format, &record[HEAD_BYTES..]);
    record[0] = format;
    record[1..HEAD_BYTES].copy_from_slice(&sum.to_be_bytes());
    record
}

/// Adds a version's header, media type and value to `out`: the same bytes for the same version, whatever lies
/// beside it.
pub fn encode_version(out: &mut Vec<u8>, version: &Version) {
    let mut flags = 0;
    if version.tombstone {
        flags |= FLAG_TOMBSTONE;
    }
    if version.confirms.is_some() {
        flags |= FLAG_CONFIRMS;
    }
    if version.expires_at.is_some() {
        flags |= FLAG_EXPIRES;
    }
    out.push(flags);
    out.extend_from_slice(&version.stamp.millis.to_be_bytes());
    out.extend_from_slice(&version.stamp.counter.to_be_bytes());
    out.extend_from_slice(&encode_dot(version.dot));
    out.extend_from_slice(&version.author_joined.0.to_be_bytes());
    out.extend_from_slice(&version.ruling.to_be_bytes());
    if let Some(dot) = version.confirms {
        out.extend_from_slice(&encode_dot(dot));
    }
    if let Some(deadline) = version.expires_at {
        out.extend_from_slice(&deadline.0.to_be_bytes());
    }
    let content_type = version.content_type.as_bytes();
    out.push(u8::try_from(content_type.len()).expect("media types are bounded at the door"));
    out.extend_from_slice(content_type);
    out.extend_from_slice(&version.value);
}

/// Reads what [`encode_row`] wrote; anything else is [`Record::Rotten`].
pub fn decode_record(key: &Key, bytes: Bytes) -> Record {
    let rotten = if mutants::is_on("rot-is-absence") { Record::Absent } else { Record::Rotten };
    decode_row(key, &bytes).map_or(rotten, Record::Row)
}

fn decode_row(key: &Key, bytes: &Bytes) -> Option<Row> {
    let mut head = Cursor { bytes, at: 0 };
    let (format, sum) = (head.u8()?, head.u64()?);
    let body = bytes.slice(HEAD_BYTES..);
    if sum != checksum(key, format, &body) {
        return None;
    }
    match format {
        FORMAT_ONE_VERSION => decode_version(&body).map(Row::one),
        FORMAT_ROW => decode_versions(&body),
        _ => None,
    }
}

fn decode_versions(body: &Bytes) -> Option<Row> {
    let mut at = Cursor { bytes: body, at: 0 };
    let mut row = Row { versions: Vec::new(), context: decode_context(&mut at)? };
    for _ in 0..at.u32()? {
        let len = usize::try_from(at.u32()?).ok()?;
        let start = at.at;
        at.take(len)?;
        row.versions.push(decode_version(&body.slice(start..at.at))?);
    }
    at.is_done().then_some(row)
}

fn decode_version(bytes: &Bytes) -> Option<Version> {
    let mut at = Cursor { bytes, at: 0 };
    // What a flag would mean that nobody has set yet, nobody can say.
    let flags = at.u8().filter(|flags| flags & !FLAGS == 0)?;
    let stamp = Stamp { millis: at.u64()?, counter: at.u16()? };
    let dot = at.dot()?;
    let author_joined = WallTime(at.u64()?);
    let ruling = at.u16()?;
    let confirms = if flags & FLAG_CONFIRMS != 0 { Some(at.dot()?) } else { None };
    let expires_at = if flags & FLAG_EXPIRES != 0 { Some(WallTime(at.u64()?)) } else { None };
    let content_type_len = usize::from(at.u8()?);
    let content_type = String::from_utf8(at.take(content_type_len)?.to_vec()).ok()?;
    let value = bytes.slice(at.at..);
    let tombstone = flags & FLAG_TOMBSTONE != 0;
    Some(Version { stamp, dot, author_joined, ruling, confirms, tombstone, expires_at, content_type, value })
}

fn checksum(key: &Key, format: u8, rest: &[u8]) -> u64 {
    checksum_of(key.as_bytes(), format, rest)
}

/// The format is a part of it: one flipped bit there would have the same bytes read as something else.
fn checksum_of(name: &[u8], format: u8, rest: &[u8]) -> u64 {
    let mut hasher = Xxh3Default::new();
    hasher.update(&(name.len() as u32).to_be_bytes());
    hasher.update(name);
    hasher.update(&[format]);
    hasher.update(rest);
    hasher.digest()
}

/// A dot as a row key: origin, then number.
pub fn encode_dot(dot: Dot) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&dot.origin.0.to_be_bytes());
    out[8..].copy_from_slice(&dot.seq.to_be_bytes());
    out
}

fn decode_dot(bytes: &[u8]) -> Option<Dot> {
    let mut at = Cursor { bytes, at: 0 };
    let dot = at.dot()?;
    at.is_done().then_some(dot)
}

/// At most `limit` live dots from `first` to `last`, both included, in order, with their keys.
///
/// # Errors
/// Only when the disk is broken, or holds what is no dot or no key.
pub fn dots(
    store: &(impl Read + ?Sized),
    first: Dot,
    last: Dot,
    limit: usize,
) -> Result<Vec<(Dot, Key)>, StorageError> {
    let (first, last) = (encode_dot(first), encode_dot(last));
    let range = (Bound::Included(first.as_slice()), Bound::Included(last.as_slice()));
    dots_in(store, Table::Dots, range, limit)
}

/// At most `limit` dots after `after` of versions that may be collected one day, in order, with their keys.
///
/// # Errors
/// Only when the disk is broken, or holds what is no dot or no key.
pub fn tombs(
    store: &(impl Read + ?Sized),
    after: Option<Dot>,
    limit: usize,
) -> Result<Vec<(Dot, Key)>, StorageError> {
    let after = after.map(encode_dot);
    let from = after.as_ref().map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_slice()));
    dots_in(store, Table::Tombs, (from, Bound::Unbounded), limit)
}

fn dots_in(
    store: &(impl Read + ?Sized),
    table: Table,
    range: super::Range<'_>,
    limit: usize,
) -> Result<Vec<(Dot, Key)>, StorageError> {
    let rows = store.scan(table, range, limit, false)?;
    rows.into_iter()
        .map(|(dot, key)| {
            let dot = decode_dot(&dot).ok_or_else(|| damaged("dot", "wrong length"))?;
            let key = Key::try_from(Bytes::from(key)).map_err(|error| damaged("key of a dot", error))?;
            Ok((dot, key))
        })
        .collect()
}

fn damaged(what: &str, why: impl std::fmt::Display) -> StorageError {
    StorageError::Damaged(format!("{what}: {why}"))
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
