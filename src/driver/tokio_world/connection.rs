//! One connection after its handshake: a reader and a writer, and how they end.
//!
//! Frames are length-delimited; an empty one only says that the sender is still there. A frame that is too
//! long or no frame of ours ends the connection at once and nothing else happens.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::counters::Count;
use super::handshake::Hello;
use super::network::Inbound;
use super::peers::{Room, Shared};
use super::registry::Next;
use crate::model::NodeId;
use crate::protocol::wire;

/// Bytes that one connection may have waiting for the loop; then it is not read, and TCP slows the peer down.
pub const INBOUND_BYTES_MAX: usize = 1 << 20;

/// How long things may take on a connection. The same everywhere but in tests.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A connection with nothing to say says so this often.
    pub keepalive_interval: Duration,
    /// A connection from which nothing comes for this long is dead.
    pub silence_max: Duration,
    /// A connection that takes nothing for this long is dead.
    pub write_timeout: Duration,
    /// How long the other side may take to finish once this one has.
    pub finish_timeout: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            keepalive_interval: Duration::from_secs(5),
            silence_max: Duration::from_secs(20),
            write_timeout: Duration::from_secs(15),
            finish_timeout: Duration::from_secs(5),
        }
    }
}

/// An upgraded connection as frames.
pub type Frames = Framed<TokioIo<Upgraded>, LengthDelimitedCodec>;

/// Cuts a stream of bytes into frames. A longer one is an error before any room is made for it.
pub fn frame_codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(wire::FRAME_BYTES_MAX).new_codec()
}

/// Frames over an upgraded connection.
pub fn frames(upgraded: Upgraded) -> Frames {
    Framed::new(TokioIo::new(upgraded), frame_codec())
}

/// How a reader or a writer ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// It said all it had to say.
    Finished,
    /// The connection broke.
    Broken,
    /// The other side was silent, or took nothing, for too long.
    TimedOut,
    /// The other side sent what is no frame.
    Malformed,
}

/// Carries frames until the connection is over.
pub async fn serve(shared: Arc<Shared>, frames: Frames, peer: Hello, dialed_by_me: bool, room: Room) {
    let now = std::time::Instant::now();
    let registered = shared.registry().register(&shared.me.id, &peer, dialed_by_me, now);
    let (serial, wake) = (registered.serial, registered.wake);
    shared.counters.one(if dialed_by_me { Count::Dialed } else { Count::Accepted });
    tracing::info!(node = %shared.me.id, peer = %peer.id, address = %peer.address, dialed_by_me,
        event = "peer-connected", "connected");

    let (sink, stream) = frames.split();
    let end = {
        let reader = read(&shared, stream, &peer.id);
        let writer = write(&shared, sink, &peer, serial, &wake);
        tokio::pin!(reader, writer);
        tokio::select! {
            biased;
            end = &mut reader => {
                shared.ended(&peer.id, serial);
                wake.notify_one();
                if end == End::Finished {
                    // Whatever is still being written may arrive; if not, it is lost like any frame.
                    let _ = timeout(shared.pace.finish_timeout, writer).await;
                }
                end
            }
            end = &mut writer => match end {
                End::Finished => timeout(shared.pace.finish_timeout, reader).await.unwrap_or(End::Finished),
                end => end,
            },
        }
    };
    shared.ended(&peer.id, serial);
    count_end(&shared, &peer.id, end);
    drop(room);
}

fn count_end(shared: &Shared, peer: &NodeId, end: End) {
    shared.counters.one(Count::Closed);
    match end {
        End::Finished | End::Broken => {}
        End::TimedOut => shared.counters.one(Count::TimedOut),
        End::Malformed => {
            if shared.counters.first(Count::Malformed) {
                tracing::warn!(node = %shared.me.id, %peer, event = "peer-malformed",
                    "a peer sends what is no frame; such connections are closed");
            }
        }
    }
    tracing::info!(node = %shared.me.id, %peer, event = "peer-disconnected", ?end, "disconnected");
}

async fn read(shared: &Shared, mut stream: SplitStream<Frames>, peer: &NodeId) -> End {
    let budget = Arc::new(Semaphore::new(INBOUND_BYTES_MAX));
    loop {
        let frame = match timeout(shared.pace.silence_max, stream.next()).await {
            Err(_) => return End::TimedOut,
            Ok(None) => return End::Finished,
            Ok(Some(Err(error))) if error.kind() == std::io::ErrorKind::InvalidData => return End::Malformed,
            Ok(Some(Err(_))) => return End::Broken,
            Ok(Some(Ok(frame))) if frame.is_empty() => continue,
            Ok(Some(Ok(frame))) => frame.freeze(),
        };
        if !wire::is_frame(&frame) {
            return End::Malformed;
        }
        let bytes = u32::try_from(frame.len()).expect("a frame is small");
        let room = budget.clone().acquire_many_owned(bytes).await.expect("the budget is never closed");
        shared.counters.one(Count::FramesIn);
        shared.counters.add(Count::BytesIn, u64::from(bytes));
        // Once the loop is over nobody wants the frame, but the writer may still have a goodbye to say.
        let _ = shared.inbound.send(Inbound { from: peer.clone(), frame, room }).await;
    }
}

async fn write(
    shared: &Shared,
    mut sink: SplitSink<Frames, Bytes>,
    peer: &Hello,
    serial: u64,
    wake: &Notify,
) -> End {
    let compresses = shared.me.compresses && peer.takes_zstd;
    loop {
        let next = shared.registry().next(&peer.id, serial);
        let batch = match next {
            Next::Write(batch) if compresses => compressed(shared, batch),
            Next::Write(batch) => batch,
            Next::Wait => match timeout(shared.pace.keepalive_interval, wake.notified()).await {
                Ok(()) => continue,
                Err(_) => vec![Bytes::new()],
            },
            Next::Finish => {
                return match timeout(shared.pace.write_timeout, sink.close()).await {
                    Ok(Ok(())) => End::Finished,
                    Ok(Err(_)) => End::Broken,
                    Err(_) => End::TimedOut,
                };
            }
        };
        shared.counters.add(Count::FramesOut, batch.iter().filter(|frame| !frame.is_empty()).count() as u64);
        shared.counters.add(Count::BytesOut, batch.iter().map(|frame| frame.len() as u64).sum());
        match timeout(shared.pace.write_timeout, write_batch(&mut sink, batch)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Broken,
            Err(_) => return End::TimedOut,
        }
    }
}

/// Here and not in the loop, which has better things to do.
fn compressed(shared: &Shared, mut batch: Vec<Bytes>) -> Vec<Bytes> {
    for frame in &mut batch {
        let smaller = wire::compressed(frame);
        shared.counters.add(Count::BytesSpared, (frame.len() - smaller.len()) as u64);
        *frame = smaller;
    }
    batch
}

async fn write_batch(sink: &mut SplitSink<Frames, Bytes>, batch: Vec<Bytes>) -> std::io::Result<()> {
    for frame in batch {
        sink.feed(frame).await?;
    }
    sink.flush().await
}
