//! `GET /events`: what the node noticed (members that come, fall silent, return, leave; collisions; refusals), as a list
//! or told as it comes (server-sent events).
//!
//! The last [`crate::driver::EVENTS_KEPT_MAX`] events of this run are kept, in memory. Who reads too slowly is told how many it
//! missed; nothing waits for a reader.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::params::{self, Params};
use super::problem::{Code, Problem, single_header};
use super::shown::{EVENT_STREAM, accepts};
use super::{Shared, json};
use crate::driver::{Noticed, Pulse};
use crate::node::Level;

/// A comment goes out this often when nothing else does, so that both ends notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Most events told at once.
const EVENTS_MAX: usize = 100;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What the node noticed.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "EventShown")]
pub struct Shown {
    id: u64,
    timestamp: u64,
    level: &'static str,
    event: &'static str,
    text: String,
}

/// What the node noticed, the oldest first.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Events")]
pub struct Listed {
    events: Vec<Shown>,
    /// Asked with this as `since`, what comes after these.
    next: u64,
    /// How many after `since` are not kept any more.
    missed: u64,
}

/// `GET /events`
pub async fn events(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let params = Params::parse(parts.uri.query(), &["since", "event"])?;
    let since = match single_header(&parts.headers, &LAST_EVENT_ID)? {
        Some(id) => Some(id.to_owned()),
        None => params.text("since")?.map(str::to_owned),
    };
    let since = match since.as_deref() {
        None => 0,
        Some("now") => shared.app.pulse.noticed_after(u64::MAX, 0).next,
        Some(text) => {
            text.parse().map_err(|_| params::bad(format!("since={text} is no id of an event, nor `now`")))?
        }
    };
    let only = params.text("event")?.map(str::to_owned);
    if accepts(&parts.headers, EVENT_STREAM) {
        let place = Arc::clone(&shared.watches).try_acquire_owned();
        let place = place.map_err(|_| Problem::new(Code::Busy, "too many clients watch already"))?;
        return Ok(Watch { shared, since, only, _place: place }.stream());
    }
    let noticed = shared.app.pulse.noticed_after(since, usize::MAX);
    let (missed, next) = (noticed.missed, noticed.next);
    let events = noticed.events.into_iter().map(show).filter(|event| is_wanted(&only, event)).collect();
    Ok(json(&Listed { events, next, missed }))
}

/// One client that is told as it comes.
struct Watch {
    shared: Arc<Shared>,
    since: u64,
    only: Option<String>,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    fn stream(self) -> Response {
        let events = futures_util::stream::unfold(self, |mut watch| async {
            let events = watch.next().await?;
            Some((events, watch))
        });
        let events = futures_util::StreamExt::flat_map(events, |events| {
            futures_util::stream::iter(events.into_iter().map(Ok::<_, Infallible>))
        });
        let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
        // A proxy that collects an answer before passing it on would hold a watch for ever.
        ([(BUFFERING, HeaderValue::from_static("no"))], sse).into_response()
    }

    /// What is new, or `None` when the node stops.
    async fn next(&mut self) -> Option<Vec<Event>> {
        let pulse: &Pulse = &self.shared.app.pulse;
        let mut beats = pulse.listen();
        loop {
            beats.mark_unchanged();
            let noticed = pulse.noticed_after(self.since, EVENTS_MAX);
            self.since = noticed.next;
            let mut events = Vec::new();
            if noticed.missed > 0 {
                events
                    .push(Event::default().event("missed").data(format!("{{\"count\":{}}}", noticed.missed)));
            }
            for shown in noticed.events.into_iter().map(show).filter(|event| is_wanted(&self.only, event)) {
                let data = serde_json::to_string(&shown).expect("our own structs are JSON");
                events.push(Event::default().event(shown.event).id(shown.id.to_string()).data(data));
            }
            if !events.is_empty() {
                return Some(events);
            }
            tokio::select! {
                biased;
                () = self.shared.app.stop.cancelled() => return None,
                beat = beats.changed() => beat.ok()?,
            }
        }
    }
}

fn is_wanted(only: &Option<String>, event: &Shown) -> bool {
    only.as_ref().is_none_or(|name| name == event.event)
}

fn show((id, Noticed { at, event }): (u64, Noticed)) -> Shown {
    let level = match event.level {
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    Shown { id, timestamp: at.0, level, event: event.name, text: event.text }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
