//! Three real nodes on directories that were prepared to disagree.

use std::path::PathBuf;

use serde_json::json;

use crate::cluster::three_nodes;
use crate::seed_conflict::{KEY, prepare};
use crate::server::eventually;

#[test]
fn three_nodes_on_prepared_directories_agree_on_the_oldest_authors_value() {
    let folder = tempfile::tempdir().unwrap();
    let directories = [1, 2, 3].map(|number| folder.path().join(format!("data/node{number}")));
    let versions = prepare(&directories.each_ref().map(PathBuf::as_path)).unwrap();
    let uuids: Vec<String> = versions.iter().map(|version| version.uuid().to_string()).collect();
    assert!(uuids[0] != uuids[1] && uuids[1] != uuids[2], "each has a uuid of its own");
    assert!(versions.iter().all(|version| version.stamp == versions[0].stamp), "and the same timestamp");

    let nodes = three_nodes(&folder);

    let path = format!("/kv/{KEY}");
    eventually("all three hold the same", || {
        nodes.iter().all(|node| node.http.root() == nodes[0].http.root())
    });
    for node in &nodes {
        assert_eq!(node.http.get(&path).json(), json!("value 1"));
    }
    // And go on agreeing, with a later write as with any other.
    nodes[2].http.put_json(&path, &json!("later"));
    eventually("the later write is everywhere", || {
        nodes.iter().all(|node| node.http.get(&path).json() == json!("later"))
    });
}
