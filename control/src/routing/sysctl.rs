//! Kernel settings without which the stack drops what XDP hands it.
//!
//! XDP sends most packets itself. Those it cannot send (a neighbour that is not known, a packet
//! to fragment) go to the kernel's stack, already translated: it must forward, and
//! must not take exception to their source addresses.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::mirror::{MirrorError, dump};
use super::socket::Requester;
use super::state::State;
use super::view::ViewSpec;
use crate::config::Family;

/// What the gateway needs of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Names of the gateway's interfaces, and of VLANs on them that packets leave by.
    pub interfaces: BTreeSet<String>,
    /// Those of them that backends send their answers to.
    pub backends: BTreeSet<String>,
    /// There are IPv4 services.
    pub ipv4: bool,
    /// There are IPv6 services.
    pub ipv6: bool,
}

/// A setting that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its name, as `sysctl` has it: `net.ipv4.ip_forward`.
    pub path: String,
    /// What it is; empty if it cannot be read.
    pub found: String,
    /// What it should be.
    pub wanted: String,
    /// What goes wrong.
    pub why: &'static str,
    /// The command that sets it.
    pub command: String,
}

impl Needs {
    /// Finds out what is needed, from the kernel's routes as they are now. If they cannot be read,
    /// backends are expected on every interface.
    pub async fn find(
        interfaces: &[String],
        families: &BTreeSet<Family>,
        backends: &BTreeSet<IpAddr>,
    ) -> Self {
        let mut needs = Self {
            interfaces: interfaces.iter().cloned().collect(),
            backends: interfaces.iter().cloned().collect(),
            ipv4: families.contains(&Family::V4),
            ipv6: families.contains(&Family::V6),
        };
        let state = match Requester::open() {
            Ok(mut requester) => dump(&mut requester).await,
            Err(error) => Err(MirrorError::Socket(error)),
        };
        match state {
            Ok(state) => needs.learn(&state, backends),
            Err(error) => tracing::warn!("{error}"),
        }
        needs
    }

    /// Takes the VLANs on the interfaces in, and leaves interfaces without backends out.
    fn learn(&mut self, state: &State, backends: &BTreeSet<IpAddr>) {
        let name = |index: u32| state.links().get(&index).map(|link| link.name.clone());
        let vlans = state.links().values().filter(|link| {
            let lower = link.vlan.and_then(|tagged| name(tagged.lower?));
            lower.is_some_and(|lower| self.interfaces.contains(&lower))
        });
        let vlans: Vec<_> = vlans.map(|link| link.name.clone()).collect();
        self.interfaces.extend(vlans);
        let spec = ViewSpec { backends: backends.clone(), ..ViewSpec::default() };
        let towards: BTreeSet<_> =
            state.view(&spec).backends.values().filter_map(|key| name(key.interface)).collect();
        self.backends = self.interfaces.intersection(&towards).cloned().collect();
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, found, why, command, .. } = self;
        if found.is_empty() {
            write!(f, "{path} cannot be read: {why} (`{command}`)")
        } else {
            write!(f, "{path} is {found}: {why} (`{command}`)")
        }
    }
}

/// A setting could not be changed.
#[derive(Debug, Error)]
#[error("cannot set {path} to {wanted}: {source}")]
pub struct SetError {
    /// Its name.
    pub path: String,
    /// What it should be.
    pub wanted: String,
    /// What the kernel said.
    pub source: io::Error,
}

/// Looks the settings up in the calling thread's network namespace.
pub fn check(needs: &Needs) -> Vec<Problem> {
    Settings::default().check(needs)
}

/// Changes the settings that are wrong. /// Returns those that could not be changed.
pub fn set(problems: &[Problem]) -> Vec<SetError> {
    Settings::default().set(problems)
}

const FORWARD: &str = "IPv4 packets that XDP leaves to the kernel are not forwarded";
const FORWARD6: &str = "IPv6 packets that XDP leaves to the kernel are not forwarded \
                        (interfaces that learn routes from router advertisements then need accept_ra=2)";
const REVERSE: &str = "strict reverse-path filtering drops packets whose way back leads elsewhere; \
                       2 is loose, 0 is off";
const LOCAL: &str = "answers of backends that XDP leaves to the kernel have a service address as \
                     their source, and are dropped as forged";

struct Settings {
    root: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self { root: PathBuf::from("/proc/sys") }
    }
}

impl Settings {
    fn check(&self, needs: &Needs) -> Vec<Problem> {
        let mut problems = Vec::new();
        if needs.ipv4 {
            self.check_ipv4(needs, &mut problems);
        }
        // Unlike IPv4, IPv6 forwards between all interfaces or none.
        let all = ["net", "ipv6", "conf", "all", "forwarding"];
        if needs.ipv6 && self.number(&all).unwrap_or(0) == 0 {
            problems.push(self.problem(&all, "1", FORWARD6));
        }
        problems
    }

