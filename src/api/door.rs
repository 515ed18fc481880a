//! Before everything else: while a node has no room for another request, whoever asks for a key is told so at once.
//!
//! What is refused here has not been routed, looked at or logged, so that a crowd of refused requests costs those that
//! were taken as little as may be. The answer is the one that `admit` gives to whom it finds no room for.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, RETRY_AFTER, TRANSFER_ENCODING};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::Response;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tower::{Service, ServiceExt};

use super::metrics::Route;
use super::{REQUEST_ID, Shared, body, problem};

/// What stands in the answer where a request's id goes.
const ID: &str = "{id}";

/// Marks the answer to a request for which there was no room, and tells when there is some again.
#[derive(Clone, Debug)]
pub struct Refused(pub Arc<Room>);

/// Whether a request is for a key: these are counted and may be refused before they are routed.
pub fn counts(request: &Request) -> bool {
    request.uri().path().starts_with("/kv/")
}

/// The places of requests under way.
#[derive(Debug)]
pub struct Room {
    places: Arc<Semaphore>,
    /// From how many free places on those who were refused are let in again before their time: full use is made of the
    /// node, and no crowd stands at the door for the last place.
    spare: usize,
    freed: Notify,
}

impl Room {
    /// So many places.
    pub fn new(places: usize) -> Room {
        Room { places: Arc::new(Semaphore::new(places)), spare: places / 8 + 1, freed: Notify::new() }
    }

    /// A place, if one is free.
    pub fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// A place was given back.
    pub fn freed(&self) {
        if self.places.available_permits() >= self.spare {
            self.freed.notify_one();
        }
    }

    /// Waits until there are some places to spare; as many as there are get through, the first first.
    pub async fn spare(&self) {
        if self.places.available_permits() < self.spare {
            self.freed.notified().await;
        }
    }

    fn is_full(&self) -> bool {
        self.places.available_permits() == 0
    }
}

/// All routes, and who stands before them.
#[derive(Clone)]
pub struct Door {
    shared: Arc<Shared>,
    routes: Router,
    /// The refusal, before and after the request's id.
    refusal: Arc<(String, String)>,
}

impl Door {
    /// Stands before these routes.
    pub(super) fn new(shared: Arc<Shared>, routes: Router) -> Door {
        let problem = problem::document(&shared.no_room(), ID);
        let text = String::from_utf8(problem).expect("JSON is text");
        let (before, after) = text.split_once(ID).expect("a problem tells the request's id");
        Door { shared, routes, refusal: Arc::new((before.to_owned(), after.to_owned())) }
    }

    /// Whether this is one of the requests that are counted, and there is no room for it. Whether a coding makes sense is
    /// looked at behind the door.
    fn refuses(&self, request: &Request) -> bool {
        counts(request) && !request.headers().contains_key(TRANSFER_ENCODING) && self.shared.room.is_full()
    }

    async fn refuse(self, request: Request) -> Response {
        let (head, body) = request.into_parts();
        if !head.headers.contains_key(EXPECT) {
            take(body).await;
        }
        let id = self.shared.request_id(&head.headers);
        let (before, after) = &*self.refusal;
        let text = [before, id.as_str(), after].concat();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.extensions_mut().insert(Refused(Arc::clone(&self.shared.room)));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CONTENT_LENGTH, text.len().into());
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        headers.insert(REQUEST_ID, HeaderValue::from_str(&id).expect("ids are checked or made here"));
        if head.method != Method::HEAD {
            *response.body_mut() = Body::from(text);
        }
        self.shared.metrics.refused(Route::KEY, &head.method);
        response
    }
}

/// Takes a small body, so that the connection can go on; mostly it is here already.
async fn take(mut body: Body) {
    if body.size_hint().upper().is_none_or(|bytes| bytes > body::REFUSED_BYTES_MAX) {
        return;
    }
    while !body.is_end_stream() {
        match body.frame().now_or_never() {
            Some(Some(Ok(_))) => {}
            Some(_) => return,
            None => return body::read_on(body).await,
        }
    }
}

impl Service<Request> for Door {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if self.refuses(&request) {
            return Box::pin(self.clone().refuse(request).map(Ok));
        }
        let routes = self.routes.clone();
        Box::pin(routes.oneshot(request))
    }
}
