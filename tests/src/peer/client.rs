//! A VPN client at home.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::concentrator::Pool;
use super::device::{Device, Implementation};
use super::keys::{Public, Secret};
use super::uapi::{Change, PeerState};
use crate::error::Result;
use crate::layout::plan::{self, Family};
use crate::layout::{Host, Lab};
use crate::traffic::{Probe, Target};

/// A WireGuard client on a [`Host`].
#[derive(Debug)]
pub struct WgClient {
    secret: Secret,
    server: Public,
    endpoint: SocketAddr,
    inner: Ipv4Addr,
    allowed: String,
    keepalive: u16,
    pool: u8,
    port: u16,
    device: Device,
}

impl WgClient {
    /// Starts a client that dials the service whose VIP has the pool's number.
    pub fn start(
        lab: &Lab,
        host: &Host,
        pool: &mut Pool,
        implementation: Implementation,
        family: Family,
    ) -> Result<Self> {
        let endpoint = plan::listener(pool.number(), family);
        Self::dial(lab, host, pool, implementation, endpoint, 0)
    }

    /// Starts a client that dials `endpoint`, with a persistent keepalive in
    /// seconds (0 is none).
    pub fn dial(
        lab: &Lab,
        host: &Host,
        pool: &mut Pool,
        implementation: Implementation,
        endpoint: SocketAddr,
        keepalive: u16,
    ) -> Result<Self> {
        let secret = Secret::generate();
        let server = pool.public();
        let inner = pool.admit(&secret.public())?;
        let port = host.fresh_port();
        let role = format!("c{}k{}", host.number(), port % 100);
        let allowed = plan::inner_network(pool.number());
        let configuration = peer(
            Change::default().private_key(&secret).listen_port(port),
            &server,
            endpoint,
            &allowed,
            keepalive,
        );
        let device = Device::start(lab, host.ns(), &role, implementation, &configuration, inner)?;
        let pool = pool.number();
        Ok(Self { secret, server, endpoint, inner, allowed, keepalive, pool, port, device })
    }

    /// Its device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Its public key.
    pub fn public(&self) -> Public {
        self.secret.public()
    }

    /// The UDP port it sends from.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it dials.
    pub fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// Sends from another UDP port.
    pub fn set_port(&mut self, port: u16) -> Result<()> {
        self.device.change(&Change::default().listen_port(port))?;
        self.port = port;
        Ok(())
    }

    /// Changes its address and its port in the middle of whatever it does.
    pub fn roam(&mut self, host: &Host) -> Result<()> {
        host.switch_uplink()?;
        self.set_port(host.fresh_port())
    }

    /// Forgets its keys with the server and shakes hands again, from the same
    /// address and port, when it next has something to say.
    pub fn rehandshake(&self) -> Result<()> {
        self.device.change(&Change::default().peer(&self.server).remove())?;
        self.device.change(&peer(
            Change::default(),
            &self.server,
            self.endpoint,
            &self.allowed,
            self.keepalive,
        ))
    }

    /// What it knows of its server.
    pub fn server(&self) -> Result<PeerState> {
        self.device.only_peer()
    }

    /// The echo server in the tunnel, from this client's side.
    pub fn target(&self) -> Target {
        Target::in_tunnel(
            self.device.ns().clone(),
            self.device.interface(),
            self.inner,
            plan::inner_server(self.pool),
        )
    }

    /// Sends into the tunnel until something comes back: which concentrator it was.
    pub fn reach(&self, deadline: Duration) -> Result<u8> {
        Probe::open(&self.target())?.reach(deadline)
    }
}

fn peer(
    change: Change,
    server: &Public,
    endpoint: SocketAddr,
    allowed: &str,
    keepalive: u16,
) -> Change {
    change.peer(server).endpoint(endpoint).keepalive(keepalive).allowed_ip(allowed)
}
