//! What must be installed, and installing it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::process::{output, run};
use crate::{services, suitable};

/// What something is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Building the kernel program and the rest.
    Building,
    /// The lab's tools to lay out networks, and its peers.
    Lab,
    /// Those of the lab's peers that are no Debian package.
    Peers,
    /// Lints and licences.
    Checks,
    /// A virtual machine.
    Machine,
    /// What the benches lay out networks with, and their peers.
    Bench,
    /// Making a Debian package.
    Package,
    /// Testing it.
    PackageTest,
    /// Building a fuzzer.
    Fuzz,
}

impl Need {
    /// For `cargo xtask build`.
    pub(crate) const BUILD: &[Self] = &[Self::Building];
    /// For labs on this machine: demo and tests.
    pub(crate) const LAB: &[Self] = &[Self::Building, Self::Lab, Self::Peers];
    /// For everything but virtual machines.
    pub(crate) const USUAL: &[Self] = &[Self::Building, Self::Lab, Self::Peers, Self::Checks];
    /// For the benches.
    pub(crate) const BENCH: &[Self] = &[Self::Building, Self::Bench];
    /// For `cargo xtask fuzz`.
    pub(crate) const FUZZ: &[Self] = &[Self::Building, Self::Fuzz];
    /// For `cargo xtask deb`.
    pub(crate) const PACKAGE: &[Self] = &[Self::Building, Self::Package];
    /// For `cargo xtask deb --test`.
    pub(crate) const PACKAGE_TEST: &[Self] = &[Self::Building, Self::Package, Self::PackageTest];
    /// For `cargo xtask deb --test --vm`.
    pub(crate) const SERVICE_TEST: &[Self] = &[Self::Building, Self::Package, Self::Machine];
    /// For labs in a virtual machine.
    pub(crate) const MACHINE: &[Self] = &[Self::Building, Self::Peers, Self::Machine];
    /// For one in which there is no lab.
    pub(crate) const MACHINE_ALONE: &[Self] = &[Self::Building, Self::Machine];
}

/// Debian 12's packages; where it is a program that counts, that.
const PACKAGES: &[(Need, &[(&str, &str)])] = &[
    (
        Need::Building,
        &[
            ("build-essential", ""),
            ("rustc-web", ""),
            ("cargo-web", ""),
            ("rust-web-src", ""),
            ("llvm-22-dev", ""),
            ("libclang-22-dev", ""),
            ("libpolly-22-dev", ""),
            ("zlib1g-dev", ""),
            ("libzstd-dev", ""),
        ],
    ),
    (
        Need::Lab,
        &[
            ("iproute2", "ip"),
            ("ethtool", "ethtool"),
            ("iputils-ping", "ping"),
            ("wireguard-go", "wireguard-go"),
            ("wireguard-tools", "wg"),
            ("tcpdump", "tcpdump"),
            ("openvpn", "openvpn"),
            ("strongswan-charon", ""),
            ("strongswan-swanctl", "swanctl"),
            ("libcharon-extra-plugins", ""),
            ("ocserv", "ocserv"),
            ("openconnect", "openconnect"),
        ],
    ),
    (Need::Bench, &[("iproute2", "ip"), ("ethtool", "ethtool"), ("nftables", "nft")]),
    (Need::Checks, &[("rust-web-clippy", "")]),
    // libFuzzer is built from the source in its crate.
    (Need::Fuzz, &[("g++", "g++")]),
    (Need::Package, &[("dpkg-dev", "dpkg-shlibdeps")]),
    (Need::PackageTest, &[("mmdebstrap", "mmdebstrap"), ("lintian", "lintian")]),
    (
        Need::Machine,
        &[
            ("qemu-system-x86", "qemu-system-x86_64"),
            ("mmdebstrap", "mmdebstrap"),
            ("uidmap", "newuidmap"),
            ("libarchive-tools", "bsdtar"),
        ],
    ),
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
        need: Need::Peers,
        program: "boringtun-cli",
        arguments: &["boringtun-cli@^0.7"],
        path: "",
    },
    Crate {
        need: Need::Checks,
        program: "cargo-deny",
        arguments: &["cargo-deny@^0.20", "--locked"],
        path: "",
    },
    Crate {
        need: Need::Package,
        program: "cargo-deb",
        arguments: &["cargo-deb@^3.8", "--locked"],
        path: "",
    },
];

/// Installs what is missing; quick if nothing is.
pub(crate) fn setup(needs: &[Need]) -> anyhow::Result<()> {
    let has_compiler = bpf_build::Toolchain::find().is_ok_and(|t| t.origin != "Debian packages");
    let packages: Vec<&str> = PACKAGES
        .iter()
        .filter(|(group, _)| needs.contains(group))
        // Another compiler for the kernel program will do as well.
        .filter(|(group, _)| *group != Need::Building || !has_compiler)
        .flat_map(|(_, names)| names.iter().copied())
        .filter(|(package, name)| !is_installed(package) && program(name).is_none())
        .map(|(package, _)| package)
        .collect();
    let crates: Vec<&Crate> =
        CRATES.iter().filter(|c| needs.contains(&c.need) && program(c.program).is_none()).collect();
    if packages.is_empty() && crates.is_empty() {
        return Ok(());
    }
    if !packages.is_empty() {
        if let Some(reason) = why_not() {
            bail!(
                "packages are missing, and cannot be installed from here ({reason}).\n\
                 Run, as root on Debian 12:\n  apt-get install -y --no-install-recommends {}",
                packages.join(" ")
            );
        }
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
        let refused = services::Refused::set()?;
        apt(&arguments)?;
        drop(refused);
        services::disable(&packages);
    }
    for c in crates {
        eprintln!("installing {}: a minute or two", c.program);
        c.install()?;
    }
    Ok(())
}

impl Crate {
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
    (!suitable::is_root()).then_some("you are not root")
}

fn is_installed(package: &str) -> bool {
    output("dpkg-query", &["-W", "-f=${db:Status-Status}", package])
        .is_some_and(|status| status.trim() == "installed")
}

/// A program on the PATH, or where `cargo install` and Debian put it.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path)
        .chain(home.map(|home| home.join("bin")))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name));
    if name.is_empty() { None } else { candidates.find(|path| path.is_file()) }
}
