//! The port: takes connections, within bounds of number and time, and lets them finish when the node stops.
//!
//! An own loop rather than axum's, for what that leaves open: a client may be slow to ask, slow to read, or
//! never leave, and none of these may keep others out.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::body::{Held, Hurry};
use super::door::{self, Refused};
use super::metrics::Connections;
use super::patient::Patient;
use crate::driver::tokio_world::Tls;
use crate::driver::tokio_world::tls::{Certified, Io, certified};

/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most bytes that are buffered of a connection; a head must fit.
const BUFFER_BYTES_MAX: usize = 128 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 100;
/// What the system may buffer of an answer; Linux takes twice as much.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// While no place is left, those connections that have been here longest are let go this often, as soon as they are idle.
const LET_GO_EVERY: Duration = Duration::from_millis(20);
/// First one at a time, then twice as many each time up to this, until none had to go for a while: a crowd that sends its heads byte by
/// byte, and comes again as often as it is cut, must not make a client that waits behind it lose its patience.
const LET_GO_AT_ONCE_MAX: usize = 16;
/// Connections that the system keeps until they are taken: a crowd that comes at once is not made to try again.
const BACKLOG: u32 = 1024;
/// A connection that was asked to go is looked at this often: one whose client is in the midst of a head goes then.
const LINGER: Duration = Duration::from_secs(1);
/// After so long without anybody who had to go, it begins with one at a time again.
const LET_GO_FORGOTTEN: Duration = Duration::from_secs(5);
/// How long to wait after the system refused a connection for lack of means.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// How many may come and how long they may take.
#[derive(Clone, Debug)]
pub struct Patience {
    /// Most connections at once, peers' not counted; more wait in the system's queue.
    pub connections_max: usize,
    /// How long a client may take to send a request's head, the time between two requests included.
    pub head: Duration,
    /// How long a client may take none of what is written to it.
    pub write: Duration,
    /// How far apart connections whose requests were refused for want of room get their next turn: the refusal goes
    /// out at once, and the next request for a key is looked at in its turn, or once there is room to spare, so that a
    /// crowd which asks again at once does not use up what others need.
    pub refused: Duration,
    /// Longest wait for such a turn, the time after which they were told to come back.
    pub rest_max: Duration,
    /// How long requests under way may take to finish when the node stops.
    pub drain: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connections_max: 1024,
            head: Duration::from_secs(60),
            write: Duration::from_secs(30),
            // 1,200 a second are a tenth of a processor.
            refused: Duration::from_micros(833),
            rest_max: Duration::from_secs(1),
            drain: Duration::from_secs(10),
        }
    }
}

/// When connections that were refused are looked at again: one after the other, however many they are.
#[derive(Debug)]
struct Turns {
    apart: Duration,
    rest_max: Duration,
    last: Mutex<Instant>,
}

impl Turns {
    fn new(patience: &Patience) -> Turns {
        Turns { apart: patience.refused, rest_max: patience.rest_max, last: Mutex::new(Instant::now()) }
    }

    /// The next turn that nobody has.
    fn take(&self, now: Instant) -> Instant {
        let mut last = self.last.lock().expect("nothing panics with it");
        *last = ((*last).max(now) + self.apart).min(now + self.rest_max);
        *last
    }
}

/// Listens where clients and peers come.
///
/// # Errors
/// The address is taken, or not ours.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A node that starts again must not wait for what is left of its old connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `shutdown`, then until the last request is answered or patience ends. With `tls` nobody is
/// answered in plain text.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    tls: Option<Tls>,
    counted: Connections,
) {
    serve_with(listener, router, shutdown, tls, counted, Patience::default()).await;
}

