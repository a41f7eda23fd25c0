//! A machine on the Internet: two uplinks, of which it uses one at a time.

use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use super::plan::{self, Family, Pair};
use crate::error::Result;
use crate::net::Ns;

/// A home-office machine. Several VPN clients may run on it: to the outside
/// they are clients behind one address.
#[derive(Debug)]
pub struct Host {
    n: u8,
    ns: Ns,
    inet: Ns,
    current: Mutex<Current>,
    ports: AtomicU16,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    uplink: u8,
    addresses: Pair,
}

impl Host {
    pub(super) fn new(n: u8, ns: Ns, inet: Ns) -> Result<Self> {
        let host = Self {
            n,
            ns,
            inet,
            current: Mutex::new(Current { uplink: 0, addresses: plan::uplink(n, 0) }),
            // Below those that the kernel gives to sockets which ask for none: one of them could have it already.
            ports: AtomicU16::new(20_000 + 100 * u16::from(n)),
        };
        host.ns.ip(&host.default_routes(0, plan::uplink(n, 0)))?;
        Ok(host)
    }

    /// Its namespace.
    pub fn ns(&self) -> &Ns {
        &self.ns
    }

    /// Its number in the lab, from 1.
    pub fn number(&self) -> u8 {
        self.n
    }

    /// The address it now sends from.
    pub fn address(&self, family: Family) -> IpAddr {
        family.of(self.current().addresses)
    }

    fn current(&self) -> Current {
        *self.current.lock().expect("no panic holds this lock")
    }

    /// A UDP port nobody used on this host before.
    pub fn fresh_port(&self) -> u16 {
        self.ports.fetch_add(1, Ordering::Relaxed)
    }

    fn default_routes(&self, uplink: u8, source: Pair) -> [String; 2] {
        let peer = plan::uplink_peer(self.n, uplink);
        [
            format!("route replace default via {} dev up{uplink} src {}", peer.v4, source.v4),
            format!("route replace default via {} dev up{uplink} src {}", peer.v6, source.v6),
        ]
    }

    /// Changes to the other uplink: other addresses; the old ones are gone.
    pub fn switch_uplink(&self) -> Result<()> {
        let old = self.current();
        let uplink = 1 - old.uplink;
        let addresses = plan::uplink(self.n, uplink);
        let mut commands = vec![
            format!("addr replace {}/30 dev up{uplink}", addresses.v4),
            format!("addr replace {}/64 dev up{uplink} nodad", addresses.v6),
        ];
        commands.extend(self.default_routes(uplink, addresses));
        // Both families, whatever prefix lengths they have.
        commands.push(format!("addr flush dev up{} scope global", old.uplink));
        self.ns.ip(&commands)?;
        *self.current.lock().expect("no panic holds this lock") = Current { uplink, addresses };
        Ok(())
    }

    /// Takes over addresses that another host has left, as a carrier's NAT
    /// gives an address to another customer.
    pub fn take_over(&self, addresses: Pair) -> Result<()> {
        let current = self.current();
        let uplink = current.uplink;
        let own = plan::uplink(self.n, uplink);
        self.inet.ip(&[
            format!("route replace {}/32 via {}", addresses.v4, own.v4),
            format!("route replace {}/128 via {}", addresses.v6, own.v6),
        ])?;
        let mut commands = vec![
            format!("addr add {}/32 dev up{uplink}", addresses.v4),
            format!("addr add {}/128 dev up{uplink} nodad", addresses.v6),
        ];
        commands.extend(self.default_routes(uplink, addresses));
        self.ns.ip(&commands)?;
        *self.current.lock().expect("no panic holds this lock") = Current { uplink, addresses };
        Ok(())
    }

    /// The addresses it now sends from.
    pub fn addresses(&self) -> Pair {
        self.current().addresses
    }
}
