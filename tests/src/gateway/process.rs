//! The daemon's process in the gateway's namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::binary::{binary, other_abi};
use super::config::Config;
use super::manager::Manager;
use super::service;
use crate::error::{LabError, Result, Tried};
use crate::layout::Lab;
use crate::net::Ns;
use crate::process::{Child, Launch, Lifetime, run};
use crate::wait::until;

/// How long the daemon may take until it forwards, on a busy machine.
const START: Duration = Duration::from_secs(180);

/// The daemon, started, restarted, killed and asked.
#[derive(Debug)]
pub struct Gateway {
    binary: PathBuf,
    ns: Ns,
    dir: PathBuf,
    socket: String,
    lifetime: Lifetime,
    process: Option<Child>,
    manager: Option<Manager>,
}

impl Gateway {
    /// Starts the daemon with a configuration, and waits until it answers.
    pub fn start(lab: &Lab, config: &Config) -> Result<Self> {
        let mut gateway = Self {
            binary: binary()?,
            ns: lab.gateway().clone(),
            dir: lab.dir().to_owned(),
            socket: config.api.socket.clone(),
            lifetime: lab.lifetime(),
            process: None,
            manager: None,
        };
        gateway.write(config)?;
        gateway.run()?;
        Ok(gateway)
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("fernpass.toml")
    }

    /// The API's socket.
    pub fn socket(&self) -> &str {
        &self.socket
    }

    /// The program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// From the next start on the program is one of another version of the tables' layout, or the ordinary one again.
    pub fn change_version(&mut self, other: bool) -> Result<()> {
        self.binary = if other { other_abi()? } else { binary()? };
        Ok(())
    }

    /// Writes the configuration file; the daemon sees it when it reloads or starts.
    pub fn write(&self, config: &Config) -> Result<()> {
        fs::write(self.config_file(), config.to_toml()?)
            .tried(|| "writing the gateway's configuration".to_owned())
    }

    /// Starts the daemon and waits until it answers.
    pub fn run(&mut self) -> Result<()> {
        self.run_with(&[])
    }

    /// Starts the daemon, and waits for nothing.
    pub fn run_unattended(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("-c").arg(self.config_file());
        self.spawn(command)
    }

    /// The same, with further options.
    pub fn run_with(&mut self, options: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("-c").arg(self.config_file()).args(options);
        self.launch(command)
    }

    /// The same, as systemd's unit starts it: a user of its own, with the unit's capabilities and nothing else.
    pub fn run_as_service(&mut self) -> Result<()> {
        // Configuration, state, socket and bpffs are all below it.
        service::give_away(&self.dir)?;
        let mut command = service::command(&self.binary);
        command.arg("run").arg("-c").arg(self.config_file());
        self.launch(command)
    }

    /// From the next start on the daemon is to tell a service manager how it is, and within `watchdog` that it lives.
    pub fn supervise(&mut self, watchdog: Duration) -> Result<()> {
        self.manager = Some(Manager::listen(&self.dir, watchdog)?);
        Ok(())
    }

    /// What a service manager heard: assignments of sd_notify(3), in their order.
    pub fn heard(&self) -> Vec<String> {
        self.manager.as_ref().map(Manager::heard).unwrap_or_default()
    }

    /// Sends the daemon SIGHUP, as `systemctl reload` does.
    pub fn hang_up(&self) {
        if let Some(process) = &self.process {
            process.signal(Signal::HUP);
        }
    }

    /// The daemon does nothing while `work` is done.
    pub fn hold<T>(&self, work: impl FnOnce() -> T) -> T {
        let signal = |signal| self.process.iter().for_each(|process| process.signal(signal));
        signal(Signal::STOP);
        let done = work();
        signal(Signal::CONT);
        done
    }

    fn spawn(&mut self, mut command: Command) -> Result<()> {
        if let Some(manager) = &self.manager {
            manager.tell(&mut command);
        }
        let launch = Launch {
            name: "fernpass",
            dir: &self.dir,
            ns: Some(self.ns.fd()),
            lifetime: self.lifetime,
        };
        self.process = Some(Child::launch(command, launch)?);
        Ok(())
    }

    fn launch(&mut self, command: Command) -> Result<()> {
        self.spawn(command)?;
        until("the start of the gateway", START, || {
            if let Some(process) = &mut self.process {
                process.must_run()?;
            }
            Ok(self.call(&["status"]).ok().map(|_| ()))
        })
    }

    /// A line of what the kernel says of the daemon's process, as in proc_pid_status(5).
    pub fn process_status(&self, key: &str) -> Option<String> {
        let pid = self.process.as_ref()?.pid();
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.map(|value| value.trim().to_owned())
    }

    /// Kills the daemon with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Asks the daemon to end, and waits for it.
    pub fn terminate(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.terminate(Duration::from_secs(10)),
            None => Ok(()),
        }
    }

    /// What the daemon wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("fernpass.log")).unwrap_or_default()
    }

    /// The daemon's network namespace.
    pub fn ns(&self) -> &Ns {
        &self.ns
    }

    /// Runs `fernpass ARGS` as a person would; what it printed.
    pub fn show(&self, args: &[&str]) -> Result<String> {
        let binary = self.binary.display().to_string();
        let all: Vec<&str> =
            ["--socket", &self.socket].into_iter().chain(args.iter().copied()).collect();
        self.ns.run(&binary, &all)
    }

    /// A command of `fernpass`, ready to be run in the gateway's namespace.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["--socket", &self.socket, "--json"]).args(args);
        command
    }

    /// Runs `fernpass --json ARGS`; its answer.
    pub fn call(&self, args: &[&str]) -> Result<Value> {
        let text = self.act(args)?;
        serde_json::from_str(&text)
            .map_err(|e| LabError::Answer { command: args.join(" "), what: format!("{e}: {text}") })
    }

    /// Runs `fernpass --json ARGS`, which must succeed; what it printed.
    pub fn act(&self, args: &[&str]) -> Result<String> {
        let described = args.join(" ");
        let output = run(self.command(args), Some(self.ns.fd()))
            .tried(|| format!("running `fernpass {described}`"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(LabError::Command {
                command: format!("fernpass {described}"),
                status: output.status.to_string(),
                stderr: format!("{}{}", errors.trim(), text.trim()),
            });
        }
        Ok(text.into_owned())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // A failed test's reader wants to know what the daemon said.
        if std::thread::panicking() {
            eprintln!("--- the gateway's log ---\n{}", self.log());
        }
    }
}
