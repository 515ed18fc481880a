use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::*;
use crate::driver::failing_disk::FailingDisk;
use crate::driver::{Mailbox, mailbox};
use crate::model::{Ack, Address, Condition, Key, WallTime};
use crate::node::Settings;
use crate::protocol::Message;
use crate::storage::memory::{Memory, Tables};
use crate::storage::{Read, Table};

/// Time that passes only when nothing else happens.
#[derive(Clone, Default)]
struct TestClock(Arc<Mutex<ClockState>>);

#[derive(Default)]
struct ClockState {
    mono: Duration,
    waited: Vec<Duration>,
    sleeps: usize,
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Now {
        let mono = self.0.lock().unwrap().mono;
        Now { mono: Instant(mono), wall: WallTime(1_000_000 + mono.as_millis() as u64) }
    }

    async fn sleep_until(&self, deadline: Option<Instant>) {
        // Whoever else is ready comes first: the sources are all polled before this comes back.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let Some(deadline) = deadline else { return std::future::pending().await };
        let mut state = self.0.lock().unwrap();
        state.sleeps += 1;
        assert!(deadline.0 > state.mono, "a sleep that ends at once");
        state.mono = deadline.0;
    }

    async fn wait(&self, duration: Duration) {
        let mut state = self.0.lock().unwrap();
        state.mono += duration;
        state.waited.push(duration);
    }
}

/// A network whose frames were all written before the test began.
#[derive(Clone, Default)]
struct TestNetwork {
    inbound: Arc<Mutex<VecDeque<(NodeId, Bytes)>>>,
    sent: Arc<Mutex<Vec<(Address, Bytes)>>>,
    /// Whether `recv` ends once `inbound` is empty.
    ends: bool,
}

#[async_trait]
impl Network for TestNetwork {
    fn send(&mut self, to: &Address, frame: Bytes) {
        self.sent.lock().unwrap().push((to.clone(), frame));
    }

    async fn recv(&mut self) -> Option<(NodeId, Bytes)> {
        match self.try_recv() {
            Some(frame) => Some(frame),
            None if self.ends => None,
            None => std::future::pending().await,
        }
    }

    fn try_recv(&mut self) -> Option<(NodeId, Bytes)> {
        self.inbound.lock().unwrap().pop_front()
    }
}

/// Writes down what it sees; lets the power fail at the first turn that replies, if told so.
#[derive(Default)]
struct Recorder {
    turns: Vec<Vec<Input>>,
    nonsense: usize,
    fail_at_reply: bool,
}

impl Observer for Recorder {
    fn turn(&mut self, _now: Now, inputs: &[Input]) {
        self.turns.push(inputs.to_vec());
    }

    fn before_outputs(&mut self, _now: Now, outputs: &[Output]) -> Option<usize> {
        let reply = outputs.iter().position(|output| matches!(output, Output::Reply { .. }))?;
        self.fail_at_reply.then_some(reply)
    }

    fn nonsense(&mut self, _from: &NodeId, _error: &WireError) {
        self.nonsense += 1;
    }
}

fn settings() -> Settings {
    let address = Address::new("127.0.0.1:8080").unwrap();
    Settings::new(NodeId::new("a").unwrap(), address, Vec::new())
}

fn node(disk: Memory) -> Node<Memory> {
    Node::open(disk, settings(), [7; 32], TestClock::default().now()).unwrap()
}

fn put(key: &str) -> Request {
    Request::Put {
        key: Key::new(key.as_bytes().to_vec()).unwrap(),
        value: Bytes::from_static(b"red"),
        content_type: "text/plain".into(),
        ttl: None,
        condition: Condition::None,
        ack: Ack::Local,
        timeout: Duration::from_secs(1),
    }
}

/// Puts a request in the mailbox as a client would.
fn post(mailbox: &Mailbox, request: Request) -> oneshot::Receiver<Reply> {
    let (answer, reply) = oneshot::channel();
    mailbox.sender.try_send(Letter { request, answer }).unwrap();
    reply
}

fn peer() -> NodeId {
    NodeId::new("b").unwrap()
}

fn ping(nonce: u64) -> Bytes {
    let ping = Message::Ping { nonce, seen: 0, table: 0, rumours: Vec::new() };
    wire::encode(&ping, nonce).unwrap().remove(0)
}

fn count(inputs: &[Input]) -> (usize, usize, usize) {
    let count = |matches: fn(&Input) -> bool| inputs.iter().filter(|input| matches(input)).count();
    (
        count(|input| matches!(input, Input::Tick)),
        count(|input| matches!(input, Input::Message { .. })),
        count(|input| matches!(input, Input::Request { .. })),
    )
}

