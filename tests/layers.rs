//! The shape of the source itself: who may use whom, and what appears nowhere. Reads the files as text, so a rule
//! that is broken is reported with file and line, whether or not the code is compiled here.
#![allow(clippy::unwrap_used, reason = "a file that cannot be read fails the test, and says which")]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of `src/` in reading order; each uses only itself and what stands before it.
const LAYERS: &[&str] =
    &["model", "mutants", "storage", "protocol", "node", "testing", "driver", "api", "config", "client"];

/// What nothing before `driver` may name: it would bring in a clock, a thread, a socket or a lock.
const FORBIDDEN_BEFORE_DRIVER: &[&str] = &[
    "async fn",
    ".await",
    "tokio::",
    "std::net",
    "std::thread",
    "std::time::Instant",
    "SystemTime",
    "Mutex<",
    "RwLock<",
];

/// A line of code without its comment.
struct Line {
    file: PathBuf,
    number: usize,
    code: String,
}

impl Line {
    fn complain(&self, what: &str) -> String {
        format!("{}:{}: {what}: {}", self.file.display(), self.number, self.code.trim())
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The lines of every Rust file under these folders, in the order of their paths, comments left out.
fn lines_under(folders: &[&str]) -> Vec<Line> {
    let mut files = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut files);
    }
    files.sort();
    files.iter().flat_map(|path| lines_of(path)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    // A folder that is not there has no files that could break a rule.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn lines_of(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap();
    let file = path.strip_prefix(root()).unwrap().to_path_buf();
    let code = |line: &str| match line.find("//") {
        // `http://` stands inside a string, not before a comment.
        Some(at) if !line[..at].ends_with(':') => line[..at].to_owned(),
        _ => line.to_owned(),
    };
    let lines = text.lines().enumerate();
    lines.map(|(index, line)| Line { file: file.clone(), number: index + 1, code: code(line) }).collect()
}

/// Tests may use whatever helps them.
fn is_test(file: &Path) -> bool {
    let stem = file.file_stem().unwrap().to_string_lossy();
    stem == "tests" || stem.ends_with("_tests")
}

/// The layer that a file under `src/` belongs to.
fn layer(file: &Path) -> Option<usize> {
    let name = file.strip_prefix("src").ok()?.components().next()?.as_os_str().to_string_lossy();
    let name = name.strip_suffix(".rs").unwrap_or(&name);
    LAYERS.iter().position(|layer| *layer == name)
}

/// The names that stand directly after `crate::`, also in `crate::{a, b::c}`.
fn uses(code: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for (at, prefix) in code.match_indices("crate::") {
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(first_names(group)),
            None => names.push(name_at(rest)),
        }
    }
    names
}

/// The first name of each item of a group, whose opening brace is gone already.
fn first_names(group: &str) -> Vec<&str> {
    let mut names = vec![name_at(group)];
    let mut depth = 1;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => names.push(name_at(&group[at + 1..])),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn name_at(text: &str) -> &str {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

fn assert_none(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn names_after_crate_are_found_alone_and_in_groups() {
    assert_eq!(uses("use crate::model::{Key, node};"), ["model"]);
    assert_eq!(uses("use crate::{model::{Key, api}, node::Node, wire};"), ["model", "node", "wire"]);
    assert_eq!(uses("let a: crate::storage::X = crate::driver::y();"), ["storage", "driver"]);
}

#[test]
fn the_library_lists_its_modules_in_reading_order() {
    let declared = |line: &Line| Some(line.code.strip_prefix("pub mod ")?.strip_suffix(';')?.to_owned());
    let modules: Vec<_> = lines_of(&root().join("src/lib.rs")).iter().filter_map(declared).collect();
    assert_eq!(modules, LAYERS);
}

#[test]
fn a_module_uses_only_what_stands_before_it() {
    let mut broken = Vec::new();
    for line in lines_under(&["src"]).iter().filter(|line| !is_test(&line.file)) {
        let Some(own) = layer(&line.file) else { continue };
        let later =
            |name: &&str| LAYERS.iter().position(|layer| layer == name).is_some_and(|used| used > own);
        for name in uses(&line.code).into_iter().filter(later) {
            broken.push(line.complain(&format!("{} uses {name}, which stands after it", LAYERS[own])));
        }
    }
    assert_none(broken);
}

#[test]
fn nothing_before_the_driver_knows_clocks_threads_sockets_or_locks() {
    let driver = LAYERS.iter().position(|layer| *layer == "driver").unwrap();
    let mut broken = Vec::new();
    for line in lines_under(&["src"]).iter().filter(|line| !is_test(&line.file)) {
        if layer(&line.file).is_some_and(|own| own < driver) {
            let named = FORBIDDEN_BEFORE_DRIVER.iter().filter(|word| line.code.contains(**word));
            broken.extend(named.map(|word| line.complain(&format!("names `{word}`"))));
        }
    }
    assert_none(broken);
}

#[test]
fn only_the_wire_names_bincode() {
    let names =
        |line: &&Line| line.code.contains("bincode") && line.file != Path::new("src/protocol/wire.rs");
    let lines = lines_under(&["src", "sim/src"]);
    assert_none(lines.iter().filter(names).map(|line| line.complain("names bincode")).collect());
}

#[test]
fn every_select_is_biased() {
    let lines = lines_under(&["src", "sim/src", "sim/tests"]);
    let mut broken = Vec::new();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| line.code.contains("select!")) {
        let (_, head) = line.code.split_once("select!").expect("just found");
        let after: String = lines[index + 1..].iter().take(3).map(|next| next.code.as_str()).collect();
        let body = format!("{head}{after}").replace(char::is_whitespace, "");
        if !body.starts_with("{biased;") {
            broken.push(line.complain("a select! that is not biased does not replay"));
        }
    }
    assert_none(broken);
}

#[test]
fn the_cfg_of_the_simulator_is_set() {
    if cfg!(madsim) {
        return;
    }
    panic!(
        "built without --cfg madsim: a RUSTFLAGS variable, or build.rustflags in your own cargo configuration, \
         replaced the flags of .cargo/config.toml. Unset it, or append: RUSTFLAGS=\"... --cfg madsim\". \
         Without it the simulator's full world is not what is tested."
    );
}
