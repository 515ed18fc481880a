//! One node's whole conversation as text: each line of a script, and below it what the node said to it.
//!
//! The node is `a`; its peers `b`, `c` and `d` are whatever the script makes them say. Time stands still
//! except for `after`, and starts at 1000, the millisecond that stamps and timers are shown by. How versions and
//! members are written is in `notation.rs`.
//!
//! ```text
//! set probe 500ms | set read-only | set credit 1 | set oldest      before anything else
//! meet b c                          they say hello and have nothing to tell; not shown
//! put k red [ack=2] [ttl=10s] [timeout=1s], delete k, get k, status, leave
//! after 500ms                       timers fire on the way; each line shows at which millisecond
//! b: table [answer] [member…]       its own record comes by itself, as b/1.0 unless named
//! b: ping [ahead] [member…]         with the digest of a's own `seen`, or with another one
//! b: pong [member…]
//! b: meet [seen a1..3 b1] [collected a1..2]    opens its meeting with a; data goes within the one that stands
//! b: push VERSION, VERSION          also: b: durable a1..3 b1
//! b: pull [a1..3 b1] [credit 100]   what b has seen; then: b: step-done 0
//! b: step 0 part 0 VERSION, VERSION
//! b: step-end 0 parts 1 [cover b1..2]
//! b: ask 1 k b1 a1                  also: b: answer [a1], to a's last question
//! b: refuse REASON
//! b: again                          its last message once more
//! restart | wipe                    power loss between two turns, on the same disk or on an empty one
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::notation::{
    Names, WALL_AT_ZERO, address, duration, id, key, number, records, request, show_members, words,
};
use crate::model::{Instant, Mode, Now, Policies, Policy, Reply, Request, RequestId, Stamp};
use crate::node::settings::CollisionRule;
use crate::node::{Input, Node, Output, Settings};
use crate::protocol::Message;
use crate::protocol::outline::Outline;
use crate::storage::memory::{Memory, Tables};

/// The millisecond at which a script starts.
const START: Duration = Duration::from_millis(1000);
/// Long enough to keep what a node does by itself out of a script.
const NEVER: Duration = Duration::from_secs(1_000_000);

/// Plays a script to a fresh node; returns it with the node's outputs below each line.
///
/// # Panics
/// A line says what no script can say, or the node leaves a timer in the past.
pub fn transcript(script: &str) -> String {
    let mut lines = script.lines().map(str::trim).filter(|line| !line.is_empty()).peekable();
    let mut settings = Settings::new(id("a"), address("a"), Vec::new());
    settings.timing.probe_interval = NEVER;
    settings.timing.gossip_interval_min = NEVER;
    settings.timing.gossip_interval_max = NEVER;
    settings.timing.sync_interval = NEVER;
    settings.timing.catchup_interval = NEVER;
    settings.timing.throttle_delay = Duration::ZERO;
    let mut text = String::new();
    while let Some(line) = lines.next_if(|line| line.starts_with("set ")) {
        configure(&mut settings, line);
        writeln!(text, "{line}").expect("a string takes any text");
    }
    let mut play = Play::new(settings, text);
    for line in lines {
        play.line(line);
    }
    play.text
}

fn configure(settings: &mut Settings, line: &str) {
    match words(line)[1..] {
        ["read-only"] => settings.mode = Mode::ReadOnly,
        ["probe", interval] => settings.timing.probe_interval = duration(interval),
        ["oldest"] => settings.collision = CollisionRule::Oldest,
        ["credit", bytes] => settings.stream_credit = number(bytes),
        ["siblings", prefix] => {
            let rule = (prefix.as_bytes().to_vec(), Policy::Siblings);
            settings.policies = Policies::new([rule]).expect("one rule is a table");
        }
        _ => panic!("no setting: {line}"),
    }
}

struct Play {
    settings: Settings,
    /// Always there, except while it restarts.
    node: Option<Node<Memory>>,
    starts: u8,
    now: Instant,
    requests: u64,
    origins: Names,
    peers: BTreeMap<String, Peer>,
    text: String,
    is_silent: bool,
}

/// A peer's number in its meetings.
const FENCE: u64 = 7;

/// What the script knows of a peer.
#[derive(Default)]
struct Peer {
    /// The node's number, as it told this peer last.
    fence: u64,
    /// Of a's last ping to it.
    nonce: u64,
    /// Of a's last question to it.
    poll: u64,
    /// Of the stream that it takes from a.
    taking: u64,
    /// Of the stream that a takes from it.
    giving: u64,
    last: Option<Message>,
}

