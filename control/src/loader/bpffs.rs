//! The bpffs that holds the pins, and the lock on it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statfs};
use rustix::mount::{MountFlags, mount};

use super::LoadError;

/// Magic number of a bpffs (`BPF_FS_MAGIC`, linux/magic.h).
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// A directory on a bpffs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bpffs {
    path: PathBuf,
}

/// Held while a daemon, or a command that changes pins, is at work. The kernel gives it back when the
/// process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    directory: File,
}

impl Lock {
    /// Whether it is on what is at this path now: not if that was removed, or mounted over, and made again.
    pub fn is_of(&self, path: &Path) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let locked = self.directory.metadata().map(identity);
        matches!((locked, fs::metadata(path).map(identity)), (Ok(locked), Ok(there)) if locked == there)
    }
}

impl Bpffs {
    /// The directory, made and mounted if it is not there.
    ///
    /// # Errors
    /// It cannot be made or mounted.
    pub fn prepare(path: &Path) -> Result<Self, LoadError> {
        let failed = |source: io::Error| rights_or(path, source, "making the bpffs directory");
        let parent = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(if is_bpffs(parent) { path } else { parent }).map_err(failed)?;
        if !path.exists() {
            fs::create_dir(path).map_err(failed)?;
        }
        if !is_bpffs(path) {
            mount(
                "bpf",
                path,
                "bpf",
                MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
                None,
            )
            .map_err(|source| match io::Error::from(source) {
                e if e.kind() == io::ErrorKind::PermissionDenied => {
                    rights_or(path, e, "mounting the bpffs")
                }
                source => LoadError::Bpffs { path: path.to_owned(), source },
            })?;
        }
        Ok(Self { path: path.to_owned() })
    }

    /// The directory if it is there and on a bpffs.
    ///
    /// # Errors
    /// It is not.
    pub fn existing(path: &Path) -> Result<Self, LoadError> {
        match statfs(path) {
            Ok(_) if is_bpffs(path) => Ok(Self { path: path.to_owned() }),
            Err(e) if e == rustix::io::Errno::ACCESS || e == rustix::io::Errno::PERM => {
                Err(rights_or(path, e.into(), "opening the bpffs"))
            }
            _ => Err(LoadError::NotLoaded { path: path.to_owned() }),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps others out: one daemon, or one command that changes pins, at a time.
    ///
    /// # Errors
    /// Another has it.
    pub fn lock(&self) -> Result<Lock, LoadError> {
        let directory = File::open(&self.path)
            .map_err(|source| rights_or(&self.path, source, "opening the bpffs"))?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { directory }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(LoadError::Locked { path: self.path.clone() })
            }
            Err(e) => Err(LoadError::Path { path: self.path.clone(), source: e.into() }),
        }
    }
}

fn is_bpffs(path: &Path) -> bool {
    // The field's type differs between architectures.
    statfs(path).is_ok_and(|s| s.f_type as u64 == BPF_FS_MAGIC)
}

fn rights_or(path: &Path, source: io::Error, what: &str) -> LoadError {
    if source.kind() == io::ErrorKind::PermissionDenied {
        LoadError::Rights { what: format!("{what} {}", path.display()) }
    } else {
        LoadError::Path { path: path.to_owned(), source }
    }
}
