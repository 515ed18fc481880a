use super::*;
use crate::api::door::Room;
use crate::api::testbed::Bed;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

/// Longer than anything here should take.
const SOON: Duration = Duration::from_secs(10);

struct Served {
    address: SocketAddr,
    shutdown: CancellationToken,
    counted: Connections,
    task: JoinHandle<()>,
}

fn quick() -> Patience {
    let millis = Duration::from_millis;
    Patience {
        connections_max: 8,
        head: millis(200),
        write: millis(200),
        refused: millis(100),
        rest_max: millis(150),
        drain: millis(300),
    }
}

async fn served(router: Router, patience: Patience) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, counted) = (CancellationToken::new(), Connections::default());
    let task = tokio::spawn(serve_with(listener, router, shutdown.clone(), None, counted.clone(), patience));
    Served { address, shutdown, counted, task }
}

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `text` and reads until the other end closes.
    async fn talk(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        rest(&mut stream).await
    }

    async fn ended(self) {
        tokio::time::timeout(SOON, self.task).await.expect("it ends").unwrap();
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("it closes");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn slow() -> Router {
    let wait = |millis| async move {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        "done"
    };
    Router::new()
        .route("/now", get(move || wait(0)))
        .route("/kv/full", get(|| async { (axum::Extension(Refused(Arc::new(Room::new(0)))), "full") }))
        .route("/kv/now", get(move || wait(0)))
        .route("/slow", get(move || wait(100)))
        .route("/stuck", get(move || wait(60_000)))
        .route("/huge", get(|| async { vec![7_u8; 64 << 20] }))
}

const CLOSE: &str = "HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_client_that_never_finishes_its_head_is_sent_away() {
    let served = served(slow(), quick()).await;

    let silent = served.talk("").await;
    let cut = served.talk("GET /now HTTP/1.1\r\nhost:").await;

    assert!(!silent.contains("done") && !cut.contains("done"), "{silent} {cut}");
}

