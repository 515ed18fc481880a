use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn address(port: u16) -> Address {
    Address::new(&format!("127.0.0.1:{port}")).unwrap()
}

fn hello(id: &str, port: u16, instance: u128) -> Hello {
    Hello { id: NodeId::new(id).unwrap(), address: address(port), instance, nonce: 0, takes_zstd: true }
}

fn me() -> NodeId {
    NodeId::new("m").unwrap()
}

fn frame() -> Bytes {
    Bytes::from_static(b"frame")
}

/// Whether the connection `serial` is the one that carries frames to `id`.
fn is_current(registry: &mut Registry, id: &str, serial: u64) -> bool {
    registry.next(&NodeId::new(id).unwrap(), serial) != Next::Finish
}

#[test]
fn of_two_connections_dialed_at_once_both_sides_keep_the_one_that_the_lower_id_dialed() {
    let now = Instant::now();
    for i_am_lower in [true, false] {
        let peer = hello(if i_am_lower { "z" } else { "a" }, 2, 7);
        for mine_first in [true, false] {
            let mut registry = Registry::default();
            let first = registry.register(&me(), &peer, mine_first, now).serial;
            let second = registry.register(&me(), &peer, !mine_first, now).serial;

            let (mine, theirs) = if mine_first { (first, second) } else { (second, first) };
            assert_eq!(is_current(&mut registry, peer.id.as_str(), mine), i_am_lower);
            assert_eq!(is_current(&mut registry, peer.id.as_str(), theirs), !i_am_lower);
        }
    }
}

#[test]
fn a_peer_that_lost_its_connection_or_its_life_may_replace_it() {
    let now = Instant::now();
    for (instance, later) in [(7, DUPLICATE_WINDOW), (8, SECOND)] {
        let mut registry = Registry::default();
        registry.register(&me(), &hello("z", 2, 7), true, now);
        let second = registry.register(&me(), &hello("z", 2, instance), false, now + later).serial;
        assert!(is_current(&mut registry, "z", second));
    }
}

#[test]
fn frames_wait_for_a_dial_and_go_with_whatever_connection_comes_up() {
    let now = Instant::now();
    let mut registry = Registry::default();
    assert!(
        matches!(registry.send(&address(1), &address(2), frame(), now), Sent::Dial(to) if to == address(2))
    );
    assert!(matches!(registry.send(&address(1), &address(2), frame(), now), Sent::Waits));

    let serial = registry.register(&me(), &hello("a", 2, 7), false, now).serial;

    let id = NodeId::new("a").unwrap();
    assert_eq!(registry.next(&id, serial), Next::Write(vec![frame(), frame()]));
    assert_eq!(registry.next(&id, serial), Next::Wait);
    assert!(matches!(registry.send(&address(1), &address(2), frame(), now), Sent::Wake(_)));
    assert_eq!(registry.dial_failed(&address(2), Failed::Unreachable, 0.5, now), 0);
    assert_eq!(registry.next(&id, serial), Next::Write(vec![frame()]));
}

#[test]
fn a_failed_dial_is_repeated_ever_more_slowly() {
    let start = Instant::now();
    let mut now = start;
    let mut registry = Registry::default();
    let mut dials = Vec::new();
    while now - start < 30 * SECOND {
        if let Sent::Dial(to) = registry.send(&address(1), &address(2), frame(), now) {
            dials.push((now - start).as_millis());
            assert_eq!(registry.dial_failed(&to, Failed::Unreachable, 1.0, now), 1);
        }
        now += Duration::from_millis(1);
    }

    assert_eq!(dials, [0, 250, 750, 1750, 3750, 7750, 12750, 17750, 22750, 27750]);
}

#[test]
fn a_connection_that_lasted_is_dialed_again_at_once_when_frames_wait() {
    let now = Instant::now();
    let mut registry = Registry::default();
    let serial = registry.register(&me(), &hello("a", 2, 7), true, now).serial;
    registry.send(&address(1), &address(2), frame(), now);

    let dial = registry.ended(&NodeId::new("a").unwrap(), serial, 0.0, now + 60 * SECOND);

    assert_eq!(dial, Some(address(2)));
    assert_eq!(registry.ended(&NodeId::new("a").unwrap(), serial, 0.0, now + 60 * SECOND), None);
}

#[test]
fn an_alias_leads_to_the_advertised_address_and_is_forgotten_when_that_is_gone() {
    let now = Instant::now();
    let mut registry = Registry::default();
    let alias = Address::new("localhost:2").unwrap();
    registry.send(&address(1), &alias, frame(), now);
    registry.dial_succeeded(&alias, &address(2), now);
    let serial = registry.register(&me(), &hello("a", 2, 7), true, now).serial;
    assert_eq!(registry.next(&NodeId::new("a").unwrap(), serial), Next::Write(vec![frame()]));
    assert!(matches!(registry.send(&address(1), &alias, frame(), now), Sent::Wake(_)));

    registry.ended(&NodeId::new("a").unwrap(), serial, 0.0, now + 60 * SECOND);
    registry.dial_failed(&address(2), Failed::Unreachable, 0.0, now + 60 * SECOND);

    let sent = registry.send(&address(1), &alias, frame(), now + 60 * SECOND);
    assert!(matches!(sent, Sent::Dial(to) if to == alias));
}

#[test]
fn an_address_of_our_own_is_not_dialed_for_a_while() {
    let now = Instant::now();
    let mut registry = Registry::default();
    let alias = Address::new("localhost:1").unwrap();
    assert!(matches!(registry.send(&address(1), &address(1), frame(), now), Sent::Own));
    assert!(matches!(registry.send(&address(1), &alias, frame(), now), Sent::Dial(_)));
    registry.dial_failed(&alias, Failed::Own, 0.0, now);

    assert!(matches!(registry.send(&address(1), &alias, frame(), now + SECOND), Sent::Own));
    assert!(matches!(registry.send(&address(1), &alias, frame(), now + SELF_MEMORY), Sent::Dial(_)));
}

#[test]
fn addresses_and_connections_are_bounded() {
    let now = Instant::now();
    let mut registry = Registry::default();
    let connected = registry.register(&me(), &hello("a", 2, 7), true, now).serial;
    for port in 10..5000 {
        registry.send(&address(1), &address(port), frame(), now);
        registry.dial_failed(&address(port), Failed::Unreachable, 0.0, now);
    }

    assert_eq!(registry.links.len(), LINKS_MAX);
    assert!(is_current(&mut registry, "a", connected));
    let entered = (0..2 * CONNECTIONS_MAX).filter(|_| registry.enter()).count();
    assert_eq!(entered, CONNECTIONS_MAX);
    registry.leave();
    assert!(registry.enter());
    registry.stop();
    registry.leave();
    assert!(!registry.enter());
}
