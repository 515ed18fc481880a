//! What nodes believe of each other: nobody goes back on a belief, everybody who lives is known to live, and nobody
//! who is gone is.
//!
//! | code | what was broken |
//! |---|---|
//! | `MEM-MONO` | a node said something older of a member than it had said before |
//! | `MEM-ACC` | a member that lived and could be reached was called down |
//! | `MEM-COMP` | a death went unnoticed, or a member is missing from a table |
//! | `NOGHOST` | somebody who left, was removed or never was is believed to live |
//! | `L-REJOIN` | a member that is back is not known to be back |
//! | `QUIET` | nodes that hold the same and are asked nothing send data, or more than probes and their answers |
//! | `NOFLAP` | a node changed its mind about a member again and again although all was well |
//!
//! Knows only what left a node and what its disk holds; the [`crate::world`] tells it who really lives.

use std::collections::BTreeMap;
use std::time::Duration;

use reknit::model::{Member, MemberState, NodeId, WallTime};
use reknit::node::settings::Timing;
use reknit::protocol::Message;
use reknit::storage::{Read, StorageError, rows};

/// A promise that was broken: which, and how.
pub type Broken = (&'static str, String);

/// What records of one member are compared by.
type Rank = (u64, u32, MemberState);

/// The member table on a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The life that the disk's node is in.
    pub life: u64,
    /// What it believes of the others.
    pub others: BTreeMap<NodeId, Member>,
}

/// Reads the member table of a disk.
///
/// # Errors
/// The disk is broken.
pub fn table(store: &(impl Read + ?Sized)) -> Result<Table, StorageError> {
    let life = rows::identity(store)?.map_or(0, |identity| identity.life);
    let others = rows::members(store)?.into_iter().map(|row| (row.member.id.clone(), row.member));
    Ok(Table { life, others: others.collect() })
}

/// How a node really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It runs, and is one of those that are judged together.
    Lives,
    /// Likewise, but one of its turns may outlast a probe of it: it may be suspected for a moment.
    LivesSlowly,
    /// It runs, and nothing is promised of it: an operator had it removed.
    Unjudged,
    /// Its power is off, and it is a member still.
    Off,
    /// It left, was removed, or was never started.
    Gone,
}

/// What every node has said of every member.
#[derive(Debug, Default)]
pub struct Sayings {
    said: BTreeMap<(usize, NodeId), Said>,
    /// Own lives as of the last start: the next one must be greater.
    ended: BTreeMap<usize, u64>,
}

#[derive(Clone, Copy, Debug)]
struct Said {
    rank: Rank,
    joined: WallTime,
}

impl Sayings {
    /// A message leaves the node called `name`.
    pub fn said(&mut self, node: usize, name: &str, message: &Message) -> Option<Broken> {
        let records = match message {
            Message::Table { members, .. } => members,
            Message::Ping { rumours, .. } | Message::Pong { rumours, .. } | Message::News { rumours, .. } => {
                rumours
            }
            _ => return None,
        };
        records.iter().find_map(|record| self.say(node, name, record))
    }

    fn say(&mut self, node: usize, name: &str, record: &Member) -> Option<Broken> {
        let is_own = record.id.as_str() == name;
        let ended = self.ended.get(&node).copied();
        if let Some(ended) = ended.filter(|ended| is_own && record.life <= *ended) {
            let text = format!("{name} is in life {} after a start in life {ended}", record.life);
            return Some(("MEM-MONO", text));
        }
        let rank = rank(record);
        let new = Said { rank, joined: record.joined };
        let old = self.said.insert((node, record.id.clone()), new)?;
        if rank < old.rank {
            let text = format!("{name} said {} of {}, after {}", show(rank), record.id, show(old.rank));
            return Some(("MEM-MONO", text));
        }
        (record.joined > old.joined).then(|| {
            let text = format!(
                "{name} said that {} joined at {}, after {}",
                record.id, record.joined.0, old.joined.0
            );
            ("MEM-MONO", text)
        })
    }

    /// A node starts again from the disk it had.
    pub fn restarted(&mut self, node: usize, name: &str) {
        let own = NodeId::new(name).ok().and_then(|id| self.said.get(&(node, id)));
        if let Some(own) = own {
            self.ended.insert(node, own.rank.0);
        }
    }

    /// Its disk was replaced: it may have forgotten anything.
    pub fn forget(&mut self, node: usize) {
        self.said.retain(|(who, _), _| *who != node);
        self.ended.remove(&node);
    }
}

/// How often each node has changed its mind about each member since all is well.
#[derive(Debug, Default)]
pub struct Minds(BTreeMap<(usize, String), u32>);

/// A death that is noticed, first suspected and then believed, is two changes. A turn that a slow disk makes longer than
/// the hastiest probe waits costs a suspicion that is refuted, and a few of those may come together.
const CHANGES_MAX: u32 = 6;

impl Minds {
    /// A node says that it believes something else of a member: `event` is what it says, `text` begins with the name.
    pub fn changed(&mut self, node: usize, event: &str, text: &str) -> Option<Broken> {
        if !matches!(event, "member-suspect" | "member-refuted" | "member-down" | "member-back") {
            return None;
        }
        let member = text.split(' ').next().unwrap_or_default();
        let changes = self.0.entry((node, member.to_owned())).or_default();
        *changes += 1;
        (*changes > CHANGES_MAX)
            .then(|| ("NOFLAP", format!("said {event} of {member}, the {changes}th change of its mind")))
    }

