//! The real daemon, upon a gateway's tables: what it costs is read from its process, and what it
//! answers from its socket.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// A daemon; it is ended with this. The tables stay.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    /// Starts one with this configuration, and waits until it answers on its socket.
    pub(crate) fn start(config: &str, socket: PathBuf) -> anyhow::Result<Self> {
        let file = socket.with_extension("toml");
        fs::write(&file, config).context("cannot write the daemon's configuration")?;
        let program = std::env::current_exe()?.with_file_name("fernpass");
        let log = socket.with_extension("log");
        let child = Command::new(&program)
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let mut daemon = Self { child, socket };
        let begin = Instant::now();
        while daemon.get("/v1/status").is_err() {
            if daemon.child.try_wait()?.is_some() || begin.elapsed() > Duration::from_secs(60) {
                let log = fs::read_to_string(&log).unwrap_or_default();
                bail!("the daemon did not come up: {}", log.trim());
            }
            sleep(Duration::from_millis(1));
        }
        Ok(daemon)
    }

    /// What it answers to a GET.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<String> {
        self.ask("GET", path, "")
    }

    /// What it answers to a POST of some JSON.
    pub(crate) fn post(&self, path: &str, body: &str) -> anyhow::Result<String> {
        self.ask("POST", path, body)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: fernpass\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if !answer.starts_with("HTTP/1.1 200 ") {
            bail!("{path}: {}", answer.lines().next().unwrap_or("no answer"));
        }
        Ok(answer)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.socket.with_extension("log"))?)
    }

    /// Processor time that it has taken, all its threads together.
    pub(crate) fn processor_time(&self) -> anyhow::Result<Duration> {
        // Of the process, not of its threads: those that ended count.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which may have anything in it: utime and stime are fields 14 and 15 (proc_pid_stat).
        let (_, fields) = stat.rsplit_once(')').context("a stat without a name")?;
        let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks = times.sum::<Result<u64, _>>()?;
        Ok(Duration::from_secs(ticks) / rustix::param::clock_ticks_per_second() as u32)
    }

    /// Bytes of its memory that are its own: neither the tables nor its program file.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        Ok(kilobytes.context("the kernel does not tell RssAnon")?.parse::<u64>()? * 1024)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
