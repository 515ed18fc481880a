//! A file in memory for tests: it outlives the engine on it, and fails when told to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

/// A handle to the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedFile(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    bytes: InMemoryBackend,
    syncs: AtomicU64,
    fails: AtomicBool,
}

impl SharedFile {
    /// Whether every call from now on fails.
    pub(crate) fn fail(&self, fails: bool) {
        self.0.fails.store(fails, Ordering::SeqCst);
    }

    /// How often it was synced.
    pub(crate) fn syncs(&self) -> u64 {
        self.0.syncs.load(Ordering::SeqCst)
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.0.bytes.len().expect("memory")
    }

    fn bytes(&self) -> io::Result<&InMemoryBackend> {
        let fails = self.0.fails.load(Ordering::SeqCst);
        if fails { Err(io::Error::other("told to fail")) } else { Ok(&self.0.bytes) }
    }
}

impl StorageBackend for SharedFile {
    fn len(&self) -> io::Result<u64> {
        self.bytes()?.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.bytes()?.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.bytes()?.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        self.bytes()?.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.bytes()?.write(offset, data)
    }
}
