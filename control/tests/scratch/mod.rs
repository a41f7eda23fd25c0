//! A bpffs of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use control::loader::Bpffs;

/// A directory with a bpffs in it, which goes with it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let dir = PathBuf::from(format!("/run/fernpass-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    #[allow(dead_code, reason = "not all tests keep something beside it")]
    pub(crate) fn dir(&self) -> &Path {
        &self.0
    }

    pub(crate) fn bpffs(&self) -> Bpffs {
        Bpffs::prepare(&self.0.join("bpf")).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.join("bpf")).status();
        let _ = fs::remove_dir_all(&self.0);
    }
}
