//! The files of the state directory. Everything here may take for ever.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Which directory is at a path.
pub(super) type Identity = (u64, u64);

/// A file was not changed as it was to be.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) source: io::Error,
    /// It may hold what it was to hold nevertheless, or will after the next start of the host.
    pub(super) may_hold: bool,
}

/// What a file holds, if it is there.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Gives a file another name, under which nobody looks for it.
pub(super) fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = path.with_extension("json.bad");
    fs::rename(path, &aside).map(|()| aside)
}

/// What becomes of what a file holds that is to hold something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aside {
    /// It is of no use.
    No,
    /// It is put aside if that is possible.
    Try,
    /// It is put aside, or stays.
    Must,
}

/// Lets a file hold this, all of it, or takes it away: when this returns, it outlives the host.
pub(super) fn replace(path: &Path, text: Option<&[u8]>, aside: Aside) -> Result<(), Failed> {
    let unchanged = |source| Failed { source, may_hold: false };
    let changed = |source| Failed { source, may_hold: true };
    let new = path.with_extension("json.new");
    if let Some(text) = text {
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(text)?;
            file.sync_all()
        };
        write().map_err(|e| {
            // It may have taken the last of the room.
            let _ = fs::remove_file(&new);
            unchanged(e)
        })?;
    } else {
        // A directory that is read-only refuses to remove what is not there, too.
        match fs::exists(path) {
            Ok(true) => {}
            // It may be gone since a moment ago only.
            Ok(false) => return sync_directory(path).map_err(changed),
            Err(e) if is_absent(&e) => return Ok(()),
            Err(e) => return Err(unchanged(e)),
        }
    }
    let is_aside = aside != Aside::No
        && match put_aside(path) {
            Ok(_) => true,
            Err(e) if is_absent(&e) || aside == Aside::Try => false,
            Err(e) => return Err(unchanged(e)),
        };
    match text {
        Some(_) => fs::rename(&new, path).map_err(|e| {
            let _ = fs::remove_file(&new);
            unchanged(e)
        })?,
        None if !is_aside => fs::remove_file(path).map_err(unchanged)?,
        None => {}
    }
    sync_directory(path).map_err(changed)
}

/// Lets a file's name, or that there is none any more, outlive the host.
fn sync_directory(path: &Path) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    match File::open(dir).and_then(|dir| dir.sync_all()) {
        // There is nothing to outlive, or the file system has other ways.
        Err(e) if is_absent(&e) || e.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// Makes a directory where there is none.
pub(super) fn make(dir: &Path) -> io::Result<Identity> {
    fs::create_dir_all(dir).and_then(|()| identity(dir))
}

/// Whether anything can be written to a directory, which is made if it is not there.
pub(super) fn probe(dir: &Path) -> io::Result<()> {
    make(dir)?;
    let path = dir.join("overrides.json.try");
    let mut file = File::create(&path)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::remove_file(&path)
}

/// What a failure in a directory means for a daemon that began with this one, and may have given up its rights to others.
pub(super) fn explain(e: io::Error, dir: &Path, begun: Option<Identity>) -> io::Error {
    match (e.kind(), identity(dir)) {
        (io::ErrorKind::PermissionDenied, there)
            if begun.is_none() || there.as_ref().is_ok_and(|there| Some(*there) != begun) =>
        {
            let why = "it was not there, or another one, when the daemon was started";
            io::Error::other(format!("{e}; {why}: restart it"))
        }
        _ => e,
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|there| (there.dev(), there.ino()))
}

/// There is no such file.
fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
