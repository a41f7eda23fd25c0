//! What the tests share.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use lab::Lab;
use lab::gate::{self, Place};
use lab::peer::Implementation::{self, Boringtun, WireguardGo};
use lab::scenario::{Claim, Farm, FarmPlan, PoolPlan};

/// Clients and concentrators of a test that is not about implementations take turns.
pub(crate) const MIXED: [Implementation; 3] = [WireguardGo, Boringtun, WireguardGo];
/// A quota nobody reaches.
pub(crate) const PLENTY: u32 = 1000;

/// A farm with one tenant and three concentrators, as soon as the machine has room for it.
pub(crate) fn farm() -> (Place, Farm) {
    start(&FarmPlan::new(&[one_pool(PLENTY)]))
}

/// Three concentrators of both implementations, for one tenant.
pub(crate) fn one_pool(max_sessions: u32) -> PoolPlan<'static> {
    PoolPlan { name: "justiz", concentrators: &MIXED, max_sessions }
}

/// Starts a farm, as soon as the machine has room for it.
pub(crate) fn start(plan: &FarmPlan<'_>) -> (Place, Farm) {
    let place = gate::enter().unwrap();
    let farm = Farm::start(plan).unwrap_or_else(|e| panic!("the farm does not start: {e}"));
    (place, farm)
}

/// Fails with everything that is not as claimed.
#[track_caller]
pub(crate) fn holds(claim: &impl Claim) {
    println!("{}", claim.summary());
    let failures = claim.failures();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Limits packets from the gateway to an address to so many bytes.
pub(crate) fn limit(lab: &Lab, address: IpAddr, mtu: u16) {
    let found = lab.gateway().run("ip", &["-j", "route", "get", &address.to_string()]).unwrap();
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    let word = |key: &str| found[0][key].as_str().map(str::to_owned);
    let via = word("gateway").map(|gateway| format!("via {gateway} ")).unwrap_or_default();
    let device = word("dev").unwrap();
    lab.gateway().ip(&[format!("route replace {address} {via}dev {device} mtu {mtu}")]).unwrap();
}

/// What the daemon tells Prometheus: head and body.
pub(crate) fn scrape(farm: &Farm) -> (String, String) {
    let exchange = || {
        let mut stream = TcpStream::connect("127.0.0.1:9477")?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let text = farm.gateway().ns().enter(exchange).unwrap().unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// A process that is stopped, and goes on with the guard's end.
pub(crate) struct Stopped(String);

impl Stopped {
    pub(crate) fn new(pid: u32) -> Self {
        let pid = pid.to_string();
        assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-CONT", &self.0]).status();
    }
}
