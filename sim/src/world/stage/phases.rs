//! The parts of a run, one after the other, and what is judged at the end of each.
//!
//! Faults and clients; then everything heals and is quiet until the replicas agree; they go on agreeing; all
//! power fails at once, and they agree again; nobody has anything left to say; one node dies, which everybody must
//! notice, and comes back, which everybody must notice as well; at last the story's own checks.

use std::collections::BTreeMap;
use std::time::Duration;

use reknit::model::{Key, Version};
use reknit::node::Settings;
use reknit::node::settings::Timing;
use reknit::storage::rows;
use xxhash_rust::xxh3::Xxh3Default;

use super::{Cue, Power, Stage};
use crate::check::{Dump, Phase, Site, memb};
use crate::random::{self, Moment};
use crate::scenario::{Boundary, Expectation, Place};
use crate::trace::Event;
use crate::world::Order;
use crate::world::settings::quiet_bound;

/// How often the replicas are compared while everybody waits for them to agree.
const COMPARE_EVERY: Duration = Duration::from_millis(50);
/// However long the intervals of a story are, nobody watches a cluster that agrees for longer than this.
const WATCH_MAX: Duration = Duration::from_secs(60);
/// How many probes long nobody may ask for a stream once all agree: each tells what its node has seen.
const STILL_PROBES: u32 = 10;
/// How many rounds of probes that is at least: a node hears of each other one about once in a round, and what it hears
/// may itself come from one that has not heard yet.
const STILL_ROUNDS: u32 = 5;
/// How long after the power came back the last delete and the last expired version may be collected: the grace, the
/// longest deadline, and the distance between two clocks.
const DRAIN_MAX: Duration = Duration::from_secs(180);
/// How long the last questions may take.
const CHECK_MAX: Duration = Duration::from_secs(1);

/// What is going on.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// The timeline.
    Faults,
    /// Nothing goes wrong any more, but turns that began before last until then.
    Settling { until: Duration },
    /// Waiting for agreement, which `phase` will then judge.
    Quiet { phase: Phase, since: Duration, compare_at: Duration, limit: Duration },
    /// They agree, and go on doing so.
    Hold { phase: Phase, until: Duration },
    /// They agreed all that while, so nobody asks for anything any more.
    Still { since: Duration, until: Duration },
    /// Nobody should have anything to say.
    Idle { until: Duration, data_frames: u64, frames: u64, was_equal: bool },
    /// A node has died, or has come back, and everybody else has until then to notice.
    Noticing { node: usize, phase: Phase, until: Duration },
    /// The story's own questions are on their way.
    Check { until: Duration },
    /// All is done.
    Over,
}

/// Why the world shows its records.
#[derive(Clone, Debug)]
pub(super) enum Look {
    /// The end of a phase.
    Judge(Phase),
    /// What the others believe of a node that died or came back.
    Noticed { node: usize, phase: Phase },
    /// Whether all hold just the same, versions past their deadlines included.
    Drain,
    /// `count WHERE PREFIX is N`.
    Count { place: Place, prefix: Vec<u8>, is: usize },
}

impl Stage {
    /// What comes next, at virtual time `at`.
    pub fn next(&mut self, at: Duration) -> Order {
        loop {
            if self.is_cut_short() {
                return Order::Over;
            }
            if let Some(order) = self.todo.pop_front() {
                return order;
            }
            let Some(order) = self.advance(at) else { continue };
            let Some(until) = self.until else { return order };
            return match order {
                Order::Until(_) if at >= until => Order::Over,
                Order::Until(next) => Order::Until(next.min(until)),
                other => other,
            };
        }
    }

