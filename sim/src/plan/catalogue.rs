//! Every fault that a life can suffer, with its default draw: the table that the plan is drawn by, that `sim faults`
//! shows and that `docs/simulator.md` holds.
//!
//! The shares stand here and nowhere else. What a draw is in detail is said in words, beside the code in `faults`,
//! `surroundings` and `clients` that makes it.

use super::kinds::Kind;

/// In which world a fault is what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worlds {
    /// In both.
    Both,
    /// In this one only, and why.
    Only(&'static str, &'static str),
    /// In none, and why.
    None(&'static str),
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Its number: N network, P process, D disk, T time, O operations, C clients.
    pub id: &'static str,
    /// What it is.
    pub name: &'static str,
    /// The kind that switches it on; nothing if it always is, or never.
    pub kind: Option<Kind>,
    /// In how many of a hundred cases it comes about where its kind is on.
    pub percent: u32,
    /// Of what that is the share, and how the fault is drawn.
    pub draw: &'static str,
    /// Where.
    pub worlds: Worlds,
}

const fn fault(id: &'static str, name: &'static str, kind: Kind, percent: u32, draw: &'static str) -> Fault {
    Fault { id, name, kind: Some(kind), percent, draw, worlds: Worlds::Both }
}

const fn always(id: &'static str, name: &'static str, draw: &'static str) -> Fault {
    Fault { id, name, kind: None, percent: 100, draw, worlds: Worlds::Both }
}

const fn never(id: &'static str, name: &'static str, why: &'static str) -> Fault {
    Fault { id, name, kind: None, percent: 0, draw: "-", worlds: Worlds::None(why) }
}

/// Nodes lose their disks, get back an old backup or the copy of another's: in so many of a hundred lives.
pub const DISK_LOSS_PERCENT: u32 = 40;
/// Nodes join late, leave and are removed: in so many of a hundred lives.
pub const MEMBERSHIP_PERCENT: u32 = 30;
/// In so many of a hundred lives each knob is turned down on its own.
pub const KNOB_PERCENT: u32 = 25;

