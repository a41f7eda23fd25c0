//! A running child process and its entry in the lab's records.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::spawner::{Lifetime, spawn};
use crate::error::{LabError, Result, Tried};
use crate::wait::until;

/// A process beyond doubt: pids are reused, pid and start time are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pid: Pid,
    /// Clock ticks since boot, field 22 of `/proc/PID/stat`.
    started: u64,
}

impl Identity {
    /// The identity of a living process.
    fn of(pid: Pid) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        // The command's name is in parentheses and may contain anything.
        let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        Some(Self { pid, started })
    }

    /// Parses what [`Self::record`] wrote.
    fn parse(line: &str) -> Option<Self> {
        let (pid, started) = line.trim().split_once(' ')?;
        Some(Self { pid: Pid::from_raw(pid.parse().ok()?)?, started: started.parse().ok()? })
    }

    fn record(self) -> String {
        format!("{} {}\n", self.pid.as_raw_nonzero(), self.started)
    }

    /// Kills the process recorded in `file`, if it is still that process, and
    /// waits for its end. The file is removed.
    pub(crate) fn kill_recorded(file: &Path) {
        if let Some(recorded) = fs::read_to_string(file).ok().as_deref().and_then(Self::parse) {
            // The descriptor first: it keeps meaning the process that is then compared.
            let pidfd = pidfd_open(recorded.pid, PidfdFlags::empty());
            if let (Ok(fd), true) = (pidfd, Self::of(recorded.pid) == Some(recorded)) {
                let _ = pidfd_send_signal(&fd, Signal::KILL);
                let _ = until("the end of a killed process", Duration::from_secs(5), || {
                    Ok((Self::of(recorded.pid) != Some(recorded) || zombie(recorded.pid))
                        .then_some(()))
                });
            }
        }
        let _ = fs::remove_file(file);
    }
}

/// Ended, and waiting for a parent to take notice.
fn zombie(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))
        .is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
}

/// How to start a [`Child`].
pub(crate) struct Launch<'a> {
    /// Name in the lab's records; also the name of its log.
    pub(crate) name: &'a str,
    /// The lab's directory.
    pub(crate) dir: &'a Path,
    /// Its network namespace.
    pub(crate) ns: Option<Arc<std::os::fd::OwnedFd>>,
    /// How long it may live.
    pub(crate) lifetime: Lifetime,
}

/// A child process: recorded in the lab's directory while it runs, its output
/// in a log file beside it. Dropping it kills it, unless it is to be kept.
#[derive(Debug)]
pub(crate) struct Child {
    inner: std::process::Child,
    record: PathBuf,
    log: PathBuf,
    lifetime: Lifetime,
}

impl Child {
    /// Starts `command` with its output appended to `DIR/NAME.log`.
    pub(crate) fn launch(command: Command, launch: Launch<'_>) -> Result<Self> {
        Self::launch_over(command, launch, &[])
    }

    /// The same, with a view of the file system in which each first path lies over the second.
    pub(crate) fn launch_over(
        mut command: Command,
        launch: Launch<'_>,
        binds: &[(&Path, &Path)],
    ) -> Result<Self> {
        let log = launch.dir.join(format!("{}.log", launch.name));
        let record = launch.dir.join(format!("{}.pid", launch.name));
        let described = format!("starting {}", command.get_program().display());
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .tried(|| format!("opening {}", log.display()))?;
        let err = out.try_clone().tried(|| described.clone())?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let inner =
            spawn(command, launch.ns, launch.lifetime, binds).tried(|| described.clone())?;
        let child = Self { inner, record, log, lifetime: launch.lifetime };
        if let Some(identity) = Pid::from_raw(child.inner.id().cast_signed()).and_then(Identity::of)
        {
            fs::write(&child.record, identity.record())
                .tried(|| format!("writing {}", child.record.display()))?;
        }
        Ok(child)
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.inner.id()
    }

    /// Its output so far.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// An error with the end of the log when the process has ended.
    pub(crate) fn must_run(&mut self) -> Result<()> {
        match self.inner.try_wait().tried(|| "waiting for a child".to_owned())? {
            None => Ok(()),
            Some(status) => Err(self.failure(match status.signal() {
                Some(signal) => format!("signal {signal}"),
                None => status.to_string(),
            })),
        }
    }

    fn failure(&self, status: String) -> LabError {
        LabError::Command {
            command: self.record.file_stem().unwrap_or_default().display().to_string(),
            status,
            stderr: tail(&self.output()),
        }
    }

    /// Waits until its output contains `text`; an error with the end of the log when the
    /// process ends before.
    pub(crate) fn await_output(&self, what: &str, deadline: Duration, text: &str) -> Result<()> {
        let pid = Pid::from_raw(self.inner.id().cast_signed());
        until(what, deadline, || {
            let ended = pid.is_none_or(zombie);
            let output = self.output();
            match (output.contains(text), ended) {
                (true, _) => Ok(Some(())),
                (false, false) => Ok(None),
                (false, true) => Err(self.failure("it ended".to_owned())),
            }
        })
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn kill(&mut self) {
        // Fails only when it has ended before.
        let _ = self.inner.kill();
        let _ = self.inner.wait();
        let _ = fs::remove_file(&self.record);
    }

    /// Sends a signal. One that has ended gets none.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.inner.id().cast_signed()) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Sends SIGTERM and waits up to `deadline`.
    pub(crate) fn terminate(&mut self, deadline: Duration) -> Result<()> {
        self.signal(Signal::TERM);
        until("the end of a terminated process", deadline, || {
            self.inner.try_wait().tried(|| "waiting for a child".to_owned())
        })?;
        let _ = fs::remove_file(&self.record);
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Ours {
            self.kill();
        }
    }
}

/// The last lines of a log, for an error message.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
