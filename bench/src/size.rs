//! How much is measured: all of it takes some ten minutes on two cores, a quick look one or two.

use std::time::Duration;

/// The figures that a run is made of.
#[derive(Clone, Debug)]
pub struct Size {
    /// Rounds of the throughput table; odd, so that there is a median.
    pub rounds: usize,
    /// How long one load lasts.
    pub time: Duration,
    /// Samples of the way of a write to another node.
    pub samples: usize,
    /// Numbers of writes that a node misses.
    pub missed: Vec<usize>,
    /// Numbers of keys in the store.
    pub keys: Vec<u64>,
    /// Numbers of nodes.
    pub nodes: Vec<usize>,
    /// Entries of the stores that are brought into step.
    pub entries: Vec<usize>,
    /// Lives that the simulator is timed with, fast and full.
    pub lives: (usize, usize),
}

impl Size {
    /// What the published tables are made of.
    pub fn full() -> Size {
        Size {
            rounds: 3,
            time: Duration::from_millis(1500),
            samples: 1_000,
            missed: vec![10_000, 100_000],
            keys: vec![10_000, 100_000, 1_000_000],
            nodes: vec![1, 2, 3, 5, 7],
            entries: vec![10_000, 1_000_000],
            lives: (400, 20),
        }
    }

    /// Enough to see that something broke.
    pub fn quick() -> Size {
        Size {
            rounds: 1,
            time: Duration::from_millis(500),
            samples: 200,
            missed: vec![10_000],
            keys: vec![10_000],
            nodes: vec![1, 3],
            entries: vec![10_000],
            lives: (50, 5),
        }
    }
}
