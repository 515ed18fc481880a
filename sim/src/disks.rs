//! One node's disk in the full world: what redb writes to, with everything that a loss of power can do to it.
//!
//! A write is safe once it is synced. When the power fails, what was not synced is gone, or some 512-byte sectors
//! of it are there and others are not. The power can be made to fail at a sync, before or after that took effect,
//! and every handle from before then errors. A [`SimDisk`] is a handle too, and outlives the node.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::RngExt;
use redb::StorageBackend;
use reknit::storage::engine::{Engine, Place};
use reknit::storage::{Batch, Range, Read, Row, Storage, StorageError, Table};

use crate::random;
use crate::scenario::OnCrash;

/// What reaches a disk whole or not at all.
const SECTOR_BYTES: usize = 512;

/// One node's disk. Cheap to clone; the clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<Platter>>);

/// What a disk holds for good: a copy of it can be put on any disk.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// The store, once its creation is finished.
    store: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Platter {
    seed: u64,
    name: String,
    on_crash: OnCrash,
    store: Option<File>,
    temporary: Option<File>,
    /// Raised whenever the power comes or goes: handles of an earlier time find theirs outdated.
    power: u64,
    is_on: bool,
    crashes: u64,
    syncs: u64,
    dies: Option<Death>,
    fails: Option<Fails>,
}

/// What a disk that has power refuses to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fails {
    /// Every write, as a full disk does.
    AtWrite,
    /// Every sync.
    AtSync,
}

/// When the power fails: at this sync, counted as in [`Platter::syncs`].
#[derive(Clone, Copy, Debug)]
struct Death {
    at_sync: u64,
    takes_effect: bool,
}

#[derive(Clone, Debug, Default)]
struct File {
    /// As it reads now.
    bytes: Vec<u8>,
    /// As a loss of power leaves it at worst.
    synced: Vec<u8>,
    /// Sectors of `bytes` that were written since the last sync.
    unsynced: BTreeSet<usize>,
}

/// Where in its turn a disk is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtSync {
    /// The sync never happens.
    Before,
    /// The sync happens, and nobody learns of it.
    After,
}

impl SimDisk {
    /// The empty disk of the node called `name`, without power.
    pub fn new(seed: u64, name: &str, on_crash: OnCrash) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(Platter {
            seed,
            name: name.to_owned(),
            on_crash,
            store: None,
            temporary: None,
            power: 0,
            is_on: false,
            crashes: 0,
            syncs: 0,
            dies: None,
            fails: None,
        })))
    }

    /// Switches the power on.
    pub fn power_on(&self) -> Powered {
        let mut platter = self.platter();
        platter.power += 1;
        platter.is_on = true;
        Powered { disk: self.clone(), power: platter.power }
    }

    /// Lets the power fail, if it is on: what was not synced is lost or torn.
    pub fn power_off(&self) {
        self.platter().fail();
    }

    /// Whether it has power.
    pub fn is_on(&self) -> bool {
        self.platter().is_on
    }

    /// Lets the power fail at the `count`-th sync from now on, 1 being the next one.
    pub fn die_at_sync(&self, count: u64, when: AtSync) {
        let mut platter = self.platter();
        let at_sync = platter.syncs + count;
        platter.dies = Some(Death { at_sync, takes_effect: when == AtSync::After });
    }

    /// Takes the last [`SimDisk::die_at_sync`] back, if it has not come about, and [`SimDisk::fail`].
    pub fn disarm(&self) {
        let mut platter = self.platter();
        (platter.dies, platter.fails) = (None, None);
    }

    /// Lets every write or every sync fail until the power does, or until [`SimDisk::disarm`].
    pub fn fail(&self, fails: Fails) {
        self.platter().fails = Some(fails);
    }

    /// How many syncs there were.
    pub fn syncs(&self) -> u64 {
        self.platter().syncs
    }

    /// What a loss of power would leave of the store now, at worst.
    pub fn image(&self) -> Image {
        Image { store: self.platter().store.as_ref().map(|store| store.synced.clone()) }
    }

    /// Puts `image` in place of all that the disk holds. It has no power.
    pub fn replace(&self, image: Image) {
        let mut platter = self.platter();
        assert!(!platter.is_on, "a running node's disk is not exchanged");
        platter.store = image.store.map(File::from);
        platter.temporary = None;
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().expect("nothing panics while it holds a disk")
    }
}

