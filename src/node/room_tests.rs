use std::time::Duration;

use super::{Input, Node, Output, Settings};
use crate::model::{
    Ack, Address, Condition, Instant, Key, Mode, NodeId, Now, Refusal, Reply, Request, RequestId, WallTime,
};
use crate::storage::memory::Memory;
use crate::storage::{Read, Table};

fn at(millis: u64) -> Now {
    Now { mono: Instant(Duration::from_millis(millis)), wall: WallTime(1_000_000 + millis) }
}

fn node(store: Memory) -> Node<Memory> {
    let settings = Settings::new(NodeId::new("a").unwrap(), Address::new("a:1").unwrap(), Vec::new());
    Node::open(store, settings, [7; 32], at(0)).unwrap()
}

fn ask(node: &mut Node<Memory>, now: Now, request: Request) -> Reply {
    node.handle(now, Input::Request { id: RequestId(1), request }).unwrap();
    let outputs = node.flush(now).unwrap().outputs;
    let reply = outputs.into_iter().find_map(|output| match output {
        Output::Reply { reply, .. } => Some(reply),
        _ => None,
    });
    reply.expect("one reply per request")
}

fn put() -> Request {
    Request::Put {
        key: Key::from_path("k").unwrap(),
        value: "1".into(),
        content_type: "application/json".into(),
        ttl: None,
        condition: Condition::None,
        ack: Ack::Local,
        timeout: Duration::ZERO,
    }
}

fn get() -> Request {
    Request::Get { key: Key::from_path("k").unwrap() }
}

fn status(node: &mut Node<Memory>, now: Now) -> (bool, Mode) {
    match ask(node, now, Request::Status) {
        Reply::Status(status) => (status.disk_full, status.me.mode),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_room_a_node_serves_reads_and_refuses_writes_until_a_trial_succeeds() {
    let mut node = node(Memory::default());
    assert!(matches!(ask(&mut node, at(1), put()), Reply::Written { .. }));
    node.wait_for_room(at(0), at(100).mono);

    assert_eq!(ask(&mut node, at(2), put()), Reply::Refused(Refusal::DiskFull));
    assert!(matches!(ask(&mut node, at(3), get()), Reply::Value(Some(_))));
    assert_eq!(status(&mut node, at(99)), (true, Mode::ReadOnly));

    node.handle(at(100), Input::Tick).unwrap();
    node.flush(at(100)).unwrap();
    node.handle(at(101), Input::Tick).unwrap();
    assert!(!status(&mut node, at(101)).0, "the turn after a trial that ended well is the first with room");
    assert!(matches!(ask(&mut node, at(102), put()), Reply::Written { .. }));
    assert_eq!(status(&mut node, at(103)), (false, Mode::Normal));
    assert_eq!(node.store().get(Table::Meta, b"trial").unwrap(), None);
}

#[test]
fn a_trial_that_a_crash_interrupted_leaves_nothing_behind() {
    let mut node_before = node(Memory::default());
    node_before.wait_for_room(at(0), at(0).mono);
    node_before.handle(at(1), Input::Tick).unwrap();
    node_before.flush(at(1)).unwrap();
    assert!(node_before.store().get(Table::Meta, b"trial").unwrap().is_some());

    let node = node(node_before.into_store());

    assert_eq!(node.store().get(Table::Meta, b"trial").unwrap(), None);
}
