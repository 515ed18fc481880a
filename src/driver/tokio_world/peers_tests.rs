//! Peers over real sockets of this host. A few lines of hyper stand in for the API.

use std::net::Ipv4Addr;

use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::super::{queue, registry};
use super::*;
use crate::driver::Network;
use crate::model::{Dot, Entry, Key as EntryKey, Origin, Stamp, Version, WallTime};
use crate::protocol::wire::{self, Assembler};
use crate::protocol::{DotSet, Message};

const PATIENCE: Duration = Duration::from_secs(20);

/// A process with a port for peers.
struct Host {
    peers: Peers,
    network: TcpNetwork,
    address: Address,
    /// Its I/O runtime; without it the process is dead.
    runtime: Option<Runtime>,
}

impl Host {
    async fn start(id: &str, secret: &str) -> Host {
        Host::start_at(id, secret, 0).await
    }

    async fn start_at(id: &str, secret: &str, port: u16) -> Host {
        Host::start_with(id, secret, port, Pace::default()).await
    }

    async fn start_with(id: &str, secret: &str, port: u16, pace: Pace) -> Host {
        Host::start_as(id, secret, port, pace, false).await
    }

    async fn start_as(id: &str, secret: &str, port: u16, pace: Pace, compression: bool) -> Host {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (id, secret) = (NodeId::new(id).unwrap(), secret.as_bytes().to_vec());
        let started = runtime.spawn(async move {
            let listener = listen(port).await;
            let address = Address::new(&listener.local_addr().unwrap().to_string()).unwrap();
            let mut dice = [0; 32];
            dice[..16].copy_from_slice(&uuid_like().to_le_bytes());
            let settings = PeersSettings {
                id,
                address: address.clone(),
                secret,
                insecure_peers: false,
                compression,
                tls: None,
                dice,
            };
            let (peers, network) = Peers::start_at(settings, pace);
            tokio::spawn(serve(listener, peers.clone()));
            (peers, network, address)
        });
        let (peers, network, address) = started.await.unwrap();
        Host { peers, network, address, runtime: Some(runtime) }
    }

    fn send(&mut self, to: &Host, message: &Message) {
        self.send_to(&to.address, message);
    }

    fn send_to(&mut self, to: &Address, message: &Message) {
        wire::encode(message, 1).unwrap().into_iter().for_each(|frame| self.network.send(to, frame));
    }

    async fn recv(&mut self) -> (NodeId, Bytes) {
        timeout(PATIENCE, self.network.recv())
            .await
            .expect("a frame comes in time")
            .expect("the network is there")
    }

    async fn recv_text(&mut self) -> String {
        text(self.recv().await.1)
    }

    fn count(&self, name: &str) -> u64 {
        self.peers.counters().iter().find(|(known, _)| *known == name).expect("a known counter").1
    }

