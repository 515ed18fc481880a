//! Request bodies: taken within a size and a time, or let go so that the client still reads the answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::EXPECT;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::problem::{Code, Problem};

/// Most bytes of a refused body that are read and dropped.
pub const DISCARD_BYTES_MAX: usize = 8 << 20;
/// Largest body of a request for which there is no room that is taken, so that its connection can go on.
pub const REFUSED_BYTES_MAX: u64 = 64 << 10;
/// Longest time spent on reading a refused body.
pub const DISCARD_PATIENCE: Duration = Duration::from_secs(1);

/// The whole body, which may have `limit` bytes and must come within `patience`. The size is checked while it
/// streams in, so a body without a length cannot grow beyond the limit either.
///
/// # Errors
/// It is too large, too slow or broken off.
pub async fn take(
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
    patience: Duration,
) -> Result<Bytes, Problem> {
    let declared = body.size_hint().lower();
    let too_large = || {
        let detail = format!("the body has more than {limit} bytes");
        Problem::new(Code::ValueTooLarge, detail).with_limit(limit as u64)
    };
    let result = if declared > limit as u64 {
        Err(too_large())
    } else {
        let collected = tokio::time::timeout(patience, collect(&mut body, limit)).await;
        match collected {
            Ok(Ok(Some(bytes))) => return Ok(bytes),
            Ok(Ok(None)) => Err(too_large()),
            Ok(Err(problem)) => return Err(problem),
            Err(_) => {
                let detail = format!("the body did not come within {} s", patience.as_secs_f64());
                return Err(Problem::new(Code::BodyTimeout, detail));
            }
        }
    };
    discard(headers, body).await;
    result
}

/// `None` when there are more bytes than `limit`.
async fn collect(body: &mut Body, limit: usize) -> Result<Option<Bytes>, Problem> {
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(limit).min(limit);
    let mut bytes = BytesMut::with_capacity(declared);
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Problem::new(Code::BadBody, format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Some(bytes.freeze()))
}

/// Reads on and drops what comes, within bounds: closing a socket on a client that still sends resets it, and
/// the client would see that instead of the answer. A client that waits for `100 Continue` sends nothing yet.
pub async fn discard(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(EXPECT) {
        read_on(body).await;
    }
}

/// [`discard`], of a body that is sent in any case.
pub async fn read_on(mut body: Body) {
    let read_on = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DISCARD_BYTES_MAX {
                break;
            }
        }
    };
    // Whether it ended or not, the answer goes out now.
    let _ = tokio::time::timeout(DISCARD_PATIENCE, read_on).await;
}

/// A body that keeps its room until its bytes are with the system, or its client is gone. The body itself is
/// dropped as soon as its last bytes are queued to be written, and a client that reads nothing leaves them there:
/// so the bytes keep the room as well.
#[derive(Debug)]
pub struct Held {
    body: Body,
    room: Arc<OwnedSemaphorePermit>,
}

impl Held {
    /// Holds `room` as long as `body`, or any bytes of it, live.
    pub fn body(body: Body, room: OwnedSemaphorePermit) -> Body {
        Body::new(Held { body, room: Arc::new(room) })
    }
}

/// Bytes that keep room for themselves.
struct Roomy {
    bytes: Bytes,
    _room: Arc<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Roomy {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let held = self.get_mut();
        let room = &held.room;
        let hold = |bytes| Bytes::from_owner(Roomy { bytes, _room: Arc::clone(room) });
        Pin::new(&mut held.body).poll_frame(cx).map_ok(|frame| frame.map_data(hold))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
