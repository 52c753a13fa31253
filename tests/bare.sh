#!/bin/bash
# Proves that `types`, `wire` and `engine` need no standard library.
#
# A library of type staticlib brings a panic handler and an allocator of its own, and links the pure layers. Had any of
# their dependencies pulled in std, there would be two panic handlers, which the compiler refuses. Where the toolchain
# has, or can get, a target without any std, they are built for that too.
set -euo pipefail

cd "$(dirname "$0")/.."
repo=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir "$work/src"
cp Cargo.lock "$work/Cargo.lock"
cat >"$work/Cargo.toml" <<TOML
[package]
name = "bare"
version = "0.0.0"
edition = "2024"

[lib]
crate-type = ["staticlib"]

[dependencies]
vipd = { path = "$repo", default-features = false }

[profile.dev]
panic = "abort"

[workspace]
TOML
cat >"$work/src/lib.rs" <<'RUST'
#![no_std]
use core::alloc::{GlobalAlloc, Layout};
use vipd::{engine::Engine, engine::Input, engine::Instant};

struct Nothing;
unsafe impl GlobalAlloc for Nothing {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
#[global_allocator]
static NOTHING: Nothing = Nothing;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// So that the engine is linked, not only named.
pub fn turn(engine: &mut Engine) {
    engine.handle(Instant::ZERO, Input::Deadline);
    while engine.poll_output().is_some() {}
}
RUST

# The copied lock file loses the packages that are not needed here, so it cannot be --locked; no version changes.
CARGO_TARGET_DIR="$work/target" cargo build --quiet --manifest-path "$work/Cargo.toml"
echo "bare: links without std"

target=x86_64-unknown-none
if [[ -d "$(rustc --print sysroot)/lib/rustlib/$target" ]] || rustup --quiet target add "$target" 2>"$work/rustup"; then
    cargo build --quiet --lib --no-default-features --locked --target "$target"
    echo "bare: builds for $target"
else
    echo "bare: $target is not to be had here; the first proof stands alone"
fi
