//! Laws of a stream: whatever changes between its steps, after the closing cover the puller holds what the
//! server had seen.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::model::{Key, Now, Origin, Stamp, Version, WallTime};
use crate::protocol::order;
use crate::protocol::outbox::Action;
use crate::protocol::push::BATCH_BYTES_MAX;
use crate::protocol::replica::{Change, Replica};
use crate::protocol::siblings::Saw;
use crate::storage::memory::{Memory, Tables};
use crate::storage::rows::Identity;
use crate::storage::{Batch, Storage, Table};

const NOW: Now = Now { mono: crate::model::Instant(Duration::ZERO), wall: WallTime(1_000_000) };
const SESSION: u64 = 1;

/// Every version that anybody ever wrote.
type Ledger = BTreeMap<Dot, Entry>;

struct Side {
    store: Memory,
    replica: Replica,
    dice: ChaCha8Rng,
}

impl Side {
    fn open(tables: Tables) -> Side {
        let store = Memory::new(tables);
        let id = NodeId::new("a").unwrap();
        let identity = Identity { id, life: 1, joined: WallTime(1), high_water: Stamp::default() };
        let replica = Replica::load(
            &store,
            &identity,
            crate::protocol::summary::SummaryKey::new(b""),
            Duration::from_secs(60),
            NOW,
        )
        .unwrap();
        Side { store, replica, dice: ChaCha8Rng::from_seed([1; 32]) }
    }

    fn merge(&mut self, entry: &Entry) {
        self.replica.merge(NOW, &mut self.store, entry).unwrap();
    }

    fn write(&mut self, key: Key, bytes: usize) -> Entry {
        let current = rows::record(&self.store, &key).unwrap();
        let (value, content_type) = (vec![b'v'; bytes].into(), "text/plain".into());
        let change = Change::Value { value, content_type, ttl: None };
        let (store, dice) = (&mut self.store, &mut self.dice);
        self.replica.write(NOW, store, dice, WallTime(1), (key, &current), (change, &Saw::Nothing)).unwrap()
    }

    fn assert_holds(&self, dots: &DotSet, ledger: &Ledger) {
        for (dot, entry) in ledger.iter().filter(|(dot, _)| dots.contains(**dot)) {
            let record = rows::record(&self.store, &entry.key).unwrap();
            let is_held =
                order::greatest(record.versions()).is_some_and(|held| !order::beats(&entry.version, held));
            assert!(is_held, "{dot} is covered, and neither it nor a later version of {} is held", entry.key);
        }
    }
}

/// What happens at the server.
#[derive(Clone, Debug)]
enum Happens {
    /// A client writes: key, size.
    Written(u8, usize),
    /// Another node's version arrives: origin, number, key, and its stamp's distance from now.
    Arrived(u64, u64, u8, u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    // The server's own origin is drawn; these lie before it and after it in dot order.
    let origin = prop_oneof![1_u64..3, (u64::MAX - 2)..u64::MAX];
    prop_oneof![
        (0_u8..4, 0_usize..40).prop_map(|(key, bytes)| Happens::Written(key, bytes)),
        (origin, 1_u64..12, 0_u8..4, 0_u64..6)
            .prop_map(|(origin, seq, key, later)| Happens::Arrived(origin, seq, key, later)),
    ]
}

fn key(number: u8) -> Key {
    Key::from_path(&format!("k{number}")).unwrap()
}

impl Happens {
    fn happen(&self, server: &mut Side, ledger: &mut Ledger) {
        match *self {
            Happens::Written(number, bytes) => {
                let entry = server.write(key(number), bytes);
                ledger.insert(entry.version.dot, entry);
            }
            Happens::Arrived(origin, seq, number, later) => {
                let dot = Dot { origin: Origin(origin), seq };
                let entry = ledger.entry(dot).or_insert_with(|| arrived(dot, key(number), later));
                server.merge(entry);
            }
        }
    }
}

fn arrived(dot: Dot, key: Key, later: u64) -> Entry {
    let version = Version {
        stamp: Stamp { millis: NOW.wall.0 + later, counter: 0 },
        dot,
        author_joined: WallTime(1),
        ruling: 0,
        confirms: None,
        tombstone: false,
        expires_at: None,
        content_type: String::new(),
        value: "arrived".into(),
    };
    Entry { key, version }
}

/// A stream between two sides, one step after the other.
struct Stream {
    serves: Serves,
    peer: NodeId,
    out: Outbox,
    step: u32,
    since: u64,
}

/// What a step brought.
struct Brought {
    entries: Vec<Entry>,
    cover: Option<DotSet>,
    recent_in: bool,
}

impl Stream {
    fn open(server: &Side, known: DotSet, credit: u32) -> Stream {
        Stream::open_since(server, known, credit, 0)
    }

