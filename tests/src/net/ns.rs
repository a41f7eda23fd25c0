//! One network namespace.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{LabError, Result, Tried};
use crate::process::run;

/// Where `ip netns` keeps its namespaces.
const NETNS: &str = "/run/netns";

/// A named network namespace of a lab. Clones mean the same namespace.
///
/// Everything else of the host is seen from inside unchanged, bpffs and /run
/// too: `ip netns exec`, which mounts another /sys, is not used.
#[derive(Clone, Debug)]
pub struct Ns {
    name: String,
    fd: Arc<OwnedFd>,
}

impl Ns {
    /// Opens a namespace that `ip netns add` made.
    pub fn open(name: &str) -> Result<Self> {
        let path = Path::new(NETNS).join(name);
        let fd = File::open(&path).tried(|| format!("opening {}", path.display()))?;
        Ok(Self { name: name.to_owned(), fd: Arc::new(fd.into()) })
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it, for `nsenter --net=`.
    pub fn path(&self) -> String {
        format!("{NETNS}/{}", self.name)
    }

    pub(crate) fn fd(&self) -> Arc<OwnedFd> {
        self.fd.clone()
    }

    /// Runs `work` inside, on a thread of its own. Sockets made there stay in
    /// the namespace wherever they are used afterwards.
    ///
    /// # Panics
    /// When `work` panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
                    .tried(|| format!("entering the namespace {}", self.name))?;
                Ok(work())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a program inside to its end; its standard output.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        run_to_end(program, args, Some(self))
    }

    /// Runs a list of `ip` commands inside (without the leading `ip`), all in
    /// one process; the first error ends it.
    pub fn ip<S: AsRef<str>>(&self, commands: &[S]) -> Result<()> {
        ip_batch(Some(self), commands)
    }

    /// Sets a kernel parameter of the namespace, like `net/ipv4/ip_forward`.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.enter(|| {
            let path = Path::new("/proc/sys").join(name);
            fs::write(&path, value).tried(|| format!("writing {value} to {}", path.display()))
        })?
    }

    /// Packets that the queues of this namespace's interfaces had no place for.
    pub fn dropped_by_queues(&self) -> Result<u64> {
        let text = self.run("ip", &["-j", "-s", "link", "show"])?;
        let links: Vec<serde_json::Value> = serde_json::from_str(&text)
            .map_err(|e| LabError::Scenario(format!("`ip` shows no links: {e}")))?;
        let dropped = |link: &serde_json::Value| {
            ["rx", "tx"].map(|way| link["stats64"][way]["dropped"].as_u64().unwrap_or(0))
        };
        Ok(links.iter().flat_map(dropped).sum())
    }

    /// What was lost within it: what has counted drops or errors, of its interfaces and of its sockets, and how many.
    pub fn losses(&self) -> Result<Vec<(String, u64)>> {
        let text = self.run("ip", &["-j", "-s", "-s", "link", "show"])?;
        let links: Vec<serde_json::Value> = serde_json::from_str(&text)
            .map_err(|e| LabError::Scenario(format!("`ip` shows no links: {e}")))?;
        let mut losses = Vec::new();
        for link in &links {
            let name = link["ifname"].as_str().unwrap_or_default();
            for way in ["rx", "tx"] {
                let counters = link["stats64"][way].as_object().into_iter().flatten();
                let of_loss = |name: &str| {
                    !matches!(name, "bytes" | "packets" | "multicast" | "carrier_changes")
                };
                losses.extend(
                    counters
                        .filter(|(counter, _)| of_loss(counter))
                        .map(|(c, n)| (format!("{name} {way} {c}"), n.as_u64().unwrap_or(0))),
                );
            }
        }
        // Of this thread: the process may be in another namespace.
        for file in ["/proc/thread-self/net/snmp", "/proc/thread-self/net/snmp6"] {
            let text = self.enter(|| fs::read_to_string(file))?;
            losses.extend(socket_losses(&text.tried(|| format!("reading {file}"))?));
        }
        losses.retain(|(_, count)| *count > 0);
        Ok(losses)
    }

    /// The MAC of an interface.
    pub(crate) fn mac(&self, interface: &str) -> Result<[u8; 6]> {
        let text = self.run("ip", &["-j", "link", "show", "dev", interface])?;
        let links = serde_json::from_str::<serde_json::Value>(&text).ok();
        let mac = links.as_ref().and_then(|links| links[0]["address"].as_str());
        let byte = |text| u8::from_str_radix(text, 16).ok();
        mac.and_then(|mac| mac.split(':').map(byte).collect::<Option<Vec<_>>>()?.try_into().ok())
            .ok_or_else(|| LabError::Scenario(format!("`ip` shows no MAC of {interface}")))
    }

    /// A counter of an interface, like `rx_packets`.
    pub fn interface_counter(&self, interface: &str, counter: &str) -> Result<u64> {
        let text = self.run("ip", &["-j", "-s", "-s", "link", "show", "dev", interface])?;
        let (direction, field) = counter.split_once('_').unwrap_or(("", counter));
        serde_json::from_str::<serde_json::Value>(&text)
            .ok()
            .and_then(|links| links[0]["stats64"][direction][field].as_u64())
            .ok_or_else(|| LabError::Scenario(format!("`ip` shows no {counter} of {interface}")))
    }
}

