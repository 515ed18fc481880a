//! CONV: in the end all nodes hold the same records, byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use reknit::model::{Key, Version};

use super::Dump;
use super::facts::shown;

/// How many differing keys a report names.
const KEYS_MAX: usize = 3;

/// Whether all nodes hold the same records. Nothing is as good as a tombstone or an expired version where the
/// node has collected it: each does so in its own time.
pub fn agree(dumps: &BTreeMap<String, Dump>) -> bool {
    differences(dumps).is_empty()
}

/// Whether a node that holds nothing may hold nothing where others hold `row`.
fn is_collected(dump: &Dump, row: &[Version]) -> bool {
    let is_over = |version: &Version| version.tombstone || version.expires_at.is_some();
    row.iter().all(|version| is_over(version) && dump.collected.contains(version.dot))
}

/// The first keys whose records differ, with what each node holds.
pub fn differences(dumps: &BTreeMap<String, Dump>) -> Vec<(Key, String)> {
    let keys: BTreeSet<&Key> = dumps.values().flat_map(|dump| dump.keys()).collect();
    let mut out = Vec::new();
    for key in keys {
        let first = dumps.values().find_map(|dump| dump.get(key)).expect("the key is somebody's");
        let is_same = |dump: &Dump| match dump.get(key) {
            Some(row) => row == first,
            None => is_collected(dump, first),
        };
        if !dumps.values().all(is_same) {
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
