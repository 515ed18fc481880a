//! What a life can suffer, and which of it a seed switches on.

use std::collections::BTreeSet;

use super::dice::Dice;

/// One kind of trouble, or of traffic, that a seed has or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Some nodes do not reach others.
    Partition,
    /// Partitions that hold in one direction only.
    OneWay,
    /// Partitions that come and go quickly.
    Flapping,
    /// Messages get lost.
    Loss,
    /// Messages arrive twice.
    Duplicate,
    /// Slow links, and times when all are slow.
    Delay,
    /// A few messages arrive seconds late.
    Tail,
    /// Flipped bits.
    Corrupt,
    /// Power losses.
    Crash,
    /// Power losses in the middle of a turn.
    Boundary,
    /// Power losses again and again.
    CrashLoop,
    /// Every node in turn.
    Rolling,
    /// Writes torn by a crash.
    Tear,
    /// Nodes that stand still.
    Pause,
    /// Clocks that are off.
    Skew,
    /// Clocks that run too fast or too slow.
    Drift,
    /// Clocks that jump.
    Jump,
    /// Clocks that stand still.
    Freeze,
    /// A clock that is years ahead for a moment.
    FarFuture,
    /// Clocks that read tenths of a second, so that stamps collide.
    Coarse,
    /// Slow disks.
    SlowDisk,
    /// Messages get lost several in a row.
    Burst,
    /// Links that hold everything up, and then let it through at once.
    Clog,
    /// Links that carry little.
    Bandwidth,
    /// Machines on which everything takes long.
    Slow,
    /// Disks that take long now and then.
    Spikes,
    /// Syncs that fail, and disks that are full.
    BadDisk,
    /// Records that rot on their disk.
    Rot,
    /// A clock that jumps to and fro.
    Strobe,
    /// Nodes that come back with other timers.
    Configure,
    /// Power losses and partitions at the moment in which a node says something.
    Points,
    /// Values that expire.
    Ttl,
    /// Writes that wait for other nodes.
    Ack,
    /// Long and odd keys, large values.
    Odd,
    /// Clients that repeat a write at another node.
    Retry,
    /// Very many writes at one moment.
    Storm,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 36] = [
        Kind::Partition,
        Kind::OneWay,
        Kind::Flapping,
        Kind::Loss,
        Kind::Duplicate,
        Kind::Delay,
        Kind::Tail,
        Kind::Corrupt,
        Kind::Crash,
        Kind::Boundary,
        Kind::CrashLoop,
        Kind::Rolling,
        Kind::Tear,
        Kind::Pause,
        Kind::Skew,
        Kind::Drift,
        Kind::Jump,
        Kind::Freeze,
        Kind::FarFuture,
        Kind::Coarse,
        Kind::SlowDisk,
        Kind::Burst,
        Kind::Clog,
        Kind::Bandwidth,
        Kind::Slow,
        Kind::Spikes,
        Kind::BadDisk,
        Kind::Rot,
        Kind::Strobe,
        Kind::Configure,
        Kind::Points,
        Kind::Ttl,
        Kind::Ack,
        Kind::Odd,
        Kind::Retry,
        Kind::Storm,
    ];

    /// Those that are not troubles but traffic: a life without faults still has them.
    const TRAFFIC: [Kind; 5] = [Kind::Ttl, Kind::Ack, Kind::Odd, Kind::Retry, Kind::Storm];
}

const NONE: &str = "no faults";

/// The kinds that one seed has.
#[derive(Clone, Debug)]
pub struct Kinds {
    on: BTreeSet<Kind>,
    title: &'static str,
}

impl Kinds {
    /// One life in twenty has no faults, one has a single kind; of the rest half have everything, half a random
    /// half: some bugs only show where other faults do not cover them up.
    pub fn draw(seed: u64) -> Kinds {
        let mut dice = Dice::of(seed, "kinds");
        let (title, mut on) = match dice.number(0, 99) {
            0..5 => (NONE, BTreeSet::new()),
            5..10 => ("one kind of fault", BTreeSet::from([*dice.pick(&Kind::ALL)])),
            10..55 => ("some kinds of faults", some(&mut dice)),
            _ => ("all kinds of faults", BTreeSet::from(Kind::ALL)),
        };
        // A kind that refines another is nothing without it.
        for (kind, base) in [
            (Kind::OneWay, Kind::Partition),
            (Kind::Flapping, Kind::Partition),
            (Kind::Boundary, Kind::Crash),
            (Kind::Tear, Kind::Crash),
            (Kind::Points, Kind::Crash),
            (Kind::BadDisk, Kind::Crash),
            (Kind::Burst, Kind::Loss),
        ] {
            if on.contains(&kind) {
                on.insert(base);
            }
        }
        if on.is_empty() {
            on.extend(Kind::TRAFFIC);
        }
        Kinds { on, title }
    }

    /// What the choice was, for people.
    pub fn title(&self) -> String {
        if self.on.len() == Kind::ALL.len() || self.title == NONE {
            return self.title.to_owned();
        }
        let names: Vec<String> = self.on.iter().map(|kind| format!("{kind:?}")).collect();
        format!("{}: {}", self.title, names.join(", "))
    }

    /// Whether the seed has this kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.on.contains(&kind)
    }
}

fn some(dice: &mut Dice) -> BTreeSet<Kind> {
    let mut on: BTreeSet<Kind> = Kind::ALL.into_iter().filter(|_| dice.chance(50)).collect();
    if !on.contains(&Kind::Partition) && !on.contains(&Kind::Crash) {
        on.insert(*dice.pick(&[Kind::Partition, Kind::Crash]));
    }
    on
}
