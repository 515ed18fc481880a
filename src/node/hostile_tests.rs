//! A node among peers that say anything at all: it must neither panic nor spin, nor answer a client twice.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Input, Node, Output, Settings};
use crate::model::DotSet;
use crate::model::{
    Ack, Address, Condition, Dot, Entry, Instant, Key, Member, MemberState, Mode, NodeId, Now, Origin,
    Refusal, Reply, Request, RequestId, Stamp, Version, WallTime,
};
use crate::protocol::outline::Outline;
use crate::protocol::{Message, wire};
use crate::storage::memory::{Memory, Tables};
use crate::testing::arbitrary;

/// More than a node of this test's size has reason to say in one turn.
const OUTPUTS_MAX: usize = 64;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Happens {
    /// With `true`, the message belongs to the session that is under way, if there is one.
    Message(NodeId, Message, bool),
    Request(Request),
    Passes(Duration),
    /// The wall clock shows this from now on.
    Jumps(u64),
    Restarts,
}

fn happens() -> impl Strategy<Value = Happens> {
    let message = (arbitrary::node_id(), arbitrary::message(), any::<bool>());
    prop_oneof![
        12 => message.prop_map(|(from, message, fits)| Happens::Message(from, message, fits)),
        4 => request().prop_map(Happens::Request),
        4 => select(vec![0, 1, 60, 600, 3000, 40_000]).prop_map(|millis| Happens::Passes(Duration::from_millis(millis))),
        1 => select(vec![0, 900_000, 1_100_000, u64::MAX]).prop_map(Happens::Jumps),
        1 => Just(Happens::Restarts),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let ack = prop_oneof![Just(Ack::Local), (0_u16..4).prop_map(Ack::Nodes), Just(Ack::Majority)];
    let timeout = select(vec![Duration::ZERO, Duration::from_millis(500), Duration::MAX]);
    let ttl = option::of(select(vec![Duration::ZERO, Duration::from_secs(1), Duration::MAX]));
    let condition = select(vec![Condition::None, Condition::Exists, Condition::Absent]);
    let write = (arbitrary::key(), ack, timeout, ttl, condition);
    prop_oneof![
        8 => (write, any::<bool>()).prop_map(|((key, ack, timeout, ttl, condition), is_put)| {
            if !is_put {
                return Request::Delete { key, condition, ack, timeout };
            }
            let (value, content_type) = ("v".into(), "text/plain".into());
            Request::Put { key, value, content_type, ttl, condition, ack, timeout }
        }),
        2 => arbitrary::key().prop_map(|key: Key| Request::Get { key }),
        1 => Just(Request::Members),
        1 => Just(Request::Status),
        1 => Just(Request::Join { address: Address::new("c:7000").expect("an address") }),
        1 => arbitrary::node_id().prop_map(|id| Request::Remove { id, force: false }),
    ]
}

struct Play {
    node: Option<Node<Memory>>,
    starts: u8,
    mono: Instant,
    /// What the wall clock shows at monotonic 0.
    wall: u64,
    /// Of the streams that the node takes.
    sessions: BTreeMap<NodeId, u64>,
    /// The node's number as it told it, and each peer's as that peer told it.
    fences: (u64, BTreeMap<NodeId, u64>),
    /// Of the last pings.
    nonces: BTreeMap<NodeId, u64>,
    requests: u64,
    waiting: BTreeSet<RequestId>,
}

impl Play {
    fn new() -> Play {
        let mut play = Play {
            node: None,
            starts: 0,
            mono: Instant(Duration::from_secs(1)),
            wall: 999_000,
            sessions: BTreeMap::new(),
            fences: (0, BTreeMap::new()),
            nonces: BTreeMap::new(),
            requests: 0,
            waiting: BTreeSet::new(),
        };
        play.open(Tables::default());
        play
    }

    fn open(&mut self, tables: Tables) {
        self.starts = self.starts.wrapping_add(1);
        let id = NodeId::new("a").expect("a letter is a node id");
        let address = |name| Address::new(name).expect("an address");
        let settings = Settings::new(id, address("a:7000"), vec![address("b:7000")]);
        let node = Node::open(Memory::new(tables), settings, [self.starts; 32], self.now());
        self.node = Some(node.expect("a memory disk does not break"));
        self.waiting.clear();
        self.turn(None);
    }

    fn now(&self) -> Now {
        let passed = u64::try_from(self.mono.0.as_millis()).expect("a test is short");
        Now { mono: self.mono, wall: WallTime(self.wall.saturating_add(passed)) }
    }

    fn step(&mut self, happens: Happens) {
        match happens {
            Happens::Message(from, mut message, fits) => {
                if fits {
                    self.fit(&from, &mut message);
                }
                if let Message::Meet { fence, .. } = &message {
                    self.fences.1.insert(from.clone(), *fence);
                }
                let message = if fits { self.within(&from, message) } else { message };
                self.turn(Some(Input::Message { from, message }));
            }
            Happens::Request(request) => {
                self.requests += 1;
                let id = RequestId(self.requests);
                self.waiting.insert(id);
                self.turn(Some(Input::Request { id, request }));
            }
            Happens::Passes(time) => self.pass(time),
            Happens::Jumps(wall) => self.wall = wall,
            Happens::Restarts => {
                let node = self.node.take().expect("the node runs");
                self.open(node.into_store().power_loss());
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.mono + time;
        while let Some(at) = self.node.as_ref().and_then(Node::next_wakeup).filter(|at| *at <= end) {
            self.mono = at;
            self.turn(None);
        }
        self.mono = end;
    }

    /// Gives a message the names that make the node listen to it.
    fn fit(&self, from: &NodeId, message: &mut Message) {
        match message {
            Message::Step { session, .. } | Message::StepEnd { session, .. } => {
                *session = self.sessions.get(from).copied().unwrap_or_default();
            }
            Message::Pong { nonce, .. } => *nonce = self.nonces.get(from).copied().unwrap_or_default(),
            Message::Table { members, .. } => {
                if let Some(first) = members.first_mut() {
                    first.id = from.clone();
                }
            }
            _ => {}
        }
    }

    /// Data within the meeting that stands, if one does.
    fn within(&self, from: &NodeId, message: Message) -> Message {
        if !message.needs_meeting() {
            return message;
        }
        let theirs = self.fences.1.get(from).copied().unwrap_or_default();
        Message::Within { meeting: self.fences.0.wrapping_add(theirs), data: Box::new(message) }
    }

    fn turn(&mut self, input: Option<Input>) {
        let now = self.now();
        let node = self.node.as_mut().expect("the node runs");
        for input in [Input::Tick].into_iter().chain(input) {
            node.handle(now, input).expect("a memory disk does not break");
        }
        if node.next_wakeup().is_some_and(|at| at <= now.mono) {
            node.handle(now, Input::Tick).expect("a memory disk does not break");
        }
        let flushed = node.flush(now).expect("a memory disk does not break");
        assert!(node.next_wakeup().is_none_or(|at| at > now.mono), "a timer is left in the past");
        assert!(!node.store().is_dirty(), "outputs leave before what they speak of is durable");
        assert!(flushed.outputs.len() <= OUTPUTS_MAX, "{} outputs in one turn", flushed.outputs.len());
        for output in flushed.outputs {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send { to, message } => {
                wire::encode(&message, 1).expect("what a node says fits the wire");
                let to = NodeId::new(to.as_str().split(':').next().expect("a host")).expect("a node id");
                let message = match message {
                    Message::Within { data, .. } => *data,
                    message => message,
                };
                match message {
                    Message::Meet { fence, .. } => self.fences.0 = fence,
                    Message::Pull { session, .. } => drop(self.sessions.insert(to, session)),
                    Message::Ping { nonce, .. } => drop(self.nonces.insert(to, nonce)),
                    _ => {}
                }
            }
            Output::Reply { id, reply } => {
                assert!(self.waiting.remove(&id), "one reply per request, and {id} has its own: {reply:?}");
                assert!(!matches!(reply, Reply::Refused(Refusal::Corrupt)), "nothing rots here");
            }
            Output::Event(_) | Output::Stop => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_node_survives_whatever_its_peers_say(story in vec(happens(), 1..60)) {
        let mut play = Play::new();

        for happens in story {
            play.step(happens);
        }
    }
}

#[test]
fn a_version_with_a_number_that_none_has_is_dropped_and_its_sender_covers_nothing_by_it() {
    for seq in [0, Dot::SEQ_MAX + 1, u64::MAX] {
        let mut play = Play::new();
        let b = NodeId::new("b").expect("a letter is a node id");
        let key = Key::from_path("k").expect("a test's key");
        let none = Version { dot: Dot { origin: Origin(1), seq }, ..second_version() };
        let push = Message::Push { entries: vec![Entry { key, version: none }] };
        for message in [Message::Table { members: vec![member(&b)], answer: false }, meet(), push] {
            let message = play.within(&b, message);
            play.turn(Some(Input::Message { from: b.clone(), message }));
        }

        play.pass(Duration::from_secs(5));
    }
}

#[test]
fn a_node_that_is_never_idle_still_asks_for_what_it_missed() {
    let mut play = Play::new();
    let b = NodeId::new("b").expect("a letter is a node id");
    let key = Key::from_path("k").expect("a test's key");
    let says = |play: &mut Play, message: Message| {
        let message = play.within(&b, message);
        play.turn(Some(Input::Message { from: b.clone(), message }));
        play.sessions.remove(&b)
    };
    says(&mut play, Message::Table { members: vec![member(&b)], answer: false });
    let session = says(&mut play, meet());
    let session = session.expect("it asks whom it meets");
    let cover = Some(DotSet::default());
    says(&mut play, Message::StepEnd { session, step: 0, parts: 0, cover, recent_in: false });

    says(&mut play, Message::Push { entries: vec![Entry { key: key.clone(), version: second_version() }] });
    let asks = (0..250).any(|_| {
        play.mono = play.mono + Duration::from_micros(400);
        play.step(Happens::Request(Request::Get { key: key.clone() }));
        play.sessions.contains_key(&b)
    });

    assert!(asks, "a hole is asked for however close the turns follow each other");
}

/// Has nothing, and 0 as its number.
fn meet() -> Message {
    let nothing = || Outline::Whole(DotSet::default());
    let (life, draws, fence, roster, policies) = (1, 0, 0, 0, 0);
    Message::Meet {
        life,
        run: 1,
        draws,
        fence,
        roster,
        policies,
        seen: nothing(),
        collected: nothing(),
        answer: false,
    }
}

fn member(id: &NodeId) -> Member {
    Member {
        id: id.clone(),
        address: Address::new(&format!("{id}:7000")).expect("an address"),
        life: 1,
        incarnation: 0,
        state: MemberState::Alive,
        joined: WallTime(1_000_000),
        mode: Mode::Normal,
        origin: None,
        policies: 0,
        protocol: wire::PROTOCOL,
    }
}

/// The second write of an origin whose first one is missing.
fn second_version() -> Version {
    Version {
        stamp: Stamp { millis: 1_000_000, counter: 1 },
        dot: Dot { origin: Origin(1), seq: 2 },
        author_joined: WallTime(1_000_000),
        ruling: 0,
        confirms: None,
        tombstone: true,
        expires_at: None,
        content_type: String::new(),
        value: bytes::Bytes::new(),
    }
}
