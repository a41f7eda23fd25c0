//! A virtual machine that systemd runs, as Debian installs it, which is told what to do by scripts.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::image::{self, Overlay};
use super::{Kernel, directory, qemu};

/// What is in it besides the smallest system that has apt.
const PACKAGES: &[&str] = &[
    "dbus",
    "ethtool",
    "iproute2",
    "iputils-ping",
    "kmod",
    "procps",
    "python3",
    "systemd-sysv",
    "wireguard-tools",
];
/// Its first process.
const INIT: &str = "#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
[ -e /lib/modules ] || ln -s /usr/lib/modules /lib/modules
depmod
umount /sys /proc
exec /lib/systemd/systemd";
/// Answers at the second serial port.
const SERVICE: &str = "[Unit]
Description=Runs what the tests ask for
After=multi-user.target
[Service]
ExecStart=/usr/bin/python3 /opt/answer
[Install]
WantedBy=multi-user.target
";
/// A line is a script, as JSON; so is the answer: its exit code and what it printed.
const ANSWER: &str = r#"import json, os, subprocess, termios, tty
port = os.open("/dev/ttyS1", os.O_RDWR | os.O_NOCTTY)
tty.setraw(port)
lines = os.fdopen(port, "rb", closefd=False)
def answer(value):
    data = json.dumps(value).encode() + b"\n"
    while data:
        data = data[os.write(port, data):]
answer("ready")
for line in iter(lines.readline, b""):
    done = subprocess.run(["sh", "-e", "-c", json.loads(line)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    answer({"code": done.returncode, "said": done.stdout.decode(errors="replace")})
"#;
/// An emulated machine starts in half a minute.
const START: Duration = Duration::from_secs(600);
/// Nothing that it is asked for takes so long.
const MOST: Duration = Duration::from_secs(900);

/// The machine. It is turned off with this.
pub(crate) struct Guest {
    machine: Child,
    port: BufReader<UnixStream>,
}

impl Guest {
    /// Starts one that has some files, and waits until its systemd has started all that it should.
    pub(crate) fn start(kernel: Kernel, files: &[(&str, &[u8])]) -> anyhow::Result<Self> {
        let directory = directory()?;
        let base = image::system(&directory, kernel, PACKAGES)?;
        let overlay = Overlay::new(&directory.join("system-overlay"))?;
        for (path, content) in files {
            overlay.file(path, content)?;
        }
        overlay.file("/opt/answer", ANSWER.as_bytes())?;
        overlay.file("/etc/systemd/system/answer.service", SERVICE.as_bytes())?;
        overlay.link(
            "/etc/systemd/system/multi-user.target.wants/answer.service",
            "../answer.service",
        )?;
        // Nobody logs in, and it would wait for a device that nobody announces.
        overlay.link("/etc/systemd/system/serial-getty@ttyS0.service", "/dev/null")?;
        let image = overlay.pack(INIT, &base)?;
        let (console, socket) = (directory.join("system-console"), directory.join("system-port"));
        let _ = fs::remove_file(&socket);
        eprintln!("starting a virtual machine with systemd, kernel {}", kernel.name());
        let machine = qemu::start(&base.kernel, &image, &console, &socket)?;
        Self::await_ready(machine, &socket).with_context(|| {
            let said = fs::read_to_string(&console).unwrap_or_default();
            let last: Vec<&str> = said.lines().rev().take(20).collect();
            format!(
                "its console said last:\n{}",
                last.into_iter().rev().collect::<Vec<_>>().join("\n")
            )
        })
    }

    fn await_ready(mut machine: Child, socket: &Path) -> anyhow::Result<Self> {
        let started = Instant::now();
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(e) if started.elapsed() > START => {
                    machine.kill()?;
                    machine.wait()?;
                    return Err(e).context("the machine has no port");
                }
                Err(_) => sleep(Duration::from_millis(100)),
            }
        };
        stream.set_read_timeout(Some(START))?;
        let mut guest = Self { machine, port: BufReader::new(stream) };
        ensure!(guest.read()? == "ready", "the machine says something else than that it is ready");
        guest.port.get_ref().set_read_timeout(Some(MOST))?;
        Ok(guest)
    }

    /// Runs a script in it; what it prints.
    pub(crate) fn shell(&mut self, script: &str) -> anyhow::Result<String> {
        writeln!(self.port.get_mut(), "{}", json!(script))?;
        let answer = self.read().with_context(|| format!("`{script}` does not end"))?;
        let said = answer["said"].as_str().unwrap_or_default();
        match answer["code"].as_i64() {
            Some(0) => Ok(said.to_owned()),
            code => bail!("`{script}` failed ({code:?}): {said}"),
        }
    }

    fn read(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        self.port.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the machine answered {line:?}"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.machine.kill();
        let _ = self.machine.wait();
    }
}
