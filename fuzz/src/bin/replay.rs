//! Replays the corpora, and then so many inputs made from them by a seeded mutation, with any compiler.
//!
//! `replay [TARGET] [runs=N] [seed=N]`, or `replay TARGET FILE` for one input. A panic names the input and how to run
//! it again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reknit_fuzz::{TARGETS, Target};

/// Longest input that a mutation makes.
const INPUT_BYTES_MAX: usize = 4096;

fn main() -> Result<()> {
    let (mut wanted, mut runs, mut seed) = (Vec::new(), 0, 1);
    let mut file = None;
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("runs", number)) => runs = number.parse()?,
            Some(("seed", number)) => seed = number.parse()?,
            _ if TARGETS.iter().any(|(name, _)| *name == argument) => wanted.push(argument),
            _ if Path::new(&argument).is_file() => file = Some(PathBuf::from(argument)),
            _ => bail!("{argument} is no target, no file, and neither runs=N nor seed=N"),
        }
    }
    for target in TARGETS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|one| one == name))
    {
        match &file {
            Some(file) => one(target, &std::fs::read(file)?)?,
            None => all(target, runs, seed)?,
        }
    }
    Ok(())
}

fn all(target: &Target, runs: u64, seed: u64) -> Result<()> {
    let corpus = corpus(target.0)?;
    let began = Instant::now();
    for input in &corpus {
        one(target, input)?;
    }
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..runs {
        one(target, &mutated(&corpus, &mut dice))?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = (corpus.len() as f64 + runs as f64) / seconds.max(1e-9);
    println!(
        "{:<10} {:>5} from the corpus, {runs} mutated, {rate:.0}/s: nothing found",
        target.0,
        corpus.len()
    );
    Ok(())
}

fn one(target: &Target, input: &[u8]) -> Result<()> {
    if catch_unwind(AssertUnwindSafe(|| (target.1)(input))).is_ok() {
        return Ok(());
    }
    let path = std::env::temp_dir().join(format!("reknit-fuzz-{}", target.0));
    std::fs::write(&path, input)?;
    bail!(
        "target {} broke on {} bytes\nagain: cargo run --manifest-path fuzz/Cargo.toml --bin replay -- {} {}",
        target.0,
        input.len(),
        target.0,
        path.display()
    );
}

fn corpus(name: &str) -> Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.sort();
    paths.iter().map(|path| Ok(std::fs::read(path)?)).collect()
}

/// One of the corpus with a few changes, or bytes out of nothing.
fn mutated(corpus: &[Vec<u8>], dice: &mut ChaCha8Rng) -> Vec<u8> {
    let mut input = if corpus.is_empty() || dice.random_range(0..8) == 0 {
        let mut bytes = vec![0; dice.random_range(0..512)];
        dice.fill_bytes(&mut bytes);
        bytes
    } else {
        corpus[dice.random_range(0..corpus.len())].clone()
    };
    for _ in 0..dice.random_range(1..6) {
        let at = dice.random_range(0..=input.len());
        match dice.random_range(0..5) {
            0 if at < input.len() => input[at] ^= 1 << dice.random_range(0..8),
            1 if at < input.len() => input[at] = dice.random(),
            2 => input.truncate(at),
            3 => {
                let end = dice.random_range(at..=input.len());
                let piece = input[at..end].to_vec();
                let to = dice.random_range(0..=input.len());
                input.splice(to..to, piece);
            }
            _ => input.insert(at, dice.random()),
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}
