//! Has the linker put a release's code into the order of `link/text.ld`.

use std::env;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(ordered_code)");
    println!("cargo::rerun-if-changed=link/text.ld");
    let is = |name: &str, wanted: &str| env::var(name).is_ok_and(|value| value == wanted);
    // Elsewhere the linkers are others; and a test needs no order.
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") {
        let here = env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
        println!("cargo::rustc-link-arg=-Wl,-T,{here}/link/text.ld");
        println!("cargo::rustc-cfg=ordered_code");
    }
}
