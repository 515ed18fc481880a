use std::ops::Bound;
use std::path::Path;

use super::shared_file::SharedFile;
use super::*;

fn batch(key: &str, value: &str) -> Batch {
    let mut batch = Batch::default();
    batch.put(Table::Meta, key, value);
    batch
}

fn value(store: &dyn Read, key: &str) -> Option<String> {
    let value = store.get(Table::Meta, key.as_bytes()).expect("a whole disk");
    value.map(|value| String::from_utf8(value).expect("text"))
}

fn files(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = std::fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn a_new_directory_gets_a_store_that_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("deep/data");

    let mut engine = Engine::open(&data).unwrap();
    engine.apply(batch("color", "red")).unwrap();
    engine.persist().unwrap();
    drop(engine);

    let engine = Engine::open(&data).unwrap();
    assert_eq!(value(&engine, "color").as_deref(), Some("red"));
    assert_eq!(files(&data), ["reknit.lock", "reknit.redb"]);
}

#[test]
fn a_dropped_engine_loses_exactly_the_turn_that_was_not_persisted() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::open(dir.path()).unwrap();
    engine.apply(batch("kept", "1")).unwrap();
    engine.apply(batch("kept too", "2")).unwrap();
    engine.persist().unwrap();

    engine.apply(batch("kept", "lost")).unwrap();
    engine.apply(batch("never", "lost")).unwrap();
    assert_eq!(value(&engine, "kept").as_deref(), Some("lost"), "the turn reads its own writes");
    drop(engine);

    let engine = Engine::open(dir.path()).unwrap();
    assert_eq!(value(&engine, "kept").as_deref(), Some("1"));
    assert_eq!(value(&engine, "kept too").as_deref(), Some("2"));
    assert_eq!(value(&engine, "never"), None);
}

#[test]
fn readers_see_a_turn_once_it_is_persisted_and_keep_their_snapshot() {
    let mut engine = Engine::open_with(SharedFile::default()).unwrap();
    let reader = engine.reader();
    let read = |key: &'static str| reader.snapshot(|view| Ok(value(view, key))).unwrap();

    engine.apply(batch("color", "red")).unwrap();
    assert_eq!(read("color"), None);
    engine.persist().unwrap();
    assert_eq!(read("color").as_deref(), Some("red"));

    let seen = reader.snapshot(|view| {
        engine.apply(batch("color", "blue")).unwrap();
        engine.persist().unwrap();
        Ok(value(view, "color"))
    });
    assert_eq!(seen.unwrap().as_deref(), Some("red"));
    assert_eq!(read("color").as_deref(), Some("blue"));
}

#[test]
fn a_reader_outlives_its_engine_without_holding_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path()).unwrap();
    let reader = engine.reader();

    drop(engine);

    assert!(matches!(reader.snapshot(|_| Ok(())), Err(StorageError::Disk(_))));
    Engine::open(dir.path()).unwrap();
}

#[test]
fn readers_work_on_other_threads_beside_the_turn() {
    let mut engine = Engine::open_with(SharedFile::default()).unwrap();
    engine.apply(batch("count", "0")).unwrap();
    engine.persist().unwrap();

    std::thread::scope(|scope| {
        for _ in 0..2 {
            let reader = engine.reader();
            scope.spawn(move || {
                let mut last = 0;
                while last < 50 {
                    let now = reader.snapshot(|view| Ok(value(view, "count"))).unwrap().unwrap();
                    let now: u32 = now.parse().unwrap();
                    assert!(now >= last, "time does not run backwards");
                    last = now;
                }
            });
        }
        for count in 1..=50 {
            engine.apply(batch("count", &count.to_string())).unwrap();
            engine.persist().unwrap();
        }
    });
}

#[test]
fn of_several_changes_to_a_row_the_last_one_counts() {
    let mut engine = Engine::open_with(SharedFile::default()).unwrap();
    let mut changes = batch("a", "first");
    changes.remove(Table::Meta, "a");
    changes.put(Table::Records, "a", "elsewhere");
    changes.put(Table::Meta, "a", "last");
    changes.put(Table::Meta, "b", "gone");
    changes.remove(Table::Meta, "b");

    engine.apply(changes).unwrap();

    assert_eq!(value(&engine, "a").as_deref(), Some("last"));
    assert_eq!(value(&engine, "b"), None);
}

#[test]
fn an_interrupted_creation_counts_as_none() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("reknit.redb.new"), b"half of a store").unwrap();

    let engine = Engine::open(dir.path()).unwrap();

    assert_eq!(value(&engine, "anything"), None);
    assert_eq!(files(dir.path()), ["reknit.lock", "reknit.redb"]);
}

#[test]
fn a_directory_serves_one_engine_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = Engine::open(dir.path()).unwrap();

    assert!(matches!(Engine::open(dir.path()), Err(StorageError::Locked)));

    drop(first);
    Engine::open(dir.path()).unwrap();
}

#[test]
fn a_file_that_another_redb_holds_counts_as_locked() {
    let dir = tempfile::tempdir().unwrap();
    drop(Engine::open(dir.path()).unwrap());
    let _other = Database::open(dir.path().join("reknit.redb")).unwrap();

    assert!(matches!(Engine::open(dir.path()), Err(StorageError::Locked)));
}