impl Image {
    /// Opens a copy of the store, as a restart would; `None` if there is none.
    ///
    /// # Errors
    /// It does not open.
    pub fn open(&self) -> Result<Option<Engine>, StorageError> {
        if self.store.is_none() {
            return Ok(None);
        }
        let disk = SimDisk::new(0, "copy", OnCrash::LoseUnpersisted);
        disk.replace(self.clone());
        Engine::open_in(&disk.power_on()).map(Some)
    }
}

impl Platter {
    fn fail(&mut self) {
        if !self.is_on {
            return;
        }
        self.is_on = false;
        self.power += 1;
        self.crashes += 1;
        (self.dies, self.fails) = (None, None);
        let name = format!("disk/{}/crash/{}", self.name, self.crashes);
        let mut dice = random::stream(self.seed, &name);
        let is_torn = self.on_crash == OnCrash::TearUnpersisted;
        // Nearly all, half or hardly any of the sectors survive: drawn too, for each leads somewhere else.
        let share = if is_torn { dice.random_range(0.0..1.0) } else { 0.0 };
        for file in [&mut self.store, &mut self.temporary].into_iter().flatten() {
            file.lose(|| is_torn && dice.random_bool(share));
        }
    }

    /// Counts a sync; returns whether it takes effect, and whether the power fails at it.
    fn sync(&mut self) -> (bool, bool) {
        self.syncs += 1;
        let dies = self.dies.filter(|death| death.at_sync == self.syncs);
        dies.map_or((true, false), |death| (death.takes_effect, true))
    }
}

impl From<Vec<u8>> for File {
    fn from(bytes: Vec<u8>) -> File {
        File { synced: bytes.clone(), bytes, unsynced: BTreeSet::new() }
    }
}

impl File {
    fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(data);
        if end > offset {
            self.unsynced.extend(offset / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES);
        }
    }

    fn set_len(&mut self, len: usize) {
        // What is cut off and grown again reads as zeros, on the platter too.
        let (short, long) = (len.min(self.bytes.len()), len.max(self.bytes.len()));
        self.unsynced.extend(short / SECTOR_BYTES..long.div_ceil(SECTOR_BYTES));
        self.bytes.resize(len, 0);
    }

    fn sync(&mut self) {
        self.keep_len();
        for sector in std::mem::take(&mut self.unsynced) {
            self.keep(sector);
        }
    }

    /// Loses what was not synced, except for what `survives`: the length, then sector by sector.
    fn lose(&mut self, mut survives: impl FnMut() -> bool) {
        if self.bytes.len() != self.synced.len() && survives() {
            self.keep_len();
        }
        for sector in std::mem::take(&mut self.unsynced) {
            if survives() {
                self.keep(sector);
            }
        }
        self.bytes.clone_from(&self.synced);
    }

    fn keep_len(&mut self) {
        self.synced.resize(self.bytes.len(), 0);
    }

    /// Makes one sector durable, as far as both lengths reach.
    fn keep(&mut self, sector: usize) {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(self.bytes.len()).min(self.synced.len());
        if start < end {
            self.synced[start..end].copy_from_slice(&self.bytes[start..end]);
        }
    }
}

/// A disk while its power is on, and an error ever after.
#[derive(Clone, Debug)]
pub struct Powered {
    disk: SimDisk,
    power: u64,
}

impl Powered {
    fn platter(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = self.disk.platter();
        if platter.power == self.power { Ok(platter) } else { Err(no_power()) }
    }

