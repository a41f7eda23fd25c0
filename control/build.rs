//! Builds the kernel programs, which the binary carries in it. `FERNPASS_XDP_OBJECT` and `FERNPASS_AGENT_OBJECT` name
//! objects to take instead.

use std::process::ExitCode;

use bpf_build::{Object, script};

fn main() -> ExitCode {
    let inputs =
        ["dataplane/src", "dataplane/Cargo.toml", "dataplane-ebpf", "agent-ebpf", "Cargo.toml"];
    let gateway = script(Object::Gateway, "FERNPASS_XDP_OBJECT", &inputs);
    if gateway != ExitCode::SUCCESS {
        return gateway;
    }
    script(Object::Agent, "FERNPASS_AGENT_OBJECT", &inputs)
}
