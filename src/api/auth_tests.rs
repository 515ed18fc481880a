use super::*;
use crate::api::testbed::{Bed, problem};

const READER: &str = "reader-token";
const WRITER: &str = "writer-token";
const CART: &str = "cart-token";
const ADMIN: &str = "admin-token";

fn line(name: &str, scopes: &str, token: &str, prefix: &str) -> String {
    format!("{name} {scopes} {} {prefix}\n", blake3::Hash::from_bytes(hash(token.as_bytes())).to_hex())
}

fn guarded() -> Bed {
    let text = [
        line("reader", "read", READER, ""),
        line("writer", "read,write", WRITER, ""),
        line("cart", "read,write", CART, "cart/"),
        line("admin", "admin", ADMIN, ""),
    ];
    Bed::guarded(Tokens::parse(&text.concat()).unwrap())
}

async fn status(bed: &Bed, token: &str, line: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let body = if line.starts_with("PUT") { "1" } else { "" };
    bed.send(line, &[("authorization", &bearer)], body).await.status.as_u16()
}

#[tokio::test]
async fn without_a_known_token_nothing_is_shown_but_that_the_node_lives() {
    let bed = guarded();
    for open in ["/health", "/livez", "/readyz", "/version"] {
        assert_eq!(bed.ask(&format!("GET {open}")).await.status, 200, "{open}");
    }
    for closed in ["/kv", "/kv/a", "/changes", "/members/", "/status", "/metrics", "/backup", "/export"] {
        let answer = bed.ask(&format!("GET {closed}")).await;
        assert_eq!(answer.problem(), problem(401, "unauthorized"), "{closed}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    assert_eq!(status(&bed, "guess", "GET /kv/a").await, 401);
    let basic = bed.send("GET /kv/a", &[("authorization", "Basic eDp5")], "").await;
    assert_eq!(basic.problem(), problem(401, "unauthorized"));
    let long = "x".repeat(TOKEN_BYTES_MAX + 1);
    assert_eq!(status(&bed, &long, "GET /kv/a").await, 401);
}

#[tokio::test]
async fn a_scope_opens_what_it_is_for() {
    let bed = guarded();

    assert_eq!(status(&bed, READER, "GET /kv/a").await, 404);
    assert_eq!(status(&bed, READER, "PUT /kv/a").await, 403);
    assert_eq!(status(&bed, READER, "GET /metrics").await, 200);
    assert_eq!(status(&bed, READER, "GET /export").await, 403);
    assert_eq!(status(&bed, READER, "POST /batch").await, 403);
    assert_eq!(status(&bed, WRITER, "PUT /kv/a").await, 200);
    assert_eq!(status(&bed, WRITER, "POST /members/leave").await, 403);
    assert_eq!(status(&bed, ADMIN, "PUT /kv/a").await, 200);
    assert_eq!(status(&bed, ADMIN, "GET /export").await, 200);
}

#[tokio::test]
async fn a_prefix_opens_its_keys_only() {
    let bed = guarded();

    assert_eq!(status(&bed, CART, "PUT /kv/cart/1").await, 200);
    assert_eq!(status(&bed, CART, "PUT /kv/%63art/2").await, 200);
    assert_eq!(status(&bed, CART, "PUT /kv/car").await, 403);
    assert_eq!(status(&bed, CART, "GET /kv/other").await, 403);
    assert_eq!(status(&bed, CART, "GET /kv?prefix=cart/").await, 200);
    assert_eq!(status(&bed, CART, "GET /kv").await, 403);
    assert_eq!(status(&bed, CART, "GET /kv?prefix=car").await, 403);
    assert_eq!(status(&bed, CART, "GET /changes").await, 403);
    assert_eq!(status(&bed, CART, "GET /status").await, 403);
    let body = "{\"op\":\"put\",\"key\":\"other\",\"value\":1}\n{\"op\":\"put\",\"key\":\"cart/3\",\"value\":1}\n{\"op\":\"get\",\"key\":\"other\"}";
    let bearer = format!("Bearer {CART}");
    let batch = bed.send("POST /batch", &[("authorization", &bearer)], body).await;
    let codes: Vec<_> = batch.text().lines().map(|line| line.contains("\"status\":403")).collect();
    assert_eq!(codes, [true, false, true], "{}", batch.text());
}

#[test]
fn a_line_that_is_no_token_is_named_with_its_reason() {
    let error = |text: &str| Tokens::parse(text).map(drop).unwrap_err();

    assert_eq!(error("# fine\n\nci read").0, 3);
    assert_eq!(error("ci fly 00").1, "`fly` is no scope: read, write or admin");
    assert_eq!(error("ci read 00").1, "the hash is not 64 hex digits");
    let twice = line("ci", "read", "a", "") + &line("ci", "read", "b", "");
    assert_eq!(error(&twice).1, "there are two tokens named ci");
}

#[test]
fn a_new_token_is_known_by_its_line() {
    let (token, line) = new_token("ci", "read,write", "cart/", [7; 32]).unwrap();
    let tokens = Tokens::parse(&line).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());

    let grant = tokens.grant(&headers).unwrap();

    assert_eq!(grant.name.as_deref(), Some("ci"));
    assert!(grant.check_keys(b"cart/1").is_ok() && grant.check_keys(b"other").is_err());
    assert!(new_token("ci", "fly", "", [7; 32]).is_err());
    assert!(!line.contains(&token));
}

#[tokio::test]
async fn a_file_without_a_token_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    std::fs::write(&path, line("reader", "read", READER, "")).unwrap();
    let tokens = Tokens::read(&path).unwrap();
    let bed = Bed::guarded(tokens.clone());

    for empty in ["", "\n# everybody went\n"] {
        std::fs::write(&path, empty).unwrap();
        assert!(matches!(tokens.reload(&path), Err(TokensError::Empty(_))), "{empty:?}");
        assert!(matches!(Tokens::read(&path), Err(TokensError::Empty(_))), "{empty:?}");
        assert_eq!(bed.ask("GET /kv/a").await.status, 401, "the tokens are as before");
        assert_eq!(status(&bed, READER, "GET /kv/a").await, 404);
    }
}