/// [`serve`] with bounds of one's own.
pub async fn serve_with(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    tls: Option<Tls>,
    counted: Connections,
    patience: Patience,
) {
    let places = Arc::new(Semaphore::new(patience.connections_max));
    let turns = Arc::new(Turns::new(&patience));
    let oldest = Oldest::default();
    let mut connections = JoinSet::new();
    let mut usher = Usher::new(&oldest, &counted);
    let mut was_full = false;
    loop {
        was_full = warn_once_full(&places, was_full, patience.connections_max);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (place, accepted) = accept(&listener, &places, &mut usher) => match accepted {
                Ok((stream, remote)) => {
                    let line = Line {
                        remote,
                        router: router.clone(),
                        turns: Arc::clone(&turns),
                        let_go: oldest.add(),
                        shutdown: shutdown.clone(),
                        counted: counted.clone(),
                        patience: patience.clone(),
                    };
                    let tls = tls.clone();
                    let open = Open::new(&counted);
                    connections.spawn(async move {
                        line.open(stream, tls).await;
                        drop((open, place));
                    });
                }
                Err(error) => {
                    tracing::warn!(event = "accept-failed", "{error}");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
    // From here on new clients are refused by the system, and find another node.
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(patience.drain, all).await.is_err() {
        tracing::warn!(event = "drain-cut-short", "requests were still under way");
    }
}

/// How those who wait for a place are helped to one. Kept beside the wait itself, which begins anew with every connection
/// that ends.
struct Usher {
    oldest: Oldest,
    let_go: Counter,
    at_once: usize,
    next: Instant,
}

impl Usher {
    fn new(oldest: &Oldest, counted: &Connections) -> Usher {
        Usher { oldest: oldest.clone(), let_go: counted.let_go.clone(), at_once: 1, next: Instant::now() }
    }

    /// A place; while there is none, those who have been here longest are let go.
    async fn place(&mut self, places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        let now = Instant::now();
        if now > self.next + LET_GO_FORGOTTEN {
            self.at_once = 1;
        }
        // Long past: nobody was waiting then.
        if now > self.next + LET_GO_EVERY {
            self.next = now + LET_GO_EVERY;
        }
        loop {
            let place = Arc::clone(places).acquire_owned();
            if let Ok(place) = tokio::time::timeout_at(self.next, place).await {
                return place.expect("it is never closed");
            }
            self.let_go.inc_by((0..self.at_once).filter(|_| self.oldest.let_go()).count() as u64);
            self.at_once = LET_GO_AT_ONCE_MAX.min(2 * self.at_once);
            self.next = Instant::now() + LET_GO_EVERY;
        }
    }
}

/// Waits for a place first: without one, a connection stays in the system's queue.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    usher: &mut Usher,
) -> (OwnedSemaphorePermit, io::Result<(TcpStream, SocketAddr)>) {
    let place = usher.place(places).await;
    (place, listener.accept().await)
}

/// One line when the places run out, and not another before half of them were free again.
fn warn_once_full(places: &Semaphore, was_full: bool, connections_max: usize) -> bool {
    let free = places.available_permits();
    if free == 0 && !was_full {
        tracing::warn!(event = "connections-full", "no place for another connection; new ones wait");
    }
    free == 0 || (was_full && free <= connections_max / 2)
}

/// The connections in the order in which they came.
#[derive(Clone, Debug, Default)]
struct Oldest(Arc<Mutex<BTreeMap<u64, CancellationToken>>>);

/// One of them; it is no longer among them once this is dropped.
struct LetGo {
    all: Oldest,
    number: u64,
    token: CancellationToken,
}

impl Oldest {
    /// One more.
    fn add(&self) -> LetGo {
        let mut all = self.0.lock().expect("nothing panics with it");
        let number = all.last_key_value().map_or(0, |(last, _)| last + 1);
        let token = CancellationToken::new();
        all.insert(number, token.clone());
        LetGo { all: self.clone(), number, token }
    }

    /// Asks the oldest to go as soon as its node has nothing to do for it; not twice. False if there is none left.
    fn let_go(&self) -> bool {
        let oldest = self.0.lock().expect("nothing panics with it").pop_first();
        oldest.inspect(|(_, token)| token.cancel()).is_some()
    }
}

impl Drop for LetGo {
    fn drop(&mut self) {
        self.all.0.lock().expect("nothing panics with it").remove(&self.number);
    }
}

/// A connection, as long as it is open.
struct Open(Gauge);

impl Open {
    fn new(counted: &Connections) -> Open {
        counted.open.inc();
        Open(counted.open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// One connection and what it needs.
struct Line {
    remote: SocketAddr,
    router: Router,
    turns: Arc<Turns>,
    let_go: LetGo,
    shutdown: CancellationToken,
    counted: Connections,
    patience: Patience,
}

impl Line {
    /// Agrees on encryption, where there is any, and talks.
    async fn open(self, stream: TcpStream, tls: Option<Tls>) {
        // Answers are small and whole; waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        // The system says that there is room when a third of its buffer has been taken; with megabytes of it a client
        // that reads slowly would seem to take nothing.
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER_BYTES);
        let Some(tls) = tls else { return self.talk(stream, Certified(false)).await };
        // Whoever is slow here is as slow as with a head.
        let accepted = tokio::select! {
            biased;
            accepted = tokio::time::timeout(self.patience.head, tls.accept(stream)) => accepted,
            () = async { tokio::join!(self.let_go.token.cancelled(), tokio::time::sleep(LINGER)); } => {
                self.counted.cut.inc();
                return;
            }
        };
        match accepted {
            Ok(Ok(stream)) => {
                let shown = certified(&stream);
                self.talk(stream, shown).await;
            }
            Ok(Err(error)) => tracing::debug!(remote = %self.remote, "no TLS came about: {error}"),
            Err(_) => tracing::debug!(remote = %self.remote, "no TLS came about in time"),
        }
    }

    async fn talk(self, stream: impl Io + 'static, shown: Certified) {
        let Line { remote, router, turns, let_go, shutdown, counted, patience } = self;
        let refused = Arc::new(Mutex::new(None));
        let under_way = UnderWay::default();
        let (hurry, attend) = (Hurry(let_go.token.clone()), under_way.clone());
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(remote));
            request.extensions_mut().insert(shown);
            request.extensions_mut().insert(hurry.clone());
            let (router, refused, turns) = (router.clone(), Arc::clone(&refused), Arc::clone(&turns));
            let attended = attend.begin();
            async move {
                if door::counts(&request) {
                    let refused = refused.lock().expect("nothing panics with it").take();
                    if let Some(Refused(room)) = refused {
                        let turn = turns.take(Instant::now());
                        let _ = tokio::time::timeout_at(turn, room.spare()).await;
                    }
                }
                let response = router.oneshot(request).await?;
                if let Some(now) = response.extensions().get::<Refused>() {
                    *refused.lock().expect("nothing panics with it") = Some(now.clone());
                }
                Ok::<_, Infallible>(response.map(|body| Held::body(body, attended)))
            }
        });
        let stream = Patient::new(stream, patience.write);
        let is_waiting = stream.is_waiting();
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience.head)
            .max_buf_size(BUFFER_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            biased;
            result = connection.as_mut() => result,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = let_go.token.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let is_idle = || under_way.is_none() && !is_waiting.load(Ordering::Relaxed);
                loop {
                    match tokio::time::timeout(LINGER, connection.as_mut()).await {
                        Ok(result) => break result,
                        // All that this connection does is to wait for the rest of a head.
                        Err(_) if is_idle() => {
                            counted.cut.inc();
                            break Ok(());
                        }
                        Err(_) => {}
                    }
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%remote, "the connection ended: {error}");
        }
    }
}

/// How many requests of a connection are under way, their answers included.
#[derive(Clone, Debug, Default)]
struct UnderWay(Arc<()>);

impl UnderWay {
    /// One more, until what this returns is dropped.
    fn begin(&self) -> Arc<()> {
        Arc::clone(&self.0)
    }

    /// Besides this one and the service's, nobody has any.
    fn is_none(&self) -> bool {
        Arc::strong_count(&self.0) <= 2
    }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