/// All faults.
pub const CATALOGUE: &[Fault] = &[
    fault(
        "N1",
        "partition",
        Kind::Partition,
        100,
        "of lives; one per 2 s to 15 s: one node 45 %, halves 30 %, a bridge 15 %, a ring 10 %, one directed link \
         10 %, everyone alone 5 %; lasts a fifth to three times of a timer",
    ),
    fault("N2", "one direction only", Kind::OneWay, 35, "of partitions"),
    fault(
        "N3",
        "flapping link",
        Kind::Flapping,
        30,
        "of lives, in half of their partitions: 2 to 10 times on and off",
    ),
    fault("N4", "loss", Kind::Loss, 60, "of lives: 0.1 % to 30 % of messages; in bad weather 10 % to 90 %"),
    fault(
        "N4",
        "loss in bursts",
        Kind::Burst,
        50,
        "of lives: 3 to 20 messages of a link in a row, on average",
    ),
    fault(
        "N5",
        "duplicates",
        Kind::Duplicate,
        50,
        "of lives: 0.1 % to 30 % of messages, the copy with a delay of its own",
    ),
    fault(
        "N6",
        "delay",
        Kind::Delay,
        100,
        "of lives: 0 ms to 30 ms and 1 ms to 200 ms more; in bad weather up to 2.5 s",
    ),
    fault(
        "N6",
        "delay with a tail",
        Kind::Tail,
        50,
        "of lives: 0.1 % to 2 % of messages take 1 s to 20 s longer",
    ),
    fault(
        "N7",
        "clogged links",
        Kind::Clog,
        30,
        "of lives, one per 4 s to 20 s: all of one node, or of half of them",
    ),
    fault(
        "N8",
        "little bandwidth",
        Kind::Bandwidth,
        20,
        "of lives: 8 kB/s to 8 MB/s, half a second of it waits",
    ),
    fault(
        "N9",
        "damage",
        Kind::Corrupt,
        30,
        "of lives: 0.1 % to 1 % of messages: bits flipped, in one of eight cut short, in one of eight two put together",
    ),
    fault(
        "P1",
        "power loss",
        Kind::Crash,
        100,
        "of lives: one per node and 8 s, 16 s or 32 s; down a fifth to three times of a timer",
    ),
    fault(
        "P1",
        "within a turn",
        Kind::Boundary,
        60,
        "of power losses: before or after the persist, or in the middle of sending",
    ),
    fault(
        "P1",
        "at a point",
        Kind::Points,
        30,
        "of power losses and of isolations: right behind the next message of a drawn kind",
    ),
    fault(
        "P2",
        "crash loop",
        Kind::CrashLoop,
        10,
        "of troubles with power: 3 to 8 restarts, up for 10 ms to 1 s",
    ),
    fault("P2", "rolling restart", Kind::Rolling, 25, "of lives"),
    fault("P3", "pause", Kind::Pause, 30, "of troubles with power: 0.2 s to 3 s 80 %, 1 s to 20 s 20 %"),
    fault(
        "P4",
        "slow machine",
        Kind::Slow,
        20,
        "of nodes: now and then 10 to 100 times as slow, for a fifth to three times of a timer",
    ),
    Fault {
        id: "P5",
        name: "disk lost",
        kind: None,
        percent: DISK_LOSS_PERCENT,
        draw: "of lives, with 15 % of their power losses; the node keeps its id, which stands in its configuration",
        worlds: Worlds::Both,
    },
    Fault {
        id: "P6",
        name: "old backup",
        kind: None,
        percent: DISK_LOSS_PERCENT,
        draw: "of lives, with 9 % of their power losses: what was durable 0.1 s to 5 s after an earlier restart",
        worlds: Worlds::Both,
    },
    Fault {
        id: "P7",
        name: "clone",
        kind: None,
        percent: DISK_LOSS_PERCENT,
        draw: "of lives, with 6 % of their power losses: comes back with the copy of a living node's disk",
        worlds: Worlds::Both,
    },
    always("D1", "unsynced writes lost", "all of what was not persisted at each power loss"),
    Fault {
        id: "D2",
        name: "torn writes",
        kind: Some(Kind::Tear),
        percent: 50,
        draw: "of lives: any of the 512-byte sectors that were not synced",
        worlds: Worlds::Only("full", "the fast world's disk has no sectors; it loses all"),
    },
    Fault {
        id: "D3",
        name: "rot",
        kind: Some(Kind::Rot),
        percent: 15,
        draw: "of lives, one per 5 s to 30 s: a bit of a drawn record of a drawn node",
        worlds: Worlds::Only(
            "fast",
            "redb does not open a file with a damaged page: that is a lost disk, P5",
        ),
    },
    never(
        "D4",
        "misdirected and stale pages",
        "redb's file is one tree: such a page is a store that does not open, P5",
    ),
    fault(
        "D5",
        "full disk",
        Kind::BadDisk,
        5,
        "of power losses: a write fails instead, and the process ends of it",
    ),
    fault(
        "D6",
        "failing sync",
        Kind::BadDisk,
        10,
        "of power losses: a sync fails and did nothing, and the process ends of it",
    ),
    fault("D7", "slow disk", Kind::SlowDisk, 100, "of lives: a persist takes 1 ms to 0.3 s"),
    fault(
        "D7",
        "disk with spikes",
        Kind::Spikes,
        30,
        "of lives: 0.1 % to 2 % of persists take 0.1 s to 2 s longer",
    ),
    fault(
        "T1",
        "skew",
        Kind::Skew,
        100,
        "of nodes: none 40 %, up to 50 ms 30 %, up to 5 s 25 %, up to 50 s 5 %, either way",
    ),
    fault("T2", "drift", Kind::Drift, 100, "of nodes: up to 500 ppm either way, in one of twenty up to 5 %"),
    fault("T3", "jump", Kind::Jump, 40, "of nodes, one per 15 s: 10 ms to 40 s either way"),
    fault("T3", "strobe", Kind::Strobe, 5, "of nodes: 200 jumps to and fro within 10 s"),
    fault("T4", "far future", Kind::FarFuture, 4, "of nodes: 10 to 80 years for 0.1 s to 5 s"),
    fault("T5", "coarse clocks", Kind::Coarse, 100, "of lives: 100 ms 75 %, 10 ms and 1 s 12 % each"),
    fault("T6", "frozen clock", Kind::Freeze, 30, "of nodes, one per 15 s: for 0.2 s to 8 s"),
    never(
        "O1",
        "rolling upgrade",
        "there is one version of the wire and of the disk so far; golden bytes guard both",
    ),
    Fault {
        id: "O2",
        name: "replaced node",
        kind: None,
        percent: DISK_LOSS_PERCENT,
        draw: "of lives: another node's disk at this address is P7, an empty one P5; another name at the same address \
               cannot be, names are addresses here",
        worlds: Worlds::Both,
    },
    Fault {
        id: "O3",
        name: "join, leave, remove",
        kind: None,
        percent: MEMBERSHIP_PERCENT,
        draw: "of lives: 0 to 2 nodes join in the first half, then a quarter each stays, leaves, leaves and returns, \
               or dies and is removed",
        worlds: Worlds::Both,
    },
    fault(
        "O4",
        "changed configuration",
        Kind::Configure,
        10,
        "of nodes: a timer a fifth to three times as long from the next start on",
    ),
    fault(
        "C1",
        "client retries",
        Kind::Retry,
        20,
        "of writes: the same at another node, at once to 3 s later",
    ),
    always(
        "C2",
        "hot and fresh keys",
        "1 to 8 hot keys with 30 % to 80 % of the operations; else a key of its own",
    ),
    always(
        "C3",
        "races",
        "30 % to 60 % of writes: a second one to the key at another node, at once to two rounds of sync later",
    ),
    fault(
        "C4",
        "odd keys, large values",
        Kind::Odd,
        15,
        "of fresh keys: 255 bytes, no UTF-8, prefixes, look-alikes; values up to more than a frame",
    ),
    always("C5", "deletes", "5 %, 30 % or 60 % of the hot half of the writes"),
    fault("C6", "deadlines", Kind::Ttl, 50, "of lives: 10 % or 30 % of puts, 0.1 s to 60 s"),
    fault(
        "C6",
        "writes that wait for others",
        Kind::Ack,
        67,
        "of lives: 10 % or 40 % of writes, for two nodes or most",
    ),
    fault("C7", "storm", Kind::Storm, 10, "of lives: 200 deletes or fresh keys at one moment, at one node"),
];

