//! The stores that are compared: path keys, one version each, and differences put into one of them.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reknit::model::{Dot, Key, NodeId, Now, Origin, Row, Stamp, Version, WallTime};
use reknit::protocol::replica::Replica;
use reknit::protocol::summary::SummaryKey;
use reknit::storage::memory::Memory;
use reknit::storage::rows::Identity;

/// When everything happens.
pub const NOW: Now = Now { mono: reknit::model::Instant(Duration::ZERO), wall: WallTime(1_000_000) };

/// Where the keys that differ lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// Anywhere.
    Scattered,
    /// Side by side.
    OnePrefix,
}

/// How they differ.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The second store lacks them.
    Missing,
    /// The second store has an older version.
    Changed,
}

/// One node's rows.
pub struct Store {
    pub memory: Memory,
    pub replica: Replica,
}

impl Store {
    /// A store with one version under each key.
    pub fn filled(keys: &[Key]) -> Result<Store> {
        let memory = Memory::default();
        let id = NodeId::new("a").expect("a letter is a node id");
        let identity = Identity { id, life: 1, joined: WallTime(1), high_water: Stamp::default() };
        let secret = SummaryKey::new(b"bench");
        let replica = Replica::load(&memory, &identity, secret, Duration::from_secs(60), NOW)?;
        let mut store = Store { memory, replica };
        for (number, key) in keys.iter().enumerate() {
            store.replica.set_row(&mut store.memory, key, &row(number, true), &[])?;
        }
        Ok(store)
    }

    /// Puts the second store's differences in.
    pub fn differ(&mut self, keys: &[Key], numbers: &[usize], kind: Kind) -> Result<()> {
        for number in numbers {
            let row = match kind {
                Kind::Missing => Row::default(),
                Kind::Changed => self::row(*number, false),
            };
            let before = self::row(*number, true).versions;
            self.replica.set_row(&mut self.memory, &keys[*number], &row, &before)?;
        }
        Ok(())
    }
}

/// The version under the key of this number, or the older one.
fn row(number: usize, is_new: bool) -> Row {
    let seq = 2 * number as u64 + 1 + u64::from(is_new);
    Row::one(Version {
        stamp: Stamp { millis: 1000 + u64::from(is_new), counter: 0 },
        dot: Dot { origin: Origin(7 + number as u64 % 5), seq },
        author_joined: WallTime(1),
        ruling: 0,
        confirms: None,
        tombstone: false,
        expires_at: None,
        content_type: "application/json".into(),
        value: Bytes::from_static(&[b'v'; 100]),
    })
}

/// So many different keys such as `office/bedroom-13/box-59/tools-91`, in order.
pub fn keys(count: usize) -> Vec<Key> {
    const PLACES: [&str; 4] = ["office", "home", "depot", "garden"];
    const ROOMS: [&str; 4] = ["bedroom", "kitchen", "hall", "attic"];
    const THINGS: [&str; 4] = ["tools", "socks", "books", "cables"];
    let mut dice = ChaCha8Rng::seed_from_u64(count as u64);
    let mut keys: Vec<Key> = (0..count)
        .map(|number| {
            let [place, room, thing] = [PLACES, ROOMS, THINGS].map(|words| words[dice.random_range(0..4)]);
            let path = format!("{place}/{room}-{}/box-{}/{thing}-{number}", number % 97, number % 89);
            Key::from_path(&path).expect("a path of plain words is a key")
        })
        .collect();
    keys.sort();
    keys
}

/// Which keys differ.
pub fn chosen(count: usize, differing: usize, spread: Spread) -> Vec<usize> {
    let mut dice = ChaCha8Rng::seed_from_u64(differing as u64);
    match spread {
        Spread::Scattered => {
            let mut all: Vec<usize> = (0..count).collect();
            all.shuffle(&mut dice);
            all.truncate(differing);
            all.sort_unstable();
            all
        }
        Spread::OnePrefix => {
            let first = dice.random_range(0..=count - differing);
            (first..first + differing).collect()
        }
    }
}
