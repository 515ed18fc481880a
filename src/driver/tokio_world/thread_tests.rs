use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Full;
use hyper::Request as HttpRequest;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;
use crate::driver::failing_disk::FailingDisk;
use crate::driver::tokio_world::PeersSettings;
use crate::driver::{Clock, Mailbox, NoAnswer, mailbox};
use crate::model::{Ack, Address, Condition, Key, Reply, Request};
use crate::node::Settings;
use crate::storage::memory::Memory;

fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn put(key: &str, ack: Ack) -> Request {
    Request::Put {
        key: Key::new(key.as_bytes().to_vec()).unwrap(),
        value: "red".into(),
        content_type: "text/plain".into(),
        ttl: None,
        condition: Condition::None,
        ack,
        timeout: Duration::from_secs(10),
    }
}

fn failing_node(good: usize) -> Node<FailingDisk> {
    let settings = Settings::new(id("a"), Address::new("127.0.0.1:8080").unwrap(), Vec::new());
    let disk = FailingDisk { disk: Memory::default(), good };
    Node::open(disk, settings, [1; 32], SystemClock::start().now()).unwrap()
}

fn peers(name: &str, address: &Address, seed: u8) -> (Peers, TcpNetwork) {
    let (id, address) = (id(name), address.clone());
    Peers::start(PeersSettings {
        id,
        address,
        secret: b"s".to_vec(),
        insecure_peers: false,
        compression: false,
        tls: None,
        dice: [seed; 32],
    })
}

#[tokio::test]
async fn a_disk_that_fails_once_is_opened_again_and_a_second_failure_ends_the_loop() {
    let (clients, letters) = mailbox();
    let (_, network) = peers("a", &Address::new("127.0.0.1:8080").unwrap(), 1);
    let reopened = Arc::new(AtomicUsize::new(0));
    let count = reopened.clone();
    let reopen = move || {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(failing_node(2))
    };
    let mut running =
        spawn_loop(failing_node(1), SystemClock::start(), network, letters, Pulse::default(), reopen)
            .unwrap();

    assert_eq!(clients.ask(put("k", Ack::Local)).await, Err(NoAnswer::Stopped));
    assert!(matches!(clients.ask(put("k", Ack::Local)).await, Ok(Reply::Written { .. })));
    assert_eq!(clients.ask(put("k", Ack::Local)).await, Err(NoAnswer::Stopped));

    assert!(matches!(running.ended().await, Err(LoopFailure::Storage(StorageError::Disk(_)))));
    assert_eq!(reopened.load(Ordering::SeqCst), 1);
}

/// A node with a loop and a port, as the binary will have it.
async fn start(name: &str, listener: TcpListener, seeds: Vec<Address>, seed: u8) -> (Mailbox, LoopThread) {
    let address = Address::new(&listener.local_addr().unwrap().to_string()).unwrap();
    let (peers, network) = peers(name, &address, seed);
    tokio::spawn(async move {
        while let Ok((stream, remote)) = listener.accept().await {
            let peers = peers.clone();
            let service = service_fn(move |mut request: HttpRequest<hyper::body::Incoming>| {
                let response = peers.accept(&mut request, Some(remote)).expect("a welcome peer");
                async {
                    Ok::<_, std::convert::Infallible>(response.map(|()| Full::<bytes::Bytes>::default()))
                }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection.with_upgrades());
        }
    });
    let clock = SystemClock::start();
    let settings = Settings::new(id(name), address, seeds);
    let node = Node::open(Memory::default(), settings, [seed; 32], clock.now()).unwrap();
    let (clients, letters) = mailbox();
    let never = || Err(StorageError::Disk("a disk in memory does not fail".into()));
    (clients, spawn_loop(node, clock, network, letters, Pulse::default(), never).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_on_this_host_meet_and_share_a_write() {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    // Seeds as in the examples: the other names of the same places, one's own among them.
    let seeds = |listener: &TcpListener| format!("localhost:{}", listener.local_addr().unwrap().port());
    let seeds: Vec<_> = listeners.iter().map(|listener| Address::new(&seeds(listener)).unwrap()).collect();
    let mut nodes = Vec::new();
    for (n, listener) in listeners.into_iter().enumerate() {
        nodes.push(start(&format!("n{n}"), listener, seeds.clone(), n as u8).await);
    }

    let met = async {
        for (clients, _) in &nodes {
            loop {
                match clients.ask(Request::Members).await.unwrap() {
                    Reply::Members(members) if members.len() == 3 => break,
                    _ => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), met).await.expect("they meet");
    let written = nodes[0].0.ask(put("k", Ack::Nodes(3))).await.unwrap();

    assert!(matches!(written, Reply::Written { acked: 3, .. }), "{written:?}");
    for (clients, _) in &nodes {
        let read = clients.ask(Request::Get { key: Key::new("k").unwrap() }).await.unwrap();
        assert!(matches!(read, Reply::Value(Some(version)) if version.value == "red"));
    }
    for (clients, mut running) in nodes {
        drop(clients);
        assert_eq!(running.ended().await.unwrap(), Ended::NoClients);
    }
}
