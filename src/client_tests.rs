#![allow(
    clippy::disallowed_methods,
    reason = "the server that these clients talk to needs a thread of its own"
)]

use std::io::Write;
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use super::*;

fn key() -> Key {
    Key::from_path("a/b").unwrap()
}

fn client(endpoints: &[&str]) -> Client {
    let endpoints: Vec<_> = endpoints.iter().map(|&text| text.to_owned()).collect();
    Client::new(&endpoints, Duration::from_secs(10)).unwrap()
}

/// A server that reads one request head, gives one answer, and returns the head.
fn answer_once(answer: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(head).unwrap()
    });
    (address, server)
}

/// An address where nobody listens.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn an_endpoint_is_a_host_and_a_port_with_or_without_the_scheme() {
    assert_eq!(endpoint("127.0.0.1:8080").unwrap(), "http://127.0.0.1:8080");
    assert_eq!(endpoint(" http://n1:80/ ").unwrap(), "http://n1:80");
    assert_eq!(endpoint("https://n1:443").unwrap(), "https://n1:443");
    assert!(matches!(
        Client::new(&["https://n1".into()], Duration::from_secs(1)),
        Err(ClientError::Authority(_))
    ));
    for wrong in ["", "ftp://n1", "http://n1/kv", "n 1"] {
        assert!(endpoint(wrong).is_err(), "{wrong}");
    }
    assert!(Client::new(&[], Duration::from_secs(1)).is_err());
}

#[test]
fn a_value_comes_with_what_the_node_says_about_it() {
    let (address, server) = answer_once(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"u-1\"\r\nX-Reknit-Timestamp: 5\r\n\
         Content-Length: 3\r\n\r\nred",
    );

    let value = client(&[&address]).get(&key()).unwrap().unwrap();

    assert_eq!(
        value,
        Value { bytes: b"red".into(), content_type: "text/plain".into(), uuid: "u-1".into(), timestamp: 5 }
    );
    assert!(server.join().unwrap().starts_with("GET /kv/a/b HTTP/1.1\r\n"));
}

#[test]
fn a_read_and_a_write_go_on_to_the_next_endpoint_where_nobody_listens() {
    let (address, server) =
        answer_once("HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n{\"uuid\":\"\",\"timestamp\":1}");
    let options = Options { query: vec![("ack".into(), "2".into())], headers: Vec::new() };

    let written = client(&[&nobody(), &address]).put(&key(), b"1", "application/json", &options);

    assert_eq!(written.unwrap().timestamp, 1);
    assert!(server.join().unwrap().starts_with("PUT /kv/a/b?ack=2 HTTP/1.1\r\n"));
}

#[test]
fn a_stream_goes_to_the_first_endpoint_that_is_there_and_to_no_other() {
    let (address, server) = answer_once("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let lines = || "line".as_bytes();

    let answer = client(&[&nobody(), &address]).post_stream("/import", &mut lines());

    assert_eq!(answer.unwrap(), b"{}");
    assert!(server.join().unwrap().starts_with("POST /import HTTP/1.1\r\n"));
    let (first, server) = answer_once("");
    let second = TcpListener::bind("127.0.0.1:0").unwrap();
    second.set_nonblocking(true).unwrap();
    let both = client(&[&first, &second.local_addr().unwrap().to_string()]);
    assert!(both.post_stream("/import", &mut lines()).is_err());
    assert!(second.accept().is_err(), "a part of it may be taken already");
    server.join().unwrap();
}

#[test]
fn a_write_whose_answer_is_lost_is_not_sent_to_another_node() {
    let (first, server) = answer_once("");
    let second = TcpListener::bind("127.0.0.1:0").unwrap();
    second.set_nonblocking(true).unwrap();

    let error = client(&[&first, &second.local_addr().unwrap().to_string()])
        .delete(&key(), &Options::default())
        .unwrap_err();

    assert!(error.to_string().ends_with("it may be stored"), "{error}");
    assert!(second.accept().is_err());
    server.join().unwrap();
}

#[test]
fn a_problem_is_told_by_its_code_and_a_stranger_by_its_status() {
    let (address, _server) = answer_once(
        "HTTP/1.1 412 Precondition Failed\r\nContent-Type: application/problem+json\r\nContent-Length: 58\r\n\r\n\
         {\"code\":\"condition\",\"detail\":\"no\",\"retryable\":false,\"x\":1}",
    );
    let error = client(&[&address]).get(&key()).unwrap_err();
    assert_eq!(error.to_string(), "no (412, condition)");

    let (address, _server) = answer_once("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nwhat");
    let error = client(&[&address]).get(&key()).unwrap_err();
    assert_eq!(error.to_string(), "502 Bad Gateway (502, no-problem-json)");

    let (address, _server) = answer_once("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client(&[&address]).get(&key()).unwrap(), None);
}