    fn advance(&mut self, at: Duration) -> Option<Order> {
        match self.part {
            Part::Faults => match self.script.get(self.cursor) {
                Some((when, _)) if *when > at => Some(Order::Until(*when)),
                Some((_, cue)) => {
                    let cue = cue.clone();
                    self.cursor += 1;
                    self.follow(at, cue);
                    None
                }
                None => {
                    self.heal(at);
                    None
                }
            },
            Part::Settling { until } if at < until => Some(Order::Until(until)),
            Part::Settling { .. } => {
                self.settled(at);
                None
            }
            Part::Quiet { ref mut compare_at, .. } => {
                if at < *compare_at {
                    return Some(Order::Until(*compare_at));
                }
                *compare_at = at + COMPARE_EVERY;
                Some(Order::Compare)
            }
            Part::Hold { until, .. } | Part::Idle { until, .. } if at < until => Some(Order::Until(until)),
            Part::Hold { phase, .. } => Some(self.judge(phase)),
            Part::Still { until, .. } if at < until => Some(Order::Until(until)),
            Part::Still { since, .. } => {
                self.judge_stillness(at, since);
                self.cycle_power(at);
                None
            }
            Part::Noticing { until, .. } if at < until => Some(Order::Until(until)),
            Part::Noticing { node, phase, .. } => {
                self.looks.push_back(Look::Noticed { node, phase });
                Some(Order::Look)
            }
            Part::Idle { until, .. } if self.is_draining(at, until) => {
                // Each node collects in its own time, and until all have they do not compare equal.
                self.begin(at, "idle");
                self.idle_again(at);
                None
            }
            Part::Idle { data_frames, .. } if self.data_frames > data_frames && at < self.drained_by => {
                self.looks.push_back(Look::Drain);
                Some(Order::Look)
            }
            Part::Idle { data_frames, frames, .. } => {
                self.judge_chatter(at, frames);
                self.judge_silence(at, data_frames);
                Some(self.judge(Phase::Idle))
            }
            Part::Check { until } => {
                if !self.asks.is_empty() && at < until {
                    return Some(Order::Until(at + COMPARE_EVERY));
                }
                (0..self.names.len()).for_each(|node| self.lose_asks(at, node));
                self.part = Part::Over;
                None
            }
            Part::Over => Some(Order::Over),
        }
    }

    fn follow(&mut self, at: Duration, cue: Cue) {
        match cue {
            Cue::Start(node) => {
                if self.machines[node].power == Power::Never {
                    self.todo.push_back(Order::Start(node));
                }
            }
            Cue::Step(step) => self.step(at, &step),
        }
    }

    /// Faults end here: links, clocks and processes are as they should be.
    fn heal(&mut self, at: Duration) {
        self.begin(at, "heal");
        self.links.become_benign();
        self.disks.iter_mut().for_each(|disk| (disk.slow, disk.spikes) = (1, 0.0));
        self.machines.iter_mut().for_each(|machine| machine.isolated_on = None);
        self.tell_cuts(at);
        self.clocks.iter_mut().for_each(crate::clocks::MachineClock::thaw);
        for (node, machine) in self.machines.iter_mut().enumerate() {
            if std::mem::take(&mut machine.is_armed) {
                self.todo.push_back(Order::Disarm(node));
            }
            if std::mem::take(&mut machine.is_paused) {
                self.todo.push_back(Order::Resume(node));
            }
        }
        self.start_all();
        let until = self.machines.iter().map(|machine| machine.busy_until).max().unwrap_or_default();
        self.part = Part::Settling { until };
    }

    fn start_all(&mut self) {
        for (node, machine) in self.machines.iter().enumerate() {
            if machine.power == Power::Off && !machine.is_removed {
                self.todo.push_back(Order::Start(node));
            }
        }
    }

    fn settled(&mut self, at: Duration) {
        // A power failure that was due in a turn comes at its end.
        self.start_all();
        self.calm_since = Some(at);
        self.become_quiet(at, Phase::Quiet);
    }

    fn become_quiet(&mut self, at: Duration, phase: Phase) {
        self.begin(at, phase.name());
        self.ghost.quiet_from(at);
        let promised = self.scenario.check.iter().map(|expectation| match expectation {
            Expectation::Agree { within } => *within,
            Expectation::Get { .. } | Expectation::Count { .. } => Duration::ZERO,
        });
        let bound = quiet_bound(&self.slowest_timing(), self.names.len());
        let limit = at + bound.max(promised.max().unwrap_or_default());
        self.part = Part::Quiet { phase, since: at, compare_at: at, limit };
    }

