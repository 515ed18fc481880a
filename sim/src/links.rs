//! Links between nodes, each direction on its own: delay with a tail, loss, duplication, damage, cuts.
//!
//! What becomes of a frame is drawn from its link and the moment it is sent, so that taking one message out
//! leaves the fate of all others as it was. Pure; both worlds carry out what is decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::random::{self, Moment};
use crate::scenario::{Draw, Network};

/// How much later than drawn a frame in the tail arrives.
const TAIL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(20);
/// How long what a clogged link held up takes to arrive once it is let through: long enough to come in any order.
const RELEASE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_millis(10);
/// How long a frame may wait for a link with little bandwidth; what would wait longer is lost.
const QUEUE_MAX: Duration = Duration::from_millis(500);
/// Most bits that damage flips in one frame.
const FLIPS_MAX: u64 = 4;
/// The delay of a network that does nobody any harm.
const BENIGN_DELAY: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(5);

/// One copy of a frame on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When it is there, unless the link is cut by then.
    pub at: Duration,
    /// The bytes as they arrive.
    pub frame: Bytes,
    /// They are not those that were sent.
    pub is_damaged: bool,
}

/// What became of frames, over all links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames handed to a link.
    pub sent: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost to a cut, at either end.
    pub cut: u64,
    /// Arrived twice.
    pub duplicated: u64,
    /// Arrived damaged.
    pub corrupted: u64,
    /// Held up by a second or more.
    pub tail: u64,
    /// Held up by a clogged link.
    pub clogged: u64,
    /// Lost because too much waited for a link already.
    pub overflowed: u64,
}

/// All links of a cluster. Nodes are numbers, in the order of the scenario's names.
#[derive(Clone, Debug)]
pub struct Links {
    nodes: usize,
    delay: RangeInclusive<Duration>,
    loss: f64,
    duplicate: f64,
    corrupt: f64,
    tail: f64,
    burst: u32,
    bandwidth: Option<u64>,
    /// Until when what a node sends or is sent is held up.
    clogs: BTreeMap<usize, Duration>,
    links: Vec<Link>,
    /// Which side each node is on while there is a partition.
    sides: Vec<Option<usize>>,
    isolated: BTreeSet<usize>,
    cuts: BTreeSet<(usize, usize)>,
    dice: ChaCha8Rng,
    last_arrival: Duration,
    /// What became of frames so far.
    pub counts: Counts,
}

#[derive(Clone, Debug)]
struct Link {
    key: u64,
    last: Duration,
    /// How many frames were sent at `last` already.
    ordinal: u64,
    /// How many of the next frames are lost with the last one that was.
    run: u64,
    /// When the link has carried all that it was given.
    free_at: Duration,
    /// The frame before: damage can put pieces of two together.
    before: Bytes,
}

impl Links {
    /// The links between the nodes called `names`.
    pub fn new(network: &Network, names: &[String], seed: u64) -> Links {
        let link = |from: &String, to: &String| Link {
            key: random::key(seed, &format!("link/{from}/{to}")),
            last: Duration::ZERO,
            ordinal: 0,
            run: 0,
            free_at: Duration::ZERO,
            before: Bytes::new(),
        };
        let mut links = Links {
            nodes: names.len(),
            delay: BENIGN_DELAY,
            loss: network.loss,
            duplicate: network.duplicate,
            corrupt: network.corrupt,
            tail: network.tail,
            burst: network.burst,
            bandwidth: network.bandwidth,
            clogs: BTreeMap::new(),
            links: names.iter().flat_map(|from| names.iter().map(move |to| link(from, to))).collect(),
            sides: vec![None; names.len()],
            isolated: BTreeSet::new(),
            cuts: BTreeSet::new(),
            dice: random::stream(seed, "network"),
            last_arrival: Duration::ZERO,
            counts: Counts::default(),
        };
        links.set_delay(&network.delay);
        links
    }

    /// Decides what becomes of a frame: no, one or two arrivals.
    pub fn fate(&mut self, at: Duration, from: usize, to: usize, frame: Bytes) -> [Option<Arrival>; 2] {
        self.counts.sent += 1;
        let mut dice = self.moment(at, from, to);
        if self.is_cut(from, to) {
            self.counts.cut += 1;
            return [None, None];
        }
        // Every draw is made whatever the others say, so that changing one figure moves no other draw.
        let (lost, twice) = (dice.happens(self.loss), dice.happens(self.duplicate));
        let (damaged, held) = (dice.happens(self.corrupt), dice.happens(self.tail));
        let (first, second) = (dice.within(&self.delay), dice.within(&self.delay));
        let (hold, release, held_too) = (dice.within(&TAIL), dice.within(&RELEASE), dice.happens(self.tail));
        let run = 1 + dice.below(u64::from(self.burst) * 2 - 1);
        let link = &mut self.links[from * self.nodes + to];
        if lost && link.run == 0 {
            link.run = run;
        }
        if link.run > 0 {
            link.run -= 1;
            self.counts.lost += 1;
            return [None, None];
        }
        let Some(waits) = link.carry(at, frame.len(), self.bandwidth) else {
            self.counts.overflowed += 1;
            return [None, None];
        };
        let before = std::mem::replace(&mut link.before, frame.clone());
        let (first, second) = (first + waits, second + waits + if held_too { hold } else { Duration::ZERO });
        let clogged = [from, to].iter().filter_map(|node| self.clogs.get(node)).max().copied();
        self.counts.clogged += u64::from(clogged.is_some());
        let (first, second) = match clogged {
            Some(until) => {
                let wait = until.saturating_sub(at);
                (first.max(wait) + release, second.max(wait) + release)
            }
            None => (first, second),
        };
        let copy = twice.then(|| Arrival { at: at + second, frame: frame.clone(), is_damaged: false });
        self.counts.duplicated += u64::from(twice);
        self.counts.corrupted += u64::from(damaged);
        self.counts.tail += u64::from(held);
        let sent = frame.clone();
        let frame = if damaged { damage(&frame, &before, &mut dice) } else { frame };
        let is_damaged = frame != sent;
        let at = at + first + if held { hold } else { Duration::ZERO };
        self.last_arrival = self.last_arrival.max(at).max(copy.as_ref().map_or(at, |copy| copy.at));
        [Some(Arrival { at, frame, is_damaged }), copy]
    }

