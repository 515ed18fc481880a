//! The peers' door on the clients' port. Who may come in is decided by [`Peers`]; a refusal is a problem like any.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request as HttpRequest};
use axum::response::Response;
use axum::routing::get;

use super::problem::Problem;
use super::{App, Shared, dress, routes};
use crate::driver::tokio_world::Peers;
use crate::driver::tokio_world::peers::PATH;

/// Everything that [`super::router`] answers, and the upgrade of peers' connections.
pub fn router_with_peers(app: App, peers: Peers) -> Router {
    let shared = Shared::new(app, Some(peers.clone()));
    let door = get(move |request: HttpRequest| std::future::ready(accept(&peers, request)));
    dress(routes().route(PATH, door), shared)
}

fn accept(peers: &Peers, mut request: HttpRequest) -> Result<Response, Problem> {
    let remote = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    match peers.accept(&mut request, remote) {
        Ok(switching) => Ok(switching.map(|()| Body::empty())),
        Err(refused) => {
            let detail = refused.to_string();
            Err(Problem::foreign(refused.status(), refused.code(), detail, refused.headers()))
        }
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