#[tokio::test]
async fn a_burst_of_writes_is_answered_after_one_persist() {
    let mut disk = Memory::new(Tables::default());
    disk.set_persist_takes(Duration::from_millis(5));
    let (clock, mut network, mut recorder) =
        (TestClock::default(), TestNetwork::default(), Recorder::default());
    let (clients, mut letters) = mailbox();
    let mut replies: Vec<_> = (0..100).map(|n| post(&clients, put(&format!("k/{n}")))).collect();
    drop(clients);

    let mut node = node(disk);
    let ended = run_observed(&mut node, &clock, &mut network, &mut letters, &mut recorder).await;

    assert_eq!(ended.unwrap(), Ended::NoClients);
    assert_eq!(recorder.turns.len(), 1);
    assert_eq!(clock.0.lock().unwrap().waited, [Duration::from_millis(5)]);
    for reply in &mut replies {
        assert!(matches!(reply.try_recv(), Ok(Reply::Written { acked: 1, .. })));
    }
}

#[tokio::test]
async fn a_turn_takes_a_bounded_share_of_each_source_in_fixed_order() {
    let (clock, mut network, mut recorder) =
        (TestClock::default(), TestNetwork::default(), Recorder::default());
    network.inbound.lock().unwrap().extend((0..600).map(|nonce| (peer(), ping(nonce))));
    let (clients, mut letters) = mailbox();
    let replies: Vec<_> = (0..1500).map(|n| post(&clients, put(&format!("k/{n}")))).collect();
    drop(clients);

    let mut node = node(Memory::default());
    let ended = run_observed(&mut node, &clock, &mut network, &mut letters, &mut recorder).await;

    assert_eq!(ended.unwrap(), Ended::NoClients);
    let counts: Vec<_> = recorder.turns.iter().map(|inputs| count(inputs)).collect();
    assert_eq!(counts, [(1, 256, 1024), (1, 256, 476)]);
    let order = |input: &Input| match input {
        Input::Tick => 0,
        Input::Message { .. } => 1,
        Input::Request { .. } => 2,
    };
    assert!(recorder.turns.iter().all(|inputs| inputs.is_sorted_by_key(order)));
    assert_eq!(replies.len(), 1500);
}

#[tokio::test]
async fn large_values_end_a_share_before_its_count_does() {
    let (clock, mut network, mut recorder) =
        (TestClock::default(), TestNetwork::default(), Recorder::default());
    let (clients, mut letters) = mailbox();
    for n in 0..20 {
        let mut request = put(&format!("k/{n}"));
        if let Request::Put { value, .. } = &mut request {
            *value = vec![0; 1 << 20].into();
        }
        drop(post(&clients, request));
    }
    drop(clients);

    let mut node = node(Memory::default());
    run_observed(&mut node, &clock, &mut network, &mut letters, &mut recorder).await.unwrap();

    let requests: Vec<_> = recorder.turns.iter().map(|inputs| count(inputs).2).collect();
    assert_eq!(requests, [8, 8, 4]);
}

#[tokio::test]
async fn nonsense_from_a_peer_is_dropped_and_what_follows_is_heard() {
    let (clock, mut network, mut recorder) =
        (TestClock::default(), TestNetwork::default(), Recorder::default());
    let mut damaged = ping(1).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let frames = [Bytes::from_static(b"GET / HTTP/1.1"), damaged.into(), Bytes::new(), ping(2)];
    network.inbound.lock().unwrap().extend(frames.into_iter().map(|frame| (peer(), frame)));
    let (clients, mut letters) = mailbox();
    drop(clients);

    let mut node = node(Memory::default());
    run_observed(&mut node, &clock, &mut network, &mut letters, &mut recorder).await.unwrap();

    assert_eq!(recorder.nonsense, 3);
    assert_eq!(count(&recorder.turns[0]), (1, 1, 0));
}

#[tokio::test]
async fn a_message_in_parts_arrives_whole() {
    let (clock, mut network, mut recorder) =
        (TestClock::default(), TestNetwork::default(), Recorder::default());
    let refuse = Message::Refuse { reason: "x".repeat(1 << 20) };
    let frames = wire::encode(&refuse, 9).unwrap();
    assert!(frames.len() > 16);
    network.inbound.lock().unwrap().extend(frames.into_iter().map(|frame| (peer(), frame)));
    let (clients, mut letters) = mailbox();
    drop(clients);

    let mut node = node(Memory::default());
    run_observed(&mut node, &clock, &mut network, &mut letters, &mut recorder).await.unwrap();

    assert!(matches!(&recorder.turns[0][1], Input::Message { message, .. } if *message == refuse));
}