/// What UDP sockets lost, of `snmp`, where a line of names comes before one of numbers, and `snmp6`, where each has its line.
fn socket_losses(snmp: &str) -> Vec<(String, u64)> {
    let of_loss = |name: &str| name.ends_with("Errors");
    let mut losses = Vec::new();
    let lines: Vec<_> = snmp.lines().map(|line| line.split_whitespace()).collect();
    for pair in lines.windows(2) {
        let (mut names, mut numbers) = (pair[0].clone(), pair[1].clone());
        if names.next() == Some("Udp:") && numbers.next() == Some("Udp:") {
            let counted = names.zip(numbers.filter_map(|number| number.parse().ok()));
            losses.extend(
                counted
                    .filter(|(name, _)| of_loss(name))
                    .map(|(name, n)| (format!("Udp{name}"), n)),
            );
        }
    }
    for mut line in lines {
        if let (Some(name), Some(Ok(count))) = (line.next(), line.next().map(str::parse))
            && name.starts_with("Udp6")
            && of_loss(name)
        {
            losses.push((name.to_owned(), count));
        }
    }
    losses
}

/// Runs a list of `ip` commands in one process.
pub(crate) fn ip_batch<S: AsRef<str>>(ns: Option<&Ns>, commands: &[S]) -> Result<()> {
    // A batch comes on standard input, so that no file has to be cleaned up:
    // it is short enough for the pipe to take it before the process runs.
    let (reader, mut writer) = std::io::pipe().tried(|| "making a pipe".to_owned())?;
    for line in commands {
        writeln!(writer, "{}", line.as_ref()).tried(|| "writing a batch for ip".to_owned())?;
    }
    drop(writer);
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).stdin(reader);
    let listing = || commands.iter().map(|c| c.as_ref()).collect::<Vec<_>>().join("; ");
    finish(command, ns, listing).map(|_| ())
}

/// Runs a program to its end; its standard output.
pub(crate) fn run_to_end<A: AsRef<OsStr>>(
    program: &str,
    args: &[A],
    ns: Option<&Ns>,
) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let described = || {
        let mut words = vec![program.to_owned()];
        words.extend(args.iter().map(|a| a.as_ref().display().to_string()));
        words.join(" ")
    };
    finish(command, ns, described)
}

fn finish(command: Command, ns: Option<&Ns>, described: impl Fn() -> String) -> Result<String> {
    let output = run(command, ns.map(Ns::fd)).tried(|| format!("running `{}`", described()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(LabError::Command {
        command: described(),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sockets_lost_is_read() {
        let snmp = "Udp: InDatagrams NoPorts InErrors RcvbufErrors\nUdp: 7 2 5 4\n\
                    UdpLite: InDatagrams InErrors\nUdpLite: 0 9\n";
        let of = |name: &str, count| (name.to_owned(), count);
        assert_eq!(socket_losses(snmp), [of("UdpInErrors", 5), of("UdpRcvbufErrors", 4)]);
        let snmp6 = "Ip6InReceives\t11\nUdp6InErrors  \t3\nUdp6InDatagrams 8\nUdpLite6InErrors 6\n";
        assert_eq!(socket_losses(snmp6), [of("Udp6InErrors", 3)]);
    }
}
