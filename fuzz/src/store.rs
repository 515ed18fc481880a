//! Any bytes as a store's file: an error or a store, never a panic. And any operations with crashes between them,
//! against a map: after a crash there is what was persisted last, or what was persisted and is said to be unknown.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use arbitrary::{Result, Unstructured};
use redb::StorageBackend;
use reknit::storage::engine::Engine;
use reknit::storage::{Batch, Read, Storage, Table};

/// Most steps of one story.
const STEPS_MAX: usize = 24;
const TABLES: [Table; 3] = [Table::Records, Table::Dots, Table::Meta];
/// Most bytes of a file: beyond it a damaged header asks for more than any test needs.
const FILE_BYTES_MAX: u64 = 64 << 20;

pub fn run(bytes: &[u8]) {
    if let Ok(engine) = Engine::open_with(File::holding(bytes)) {
        // It may break while it is read, and says so.
        let _ = engine.scan(Table::Records, (Bound::Unbounded, Bound::Unbounded), 100, false);
    }
    // What is left of the bytes when a story runs out of them is its end.
    let _ = story(&mut Unstructured::new(bytes));
}

type Model = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

fn story(input: &mut Unstructured<'_>) -> Result<()> {
    let file = File::default();
    let mut engine = Engine::open_with(file.clone()).expect("a new store");
    let (mut durable, mut now) = (Model::new(), Model::new());
    for _ in 0..input.int_in_range(0..=STEPS_MAX)? {
        match input.int_in_range(0..=7_u8)? {
            0 => {
                engine.persist().expect("a good disk");
                durable.clone_from(&now);
            }
            1 => {
                drop(engine);
                engine = Engine::open_with(file.clone()).expect("a store survives a crash");
                now.clone_from(&durable);
            }
            2 => return damage(&file, engine, input),
            _ => apply(&mut engine, &mut now, input)?,
        }
        compare(&engine, &now);
    }
    Ok(())
}

fn apply(engine: &mut Engine, now: &mut Model, input: &mut Unstructured<'_>) -> Result<()> {
    let mut batch = Batch::default();
    for _ in 0..input.int_in_range(1..=4)? {
        let table = input.choose_index(TABLES.len())?;
        let key = vec![input.int_in_range(0..=9_u8)?; input.int_in_range(1..=3)?];
        if input.ratio(1, 4)? {
            batch.remove(TABLES[table], key.clone());
            now.remove(&(table, key));
        } else {
            let value = vec![input.arbitrary::<u8>()?; input.int_in_range(0..=5000)?];
            batch.put(TABLES[table], key.clone(), value.clone());
            now.insert((table, key), value);
        }
    }
    engine.apply(batch).expect("a good disk");
    Ok(())
}

/// What the turn reads is what it wrote.
fn compare(engine: &Engine, now: &Model) {
    for (at, table) in TABLES.into_iter().enumerate() {
        let rows =
            engine.scan(table, (Bound::Unbounded, Bound::Unbounded), usize::MAX, false).expect("a good disk");
        let wanted: Vec<_> = now
            .range((at, Vec::new())..(at + 1, Vec::new()))
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(rows, wanted, "{table:?} reads otherwise than it was written");
    }
}

/// Changes bytes of the file and opens it: whatever that does, it is no panic. Ends the story.
fn damage(file: &File, engine: Engine, input: &mut Unstructured<'_>) -> Result<()> {
    drop(engine);
    for _ in 0..input.int_in_range(1..=8)? {
        let mut bytes = file.bytes.lock().expect("nobody panics here");
        if !bytes.is_empty() {
            let at = input.int_in_range(0..=bytes.len() - 1)?;
            bytes[at] ^= input.int_in_range(1..=255_u8)?;
        }
    }
    if let Ok(mut engine) = Engine::open_with(file.clone()) {
        for table in TABLES {
            let _ = engine.scan(table, (Bound::Unbounded, Bound::Unbounded), 100, false);
        }
        let mut batch = Batch::default();
        batch.put(Table::Meta, b"k", b"v".to_vec());
        let _ = engine.apply(batch).and_then(|()| engine.persist());
    }
    Ok(())
}

/// A file in memory that outlives the store that had it open.
#[derive(Clone, Debug, Default)]
struct File {
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl File {
    fn holding(bytes: &[u8]) -> File {
        File { bytes: Arc::new(Mutex::new(bytes.to_vec())) }
    }
}

impl StorageBackend for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().expect("nobody panics here").len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes.lock().expect("nobody panics here");
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let end = from.checked_add(out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes.get(from..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > FILE_BYTES_MAX {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.lock().expect("nobody panics here").resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut bytes = self.bytes.lock().expect("nobody panics here");
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let end = from.checked_add(data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.get_mut(from..end).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        Ok(())
    }
}
