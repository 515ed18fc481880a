//! What is known about a run: every version that was ever met, and how far each node is known to have come.
//!
//! Names are made into numbers once, so that what happens often costs an index or one look into a map.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use reknit::model::{Dot, Key, Stamp, Version, VersionId};
use reknit::protocol::DotSet;

use super::noinv::Submitted;
use super::ord::Rank;

/// A node, by order of first mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeNo(usize);

/// A key, by order of first mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyNo(usize);

/// A version, by order of first mention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VersionNo(usize);

/// What a client asks for under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// A value.
    Put {
        /// The bytes.
        value: Bytes,
        /// Their media type.
        content_type: String,
        /// For how long.
        ttl: Option<Duration>,
    },
    /// A delete.
    Delete,
    /// A look.
    Get,
}

impl Want {
    /// Whether carrying it out can make a value disappear, now or later.
    pub fn can_hide(&self) -> bool {
        matches!(self, Want::Delete | Want::Put { ttl: Some(_), .. })
    }
}

/// A write as its client knows it.
#[derive(Clone, Debug)]
pub struct Written {
    /// From the answer.
    pub id: VersionId,
    /// What was asked.
    pub want: Want,
}

/// Everything known of one version.
#[derive(Debug)]
pub struct VersionFacts {
    /// Whose.
    pub key: KeyNo,
    /// Its name.
    pub dot: Dot,
    /// Its place in the order.
    pub rank: Rank,
    /// The version itself, once a message, a record or a read has shown it.
    pub whole: Option<Version>,
    /// The client's side of it, once a client was told of it.
    pub written: Option<Written>,
}

/// Everything known of one key.
#[derive(Debug)]
pub struct KeyFacts {
    /// Its name.
    pub key: Key,
    /// What clients asked for.
    pub submitted: Submitted,
    /// Every version met.
    pub versions: Vec<VersionNo>,
    /// The writes that clients were told are durable, and at which node.
    pub acked: Vec<(VersionNo, NodeNo)>,
    /// How far each node has come, by node number; nodes at the end may be missing.
    floors: Vec<Floor>,
    /// How far each node had come when it was last held against a peer: what the cluster owes as long as that node
    /// is one of it, though the node itself may drop any of it.
    owed: Vec<Floor>,
}

/// The greatest version, and the greatest tombstone, that are or were durable at some place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Floor {
    /// Of all versions.
    pub top: Option<VersionNo>,
    /// Of the tombstones.
    pub tombstone: Option<VersionNo>,
}

/// Everything known of one node.
#[derive(Debug, Default)]
pub struct NodeFacts {
    /// The latest stamp that it provably held.
    pub stamp: Stamp,
    /// What it said in its last pull that it has.
    pub pulled: DotSet,
    /// What it said it has, version by version: a tie between two of them may be decided only later, when more is
    /// known of either, and the floor keeps one.
    pub claimed: DotSet,
    /// Keys whose record on its disk rotted and was not seen sound since: it may say that it has what it lost.
    pub rotten: BTreeSet<KeyNo>,
    /// Whether it is being held against a peer: it may drop anything then, so what it shows is held against the
    /// cluster as a whole, in the end.
    pub is_rebasing: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Facts {
    /// Keys of which some record rotted once.
    pub ever_rotten: BTreeSet<KeyNo>,
    node_names: Vec<String>,
    nodes: Vec<NodeFacts>,
    key_numbers: BTreeMap<Key, KeyNo>,
    keys: Vec<KeyFacts>,
    /// The first version met under each dot.
    dots: BTreeMap<Dot, VersionNo>,
    /// Further versions under a dot that another one has: only there once DOT is broken.
    impostors: Vec<VersionNo>,
    versions: Vec<VersionFacts>,
    /// What was set aside somewhere: nobody is asked for it any more.
    pub aside: DotSet,
}

impl Facts {
    /// The node called `name`.
    pub fn node_number(&mut self, name: &str) -> NodeNo {
        if let Some(number) = self.node_names.iter().position(|known| known == name) {
            return NodeNo(number);
        }
        self.node_names.push(name.to_owned());
        self.nodes.push(NodeFacts::default());
        NodeNo(self.nodes.len() - 1)
    }

    /// The key's number.
    pub fn key_number(&mut self, key: &Key) -> KeyNo {
        if let Some(&number) = self.key_numbers.get(key) {
            return number;
        }
        let number = KeyNo(self.keys.len());
        self.key_numbers.insert(key.clone(), number);
        self.keys.push(KeyFacts {
            key: key.clone(),
            submitted: Submitted::default(),
            versions: Vec::new(),
            acked: Vec::new(),
            floors: Vec::new(),
            owed: Vec::new(),
        });
        number
    }

    /// Every node met.
    pub fn node_numbers(&self) -> impl Iterator<Item = NodeNo> + use<> {
        (0..self.nodes.len()).map(NodeNo)
    }

    /// Every key met.
    pub fn key_numbers(&self) -> impl Iterator<Item = KeyNo> + use<> {
        (0..self.keys.len()).map(KeyNo)
    }

