//! Where two runs part: the first line of their traces that differs, with what stands before and behind it.
//!
//! Knows lines only, so that it also compares traces that an older simulator left.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// How many lines are shown before the first that differs, and of each trace from there on.
const BEFORE: usize = 5;
const BEHIND: usize = 3;

/// Compares two traces, or the traces in two folders of runs; returns what to tell, and whether they are equal.
///
/// # Errors
/// One of them cannot be read.
pub fn diff(one: &Path, other: &Path) -> Result<(String, bool)> {
    let paths = [trace_of(one), trace_of(other)];
    let [mut ours, mut theirs] = [lines(&paths[0])?, lines(&paths[1])?];
    let mut before: Vec<String> = Vec::new();
    for number in 1.. {
        let (left, right) = (ours.next().transpose()?, theirs.next().transpose()?);
        match (left, right) {
            (None, None) => return Ok((format!("equal: {} lines\n", number - 1), true)),
            (Some(left), Some(right)) if left == right => {
                if before.len() == BEFORE {
                    before.remove(0);
                }
                before.push(left);
            }
            (left, right) => {
                let mut text = format!("They part at line {number}.\n");
                before.iter().for_each(|line| text += &format!("  {line}\n"));
                for (mark, first, rest) in [('-', left, &mut ours), ('+', right, &mut theirs)] {
                    match first {
                        None => text += &format!("{mark} (ends here)\n"),
                        Some(first) => {
                            text += &format!("{mark} {first}\n");
                            for line in rest.take(BEHIND) {
                                text += &format!("{mark} {}\n", line?);
                            }
                        }
                    }
                }
                return Ok((text, false));
            }
        }
    }
    unreachable!("traces end")
}

fn trace_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("trace.jsonl") } else { path.to_owned() }
}

fn lines(path: &Path) -> Result<std::io::Lines<BufReader<File>>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(BufReader::new(file).lines())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(one: &str, other: &str) -> (String, bool) {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = ["one", "other"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], one).expect("written");
        std::fs::write(&paths[1], other).expect("written");
        diff(&paths[0], &paths[1]).expect("both can be read")
    }

    #[test]
    fn equal_traces_are_equal() {
        assert_eq!(compared("a\nb\n", "a\nb\n"), ("equal: 2 lines\n".to_owned(), true));
    }

    #[test]
    fn the_first_line_that_differs_is_shown_with_its_surroundings() {
        let (text, are_equal) = compared("a\nb\nc\n", "a\nx\n");
        assert!(!are_equal);
        assert_eq!(text, "They part at line 2.\n  a\n- b\n- c\n+ x\n");
    }

    #[test]
    fn a_trace_that_ends_early_parts_there() {
        assert_eq!(compared("a\n", "a\nb\n").0, "They part at line 2.\n  a\n- (ends here)\n+ b\n");
    }
}
