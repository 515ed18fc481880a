//! The steps of a timeline: each becomes orders for the world, or changes links and clocks at once.

use std::time::Duration;

use reknit::model::{Key, NodeId, Request, Token};
use reknit::node::settings::Timing;

use super::phases::Look;
use super::{Asked, Cue, Power, Stage};
use crate::check::Site;
use crate::ghost::OpId;
use crate::scenario::{Boundary, Expectation, Place, Setting, Step, WriteOptions};
use crate::trace::{Event, Fact};
use crate::world::Order;
use crate::world::asks::{self, Expected};

/// A node that does something at every instant would never let time pass.
const TIMER_MIN: Duration = Duration::from_millis(10);

/// A request on its way to a client's hand.
struct Question<'a> {
    verb: &'a str,
    key: Option<Key>,
    request: Request,
    expected: Expected,
    removes: Option<usize>,
}

impl Stage {
    pub(super) fn step(&mut self, at: Duration, step: &Step) {
        match step {
            Step::Put { node, key, value, options } => {
                let expected = options.expect.map_or(Expected::Anything, Expected::Status);
                let token = self.token(key, options);
                self.ask_key(at, node, "put", key, expected, |key| asks::put(key, value, options, token));
            }
            Step::Delete { node, key, options } => {
                let expected = options.expect.map_or(Expected::Anything, Expected::Status);
                let token = self.token(key, options);
                self.ask_key(at, node, "delete", key, expected, |key| asks::delete(key, options, token));
            }
            Step::Get { node, key, asked } => {
                self.ask_key(at, node, "get", key, Expected::Anything, |key| asks::get(key, *asked));
            }
            Step::Expect(expectation) => self.expect(at, expectation),
            Step::Crash { node, boundary } => self.order_crash(node, *boundary),
            Step::Restart(node) | Step::Join(node) => self.order_start(node),
            Step::Pause(node) => self.order_pause(at, node),
            Step::Resume(node) => self.order_resume(at, node),
            Step::Wipe(node) => self.order_disk(at, node, "wipe", Order::Wipe),
            Step::Restore(node) => self.order_disk(at, node, "restore", Order::Restore),
            Step::Clone { from, to } => {
                let from = self.number(from);
                self.order_disk(at, to, "clone", |to| Order::Clone { from, to });
            }
            Step::Backup(node) => {
                let node = self.number(node);
                self.trace.record(at, Some(node), &Event::Disk { deed: "backup" });
                self.todo.push_back(Order::Backup(node));
            }
            Step::Leave(node) => {
                let node = self.number(node);
                self.ask(at, node, Question::operator("leave", Request::Leave { force: true }, None));
            }
            Step::Remove(node) => self.ask_remove(at, node),
            Step::Partition(_) | Step::Isolate(_) | Step::Cut { .. } | Step::Heal => self.cut(at, step),
            Step::IsolateOn(node, point) => {
                let node = self.number(node);
                self.machines[node].isolated_on = Some(*point);
            }
            Step::SetLoss(_) | Step::SetDuplicate(_) | Step::SetDelay(_) | Step::SetBandwidth(_) => {
                self.set(at, step);
            }
            Step::Clog(_) | Step::Unclog(_) => self.clog(at, step),
            Step::Slow(node, factor) => {
                let node = self.number(node);
                self.disks[node].slow = *factor;
                self.trace.record(
                    at,
                    Some(node),
                    &Event::Disk { deed: if *factor == 1 { "quick" } else { "slow" } },
                );
            }
            Step::Rot(node, key) => {
                let node = self.number(node);
                self.trace.record(at, Some(node), &Event::Disk { deed: "rot" });
                self.todo.push_back(Order::Rot(node, key.clone()));
            }
            Step::Configure(node, setting) => {
                let node = self.number(node);
                configure(&mut self.settings[node].timing, *setting);
                self.trace.record(at, Some(node), &Event::Disk { deed: "configure" });
            }
            Step::Skew(node, millis) => self.turn_clock(at, node, ("skew", *millis)),
            Step::Jump(node, millis) => self.turn_clock(at, node, ("jump", *millis)),
            Step::Freeze(node) => self.turn_clock(at, node, ("freeze", 0)),
            Step::Thaw(node) => self.turn_clock(at, node, ("thaw", 0)),
            // What comes after it was left out when the load was made explicit.
            Step::StopWorkload => {}
        }
    }

