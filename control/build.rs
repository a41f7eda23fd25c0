//! Builds the kernel program, which the binary carries in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Names an object to take instead of building it.
const VARIABLE: &str = "FERNPASS_XDP_OBJECT";

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let object = match env::var_os(VARIABLE) {
        Some(object) => Ok(PathBuf::from(object)),
        None => build(),
    };
    match object {
        Ok(object) => {
            println!("cargo::rerun-if-changed={}", object.display());
            println!("cargo::rustc-env={VARIABLE}={}", object.display());
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<PathBuf, bpf_build::BuildError> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for path in ["dataplane/src", "dataplane/Cargo.toml", "dataplane-ebpf", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    // OUT_DIR is TARGET/PROFILE/build/PACKAGE/out; one directory serves all profiles.
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let target = out.ancestors().nth(4).unwrap_or(&out).join("bpf");
    bpf_build::build(&workspace, &target)
}
