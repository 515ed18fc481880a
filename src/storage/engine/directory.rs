//! A directory as the place of a store: its file, the temporary name it is created under, and the lock that
//! keeps a second process out.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;

use super::Place;
use crate::storage::StorageError;

/// The store.
const FILE: &str = "reknit.redb";
/// The store while it is being created.
const TEMPORARY: &str = "reknit.redb.new";
/// Locked while the directory is in use. redb locks its own file too, but that comes too late for two processes
/// that both create it.
const LOCK: &str = "reknit.lock";

/// A data directory that is ours until this is dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Takes the directory, creating it if it is not there.
    pub(super) fn lock(path: &Path) -> Result<Directory, StorageError> {
        let failed = |error: io::Error| StorageError::Disk(format!("{}: {error}", path.display()));
        if !path.is_dir() {
            create(path).map_err(failed)?;
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Directory { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StorageError::Locked),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

impl Place for Directory {
    type File = FileBackend;

    fn name(&self) -> String {
        self.path.join(FILE).display().to_string()
    }

    fn holds_store(&self) -> io::Result<bool> {
        exists(&self.path.join(FILE))
    }

    fn begin(&self) -> io::Result<FileBackend> {
        let path = self.path.join(TEMPORARY);
        if exists(&path)? {
            std::fs::remove_file(&path)?;
        }
        backend(OpenOptions::new().read(true).write(true).create_new(true).open(path)?)
    }

    fn finish(&self) -> io::Result<()> {
        let temporary = self.path.join(TEMPORARY);
        File::open(&temporary)?.sync_all()?;
        std::fs::rename(temporary, self.path.join(FILE))?;
        sync(&self.path)
    }

    fn file(&self) -> io::Result<FileBackend> {
        backend(OpenOptions::new().read(true).write(true).open(self.path.join(FILE))?)
    }
}

/// Whether anything has this name, a link that leads nowhere included.
fn exists(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn backend(file: File) -> io::Result<FileBackend> {
    FileBackend::new(file).map_err(io::Error::other)
}

/// Creates a directory that survives a power loss, in so far as its parent does.
fn create(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    match path.parent() {
        Some(parent) if parent != Path::new("") => sync(parent),
        Some(_) | None => sync(Path::new(".")),
    }
}

/// Makes a directory's names durable.
fn sync(directory: &Path) -> io::Result<()> {
    // Other systems cannot open a directory, and keep its names without being asked.
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
