//! The transcripts in `docs/kv.md`, against a node.

use crate::server::Server;

#[test]
fn the_client_says_what_its_manual_shows() {
    let folder = tempfile::tempdir().unwrap();
    let node = Server::alone(&folder);

    trycmd::TestCases::new()
        .env("REKNIT_ENDPOINTS", format!("http://127.0.0.1:{}", node.http.port))
        .register_bin("kv", std::path::Path::new(env!("CARGO_BIN_EXE_kv")))
        .case("docs/kv.md")
        .run();
}
