//! Packages of servers start what they bring, at once and whenever the machine starts. The lab
//! wants the programs alone.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::setup::program;

/// Asked by packages before they start a service (Debian Policy 9.3.3, `invoke-rc.d`).
const POLICY: &str = "/usr/sbin/policy-rc.d";
const REFUSAL: &str = "#!/bin/sh\n# Of cargo xtask setup, while it installs.\nexit 101\n";

/// The services of the lab's packages.
const SERVICES: &[(&str, &[&str])] = &[
    ("openvpn", &["openvpn.service"]),
    ("ocserv", &["ocserv.service", "ocserv.socket"]),
    ("strongswan-charon", &["strongswan-starter.service"]),
];

/// While it lives, packages start no services.
pub(crate) struct Refused {
    /// What is to be removed again.
    ours: Option<PathBuf>,
}

impl Refused {
    /// Leaves an existing policy as it is: who made it knows better.
    pub(crate) fn set() -> anyhow::Result<Self> {
        Self::set_at(Path::new(POLICY))
    }

    fn set_at(path: &Path) -> anyhow::Result<Self> {
        match fs::File::options().write(true).create_new(true).mode(0o755).open(path) {
            Ok(mut file) => {
                let refused = Self { ours: Some(path.to_owned()) };
                file.write_all(REFUSAL.as_bytes())
                    .with_context(|| format!("cannot write {}", path.display()))?;
                Ok(refused)
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Self { ours: None }),
            Err(e) => Err(e).with_context(|| format!("cannot create {}", path.display())),
        }
    }
}

impl Drop for Refused {
    fn drop(&mut self) {
        if let Some(path) = &self.ours {
            let _ = fs::remove_file(path);
        }
    }
}

/// Lets the services of packages that were just installed not start with the machine either.
pub(crate) fn disable(packages: &[&str]) {
    let Some(systemctl) = program("systemctl") else { return };
    let of_these = SERVICES.iter().filter(|(package, _)| packages.contains(package));
    for service in of_these.flat_map(|(_, services)| *services) {
        // One that does not exist needs nothing.
        let _ = Command::new(&systemctl).args(["--quiet", "disable", service]).output();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_policy_refuses_while_it_lives_and_leaves_anothers_alone() {
        let path = std::env::temp_dir().join(format!("policy-{}", std::process::id()));
        let ours = Refused::set_at(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), REFUSAL);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o111, 0o111);
        drop(Refused::set_at(&path).unwrap());
        assert!(path.exists());
        drop(ours);
        assert!(!path.exists());
    }
}
