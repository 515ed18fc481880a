//! `docs/hazards.md` names stories, tests and mutants; each must exist, and each story must name its hazards.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::scenario::parse::load;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn sources(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|end| end == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("a source"));
        }
    }
}

/// The hazards that a text names, `K10 to K13` included.
fn named(text: &str) -> BTreeSet<String> {
    let words: Vec<&str> =
        text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let id = |word: &str| {
        let (letter, number) = word.split_at_checked(1)?;
        Some((letter.to_owned(), number.len(), number.parse::<u32>().ok()?))
    };
    let mut found = BTreeSet::new();
    for (place, word) in words.iter().enumerate() {
        let Some((letter, width, first)) = id(word) else { continue };
        let last = match words.get(place + 1..place + 3) {
            Some(["to", last]) => id(last).map_or(first, |(_, _, last)| last),
            _ => first,
        };
        found.extend((first..=last).map(|number| format!("{letter}{number:0width$}")));
    }
    found
}

#[test]
fn every_hazard_is_looked_out_for_by_what_exists() {
    let root = root();
    let page = std::fs::read_to_string(root.join("docs/hazards.md")).expect("the index of hazards");
    let mut code = String::new();
    ["src", "tests", "sim/src"].iter().for_each(|folder| sources(&root.join(folder), &mut code));

    let mut hazards = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [hazard, _, found] = cells[..] else { panic!("no row of three cells: {row}") };
        hazards += 1;
        for (kind, name) in found.split(", ").map(|one| one.split_once(' ').expect("a kind and a name")) {
            let name = name.trim_matches('`');
            match kind {
                "story" => {
                    let path = root.join(format!("scenarios/{name}.yaml"));
                    let story =
                        load(path.to_str().expect("a path")).unwrap_or_else(|error| panic!("{error:#}"));
                    assert!(named(&story.about).contains(hazard), "{name} does not name {hazard}");
                }
                "test" => {
                    assert!(code.contains(&format!("fn {name}(")), "{hazard}: no test is called {name}")
                }
                "mutant" => {
                    assert!(reknit::mutants::find(name).is_some(), "{hazard}: no mutant is called {name}")
                }
                other => panic!("{hazard}: {other} is no kind of lookout"),
            }
        }
    }
    assert!(hazards > 100, "{hazards} hazards");
}

#[test]
fn ranges_of_hazards_name_all_between() {
    let expected = ["K10", "K11", "K12", "K13", "K26", "M01"].map(str::to_owned);
    assert_eq!(named("K10 to K13, K26 (a majority), M01"), BTreeSet::from(expected));
}
