//! The disk of a real node: redb, with one write transaction per turn.
//!
//! What a turn applies is kept beside the state before it, read through by the rest of the turn, and written and
//! committed by `persist`. So whatever another read transaction shows is durable, and a turn that ends in an error or a
//! crash leaves nothing behind. An [`Engine`] that met an error is broken for good: drop it and open the disk again.
//!
//! Where the bytes live is left to a [`Place`]: a directory here, a simulated disk in the simulator; both go
//! through the same first creation.

mod directory;
#[cfg(test)]
pub(super) mod shared_file;
mod turn;

use std::cell::{Cell, OnceCell};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redb::{
    Database, DatabaseError, ReadOnlyTable, ReadTransaction, ReadableDatabase, StorageBackend,
    TableDefinition, TableError,
};

use super::backup::{self, BackupError, Counted};
use super::memory::is_empty;
use super::{Batch, Range, Read, Row, Storage, StorageError, Table};
use directory::Directory;
use turn::Turn;

/// Most memory that the engine spends on pages of the file; redb's own default would be 1 GiB.
const CACHE_BYTES_MAX: usize = 128 << 20;

type Bytes = &'static [u8];

/// Where a store's one file lives. A new file is made under a temporary name and becomes the store only once it
/// is whole, so that a crash in the middle leaves no store rather than half of one.
pub trait Place {
    /// The file's bytes.
    type File: StorageBackend;

    /// For error messages.
    fn name(&self) -> String;

    /// Whether a finished store is here.
    ///
    /// # Errors
    /// The disk does not tell.
    fn holds_store(&self) -> std::io::Result<bool>;

    /// An empty file under the temporary name; what an interrupted creation left there is discarded.
    ///
    /// # Errors
    /// The disk is full, broken or read-only.
    fn begin(&self) -> std::io::Result<Self::File>;

    /// Makes the file of [`Place::begin`] the store, durably and all at once. It is closed by then.
    ///
    /// # Errors
    /// As [`Place::begin`].
    fn finish(&self) -> std::io::Result<()>;

    /// The finished store.
    ///
    /// # Errors
    /// It cannot be read and written.
    fn file(&self) -> std::io::Result<Self::File>;
}

/// Storage in a redb file.
#[derive(Debug)]
pub struct Engine {
    // The order of the fields is the order in which they are dropped: transactions end before the file is closed,
    // and the directory is unlocked last.
    turn: Turn,
    /// What was durable after the last turn. Let go of by the next commit: an old reader makes the file grow.
    view: OnceCell<View>,
    database: Arc<Open>,
    broken: Cell<bool>,
    _place: Option<Directory>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        let view = self.view.take();
        quietly(move || drop(view));
    }
}

/// The open database. redb writes when it closes, which on a damaged file can panic; there is nobody left to tell then,
/// and the next opening finds out by itself.
#[derive(Debug)]
struct Open(Option<Database>);

impl Deref for Open {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let database = self.0.take();
        quietly(move || drop(database));
    }
}

impl Engine {
    /// Opens the store in `data_dir`, or creates it there if there is none. Nothing that exists is overwritten.
    ///
    /// # Errors
    /// [`StorageError::Locked`] while another engine holds the directory, [`StorageError::Damaged`] when the file
    /// there is no store, [`StorageError::Disk`] when the system refuses.
    pub fn open(data_dir: &Path) -> Result<Engine, StorageError> {
        let directory = Directory::lock(data_dir)?;
        let mut engine = Engine::open_in(&directory)?;
        engine._place = Some(directory);
        Ok(engine)
    }

    /// Makes a new store in `data_dir` from a backup. It stands there whole or not at all, and never in place of
    /// another one.
    ///
    /// # Errors
    /// There is a store already, the backup is damaged, or the system refuses.
    pub fn restore(data_dir: &Path, backup: &Path) -> Result<Counted, BackupError> {
        let open = || std::fs::File::open(backup).map(std::io::BufReader::new);
        backup::check(&mut open()?)?;
        let directory = Directory::lock(data_dir)?;
        if directory.holds_store()? {
            return Err(BackupError::NotEmpty);
        }
        let mut engine = Engine::open_file(directory.begin()?, &directory.name())?;
        let counted = backup::restore(&mut open()?, &mut engine)?;
        drop(engine);
        directory.finish()?;
        Ok(counted)
    }

