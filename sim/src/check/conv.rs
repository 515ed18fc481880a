//! CONV: in the end all nodes hold the same records, byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use reknit::model::Key;

use super::Dump;
use super::facts::shown;

/// How many differing keys a report names.
const KEYS_MAX: usize = 3;

/// Whether all nodes hold the same records.
pub fn agree(dumps: &BTreeMap<String, Dump>) -> bool {
    let mut all = dumps.values();
    let Some(first) = all.next() else { return true };
    all.all(|dump| dump == first)
}

/// The first keys whose records differ, with what each node holds.
pub fn differences(dumps: &BTreeMap<String, Dump>) -> Vec<(Key, String)> {
    let keys: BTreeSet<&Key> = dumps.values().flat_map(BTreeMap::keys).collect();
    let mut out = Vec::new();
    for key in keys {
        let mut held = dumps.values().map(|dump| dump.get(key));
        let first = held.next().flatten();
        if held.any(|record| record != first) {
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
