//! Format, lints, documentation, licences.

use crate::process::{cargo, cargo_command, run, target, workspace};

/// The session table's model, which needs the dataplane built in another way.
pub(crate) const MODEL: [&str; 7] =
    ["--locked", "-p", "fernpass-dataplane", "--features", "shuttle", "--test", "model"];

/// All of them, the quick ones first.
pub(crate) fn check() -> anyhow::Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    // With those of the lab's tests that only a virtual machine runs.
    let all = ["--all-targets", "--features", "fernpass-lab/machine"];
    cargo(&[&["clippy", "--quiet", "--locked"], &all[..], &["--", "-Dwarnings"]].concat())?;
    cargo(&[&["clippy", "--quiet"], &MODEL[..], &["--", "-Dwarnings"]].concat())?;
    eprintln!("the kernel program's crate, for its own target");
    bpf_build::clippy(&workspace(), &target().join("bpf"))?;
    // For those who read the code, as that of private items is: its links lead somewhere.
    run(cargo_command()
        .args(["doc", "--quiet", "--locked", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-Dwarnings -Arustdoc::private_intra_doc_links"))?;
    // Of all targets, which nothing before this wants. And the database of advisories is not a registry: it is looked at elsewhere.
    cargo(&["fetch", "--quiet", "--locked"])?;
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