impl Play {
    fn new(settings: Settings, text: String) -> Play {
        let mut play = Play {
            settings,
            node: None,
            starts: 0,
            now: Instant(START),
            requests: 0,
            origins: Names::default(),
            peers: BTreeMap::new(),
            text,
            is_silent: false,
        };
        play.open(Tables::default());
        play
    }

    fn open(&mut self, tables: Tables) {
        self.starts += 1;
        let (settings, dice) = (self.settings.clone(), [self.starts; 32]);
        let node = Node::open(Memory::new(tables), settings, dice, self.time());
        self.node = Some(node.expect("a memory disk does not break"));
        self.turn(None);
    }

    fn line(&mut self, line: &str) {
        writeln!(self.text, "{line}").expect("a string takes any text");
        if let Some((peer, said)) = line.split_once(": ") {
            let message = self.message(peer, said);
            self.hear(peer, message);
            return;
        }
        match words(line)[..] {
            ["meet", ref peers @ ..] => self.meet(peers),
            ["after", time] => self.pass(duration(time)),
            ["restart"] => {
                let node = self.node.take().expect("the node runs");
                self.open(node.into_store().power_loss());
            }
            ["wipe"] => self.open(Tables::default()),
            _ => {
                let request = request(line, &mut self.origins);
                let id = RequestId(self.requests);
                self.requests += 1;
                self.turn(Some(Input::Request { id, request }));
            }
        }
    }

    /// Introduces peers that hold nothing new.
    fn meet(&mut self, peers: &[&str]) {
        self.is_silent = true;
        for peer in peers {
            for said in ["table", "meet", "step-end 0 parts 0 cover"] {
                let message = self.message(peer, said);
                self.hear(peer, message);
            }
        }
        self.is_silent = false;
    }