    /// The nodes of [`Stage::core`] hold equal records, or they do not.
    pub fn compared(&mut self, at: Duration, agree: bool) {
        let Part::Quiet { phase, since, limit, .. } = self.part else { return };
        self.ghost.compared(at, agree);
        if agree {
            let after_millis = (at - since).as_millis() as u64;
            self.trace.record(at, None, &Event::Agree { after_millis });
            // What is still under way since the faults is part of them: it may set off a stream, and must not
            // do any harm.
            let until = self.links.last_arrival().max(at) + self.while_watched();
            self.part = Part::Hold { phase, until };
        } else if at >= limit {
            // The judgement tells which keys differ; nothing after it would tell more.
            let order = self.judge(phase);
            self.todo.push_back(order);
            self.part = Part::Over;
        }
    }

    /// Long enough that whoever still has something to say would say it.
    fn while_watched(&self) -> Duration {
        let timing = &self.slowest_timing();
        // A vote on what met last may still be asked for by the loser's writer, and then confirm something.
        let intervals = timing.sync_interval
            + timing.gossip_interval_max
            + timing.probe_interval * 5
            + timing.vote_max * 3;
        intervals.min(WATCH_MAX)
    }

    /// Of each timer the longest that any node has.
    pub(super) fn slowest_timing(&self) -> Timing {
        let mut slowest = self.settings[0].timing.clone();
        for Settings { timing, .. } in &self.settings {
            slowest.probe_interval = slowest.probe_interval.max(timing.probe_interval);
            slowest.suspect_timeout = slowest.suspect_timeout.max(timing.suspect_timeout);
            slowest.gossip_interval_max = slowest.gossip_interval_max.max(timing.gossip_interval_max);
            slowest.sync_interval = slowest.sync_interval.max(timing.sync_interval);
            slowest.catchup_interval = slowest.catchup_interval.max(timing.catchup_interval);
        }
        slowest
    }

    /// Of each timer the shortest that any node has.
    pub(super) fn hastiest_timing(&self) -> Timing {
        let mut hastiest = self.settings[0].timing.clone();
        for Settings { timing, .. } in &self.settings {
            hastiest.probe_interval = hastiest.probe_interval.min(timing.probe_interval);
            hastiest.gossip_interval_min = hastiest.gossip_interval_min.min(timing.gossip_interval_min);
            hastiest.gossip_interval_max = hastiest.gossip_interval_max.min(timing.gossip_interval_max);
            hastiest.sync_interval = hastiest.sync_interval.min(timing.sync_interval);
            hastiest.catchup_interval = hastiest.catchup_interval.min(timing.catchup_interval);
        }
        hastiest
    }

    /// Whether something was collected in the idle time that ends at `until`, and there may be more of it.
    fn is_draining(&self, at: Duration, until: Duration) -> bool {
        let began = until.saturating_sub(self.while_watched() * 2);
        self.collected_at >= began && at < self.drained_by
    }

    /// Something moved in the idle time. As long as one node's clock calls a version expired, so that it has collected
    /// it, and another one's does not, the two do not compare equal: then the idle time begins again, until one has
    /// passed from whose beginning on they were.
    fn drained(&mut self, at: Duration, records: &BTreeMap<usize, Dump>) {
        let Part::Idle { data_frames, was_equal, .. } = self.part else { return };
        let mut rows = records.values().map(|dump| &**dump);
        let is_drained = rows.next().is_none_or(|first| rows.all(|other| other == first));
        if is_drained && was_equal {
            self.judge_silence(at, data_frames);
            let order = self.judge(Phase::Idle);
            self.todo.push_back(order);
        } else {
            self.begin(at, "idle");
            self.idle_again(at);
            if let Part::Idle { was_equal, .. } = &mut self.part {
                *was_equal = is_drained;
            }
        }
    }

