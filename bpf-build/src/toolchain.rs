//! Which compiler and which linker.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A compiler with its library's source, and bpf-linker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// The cargo to run.
    pub cargo: PathBuf,
    /// The rustc that it is to use.
    pub rustc: PathBuf,
    /// bpf-linker.
    pub linker: PathBuf,
    /// Where it comes from, for people.
    pub origin: &'static str,
    /// It is a stable compiler, and must be told to allow what only nightly does.
    pub(crate) bootstrap: bool,
}

/// No toolchain was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What is not there.
    pub what: Vec<&'static str>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the kernel program cannot be built: {} missing.", self.what.join(" and "))?;
        writeln!(
            f,
            "`cargo xtask setup` installs what is missing, as root on Debian 12. By hand:"
        )?;
        for command in crate::INSTALL {
            writeln!(f, "  {command}")?;
        }
        f.write_str(
            "Or, instead of the first: rustup toolchain install nightly --component rust-src",
        )
    }
}

impl std::error::Error for Missing {}

impl Toolchain {
    /// The toolchain of this machine.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn find() -> Result<Self, Missing> {
        let compiler = debian().or_else(nightly);
        let linker = linker();
        match (compiler, linker) {
            (Some(compiler), Some(linker)) => Ok(Self { linker, ..compiler }),
            (compiler, linker) => {
                let mut what = Vec::new();
                if compiler.is_none() {
                    what.push("a compiler for BPF");
                }
                if linker.is_none() {
                    what.push("bpf-linker");
                }
                Err(Missing { what })
            }
        }
    }
}

/// Debian's packages rustc-web, cargo-web and rust-web-src.
fn debian() -> Option<Toolchain> {
    let (cargo, rustc) = (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc"));
    (cargo.exists() && has_source(Command::new(&rustc))).then(|| Toolchain {
        cargo,
        rustc,
        linker: PathBuf::new(),
        origin: "Debian packages",
        bootstrap: true,
    })
}

/// rustup's nightly with rust-src.
fn nightly() -> Option<Toolchain> {
    let which = |tool: &str| {
        let output =
            Command::new("rustup").args(["which", "--toolchain", "nightly", tool]).output().ok()?;
        let path = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| PathBuf::from(path.trim()))
    };
    let (cargo, rustc) = (which("cargo")?, which("rustc")?);
    has_source(Command::new(&rustc)).then(|| Toolchain {
        cargo,
        rustc,
        linker: PathBuf::new(),
        origin: "rustup nightly",
        bootstrap: false,
    })
}

/// Whether a compiler has its library's source, which is built for BPF each time.
fn has_source(mut rustc: Command) -> bool {
    let Ok(output) = rustc.args(["--print", "sysroot"]).output() else { return false };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    output.status.success()
        && Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml").exists()
}

fn linker() -> Option<PathBuf> {
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(cargo_home.map(|home| home.join("bin")));
    dirs.map(|dir| dir.join("bpf-linker")).find(|file| file.exists())
}