    async fn count_reaches(&self, name: &str, count: u64) {
        let reached = async {
            while self.count(name) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{name} is {}", self.count(name)));
    }

    /// The process dies; the system closes its sockets.
    fn kill(mut self) -> u16 {
        self.runtime.take().unwrap().shutdown_background();
        self.address.as_str().rsplit_once(':').unwrap().1.parse().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

fn uuid_like() -> u128 {
    use std::hash::{BuildHasher, Hasher};
    let draw = || u128::from(std::hash::RandomState::new().build_hasher().finish());
    draw() << 64 | draw()
}

async fn listen(port: u16) -> TcpListener {
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return listener,
            // The dead process' sockets may take a moment to go.
            Err(_) if port != 0 => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn serve(listener: TcpListener, peers: Peers) {
    while let Ok((stream, remote)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let peers = peers.clone();
        let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
            let answer = match peers.accept(&mut request, Some(remote)) {
                Ok(response) => response.map(|()| Full::new(Bytes::new())),
                Err(refused) => {
                    let mut response = Response::new(Full::new(Bytes::from(refused.to_string())));
                    *response.status_mut() = refused.status();
                    *response.headers_mut() = refused.headers();
                    response
                }
            };
            async { Ok::<_, std::convert::Infallible>(answer) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades());
    }
}

/// A control message that carries some text.
fn say(text: impl ToString) -> Message {
    Message::Refuse { reason: text.to_string() }
}

fn text(frame: Bytes) -> String {
    match Assembler::default().push(frame).unwrap() {
        Some(Message::Refuse { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

/// A data message of about `bytes` bytes.
fn push(bytes: usize) -> Message {
    let version = Version {
        stamp: Stamp { millis: 1, counter: 0 },
        dot: Dot { origin: Origin(1), seq: 1 },
        author_joined: WallTime(0),
        ruling: 0,
        confirms: None,
        tombstone: false,
        expires_at: None,
        content_type: "text/plain".into(),
        value: vec![7; bytes].into(),
    };
    Message::Push { entries: vec![Entry { key: EntryKey::new("k").unwrap(), version }] }
}

/// Shakes hands as a peer would, up to the 101, over a bare socket.
async fn raw_handshake(host: &Host, secret: &str) -> (TcpStream, [u8; PROOF_BYTES]) {
    let key = Key::of(secret.as_bytes());
    let mine = Hello {
        id: NodeId::new("raw").unwrap(),
        address: Address::new("127.0.0.1:1").unwrap(),
        instance: uuid_like(),
        nonce: 1,
        takes_zstd: false,
    };
    let mut stream = TcpStream::connect(host.address.as_str()).await.unwrap();
    let mut request = format!("GET {PATH} HTTP/1.1\r\nhost: x\r\n");
    for (name, value) in &handshake::headers(&mine, key.opening(&mine)) {
        request += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    stream.write_all((request + "\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let header = |name: &str| {
        let line = answer.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("no {name} in {answer}")).to_owned()
    };
    let number = |name| u128::from_str_radix(&header(name), 16).unwrap();
    let theirs = Hello {
        id: NodeId::new(&header("reknit-id")).unwrap(),
        address: host.address.clone(),
        instance: number("reknit-instance"),
        nonce: number("reknit-nonce"),
        takes_zstd: true,
    };
    (stream, *key.proof(Role::Client, &mine, &theirs).as_bytes())
}

async fn write_frame(stream: &mut TcpStream, frame: &[u8]) {
    stream.write_all(&(frame.len() as u32).to_be_bytes()).await.unwrap();
    stream.write_all(frame).await.unwrap();
}

/// Whether the other side closes within a moment.
async fn closes(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn two_thousand_frames_each_way_arrive_in_order() {
    let (mut a, mut b) = (Host::start("a", "s").await, Host::start("b", "s").await);
    a.send(&b, &say("hello"));
    assert_eq!(b.recv_text().await, "hello");

    for chunk in 0..20 {
        for n in chunk * 100..(chunk + 1) * 100 {
            a.send(&b, &say(n));
            b.send(&a, &say(n));
        }
        for n in chunk * 100..(chunk + 1) * 100 {
            assert_eq!(b.recv_text().await, n.to_string());
            assert_eq!(a.recv_text().await, n.to_string());
        }
    }

    assert_eq!((a.count("peer_frames_out"), b.count("peer_frames_in")), (2001, 2001));
    assert_eq!((a.count("peer_connections_dialed"), b.count("peer_connections_accepted")), (1, 1));
    assert_eq!(b.peers.connected(), [NodeId::new("a").unwrap()]);
}

#[tokio::test]
async fn a_message_of_a_mebibyte_arrives_in_parts() {
    let (mut a, mut b) = (Host::start("a", "").await, Host::start("b", "").await);
    let message = push(1 << 20);
    a.send(&b, &message);

    let mut assembler = Assembler::default();
    let received = loop {
        let (from, frame) = b.recv().await;
        assert_eq!(from.as_str(), "a");
        if let Some(message) = assembler.push(frame).unwrap() {
            break message;
        }
    };

    assert_eq!(received, message);
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_nothing_passes() {
    let (mut a, mut b) = (Host::start("a", "s").await, Host::start("b", "t").await);
    a.send(&b, &say("x"));
    a.count_reaches("peer_dials_refused", 1).await;
    b.send(&a, &say("x"));
    b.count_reaches("peer_dials_refused", 1).await;

    assert_eq!((a.count("peer_refused_wrong_secret"), b.count("peer_refused_wrong_secret")), (1, 1));
    assert!(a.network.try_recv().is_none() && b.network.try_recv().is_none());
    assert!(a.peers.connected().is_empty() && b.peers.connected().is_empty());
}

#[tokio::test]
async fn two_nodes_that_dial_each_other_at_once_keep_one_connection_and_lose_nothing() {
    for _ in 0..10 {
        let (mut a, mut b) = (Host::start("a", "s").await, Host::start("b", "s").await);
        for n in 0..50 {
            a.send(&b, &say(n));
            b.send(&a, &say(n));
        }

        for _ in 0..50 {
            a.recv_text().await;
            b.recv_text().await;
        }
        let one_each = async {
            while (a.count("peer_connections_open"), b.count("peer_connections_open")) != (1, 1) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, one_each).await.expect("one connection is left");
        a.send(&b, &say("still"));
        assert_eq!(b.recv_text().await, "still");
    }
}

#[tokio::test]
async fn a_node_that_dials_itself_by_another_name_notices_quietly() {
    let mut a = Host::start("a", "s").await;
    let alias = Address::new(&a.address.as_str().replace("127.0.0.1", "localhost")).unwrap();
    a.send_to(&alias, &say("x"));
    a.count_reaches("peer_refused_self", 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    for to in [alias, a.address.clone()] {
        a.send_to(&to, &say("x"));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;

    assert_eq!((a.count("peer_refused_self"), a.count("peer_dials_refused")), (1, 0));
    assert!(a.network.try_recv().is_none());
}

#[tokio::test]
async fn a_seed_by_another_name_shares_the_connection() {
    let (mut a, mut b) = (Host::start("a", "s").await, Host::start("b", "s").await);
    let alias = Address::new(&b.address.as_str().replace("127.0.0.1", "localhost")).unwrap();

    a.send_to(&alias, &say(1));
    assert_eq!(b.recv_text().await, "1");
    for (n, to) in [(2, b.address.clone()), (3, alias)] {
        a.send_to(&to, &say(n));
        assert_eq!(b.recv_text().await, n.to_string());
    }
    b.send(&a, &say("back"));
    assert_eq!(a.recv_text().await, "back");

    assert_eq!((a.count("peer_connections_dialed"), b.count("peer_connections_dialed")), (1, 0));
}

#[tokio::test]
async fn peers_find_each_other_again_after_one_was_killed() {
    let (mut a, mut b) = (Host::start("a", "s").await, Host::start("b", "s").await);
    a.send(&b, &say(1));
    assert_eq!(b.recv_text().await, "1");
    let port = b.kill();
    a.count_reaches("peer_connections_closed", 1).await;

    let mut b = Host::start_at("b", "s", port).await;
    let again = async {
        loop {
            a.send(&b, &say(2));
            tokio::select! {
                biased;
                frame = b.recv() => break text(frame.1),
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
    };
    assert_eq!(timeout(PATIENCE, again).await.unwrap(), "2");
    b.send(&a, &say(3));
    assert_eq!(a.recv_text().await, "3");
}

#[tokio::test]
async fn an_absent_peer_is_dialed_as_slowly_as_the_backoff_says() {
    let (mut a, b) = (Host::start("a", "s").await, Host::start("b", "s").await);
    let absent = b.address.clone();
    b.kill();

    for _ in 0..100 {
        a.send_to(&absent, &say("x"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let (failed, dropped) = (a.count("peer_dials_failed"), a.count("peer_frames_dropped_unreachable"));
    assert!((2..=5).contains(&failed), "{failed} dials in a second");
    assert!(dropped > 80, "{dropped} frames dropped");
}

#[tokio::test]
async fn garbage_on_an_upgraded_connection_closes_it_and_nothing_else_happens() {
    let (mut a, mut b) = (Host::start("a", "s").await, Host::start("b", "s").await);
    a.send(&b, &say(1));
    assert_eq!(b.recv_text().await, "1");

    for (n, garbage) in
        [&b"GET /kv/x HTTP/1.1\r\n\r\n"[..], b"\0\0\0\x05hello", b"\xff\xff\xff\xff"].iter().enumerate()
    {
        let (mut stream, proof) = raw_handshake(&b, "s").await;
        write_frame(&mut stream, &proof).await;
        b.count_reaches("peer_connections_accepted", n as u64 + 2).await;
        stream.write_all(garbage).await.unwrap();
        assert!(closes(&mut stream).await);
        b.count_reaches("peer_frames_malformed", n as u64 + 1).await;
    }

    assert_eq!(b.peers.connected(), [NodeId::new("a").unwrap()]);
    assert!(b.network.try_recv().is_none());
    a.send(&b, &say(2));
    assert_eq!(b.recv_text().await, "2");
}

#[tokio::test]
async fn whoever_cannot_prove_the_secret_to_our_nonce_gets_no_further() {
    let mut b = Host::start("b", "s").await;
    let (mut stream, mut proof) = raw_handshake(&b, "s").await;
    proof[31] ^= 1;
    write_frame(&mut stream, &proof).await;
    write_frame(&mut stream, &wire::encode(&say("x"), 1).unwrap()[0]).await;

    assert!(closes(&mut stream).await);
    b.count_reaches("peer_refused_wrong_secret", 1).await;
    assert!(b.network.try_recv().is_none());

    let (mut stream, _) = raw_handshake(&b, "s").await;
    stream.write_all(b"no proof at all, and no length either").await.unwrap();
    assert!(closes(&mut stream).await);
    assert_eq!(b.count("peer_connections_accepted"), 0);
}

#[tokio::test]
async fn a_peer_that_takes_nothing_costs_a_bounded_queue_and_holds_up_nobody_else() {
    let (mut a, mut slow, mut c) =
        (Host::start("a", "s").await, Host::start("b", "s").await, Host::start("c", "s").await);
    let frame_bytes = 60 << 10;
    let many = 3 * queue::DATA_BYTES_MAX / frame_bytes;
    for _ in 0..many {
        a.send(&slow, &push(frame_bytes));
    }
    a.count_reaches("peer_frames_dropped_queue_full", 1).await;
    a.send(&c, &say("fine"));
    assert_eq!(c.recv_text().await, "fine");

    a.send(&slow, &say("control"));
    let mut data = 0;
    let control = loop {
        let (_, frame) = slow.recv().await;
        if !wire::is_data(&frame) {
            break text(frame);
        }
        data += 1;
    };
    assert_eq!(control, "control");
    let dropped = a.count("peer_frames_dropped_queue_full") as usize;
    while data + dropped < many {
        assert!(wire::is_data(&slow.recv().await.1));
        data += 1;
    }
    assert_eq!(data + dropped, many);
}

#[tokio::test]
async fn an_idle_connection_stays_and_a_silent_one_dies() {
    let pace = Pace {
        keepalive_interval: Duration::from_millis(50),
        silence_max: Duration::from_millis(400),
        ..Pace::default()
    };
    let (mut a, mut b) =
        (Host::start_with("a", "s", 0, pace).await, Host::start_with("b", "s", 0, pace).await);
    a.send(&b, &say(1));
    assert_eq!(b.recv_text().await, "1");
    let (mut silent, proof) = raw_handshake(&b, "s").await;
    write_frame(&mut silent, &proof).await;
    write_frame(&mut silent, b"").await;
    write_frame(&mut silent, &wire::encode(&say("and no more"), 1).unwrap()[0]).await;
    assert_eq!(b.recv_text().await, "and no more");

    b.count_reaches("peer_connections_timed_out", 1).await;

    assert!(closes(&mut silent).await);
    assert_eq!(b.peers.connected(), [NodeId::new("a").unwrap()]);
    assert_eq!((a.count("peer_connections_closed"), a.count("peer_connections_timed_out")), (0, 0));
    a.send(&b, &say(2));
    assert_eq!(b.recv_text().await, "2");
}

#[tokio::test]
async fn a_connection_that_takes_nothing_dies() {
    let pace = Pace { write_timeout: Duration::from_millis(300), ..Pace::default() };
    let mut a = Host::start_with("a", "s", 0, pace).await;
    let (mut stuck, proof) = raw_handshake(&a, "s").await;
    write_frame(&mut stuck, &proof).await;
    a.count_reaches("peer_connections_accepted", 1).await;

    let stuck_at = Address::new("127.0.0.1:1").unwrap();
    for _ in 0..200 {
        a.send_to(&stuck_at, &push(60 << 10));
    }

    a.count_reaches("peer_connections_timed_out", 1).await;
    assert!(a.peers.connected().is_empty());
}

#[tokio::test]
async fn another_node_with_our_id_is_refused() {
    let (mut a, b) = (Host::start("x", "s").await, Host::start("x", "s").await);
    a.send(&b, &say("x"));
    a.count_reaches("peer_dials_refused", 1).await;

    assert_eq!(b.count("peer_refused_id_taken"), 1);
}

#[tokio::test]
async fn a_stopping_node_says_its_goodbye_first() {
    let (mut a, mut b) = (Host::start("a", "s").await, Host::start("b", "s").await);
    a.send(&b, &say("hello"));
    assert_eq!(b.recv_text().await, "hello");

    for n in 0..100 {
        a.send(&b, &say(n));
    }
    a.peers.stop(PATIENCE).await;

    assert_eq!(a.count("peer_connections_open"), 0);
    for n in 0..100 {
        assert_eq!(b.recv_text().await, n.to_string());
    }
    // The connection was short, so the next dial waits for the backoff.
    tokio::time::sleep(registry::BACKOFF_MIN).await;
    b.send(&a, &say("x"));
    b.count_reaches("peer_dials_refused", 1).await;
    assert_eq!(a.count("peer_refused_busy"), 1);
}

#[tokio::test]
async fn an_upgrade_request_without_sockets_is_refused_by_its_headers() {
    let a = Host::start("a", "").await;
    let refusal = |request: &mut Request<()>, remote: &str| {
        let refused = a.peers.accept(request, Some(remote.parse().unwrap())).expect_err("it is refused");
        (refused.status().as_u16(), refused.code())
    };
    let mut plain = Request::new(());
    assert_eq!(refusal(&mut plain, "127.0.0.1:5"), (426, "upgrade-required"));

    let hello = Hello {
        id: NodeId::new("b").unwrap(),
        address: Address::new("192.0.2.1:8080").unwrap(),
        instance: 1,
        nonce: 2,
        takes_zstd: true,
    };
    let mut request = Request::new(());
    *request.headers_mut() = handshake::headers(&hello, Key::of(b"").opening(&hello));
    assert_eq!(refusal(&mut request, "192.0.2.1:5"), (403, "peers-need-secret"));
    assert_eq!(a.count("peer_refused_peers_need_secret"), 1);
}

#[tokio::test]
async fn frames_are_compressed_for_a_peer_that_takes_it_by_a_node_that_was_told_to() {
    let mut a = Host::start_as("a", "", 0, Pace::default(), true).await;
    let mut b = Host::start("b", "").await;
    let message = push(50_000);

    a.send(&b, &message);
    let (_, small) = b.recv().await;
    b.send(&a, &message);
    let (_, plain) = a.recv().await;

    assert!(small.len() < 1000 && plain.len() > 50_000, "{} and {} bytes", small.len(), plain.len());
    for frame in [&small, &plain] {
        assert_eq!(Assembler::default().push(frame.clone()), Ok(Some(message.clone())));
    }
    a.count_reaches("peer_bytes_out", small.len() as u64).await;
    assert_eq!(a.count("peer_bytes_out_spared"), (plain.len() - small.len()) as u64);
    assert_eq!(b.count("peer_bytes_out_spared"), 0);
}

#[tokio::test]
async fn a_peer_that_does_not_say_so_gets_no_compressed_frame() {
    let mut a = Host::start_as("a", "", 0, Pace::default(), true).await;
    let (mut stream, proof) = raw_handshake(&a, "").await;
    write_frame(&mut stream, &proof).await;
    a.count_reaches("peer_connections_accepted", 1).await;

    a.send_to(&Address::new("127.0.0.1:1").unwrap(), &push(50_000));
    let bytes = stream.read_u32().await.unwrap();

    assert!(bytes > 50_000, "a frame of {bytes} bytes");
    assert_eq!(a.count("peer_bytes_out_spared"), 0);
}

#[test]
fn an_empty_set_of_dots_is_a_control_message() {
    let frame = wire::encode(&Message::Durable { dots: DotSet::default() }, 1).unwrap().remove(0);
    assert!(wire::is_frame(&frame) && !wire::is_data(&frame));
}
