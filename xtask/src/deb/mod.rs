//! The Debian package. What is in it says `[package.metadata.deb]` in `control/Cargo.toml`, what it does where it is
//! installed `packaging/debian`.

mod checks;
mod root;
mod service;
mod test;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::process::{cargo, run, target, workspace};
use crate::setup;
use crate::vm::Kernel;

/// Shells that get completions: as `fernpass completions` calls them.
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// Builds the package; where it is.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    cargo(&["build", "--locked", "--release", "--bin", "fernpass"])?;
    // Below cargo's directory for the profile, which cargo-deb finds wherever it is.
    let release = target().join("release");
    generate(&release.join("fernpass"), &release.join("deb-assets"))?;
    let cargo_deb = setup::program("cargo-deb").context("cargo-deb is not installed")?;
    // Cargo knows it as a subcommand, and so it is called by its first argument.
    let output = Command::new(cargo_deb)
        .args(["deb", "--quiet", "--locked", "--no-build", "--strip", "-p", "fernpass"])
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo-deb")?;
    if !output.status.success() {
        bail!("cargo-deb failed ({})", output.status);
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let package = printed.lines().last().map(PathBuf::from).filter(|path| path.is_file());
    package.with_context(|| format!("cargo-deb named no package, but said: {printed}"))
}

/// Installs it in a root of its own, upgrades, removes and purges it there.
pub(crate) fn test(package: &Path) -> anyhow::Result<()> {
    test::all(package)
}

/// Lets a systemd run it, in a virtual machine with one of Debian's kernels.
pub(crate) fn test_service(package: &Path, kernel: Kernel) -> anyhow::Result<()> {
    service::all(package, kernel)
}

/// Lets the program write its manual pages and completions.
fn generate(program: &Path, directory: &Path) -> anyhow::Result<()> {
    // Nothing that an earlier one wrote is to be packaged.
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    let pages = directory.join("man");
    run(Command::new(program).arg("man").arg(&pages))?;
    let mut pack = Command::new("gzip");
    pack.args(["-9", "--no-name"]);
    for page in fs::read_dir(&pages)? {
        pack.arg(page?.path());
    }
    run(&mut pack)?;
    for shell in SHELLS {
        let path = directory.join(format!("fernpass.{shell}"));
        let file =
            File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        run(Command::new(program).args(["completions", shell]).stdout(file))?;
    }
    Ok(())
}
