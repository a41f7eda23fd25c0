//! Builds the benches' kernel programs. `FERNPASS_BENCH_OBJECT` names an object to take instead.

use std::process::ExitCode;

use bpf_build::{Object, script};

fn main() -> ExitCode {
    let inputs =
        ["dataplane/src", "dataplane/Cargo.toml", "dataplane-ebpf", "bench-ebpf", "Cargo.toml"];
    script(Object::Bench, "FERNPASS_BENCH_OBJECT", &inputs)
}
