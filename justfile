# What people do here most. `just` alone lists it.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments

# `just seed=7 sim` and `SEED=7 just sim` set it; `just sim seed=7` passes the word on to the simulator.
seed := env("SEED", "")

_list:
    @just --list --unsorted

# Format, lints and all tests: what a change must pass.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test --workspace

# A cluster of three on this machine, from examples/: ports 8081 to 8083. Ctrl-C stops it.
run:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo build --release --bin node
    # Each node in a process group of its own: Ctrl-C reaches it once, through the trap, and it stops in peace.
    set -m
    trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
    trap 'exit 0' INT TERM
    for number in 1 2 3; do
        target/release/node "examples/node$number.yaml" &
    done
    echo "try: curl -X PUT localhost:8081/kv/color -d '\"red\"' && sleep 1 && curl localhost:8083/kv/color"
    wait -n

# One simulated life: just sim seed=7 | just sim 7 | just sim seed=7 scenario=rejoin_stale | just sim help
[no-exit-message]
sim *args:
    @cargo run --quiet --release -p reknit-sim --bin sim -- {{ if seed == "" { "" } else { "seed=" + quote(seed) } }} "$@"

# Many lives in the fast world: just sweep | just sweep 0..5000 | just sweep 0..100 scenario=smoke
[no-exit-message]
sweep seeds="0..1000" *args:
    @shift; cargo run --quiet --release -p reknit-sim --bin sim -- seeds={{ quote(trim_start_match(seeds, "seeds=")) }} "$@"

# Reknit side by side with others, some ten minutes: just bench | just bench quick | just bench speed | just bench counts
bench *args:
    @cargo build --quiet --release -p reknit-bench -p reknit -p reknit-sim --bins
    @target/release/bench "$@"

# Hunts every known bug and keeps the table as docs/mutants.md; fails if one survives: just mutants | just mutants tie-keeps
[no-exit-message]
mutants *ids:
    @cargo run --quiet --release -p reknit-sim --features mutants --bin sim -- mutants "$@" \
        | {{ if ids == "" { "tee docs/mutants.md" } else { "cat" } }}

# Lives with one known bug inside: just mutant tie-keeps seed=0 world=fast shrink
[no-exit-message]
mutant id *args:
    @shift; cargo run --quiet --release -p reknit-sim --features mutants --bin sim -- mutant={{ quote(id) }} "$@"

# Every fault that lives suffer, and how it is drawn.
faults:
    @cargo run --quiet --release -p reknit-sim --bin sim -- faults

# Where two runs part: just diff target/sim/life-fast-7 target/twice/life-fast-7
[no-exit-message]
diff one other:
    @cargo run --quiet --release -p reknit-sim --bin sim -- diff {{ quote(one) }} {{ quote(other) }}

# Lets the fuzzer at one target, with the nightly compiler: just fuzz wire | just fuzz store 30
# cargo-fuzz sets RUSTFLAGS, which replace .cargo/config.toml's; it keeps what it finds there. New inputs go to fuzz/found.
fuzz target minutes="1":
    mkdir -p "fuzz/found/$1"
    RUSTFLAGS="--cfg madsim" cargo +nightly fuzz run --sanitizer none --features libfuzzer "$1" "fuzz/found/$1" "fuzz/corpus/$1" -- -max_total_time=$(( $2 * 60 )) -max_len=4096 -timeout=20 -rss_limit_mb=2048

# All targets, one after the other, for the night: just fuzz-all | just fuzz-all 60
fuzz-all minutes="30":
    #!/usr/bin/env bash
    set -euo pipefail
    for target in fuzz/fuzz_targets/*.rs; do
        just fuzz "$(basename "$target" .rs)" "$1"
    done

# Replays the fuzzer's corpora and as many inputs made from them, with any compiler: just replay | just replay sync runs=10000
replay *args:
    @CARGO_TARGET_DIR=target cargo run --quiet --release --manifest-path fuzz/Cargo.toml --bin replay -- "$@"
