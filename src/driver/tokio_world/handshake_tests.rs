use std::net::Ipv4Addr;

use super::*;

const LOOPBACK: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));

fn me(id: &str, port: u16, secret: &str) -> Me {
    Me {
        id: NodeId::new(id).unwrap(),
        address: Address::new(&format!("127.0.0.1:{port}")).unwrap(),
        instance: u128::from(port),
        key: Key::of(secret.as_bytes()),
        talks_to_other_hosts: !secret.is_empty(),
        compresses: false,
    }
}

fn request(client: &Me) -> HeaderMap {
    let hello = client.hello(77);
    headers(&hello, client.key.opening(&hello))
}

fn refusal(server: &Me, headers: &HeaderMap, remote: Option<IpAddr>) -> (u16, &'static str) {
    let refused = server.check_request(&Method::GET, headers, remote).expect_err("it is refused");
    (refused.status().as_u16(), refused.code())
}

#[test]
fn both_sides_believe_each_other_when_they_share_the_secret() {
    let (client, server) = (me("a", 1, "s"), me("b", 2, "s"));

    let heard = server.check_request(&Method::GET, &request(&client), None).unwrap();
    let hello = server.hello(5);
    let answer = headers(&hello, server.key.proof(Role::Server, &heard, &hello));

    assert_eq!(heard, client.hello(77));
    assert_eq!(client.check_answer(&client.hello(77), &answer).unwrap(), hello);
}

#[test]
fn a_wrong_or_missing_secret_is_refused_with_401() {
    let server = me("b", 2, "s");
    for secret in ["", "t"] {
        assert_eq!(refusal(&server, &request(&me("a", 1, secret)), LOOPBACK), (401, "wrong-secret"));
    }
    let mut headers = request(&me("a", 1, "s"));
    headers.remove(PROOF);
    assert_eq!(refusal(&server, &headers, LOOPBACK), (401, "wrong-secret"));
}

#[test]
fn an_answer_to_another_nonce_or_in_another_role_is_not_believed() {
    let (client, server) = (me("a", 1, "s"), me("b", 2, "s"));
    let (mine, other, hello) = (client.hello(1), client.hello(2), server.hello(5));

    let replayed = headers(&hello, server.key.proof(Role::Server, &other, &hello));
    let reflected = headers(&hello, server.key.proof(Role::Client, &mine, &hello));

    for answer in [replayed, reflected] {
        assert_eq!(client.check_answer(&mine, &answer).unwrap_err().code(), "wrong-secret");
    }
}

#[test]
fn without_a_secret_only_this_host_is_welcome() {
    let server = me("b", 2, "");
    let headers = request(&me("a", 1, ""));

    assert!(server.check_request(&Method::GET, &headers, LOOPBACK).is_ok());
    assert!(server.check_request(&Method::GET, &headers, Some("::1".parse().unwrap())).is_ok());
    for remote in [None, Some("192.0.2.1".parse().unwrap())] {
        assert_eq!(refusal(&server, &headers, remote), (403, "peers-need-secret"));
    }
    let open = Me { talks_to_other_hosts: true, ..server };
    assert!(open.check_request(&Method::GET, &headers, None).is_ok());
}

#[test]
fn a_node_does_not_talk_to_itself_or_to_whoever_claims_its_place() {
    let server = me("b", 2, "s");

    assert_eq!(refusal(&server, &request(&server), None), (409, "self"));
    assert_eq!(refusal(&server, &request(&me("b", 3, "s")), None), (409, "id-taken"));
    let claims = Me { instance: 9, ..me("c", 2, "s") };
    assert_eq!(refusal(&server, &request(&claims), None), (409, "address-taken"));
}

#[test]
fn what_is_no_handshake_is_told_what_one_is() {
    let server = me("b", 2, "");
    assert_eq!(refusal(&server, &HeaderMap::new(), LOOPBACK), (426, "upgrade-required"));

    let good = request(&me("a", 1, ""));
    let post = server.check_request(&Method::POST, &good, LOOPBACK).unwrap_err();
    assert_eq!(post.status().as_u16(), 426);
    for (name, value, expected) in [
        (UPGRADE, "websocket", (426, "upgrade-required")),
        (UPGRADE, "reknit/2", (426, "protocol-version")),
        (ID, "no id", (400, "malformed-handshake")),
        (ADDRESS, "nowhere", (400, "malformed-handshake")),
        (NONCE, "12", (400, "malformed-handshake")),
        (INSTANCE, "zz", (400, "malformed-handshake")),
    ] {
        let mut headers = good.clone();
        headers.insert(name, HeaderValue::from_static(value));
        assert_eq!(refusal(&server, &headers, LOOPBACK), expected);
    }
}

#[test]
fn a_dialer_reads_why_it_was_refused() {
    let refused = me("b", 2, "").check_peer(&me("b", 3, "").hello(1)).unwrap_err();

    let (why, reason) = read_refusal(refused.status(), &refused.headers());

    assert_eq!(why, Some(Why::IdTaken));
    assert_eq!(reason, "node id b is taken by the node at 127.0.0.1:2");
    assert_eq!(read_refusal(StatusCode::NOT_FOUND, &HeaderMap::new()).0, None);
}

#[test]
fn the_upgrade_token_names_the_wire_version() {
    assert_eq!(UPGRADE_TOKEN, format!("reknit/{PROTOCOL_VERSION}"));
}