#[test]
fn what_is_no_store_is_named_and_left_as_it_is() {
    for garbage in [&b""[..], b"RKNT", &[0; 4096], &[0xa5; 100_000]] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reknit.redb");
        std::fs::write(&path, garbage).unwrap();

        let error = Engine::open(dir.path()).unwrap_err();

        assert!(matches!(error, StorageError::Damaged(_)), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), garbage);
    }
}

#[test]
fn a_store_of_somebody_else_is_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("reknit.redb");
    let other = Database::create(&path).unwrap();
    let write = other.begin_write().unwrap();
    write.open_table(TableDefinition::<u64, u64>::new("theirs")).unwrap();
    write.commit().unwrap();
    drop(other);

    let error = Engine::open(dir.path()).unwrap_err();

    assert!(matches!(error, StorageError::Damaged(_)), "{error}");
}

#[test]
fn a_truncated_store_is_damaged_or_whole_but_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::open(dir.path()).unwrap();
    for row in 0..500 {
        engine.apply(batch(&format!("row/{row}"), &"x".repeat(100))).unwrap();
    }
    engine.persist().unwrap();
    drop(engine);
    let path = dir.path().join("reknit.redb");
    let whole = std::fs::read(&path).unwrap();

    for cut in [1, 9, 100, 511, 4096, 10_000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let result = Engine::open(dir.path());
        let error = result.expect_err("part of it is missing");
        assert!(matches!(error, StorageError::Damaged(_)), "cut at {cut}: {error}");
    }
}

#[test]
fn a_store_with_a_damaged_byte_is_opened_used_and_closed_without_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = Engine::open(dir.path()).unwrap();
    for row in 0..50 {
        engine.apply(batch(&format!("row/{row}"), &"x".repeat(100))).unwrap();
    }
    engine.persist().unwrap();
    drop(engine);
    let path = dir.path().join("reknit.redb");
    let whole = std::fs::read(&path).unwrap();

    for at in (0..whole.len()).step_by(257).take(600) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        std::fs::write(&path, &bytes).unwrap();
        // Whatever it says: the test is over only if nothing panics, closing included.
        if let Ok(mut engine) = Engine::open(dir.path()) {
            let _ = engine.scan(Table::Meta, (Bound::Unbounded, Bound::Unbounded), 100, false);
            let _ = engine.apply(batch("row/1", "y")).and_then(|()| engine.persist());
        }
    }
}

#[test]
fn after_an_error_every_call_fails() {
    let file = SharedFile::default();
    let mut engine = Engine::open_with(file.clone()).unwrap();
    engine.apply(batch("color", "red")).unwrap();
    engine.persist().unwrap();
    engine.apply(batch("color", "blue")).unwrap();

    file.fail(true);
    assert!(engine.persist().is_err());
    file.fail(false);

    assert!(engine.get(Table::Meta, b"color").is_err());
    assert!(engine.scan(Table::Meta, (Bound::Unbounded, Bound::Unbounded), 1, false).is_err());
    assert!(engine.apply(batch("color", "green")).is_err());
    assert!(engine.persist().is_err());
    drop(engine);
    let engine = Engine::open_with(file).unwrap();
    let color = value(&engine, "color");
    assert!(matches!(color.as_deref(), Some("red" | "blue")), "before the turn or after it, not {color:?}");
}

#[test]
fn a_turn_without_writes_does_not_touch_the_disk() {
    let file = SharedFile::default();
    let mut engine = Engine::open_with(file.clone()).unwrap();
    let before = file.syncs();

    engine.apply(Batch::default()).unwrap();
    engine.persist().unwrap();

    assert_eq!(file.syncs(), before);
}

#[test]
fn reading_between_turns_does_not_make_the_file_grow() {
    let file = SharedFile::default();
    let mut engine = Engine::open_with(file.clone()).unwrap();
    let mut turn = |round: u32| {
        engine.apply(batch(&format!("row/{}", round % 10), &"x".repeat(1000))).unwrap();
        engine.persist().unwrap();
        engine.get(Table::Meta, b"row/1").unwrap();
    };

    (0..50).for_each(&mut turn);
    let early = file.len();
    (50..1000).for_each(&mut turn);

    assert!(file.len() <= early * 2, "from {early} to {} bytes", file.len());
}

#[test]
fn a_backup_is_restored_into_an_empty_directory_only_and_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to, file) = (dir.path().join("from"), dir.path().join("to"), dir.path().join("backup"));
    let mut engine = Engine::open(&from).unwrap();
    engine.apply(batch("color", "red")).unwrap();
    engine.persist().unwrap();
    let mut bytes = Vec::new();
    engine.reader().snapshot(|store| Ok(backup::write(store, &mut bytes).unwrap())).unwrap();
    drop(engine);

    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(Engine::restore(&to, &file), Err(BackupError::Damaged(_))));
    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(Engine::restore(&to, &file).unwrap().bytes, bytes.len() as u64);
    assert!(matches!(Engine::restore(&to, &file), Err(BackupError::NotEmpty)));
    assert!(matches!(Engine::restore(&from, &file), Err(BackupError::NotEmpty)));

    assert_eq!(value(&Engine::open(&to).unwrap(), "color").as_deref(), Some("red"));
}
