//! IDX: the log of a disk, from dot to key, is exactly the image of its records, in both directions; and so are the
//! bodies that versions have in common.

use std::collections::BTreeSet;
use std::ops::Bound;

use reknit::model::{Dot, Key, Origin};
use reknit::storage::{Read, StorageError, Table, rows};

/// What is wrong with the log of a store, if something is. What a rotten record should have there nobody knows.
pub fn judge(store: &(impl Read + ?Sized)) -> Option<String> {
    match differences(store) {
        Ok(wrong) => wrong,
        Err(error) => Some(format!("the log cannot be judged: {error}")),
    }
}

fn differences(store: &(impl Read + ?Sized)) -> Result<Option<String>, StorageError> {
    let (first, last) = (Dot { origin: Origin(0), seq: 0 }, Dot { origin: Origin(u64::MAX), seq: u64::MAX });
    let logged: BTreeSet<(Dot, Key)> = rows::dots(store, first, last, usize::MAX)?.into_iter().collect();
    let mut held = BTreeSet::new();
    let mut rotten = BTreeSet::new();
    let mut bodies = BTreeSet::new();
    for (key, record) in rows::records(store, (Bound::Unbounded, Bound::Unbounded), usize::MAX, false)? {
        if !record.is_sound() {
            rotten.insert(key);
            continue;
        }
        bodies.extend(rows::places_of_bodies(&key, record.versions()));
        held.extend(record.versions().iter().map(|version| (version.dot, key.clone())));
    }
    if let Some((dot, key)) = held.difference(&logged).next() {
        return Ok(Some(format!("{dot} of {key} is held and stands in no row of the log")));
    }
    // A rotten record may have bodies, or what is left of them.
    let all = store.scan(Table::Bodies, (Bound::Unbounded, Bound::Unbounded), usize::MAX, false)?;
    if rotten.is_empty() && !all.iter().map(|(place, _)| place).eq(&bodies) {
        return Ok(Some(format!("{} bodies are stored, and {} are needed", all.len(), bodies.len())));
    }
    let stray = logged.difference(&held).find(|(_, key)| !rotten.contains(key));
    Ok(stray.map(|(dot, key)| format!("the log has {dot} under {key}, which does not hold it")))
}

#[cfg(test)]
mod tests {
    use reknit::model::{Row, Stamp, Version, WallTime};
    use reknit::storage::memory::Memory;
    use reknit::storage::{Batch, Storage};

    use super::*;

    fn version(seq: u64) -> Version {
        Version {
            stamp: Stamp { millis: 1_000, counter: 0 },
            dot: Dot { origin: Origin(10), seq },
            author_joined: WallTime(1),
            ruling: 0,
            confirms: None,
            tombstone: false,
            expires_at: None,
            content_type: "text/plain".to_owned(),
            value: format!("v{seq}").into(),
        }
    }

    fn store(logged: &[(u64, &str)]) -> Memory {
        let mut store = Memory::default();
        let mut batch = Batch::default();
        let key = Key::from_path("k").expect("a key");
        rows::put_row(&mut batch, &key, &Row::one(version(1)), &[]);
        for (seq, key) in logged {
            let dot = rows::encode_dot(Dot { origin: Origin(10), seq: *seq });
            batch.put(Table::Dots, dot, key.as_bytes());
        }
        store.apply(batch).expect("memory does not fail");
        store
    }

    #[test]
    fn a_log_that_names_just_what_is_held_is_well() {
        assert_eq!(judge(&store(&[(1, "k")])), None);
    }

    #[test]
    fn a_row_of_a_version_that_was_replaced_is_found() {
        let found = judge(&store(&[(1, "k"), (2, "k")])).expect("a stray row");
        assert!(found.contains("which does not hold it"), "{found}");
    }

    #[test]
    fn a_version_under_another_key_than_its_own_is_found() {
        let store = store(&[(1, "other")]);
        assert!(judge(&store).is_some());
        assert!(crate::check::inspect(&store).iter().any(|(code, _)| *code == "IDX"));
    }
}
