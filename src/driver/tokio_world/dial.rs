//! Dialing a peer: TCP, the HTTP upgrade, both sides' proofs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::SinkExt;
use http_body_util::Empty;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::connection::{self, Frames};
use super::counters::Count;
use super::handshake::{self, Hello, Role, Why};
use super::peers::{Room, Shared};
use super::registry::Failed;
use super::tls::Io;
use crate::model::Address;

/// From looking up the name to the proof.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of an answer's head.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Why a dial did not connect.
#[derive(Debug)]
enum DialError {
    /// Nobody answered, or not with HTTP.
    Unreachable(String),
    /// One of the two sides does not want to talk.
    Refused(Option<Why>, String),
}

impl<E: std::error::Error> From<E> for DialError {
    fn from(error: E) -> DialError {
        DialError::Unreachable(error.to_string())
    }
}

/// Dials an address, and carries frames if that leads to a connection.
pub async fn dial(shared: Arc<Shared>, to: Address) {
    let Some(room) = Room::enter(&shared) else {
        return fail(&shared, &to, DialError::Unreachable("too many connections".into()));
    };
    let attempt = timeout(DIAL_TIMEOUT, connect(&shared, &to)).await;
    match attempt.unwrap_or_else(|_| Err(DialError::Unreachable("no answer in time".into()))) {
        Ok((frames, peer)) => {
            shared.registry().dial_succeeded(&to, &peer.address, Instant::now());
            connection::serve(shared, frames, peer, true, room).await;
        }
        Err(error) => fail(&shared, &to, error),
    }
}

fn fail(shared: &Shared, to: &Address, error: DialError) {
    let failed = match &error {
        DialError::Refused(Some(Why::Own), _) => Failed::Own,
        DialError::Refused(..) => Failed::Refused,
        DialError::Unreachable(_) => Failed::Unreachable,
    };
    let jitter = shared.draw_jitter();
    let dropped = shared.registry().dial_failed(to, failed, jitter, Instant::now());
    match error {
        DialError::Refused(Some(Why::Own), _) => {}
        DialError::Refused(why, reason) => {
            shared.counters.one(Count::DialRefused);
            shared.counters.add(Count::DroppedUnreachable, dropped as u64);
            let code = why.map_or("unexpected-answer", Why::code);
            if shared.is_news("dial", code) {
                tracing::warn!(node = %shared.me.id, address = %to, event = "peer-refused", code, "{reason}");
            }
        }
        DialError::Unreachable(reason) => {
            shared.counters.one(Count::DialFailed);
            shared.counters.add(Count::DroppedUnreachable, dropped as u64);
            tracing::debug!(node = %shared.me.id, address = %to, event = "peer-unreachable", "{reason}");
        }
    }
}

async fn connect(shared: &Shared, to: &Address) -> Result<(Frames, Hello), DialError> {
    let stream = open(shared, to).await?;
    stream.set_nodelay(true)?;
    match &shared.tls {
        Some(tls) => ask_in(shared, to, tls.connect(to.as_str(), stream).await?).await,
        None => ask_in(shared, to, stream).await,
    }
}

/// Asks over a fresh connection to be taken as a peer, and proves to be one.
async fn ask_in(shared: &Shared, to: &Address, io: impl Io + 'static) -> Result<(Frames, Hello), DialError> {
    let (mut sender, driving) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(ANSWER_BYTES_MAX)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(io))
        .await?;
    let driving = AbortOnDropHandle::new(tokio::spawn(driving.with_upgrades()));

    let mine = shared.me.hello(shared.draw_nonce());
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = hyper::Uri::from_static(handshake::PATH);
    *request.headers_mut() = handshake::headers(&mine, shared.me.key.opening(&mine));
    request.headers_mut().insert(hyper::header::HOST, to.as_str().parse()?);
    let answer = sender.send_request(request).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (why, reason) = handshake::read_refusal(answer.status(), answer.headers());
        return Err(DialError::Refused(why, reason));
    }
    let theirs = shared.me.check_answer(&mine, answer.headers());
    let theirs = theirs.map_err(|refused| DialError::Refused(Some(refused.why), refused.reason))?;

    let upgraded = hyper::upgrade::on(answer).await?;
    // Done with HTTP: the task has given its socket away.
    driving.detach();
    let mut frames = connection::frames(upgraded);
    let proof = shared.me.key.proof(Role::Client, &mine, &theirs);
    frames.send(Bytes::copy_from_slice(proof.as_bytes())).await?;
    Ok((frames, theirs))
}

/// A TCP connection to the first of the name's addresses that takes one.
async fn open(shared: &Shared, to: &Address) -> Result<TcpStream, DialError> {
    let mut last = DialError::Unreachable("the name has no address".into());
    for address in tokio::net::lookup_host(to.as_str()).await? {
        if let Err(refused) = shared.me.check_whereabouts(Some(address.ip())) {
            last = DialError::Refused(Some(Why::NeedsSecret), refused.reason);
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}
