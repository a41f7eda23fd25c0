//! What the virtual machine starts with.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::kernel::Kernel;
use crate::process::run;

const SUITE: &str = "bookworm";
/// What is in it besides what is tested; the rest are their dependencies.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "ethtool",
    "iproute2",
    "iputils-ping",
    "kmod",
    "libcharon-extra-plugins",
    "libgcc-s1",
    "libzstd1",
    "ocserv",
    "openconnect",
    "openvpn",
    "strongswan-charon",
    "strongswan-swanctl",
    "tcpdump",
    "util-linux",
    "wireguard-go",
    "wireguard-tools",
];
/// What nothing in it reads.
const EXCLUDED: &[&str] = &["./usr/share/doc/*", "./usr/share/locale/*", "./usr/share/man/*"];
const KERNEL: &str = "linux-image-cloud-amd64";
/// Where kernels and their modules are, in Debian 12's packages and in later ones.
const KERNELS: &[&str] = &["./boot/vmlinuz-*", "./usr/lib/modules/*/vmlinuz"];
const MODULES: &[&str] = &["./lib/modules/*", "./usr/lib/modules/*"];
/// What of them no lab needs.
const NO_MODULES: &[&str] = &[
    "*/vmlinuz",
    "*/kernel/drivers/gpu/*",
    "*/kernel/drivers/infiniband/*",
    "*/kernel/drivers/net/ethernet/*",
    "*/kernel/drivers/scsi/*",
    "*/kernel/fs/*",
    "*/kernel/sound/*",
];

/// Debian's part.
pub(super) struct Base {
    /// The kernel.
    pub(super) kernel: PathBuf,
    /// Compressed cpio archives: programs, and the kernel's modules.
    archives: [PathBuf; 2],
}

/// Makes Debian's part of a machine for the lab, unless it is there: some 100 MB come from a mirror.
pub(super) fn base(directory: &Path, kernel: Kernel) -> anyhow::Result<Base> {
    programs(directory, "base", "extract", PACKAGES, kernel)
}

/// The same for one that systemd runs: packages are installed in it.
pub(super) fn system(directory: &Path, kernel: Kernel, packages: &[&str]) -> anyhow::Result<Base> {
    programs(directory, "system", "minbase", packages, kernel)
}

fn programs(
    directory: &Path,
    name: &str,
    variant: &str,
    packages: &[&str],
    kernel: Kernel,
) -> anyhow::Result<Base> {
    let name = directory.join(name);
    let archive = name.with_added_extension("cpio.gz");
    made_of(&name, &format!("{SUITE} {variant} {packages:?} {EXCLUDED:?}"), |root| {
        eprintln!("making the virtual machine's image from Debian packages");
        fetch(variant, &packages.join(","), None, root)?;
        pack(root, &archive, &[], EXCLUDED)
    })?;
    let (kernel, modules) = modules(directory, kernel)?;
    Ok(Base { kernel, archives: [archive, modules] })
}

/// The kernel and an archive with its modules.
fn modules(directory: &Path, kernel: Kernel) -> anyhow::Result<(PathBuf, PathBuf)> {
    let name = directory.join(format!("kernel-{}", kernel.name()));
    let image = name.with_added_extension("vmlinuz");
    let archive = name.with_added_extension("cpio.gz");
    made_of(&name, &format!("{SUITE} {:?} {NO_MODULES:?}", kernel.suite()), |root| {
        eprintln!("fetching the kernel {}", kernel.name());
        match kernel.suite() {
            None => fetch("extract", KERNEL, None, root)?,
            Some(suite) => fetch("extract", &format!("{KERNEL}/{suite}"), Some(suite), root)?,
        }
        let mut one = Command::new("bsdtar");
        one.arg("-xOf").arg(root).args(matching(root, KERNELS)?);
        run(one.stdout(create(&image)?))?;
        pack(root, &archive, MODULES, NO_MODULES)
    })?;
    Ok((image, archive))
}

/// Makes what begins with `name`, unless it was made of the same; `make` is given a place for a root.
fn made_of(
    name: &Path,
    wanted: &str,
    make: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let note = name.with_added_extension("packages");
    if fs::read_to_string(&note).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    let root = name.with_added_extension("tar");
    make(&root)?;
    fs::remove_file(&root)?;
    fs::write(&note, wanted)?;
    Ok(())
}

/// Makes a root of packages and of what they depend on.
fn fetch(variant: &str, packages: &str, suite: Option<&str>, root: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--format=tar"]).arg(format!("--variant={variant}"));
    if let Some(suite) = suite {
        let line = format!("deb http://deb.debian.org/debian {suite} main");
        let file = "etc/apt/sources.list.d/kernel.list";
        command.arg(format!("--setup-hook=echo '{line}' > \"$1\"/{file}"));
    }
    command.arg(format!("--include={packages}")).arg(SUITE).arg(root);
    run(command.stdout(io::stderr()))
}