#[tokio::test]
async fn a_head_may_be_large_but_not_without_bounds() {
    let served = served(slow(), quick()).await;
    let head = |bytes| {
        format!("GET /now HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: {}\r\n\r\n", "y".repeat(bytes))
    };

    let large = served.talk(&head(HEAD_BYTES_MAX - 100)).await;
    let larger = served.talk(&head(HEAD_BYTES_MAX + 100)).await;

    assert!(large.ends_with("done"), "{large}");
    assert!(larger.is_empty() || larger.starts_with("HTTP/1.1 431"), "{larger}");
    let many = format!("GET /now HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(HEADERS_MAX + 1));
    assert!(served.talk(&many).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_client_that_never_reads_gives_its_place_up() {
    let served = served(slow(), Patience { connections_max: 1, ..quick() }).await;
    let mut stuck = served.connect().await;
    stuck.write_all(format!("GET /huge {CLOSE}").as_bytes()).await.unwrap();

    let next = served.talk(&format!("GET /now {CLOSE}")).await;

    assert!(next.ends_with("done"), "{next}");
}

#[tokio::test]
async fn a_connection_beyond_the_places_waits_for_one() {
    let served = served(slow(), Patience { connections_max: 1, ..quick() }).await;
    let mut first = served.connect().await;
    first.write_all(format!("GET /slow {CLOSE}").as_bytes()).await.unwrap();

    let second = served.talk(&format!("GET /now {CLOSE}")).await;

    assert!(rest(&mut first).await.ends_with("done"));
    assert!(second.ends_with("done"), "{second}");
}

#[tokio::test]
async fn who_only_keeps_a_connection_for_later_lets_go_of_it_for_the_next() {
    let patience = Patience { connections_max: 2, head: Duration::from_secs(60), ..quick() };
    let served = served(slow(), patience).await;
    let mut silent = served.connect().await;
    let mut kept = served.connect().await;
    kept.write_all(b"GET /now HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();

    for _ in 0..5 {
        assert!(served.talk(&format!("GET /now {CLOSE}")).await.ends_with("done"));
    }

    assert!(rest(&mut silent).await.is_empty(), "it was here longest");
    kept.write_all(format!("GET /now {CLOSE}").as_bytes()).await.unwrap();
    assert_eq!(rest(&mut kept).await.matches("done").count(), 2);
}

#[tokio::test]
async fn requests_under_way_are_answered_before_the_end_and_idle_clients_let_go() {
    let served = served(slow(), Patience { head: SOON, drain: SOON, ..quick() }).await;
    let mut idle = served.connect().await;
    idle.write_all(b"GET /now HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut busy = served.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;

    served.shutdown.cancel();

    assert!(rest(&mut busy).await.ends_with("done"));
    assert!(rest(&mut idle).await.ends_with("done"));
    let address = served.address;
    served.ended().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_request_that_takes_for_ever_does_not_hold_up_the_end() {
    let served = served(slow(), quick()).await;
    let mut stuck = served.connect().await;
    stuck.write_all(b"GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;

    served.shutdown.cancel();

    served.ended().await;
    assert_eq!(rest(&mut stuck).await, "");
}

#[tokio::test]
async fn a_client_that_sends_far_too_much_still_reads_why_it_is_refused() {
    let served = served(Bed::new().router, Patience::default()).await;
    for (path, length, code) in
        [("a", 5 << 20, "value-too-large"), ("a//b", 5 << 20, "bad-key"), ("a", 1 << 40, "value-too-large")]
    {
        let head = format!("PUT /kv/{path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        let (mut reader, mut writer) = tokio::io::split(served.connect().await);
        // Whoever declares a tebibyte is still at it when the answer comes.
        let sent = usize::min(length, 6 << 20);
        let writing = tokio::spawn(async move {
            writer.write_all(head.as_bytes()).await.unwrap();
            let _ = writer.write_all(&vec![b'1'; sent]).await;
            writer
        });

        let mut answer = Vec::new();
        while !String::from_utf8_lossy(&answer).contains(code) {
            let read = tokio::time::timeout(SOON, reader.read_buf(&mut answer)).await.expect("an answer");
            assert_ne!(read.expect("no reset"), 0, "{}", String::from_utf8_lossy(&answer));
        }
        drop(writing.await.unwrap());
    }
}

#[tokio::test]
async fn the_handlers_know_who_called() {
    let who = get(|ConnectInfo(remote): ConnectInfo<SocketAddr>| async move { remote.to_string() });
    let served = served(Router::new().route("/who", who), quick()).await;
    let mut stream = served.connect().await;
    let own = stream.local_addr().unwrap().to_string();
    stream.write_all(format!("GET /who {CLOSE}").as_bytes()).await.unwrap();

    assert!(rest(&mut stream).await.ends_with(&own));
}

#[tokio::test]
async fn who_was_refused_and_asks_again_at_once_is_looked_at_again_after_a_rest() {
    let served = served(slow(), quick()).await;
    let asked = std::time::Instant::now();
    let refused = served.talk(&format!("GET /kv/full {CLOSE}")).await;
    let at_once = asked.elapsed();

    let asked = std::time::Instant::now();
    let both = served.talk(&format!("GET /kv/full HTTP/1.1\r\nhost: x\r\n\r\nGET /kv/now {CLOSE}")).await;
    let rested = asked.elapsed();

    assert!(refused.ends_with("full") && both.contains("full") && both.ends_with("done"), "{refused} {both}");
    assert!(rested >= Duration::from_millis(100), "{rested:?}");
    assert!(at_once < rested, "{at_once:?}");
}

#[tokio::test]
async fn refused_connections_get_their_turns_apart_and_none_rests_longer_than_the_bound() {
    let turns = Turns::new(&quick());
    let now = Instant::now() + Duration::from_secs(1);
    let rests: Vec<_> = (0..3).map(|_| (turns.take(now) - now).as_millis()).collect();

    assert_eq!(rests, [100, 150, 150]);
    assert_eq!((turns.take(now + Duration::from_secs(1)) - now).as_millis(), 1_100, "a pause leaves no debt");
}

#[tokio::test]
async fn a_crowd_that_comes_at_once_waits_in_line() {
    let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();

    // Nobody takes them, and each is connected all the same, at once.
    let mut crowd = Vec::new();
    for number in 0..200 {
        let stream = tokio::time::timeout(SOON / 20, TcpStream::connect(address)).await;
        crowd.push(stream.unwrap_or_else(|_| panic!("number {number} has to try again")).unwrap());
    }
}

#[tokio::test]
async fn clients_in_the_midst_of_heads_let_go_of_their_places_once_others_wait() {
    let patience = Patience { connections_max: 2, head: Duration::from_secs(60), ..quick() };
    let served = served(slow(), patience).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut stream = served.connect().await;
        stream.write_all(b"GET /now HTTP/1.1\r\nhost:").await.unwrap();
        slow.push(stream);
    }

    assert!(served.talk(&format!("GET /now {CLOSE}")).await.ends_with("done"));
    assert!(served.counted.let_go.get() >= 2 && served.counted.cut.get() >= 2, "{:?}", served.counted);
}

#[tokio::test]
async fn who_waits_behind_many_that_are_in_the_midst_of_heads_waits_for_seconds_only() {
    let patience = Patience { connections_max: 150, head: Duration::from_secs(60), ..quick() };
    let served = served(slow(), patience).await;
    let mut slow = Vec::new();
    for _ in 0..300 {
        let mut stream = served.connect().await;
        stream.write_all(b"GET /now HTTP/1.1\r\nhost:").await.unwrap();
        slow.push(stream);
    }

    let asked = std::time::Instant::now();
    // All of them had their turn before it, each a second.
    assert!(served.talk(&format!("GET /now {CLOSE}")).await.ends_with("done"));
    assert!(served.counted.cut.get() > 150, "{:?}", served.counted);
    assert!(asked.elapsed() < SOON / 2, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn clients_in_the_midst_of_bodies_let_go_of_their_places_once_others_wait() {
    let served = served(Bed::new().router, Patience { connections_max: 2, ..Patience::default() }).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut stream = served.connect().await;
        stream.write_all(b"PUT /kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n1").await.unwrap();
        slow.push(stream);
    }

    assert!(served.talk(&format!("GET /livez {CLOSE}")).await.contains("HTTP/1.1 200"));
    assert!(rest(&mut slow[0]).await.contains("body-timeout"), "and it is told why");
}

#[tokio::test]
async fn an_answer_that_is_under_way_is_not_cut_off_for_those_who_wait() {
    let long = get(|| async {
        tokio::time::sleep(LINGER * 2).await;
        let parts = futures_util::stream::unfold(0, |part| async move {
            tokio::time::sleep(LINGER / 2).await;
            (part < 4).then_some((Ok::<_, Infallible>("part "), part + 1))
        });
        Body::from_stream(parts)
    });
    let router = slow().route("/long", long);
    let served = served(router, Patience { connections_max: 1, head: SOON, ..quick() }).await;
    let mut first = served.connect().await;
    first.write_all(format!("GET /long {CLOSE}").as_bytes()).await.unwrap();

    let second = served.talk(&format!("GET /now {CLOSE}")).await;

    assert_eq!(rest(&mut first).await.matches("part").count(), 4);
    assert!(second.ends_with("done"), "{second}");
}

#[tokio::test]
async fn what_is_left_of_a_refused_body_is_taken_and_the_connection_goes_on() {
    let served = served(Bed::new().router, Patience::default()).await;
    for line in [
        "POST /batch?nonsense=1",
        "POST /import?nonsense=1",
        "POST /nothing",
        "POST /health",
        "PUT /kv/a//b",
        "DELETE /kv/a",
    ] {
        let body = "x".repeat(300 << 10);
        let head = format!("{line} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());

        let both = served.talk(&format!("{head}{body}GET /livez {CLOSE}")).await;

        assert_eq!(both.matches("HTTP/1.1 ").count(), 2, "{line}: {both}");
        assert!(both.ends_with(r#"{"status":"ok"}"#), "{line}: {both}");
    }
}

#[tokio::test]
async fn a_request_names_its_host_once() {
    let served = served(Bed::new().router, Patience::default()).await;
    let ask = |hosts: &'static str, version: &'static str| {
        let served = &served;
        async move { served.talk(&format!("GET /livez HTTP/{version}\r\n{hosts}connection: close\r\n\r\n")).await }
    };
    for hosts in ["", "host: a\r\nhost: a\r\n", "host: a\r\nhost: b\r\n", "host: a b\r\n"] {
        let answer = ask(hosts, "1.1").await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("bad-header"), "{hosts:?}: {answer}");
    }
    for (hosts, version) in [("host: [::1]:80\r\n", "1.1"), ("host:\r\n", "1.1"), ("", "1.0")] {
        let answer = ask(hosts, version).await;
        assert!(answer.contains(" 200 "), "{hosts:?}: {answer}");
    }
}

#[tokio::test]
async fn two_codings_are_refused_and_a_length_beside_one_ends_the_connection() {
    let served = served(Bed::new().router, Patience::default()).await;
    let chunks = "1\r\n1\r\n0\r\n\r\n";
    let twice = "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n";
    let head = format!("PUT /kv/a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{twice}\r\n");
    let answer = served.talk(&format!("{head}{chunks}")).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("bad-header"), "{answer}");
    let head = format!("PUT /kv/a HTTP/1.1\r\nhost: x\r\n{twice}\r\n");
    let answer = served.talk(&format!("{head}{chunks}GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");

    let (length, coding) = ("content-length: 4\r\n", "transfer-encoding: chunked\r\n");
    for both in [[length, coding], [coding, length]] {
        let head = format!("PUT /kv/a HTTP/1.1\r\nhost: x\r\n{}\r\n", both.concat());

        // The second request is not kept open by anything but the first one's end.
        let answer = served.talk(&format!("{head}{chunks}GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")).await;

        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
}
