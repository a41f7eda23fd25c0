//! What a lab leaves in the file system, so that any later process can take
//! it down: one directory for each lab, with its namespaces, its processes and
//! a lock that its owner holds while it lives.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::mount::{UnmountFlags, unmount};

use crate::error::{LabError, Result, Tried};
use crate::net::ip_batch;
use crate::peer::uapi;
use crate::process::Identity;
use crate::wait::until;

/// Where all labs of a machine are recorded.
pub(crate) const ROOT: &str = "/run/fernpass-lab";
/// Namespaces of a lab are `fp-ID-ROLE`.
const PREFIX: &str = "fp";
/// File that the owner holds a lock on; the kernel releases it with the owner.
const LOCK: &str = "lock";
/// File that says that the lab outlives its owner.
const KEEP: &str = "keep";
/// How long another process may take for namespaces that it takes down, too.
const OTHERS: Duration = Duration::from_secs(5);

/// A lab's directory and the lock on it. Dropping it takes the lab down.
#[derive(Debug)]
pub(crate) struct Record {
    id: String,
    dir: PathBuf,
    kept: bool,
    _lock: File,
}

impl Record {
    /// Claims a new lab id.
    pub(crate) fn create() -> Result<Self> {
        fs::create_dir_all(ROOT).map_err(|e| match e.kind() {
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                LabError::Impossible(format!("cannot write to {ROOT} ({e})"))
            }
            _ => LabError::Io { what: format!("creating {ROOT}"), source: e },
        })?;
        // Under the lock of the root no other process can take the new
        // directory, which is not locked yet, for one without an owner.
        let _root = lock_root()?;
        loop {
            let id: String = std::iter::repeat_with(fastrand::lowercase).take(4).collect();
            let dir = Path::new(ROOT).join(&id);
            match fs::create_dir(&dir) {
                Ok(()) => {
                    let lock =
                        File::create(dir.join(LOCK)).tried(|| "creating a lock".to_owned())?;
                    flock(&lock, FlockOperation::NonBlockingLockExclusive)
                        .tried(|| "locking the lab".to_owned())?;
                    return Ok(Self { id, dir, kept: false, _lock: lock });
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e).tried(|| format!("creating {}", dir.display())),
            }
        }
    }

    /// Four lower-case letters.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The lab's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The name of the lab's namespace for `role`.
    pub(crate) fn namespace(&self, role: &str) -> String {
        format!("{PREFIX}-{}-{role}", self.id)
    }

    /// The name of a WireGuard interface of the lab: all namespaces share the
    /// folder of their control sockets, and Linux allows 15 characters.
    pub(crate) fn interface(&self, role: &str) -> String {
        format!("{PREFIX}{}{role}", self.id)
    }

    /// Lets the lab outlive this process.
    pub(crate) fn keep(&mut self) -> Result<()> {
        self.kept = true;
        fs::write(self.dir.join(KEEP), "").tried(|| "marking the lab as kept".to_owned())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // What fails here is left to the next lab, which reaps it.
        if !self.kept {
            let _ = remove(&self.id);
        }
    }
}

fn lock_root() -> Result<File> {
    let root = File::open(ROOT).tried(|| format!("opening {ROOT}"))?;
    flock(&root, FlockOperation::LockExclusive).tried(|| format!("locking {ROOT}"))?;
    Ok(root)
}

/// What is known of a lab from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its id.
    pub id: String,
    /// True if it outlives the process that made it.
    pub kept: bool,
    /// True while the process that made it lives.
    pub owned: bool,
    /// Its namespaces.
    pub namespaces: Vec<String>,
}

/// The labs on this machine, whoever made them, in the order of their ids.
pub fn standing() -> Result<Vec<Standing>> {
    let entries = match fs::read_dir(ROOT) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).tried(|| format!("reading {ROOT}")),
    };
    let _root = lock_root()?;
    let mut labs = Vec::new();
    for entry in entries.flatten() {
        let Ok(id) = entry.file_name().into_string() else { continue };
        if id.starts_with('.') {
            continue; // not a lab: the gate
        }
        let dir = entry.path();
        labs.push(Standing {
            kept: dir.join(KEEP).exists(),
            owned: is_owned(&dir),
            namespaces: namespaces_of(&id),
            id,
        });
    }
    labs.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(labs)
}

/// Somebody holds the lock.
fn is_owned(dir: &Path) -> bool {
    File::open(dir.join(LOCK))
        .is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
}

/// The names of a lab's namespaces.
pub(crate) fn namespaces_of(id: &str) -> Vec<String> {
    let prefix = format!("{PREFIX}-{id}-");
    let mut names: Vec<String> = fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix))
        .collect();
    names.sort();
    names
}

/// Takes down all labs whose owner is gone, except the kept ones; their ids.
pub fn reap_stale() -> Result<Vec<String>> {
    let stale: Vec<String> =
        standing()?.into_iter().filter(|lab| !lab.kept && !lab.owned).map(|lab| lab.id).collect();
    for id in &stale {
        remove(id)?;
    }
    Ok(stale)
}

/// Takes a lab down: ends its processes, removes its pins and its namespaces.
/// Doing it twice, or two processes doing it at once, does no harm.
pub fn remove(id: &str) -> Result<()> {
    let dir = Path::new(ROOT).join(id);
    let files = |extension: &str| -> Vec<PathBuf> {
        fs::read_dir(&dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == extension))
            .collect()
    };
    files("pid").iter().for_each(|file| Identity::kill_recorded(file));
    uapi::remove_sockets(&format!("{PREFIX}{id}"));
    for mount in files("bpf") {
        // Not mounted, or gone already: then there is nothing to undo.
        let _ = unmount(&mount, UnmountFlags::DETACH);
    }
    // Another process that does the same may be quicker with some of them, where `ip` ends, and then not be through with others.
    let mut failed = None;
    until(&format!("the end of lab {id}'s namespaces"), OTHERS, || {
        let left: Vec<String> =
            namespaces_of(id).into_iter().map(|name| format!("netns del {name}")).collect();
        if left.is_empty() {
            return Ok(Some(()));
        }
        failed = ip_batch(None, &left).err();
        Ok(namespaces_of(id).is_empty().then_some(()))
    })
    .map_err(|e| failed.unwrap_or(e))?;
    match fs::remove_dir_all(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).tried(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Where the pins of a lab's gateway go: a file name that [`remove`] knows to unmount.
pub(crate) fn bpffs(dir: &Path) -> PathBuf {
    dir.join("gw.bpf")
}