    /// The node's name.
    pub fn node_name(&self, node: NodeNo) -> &str {
        &self.node_names[node.0]
    }

    /// What is known of a node.
    pub fn node(&self, node: NodeNo) -> &NodeFacts {
        &self.nodes[node.0]
    }

    /// What is known of a node.
    pub fn node_mut(&mut self, node: NodeNo) -> &mut NodeFacts {
        &mut self.nodes[node.0]
    }

    /// What is known of a key.
    pub fn key(&self, key: KeyNo) -> &KeyFacts {
        &self.keys[key.0]
    }

    /// What is known of a key.
    pub fn key_mut(&mut self, key: KeyNo) -> &mut KeyFacts {
        &mut self.keys[key.0]
    }

    /// What is known of a version.
    pub fn version(&self, version: VersionNo) -> &VersionFacts {
        &self.versions[version.0]
    }

    /// What is known of a version.
    pub fn version_mut(&mut self, version: VersionNo) -> &mut VersionFacts {
        &mut self.versions[version.0]
    }

    /// The version's place in the order.
    pub fn rank(&self, version: VersionNo) -> &Rank {
        &self.versions[version.0].rank
    }

    /// The version first met under `dot`.
    pub fn by_dot(&self, dot: Dot) -> Option<VersionNo> {
        self.dots.get(&dot).copied()
    }

    /// A further version under a dot that another one has.
    pub fn impostor(&self, key: KeyNo, version: &Version) -> Option<VersionNo> {
        let is_it = |known: &VersionFacts| known.key == key && known.whole.as_ref() == Some(version);
        self.impostors.iter().copied().find(|&known| is_it(self.version(known)))
    }

    /// The known versions among the numbers `first..=last` of an origin.
    pub fn in_run(&self, first: Dot, last: Dot) -> impl Iterator<Item = VersionNo> + '_ {
        self.dots.range(first..=last).map(|(_, &version)| version)
    }

    /// Takes in a version that was not met before under this dot, or not with this content.
    pub fn add(&mut self, version: VersionFacts) -> VersionNo {
        let number = VersionNo(self.versions.len());
        let first = *self.dots.entry(version.dot).or_insert(number);
        if first != number {
            self.impostors.push(number);
        }
        self.keys[version.key.0].versions.push(number);
        self.versions.push(version);
        number
    }

    /// How far `node` has come with `key`.
    pub fn floor(&self, node: NodeNo, key: KeyNo) -> Floor {
        self.keys[key.0].floors.get(node.0).copied().unwrap_or_default()
    }

    /// `node` says that `version` or a later one is on its disk, and believes it. Of a key of which some record rotted
    /// nobody knows: whoever lost it goes on covering what it had replaced, and passes that on.
    pub fn claim(&mut self, node: NodeNo, version: VersionNo) {
        if !self.ever_rotten.contains(&self.versions[version.0].key) {
            self.nodes[node.0].claimed.insert(self.versions[version.0].dot);
            self.raise(node, version);
        }
    }

    /// `version` is or was on `node`'s disk.
    pub fn raise(&mut self, node: NodeNo, version: VersionNo) {
        let facts = &self.versions[version.0];
        let stamp = &mut self.nodes[node.0].stamp;
        *stamp = (*stamp).max(Stamp { millis: facts.rank.stamp.0, counter: facts.rank.stamp.1 });
        if self.nodes[node.0].is_rebasing {
            of_node(&mut self.keys[facts.key.0].owed, node).raise(&self.versions, version);
            return;
        }
        of_node(&mut self.keys[facts.key.0].floors, node).raise(&self.versions, version);
    }

    /// Holds `node` to what it said in its last pull: that it has every one of those versions, or a better one.
    pub fn bind_to_pull(&mut self, node: NodeNo) {
        let pulled = std::mem::take(&mut self.nodes[node.0].pulled);
        let claimed = self.dots.iter().filter(|(dot, _)| pulled.contains(**dot));
        let claimed: Vec<VersionNo> = claimed.map(|(_, &version)| version).collect();
        claimed.into_iter().for_each(|version| self.claim(node, version));
        self.nodes[node.0].pulled = pulled;
    }

    /// From now on the cluster owes what `node` had, and not that node itself; until it is said to be done.
    pub fn begin_rebase(&mut self, node: NodeNo) {
        self.bind_to_pull(node);
        for key in 0..self.keys.len() {
            let Some(floor) = self.keys[key].floors.get_mut(node.0).map(std::mem::take) else { continue };
            for version in [floor.top, floor.tombstone].into_iter().flatten() {
                of_node(&mut self.keys[key].owed, node).raise(&self.versions, version);
            }
        }
        self.nodes[node.0] = NodeFacts { is_rebasing: true, ..NodeFacts::default() };
    }

    /// The disks were looked at after one of them was replaced: the cluster owes what single nodes have.
    pub fn forget_owed(&mut self) {
        self.keys.iter_mut().for_each(|key| key.owed.clear());
    }

