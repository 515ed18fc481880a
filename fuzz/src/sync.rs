//! Two or three stores made from one by random changes, and sessions between them whose flights are lost, doubled,
//! damaged or cut off at any step. Every session ends within its bound; no version is invented or lost; and after clean
//! sessions all stores are the same: under each key the greatest of the versions that any of them had.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use reknit::model::{Dot, Entry, Instant, Key, NodeId, Now, Origin, Row, Stamp, Version, WallTime};
use reknit::protocol::flight;
use reknit::protocol::order;
use reknit::protocol::replica::{Merged, Replica};
use reknit::protocol::span::Span;
use reknit::protocol::summary::SummaryKey;
use reknit::protocol::talk::{Answer, Leave, Talk};
use reknit::storage::memory::Memory;
use reknit::storage::rows::{self, Identity};

const NOW: Now = Now { mono: Instant(Duration::ZERO), wall: WallTime(1_000_000) };
/// Most keys of a story.
const KEYS_MAX: usize = 600;
/// Most flights that a session of so few keys may need.
const FLIGHTS_MAX: usize = 200;
/// Most clean rounds until all is the same.
const ROUNDS_MAX: usize = 4;

struct Store {
    memory: Memory,
    replica: Replica,
}

pub fn run(bytes: &[u8]) {
    // What is left of the bytes when a story runs out of them is its end.
    let _ = story(&mut Unstructured::new(bytes));
}

fn story(input: &mut Unstructured<'_>) -> Result<()> {
    let mut stores: Vec<Store> = (0..input.int_in_range(2..=3)?).map(|_| Store::new()).collect();
    fill(&mut stores, input)?;
    let known: BTreeSet<(Key, Dot)> = stores.iter().flat_map(Store::dots).collect();
    let wanted = winners(&stores);

    for _ in 0..input.int_in_range(0..=4)? {
        let (a, b) = pair(&mut stores, input.int_in_range(0..=2)?);
        // A link that runs out of bytes is a link that is cut.
        let _ = converse(a, b, Some(input));
        check_invented(&stores, &known);
    }
    for _ in 0..ROUNDS_MAX {
        for number in 0..stores.len() {
            let (a, b) = pair(&mut stores, number);
            converse(a, b, None)?;
        }
    }
    check_invented(&stores, &known);
    for store in &stores {
        assert_eq!(winners(std::slice::from_ref(store)), wanted, "a store lacks what another has");
        assert_eq!(store.replica.chunks().root(), stores[0].replica.chunks().root(), "roots differ");
    }
    Ok(())
}

fn fill(stores: &mut [Store], input: &mut Unstructured<'_>) -> Result<()> {
    let keys = input.int_in_range(1..=KEYS_MAX)?;
    for number in 0..keys {
        for store in &mut *stores {
            store.put(number, 0);
        }
    }
    for _ in 0..input.int_in_range(0..=40)? {
        let (at, number) = (input.int_in_range(0..=stores.len() - 1)?, input.int_in_range(0..=keys)?);
        stores[at].put(number, input.int_in_range(1..=6)?);
    }
    Ok(())
}

impl Store {
    fn new() -> Store {
        let memory = Memory::default();
        let id = NodeId::new("a").expect("a letter is a node id");
        let identity = Identity { id, life: 1, joined: WallTime(1), high_water: Stamp::default() };
        let secret = SummaryKey::new(b"fuzz");
        let replica = Replica::load(&memory, &identity, secret, Duration::from_secs(60), NOW);
        Store { memory, replica: replica.expect("a memory disk does not break") }
    }

    /// Takes the version of this number of the key of that number.
    fn put(&mut self, number: usize, which: u64) {
        let key =
            Key::from_path(&format!("k/{}/{number}", number % 7)).expect("a path of plain words is a key");
        let version = Version {
            stamp: Stamp { millis: 1000 + which / 2, counter: 0 },
            dot: Dot { origin: Origin(1 + which), seq: number as u64 + 1 },
            author_joined: WallTime(which % 3),
            ruling: 0,
            confirms: None,
            tombstone: which == 5,
            expires_at: None,
            content_type: "text/plain".into(),
            value: if which == 5 { Bytes::new() } else { vec![b'v'; 20 * which as usize].into() },
        };
        self.take(&Entry { key, version });
    }

    fn take(&mut self, entry: &Entry) -> Merged {
        self.replica.repair(NOW, &mut self.memory, entry).expect("a memory disk does not break")
    }

