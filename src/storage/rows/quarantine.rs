//! What cannot be used: records that fail their checksums, and versions that came back too old to be told from deleted data.

use std::ops::Bound;

use bytes::Bytes;

use super::cursor::Cursor;
use super::*;

/// Adds to `batch` what takes a rotten record out of the way; `dots` lead to it. Those of its versions that lie apart
/// and can be read are its row from then on. Where something is lost, the record's bytes are kept with the dots of
/// that behind them, and the log leads to those no longer. Returns the lost dots.
///
/// # Errors
/// Only when the disk is broken.
pub fn put_in_quarantine(
    store: &(impl Read + ?Sized),
    batch: &mut Batch,
    key: &Key,
    mut record: Vec<u8>,
    dots: &[Dot],
) -> Result<Vec<Dot>, StorageError> {
    let (mut saved, mut lost) = (Vec::new(), Vec::new());
    for dot in dots {
        match version_apart(store, key, *dot)? {
            Some(version) => saved.push(version),
            None => lost.push(*dot),
        }
    }
    saved.sort_by_key(|version| version.dot);
    batch.remove(Table::Records, key.as_bytes());
    for dot in dots {
        batch.remove(Table::Dots, encode_dot(*dot));
        batch.remove(Table::Tombs, encode_dot(*dot));
        batch.remove(Table::Versions, place_apart(key, *dot));
    }
    let (first, last) = (place_of_body(key, &[]), place_of_body(key, &[u8::MAX; BODY_HASH_BYTES]));
    let range = (Bound::Included(first.as_slice()), Bound::Included(last.as_slice()));
    for (place, _) in store.scan(Table::Bodies, range, usize::MAX, false)? {
        batch.remove(Table::Bodies, place);
    }
    put_row(batch, key, &Row { versions: saved, ..Row::default() }, &[]);
    if !lost.is_empty() || dots.is_empty() {
        for dot in &lost {
            record.extend_from_slice(&encode_dot(*dot));
        }
        record.extend_from_slice(&(lost.len() as u32).to_be_bytes());
        batch.put(Table::Quarantine, key.as_bytes(), record);
    }
    Ok(lost)
}

/// At most `limit` keys in quarantine from `from` on.
///
/// # Errors
/// Only when the disk is broken, or holds what is no key.
pub fn quarantine(
    store: &(impl Read + ?Sized),
    from: Bound<&[u8]>,
    limit: usize,
) -> Result<Vec<Key>, StorageError> {
    let rows = store.scan(Table::Quarantine, (from, Bound::Unbounded), limit, false)?;
    let key = |(key, _)| Key::try_from(Bytes::from(key)).map_err(|error| damaged("key in quarantine", error));
    rows.into_iter().map(key).collect()
}

/// The dots that were lost with the record of `key` in quarantine.
///
/// # Errors
/// Only when the disk is broken.
pub fn quarantined_dots(store: &(impl Read + ?Sized), key: &Key) -> Result<Vec<Dot>, StorageError> {
    let bytes = store.get(Table::Quarantine, key.as_bytes())?.unwrap_or_default();
    let Some((rest, count)) = bytes.split_last_chunk::<4>() else { return Ok(Vec::new()) };
    let count = u32::from_be_bytes(*count) as usize;
    let dots = count.checked_mul(16).and_then(|len| rest.len().checked_sub(len)).map(|at| &rest[at..]);
    Ok(dots.unwrap_or_default().chunks_exact(16).filter_map(decode_dot).collect())
}

/// The stamp that the record of `key` in quarantine seems to have. Its bytes are damaged somewhere, so it is good
/// for nothing but to make a later stamp later still.
///
/// # Errors
/// Only when the disk is broken.
pub fn quarantined_stamp(store: &(impl Read + ?Sized), key: &Key) -> Result<Stamp, StorageError> {
    let bytes = store.get(Table::Quarantine, key.as_bytes())?.unwrap_or_default();
    let body = Bytes::from(bytes.get(HEAD_BYTES..).unwrap_or_default().to_vec());
    let stamp = decode_version(&body).map_or(Stamp::default(), |version| version.stamp);
    // No node has written such a stamp, so the damage is in it; one made later still would be taken by nobody.
    Ok(if stamp.millis < Stamp::MILLIS_MAX { stamp } else { Stamp::default() })
}

/// The dots that lead to `key`. If the record itself still names one that the log confirms, that is all; else the
/// whole log is searched.
///
/// # Errors
/// Only when the disk is broken, or holds what is no dot or no key.
pub fn dots_of(store: &(impl Read + ?Sized), key: &Key, record: &[u8]) -> Result<Vec<Dot>, StorageError> {
    if record.first() == Some(&FORMAT_ONE_VERSION) {
        let named = record.get(DOT_AT..DOT_AT + 16).and_then(decode_dot);
        if let Some(dot) = named
            && store.get(Table::Dots, &encode_dot(dot))?.as_deref() == Some(key.as_bytes())
        {
            return Ok(vec![dot]);
        }
    }
    const PAGE: usize = 1024;
    let mut found = Vec::new();
    let mut first = Dot { origin: Origin(0), seq: 0 };
    let last = Dot { origin: Origin(u64::MAX), seq: u64::MAX };
    loop {
        let page = dots(store, first, last, PAGE)?;
        found.extend(page.iter().filter(|(_, of)| of == key).map(|(dot, _)| *dot));
        match page.last() {
            Some((dot, _)) if page.len() == PAGE => first = Dot { seq: dot.seq + 1, ..*dot },
            _ => return Ok(found),
        }
    }
}

/// Adds an entry to `batch` that is set aside.
pub fn put_aside(batch: &mut Batch, entry: &Entry) {
    let key = entry.key.as_bytes();
    let mut value = u32::try_from(key.len()).expect("keys are bounded").to_be_bytes().to_vec();
    value.extend_from_slice(key);
    value.extend_from_slice(&encode_record(&entry.key, &entry.version));
    batch.put(Table::Aside, encode_dot(entry.version.dot), value);
}

/// At most `limit` entries after `after` that were set aside, in dot order; `None` is one that fails its checksum.
///
/// # Errors
/// Only when the disk is broken, or holds what is no such row.
pub fn aside(
    store: &(impl Read + ?Sized),
    after: Option<Dot>,
    limit: usize,
) -> Result<Vec<(Dot, Option<Entry>)>, StorageError> {
    let after = after.map(encode_dot);
    let from = after.as_ref().map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_slice()));
    let rows = store.scan(Table::Aside, (from, Bound::Unbounded), limit, false)?;
    let mut entries = Vec::new();
    for (dot, value) in rows {
        let dot = decode_dot(&dot).ok_or_else(|| damaged("set aside", "no dot"))?;
        let mut at = Cursor { bytes: &value, at: 0 };
        let key = at.take(4).and_then(|len| {
            let len = u32::from_be_bytes(len.try_into().ok()?);
            at.take(usize::try_from(len).ok()?)
        });
        let key = key.ok_or_else(|| damaged("set aside", "no key"))?;
        let key = Key::try_from(Bytes::copy_from_slice(key)).map_err(|error| damaged("set aside", error))?;
        let record = decode_record(&key, Bytes::copy_from_slice(&value[at.at..]));
        let version = record.versions().first().cloned();
        entries.push((dot, version.map(|version| Entry { key, version })));
    }
    Ok(entries)
}