    /// When the last frame that is under way, or was, is there.
    pub fn last_arrival(&self) -> Duration {
        self.last_arrival
    }

    /// Whether a frame that comes to the end of its way is handed over: a cut loses what is under way.
    pub fn arrives(&mut self, from: usize, to: usize) -> bool {
        let is_cut = self.is_cut(from, to);
        self.counts.cut += u64::from(is_cut);
        !is_cut
    }

    /// Whether nothing passes from `from` to `to` at present.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        let apart = match (self.sides[from], self.sides[to]) {
            (Some(a), Some(b)) => a != b,
            (None, _) | (_, None) => false,
        };
        apart
            || from != to && (self.isolated.contains(&from) || self.isolated.contains(&to))
            || self.cuts.contains(&(from, to))
    }

    /// Splits the cluster; replaces an earlier partition. A node that is on no side hears everyone.
    pub fn partition(&mut self, sides: &[Vec<usize>]) {
        self.sides.fill(None);
        for (side, nodes) in sides.iter().enumerate() {
            for &node in nodes {
                self.sides[node] = Some(side);
            }
        }
    }

    /// Cuts a node from everyone, both ways.
    pub fn isolate(&mut self, node: usize) {
        self.isolated.insert(node);
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// Undoes partitions, isolations and cuts.
    pub fn heal(&mut self) {
        self.sides.fill(None);
        self.isolated.clear();
        self.cuts.clear();
    }

    /// Holds up what a node sends or is sent from now on, until then.
    pub fn clog(&mut self, node: usize, until: Duration) {
        self.clogs.insert(node, until);
    }

    /// Lets a node's frames through again; those that were held up come at the time that was said.
    pub fn unclog(&mut self, node: usize) {
        self.clogs.remove(&node);
    }

    /// Sets how many bytes a second each direction of each link carries.
    pub fn set_bandwidth(&mut self, bandwidth: Option<u64>) {
        self.bandwidth = bandwidth;
    }

    /// Heals, and does no more harm: nothing is lost, doubled, damaged or late.
    pub fn become_benign(&mut self) {
        self.heal();
        (self.loss, self.duplicate, self.corrupt, self.tail) = (0.0, 0.0, 0.0, 0.0);
        (self.burst, self.bandwidth) = (1, None);
        self.clogs.clear();
        self.links.iter_mut().for_each(|link| link.run = 0);
        self.delay = BENIGN_DELAY;
    }

    /// Sets the share of frames that never arrive.
    pub fn set_loss(&mut self, share: f64) {
        self.loss = share;
    }

    /// Sets the share of frames that arrive twice.
    pub fn set_duplicate(&mut self, share: f64) {
        self.duplicate = share;
    }

    /// Sets the one-way delay.
    pub fn set_delay(&mut self, delay: &Draw<Duration>) {
        self.delay = match delay {
            Draw::Each(range) => range.clone(),
            Draw::Once(range) => {
                let drawn = self.dice.random_range(range.clone());
                drawn..=drawn
            }
        };
    }

    fn moment(&mut self, at: Duration, from: usize, to: usize) -> Moment {
        let link = &mut self.links[from * self.nodes + to];
        link.ordinal = if link.last == at { link.ordinal + 1 } else { 0 };
        link.last = at;
        Moment::new(link.key, at, link.ordinal)
    }
}

impl Link {
    /// How long a frame waits and is on its way; nothing if too much waits already.
    fn carry(&mut self, at: Duration, bytes: usize, bandwidth: Option<u64>) -> Option<Duration> {
        let Some(bandwidth) = bandwidth else { return Some(Duration::ZERO) };
        let takes = Duration::from_secs_f64(bytes as f64 / bandwidth as f64);
        let begins = self.free_at.max(at);
        if begins - at > QUEUE_MAX {
            return None;
        }
        self.free_at = begins + takes;
        Some(self.free_at - at)
    }
}

/// Cuts a frame short, puts the ends of two together, or flips bits, which is most likely.
fn damage(frame: &Bytes, before: &Bytes, dice: &mut Moment) -> Bytes {
    if frame.is_empty() {
        return frame.clone();
    }
    let cut = 1 + dice.below(frame.len() as u64) as usize;
    match dice.below(8) {
        0 => return frame.slice(..cut - 1),
        1 if before.len() >= cut => {
            let spliced = [&frame[..cut - 1], &before[cut - 1..]].concat();
            return if spliced == *before { flip(frame, dice) } else { spliced.into() };
        }
        _ => {}
    }
    flip(frame, dice)
}

fn flip(frame: &Bytes, dice: &mut Moment) -> Bytes {
    let mut damaged = BytesMut::from(frame.as_ref());
    let flips = 1 + dice.below(FLIPS_MAX);
    for _ in 0..flips {
        let at = dice.below(damaged.len() as u64) as usize;
        damaged[at] ^= 1 << dice.below(8);
    }
    damaged.freeze()
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
