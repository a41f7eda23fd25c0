//! Format, lints, licences.

use crate::process::{cargo, run, target, workspace};

/// All of them, the quick ones first.
pub(crate) fn check() -> anyhow::Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--quiet", "--locked", "--all-targets", "--", "-Dwarnings"])?;
    eprintln!("the kernel program's crate, for its own target");
    bpf_build::clippy(&workspace(), &target().join("bpf"))?;
    // The database of advisories is not a registry: it is looked at elsewhere.
    run(std::process::Command::new("cargo-deny").current_dir(workspace()).args([
        "--offline",
        "--log-level",
        "warn",
        "check",
        "licenses",
        "bans",
        "sources",
    ]))
}