    /// Opens the store of a place that nobody else uses, or creates it there if there is none.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_in(place: &impl Place) -> Result<Engine, StorageError> {
        let name = place.name();
        let failed = |error: std::io::Error| StorageError::Disk(format!("{name}: {error}"));
        if !place.holds_store().map_err(failed)? {
            let file = place.begin().map_err(failed)?;
            drop(Engine::open_file(file, &name)?);
            place.finish().map_err(failed)?;
        }
        let file = place.file().map_err(failed)?;
        if file.len().map_err(failed)? == 0 {
            return Err(StorageError::Damaged(format!("{name}: the file is empty")));
        }
        Engine::open_file(file, &name)
    }

    /// Opens the store in `backend`, or creates it there if that is empty.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_with(backend: impl StorageBackend) -> Result<Engine, StorageError> {
        Engine::open_file(backend, "the store")
    }

    fn open_file(file: impl StorageBackend, name: &str) -> Result<Engine, StorageError> {
        // On a damaged file redb may panic rather than fail.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let is_new = file.len().map_err(DatabaseError::from)? == 0;
            let mut builder = Database::builder();
            builder.set_cache_size(CACHE_BYTES_MAX);
            Ok((builder.create_with_backend(file)?, is_new))
        }));
        let opened = opened.unwrap_or_else(|panic| {
            let reason = format!("the engine gave up: {}", panic_text(&*panic));
            Err(DatabaseError::Storage(redb::StorageError::Corrupted(reason)))
        });
        let (database, is_new) = opened.map_err(|error| name_it(name, open_error(error)))?;
        let engine = Engine {
            turn: Turn::default(),
            view: OnceCell::new(),
            database: Arc::new(Open(Some(database))),
            broken: Cell::new(false),
            _place: None,
        };
        if is_new {
            engine.guard(|engine| engine.lay_out()).map_err(|error| name_it(name, error))?;
        }
        engine.guard(|engine| engine.view()?.open_all()).map_err(|error| name_it(name, error))?;
        Ok(engine)
    }

    fn lay_out(&self) -> Result<(), StorageError> {
        let write = self.database.begin_write().map_err(broken)?;
        for table in Table::ALL {
            write.open_table(definition(table)).map_err(broken)?;
        }
        write.commit().map_err(broken)
    }

    fn commit(&self, turn: Turn) -> Result<(), StorageError> {
        let write = self.database.begin_write().map_err(broken)?;
        for (table, changes) in turn.into_changes() {
            let mut rows = write.open_table(definition(table)).map_err(broken)?;
            for (key, value) in changes {
                match value {
                    Some(value) => rows.insert(&*key, &*value).map(drop).map_err(broken)?,
                    None => rows.remove(&*key).map(drop).map_err(broken)?,
                }
            }
        }
        write.commit().map_err(broken)
    }

    /// Reads durable turns beside the loop.
    pub fn reader(&self) -> Reader {
        Reader { database: Arc::downgrade(&self.database) }
    }

    /// Does `work` unless the engine is broken, and remembers if it broke by that. Ordinary reads of a damaged
    /// file can panic inside redb; that must end this node's run, not its process.
    fn guard<T>(&self, work: impl FnOnce(&Engine) -> Result<T, StorageError>) -> Result<T, StorageError> {
        if self.broken.get() {
            return Err(StorageError::Disk("an earlier failure; the store must be opened again".into()));
        }
        let result = caught(|| work(self));
        if result.is_err() {
            self.broken.set(true);
        }
        result
    }

    /// What was durable after the last turn.
    fn view(&self) -> Result<&View, StorageError> {
        if let Some(view) = self.view.get() {
            return Ok(view);
        }
        let view = View::new(&self.database)?;
        Ok(self.view.get_or_init(|| view))
    }
}

impl Read for Engine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.guard(|engine| match engine.turn.get(table, key) {
            Some(changed) => Ok(changed),
            None => engine.view()?.get(table, key),
        })
    }

    fn scan(
        &self,
        table: Table,
        range: Range<'_>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StorageError> {
        self.guard(|engine| {
            let rows = engine.view()?.table(table)?;
            if is_empty(range) {
                return Ok(Vec::new());
            }
            let rows = rows.range::<&[u8]>(range).map_err(broken)?;
            if reverse {
                engine.turn.scan(table, range, rows.rev().map(own), limit, reverse)
            } else {
                engine.turn.scan(table, range, rows.map(own), limit, reverse)
            }
        })
    }
}

impl Storage for Engine {
    fn apply(&mut self, batch: Batch) -> Result<(), StorageError> {
        self.guard(|_| Ok(()))?;
        if !batch.changes.is_empty() {
            self.turn.apply(batch);
        }
        Ok(())
    }

    fn persist(&mut self) -> Result<Duration, StorageError> {
        self.guard(|_| Ok(()))?;
        if self.turn.is_begun() {
            let turn = std::mem::take(&mut self.turn);
            self.view = OnceCell::new();
            self.guard(|engine| engine.commit(turn))?;
        }
        Ok(Duration::ZERO)
    }
}

/// Reads durable turns from any thread. Cheap to clone.
///
/// It does not keep the store open: after the engine is dropped every snapshot fails.
#[derive(Clone, Debug)]
pub struct Reader {
    database: Weak<Open>,
}

