//! A disk as one stream of bytes and back: what `/backup` sends and `node --restore` reads.
//!
//! A backup is one durable state of every table, closed by a BLAKE3 hash over all of it. Restoring takes everything
//! but who the node was: the identity and the members stay out, so that a restored node begins a life of its own.
//! Nothing is believed before the hash of the whole is right.

use std::io::{self, Read as _, Write};
use std::ops::Bound;

use super::{Batch, Read, Storage, StorageError, Table, rows};

/// What a backup begins with; the number is the format's.
const MAGIC: &[u8; 16] = b"reknit backup 1\n";
/// Stands where a row's table would: no row follows.
const END: u8 = 0xff;
/// Rows read from the disk at a time.
const READ_ROWS: usize = 64;
/// A restore makes a transaction of at least this many bytes durable at a time.
const WRITE_BYTES: usize = 8 << 20;
/// Longest row key or value that is read back; no table has longer ones.
const PART_BYTES_MAX: u32 = 256 << 20;

/// Why a backup was not written or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file or the stream failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A restore would replace a store.
    #[error("there is a store already; a backup is restored into an empty directory")]
    NotEmpty,
    /// Not a backup, or not all of it, or not as it was written.
    #[error("this is no whole backup: {0}")]
    Damaged(&'static str),
}

/// What was written or restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// Rows of all tables.
    pub rows: u64,
    /// Bytes of the whole backup.
    pub bytes: u64,
}

/// Writes every row that `store` shows.
///
/// # Errors
/// The store or the stream failed.
pub fn write(store: &dyn Read, out: &mut dyn Write) -> Result<Counted, BackupError> {
    let mut out = Hashed { inner: out, hasher: blake3::Hasher::new(), bytes: 0 };
    out.put(MAGIC)?;
    let mut count: u64 = 0;
    for table in Table::ALL {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let rows = store.scan(table, (from, Bound::Unbounded), READ_ROWS, false)?;
            for (key, value) in &rows {
                out.put(&[table as u8])?;
                out.put_part(key)?;
                out.put_part(value)?;
                count += 1;
            }
            match rows.into_iter().last() {
                Some((key, _)) => after = Some(key),
                None => break,
            }
        }
    }
    out.put(&[END])?;
    out.put(&count.to_be_bytes())?;
    let hash = *out.hasher.finalize().as_bytes();
    out.put(&hash)?;
    Ok(Counted { rows: count, bytes: out.bytes })
}

struct Hashed<'a> {
    inner: &'a mut dyn Write,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Hashed<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.inner.write_all(bytes)
    }

    fn put_part(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).expect("rows are far below 4 GiB");
        self.put(&length.to_be_bytes())?;
        self.put(bytes)
    }
}

/// Reads a backup to its end and says whether it is whole, changing nothing.
///
/// # Errors
/// It is not, or cannot be read.
pub fn check(source: &mut dyn io::Read) -> Result<Counted, BackupError> {
    read(source, |_, _, _| Ok(()))
}

/// Fills an empty store. Check the backup first: what comes before a damaged part is stored.
///
/// # Errors
/// It is no whole backup, or the store failed.
pub fn restore(source: &mut dyn io::Read, store: &mut impl Storage) -> Result<Counted, BackupError> {
    let mut batch = Batch::default();
    let mut bytes = 0;
    let counted = read(source, |table, key, value| {
        if table == Table::Members || rows::is_identity(table, &key) {
            return Ok(());
        }
        bytes += key.len() + value.len();
        batch.put(table, key, value);
        if bytes >= WRITE_BYTES {
            bytes = 0;
            store.apply(std::mem::take(&mut batch))?;
            store.persist()?;
        }
        Ok(())
    })?;
    store.apply(batch)?;
    store.persist()?;
    Ok(counted)
}

type Take<'a> = dyn FnMut(Table, Vec<u8>, Vec<u8>) -> Result<(), BackupError> + 'a;

fn read(
    source: &mut dyn io::Read,
    mut take: impl FnMut(Table, Vec<u8>, Vec<u8>) -> Result<(), BackupError>,
) -> Result<Counted, BackupError> {
    let mut source = HashedSource { inner: source, hasher: blake3::Hasher::new(), bytes: 0 };
    if source.array::<16>()? != *MAGIC {
        return Err(BackupError::Damaged("it does not begin as one of ours"));
    }
    let take: &mut Take<'_> = &mut take;
    let mut count: u64 = 0;
    loop {
        let [tag] = source.array()?;
        if tag == END {
            break;
        }
        let table = Table::ALL.into_iter().find(|table| *table as u8 == tag);
        let table = table.ok_or(BackupError::Damaged("it names a table that this version does not know"))?;
        let key = source.part()?;
        let value = source.part()?;
        count += 1;
        take(table, key, value)?;
    }
    if u64::from_be_bytes(source.array()?) != count {
        return Err(BackupError::Damaged("the number of its rows is another one"));
    }
    let hash = *source.hasher.finalize().as_bytes();
    if source.array::<32>()? != hash {
        return Err(BackupError::Damaged("its checksum is another one"));
    }
    Ok(Counted { rows: count, bytes: source.bytes })
}

struct HashedSource<'a> {
    inner: &'a mut dyn io::Read,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl HashedSource<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(cut_short)?;
        self.took(&bytes);
        Ok(bytes)
    }

    /// The declared length allocates nothing by itself: what comes, comes.
    fn part(&mut self) -> Result<Vec<u8>, BackupError> {
        let length = u32::from_be_bytes(self.array()?);
        if length > PART_BYTES_MAX {
            return Err(BackupError::Damaged("a row is longer than rows are"));
        }
        let mut bytes = Vec::new();
        (&mut *self.inner).take(u64::from(length)).read_to_end(&mut bytes)?;
        if bytes.len() != length as usize {
            return Err(BackupError::Damaged("it is cut short"));
        }
        self.took(&bytes);
        Ok(bytes)
    }

    fn took(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

fn cut_short(error: io::Error) -> BackupError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => BackupError::Damaged("it is cut short"),
        _ => BackupError::Io(error),
    }
}

#[cfg(test)]
#[path = "backup_tests.rs"]
mod tests;
