//! The same seeds in two processes: what they tell is equal byte for byte. Addresses, hash seeds and the order of threads
//! differ between processes, so whatever hangs on one of them shows here first.

use std::process::Command;

fn told(words: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(words).current_dir(folder.path()).output();
    let output = output.expect("the simulator starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).expect("JSON is text")
}

#[test]
fn seeds_tell_the_same_in_two_processes_in_each_world() {
    for words in [["seeds=0..4", "world=fast", "json"], ["seeds=0..1", "world=full", "json"]] {
        let (one, other) = (told(&words), told(&words));

        assert!(one.contains("trace_hash"), "{one}");
        assert_eq!(one, other, "{words:?}");
    }
}

#[test]
fn what_would_break_it_is_forbidden_by_the_lint() {
    let lint =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../clippy.toml")).expect("the lint");
    for source in ["Instant::now", "SystemTime::now", "HashMap", "HashSet", "tokio::spawn"] {
        assert!(lint.contains(source), "clippy.toml does not forbid {source}");
    }
}
