//! A sync session of reknit between two stores, every flight through the wire's bytes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reknit::protocol::flight::{self, Flight};
use reknit::protocol::message::Message;
use reknit::protocol::replica::Merged;
use reknit::protocol::span::Span;
use reknit::protocol::talk::{Answer, Leave, ROOM_MIN, Talk};
use reknit::protocol::wire;

use crate::stores::{NOW, Store};

/// Bytes of entries that a flight may bring: the node's default.
const CREDIT: usize = 1 << 20;

/// What it cost.
#[derive(Default)]
pub struct Cost {
    /// Bytes both ways, frames' headers included, entries left out.
    pub bytes: usize,
    /// Bytes of the entries that moved.
    pub entry_bytes: usize,
    /// Entries that moved.
    pub entries: usize,
    /// Messages that said something, both ways.
    pub flights: usize,
    /// Of both ends, on one thread.
    pub cpu: Duration,
}

/// Lets `a` open a session with `b` and both talk until all is said.
pub fn converse(a: &mut Store, b: &mut Store) -> Result<Cost> {
    let mut cost = Cost::default();
    let began = Instant::now();
    let (mut first, mut second) = (Talk::new(true, false), Talk::new(true, false));
    let print = first.print(&a.memory, a.replica.chunks(), &Span::all())?;
    let theirs = second.print(&b.memory, b.replica.chunks(), &Span::all())?;
    cost.add(&Message::SyncOpen { session: 1, print, scope: None })?;
    if print == theirs {
        cost.add(&Message::SyncSame { session: 1 })?;
        cost.cpu = began.elapsed();
        return Ok(cost);
    }
    second.hear_print(Span::all(), print);
    let (mut speaker, mut talk) = ((b, &mut second), (a, &mut first));
    let mut was_idle = false;
    let mut leave = Leave { bytes: CREDIT, ranges: ROOM_MIN };
    for step in 1.. {
        let (store, end) = (&mut *speaker.0, &mut *speaker.1);
        let answer = end.answer(&store.memory, store.replica.chunks(), leave)?;
        leave = Leave { bytes: CREDIT, ranges: end.room() };
        let is_idle = answer.is_idle();
        take(&mut *talk.0, talk.1, &answer)?;
        cost.add_flight(step, answer)?;
        if is_idle && was_idle {
            break;
        }
        was_idle = is_idle;
        std::mem::swap(&mut speaker, &mut talk);
    }
    cost.cpu = began.elapsed();
    Ok(cost)
}

fn take(store: &mut Store, talk: &mut Talk, answer: &Answer) -> Result<()> {
    let said = flight::read(&answer.parts).context("an honest end makes sense")?;
    talk.hear_entries(store.replica.chunks(), &answer.entries);
    ensure!(talk.hear(said), "a frontier beyond its bound");
    for entry in &answer.entries {
        if store.replica.repair(NOW, &mut store.memory, entry)? == Merged::Lost {
            talk.hear_loser(entry.key.clone());
        }
    }
    Ok(())
}

impl Cost {
    fn add(&mut self, message: &Message) -> Result<()> {
        self.bytes += frames(message)?;
        self.flights += 1;
        Ok(())
    }

    fn add_flight(&mut self, step: u32, answer: Answer) -> Result<()> {
        let is_idle = answer.is_idle();
        let Answer { parts, entries, more, .. } = answer;
        self.entries += entries.len();
        let mut flight =
            Flight { session: 1, step, credit: CREDIT as u32, room: 1, more, parts: parts.into(), entries };
        let whole = frames(&Message::SyncFlight(Box::new(flight.clone())))?;
        flight.entries.clear();
        let bare = frames(&Message::SyncFlight(Box::new(flight)))?;
        self.bytes += bare;
        self.entry_bytes += whole - bare;
        // The last flights only say that there is nothing more.
        self.flights += usize::from(!is_idle);
        Ok(())
    }
}

/// The bytes of a message in its meeting, as they travel.
fn frames(message: &Message) -> Result<usize> {
    let message = Message::Within { meeting: 1, data: Box::new(message.clone()) };
    Ok(wire::encode(&message, 1)?.iter().map(bytes::Bytes::len).sum())
}