    fn open_since(server: &Side, known: DotSet, credit: u32, since: u64) -> Stream {
        let mut stream = Stream {
            serves: Serves::default(),
            peer: NodeId::new("b").unwrap(),
            out: Outbox::default(),
            step: 0,
            since,
        };
        stream.out.set_meeting(&stream.peer, Some(1));
        stream.pull(server, known, credit);
        stream
    }

    fn pull(&mut self, server: &Side, known: DotSet, credit: u32) {
        let (store, seen) = (&server.store, server.replica.seen());
        let asked = Asked { known, credit, since: self.since };
        self.serves.on_pull(store, seen, (&self.peer, SESSION, 0), asked, &mut self.out).unwrap();
    }

    fn step_done(&mut self, server: &Side, step: u32) {
        let (store, seen) = (&server.store, server.replica.seen());
        self.serves.on_step_done(store, seen, (&self.peer, SESSION, step), &mut self.out).unwrap();
    }

    /// The step that was sent; `None` when the stream was refused.
    fn brought(&mut self) -> Option<Brought> {
        let mut entries = Vec::new();
        let mut parts_seen = 0;
        for action in self.out.take() {
            let action = match action {
                Action::Send(to, Message::Within { data, .. }) => Action::Send(to, *data),
                action => action,
            };
            match action {
                Action::Send(_, Message::Step { step, part, entries: more, .. }) => {
                    assert_eq!((step, part), (self.step, parts_seen));
                    assert!(more.len() == 1 || more.iter().map(size).sum::<usize>() <= BATCH_BYTES_MAX);
                    parts_seen += 1;
                    entries.extend(more);
                }
                Action::Send(_, Message::StepEnd { step, parts, cover, recent_in, .. }) => {
                    assert_eq!((step, parts), (self.step, parts_seen));
                    return Some(Brought { entries, cover, recent_in });
                }
                Action::Send(_, Message::Refuse { .. }) => return None,
                _ => {}
            }
        }
        panic!("a pull or a finished step is followed by a step or a refusal");
    }