    /// What a node shows that holds `found` and has collected `collected`: a delete that comes late, after a later one
    /// was collected, is as good as that one.
    pub fn with_collected(
        &self,
        key: KeyNo,
        found: Option<VersionNo>,
        collected: &DotSet,
    ) -> Option<VersionNo> {
        if found.is_some_and(|found| !self.rank(found).tombstone) {
            return found;
        }
        let both: Vec<VersionNo> = found.into_iter().chain(self.over(key, collected)).collect();
        self.greatest(&both)
    }

    /// The greatest version of `key` that says no more than nothing does, among these dots.
    fn over(&self, key: KeyNo, dots: &DotSet) -> Option<VersionNo> {
        let versions = &self.keys[key.0].versions;
        let is_over = |version: &VersionNo| {
            let known = self.version(*version);
            let expires = known.whole.as_ref().is_some_and(|whole| whole.expires_at.is_some());
            (known.rank.tombstone || expires) && dots.contains(known.dot)
        };
        let over: Vec<VersionNo> = versions.iter().copied().filter(is_over).collect();
        self.greatest(&over)
    }

    /// Nothing that was on `node`'s disk is known to be there any more.
    pub fn forget(&mut self, node: NodeNo) {
        self.nodes[node.0] = NodeFacts::default();
        for key in &mut self.keys {
            if let Some(floor) = key.floors.get_mut(node.0) {
                *floor = Floor::default();
            }
        }
    }

    /// How far these nodes have come with `key`, taken together.
    pub fn floor_of_all(&self, nodes: &[NodeNo], key: KeyNo) -> Floor {
        let mut out = Floor::default();
        for &node in nodes {
            let owed = self.keys[key.0].owed.get(node.0).copied().unwrap_or_default();
            for floor in [self.floor(node, key), owed] {
                for version in [floor.top, floor.tombstone].into_iter().flatten() {
                    out.raise(&self.versions, version);
                }
            }
        }
        out
    }

    /// The version that beats all others of a row, as far as is known.
    pub fn greatest(&self, versions: &[VersionNo]) -> Option<VersionNo> {
        let later = |a: VersionNo, b: VersionNo| if self.rank(a).loses_to(self.rank(b)) { b } else { a };
        versions.iter().copied().reduce(later)
    }

    /// Whether `found` (nothing, or a version of the same key) certainly loses against `version`.
    pub fn is_below(&self, found: Option<VersionNo>, version: VersionNo) -> bool {
        found.is_none_or(|found| self.rank(found).loses_to(self.rank(version)))
    }

    /// Whether a node that holds this version may show nothing.
    pub fn hides(&self, version: VersionNo) -> bool {
        let known = self.version(version);
        known.rank.tombstone
            || known.whole.as_ref().is_some_and(|whole| whole.expires_at.is_some())
            || known.written.as_ref().is_some_and(|written| written.want.can_hide())
    }

    /// The version for a reader.
    pub fn show(&self, version: VersionNo) -> String {
        let known = self.version(version);
        match (&known.whole, &known.written) {
            (Some(whole), _) => shown(whole).to_string(),
            (None, Some(Written { id, want: Want::Put { value, .. } })) => {
                format!("{} @{} {}", Text(value), id.stamp, id.dot)
            }
            (None, _) => format!("tombstone @{}.{} {}", known.rank.stamp.0, known.rank.stamp.1, known.dot),
        }
    }

    /// What is found somewhere, for a reader.
    pub fn show_found(&self, found: Option<VersionNo>) -> String {
        found.map_or_else(|| "nothing".to_owned(), |found| self.show(found))
    }
}

/// The floor of one node, in a list that may end before it.
fn of_node(floors: &mut Vec<Floor>, node: NodeNo) -> &mut Floor {
    if floors.len() <= node.0 {
        floors.resize(node.0 + 1, Floor::default());
    }
    &mut floors[node.0]
}

impl Floor {
    fn raise(&mut self, versions: &[VersionFacts], version: VersionNo) {
        let rank = &versions[version.0].rank;
        let lifts = |old: Option<VersionNo>| old.is_none_or(|old| versions[old.0].rank.loses_to(rank));
        if lifts(self.top) {
            self.top = Some(version);
        }
        if rank.tombstone && lifts(self.tombstone) {
            self.tombstone = Some(version);
        }
    }
}

/// A version as reports show it: `"red" @1000.0 000000000000000a:1`, or `tombstone @…`.
pub fn shown(version: &Version) -> impl fmt::Display + '_ {
    struct Shown<'a>(&'a Version);

    impl fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Shown(version) = self;
            match version.tombstone {
                true => f.write_str("tombstone")?,
                false => Text(&version.value).fmt(f)?,
            }
            write!(f, " @{} {}", version.stamp, version.dot)?;
            if version.ruling > 0 {
                write!(f, " ruling {}", version.ruling)?;
            }
            Ok(())
        }
    }

    Shown(version)
}

/// The beginning of a value, as text as far as it is text.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BYTES_SHOWN_MAX: usize = 32;
        let beginning = &self.0[..self.0.len().min(BYTES_SHOWN_MAX)];
        write!(f, "{:?}", String::from_utf8_lossy(beginning))?;
        if self.0.len() > BYTES_SHOWN_MAX {
            write!(f, "… ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}