    fn judge_silence(&mut self, at: Duration, data_frames: u64) {
        // By a clock that was left far behind a version outlives all idle times, and is offered to those who let it go.
        if self.clocks_apart(at) <= DRAIN_MAX {
            self.judge_idle(at, (self.data_frames - data_frames, 0));
        }
        self.judge_stillness(at, at.saturating_sub(self.while_watched() * 2));
    }

    /// Since then nobody can have wanted a stream. Who collects ends its meetings, though, and a new one begins with a
    /// look at what the peer has.
    fn judge_stillness(&mut self, at: Duration, since: Duration) {
        let rounds = u32::try_from(self.core().len()).unwrap_or(u32::MAX).saturating_mul(STILL_ROUNDS);
        let restless = self.slowest_timing().probe_interval * STILL_PROBES.max(rounds);
        if self.pulls > 0 && self.collected_at + restless < since {
            let text = format!("{} streams were asked for although all replicas agree", self.pulls);
            self.broken("QUIET", Site::Phase(Phase::Idle), at, None, None, text);
        }
    }

    /// The distance between the first and the last clock of those that are judged.
    fn clocks_apart(&self, at: Duration) -> Duration {
        let walls: Vec<u64> = self.core().into_iter().map(|node| self.now(node, at).wall.0).collect();
        let (first, last) = (walls.iter().min().copied(), walls.iter().max().copied());
        Duration::from_millis(last.unwrap_or_default() - first.unwrap_or_default())
    }

    fn idle_again(&mut self, at: Duration) {
        self.pulls = 0;
        let until = at + self.while_watched() * 2;
        self.part =
            Part::Idle { until, data_frames: self.data_frames, frames: self.frames, was_equal: false };
    }

    fn judge(&mut self, phase: Phase) -> Order {
        self.looks.push_back(Look::Judge(phase));
        Order::Look
    }

