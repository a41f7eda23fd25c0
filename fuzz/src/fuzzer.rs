//! libFuzzer on one target: the one that `FERNPASS_FUZZ_TARGET` names. One program for all of them is built once.
#![no_main]

use std::sync::LazyLock;

use fuzz::Target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FERNPASS_FUZZ_TARGET").unwrap_or_default();
    Target::of(&name).expect("FERNPASS_FUZZ_TARGET names a target: `cargo xtask fuzz` sets it")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