    /// Asks what the story expects to see, at one node or at all that count.
    pub(super) fn expect(&mut self, at: Duration, expectation: &Expectation) {
        match expectation {
            // Judged at the end of the quiet, which waits for it.
            Expectation::Agree { .. } => {}
            Expectation::Get { place, key, is } => {
                for node in self.nodes_at(place) {
                    let expected = Expected::Shows(is.clone());
                    let name = self.names[node].clone();
                    self.ask_key(at, &name, "get", key, expected, |key| Request::Get { key });
                }
            }
            Expectation::Count { place, prefix, is } => {
                let (place, prefix, is) = (place.clone(), prefix.clone(), *is);
                if let Place::Node(name) = &place
                    && !self.is_on(self.number(name))
                {
                    let text = format!("{is} keys were expected, but {name} is off");
                    self.broken("STORY", Site::Dump, at, None, None, text);
                    return;
                }
                self.looks.push_back(Look::Count { place, prefix, is });
                self.todo.push_back(Order::Look);
            }
        }
    }

    /// Every node that should serve is asked once more.
    pub(super) fn ask_who_lives(&mut self, at: Duration) {
        for node in self.core() {
            let name = self.names[node].clone();
            self.ask_key(at, &name, "get", b"nobody/wrote/this", Expected::Alive, |key| Request::Get { key });
        }
    }

    fn nodes_at(&self, place: &Place) -> Vec<usize> {
        match place {
            Place::Node(name) => vec![self.number(name)],
            Place::Everywhere => self.core(),
        }
    }

    fn number(&self, name: &str) -> usize {
        self.names.iter().position(|known| known == name).expect("the parser checks names")
    }

    /// What the client of a write has seen, if it says so and somebody has read the key.
    fn token(&self, key: &[u8], options: &WriteOptions) -> Option<Token> {
        self.tokens.get(key).filter(|_| options.saw).cloned()
    }

    fn ask_key(
        &mut self,
        at: Duration,
        node: &str,
        verb: &str,
        key: &[u8],
        expected: Expected,
        request: impl FnOnce(Key) -> Request,
    ) {
        let node = self.number(node);
        match Key::new(key.to_vec()) {
            Ok(key) => {
                let request = request(key.clone());
                self.ask(at, node, Question { verb, key: Some(key), request, expected, removes: None });
            }
            // The API would refuse it at the door.
            Err(_) if expected == Expected::Status(400) => {}
            Err(error) => {
                let text = format!("{verb} {}: {error}", String::from_utf8_lossy(key));
                self.broken("STORY", Site::Reply, at, Some(node), None, text);
            }
        }
    }

    fn ask(&mut self, at: Duration, node: usize, question: Question<'_>) {
        let Question { verb, key, request, expected, removes } = question;
        self.asked += 1;
        let id = self.asked;
        self.trace.record(at, Some(node), &Event::Ask { id, verb, key: key.as_ref() });
        if let Request::Put { value, .. } = &request {
            self.trace.tell(at, Some(node), &Fact::Writes { id, value });
        }
        if self.is_on(node) {
            self.ghost.invoked(at, OpId(id), &self.names[node], &request);
            let wall = self.now(node, at).wall;
            self.asks.insert(id, Asked { node, key, expected, removes, wall });
            self.todo.push_back(Order::Ask { node, id, request });
            return;
        }
        self.unreachable += 1;
        self.trace.record(at, Some(node), &Event::NoAnswer { id });
        if let Some(text) = expected.judge(None) {
            self.broken("STORY", Site::Reply, at, Some(node), key, text);
        }
    }

    fn ask_remove(&mut self, at: Duration, name: &str) {
        let removed = self.number(name);
        let id = NodeId::new(name).expect("the parser checks names");
        if let Some(asked) = self.core().into_iter().find(|&node| node != removed) {
            self.ask(
                at,
                asked,
                Question::operator("remove", Request::Remove { id, force: false }, Some(removed)),
            );
        }
    }

    fn order_crash(&mut self, node: &str, boundary: Boundary) {
        let node = self.number(node);
        let machine = &mut self.machines[node];
        if machine.power != Power::On {
            return;
        }
        // A paused node has no turns to crash in.
        let boundary = if machine.is_paused { Boundary::BetweenTurns } else { boundary };
        machine.is_armed = boundary != Boundary::BetweenTurns;
        self.todo.push_back(Order::Crash(node, boundary));
    }

    fn order_start(&mut self, node: &str) {
        let node = self.number(node);
        let machine = &self.machines[node];
        match machine.power {
            // The crash before this restart waited for a turn that did not come; now it comes about at once.
            Power::On if machine.is_armed => {
                self.todo.push_back(Order::Crash(node, Boundary::BetweenTurns));
                self.todo.push_back(Order::Start(node));
            }
            Power::On => {}
            Power::Never | Power::Off | Power::Left => self.todo.push_back(Order::Start(node)),
        }
    }

    fn order_pause(&mut self, at: Duration, node: &str) {
        let node = self.number(node);
        let machine = &mut self.machines[node];
        if machine.power == Power::On && !machine.is_paused {
            machine.is_paused = true;
            self.trace.record(at, Some(node), &Event::Pause);
            self.todo.push_back(Order::Pause(node));
        }
    }

