//! Clients and peers that mean harm, or know no better, against a real process: refused and counted, nothing lost, and
//! the memory bounded. The figures of the documentation come from here: `cargo test --release -- --nocapture hostile`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::server::{Server, free_port};

/// Resident memory of a process, in MiB.
fn memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.http.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends `bytes` and reads what comes until the other end closes, or nothing more does.
fn talk(server: &Server, bytes: &[u8]) -> String {
    let mut stream = connect(server);
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    // The node may have closed already, which is an answer too.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn answers(text: &str) -> usize {
    text.matches("HTTP/1.1 ").count()
}

fn node(folder: &tempfile::TempDir) -> Server {
    let server = Server::alone(folder);
    server.http.put_json("/kv/kept", &json!("before"));
    server
}

fn still_well(server: &Server) {
    assert_eq!(server.http.get("/kv/kept").json(), json!("before"));
    server.http.put_json("/kv/after", &json!(1));
    assert!(server.http.is_ready());
}

#[test]
fn requests_that_two_readers_would_take_apart_differently_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = node(&folder);
    let smuggled = "DELETE /kv/kept HTTP/1.1\r\nHost: x\r\n\r\n";
    let body = format!("0\r\n\r\n{smuggled}");
    let length = body.len();

    for head in [
        // Two lengths that differ, a length beside chunks, chunks hidden in several ways, obsolete folding.
        format!("PUT /kv/s HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: {length}\r\n\r\n"),
        "PUT /kv/s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
            .into(),
        "PUT /kv/s HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\n".into(),
        "PUT /kv/s HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n".into(),
        "PUT /kv/s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n".into(),
        "PUT /kv/s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n".into(),
        "PUT /kv/s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n".into(),
        "PUT /kv/s HTTP/1.1\r\nHost: x\r\nX: a\r\n Transfer-Encoding: chunked\r\n\r\n".into(),
        "PUT /kv/s HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n".into(),
        "PUT /kv/s HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
    ] {
        let answer = talk(&server, format!("{head}{body}").as_bytes());

        assert!(!answer.contains("HTTP/1.1 2"), "{head}\n{answer}");
        assert!(answers(&answer) <= 1, "{head}\n{answer}");
        assert_eq!(server.http.get("/kv/kept").json(), json!("before"), "{head}");
    }
    // The chunks count where both are said, and the connection ends, so nothing after them is taken for a request.
    let both = format!(
        "PUT /kv/s HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n{body}"
    );
    let answer = talk(&server, both.as_bytes());
    assert!(answers(&answer) <= 1, "{answer}");
    still_well(&server);
}

#[test]
fn heads_without_end_and_bodies_without_bounds_cost_next_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = node(&folder);
    let before = memory(&server);

    let long = talk(&server, format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20)).as_bytes());
    let wide =
        talk(&server, format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(1 << 20)).as_bytes());
    let many = talk(&server, format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(10_000)).as_bytes());
    let bomb = talk(
        &server,
        &[
            &b"PUT /kv/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"[..],
            &[b'x'; 1 << 20],
        ]
        .concat(),
    );
    let huge =
        talk(&server, b"PUT /kv/b HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n");

    for answer in [&long, &wide, &many, &bomb, &huge] {
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    still_well(&server);
    let after = memory(&server);
    println!("heads and bodies without bounds: {before} MiB before, {after} MiB after");
    assert!(after < before + 64, "{before} MiB before, {after} MiB after");
}

#[test]
fn a_thousand_slow_clients_keep_nobody_out_and_take_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let server = node(&folder);
    let before = memory(&server);

    // Fewer than there are places; each keeps one, for a while, with a head that does not end.
    let mut slow: Vec<_> = (0..900).map(|_| connect(&server)).collect();
    let mut worst = Duration::ZERO;
    for round in 0..3 {
        for stream in &mut slow {
            let part = if round == 0 { "PUT /kv/slow HTTP/1.1\r\nHost: x\r\n" } else { "X: y\r\n" };
            let _ = stream.write_all(part.as_bytes());
        }
        let began = Instant::now();
        assert_eq!(server.http.get("/kv/kept").json(), json!("before"));
        worst = worst.max(began.elapsed());
    }

    let during = memory(&server);
    println!("900 slow clients: {before} MiB before, {during} MiB during; the slowest read took {worst:?}");
    assert!(during < before + 128, "{before} MiB before, {during} MiB during");
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    drop(slow);
    still_well(&server);
}

