//! Kernel settings without which the kernel's stack does not forward what XDP hands to it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;

use crate::config::Family;

/// A setting that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting as `sysctl` names it.
    pub key: String,
    /// As it is; `None` if it cannot be read.
    pub found: Option<String>,
    /// As it should be.
    pub wanted: &'static str,
    /// What goes wrong otherwise.
    pub why: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found.as_deref().unwrap_or("unreadable");
        let Self { key, wanted, why, .. } = self;
        write!(f, "{key} is {found}: {why} (`sysctl -w {}={wanted}`)", key.replace('/', "."))
    }
}

/// A setting could not be set.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {key} to {wanted}: {source}")]
pub struct SetError {
    key: String,
    wanted: &'static str,
    source: io::Error,
}

const FORWARD: &str = "what XDP cannot send itself is not forwarded";
const RP_FILTER: &str = "packets are dropped whose way back is another interface";
const ACCEPT_LOCAL: &str =
    "answers that XDP cannot send itself are dropped, because their source is a service's address";

/// Compares the settings of the caller's network namespace with what these interfaces need.
pub fn check(interfaces: &[String], families: &BTreeSet<Family>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut expect = |key: String, wanted: &'static str, why, is_good: &dyn Fn(&str) -> bool| {
        let found = read(&key);
        if !found.as_deref().is_some_and(is_good) {
            problems.push(Problem { key, found, wanted, why });
        }
    };
    let on = |value: &str| value == "1";
    // The stricter of both counts (Documentation/networking/ip-sysctl.rst): 1 is strict, 2 loose.
    let not_strict = |value: &str| value != "1";
    if families.contains(&Family::V4) {
        expect("net/ipv4/ip_forward".to_owned(), "1", FORWARD, &on);
        expect("net/ipv4/conf/all/rp_filter".to_owned(), "0", RP_FILTER, &not_strict);
        for name in interfaces {
            let all_loose = read("net/ipv4/conf/all/rp_filter").as_deref() == Some("2");
            let key = format!("net/ipv4/conf/{name}/rp_filter");
            expect(key, "0", RP_FILTER, &|value| all_loose || not_strict(value));
            expect(format!("net/ipv4/conf/{name}/accept_local"), "1", ACCEPT_LOCAL, &on);
        }
    }
    if families.contains(&Family::V6) {
        expect("net/ipv6/conf/all/forwarding".to_owned(), "1", FORWARD, &on);
    }
    problems
}

/// Sets them. Returns what failed.
pub fn set(problems: &[Problem]) -> Vec<SetError> {
    let set = |problem: &Problem| {
        let Problem { key, wanted, .. } = problem;
        fs::write(format!("/proc/sys/{key}"), wanted)
            .map(|()| tracing::info!(%key, value = wanted, "sysctl set"))
            .map_err(|source| SetError { key: key.clone(), wanted, source })
            .err()
    };
    problems.iter().filter_map(set).collect()
}

fn read(key: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{key}")).ok().map(|value| value.trim().to_owned())
}
