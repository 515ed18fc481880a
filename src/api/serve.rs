//! The port: takes connections, within bounds of number and time, and lets them finish when the node stops.
//!
//! An own loop rather than axum's, for what that leaves open: a client may be slow to ask, slow to read, or
//! never leave, and none of these may keep others out.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::door::Refused;
use super::patient::Patient;
use crate::driver::tokio_world::Tls;
use crate::driver::tokio_world::tls::{Certified, Io, certified};

/// Most bytes of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most bytes that are buffered of a connection; a head must fit.
const BUFFER_BYTES_MAX: usize = 128 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 100;
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
    /// out at once, and the next request is looked at after that, so that a crowd which asks again at once does not
    /// use up what others need.
    pub refused: Duration,
    /// Longest rest of one such connection, the time after which it was told to come back.
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

/// Serves until `shutdown`, then until the last request is answered or patience ends. With `tls` nobody is
/// answered in plain text.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken, tls: Option<Tls>) {
    serve_with(listener, router, shutdown, tls, Patience::default()).await;
}

/// [`serve`] with bounds of one's own.
pub async fn serve_with(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    tls: Option<Tls>,
    patience: Patience,
) {
    let places = Arc::new(Semaphore::new(patience.connections_max));
    let turns = Arc::new(Turns::new(&patience));
    let mut connections = JoinSet::new();
    let mut was_full = false;
    loop {
        was_full = warn_once_full(&places, was_full, patience.connections_max);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (place, accepted) = accept(&listener, &places) => match accepted {
                Ok((stream, remote)) => {
                    let line = Line {
                        remote,
                        router: router.clone(),
                        shutdown: shutdown.clone(),
                        turns: Arc::clone(&turns),
                        patience: patience.clone(),
                    };
                    let tls = tls.clone();
                    connections.spawn(async move {
                        line.open(stream, tls).await;
                        drop(place);
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

/// Waits for a place first: without one, a connection stays in the system's queue.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (OwnedSemaphorePermit, io::Result<(TcpStream, SocketAddr)>) {
    let place = Arc::clone(places).acquire_owned().await.expect("it is never closed");
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

/// One connection and what it needs.
struct Line {
    remote: SocketAddr,
    router: Router,
    shutdown: CancellationToken,
    turns: Arc<Turns>,
    patience: Patience,
}

impl Line {
    /// Agrees on encryption, where there is any, and talks.
    async fn open(self, stream: TcpStream, tls: Option<Tls>) {
        // Answers are small and whole; waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else { return self.talk(stream, Certified(false)).await };
        // Whoever is slow here is as slow as with a head.
        match tokio::time::timeout(self.patience.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let shown = certified(&stream);
                self.talk(stream, shown).await;
            }
            Ok(Err(error)) => tracing::debug!(remote = %self.remote, "no TLS came about: {error}"),
            Err(_) => tracing::debug!(remote = %self.remote, "no TLS came about in time"),
        }
    }

    async fn talk(self, stream: impl Io + 'static, shown: Certified) {
        let Line { remote, router, shutdown, turns, patience } = self;
        let rest = Arc::new(Mutex::new(None));
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(remote));
            request.extensions_mut().insert(shown);
            let (router, rest, turns) = (router.clone(), Arc::clone(&rest), Arc::clone(&turns));
            async move {
                let until = rest.lock().expect("nothing panics with it").take();
                if let Some(until) = until {
                    tokio::time::sleep_until(until).await;
                }
                let response = router.oneshot(request).await?;
                if response.extensions().get::<Refused>().is_some() {
                    *rest.lock().expect("nothing panics with it") = Some(turns.take(Instant::now()));
                }
                Ok::<_, Infallible>(response)
            }
        });
        let io = TokioIo::new(Patient::new(stream, patience.write));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience.head)
            .max_buf_size(BUFFER_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(io, service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            biased;
            result = connection.as_mut() => result,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%remote, "the connection ended: {error}");
        }
    }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