    /// Does to the disk what `deed` says, at a sync at which the power may fail.
    fn synced(&self, deed: impl FnOnce(&mut Platter) -> io::Result<()>) -> io::Result<()> {
        let mut platter = self.platter()?;
        if platter.fails == Some(Fails::AtSync) {
            return Err(io::Error::other("a sync failed"));
        }
        let (takes_effect, dies) = platter.sync();
        if takes_effect {
            deed(&mut platter)?;
        }
        if dies {
            platter.fail();
            return Err(no_power());
        }
        Ok(())
    }
}

impl Place for Powered {
    type File = SimFile;

    fn name(&self) -> String {
        format!("the disk of {}", self.disk.platter().name)
    }

    fn holds_store(&self) -> io::Result<bool> {
        Ok(self.platter()?.store.is_some())
    }

    fn begin(&self) -> io::Result<SimFile> {
        self.platter()?.temporary = Some(File::default());
        Ok(SimFile { disk: self.clone(), is_temporary: true })
    }

    fn finish(&self) -> io::Result<()> {
        self.synced(|platter| {
            // The file's own bytes first, then its name.
            let mut file = platter.temporary.take().ok_or_else(no_file)?;
            file.sync();
            platter.store = Some(file);
            Ok(())
        })
    }

    fn file(&self) -> io::Result<SimFile> {
        Ok(SimFile { disk: self.clone(), is_temporary: false })
    }
}

/// A file on a disk that has power.
#[derive(Debug)]
pub struct SimFile {
    disk: Powered,
    is_temporary: bool,
}

impl SimFile {
    fn with<T>(&self, deed: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        deed(self.of(&mut *self.disk.platter()?)?)
    }

    fn of<'a>(&self, platter: &'a mut Platter) -> io::Result<&'a mut File> {
        let file = if self.is_temporary { &mut platter.temporary } else { &mut platter.store };
        file.as_mut().ok_or_else(no_file)
    }
}

impl StorageBackend for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|file| Ok(file.bytes.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|file| {
            let start = usize::try_from(offset).map_err(io::Error::other)?;
            let end = start.saturating_add(out.len());
            let bytes = file.bytes.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(bytes);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.with(|file| {
            file.set_len(len);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.synced(|platter| {
            self.of(platter)?.sync();
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        if self.disk.platter()?.fails == Some(Fails::AtWrite) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.with(|file| {
            file.write(offset, data);
            Ok(())
        })
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power is off")
}

fn no_file() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such file")
}

/// The real engine on a simulated disk: a persist that has something to do also takes its time.
pub struct SimEngine {
    engine: Engine,
    /// Is asked how long a turn takes that writes, or does not.
    takes: Box<dyn FnMut(bool) -> Duration + Send>,
    is_dirty: bool,
}

impl SimEngine {
    /// Opens the store on `disk`, or creates it there; `takes` is asked how long each turn takes
    /// that writes, or does not.
    ///
    /// # Errors
    /// As [`Engine::open_in`]; also when the power fails meanwhile.
    pub fn open(
        disk: &Powered,
        takes: impl FnMut(bool) -> Duration + Send + 'static,
    ) -> Result<SimEngine, StorageError> {
        Ok(SimEngine { engine: Engine::open_in(disk)?, takes: Box::new(takes), is_dirty: false })
    }

    /// The real engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl std::fmt::Debug for SimEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimEngine").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Read for SimEngine {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.engine.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        range: Range<'_>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Row>, StorageError> {
        self.engine.scan(table, range, limit, reverse)
    }
}

impl Storage for SimEngine {
    fn apply(&mut self, batch: Batch) -> Result<(), StorageError> {
        self.is_dirty |= !batch.changes.is_empty();
        self.engine.apply(batch)
    }

    fn persist(&mut self) -> Result<Duration, StorageError> {
        self.engine.persist()?;
        Ok((self.takes)(std::mem::take(&mut self.is_dirty)))
    }
}

#[cfg(test)]
#[path = "disks_tests.rs"]
mod tests;
