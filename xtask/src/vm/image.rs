//! What the virtual machine starts with.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

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
    "linux-image-cloud-amd64",
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
/// What nothing in it reads. `./lib/modules` has what no lab needs, too.
const EXCLUDED: &[&str] = &[
    "./boot/*",
    "./usr/share/doc/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
    "./lib/modules/*/kernel/drivers/gpu/*",
    "./lib/modules/*/kernel/drivers/infiniband/*",
    "./lib/modules/*/kernel/drivers/net/ethernet/*",
    "./lib/modules/*/kernel/drivers/scsi/*",
    "./lib/modules/*/kernel/fs/*",
    "./lib/modules/*/kernel/sound/*",
];

/// Debian's part.
pub(super) struct Base {
    /// The kernel.
    pub(super) kernel: PathBuf,
    /// A compressed cpio archive.
    archive: PathBuf,
}

/// Makes Debian's part, unless it is there: some 80 MB come from a mirror.
pub(super) fn base(directory: &Path) -> anyhow::Result<Base> {
    let base = Base { kernel: directory.join("vmlinuz"), archive: directory.join("base.cpio.gz") };
    let made_of = directory.join("base.packages");
    let wanted = format!("{SUITE} {PACKAGES:?} {EXCLUDED:?}");
    if fs::read_to_string(&made_of).is_ok_and(|text| text == wanted) {
        return Ok(base);
    }
    eprintln!("making the virtual machine's image from Debian packages");
    let root = directory.join("root.tar");
    run(Command::new("mmdebstrap")
        .args(["--quiet", "--variant=extract", "--format=tar"])
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(SUITE)
        .arg(&root)
        .stdout(io::stderr()))?;
    let kernel = create(&base.kernel)?;
    run(Command::new("bsdtar").arg("-xOf").arg(&root).arg("./boot/vmlinuz-*").stdout(kernel))?;
    let mut pack = Command::new("bsdtar");
    pack.args(["-c", "--format=newc", "--gzip", "--options=gzip:compression-level=1"]);
    pack.args(EXCLUDED.iter().map(|pattern| format!("--exclude={pattern}")));
    run(pack.arg("-f").arg(&base.archive).arg(format!("@{}", root.display())))?;
    fs::remove_file(&root)?;
    fs::write(&made_of, wanted)?;
    Ok(base)
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
            let to = self.root.join(library.trim_start_matches('/'));
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::copy(library, to).with_context(|| format!("cannot copy {library}"))?;
        }
        Ok(())
    }

    /// Puts a program of `/opt` where tests that were built here look for it, too.
    pub(super) fn also_at(&mut self, name: &str, path: &Path) -> anyhow::Result<()> {
        let link = self.root.join(path.strip_prefix("/").unwrap_or(path));
        if let Some(parent) = link.parent() {
            fs::create_dir_all(parent)?;
        }
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
        io::copy(&mut File::open(&base.archive)?, &mut into)?;
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
