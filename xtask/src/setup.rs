//! What must be installed, and installing it.

use std::fs;
use std::process::Command;

use anyhow::bail;

use crate::process::{output, run};

/// What something is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// Building the kernel program and the rest.
    Building,
    /// The lab: real peers, and tools to lay out networks.
    Lab,
    /// Checks too.
    Everything,
}

/// Debian 12's packages.
const PACKAGES: &[(Need, &[&str])] = &[
    (
        Need::Building,
        &[
            "build-essential",
            "rustc-web",
            "cargo-web",
            "rust-web-src",
            "llvm-22-dev",
            "libclang-22-dev",
            "libpolly-22-dev",
            "zlib1g-dev",
            "libzstd-dev",
        ],
    ),
    (
        Need::Lab,
        &["iproute2", "ethtool", "iputils-ping", "wireguard-go", "wireguard-tools", "tcpdump"],
    ),
    (Need::Everything, &["rust-web-clippy"]),
];

/// A program from crates.io.
struct Crate {
    need: Need,
    program: &'static str,
    arguments: &'static [&'static str],
    /// What must come first on PATH while it is built.
    path: &'static str,
}

const CRATES: &[Crate] = &[
    Crate {
        need: Need::Building,
        program: "bpf-linker",
        arguments: &["bpf-linker@^0.13", "--no-default-features", "--features", "llvm-22"],
        path: "/usr/lib/llvm-22/bin",
    },
    Crate {
        need: Need::Lab,
        program: "boringtun-cli",
        arguments: &["boringtun-cli@^0.7"],
        path: "",
    },
    Crate {
        need: Need::Everything,
        program: "cargo-deny",
        arguments: &["cargo-deny@^0.20", "--locked"],
        path: "",
    },
];

/// Installs what is missing; quick if nothing is.
pub(crate) fn setup(need: Need) -> anyhow::Result<()> {
    let has_compiler = bpf_build::Toolchain::find().is_ok_and(|t| t.origin != "Debian packages");
    let packages: Vec<&str> = PACKAGES
        .iter()
        .filter(|(group, _)| *group <= need)
        // Another compiler for the kernel program will do as well.
        .filter(|(group, _)| *group != Need::Building || !has_compiler)
        .flat_map(|(_, names)| names.iter().copied())
        .filter(|name| !is_installed(name))
        .collect();
    let crates: Vec<&Crate> =
        CRATES.iter().filter(|c| c.need <= need && !is_program(c.program)).collect();
    if packages.is_empty() && crates.is_empty() {
        return Ok(());
    }
    if let Some(reason) = why_not() {
        let mut commands = Vec::new();
        if !packages.is_empty() {
            commands.push(format!(
                "  apt-get install -y --no-install-recommends {}",
                packages.join(" ")
            ));
        }
        commands.extend(crates.iter().map(|c| format!("  {}", c.command_line())));
        bail!(
            "something is missing, and cannot be installed from here ({reason}).\nRun, as root on Debian 12:\n{}",
            commands.join("\n")
        );
    }
    if !packages.is_empty() {
        eprintln!("installing {}", packages.join(" "));
        let apt = |arguments: &[&str]| {
            run(Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(["-q", "-y", "-o", "DPkg::Lock::Timeout=300"])
                .args(arguments)
                .stdout(std::io::stderr()))
        };
        apt(&["update"])?;
        let mut arguments = vec!["install", "--no-install-recommends"];
        arguments.extend(&packages);
        apt(&arguments)?;
    }
    for c in crates {
        eprintln!("installing {}: a minute or two", c.program);
        c.install()?;
    }
    Ok(())
}

impl Crate {
    fn command_line(&self) -> String {
        let path =
            if self.path.is_empty() { String::new() } else { format!("PATH={}:$PATH ", self.path) };
        format!("{path}cargo install {}", self.arguments.join(" "))
    }

    fn install(&self) -> anyhow::Result<()> {
        let mut command = Command::new("cargo");
        command.args(["install", "--quiet"]).args(self.arguments);
        // It is no part of this workspace, and must not get its settings.
        command.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS").current_dir("/");
        if !self.path.is_empty() {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", self.path));
        }
        run(&mut command)
    }
}

/// Why nothing can be installed from here, if so.
fn why_not() -> Option<&'static str> {
    let debian = fs::read_to_string("/etc/os-release")
        .is_ok_and(|text| text.lines().any(|line| line == "ID=debian"));
    if !debian {
        return Some("this is not Debian");
    }
    let root = output("id", &["-u"]).is_some_and(|id| id.trim() == "0");
    (!root).then_some("you are not root")
}

fn is_installed(package: &str) -> bool {
    output("dpkg-query", &["-W", "-f=${db:Status-Status}", package])
        .is_some_and(|status| status.trim() == "installed")
}

fn is_program(name: &str) -> bool {
    let home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from).or_else(|| {
        std::env::var_os("HOME").map(|home| std::path::Path::new(&home).join(".cargo"))
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(home.map(|home| home.join("bin")))
        .any(|dir| dir.join(name).is_file())
}
