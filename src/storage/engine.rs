//! The real engine: one redb file, one write transaction per turn.
//!
//! The transaction opens at the turn's first `apply`, the turn reads through it, and `persist` commits it durably:
//! so a reader beside the loop can see nothing that a crash could take back. A new file is made under another name
//! and renamed once it is whole, because a crash inside the very first creation leaves what the engine cannot open.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redb::{
    Builder, Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageBackend, TableDefinition, WriteTransaction,
};

use super::{Batch, Range, Read, Row, Storage, StorageError, Table};

/// The file in the data directory.
pub const FILE_NAME: &str = "reknit.redb";
/// Its name until its first creation is complete.
const NEW_FILE_NAME: &str = "reknit.redb.new";

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The engine's tables, in the order of [`Table`].
const TABLES: [Rows; Table::ALL.len()] = [
    TableDefinition::new("records"),
    TableDefinition::new("dots"),
    TableDefinition::new("seen"),
    TableDefinition::new("members"),
    TableDefinition::new("meta"),
];

/// A node's disk.
pub struct Engine {
    database: Arc<Database>,
    /// The open turn.
    turn: Option<WriteTransaction>,
    /// The state after the last turn, while none is open. Dropped before a turn begins: an old reader keeps the
    /// engine from reusing pages.
    between: Option<ReadTransaction>,
    is_broken: bool,
}

impl Engine {
    /// Opens the disk in a data directory, or makes both.
    ///
    /// # Errors
    /// Another process holds it, or it is no disk of ours; nothing is changed then.
    pub fn open(data_dir: &Path) -> Result<Engine, StorageError> {
        let failed = |error: std::io::Error| StorageError::Disk(format!("{}: {error}", data_dir.display()));
        fs::create_dir_all(data_dir).map_err(failed)?;
        let path = data_dir.join(FILE_NAME);
        if !path.try_exists().map_err(failed)? {
            let new = data_dir.join(NEW_FILE_NAME);
            create(&new)?;
            fs::rename(&new, &path).map_err(failed)?;
            File::open(data_dir).and_then(|directory| directory.sync_all()).map_err(failed)?;
        }
        let name = path.display().to_string();
        let database = guarded(&name, || Database::open(&path))?;
        Engine::over(database)
    }

    /// Opens the disk behind `backend`, or makes it if it is empty.
    ///
    /// # Errors
    /// It is no disk of ours.
    pub fn open_with(backend: impl StorageBackend) -> Result<Engine, StorageError> {
        let database = guarded("the disk", || Builder::new().create_with_backend(backend))?;
        Engine::over(database)
    }

    fn over(database: Database) -> Result<Engine, StorageError> {
        prepare(&database)?;
        let database = Arc::new(database);
        let between = Some(database.begin_read().map_err(broken)?);
        Ok(Engine { database, turn: None, between, is_broken: false })
    }

    /// A handle for readers beside the loop.
    pub fn reader(&self) -> Reader {
        Reader { database: Arc::clone(&self.database) }
    }

    fn apply_in_turn(&mut self, batch: &Batch) -> Result<(), StorageError> {
        if self.turn.is_none() {
            self.between = None;
            let mut turn = self.database.begin_write().map_err(broken)?;
            turn.set_durability(Durability::Immediate).map_err(broken)?;
            self.turn = Some(turn);
        }
        let turn = self.turn.as_ref().expect("just opened");
        let mut changes = batch.changes.iter().peekable();
        while let Some((table, ..)) = changes.peek() {
            let table = *table;
            let mut rows = turn.open_table(TABLES[table as usize]).map_err(broken)?;
            while let Some((_, key, value)) = changes.next_if(|(next, ..)| *next == table) {
                match value {
                    Some(value) => drop(rows.insert(key.as_slice(), value.as_slice()).map_err(broken)?),
                    None => drop(rows.remove(key.as_slice()).map_err(broken)?),
                }
            }
        }
        Ok(())
    }

    fn commit_turn(&mut self) -> Result<(), StorageError> {
        let Some(turn) = self.turn.take() else { return Ok(()) };
        turn.commit().map_err(broken)?;
        self.between = Some(self.database.begin_read().map_err(broken)?);
        Ok(())
    }

    /// After a failure nobody knows what the open turn holds, so the value is of no use any more.
    fn unless_broken<T>(
        &mut self,
        act: impl FnOnce(&mut Engine) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if self.is_broken {
            return Err(StorageError::Disk("it failed before".into()));
        }
        let result = catch_unwind(AssertUnwindSafe(|| act(self)))
            .unwrap_or_else(|_| Err(StorageError::Damaged("the engine panicked over it".into())));
        self.is_broken = result.is_err();
        result
    }
}