impl Reader {
    /// Shows `work` the rows as they were after the last turn that was persisted. The snapshot lives as long as
    /// `work` runs, and the file grows meanwhile: keep it short, and go on from a cursor.
    ///
    /// # Errors
    /// The disk is broken, the engine is gone, or `work` says so.
    pub fn snapshot<T>(
        &self,
        work: impl FnOnce(&dyn Read) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let gone = || StorageError::Disk("the store is closed".into());
        let database = self.database.upgrade().ok_or_else(gone)?;
        caught(|| work(&View::new(&database)?))
    }
}

/// One read transaction: every table as the last commit left it, opened once it is asked for. Most readers want one or
/// two of them, and to open one costs as much as to read a row.
struct View {
    tables: [OnceCell<ReadOnlyTable<Bytes, Bytes>>; Table::ALL.len()],
    read: ReadTransaction,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("View")
    }
}

impl View {
    fn new(database: &Database) -> Result<View, StorageError> {
        Ok(View { tables: Default::default(), read: database.begin_read().map_err(broken)? })
    }

    /// Whether all tables are there.
    fn open_all(&self) -> Result<(), StorageError> {
        Table::ALL.into_iter().try_for_each(|table| self.table(table).map(drop))
    }

    fn table(&self, table: Table) -> Result<&ReadOnlyTable<Bytes, Bytes>, StorageError> {
        let place = &self.tables[table as usize];
        if let Some(rows) = place.get() {
            return Ok(rows);
        }
        let rows = match self.read.open_table(definition(table)) {
            Err(TableError::TableDoesNotExist(name)) => {
                let reason = format!("no table `{name}`: this is no store of reknit's");
                return Err(StorageError::Damaged(reason));
            }
            opened => opened.map_err(broken)?,
        };
        Ok(place.get_or_init(|| rows))
    }
}

impl Read for View {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let value = self.table(table)?.get(key).map_err(broken)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn scan(
        &self,
        table: Table,
        range: Range<'_>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StorageError> {
        if is_empty(range) {
            return Ok(Vec::new());
        }
        let rows = self.table(table)?.range::<&[u8]>(range).map_err(broken)?;
        if reverse { rows.rev().take(limit).map(own).collect() } else { rows.take(limit).map(own).collect() }
    }
}

type Guarded<'a> = (redb::AccessGuard<'a, Bytes>, redb::AccessGuard<'a, Bytes>);

/// A row's own bytes.
fn own(row: Result<Guarded<'_>, redb::StorageError>) -> Result<Row, StorageError> {
    let (key, value) = row.map_err(broken)?;
    Ok((key.value().to_vec(), value.value().to_vec()))
}

/// The names are part of the disk format.
fn definition(table: Table) -> TableDefinition<'static, Bytes, Bytes> {
    TableDefinition::new(match table {
        Table::Records => "records",
        Table::Dots => "dots",
        Table::Seen => "seen",
        Table::Members => "members",
        Table::Meta => "meta",
        Table::Tombs => "tombs",
        Table::Collected => "collected",
        Table::Horizon => "horizon",
        Table::Aside => "aside",
        Table::Chunks => "chunks",
        Table::Quarantine => "quarantine",
        Table::Versions => "versions",
        Table::Bodies => "bodies",
    })
}

fn caught<T>(work: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Err(StorageError::Damaged(format!("the engine gave up: {}", panic_text(&*panic))))
    })
}

/// Lets go of something; a panic in that is over with it.
fn quietly(work: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(work));
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}

fn open_error(error: DatabaseError) -> StorageError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StorageError::Locked,
        DatabaseError::Storage(error) => broken(error),
        error => StorageError::Damaged(error.to_string()),
    }
}

/// What redb said, in our words.
fn broken(error: impl Into<redb::Error>) -> StorageError {
    use std::io::ErrorKind;
    match error.into() {
        redb::Error::Corrupted(reason) => StorageError::Damaged(reason),
        // Sizes and offsets that the file itself names, and that lead out of it.
        redb::Error::Io(error)
            if matches!(
                error.kind(),
                ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof
            ) =>
        {
            StorageError::Damaged(error.to_string())
        }
        error @ (redb::Error::TableTypeMismatch { .. } | redb::Error::TableIsMultimap(_)) => {
            StorageError::Damaged(error.to_string())
        }
        redb::Error::Io(error)
            if matches!(
                error.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
            ) =>
        {
            StorageError::Full(error.to_string())
        }
        error => StorageError::Disk(error.to_string()),
    }
}

fn name_it(name: &str, error: StorageError) -> StorageError {
    match error {
        StorageError::Disk(reason) => StorageError::Disk(format!("{name}: {reason}")),
        StorageError::Full(reason) => StorageError::Full(format!("{name}: {reason}")),
        StorageError::Damaged(reason) => StorageError::Damaged(format!("{name}: {reason}")),
        StorageError::Locked => StorageError::Locked,
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
