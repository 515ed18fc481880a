//! CONV: in the end all nodes hold the same records, byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use reknit::model::{Key, Version};
use reknit::protocol::history;

use super::Dump;
use super::facts::shown;

/// How many differing keys a report names.
const KEYS_MAX: usize = 3;

/// Whether all nodes hold the same records. Nothing is as good as a tombstone or an expired version where the
/// node has collected it: each does so in its own time.
pub fn agree(dumps: &BTreeMap<String, Dump>) -> bool {
    differences(dumps).is_empty()
}

/// Whether this version may be missing where others hold it: it says no more than nothing does, and was collected.
fn may_be_missing(dump: &Dump, version: &Version) -> bool {
    (version.tombstone || version.expires_at.is_some()) && dump.collected.contains(version.dot)
}

/// The row of a key, without what lies below the checkpoint of a history: each truncates that in its own time.
fn above_past(dump: &Dump, key: &Key) -> Vec<Version> {
    let row = dump.get(key).map_or(&[][..], Vec::as_slice);
    let past = history::past(row);
    row.iter().filter(|version| !past.contains(&version.dot)).cloned().collect()
}

/// Whether `row` has all of `whole`, in the same order, but for what was collected there.
fn is_same(dump: &Dump, row: &[Version], whole: &[Version]) -> bool {
    let mut rest = row.iter().peekable();
    let is_there = |version: &Version| rest.next_if_eq(&version).is_some() || may_be_missing(dump, version);
    whole.iter().all(is_there) && rest.next().is_none()
}

/// The first keys whose records differ, with what each node holds.
pub fn differences(dumps: &BTreeMap<String, Dump>) -> Vec<(Key, String)> {
    let keys: BTreeSet<&Key> = dumps.values().flat_map(|dump| dump.keys()).collect();
    let mut out = Vec::new();
    for key in keys {
        let rows: Vec<_> = dumps.values().map(|dump| (dump, above_past(dump, key))).collect();
        let longest =
            rows.iter().map(|(_, row)| row.as_slice()).max_by_key(|row| row.len()).unwrap_or_default();
        if !rows.iter().all(|(dump, row)| is_same(dump, row, longest)) {
            out.push((key.clone(), describe(key, dumps)));
        }
        if out.len() == KEYS_MAX {
            break;
        }
    }
    out
}

fn describe(key: &Key, dumps: &BTreeMap<String, Dump>) -> String {
    let each = dumps.iter().map(|(node, dump)| match dump.get(key) {
        Some(versions) => {
            let each: Vec<String> = versions.iter().map(|version| shown(version).to_string()).collect();
            format!("{node} holds {}", each.join(" beside "))
        }
        None => format!("{node} holds nothing"),
    });
    each.collect::<Vec<_>>().join("; ")
}