/// Makes an archive for the kernel of what is in a root: of all, or of `only`.
fn pack(root: &Path, into: &Path, only: &[&str], not: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("bsdtar");
    command.args(["-c", "--format=newc", "--gzip", "--options=gzip:compression-level=1"]);
    command.args(only.iter().map(|pattern| format!("--include={pattern}")));
    command.args(not.iter().map(|pattern| format!("--exclude={pattern}")));
    run(command.arg("-f").arg(into).arg(format!("@{}", root.display())))
}

/// Those of some patterns that an archive has something for: `bsdtar` fails at others.
fn matching<'a>(root: &Path, patterns: &[&'a str]) -> anyhow::Result<Vec<&'a str>> {
    let mut found = Vec::new();
    for &pattern in patterns {
        let mut list = Command::new("bsdtar");
        let output = list.arg("-tf").arg(root).arg(pattern).output();
        if output.context("cannot run `bsdtar`")?.status.success() {
            found.push(pattern);
        }
    }
    if found.is_empty() {
        bail!("{} has none of {patterns:?}", root.display());
    }
    Ok(found)
}

/// What is laid over it: our own programs and what they are linked with.
pub(super) struct Overlay {
    root: PathBuf,
}

impl Overlay {
    /// An empty one.
    pub(super) fn new(root: &Path) -> anyhow::Result<Self> {
        match fs::remove_dir_all(root) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot empty {}", root.display()));
            }
            _ => {}
        }
        fs::create_dir_all(root.join("opt"))?;
        Ok(Self { root: root.to_owned() })
    }

    /// Puts a program into `/opt`, without its debug information, and the shared
    /// libraries of this machine where it looks for them.
    pub(super) fn program(&mut self, name: &str, from: &Path) -> anyhow::Result<()> {
        let to = self.root.join("opt").join(name);
        run(Command::new("strip").arg("-o").arg(&to).arg(from))?;
        let output = Command::new("ldd").arg(&to).output().context("cannot run `ldd`")?;
        let text = String::from_utf8_lossy(&output.stdout);
        for library in text.split_whitespace().filter(|word| word.starts_with('/')) {
            let to = self.place(Path::new(library))?;
            fs::copy(library, to).with_context(|| format!("cannot copy {library}"))?;
        }
        Ok(())
    }

    /// Puts a file somewhere.
    pub(super) fn file(&self, path: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.place(Path::new(path))?;
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Makes a symbolic link.
    pub(super) fn link(&self, path: &str, to: &str) -> anyhow::Result<()> {
        let path = self.place(Path::new(path))?;
        std::os::unix::fs::symlink(to, &path)
            .with_context(|| format!("cannot make {}", path.display()))
    }

    /// Where a path is here, in a directory that exists.
    fn place(&self, path: &Path) -> anyhow::Result<PathBuf> {
        let place = self.root.join(path.strip_prefix("/").unwrap_or(path));
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(place)
    }

    /// Puts a program of `/opt` where tests that were built here look for it, too.
    pub(super) fn also_at(&mut self, name: &str, path: &Path) -> anyhow::Result<()> {
        let link = self.place(path)?;
        std::os::unix::fs::symlink(Path::new("/opt").join(name), &link)
            .with_context(|| format!("cannot make {}", link.display()))
    }

    /// The image to start from: `base` with this and the first process's script on top. The
    /// kernel unpacks one archive after the other (Documentation/driver-api/early-userspace).
    pub(super) fn pack(self, init: &str, base: &Base) -> anyhow::Result<PathBuf> {
        let script = self.root.join("init");
        fs::write(&script, init)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let image = self.root.with_extension("cpio.gz");
        let mut into = create(&image)?;
        for archive in &base.archives {
            io::copy(&mut File::open(archive)?, &mut into)?;
        }
        let mut pack = Command::new("bsdtar")
            .args(["-c", "--format=newc", "--gzip", "--options=gzip:compression-level=1"])
            .args(["--uid=0", "--gid=0", "-f", "-", "-C"])
            .arg(&self.root)
            .arg(".")
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run `bsdtar`")?;
        if let Some(mut packed) = pack.stdout.take() {
            io::copy(&mut packed, &mut into)?;
        }
        if !pack.wait()?.success() {
            bail!("`bsdtar` could not pack {}", self.root.display());
        }
        Ok(image)
    }
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}