/// The first fault of this kind.
///
/// # Panics
/// There is none.
pub fn of(kind: Kind) -> &'static Fault {
    let fault = CATALOGUE.iter().find(|fault| fault.kind == Some(kind));
    fault.unwrap_or_else(|| panic!("{kind:?} stands in no row of the catalogue"))
}

/// In how many of a hundred cases a fault of this kind comes about.
pub fn percent(kind: Kind) -> u32 {
    of(kind).percent
}

/// The table for a terminal.
pub fn text() -> String {
    let mut lines = vec![
        "Faults, and how a life draws them where they are switched on. A life in twenty has none, \
one has a single kind,\nhalf of the others have all, half a random half.\n"
            .to_owned(),
    ];
    for Fault { id, name, percent, draw, worlds, .. } in CATALOGUE {
        lines.push(match worlds {
            Worlds::Both => format!("  {id:<3} {name:<24} {percent:>3} % {draw}"),
            Worlds::Only(world, why) => {
                format!("  {id:<3} {name:<24} {percent:>3} % {draw}; {world} world only: {why}")
            }
            Worlds::None(why) => format!("  {id:<3} {name:<24}     - {why}"),
        });
    }
    lines.push(format!(
        "\nKnobs, each turned down in {KNOB_PERCENT} % of the lives: the intervals of \
comparisons and of catching up, and every quirk of a node (sim help scenario, `quirks`); in half of them the\ncredit of \
streams (1 to 4000 bytes).\nEvery step can be written in a scenario: sim help scenario.\n"
    ));
    lines.join("\n")
}

/// The table as Markdown.
pub fn markdown() -> String {
    let mut page = "| | fault | share | of what, and how | worlds |\n|---|---|---|---|---|\n".to_owned();
    for Fault { id, name, percent, draw, worlds, .. } in CATALOGUE {
        let (share, draw, worlds) = match worlds {
            Worlds::Both => (format!("{percent} %"), *draw, "both".to_owned()),
            Worlds::Only(world, why) => (format!("{percent} %"), *draw, format!("{world}: {why}")),
            Worlds::None(why) => ("never".to_owned(), "", format!("none: {why}")),
        };
        page += &format!("| {id} | {name} | {share} | {draw} | {worlds} |\n");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manual;

    #[test]
    fn every_kind_stands_in_the_catalogue_and_every_number_of_the_issue_does() {
        Kind::ALL.into_iter().for_each(|kind| assert!(!of(kind).id.is_empty(), "{kind:?}"));
        let numbers = [('N', 9), ('P', 7), ('D', 7), ('T', 6), ('O', 4), ('C', 7)];
        for (letter, last) in numbers {
            for number in 1..=last {
                let id = format!("{letter}{number}");
                assert!(CATALOGUE.iter().any(|fault| fault.id == id), "{id}");
            }
        }
    }

    #[test]
    fn the_table_of_the_manual_is_made_from_the_catalogue() {
        manual::keeps("faults", &markdown());
    }
}
