#!/bin/bash
# Builds the fuzz targets with the stable toolchain and runs each for a while; fails where one finds anything.
#
#   tests/fuzz/smoke.sh [SECONDS]     # 20 by default, for each target
#
# What cargo-fuzz would pass, but for the address sanitizer: these layers have no unsafe code.
set -euo pipefail

cd "$(dirname "$0")"
seconds=${1:-20}
targets=(advert arp ndisc seal)
host=$(rustc -vV | sed -n 's/^host: //p')

export RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
# With a target of its own the flags reach no build script.
cargo build --release --locked --target "$host" --target-dir target/smoke

for target in "${targets[@]}"; do
    mkdir -p "corpus/$target" artifacts
    # Coverage that does not grow means that the targets were built without instrumentation.
    "target/smoke/$host/release/$target" -max_total_time="$seconds" -max_len=1500 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target-" "corpus/$target" >"artifacts/$target.log" 2>&1 ||
        { tail -n 60 "artifacts/$target.log"; exit 1; }
    if grep -q "no interesting inputs" "artifacts/$target.log"; then
        echo "$target: no coverage is seen" >&2
        exit 1
    fi
    echo "$target: $(grep -E 'DONE' "artifacts/$target.log")"
done
