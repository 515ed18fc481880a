//! What there would be without a store: a bare axum route, a bare axum server over redb with group commit, and redb's
//! group commit alone. They are the ceilings that reknit is held against.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path as Segments, State};
use axum::http::StatusCode;
use axum::routing::get;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use tokio::sync::{mpsc as letters, oneshot};

use crate::load::{self, Outcome, VALUE_BYTES};

/// The tables that a write of reknit touches, with rows of about the same sizes.
const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");
const LOG: TableDefinition<&[u8], &[u8]> = TableDefinition::new("log");
const CHUNKS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("chunks");
/// Bytes beside the value in a record, of a row of the log, and of a row of a chunk.
const HEADER_BYTES: usize = 48;
const LOG_ROW: [u8; 40] = [7; 40];
const CHUNK_ROW: [u8; 48] = [7; 48];
/// Most writes in one commit.
const BATCH_MAX: usize = 1024;

struct Write {
    key: Vec<u8>,
    value: Bytes,
    done: oneshot::Sender<()>,
}

/// Serves a constant under `/kv/{key}` until it is killed.
pub fn serve_constant(port: u16) -> Result<()> {
    let value = Bytes::from(vec![b'7'; VALUE_BYTES]);
    let router = Router::new().route("/kv/{*key}", get(move || std::future::ready(value.clone())));
    serve(port, router.route("/livez", get(|| async {})))
}

/// Serves `PUT` and `GET /kv/{key}` over redb with group commit until it is killed.
pub fn serve_redb(port: u16, folder: &Path) -> Result<()> {
    let database = Arc::new(Database::create(folder.join("bare.redb"))?);
    prepare(&database)?;
    let (sender, receiver) = letters::channel(4096);
    let committer = Arc::clone(&database);
    thread::spawn(move || commit_all(&committer, receiver));
    let router = Router::new()
        .route("/kv/{*key}", get(read).put(write))
        .route("/livez", get(|| async {}))
        .with_state((database, sender));
    serve(port, router)
}

type Shared = (Arc<Database>, letters::Sender<Write>);

async fn read(
    State((database, _)): State<Shared>,
    Segments(key): Segments<String>,
) -> Result<Bytes, StatusCode> {
    let find = || -> Result<Option<Bytes>> {
        let table = database.begin_read()?.open_table(RECORDS)?;
        Ok(table.get(key.as_bytes())?.map(|row| Bytes::copy_from_slice(&row.value()[HEADER_BYTES..])))
    };
    find().ok().flatten().ok_or(StatusCode::NOT_FOUND)
}

async fn write(
    State((_, sender)): State<Shared>,
    Segments(key): Segments<String>,
    value: Bytes,
) -> Result<(), StatusCode> {
    let (done, is_done) = oneshot::channel();
    let write = Write { key: key.into_bytes(), value, done };
    sender.send(write).await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    is_done.await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)
}

fn serve(port: u16, router: Router) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        Ok(axum::serve(
            axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true))),
            router,
        )
        .await?)
    })
}

fn prepare(database: &Database) -> Result<()> {
    let transaction = database.begin_write()?;
    for table in [RECORDS, LOG, CHUNKS] {
        transaction.open_table(table)?;
    }
    Ok(transaction.commit()?)
}

fn commit_all(database: &Database, mut receiver: letters::Receiver<Write>) -> Result<()> {
    let mut number = 0;
    while let Some(first) = receiver.blocking_recv() {
        let mut writes = vec![first];
        while writes.len() < BATCH_MAX {
            let Ok(write) = receiver.try_recv() else { break };
            writes.push(write);
        }
        let rows: BTreeMap<&[u8], &[u8]> = writes.iter().map(|write| (&*write.key, &*write.value)).collect();
        commit(database, &rows, &mut number)?;
        for write in writes {
            // Whoever asked may be gone.
            let _ = write.done.send(());
        }
    }
    Ok(())
}

/// One durable transaction over the three tables: sorted, as a good caller would.
fn commit(database: &Database, rows: &BTreeMap<&[u8], &[u8]>, number: &mut u64) -> Result<()> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut records = transaction.open_table(RECORDS)?;
        let mut log = transaction.open_table(LOG)?;
        let mut chunks = transaction.open_table(CHUNKS)?;
        let mut touched = BTreeMap::new();
        for (key, value) in rows {
            let mut row = vec![7; HEADER_BYTES];
            row.extend_from_slice(value);
            records.insert(*key, &*row)?;
            *number += 1;
            log.insert(&number.to_be_bytes()[..], &LOG_ROW[..])?;
            // Chunks lie in key order: neighbours share one.
            touched.insert(key.get(..8).unwrap_or(key), ());
        }
        for chunk in touched.keys() {
            chunks.insert(*chunk, &CHUNK_ROW[..])?;
        }
    }
    Ok(transaction.commit()?)
}

/// Writers on threads of their own, one committer, no network: what the disk and redb give.
pub fn group_commit(folder: &Path, writers: usize, keys: u64, time: Duration) -> Result<Outcome> {
    let database = Database::create(folder.join(format!("raw-{writers}.redb")))?;
    prepare(&database)?;
    let (sender, receiver) = letters::channel(4096);
    let times = Arc::new(Mutex::new(load::histogram()?));
    let began = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let committer = scope.spawn(|| commit_all(&database, receiver));
        let (failed, failures) = mpsc::channel();
        for writer in 0..writers {
            let (sender, times, failed) = (sender.clone(), Arc::clone(&times), failed.clone());
            scope.spawn(move || {
                if let Err(error) = write_for(time, writer as u64, keys, &sender, &times) {
                    // The main thread waits for these until the last writer is gone.
                    let _ = failed.send(error);
                }
            });
        }
        drop((sender, failed));
        if let Ok(error) = failures.recv() {
            return Err(error);
        }
        committer.join().map_err(|_| anyhow::anyhow!("the committer panicked"))?
    })?;
    let took = began.elapsed();
    let times = Arc::into_inner(times).context("the writers are gone")?.into_inner();
    let times = times.map_err(|_| anyhow::anyhow!("a writer panicked"))?;
    Ok(Outcome { operations: times.len(), took, times })
}

fn write_for(
    time: Duration,
    writer: u64,
    keys: u64,
    sender: &letters::Sender<Write>,
    times: &Mutex<hdrhistogram::Histogram<u64>>,
) -> Result<()> {
    let mut dice = ChaCha8Rng::seed_from_u64(writer);
    let value = Bytes::from(vec![b'7'; VALUE_BYTES]);
    let mut own = load::histogram()?;
    let began = Instant::now();
    while began.elapsed() < time {
        let key = load::key(dice.random_range(0..keys)).into_bytes();
        let (done, is_done) = oneshot::channel();
        let asked = Instant::now();
        sender.blocking_send(Write { key, value: value.clone(), done })?;
        is_done.blocking_recv()?;
        own.saturating_record(asked.elapsed().as_micros() as u64);
    }
    times.lock().map_err(|_| anyhow::anyhow!("a writer panicked"))?.add(own)?;
    Ok(())
}