#[test]
fn clients_that_are_slow_to_send_bodies_keep_nobody_out_and_take_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let server = node(&folder);
    let before = memory(&server);

    // More than may be under way at once, and together they declare far more than may be held.
    let mut slow: Vec<_> = (0..900).map(|_| connect(&server)).collect();
    let mut worst = Duration::ZERO;
    for round in 0..3 {
        for (number, stream) in slow.iter_mut().enumerate() {
            let head = match number % 3 {
                _ if round > 0 => "x",
                0 => "PUT /kv/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
                1 => "POST /batch HTTP/1.1\r\nHost: x\r\nContent-Length: 16000000\r\n\r\n",
                _ => "POST /batch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            };
            let _ = stream.write_all(head.as_bytes());
        }
        let began = Instant::now();
        server.http.put_json("/kv/kept", &json!("before"));
        worst = worst.max(began.elapsed());
    }

    let during = memory(&server);
    println!("900 slow bodies: {before} MiB before, {during} MiB during; the slowest write took {worst:?}");
    assert!(during < before + 192, "{before} MiB before, {during} MiB during");
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    drop(slow);
    still_well(&server);
}

/// Most memory while so many clients ask with this head and read nothing, in MiB, before and meanwhile.
fn memory_with_deaf(server: &Server, count: usize, head: &str) -> (u64, u64) {
    let before = memory(server);
    let deaf: Vec<_> = (0..count)
        .map(|_| {
            let mut stream = connect(server);
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    let mut most = 0;
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(100));
        most = most.max(memory(server));
    }
    assert_eq!(server.http.get("/kv/kept").json(), json!("before"));
    drop(deaf);
    (before, most)
}

fn put_eight(server: &Server, media_type: &str, byte: u8) {
    for number in 0..8 {
        let path = format!("/kv/big/{number}");
        assert_eq!(server.http.put(&path, media_type, &vec![byte; 1 << 20]).status, 200);
    }
}

#[test]
fn watches_that_read_nothing_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let server = node(&folder);
    // Bytes that JSON writes as six each.
    put_eight(&server, "text/plain", 1);

    let head = "GET /changes HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";
    let (before, most) = memory_with_deaf(&server, 250, head);

    println!("250 watches that read nothing: {before} MiB before, at most {most} MiB");
    assert!(most < before + 448, "{before} MiB before, {most} MiB");
    still_well(&server);
}

#[test]
fn clients_that_ask_for_much_and_read_nothing_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let server = node(&folder);
    put_eight(&server, "application/octet-stream", b'x');

    // A page of the listing is 4 MiB and more as base64: without a bound this would be a GiB.
    let (before, most) = memory_with_deaf(&server, 200, "GET /kv?prefix=big/ HTTP/1.1\r\nHost: x\r\n\r\n");

    println!("200 clients that ask for 4 MiB and read nothing: {before} MiB before, at most {most} MiB");
    assert!(most < before + 448, "{before} MiB before, {most} MiB");
    still_well(&server);
}

#[test]
fn peers_that_are_none_are_refused_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let arguments = ["--port", &port.to_string(), "--node-id", "alone", "--cluster-secret", "s3cret"];
    let server = Server::start(folder.path(), port, &arguments);
    server.http.put_json("/kv/kept", &json!("before"));
    let before = memory(&server);
    let upgrade = "GET /peer HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: reknit/1\r\n";

    for round in 0..200_u32 {
        // Frames before any proof, of any length, and noise.
        let frames = [&u32::MAX.to_be_bytes()[..], &[round as u8; 4096]].concat();
        let answer = talk_quickly(&server, &[format!("{upgrade}\r\n").as_bytes(), &frames].concat());
        assert!(!answer.starts_with("HTTP/1.1 101"), "{answer}");
    }

    let counters = server.http.get("/status").json()["counters"].clone();
    assert_eq!(counters["peer_refused_malformed_handshake"], 200, "{counters}");
    assert_eq!(counters["peer_connections_accepted"], 0, "{counters}");
    let after = memory(&server);
    println!("200 peers that are none: {before} MiB before, {after} MiB after");
    assert!(after < before + 64, "{before} MiB before, {after} MiB after");
    still_well(&server);
}

/// As [`talk`], but content with the head of the answer.
fn talk_quickly(server: &Server, bytes: &[u8]) -> String {
    let mut stream = connect(server);
    let _ = stream.write_all(bytes);
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..length]).into_owned()
}
