//! Every promise that is judged, by its code: the table of the manual, and what the tests are measured by.

/// A code, and what was broken where it is reported.
pub const PROMISES: &[(&str, &str)] = &[
    ("ORD", "a node went from a version to one that loses against it, or did not end with the greatest"),
    ("CONV", "after the quiet phase two nodes hold different records"),
    ("DUR", "an acknowledged write is gone, and nothing that beats it is there"),
    ("NORES", "what a tombstone had replaced is alive again"),
    ("NOINV", "a version that no client asked for under that key"),
    ("DOT", "one dot names two writes"),
    ("VOTE", "a collision was ruled on more often than its writers can have asked"),
    (
        "HIST",
        "a transaction of a history is gone, hidden or on the wrong generation, or a fork was not closed",
    ),
    (
        "SIB",
        "a sibling is gone that nothing replaced, or back, or a write replaced other than what its client saw",
    ),
    (
        "HLC",
        "a write got a stamp that is not later than what its node held, or further ahead than its clock allows",
    ),
    ("TTL", "a value was served after its deadline"),
    ("REPLY", "a request was answered twice, or with another request's kind of answer"),
    ("SAFE-GC", "a delete was collected before every member had covered it"),
    ("MERK", "a node's range summaries are not what a recount of its records gives"),
    ("IDX", "a disk's log, dot to key, is not exactly the image of its records"),
    ("MEM-MONO", "a node said something older of a member than it had said before"),
    ("MEM-ACC", "a member that lived and could be reached was called down"),
    ("MEM-COMP", "a death went unnoticed, or a member is missing from a table"),
    ("NOGHOST", "somebody who left, was removed or never was is believed to live"),
    ("L-REJOIN", "a member that is back is not known to be back"),
    ("L-REPL", "all agree and a node has not covered what others have: a stream never came to its end"),
    ("NOFLAP", "a node changed its mind about a member again and again although all was well"),
    ("WIRE", "a damaged frame was taken, or a message came out of the wire as another"),
    ("ALIVE", "a node did not answer a read when all was well again"),
    ("QUIET", "data was sent although all agree, or a node sent more than a few frames per probe"),
    ("LOG", "a node said that a person must look"),
    ("CRASH", "a node panicked, or ended of a disk that had not failed"),
    ("STORY", "a story's own check"),
];

/// Whether a code stands in the list.
pub fn is_known(code: &str) -> bool {
    PROMISES.iter().any(|(known, _)| *known == code)
}

/// The table of the manual.
pub fn markdown() -> String {
    let rows = PROMISES.iter().map(|(code, what)| format!("| `{code}` | {what} |\n"));
    "| code | what was broken |\n|---|---|\n".to_owned() + &rows.collect::<String>()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::manual;

    #[test]
    fn the_table_of_the_manual_is_made_from_the_list() {
        manual::keeps("checks", &markdown());
    }

    /// All the text of tests: whole files of them, and what stands below `mod tests {` in others.
    fn tests_under(folder: &Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                tests_under(&path, text);
                continue;
            }
            let source = std::fs::read_to_string(&path).expect("a source");
            let name = path.file_name().expect("a file").to_string_lossy();
            if name == "tests.rs" || name.ends_with("_tests.rs") {
                text.push_str(&source);
            } else if let Some((_, tests)) = source.split_once("mod tests {") {
                text.push_str(tests);
            }
        }
    }

    #[test]
    fn every_promise_is_broken_by_a_history_made_by_hand() {
        let mut tests = String::new();
        tests_under(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut tests);
        for (code, _) in PROMISES {
            let is_named = |end| tests.contains(&format!("\"{code}{end}"));
            assert!(is_named('"') || is_named(' '), "no test names {code}");
        }
    }
}
