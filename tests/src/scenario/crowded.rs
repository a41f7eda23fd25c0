//! A gateway with many sessions at once: of homes that ask machines which echo.

use crate::error::{LabError, Result};
use crate::gateway::{Config, Gateway, Limits, Rate};
use crate::layout::plan::Family;
use crate::layout::{Host, Kind, Lab, Options, Site, Transport};
use crate::peer::Implementation::{Boringtun, WireguardGo};
use crate::peer::{Pool, WgClient};
use crate::traffic::{Crowd, ECHO_PORT, EchoServer, Target};

use super::SOON;

const KIND: Kind = Kind { prefix: "udp", profile: "udp", ports: &[(ECHO_PORT, Transport::Udp)] };
/// Machines that echo, and homes that ask them.
const MACHINES: usize = 4;
const HOMES: usize = 5;
/// The tenant of those who have tunnels, and its quota.
pub(super) const TUNNELS: &str = "tunnels";
const FEW: u32 = 100;
/// Sockets of those that are silent later, at once: a process may not have many more.
const BATCH: usize = 8_000;
/// Many flows come from few addresses here.
const UNLIMITED: Limits =
    Limits { unestablished_per_source: Rate { rate: 100_000, burst: 100_000 } };

/// The lab, with its gateway.
#[derive(Debug)]
pub(super) struct Crowded {
    pub(super) gateway: Gateway,
    pub(super) config: Config,
    targets: Vec<Target>,
    tunnels: Option<Pool>,
    _servers: Vec<EchoServer>,
    _site: Site,
    lab: Lab,
}

impl Crowded {
    /// Starts it, with tables for so many sessions.
    pub(super) fn start(max_sessions: u32) -> Result<Self> {
        Self::lay_out(max_sessions, false)
    }

    /// The same, with concentrators of WireGuard beside the machines that echo, for clients with sessions that move.
    pub(super) fn with_tunnels(max_sessions: u32) -> Result<Self> {
        Self::lay_out(max_sessions, true)
    }

    fn lay_out(max_sessions: u32, has_tunnels: bool) -> Result<Self> {
        let lab = Lab::new(Options::default())?;
        let site = lab.site("crowd", KIND, MACHINES)?;
        let mut servers = Vec::new();
        for station in site.stations() {
            for family in [Family::V4, Family::V6] {
                let at = station.address(family);
                servers.push(EchoServer::start(station.ns(), at, station.number())?);
            }
        }
        let tunnels =
            has_tunnels.then(|| lab.pool(TUNNELS, &[WireguardGo, Boringtun])).transpose()?;
        let mut config = Config::new(&lab).with_site(&site, max_sessions);
        if let Some(pool) = &tunnels {
            config = config.with_tenant(pool, FEW);
        }
        config.gateway.max_sessions = max_sessions;
        config.limits = Some(UNLIMITED);
        let gateway = Gateway::start(&lab, &config)?;
        gateway.await_backends(SOON)?;
        let mut targets = Vec::new();
        for _ in 0..HOMES {
            let home = lab.host()?;
            for family in [Family::V4, Family::V6] {
                targets.push(Target::outside(home.ns(), site.vip(family).ip()));
            }
        }
        Ok(Self { gateway, config, targets, tunnels, _servers: servers, _site: site, lab })
    }

    /// A client of WireGuard on a machine of its own, if there are concentrators.
    pub(super) fn tunnel(&mut self, family: Family) -> Result<(Host, WgClient)> {
        let none = || LabError::Scenario("there are no concentrators".to_owned());
        let pool = self.tunnels.as_mut().ok_or_else(none)?;
        let host = self.lab.host()?;
        let client = WgClient::start(&self.lab, &host, pool, WireguardGo, family)?;
        Ok((host, client))
    }

    /// Opens so many sessions (rounded up to the same number for each home and family), on which requests go on.
    pub(super) fn crowd(&self, sessions: usize, rate: u32) -> Result<Crowd> {
        let crowd = Crowd::start(&self.targets, sessions.div_ceil(self.targets.len()), rate)?;
        crowd.wait_for(5, SOON * 3)?;
        // Some of the first ones are lost while the kernel asks for neighbours.
        let crowd = crowd.anew()?;
        crowd.wait_for(5, SOON)?;
        Ok(crowd)
    }

    /// Opens so many sessions, on which nothing is sent any more, before so many busy ones. These may get ports of silent ones, whose
    /// sessions are theirs then: so there are that many more.
    pub(super) fn idle_beside(&self, idle: usize, busy: usize) -> Result<()> {
        if idle == 0 {
            return Ok(());
        }
        let sessions = idle + busy;
        loop {
            let open = self.gateway.call(&["status"])?["sessions"].as_u64().unwrap_or(0) as usize;
            // A port may be one that was used before.
            let some = sessions.saturating_sub(open).min(BATCH);
            if some == 0 {
                return Ok(());
            }
            let rate = some as u32;
            let crowd = Crowd::start(&self.targets, some.div_ceil(self.targets.len()), rate)?;
            crowd.wait_for(2, SOON * 6)?;
        }
    }
}