    fn is_silent(&mut self) -> bool {
        self.out.take().is_empty()
    }
}

proptest! {
    #[test]
    fn after_the_closing_cover_the_puller_holds_what_the_server_had_seen(
        before in vec((happens(), prop::bool::weighted(0.1)), 0..20),
        between in vec(vec(happens(), 0..4), 0..12),
        credit in prop_oneof![Just(0), 0_u32..400],
        since in prop_oneof![Just(0), NOW.wall.0..NOW.wall.0 + 4],
    ) {
        let (mut server, mut puller) = (Side::open(Tables::default()), Side::open(Tables::default()));
        let mut ledger = Ledger::new();
        for (happens, is_pushed) in &before {
            happens.happen(&mut server, &mut ledger);
            for entry in ledger.values().filter(|_| *is_pushed) {
                puller.merge(entry);
            }
        }
        let mut between = between.into_iter();
        let mut was_recent_in = since == 0;
        let mut stream = Stream::open_since(&server, puller.replica.seen().clone(), credit, since);

        loop {
            let brought = stream.brought().expect("nothing rots here");
            let server_seen = server.replica.seen().clone();
            let bytes: usize = brought.entries.iter().map(size).sum();
            let last = brought.entries.last().map_or(0, size);
            prop_assert!(bytes - last <= credit as usize, "a step ends with the entry that uses the credit up");
            let is_recent = |entry: &Entry| entry.version.stamp.millis >= since;
            prop_assert!(was_recent_in || brought.entries.iter().all(is_recent), "recent ones come first");
            was_recent_in |= brought.recent_in;
            for entry in &brought.entries {
                prop_assert!(!puller.replica.seen().contains(entry.version.dot), "nothing is sent twice");
                puller.merge(entry);
            }
            if let Some(cover) = brought.cover {
                prop_assert!(server_seen.includes(&cover));
                puller.replica.cover(&cover);
                prop_assert!(puller.replica.seen().includes(&server_seen));
                puller.assert_holds(&server_seen, &ledger);
                break;
            }
            prop_assert!(!brought.entries.is_empty() || brought.recent_in, "a step moves something or ends the stream");
            for happens in between.next().unwrap_or_default() {
                happens.happen(&mut server, &mut ledger);
            }
            stream.step_done(&server, stream.step);
            stream.step += 1;
        }

        puller.assert_holds(puller.replica.seen(), &ledger);
        stream.step_done(&server, stream.step);
        prop_assert!(stream.is_silent() && stream.serves.by_peer.is_empty());
    }
}

/// T2 of the protocol's review: an entry that the pass has not come to is replaced by one that it has passed.
#[test]
fn what_replaced_an_entry_behind_the_cursor_is_sent_before_the_cover_marks_either() {
    let mut server = Side::open(Tables::default());
    let mut puller = Side::open(Tables::default());
    let dot = |origin, seq| Dot { origin: Origin(origin), seq };
    let [other, replaced, replacement] =
        [arrived(dot(2, 1), key(0), 0), arrived(dot(3, 1), key(1), 0), arrived(dot(1, 1), key(1), 1)];
    server.merge(&other);
    server.merge(&replaced);
    let mut stream = Stream::open(&server, DotSet::default(), 1);
    let first = stream.brought().unwrap();
    assert_eq!((first.entries, first.cover), (vec![other.clone()], None));
    puller.merge(&other);

    server.merge(&replacement);
    stream.step_done(&server, 0);
    stream.step = 1;
    let second = stream.brought().unwrap();

    assert_eq!(second.entries, std::slice::from_ref(&replacement));
    assert_eq!(second.cover, Some([replaced.version.dot, replacement.version.dot].into_iter().collect()));
}

#[test]
fn a_pull_that_arrives_twice_and_a_step_that_is_done_twice_are_answered_once() {
    let mut server = Side::open(Tables::default());
    server.write(key(0), 1);
    server.write(key(1), 1);
    let mut stream = Stream::open(&server, DotSet::default(), 1);
    stream.brought().unwrap();

    stream.pull(&server, DotSet::default(), 1);
    assert!(stream.is_silent());

    stream.step_done(&server, 0);
    stream.step = 1;
    stream.brought().unwrap();
    stream.step_done(&server, 0);
    stream.step_done(&server, 7);
    assert!(stream.is_silent());
}

#[test]
fn equal_sets_cost_one_empty_step() {
    let mut server = Side::open(Tables::default());
    server.write(key(0), 1);

    let mut stream = Stream::open(&server, server.replica.seen().clone(), 1);

    let brought = stream.brought().unwrap();
    assert_eq!((brought.entries.len(), brought.cover), (0, Some(DotSet::default())));
}

#[test]
fn a_step_is_bounded_in_entries_whatever_credit_the_puller_gives() {
    let mut server = Side::open(Tables::default());
    let count = STEP_ENTRIES_MAX + 1;
    for number in 0..count {
        server.write(Key::from_path(&format!("k{number}")).unwrap(), 0);
    }

    let mut stream = Stream::open(&server, DotSet::default(), u32::MAX);
    let first = stream.brought().unwrap();
    stream.step_done(&server, 0);
    stream.step = 1;
    let second = stream.brought().unwrap();

    assert_eq!((first.entries.len(), second.entries.len()), (STEP_ENTRIES_MAX, 1));
    assert!(first.cover.is_none() && second.cover.is_some());
}

#[test]
fn a_step_is_bounded_in_bytes_whatever_credit_the_puller_gives() {
    let mut server = Side::open(Tables::default());
    for number in 0..6 {
        server.write(key(number), Version::VALUE_BYTES_MAX);
    }

    let mut stream = Stream::open(&server, DotSet::default(), u32::MAX);

    let first = stream.brought().unwrap();
    assert_eq!(first.entries.len(), STEP_BYTES_MAX / Version::VALUE_BYTES_MAX);
    assert!(first.cover.is_none());
}

#[test]
fn what_has_rotted_is_not_covered_and_stops_nothing_else() {
    let mut server = Side::open(Tables::default());
    server.write(key(0), 10);
    let rotten = server.write(key(1), 10);
    server.write(key(2), 10);
    let mut batch = Batch::default();
    server.replica.save(&mut batch);
    server.store.apply(batch).unwrap();
    server.store.persist().unwrap();
    let mut tables = server.store.power_loss();
    let row = tables.rows_mut(Table::Records).get_mut(rotten.key.as_bytes()).unwrap();
    *row.last_mut().unwrap() ^= 1;
    let mut server = Side::open(tables);

    let mut stream = Stream::open(&server, DotSet::default(), u32::MAX);
    let first = stream.brought().unwrap();
    let met = stream.serves.take_rotten();
    assert!(server.replica.quarantine(&mut server.store, &rotten.key).unwrap());
    stream.step_done(&server, 0);
    stream.step = 1;
    let second = stream.brought().unwrap();

    assert_eq!(first.entries.iter().map(|entry| entry.key.clone()).collect::<Vec<_>>(), [key(0), key(2)]);
    assert_eq!(first.cover, None, "the rotten record may be what a cover would speak of");
    assert_eq!(met, std::slice::from_ref(&rotten.key));
    let cover = second.cover.expect("nothing is left to send");
    assert!(!cover.contains(rotten.version.dot) && !server.replica.seen().contains(rotten.version.dot));
    assert_eq!(rows::record(&server.store, &rotten.key).unwrap(), Record::Rotten, "nor is it absent");
}
