use super::*;
use crate::api::testbed::{Bed, Setup, info, problem};
use crate::driver::tokio_world::PeersSettings;

/// A node with a door for peers, but without the loop's end of their connections.
fn with_peers() -> Bed {
    let Setup { settings, .. } = Setup::new();
    let (peers, _network) = Peers::start(PeersSettings {
        id: settings.id,
        address: settings.address,
        secret: Vec::new(),
        insecure_peers: false,
        compression: false,
        tls: None,
        dice: [7; 32],
    });
    let mut bed = Bed::new();
    let app = App {
        mailbox: bed.mailbox.clone(),
        reader: bed.reader.clone(),
        clock: bed.clock.clone(),
        info: info(Vec::new()),
        limits: Default::default(),
        pulse: Default::default(),
        connections: Default::default(),
        stop: Default::default(),
        tokens: Default::default(),
        spool_dir: std::env::temp_dir(),
    };
    bed.router = router_with_peers(app, peers);
    bed
}

#[tokio::test]
async fn who_is_no_peer_is_refused_with_the_peers_own_code_and_counted() {
    let bed = with_peers();

    let plain = bed.ask("GET /peer").await;
    assert_eq!(plain.problem(), problem(426, "upgrade-required"));
    assert_eq!(plain.header("upgrade"), "reknit/1");
    let nameless = bed.send("GET /peer", &[("upgrade", "reknit/1")], "").await;
    assert_eq!(nameless.problem(), problem(400, "malformed-handshake"));
    assert_eq!(bed.ask("POST /peer").await.problem(), problem(405, "method-not-allowed"));

    let metrics = bed.ask("GET /metrics").await;
    for line in [
        "reknit_node_events_total{event=\"peer_refused_malformed_handshake\"} 2",
        "reknit_peers_connected 0",
        "reknit_http_requests_total{route=\"/peer\",method=\"GET\",code=\"426\"} 1",
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{line} is not in {}", metrics.text());
    }
    assert_eq!(bed.ask("GET /status").await.json()["counters"]["peer_refused_malformed_handshake"], 2);
}
