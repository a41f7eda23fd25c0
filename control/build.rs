//! Builds the kernel program, which the binary carries in it. `FERNPASS_XDP_OBJECT` names an
//! object to take instead.

use std::process::ExitCode;

use bpf_build::{Object, script};

fn main() -> ExitCode {
    let inputs = ["dataplane/src", "dataplane/Cargo.toml", "dataplane-ebpf", "Cargo.toml"];
    script(Object::Gateway, "FERNPASS_XDP_OBJECT", &inputs)
}