    /// Lets time go by, from timer to timer.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.node().next_wakeup().filter(|at| *at <= end) {
            self.now = at;
            self.turn(None);
        }
        self.now = end;
    }

    fn hear(&mut self, peer: &str, message: Message) {
        let known = self.peers.entry(peer.into()).or_default();
        known.last = Some(message.clone());
        let message = if message.needs_meeting() {
            Message::Within { meeting: known.fence.wrapping_add(FENCE), data: Box::new(message) }
        } else {
            message
        };
        self.turn(Some(Input::Message { from: id(peer), message }));
    }

    /// One turn as the driver takes it.
    fn turn(&mut self, input: Option<Input>) {
        let now = self.time();
        let is_timer = input.is_none();
        let node = self.node.as_mut().expect("the node runs");
        for input in [Input::Tick].into_iter().chain(input) {
            node.handle(now, input).expect("a memory disk does not break");
        }
        if node.next_wakeup().is_some_and(|at| at <= now.mono) {
            node.handle(now, Input::Tick).expect("a memory disk does not break");
        }
        let flushed = node.flush(now).expect("a memory disk does not break");
        assert!(node.next_wakeup().is_none_or(|at| at > now.mono), "every timer that was due has fired");
        for output in flushed.outputs {
            let said = self.show(output);
            if !self.is_silent {
                let at = if is_timer { format!("{} ", now.mono.0.as_millis()) } else { String::new() };
                writeln!(self.text, "  {at}{said}").expect("a string takes any text");
            }
        }
    }

    fn node(&self) -> &Node<Memory> {
        self.node.as_ref().expect("the node runs")
    }

    fn time(&self) -> Now {
        Now { mono: self.now, wall: WALL_AT_ZERO.after(self.now.0) }
    }

    fn message(&mut self, peer: &str, said: &str) -> Message {
        let own_digest = self.own_digest();
        let known = self.peers.entry(peer.into()).or_default();
        let said_words = words(said);
        let (verb, rest) = (said_words[0], &said_words[1..]);
        match (verb, rest) {
            ("again", []) => known.last.clone().expect("it has said something"),
            ("table", ["answer", members @ ..]) => {
                Message::Table { members: records(peer, members), answer: true }
            }
            ("table", members) => Message::Table { members: records(peer, members), answer: false },
            ("ping", ["ahead", members @ ..]) => {
                Message::Ping { nonce: 7, seen: !own_digest, table: 0, rumours: records(peer, members) }
            }
            ("ping", members) => {
                Message::Ping { nonce: 7, seen: own_digest, table: 0, rumours: records(peer, members) }
            }
            ("pong", members) => Message::Pong {
                nonce: known.nonce,
                seen: own_digest,
                table: 0,
                rumours: records(peer, members),
            },
            ("meet", sets) => {
                let collected_at = sets.iter().position(|word| *word == "collected").unwrap_or(sets.len());
                let (seen, collected) = sets.split_at(collected_at);
                let seen = self.origins.dots(seen.get(1..).unwrap_or_default());
                let collected = self.origins.dots(collected.get(1..).unwrap_or_default());
                Message::Meet {
                    life: 1,
                    run: 0,
                    draws: 0,
                    fence: FENCE,
                    roster: 0,
                    policies: self.settings.policies.digest(),
                    seen: Outline::Whole(seen),
                    collected: Outline::Whole(collected),
                    answer: false,
                }
            }
            ("push", versions) => Message::Push { entries: self.origins.entries(versions) },
            ("durable", dots) => Message::Durable { dots: self.origins.dots(dots) },
            ("pull", [seen @ .., "credit", credit]) => {
                known.taking += 1;
                let session = known.taking;
                let seen = Outline::Whole(self.origins.dots(seen));
                Message::Pull { session, seen, credit: number(credit), since: 0 }
            }
            ("pull", seen) => {
                known.taking += 1;
                let seen = Outline::Whole(self.origins.dots(seen));
                Message::Pull { session: known.taking, seen, credit: 1 << 20, since: 0 }
            }
            ("step-done", [step]) => Message::StepDone { session: known.taking, step: number(step) },
            ("step", [step, "part", part, versions @ ..]) => {
                let (session, entries) = (known.giving, self.origins.entries(versions));
                Message::Step { session, step: number(step), part: number(part), entries }
            }
            ("step-end", [step, "parts", parts, cover @ ..]) => {
                let cover = cover.split_first().map(|(_, dots)| self.origins.dots(dots));
                let (step, parts) = (number(step), number(parts));
                Message::StepEnd { session: known.giving, step, parts, cover, recent_in: false }
            }
            ("ask", [poll, at, a, b]) => Message::Ask {
                poll: number(poll),
                key: key(at),
                pair: [a, b].map(|dot| self.origins.dot(dot)),
            },
            ("answer", []) => Message::Answer { poll: known.poll, first: None },
            ("answer", [dot]) => Message::Answer { poll: known.poll, first: Some(self.origins.dot(dot)) },
            ("news", ["unreached", unreached, members @ ..]) => {
                Message::News { rumours: records(peer, members), unreached: vec![id(unreached)] }
            }
            ("news", members) => Message::News { rumours: records(peer, members), unreached: Vec::new() },
            ("reach", [target]) => Message::Reach { nonce: 7, target: id(target) },
            ("reached", [target, answered @ ..]) => {
                let answered = answered.is_empty();
                Message::Reached { nonce: known.nonce, target: id(target), answered }
            }
            ("refuse", reason) => Message::Refuse { reason: reason.join(" ") },
            _ => panic!("nobody can say: {said}"),
        }
    }

    /// What a peer that has seen the same would say of it.
    fn own_digest(&mut self) -> u64 {
        let now = self.time();
        let node = self.node.as_mut().expect("the node runs");
        let input = Input::Request { id: RequestId(u64::MAX), request: Request::Status };
        node.handle(now, input).expect("a memory disk does not break");
        let flushed = node.flush(now).expect("a memory disk does not break");
        match &flushed.outputs[..] {
            [Output::Reply { reply: Reply::Status(status), .. }] => status.seen_hash,
            other => panic!("asked for its status, the node said {other:?}"),
        }
    }

    fn show(&mut self, output: Output) -> String {
        match output {
            Output::Send { to, message } => {
                let message = match message {
                    Message::Within { data, .. } => *data,
                    message => message,
                };
                let to = to.as_str().split(':').next().expect("an address has a host").to_owned();
                self.note(&to, &message);
                format!("send {to}: {}", self.show_message(message))
            }
            Output::Reply { id, reply } => format!("reply {id}: {}", self.show_reply(reply)),
            Output::Event(event) => format!("event {}: {}", event.name, event.text),
            Output::Stop => "stop".into(),
        }
    }

    /// Keeps what the peer has to say again in its answer.
    fn note(&mut self, to: &str, message: &Message) {
        let peer = self.peers.entry(to.into()).or_default();
        match message {
            Message::Ping { nonce, .. } => peer.nonce = *nonce,
            Message::Pull { session, .. } => peer.giving = *session,
            Message::Ask { poll, .. } => peer.poll = *poll,
            Message::Meet { fence, .. } => peer.fence = *fence,
            _ => {}
        }
    }

    fn show_message(&mut self, message: Message) -> String {
        let text = match message {
            Message::Table { members, answer } => {
                format!("table {}{}", if answer { "answer " } else { "" }, show_members(&members))
            }
            Message::Ping { rumours, .. } => format!("ping {}", show_members(&rumours)),
            Message::Pong { rumours, .. } => format!("pong {}", show_members(&rumours)),
            Message::Push { entries } => format!("push {}", self.origins.show_entries(&entries)),
            Message::Durable { dots } => format!("durable {}", self.origins.show_dots(&dots)),
            Message::Pull { seen, .. } => format!("pull {}", self.origins.show_dots(seen.told())),
            Message::Meet { seen, collected, .. } => {
                let (seen, collected) =
                    (self.show_set("seen", &seen), self.show_set("collected", &collected));
                format!("meet{seen}{collected}")
            }
            Message::AskDots { .. } => "ask-dots".into(),
            Message::Dots { .. } => "dots".into(),
            Message::AskHorizons { .. } => "ask-horizons".into(),
            Message::Horizons { chunks, .. } => format!("horizons of {} chunks", chunks.len()),
            Message::AskHeld { held, .. } => {
                let dots: Vec<String> = held.iter().map(|held| self.origins.show_dot(held.dot)).collect();
                format!("ask-held {}", dots.join(" "))
            }
            Message::Judged { fates, .. } => format!("judged {fates:?}"),
            Message::Within { .. } => unreachable!("it was unwrapped"),
            Message::SyncOpen { .. } => "sync-open".into(),
            Message::SyncSame { .. } => "sync-same".into(),
            Message::SyncFlight(flight) => {
                format!("sync-flight {}", self.origins.show_entries(&flight.entries))
            }
            Message::ReadAsk { .. } => "read-ask".into(),
            Message::ReadTell { entries, .. } => format!("read-tell {}", self.origins.show_entries(&entries)),
            Message::Repair { entries } => format!("repair {}", self.origins.show_entries(&entries)),
            Message::Step { step, part, entries, .. } => {
                format!("step {step} part {part} {}", self.origins.show_entries(&entries))
            }
            Message::StepEnd { step, parts, cover, .. } => {
                let cover = cover.map(|dots| format!(" cover {}", self.origins.show_dots(&dots)));
                format!("step-end {step} parts {parts}{}", cover.unwrap_or_default())
            }
            Message::StepDone { step, .. } => format!("step-done {step}"),
            Message::Ask { key, pair: [a, b], .. } => {
                format!("ask {key} {} {}", self.origins.show_dot(a), self.origins.show_dot(b))
            }
            Message::Answer { first, .. } => {
                format!("answer {}", first.map(|dot| self.origins.show_dot(dot)).unwrap_or_default())
            }
            Message::Refuse { reason } => format!("refuse {reason}"),
            Message::News { rumours, unreached } => {
                let unreached: Vec<&str> = unreached.iter().map(|id| id.as_str()).collect();
                let who = if unreached.is_empty() {
                    String::new()
                } else {
                    format!("unreached {} ", unreached.join(" "))
                };
                format!("news {who}{}", show_members(&rumours))
            }
            Message::Reach { target, .. } => format!("reach {target}"),
            Message::Reached { target, answered, .. } => {
                format!("reached {target}{}", if answered { "" } else { " no" })
            }
        };
        text.trim_end().to_owned()
    }

    fn show_set(&mut self, name: &str, set: &Outline) -> String {
        let dots = self.origins.show_dots(set.told());
        if dots.is_empty() { dots } else { format!(" {name} {dots}") }
    }

    fn show_reply(&mut self, reply: Reply) -> String {
        match reply {
            Reply::Written { id, acked } => {
                format!("ok {} on {acked}", self.origins.show_stamp(id.stamp, id.dot))
            }
            Reply::Value(None) => "absent".into(),
            Reply::Value(Some(version)) => {
                let value = String::from_utf8_lossy(&version.value);
                format!("{value} {}", self.origins.show_stamp(version.stamp, version.dot))
            }
            Reply::Siblings { live, token } => self.origins.show_siblings(&live, &token),
            Reply::Explained(decisions) => format!("explained by {} decisions", decisions.len()),
            Reply::Status(status) => {
                let high = Stamp {
                    millis: status.high_water.millis.saturating_sub(WALL_AT_ZERO.0),
                    ..status.high_water
                };
                let far = status.counters.iter().find(|(name, _)| *name == "stamps_far_ahead");
                let far = far.map(|(_, count)| format!(", {count} far ahead")).unwrap_or_default();
                format!("{} clock {high}, {} dots{far}", show_members(&[status.me]), status.dots_seen)
            }
            Reply::Refused(refusal) => format!("refused: {refusal}"),
            Reply::Synced(report) => {
                format!("synced {}, sent {}, took {}", report.ended, report.sent, report.took)
            }
            Reply::Members(_) | Reply::Done => "done".into(),
            Reply::Imported(imported) => format!("{imported:?}"),
        }
    }
}