#[tokio::test]
async fn a_failing_disk_ends_the_run_and_nothing_leaves() {
    let (clock, mut network) = (TestClock::default(), TestNetwork::default());
    let (clients, mut letters) = mailbox();
    let disk = FailingDisk { disk: Memory::default(), good: 1 };
    let mut node = Node::open(disk, settings(), [7; 32], clock.now()).unwrap();
    let mut reply = post(&clients, put("k"));

    let ended = run(&mut node, &clock, &mut network, &mut letters).await;

    assert!(matches!(ended, Err(StorageError::Disk(_))), "{ended:?}");
    assert!(network.sent.lock().unwrap().is_empty());
    assert!(matches!(reply.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
}

#[tokio::test]
async fn the_power_can_fail_between_persist_and_reply() {
    let (clock, mut network) = (TestClock::default(), TestNetwork::default());
    let mut recorder = Recorder { fail_at_reply: true, ..Recorder::default() };
    let (clients, mut letters) = mailbox();
    let mut reply = post(&clients, put("k"));

    let mut node = node(Memory::default());
    let ended = run_observed(&mut node, &clock, &mut network, &mut letters, &mut recorder).await;

    assert_eq!(ended.unwrap(), Ended::PowerFailed);
    assert!(matches!(reply.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    let disk = node.into_store().power_loss();
    assert_eq!(
        disk.scan(Table::Records, (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded), 9, false)
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_node_that_leaves_answers_first() {
    let (clock, mut network) = (TestClock::default(), TestNetwork::default());
    let (clients, mut letters) = mailbox();
    let mut reply = post(&clients, Request::Leave { force: false });

    let ended = run(&mut node(Memory::default()), &clock, &mut network, &mut letters).await;

    assert_eq!(ended.unwrap(), Ended::Left);
    assert_eq!(reply.try_recv().unwrap(), Reply::Done);
}

#[tokio::test]
async fn a_node_without_a_network_goes_on_serving_and_sleeping() {
    let clock = TestClock::default();
    let mut network = TestNetwork { ends: true, ..TestNetwork::default() };
    let (clients, mut letters) = mailbox();
    let mut seeded = settings();
    seeded.seeds = vec![Address::new("127.0.0.1:8081").unwrap()];
    let mut node = Node::open(Memory::default(), seeded, [7; 32], clock.now()).unwrap();
    let sent = network.sent.clone();
    let client = async {
        while clock.now().mono < Instant(Duration::from_secs(60)) {
            tokio::task::yield_now().await;
        }
        let reply = clients.ask(Request::Status).await;
        drop(clients);
        reply
    };

    let (ended, reply) = tokio::join!(run(&mut node, &clock, &mut network, &mut letters), client);

    assert_eq!(ended.unwrap(), Ended::NoClients);
    assert!(matches!(reply, Ok(Reply::Status(_))));
    assert!(!sent.lock().unwrap().is_empty(), "it keeps trying its seed");
    let sleeps = clock.0.lock().unwrap().sleeps;
    assert!(sleeps < 2000, "{sleeps} sleeps in a minute");
}

#[tokio::test]
async fn the_same_inputs_give_the_same_frames() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let (clock, mut network) = (TestClock::default(), TestNetwork::default());
        network.inbound.lock().unwrap().extend((0..40).map(|nonce| (peer(), ping(nonce))));
        let (clients, mut letters) = mailbox();
        let replies: Vec<_> = (0..40).map(|n| post(&clients, put(&format!("k/{n}")))).collect();
        drop(clients);
        run(&mut node(Memory::default()), &clock, &mut network, &mut letters).await.unwrap();
        let replies: Vec<_> = replies.into_iter().map(|mut reply| reply.try_recv().unwrap()).collect();
        let sent = network.sent.lock().unwrap().clone();
        runs.push((sent, replies));
    }

    assert_eq!(runs[0], runs[1]);
}

#[test]
fn a_run_may_move_between_threads() {
    fn is_send<T: Send>(_: T) {}
    let (clock, mut network) = (TestClock::default(), TestNetwork::default());
    let (_, mut letters) = mailbox();
    is_send(run(&mut node(Memory::default()), &clock, &mut network, &mut letters));
}
