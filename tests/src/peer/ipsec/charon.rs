//! The daemon of both sides, and what it is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Esp;
use crate::error::{LabError, Result, Tried};
use crate::layout::Lab;
use crate::net::{Ns, run_to_end};
use crate::peer::pki;
use crate::preflight::require;
use crate::process::{Child, Launch};
use crate::wait::until;

/// Debian's place for it, outside the PATH.
const PROGRAM: &str = "/usr/lib/ipsec/charon";
/// How long it may take to start on a busy machine.
const START: Duration = Duration::from_secs(30);
/// What precedes the name of its interface in its log.
const DEVICE: &str = "created TUN device: ";

/// A running daemon.
#[derive(Debug)]
pub(super) struct Charon {
    ns: Ns,
    uri: String,
    file: PathBuf,
    process: Child,
}

impl Charon {
    /// Starts a daemon that listens on two ports, the second for what goes through NAT.
    pub(super) fn start(lab: &Lab, ns: &Ns, role: &str, ports: [u16; 2], esp: Esp) -> Result<Self> {
        let name = format!("ike-{role}");
        let run = lab.dir().join(format!("{name}.run"));
        fs::create_dir_all(&run).tried(|| format!("creating {}", run.display()))?;
        // Inner addresses are on an interface that stays when the client moves. Not stdout, which would show a line when many have come.
        let configuration = format!(
            "charon {{\n\
             load = random nonce aes sha1 sha2 hmac kdf gmp drbg pem pkcs1 x509 pubkey vici \
             {} socket-default updown attr\n\
             port = {}\n\
             port_nat_t = {}\n\
             {}\
             filelog {{ stderr {{ default = 1\n }} }}\n\
             }}\n",
            esp.plugins(),
            ports[0],
            ports[1],
            if esp == Esp::Kernel { "install_virtual_ip_on = lo\n" } else { "" },
        );
        let file = lab.dir().join(format!("{name}.conf"));
        pki::write(&file, &configuration)?;
        let launch =
            Launch { name: &name, dir: lab.dir(), ns: Some(ns.fd()), lifetime: lab.lifetime() };
        // Its socket and its pid have fixed places, and another of it may run beside it; its
        // configuration is where a security module lets it look.
        let binds = [
            (file.as_path(), Path::new("/etc/strongswan.conf")),
            // Last, because it hides what comes from /run.
            (&run, Path::new("/run")),
        ];
        if !Path::new(PROGRAM).is_file() {
            return Err(LabError::Impossible(format!(
                "{PROGRAM} is not installed (apt install strongswan-charon libcharon-extra-plugins)"
            )));
        }
        let mut process = Child::launch_over(Command::new(PROGRAM), launch, &binds)?;
        let socket = run.join("charon.vici");
        until(&format!("the start of {name}"), START, || {
            process.must_run()?;
            Ok(std::os::unix::net::UnixStream::connect(&socket).is_ok().then_some(()))
        })?;
        let file = lab.dir().join(format!("{name}.swanctl"));
        Ok(Self { ns: ns.clone(), uri: format!("unix://{}", socket.display()), file, process })
    }

    /// Loads connections, pools and secrets, in place of what it had.
    pub(super) fn load(&self, configuration: &str) -> Result<()> {
        pki::write(&self.file, configuration)?;
        self.swanctl(&["--load-all", "--noprompt", "--file", &self.file.display().to_string()])?;
        Ok(())
    }

    /// Its security associations, in the form for people.
    pub(super) fn list(&self) -> Result<String> {
        self.swanctl(&["--list-sas"])
    }

    fn swanctl(&self, arguments: &[&str]) -> Result<String> {
        let program = require("swanctl")?.display().to_string();
        run_to_end(&program, &[arguments, &["--uri", &self.uri]].concat(), Some(&self.ns))
    }

    /// The interface of its tunnels.
    pub(super) fn interface(&self) -> Result<String> {
        let log = self.process.output();
        let name = log.split(DEVICE).nth(1).and_then(|rest| rest.split_whitespace().next());
        name.map(str::to_owned)
            .ok_or_else(|| LabError::Scenario("charon has made no interface".to_owned()))
    }

    pub(super) fn process(&self) -> &Child {
        &self.process
    }

    pub(super) fn kill(&mut self) {
        self.process.kill();
    }
}