impl Read for Engine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        match (&self.turn, &self.between) {
            (Some(turn), _) => get(&turn.open_table(TABLES[table as usize]).map_err(broken)?, key),
            (None, Some(between)) => between.get(table, key),
            (None, None) => Err(StorageError::Disk("it failed before".into())),
        }
    }

    fn scan(
        &self,
        table: Table,
        range: Range<'_>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StorageError> {
        match (&self.turn, &self.between) {
            (Some(turn), _) => {
                let rows = turn.open_table(TABLES[table as usize]).map_err(broken)?;
                scan(&rows, range, limit, reverse)
            }
            (None, Some(between)) => between.scan(table, range, limit, reverse),
            (None, None) => Err(StorageError::Disk("it failed before".into())),
        }
    }
}

impl Storage for Engine {
    fn apply(&mut self, batch: Batch) -> Result<(), StorageError> {
        self.unless_broken(|engine| engine.apply_in_turn(&batch))
    }

    fn persist(&mut self) -> Result<Duration, StorageError> {
        self.unless_broken(Engine::commit_turn)?;
        Ok(Duration::ZERO)
    }
}

/// Reads beside the loop. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    database: Arc<Database>,
}

impl Reader {
    /// Shows one consistent durable state to `read`. Keep it short: an open view holds disk pages.
    ///
    /// # Errors
    /// What `read` returns, or that no view could be opened.
    pub fn snapshot<T>(
        &self,
        read: impl FnOnce(&dyn Read) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let view = self.database.begin_read().map_err(broken)?;
        read(&view)
    }
}

impl Read for ReadTransaction {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        get(&self.open_table(TABLES[table as usize]).map_err(broken)?, key)
    }

    fn scan(
        &self,
        table: Table,
        range: Range<'_>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StorageError> {
        scan(&self.open_table(TABLES[table as usize]).map_err(broken)?, range, limit, reverse)
    }
}

fn get(
    rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<Vec<u8>>, StorageError> {
    let value = rows.get(key).map_err(broken)?;
    Ok(value.map(|value| value.value().to_vec()))
}

fn scan(
    rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    range: Range<'_>,
    limit: usize,
    reverse: bool,
) -> Result<Vec<Row>, StorageError> {
    if super::memory::is_empty(range) {
        return Ok(Vec::new());
    }
    let mut found = rows.range::<&[u8]>(range).map_err(broken)?;
    let mut out = Vec::new();
    while out.len() < limit {
        let next = if reverse { found.next_back() } else { found.next() };
        let Some(row) = next else { break };
        let (key, value) = row.map_err(broken)?;
        out.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(out)
}

/// Makes a whole new file, in place of what an interrupted attempt may have left.
fn create(path: &Path) -> Result<(), StorageError> {
    let failed = |error: std::io::Error| StorageError::Disk(format!("{}: {error}", path.display()));
    if path.try_exists().map_err(failed)? {
        fs::remove_file(path).map_err(failed)?;
    }
    let database = guarded(&path.display().to_string(), || Database::create(path))?;
    prepare(&database)?;
    drop(database);
    File::open(path).and_then(|file| file.sync_all()).map_err(failed)
}

/// Sees to it that every table exists, so that readers never meet a missing one.
fn prepare(database: &Database) -> Result<(), StorageError> {
    let is_ready = |view: &ReadTransaction| TABLES.iter().all(|table| view.open_table(*table).is_ok());
    if is_ready(&database.begin_read().map_err(broken)?) {
        return Ok(());
    }
    let turn = database.begin_write().map_err(broken)?;
    for table in TABLES {
        turn.open_table(table).map_err(broken)?;
    }
    turn.commit().map_err(broken)
}

/// Opens a database; what the engine cannot read must not bring the process down with a panic.
fn guarded(
    name: &str,
    open: impl FnOnce() -> Result<Database, DatabaseError>,
) -> Result<Database, StorageError> {
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(StorageError::Locked),
        Ok(Err(error)) => Err(StorageError::Damaged(format!("{name}: {error}"))),
        Err(_) => Err(StorageError::Damaged(format!("{name}: the engine panicked over it"))),
    }
}

fn broken(error: impl std::fmt::Display) -> StorageError {
    StorageError::Disk(error.to_string())
}
