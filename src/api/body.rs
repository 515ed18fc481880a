//! Request bodies: taken within a size and a time, or let go so that the client still reads the answer.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::http::request::Parts;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::problem::{Code, Problem};

/// Bodies are counted in units of this many bytes.
pub const UNIT: usize = 1 << 10;
/// Most bytes of a refused body that are read and dropped.
pub const DISCARD_BYTES_MAX: usize = 8 << 20;
/// Largest body of a request for which there is no room that is taken, so that its connection can go on.
pub const REFUSED_BYTES_MAX: u64 = 64 << 10;
/// Longest time spent on reading a refused body.
pub const DISCARD_PATIENCE: Duration = Duration::from_secs(1);

/// A client that others wait for has this long for what is left of its body.
pub const HURRIED_PATIENCE: Duration = Duration::from_secs(1);
/// What a body first has room for, as far as it says that it has so many bytes.
const FIRST_BYTES: usize = 64 << 10;

/// Cancelled once others wait for a connection's place: what its client sends is not waited for much longer.
#[derive(Clone, Debug)]
pub struct Hurry(pub CancellationToken);

/// What bounds a body.
pub struct Bounds<'a> {
    /// Most bytes.
    pub limit: usize,
    /// How long it may take to come.
    pub patience: Duration,
    /// One permit per [`UNIT`] of all bodies that are held.
    pub pool: &'a Arc<Semaphore>,
    /// Most bytes of all bodies that are held.
    pub pool_bytes: usize,
}

impl Bounds<'_> {
    fn too_large(&self) -> Problem {
        let limit = self.limit;
        let detail = format!("the body has more than {limit} bytes");
        Problem::new(Code::ValueTooLarge, detail).with_limit(limit as u64)
    }

    fn no_room(&self) -> Problem {
        let limit = self.pool_bytes;
        let detail = format!("bodies of {limit} bytes are held already; nothing was done");
        Problem::new(Code::Busy, detail).with_limit(limit as u64)
    }
}

/// A whole body, and the room that it takes.
#[derive(Debug, Default)]
pub struct Whole {
    bytes: Vec<u8>,
    room: Option<OwnedSemaphorePermit>,
}

impl Whole {
    /// Bytes and room apart; the room is to be held as long as the bytes are.
    pub fn split(self) -> (Bytes, Option<OwnedSemaphorePermit>) {
        (self.bytes.into(), self.room)
    }

    /// Takes a part. Room is taken as bytes come and not as they are declared, or clients that send nothing would keep
    /// others out.
    fn add(&mut self, data: &[u8], declared: usize, bounds: &Bounds<'_>) -> Result<(), Problem> {
        let needed = self.bytes.len() + data.len();
        if needed > self.bytes.capacity() {
            let wanted = needed.max((2 * needed).max(FIRST_BYTES).min(declared));
            let held = self.room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let units = wanted.div_ceil(UNIT).saturating_sub(held);
            let more =
                Arc::clone(bounds.pool).try_acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX));
            let more = more.map_err(|_| bounds.no_room())?;
            match &mut self.room {
                Some(room) => room.merge(more),
                None => self.room = Some(more),
            }
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(data);
        Ok(())
    }
}

/// The whole body of a request with this head, within its bounds. The size is checked while it streams in, so a body
/// without a length cannot grow beyond the limit either.
///
/// # Errors
/// It is too large, too slow or broken off, or there is no room for it.
pub async fn take(head: &Parts, mut body: Body, bounds: Bounds<'_>) -> Result<Whole, Problem> {
    if body.size_hint().lower() > bounds.limit as u64 {
        return Err(bounds.too_large());
    }
    tokio::select! {
        biased;
        whole = collect(&mut body, &bounds) => whole,
        () = tokio::time::sleep(bounds.patience) => {
            let detail = format!("the body did not come within {} s", bounds.patience.as_secs_f64());
            Err(Problem::new(Code::BodyTimeout, detail))
        }
        () = hurried(head) => {
            Err(Problem::new(Code::BodyTimeout, "the body came too slowly, and others wait for a connection"))
        }
    }
}

/// Ends when the client has had its time and others wait.
async fn hurried(head: &Parts) {
    let Some(Hurry(hurry)) = head.extensions.get() else { return std::future::pending().await };
    tokio::join!(hurry.cancelled(), tokio::time::sleep(HURRIED_PATIENCE));
}

async fn collect(body: &mut Body, bounds: &Bounds<'_>) -> Result<Whole, Problem> {
    let declared = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    let declared = declared.unwrap_or(bounds.limit).min(bounds.limit);
    let mut whole = Whole::default();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Problem::new(Code::BadBody, format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.bytes.len() + data.len() > bounds.limit {
            return Err(bounds.too_large());
        }
        whole.add(&data, declared, bounds)?;
    }
    Ok(whole)
}

/// What may be left of a request's body once the request is answered.
#[derive(Debug)]
pub struct Leftover {
    body: Arc<Mutex<Option<Body>>>,
    /// Whether the client waits for `100 Continue`, and sends nothing yet.
    waits: bool,
}

/// Lends a request its body: what nobody read comes back.
pub fn lend(request: Request) -> (Request, Option<Leftover>) {
    if request.body().is_end_stream() {
        return (request, None);
    }
    let waits = request.headers().contains_key(EXPECT);
    let back = Arc::new(Mutex::new(None));
    let lent = request.map(|body| Body::new(Lent { body, back: Arc::clone(&back) }));
    (lent, Some(Leftover { body: back, waits }))
}

impl Leftover {
    /// Reads on and drops what comes, within bounds: closing a socket on a client that still sends resets it, and
    /// the client would see that instead of the answer. Of a request for which there was no room only a small body is
    /// worth it, so that its connection can go on.
    pub async fn discard(self, is_busy: bool) {
        let body = self.body.lock().expect("nothing panics with it").take();
        let Some(body) = body else { return };
        let is_large = body.size_hint().upper().is_none_or(|bytes| bytes > REFUSED_BYTES_MAX);
        if self.waits || body.is_end_stream() || is_busy && is_large {
            return;
        }
        read_on(body).await;
    }
}

/// A body that comes back when it is dropped.
#[derive(Debug)]
struct Lent {
    body: Body,
    back: Arc<Mutex<Option<Body>>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.body);
        *self.back.lock().expect("nothing panics with it") = Some(body);
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            // What is over must not be asked again.
            self.body = Body::empty();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Reads a body and drops it, within bounds.
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

/// A body that keeps something until its bytes are with the system, or its client is gone. The body itself is
/// dropped as soon as its last bytes are queued to be written, and a client that reads nothing leaves them there:
/// so the bytes keep it as well.
#[derive(Debug)]
pub struct Held<T> {
    body: Body,
    kept: Arc<T>,
}

impl<T: Send + Sync + 'static> Held<T> {
    /// Keeps `kept` as long as `body`, or any bytes of it, live.
    pub fn body(body: Body, kept: T) -> Body {
        Body::new(Held { body, kept: Arc::new(kept) })
    }
}

/// Bytes that keep something.
struct Keeping<T> {
    bytes: Bytes,
    _kept: Arc<T>,
}

impl<T> AsRef<[u8]> for Keeping<T> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<T: Send + Sync + 'static> HttpBody for Held<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let held = self.get_mut();
        let kept = &held.kept;
        let hold = |bytes| Bytes::from_owner(Keeping { bytes, _kept: Arc::clone(kept) });
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