    /// What an inspection found wrong within a node's disk.
    pub fn inspected(&mut self, at: Duration, node: usize, wrong: Vec<(&'static str, String)>) {
        for (code, text) in wrong {
            self.broken(code, Site::Dump, at, Some(node), None, text);
        }
    }

    /// The records of the nodes of [`Stage::core`].
    pub fn looked(&mut self, at: Duration, records: &BTreeMap<usize, Dump>) {
        match self.looks.pop_front().expect("a look was ordered") {
            Look::Judge(phase) => self.judged(at, phase, records),
            Look::Noticed { node, phase } => self.noticed(at, node, phase),
            Look::Drain => self.drained(at, records),
            Look::Count { place, prefix, is } => {
                self.tables.clear();
                for (&node, records) in records {
                    if place == Place::Everywhere || place == Place::Node(self.names[node].clone()) {
                        self.count(at, node, records, (&prefix, is));
                    }
                }
            }
        }
    }

    fn judged(&mut self, at: Duration, phase: Phase, records: &BTreeMap<usize, Dump>) {
        for (&node, records) in records {
            self.holds(at, node, records);
            self.trace.record(at, Some(node), &Event::Digest { records: digest(records) });
        }
        let named = records.iter().map(|(&node, dump)| (self.names[node].clone(), dump.clone())).collect();
        self.ghost.judge_phase(at, phase, &named);
        if matches!(self.part, Part::Over) {
            return;
        }
        self.judge_tables(at, phase);
        match phase {
            Phase::Quiet | Phase::Drained => {
                self.converged_after = self.ghost.converged_after();
                self.judge_agreement(at);
                // Nodes that have written since their start may behave otherwise than those that have not.
                self.begin(at, "still");
                self.pulls = 0;
                let until = at + self.slowest_timing().probe_interval * STILL_PROBES;
                self.part = Part::Still { since: at, until };
            }
            Phase::Cold => {
                self.begin(at, "idle");
                self.drained_by = at + DRAIN_MAX;
                self.idle_again(at);
            }
            Phase::Idle => self.let_one_die(at),
            Phase::Death | Phase::Return => unreachable!("they are judged by what is noticed"),
        }
    }

    /// Idle nodes say little: probes, and now and then their tables.
    fn judge_chatter(&mut self, at: Duration, frames: u64) {
        self.judge_idle(at, (0, self.frames - frames));
    }

    fn judge_idle(&mut self, at: Duration, frames: (u64, u64)) {
        let (nodes, time) = (self.core().len(), self.while_watched() * 2);
        if let Some((code, text)) = memb::judge_idle(&self.hastiest_timing(), nodes, time, frames) {
            self.broken(code, Site::Phase(Phase::Idle), at, None, None, text);
        }
    }

    fn let_one_die(&mut self, at: Duration) {
        let core = self.core();
        if core.len() < 2 {
            self.check_story(at);
            return;
        }
        let node =
            core[Moment::new(random::key(self.seed, "death"), at, 0).below(core.len() as u64) as usize];
        self.begin(at, Phase::Death.name());
        self.todo.push_back(Order::Crash(node, Boundary::BetweenTurns));
        let within = memb::death_noticed_within(&self.slowest_timing(), core.len());
        self.part = Part::Noticing { node, phase: Phase::Death, until: at + within };
    }

    fn noticed(&mut self, at: Duration, node: usize, phase: Phase) {
        self.judge_tables(at, phase);
        if phase == Phase::Return {
            self.check_story(at);
            return;
        }
        self.begin(at, Phase::Return.name());
        self.todo.push_back(Order::Start(node));
        let within = memb::return_noticed_within(&self.slowest_timing(), self.names.len());
        self.part = Part::Noticing { node, phase: Phase::Return, until: at + within };
    }

    /// `replicas agree within 30s`
    fn judge_agreement(&mut self, at: Duration) {
        let Some(took) = self.converged_after else { return };
        for expectation in self.scenario.check.clone() {
            if let Expectation::Agree { within } = expectation
                && took > within
            {
                let text = format!("the replicas agreed after {took:?}; the story allows {within:?}");
                self.broken("STORY", Site::Phase(Phase::Quiet), at, None, None, text);
            }
        }
    }

    fn cycle_power(&mut self, at: Duration) {
        self.begin(at, "power-cycle");
        let core = self.core();
        self.todo.extend(core.iter().map(|&node| Order::Crash(node, Boundary::BetweenTurns)));
        self.todo.extend(core.iter().map(|&node| Order::Start(node)));
        self.become_quiet(at, Phase::Cold);
    }

    fn check_story(&mut self, at: Duration) {
        self.begin(at, "check");
        self.part = Part::Check { until: at + CHECK_MAX };
        self.ask_who_lives(at);
        for expectation in self.scenario.check.clone() {
            self.expect(at, &expectation);
        }
    }

    fn begin(&mut self, at: Duration, name: &str) {
        self.trace.record(at, None, &Event::Phase { name });
    }

    fn count(&mut self, at: Duration, node: usize, records: &Dump, (prefix, is): (&[u8], usize)) {
        let wall = self.now(node, at).wall;
        let is_counted = |(key, versions): &(&Key, &Vec<Version>)| {
            key.as_bytes().starts_with(prefix) && versions.iter().any(|version| version.is_live_at(wall.0))
        };
        let found = records.iter().filter(is_counted).count();
        if found != is {
            let prefix = String::from_utf8_lossy(prefix);
            let text = format!("{is} keys under `{prefix}` were expected, but there are {found}");
            self.broken("STORY", Site::Dump, at, Some(node), None, text);
        }
    }
}

fn digest(records: &Dump) -> u64 {
    let mut hasher = Xxh3Default::new();
    for (key, versions) in records {
        hasher.update(key.as_bytes());
        for version in versions {
            hasher.update(&rows::encode_record(key, version));
        }
    }
    hasher.digest()
}