    fn order_resume(&mut self, at: Duration, node: &str) {
        let node = self.number(node);
        if std::mem::take(&mut self.machines[node].is_paused) {
            self.trace.record(at, Some(node), &Event::Resume);
            self.todo.push_back(Order::Resume(node));
        }
    }

    /// Something is done to a disk, for which its node is powered off.
    fn order_disk(&mut self, at: Duration, node: &str, deed: &str, order: impl FnOnce(usize) -> Order) {
        let node = self.number(node);
        if self.is_on(node) {
            self.todo.push_back(Order::Crash(node, Boundary::BetweenTurns));
        }
        self.trace.record(at, Some(node), &Event::Disk { deed });
        self.todo.push_back(order(node));
    }

    fn turn_clock(&mut self, at: Duration, node: &str, (deed, millis): (&str, i64)) {
        let node = self.number(node);
        self.read_clock(at, node);
        let clock = &mut self.clocks[node];
        match deed {
            "skew" => clock.skew(millis),
            "jump" => clock.jump(millis),
            "freeze" => clock.freeze(at),
            _ => clock.thaw(),
        }
        self.read_clock(at, node);
        self.trace.record(at, Some(node), &Event::Clock { deed, millis });
    }

    fn cut(&mut self, at: Duration, step: &Step) {
        let deed = match step {
            Step::Partition(sides) => {
                let numbers = |side: &Vec<String>| side.iter().map(|name| self.number(name)).collect();
                let numbered: Vec<Vec<usize>> = sides.iter().map(numbers).collect();
                self.links.partition(&numbered);
                let sides: Vec<String> = sides.iter().map(|side| side.join(" ")).collect();
                format!("partition {}", sides.join(" | "))
            }
            Step::Isolate(node) => {
                self.links.isolate(self.number(node));
                format!("isolate {node}")
            }
            Step::Cut { from, to } => {
                self.links.cut(self.number(from), self.number(to));
                format!("cut {from} -> {to}")
            }
            _ => {
                self.links.heal();
                self.machines.iter_mut().for_each(|machine| machine.isolated_on = None);
                "heal".to_owned()
            }
        };
        self.trace.record(at, None, &Event::Links { deed: &deed });
        self.tell_cuts(at);
    }

    /// What is held up comes when the story lets it through, or when all faults end.
    fn clog(&mut self, at: Duration, step: &Step) {
        if let Step::Clog(name) = step {
            let ends = |cue: &Cue| matches!(cue, Cue::Step(Step::Unclog(node)) if node == name);
            let later = &self.script[self.cursor..];
            let end = later.iter().find(|(_, cue)| ends(cue)).or(later.last());
            let until = end.map_or(at, |(until, _)| *until);
            self.links.clog(self.number(name), until);
        }
        if let Step::Unclog(name) = step {
            self.links.unclog(self.number(name));
        }
        self.trace.record(at, None, &Event::Links { deed: &step.to_string() });
    }

    fn set(&mut self, at: Duration, step: &Step) {
        let deed = match step {
            Step::SetLoss(share) => {
                self.links.set_loss(*share);
                format!("set loss {:.1}%", share * 100.0)
            }
            Step::SetDuplicate(share) => {
                self.links.set_duplicate(*share);
                format!("set duplicate {:.1}%", share * 100.0)
            }
            Step::SetDelay(delay) => {
                self.links.set_delay(delay);
                let (crate::scenario::Draw::Each(range) | crate::scenario::Draw::Once(range)) = delay;
                format!("set delay {:?}..{:?}", range.start(), range.end())
            }
            Step::SetBandwidth(bandwidth) => {
                self.links.set_bandwidth(*bandwidth);
                step.to_string()
            }
            other => unreachable!("{other:?} sets no figure of the network"),
        };
        self.trace.record(at, None, &Event::Links { deed: &deed });
    }
}

fn configure(timing: &mut Timing, Setting { name, value }: Setting) {
    let timer = match name {
        "probe_interval" => &mut timing.probe_interval,
        "suspect_timeout" => &mut timing.suspect_timeout,
        "gossip_interval_min" => &mut timing.gossip_interval_min,
        "gossip_interval_max" => &mut timing.gossip_interval_max,
        "sync_interval" => &mut timing.sync_interval,
        "catchup_interval" => &mut timing.catchup_interval,
        other => unreachable!("{other} is no timer of Setting::NAMES"),
    };
    *timer = value.max(TIMER_MIN);
    timing.gossip_interval_max = timing.gossip_interval_max.max(timing.gossip_interval_min);
}

impl Question<'_> {
    fn operator(verb: &str, request: Request, removes: Option<usize>) -> Question<'_> {
        Question { verb, key: None, request, expected: Expected::Anything, removes }
    }
}