    fn rows(&self) -> Vec<(Key, Row)> {
        let all = (Bound::Unbounded, Bound::Unbounded);
        let rows = rows::records(&self.memory, all, usize::MAX, false).expect("a memory disk does not break");
        rows.into_iter().filter_map(|(key, record)| Some((key, record.row()?))).collect()
    }

    fn dots(&self) -> Vec<(Key, Dot)> {
        let all = self.rows().into_iter();
        all.flat_map(|(key, row)| row.versions.into_iter().map(move |version| (key.clone(), version.dot)))
            .collect()
    }
}

fn winners(stores: &[Store]) -> BTreeMap<Key, Dot> {
    let mut winners: BTreeMap<Key, Version> = BTreeMap::new();
    for (key, row) in stores.iter().flat_map(Store::rows) {
        for version in row.versions {
            let loses = winners.get(&key).is_some_and(|best| order::compare(best, &version).is_ge());
            if !loses {
                winners.insert(key.clone(), version);
            }
        }
    }
    winners.into_iter().map(|(key, version)| (key, version.dot)).collect()
}

fn check_invented(stores: &[Store], known: &BTreeSet<(Key, Dot)>) {
    for held in stores.iter().flat_map(Store::dots) {
        assert!(known.contains(&held), "{held:?} is nobody's");
    }
}

/// Two of the stores.
fn pair(stores: &mut [Store], number: usize) -> (&mut Store, &mut Store) {
    let (a, b) = (number % stores.len(), (number + 1) % stores.len());
    let [a, b] = stores.get_disjoint_mut([a, b]).expect("there are two at least");
    (a, b)
}

/// One session; over a link that does anything, if there is an `input` to draw from.
fn converse(a: &mut Store, b: &mut Store, mut input: Option<&mut Unstructured<'_>>) -> Result<()> {
    let (mut first, mut second) = (Talk::new(true, false), Talk::new(true, false));
    let print = first.print(&a.memory, a.replica.chunks(), &Span::all()).expect("a memory disk");
    if second.print(&b.memory, b.replica.chunks(), &Span::all()).expect("a memory disk") == print {
        return Ok(());
    }
    second.hear_print(Span::all(), print);
    let (mut speaker, mut listener) = ((b, &mut second), (a, &mut first));
    let mut was_idle = false;
    for _ in 0..FLIGHTS_MAX {
        let leave = match input.as_mut() {
            Some(input) => Leave { bytes: input.int_in_range(1..=5000)?, ranges: input.int_in_range(1..=256)? },
            None => Leave { bytes: 1 << 20, ranges: 256 },
        };
        let (store, end) = (&mut *speaker.0, &mut *speaker.1);
        let mut answer =
            end.answer(&store.memory, store.replica.chunks(), leave).expect("a memory disk does not break");
        let is_idle = answer.is_idle();
        let mut times = 1;
        if let Some(input) = input.as_mut() {
            match input.int_in_range(0..=15_u8)? {
                0 => return Ok(()),
                1 => times = 2,
                2 => damage(&mut answer, input)?,
                3 => answer.entries.clear(),
                _ => {}
            }
        }
        for _ in 0..times {
            if !hear(listener.0, listener.1, &answer) {
                return Ok(());
            }
        }
        if is_idle && was_idle {
            return Ok(());
        }
        was_idle = is_idle;
        std::mem::swap(&mut speaker, &mut listener);
    }
    // Only where flights get lost may both ends wait for each other; the node above them has a deadline.
    assert!(input.is_some(), "a session over a good link did not end within {FLIGHTS_MAX} flights");
    Ok(())
}

fn damage(answer: &mut Answer, input: &mut Unstructured<'_>) -> Result<()> {
    if !answer.parts.is_empty() {
        let at = input.choose_index(answer.parts.len())?;
        answer.parts[at] ^= input.int_in_range(1..=255)?;
    }
    Ok(())
}

/// Whether the session goes on.
fn hear(store: &mut Store, talk: &mut Talk, answer: &Answer) -> bool {
    let Some(said) = flight::read(&answer.parts) else { return false };
    talk.hear_entries(store.replica.chunks(), &answer.entries);
    if !talk.hear(said) {
        return false;
    }
    for entry in &answer.entries {
        if store.take(entry) == Merged::Lost {
            talk.hear_loser(entry.key.clone());
        }
    }
    true
}