    fn check_ipv4(&self, needs: &Needs, problems: &mut Vec<Problem>) {
        let everywhere = ["net", "ipv4", "ip_forward"];
        let forwards = self.number(&everywhere) == Some(1);
        let key = |interface, setting| ["net", "ipv4", "conf", interface, setting];
        // Setting it for all interfaces sets it for each, but each can be changed afterwards.
        let off: Vec<_> = needs
            .interfaces
            .iter()
            .filter(|name| self.number(&key(name, "forwarding")).unwrap_or(0) == 0)
            .collect();
        if forwards {
            let single = off.iter().map(|n| self.problem(&key(n, "forwarding"), "1", FORWARD));
            problems.extend(single);
        } else if !off.is_empty() || needs.interfaces.is_empty() {
            problems.push(self.problem(&everywhere, "1", FORWARD));
        }
        let all = self.number(&key("all", "rp_filter")).unwrap_or(0);
        for name in &needs.interfaces {
            let key = key(name, "rp_filter");
            // The kernel uses the larger of both.
            if self.number(&key).is_none_or(|own| own.max(all) == 1) {
                problems.push(self.problem(&key, "2", REVERSE));
            }
        }
        let all = self.number(&key("all", "accept_local")).unwrap_or(0);
        for name in &needs.backends {
            let key = key(name, "accept_local");
            if all == 0 && self.number(&key).unwrap_or(0) == 0 {
                problems.push(self.problem(&key, "1", LOCAL));
            }
        }
    }

    fn problem(&self, key: &[&str], wanted: &str, why: &'static str) -> Problem {
        // A dot in an interface's name needs the form with slashes.
        let separator = if key.iter().any(|part| part.contains('.')) { "/" } else { "." };
        let path = key.join(separator);
        Problem {
            found: self.read(key).unwrap_or_default(),
            wanted: wanted.to_owned(),
            why,
            command: format!("sysctl -w {path}={wanted}"),
            path,
        }
    }

    fn set(&self, problems: &[Problem]) -> Vec<SetError> {
        let set = |Problem { path, wanted, .. }: &Problem| {
            std::fs::write(self.root.join(file_of(path)), wanted)
                .map(|()| tracing::info!("{path} set to {wanted}"))
                .map_err(|source| SetError { path: path.clone(), wanted: wanted.clone(), source })
                .err()
        };
        problems.iter().filter_map(set).collect()
    }

    fn number(&self, key: &[&str]) -> Option<u32> {
        self.read(key)?.parse().ok()
    }

    fn read(&self, key: &[&str]) -> Option<String> {
        let file = self.root.join(key.iter().collect::<PathBuf>());
        std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
    }
}

/// The file of a setting's name in either form.
fn file_of(path: &str) -> PathBuf {
    let separator = if path.contains('/') { '/' } else { '.' };
    path.split(separator).map(Path::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::netns::Namespace;

    fn needs(interfaces: &[&str], backends: &[&str]) -> Needs {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Needs { interfaces: names(interfaces), backends: names(backends), ipv4: true, ipv6: true }
    }

    fn paths(problems: &[Problem]) -> Vec<&str> {
        problems.iter().map(|problem| problem.path.as_str()).collect()
    }

    #[test]
    fn finds_and_sets_what_is_wrong_in_its_own_namespace() {
        let namespace = Namespace::new();
        namespace.ip("link add wan type veth peer name lan");
        namespace.run(|| {
            std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").unwrap();
            std::fs::write("/proc/sys/net/ipv4/conf/wan/rp_filter", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv4/conf/lan/rp_filter", "0").unwrap();
            let needs = needs(&["wan", "lan"], &["lan"]);
            let problems = check(&needs);
            assert_eq!(
                paths(&problems),
                [
                    "net.ipv4.ip_forward",
                    "net.ipv4.conf.wan.rp_filter",
                    "net.ipv4.conf.lan.accept_local",
                    "net.ipv6.conf.all.forwarding",
                ]
            );
            assert_eq!(problems[0].command, "sysctl -w net.ipv4.ip_forward=1");
            assert_eq!(problems[1].found, "1");
            assert!(set(&problems).is_empty(), "root may");
            assert_eq!(check(&needs), []);
            let read = |path: &str| std::fs::read_to_string(path).unwrap();
            assert_eq!(read("/proc/sys/net/ipv4/ip_forward"), "1\n");

            // Strict for all interfaces is strict for one that is off, not for one that is loose.
            std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap();
            assert_eq!(paths(&check(&needs)), ["net.ipv4.conf.lan.rp_filter"]);
            std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "2").unwrap();
            assert_eq!(check(&needs), []);

            // One interface alone can be left out of forwarding.
            std::fs::write("/proc/sys/net/ipv4/conf/lan/forwarding", "0").unwrap();
            assert_eq!(paths(&check(&needs)), ["net.ipv4.conf.lan.forwarding"]);
        });
    }

    #[test]
    fn says_it_in_a_line() {
        let settings = Settings { root: PathBuf::from("/nonexistent") };
        let dotted = settings.problem(&["net", "ipv4", "conf", "wan0.7", "rp_filter"], "2", "why");
        assert_eq!(dotted.command, "sysctl -w net/ipv4/conf/wan0.7/rp_filter=2");
        assert_eq!(file_of(&dotted.path), Path::new("net/ipv4/conf/wan0.7/rp_filter"));
        assert_eq!(
            dotted.to_string(),
            "net/ipv4/conf/wan0.7/rp_filter cannot be read: why \
             (`sysctl -w net/ipv4/conf/wan0.7/rp_filter=2`)"
        );
        let error = settings.set(&[dotted]);
        assert!(error[0].to_string().starts_with("cannot set net/ipv4/conf/wan0.7/rp_filter"));
    }
}