    /// Something happened that minds may change about.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

/// What is wrong with what the nodes that are judged believe, by which node it is wrong at. `truth` has every node of
/// the story.
pub fn judge(tables: &BTreeMap<NodeId, Table>, truth: &BTreeMap<NodeId, Truth>) -> Vec<(NodeId, Broken)> {
    let mut found = Vec::new();
    for (holder, table) in tables {
        for (id, truth) in truth.iter().filter(|(id, _)| *id != holder) {
            let lives_in = tables.get(id).map(|table| table.life);
            found.extend(
                judge_belief(table.others.get(id), id, *truth, lives_in).map(|it| (holder.clone(), it)),
            );
        }
        for stranger in table.others.keys().filter(|id| !truth.contains_key(id)) {
            found.push((holder.clone(), ("NOGHOST", format!("there never was a {stranger}"))));
        }
    }
    found
}

fn judge_belief(believed: Option<&Member>, id: &NodeId, truth: Truth, life: Option<u64>) -> Option<Broken> {
    match (truth, believed) {
        (Truth::Lives | Truth::LivesSlowly, None) => {
            Some(("MEM-COMP", format!("{id} lives and is not in the table")))
        }
        (Truth::Lives | Truth::LivesSlowly, Some(member)) => {
            let is_suspect = truth == Truth::LivesSlowly && member.state == MemberState::Suspect;
            let is_alive = member.state == MemberState::Alive || is_suspect;
            let is_known = is_alive && life.is_none_or(|life| member.life == life);
            let text =
                || format!("{id} lives in life {}, but is {}", life.unwrap_or_default(), show(rank(member)));
            (!is_known).then(|| ("L-REJOIN", text()))
        }
        (Truth::Off, Some(member)) if member.state < MemberState::Down => {
            Some(("MEM-COMP", format!("{id} is off, but is {}", show(rank(member)))))
        }
        (Truth::Gone, Some(member)) if member.state < MemberState::Down => {
            Some(("NOGHOST", format!("{id} is gone, but is {}", show(rank(member)))))
        }
        (Truth::Off | Truth::Gone | Truth::Unjudged, _) => None,
    }
}

/// A node called somebody down who runs if it `lives`, so long after nothing keeps nodes from reaching each other any
/// more; `None` while something does.
pub fn judge_death(name: &str, lives: bool, calm: Option<Duration>, timing: &Timing) -> Option<Broken> {
    let is_calm = calm.is_some_and(|calm| calm >= calm_after(timing));
    (lives && is_calm).then(|| ("MEM-ACC", format!("{name} was called down, and it lives")))
}

/// How long after everything is well nobody who lives may be called down any more: a suspicion from before has
/// ended by then.
pub fn calm_after(timing: &Timing) -> Duration {
    timing.suspect_timeout * 2 + timing.probe_interval * 4
}

/// How long a death may go unnoticed by anybody, in a cluster without other trouble: two rounds of probes, one
/// probe, the longest suspicion, and some time for the news.
pub fn death_noticed_within(timing: &Timing, nodes: usize) -> Duration {
    let probes = u32::try_from(2 * nodes + 6).unwrap_or(u32::MAX);
    timing.probe_interval * probes + timing.suspect_timeout * 2
}

/// How long a member that is back may go unnoticed by anybody, in a cluster without other trouble.
pub fn return_noticed_within(timing: &Timing, nodes: usize) -> Duration {
    timing.probe_interval * u32::try_from(nodes + 6).unwrap_or(u32::MAX) + timing.retry_min * 4
}

/// How many frames without data `nodes` idle nodes may send in `time`: probes and their answers, exchanges of
/// tables, openings of sessions, each with some room; the members in a table may be more than those that live.
fn idle_frames_max(timing: &Timing, nodes: usize, time: Duration) -> u64 {
    let times = |interval: Duration| time.as_secs_f64() / interval.as_secs_f64().max(0.001) + 1.0;
    let per_node = times(timing.probe_interval) * 3.0
        + times(timing.gossip_interval_min) * 8.0
        + times(timing.sync_interval) * 8.0
        + times(timing.catchup_interval) * 4.0
        + times(timing.retry_max) * 4.0;
    (per_node * nodes as f64) as u64
}

/// What `nodes` idle nodes that hold the same sent in `time`: frames with data, and frames of any kind.
pub fn judge_idle(timing: &Timing, nodes: usize, time: Duration, (data, all): (u64, u64)) -> Option<Broken> {
    let most = idle_frames_max(timing, nodes, time);
    if data > 0 {
        return Some(("QUIET", format!("{data} data frames were sent although all replicas agree")));
    }
    (all > most).then(|| ("QUIET", format!("{nodes} idle nodes sent {all} frames, more than {most}")))
}

fn rank(member: &Member) -> Rank {
    (member.life, member.incarnation, member.state)
}

fn show((life, incarnation, state): Rank) -> String {
    format!("{life}.{incarnation} {state:?}").to_lowercase()
}

#[cfg(test)]
#[path = "memb_tests.rs"]
mod tests;
