//! A whole lab.

use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};

use super::cable::Wiring;
use super::host::Host;
use super::plan::{self, LAN};
use super::site::{Kind, Site, Station};
use super::wire::{End, connect, namespace};
use crate::error::{LabError, Result};
use crate::net::Ns;
use crate::peer::{Implementation, Pool};
use crate::preflight::preflight;
use crate::process::Lifetime;
use crate::record::{self, Record};

/// What a lab can be asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Lets the lab stand when it is dropped and when this process ends, until
    /// [`crate::record::remove`] takes it down.
    pub keep: bool,
}

/// A simulated Internet, a gateway and an inside network. Dropping it takes
/// everything down; should the process be killed, the next lab does.
#[derive(Debug)]
pub struct Lab {
    inet: Ns,
    gateway: Ns,
    inside: Ns,
    hosts: AtomicU8,
    pools: AtomicU8,
    concentrators: AtomicU8,
    keep: bool,
    record: Record,
}

impl Lab {
    /// Lays out a lab. Labs of processes that are gone are taken down first.
    pub fn new(options: Options) -> Result<Self> {
        preflight()?;
        record::reap_stale()?;
        let record = Record::create()?;
        let made = Self::lay_out(record, options);
        if let Err(LabError::Command { command, stderr, .. }) = &made
            && command.starts_with("netns add")
        {
            return Err(LabError::Impossible(format!("`ip {command}`: {stderr}")));
        }
        made
    }

    fn lay_out(record: Record, options: Options) -> Result<Self> {
        let wiring = Wiring::from_environment()?;
        let router = [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];
        let mut lab = Self {
            inet: namespace(&record.namespace("inet"), &router)?,
            gateway: namespace(&record.namespace("gw"), &router)?,
            inside: namespace(&record.namespace("in"), &[])?,
            hosts: AtomicU8::new(0),
            pools: AtomicU8::new(0),
            concentrators: AtomicU8::new(0),
            keep: options.keep,
            record,
        };
        for n in [0, 1] {
            lab.connect_wan(n, &wiring)?;
        }
        lab.connect_lan(&wiring)?;
        lab.route()?;
        if options.keep {
            lab.record.keep()?;
        }
        Ok(lab)
    }

    fn connect_wan(&self, n: u8, wiring: &Wiring) -> Result<()> {
        wiring.connect(
            usize::from(n),
            &End {
                ns: &self.gateway,
                interface: &format!("wan{n}"),
                addresses: Some((plan::wan(n), 30, 64)),
                receives_xdp: false,
            },
            &End {
                ns: &self.inet,
                interface: &format!("gw{n}"),
                addresses: Some((plan::wan_peer(n), 30, 64)),
                receives_xdp: true,
            },
        )
    }

    fn connect_lan(&self, wiring: &Wiring) -> Result<()> {
        self.inside.ip(&["link add br0 type bridge mcast_snooping 0", "link set br0 up"])?;
        wiring.connect(
            2,
            &End {
                ns: &self.gateway,
                interface: "lan0",
                addresses: Some((LAN, 16, 64)),
                receives_xdp: false,
            },
            &End { ns: &self.inside, interface: "gw", addresses: None, receives_xdp: true },
        )?;
        self.inside.ip(&["link set gw master br0"])
    }

    fn route(&self) -> Result<()> {
        let (to_inet, to_gateway) = (plan::wan_peer(0), plan::wan(0));
        let mut gateway = vec![
            format!("route add default via {}", to_inet.v4),
            format!("route add default via {}", to_inet.v6),
        ];
        for n in 0..plan::VIPS {
            gateway.push(format!("addr add {}/32 dev lo", plan::vip(n).v4));
            gateway.push(format!("addr add {}/128 dev lo nodad", plan::vip(n).v6));
        }
        self.gateway.ip(&gateway)?;
        let mut inet =
            vec!["route add blackhole default".to_owned(), "route add blackhole ::/0".to_owned()];
        for (v4, v6) in [("203.0.113.0/24", "2001:db8:f::/48"), ("10.20.0.0/16", "fd00:20::/64")] {
            inet.push(format!("route add {v4} via {}", to_gateway.v4));
            inet.push(format!("route add {v6} via {}", to_gateway.v6));
        }
        for own in [plan::SERVER, plan::IMPOSTOR] {
            inet.push(format!("addr add {}/32 dev lo", own.v4));
            inet.push(format!("addr add {}/128 dev lo nodad", own.v6));
        }
        self.inet.ip(&inet)
    }

    /// Where packets were lost in the lab, but for the gateway's program, which counts its own: namespaces, what has counted, and how many.
    pub fn losses(&self) -> Result<Vec<String>> {
        let mut losses = Vec::new();
        for name in record::namespaces_of(self.id()) {
            let of_one = Ns::open(&name)?.losses()?.into_iter();
            losses.extend(of_one.map(|(what, count)| format!("{name}: {what} {count}")));
        }
        Ok(losses)
    }

    /// Puts the Internet beside the concentrators, so that the gateway has one
    /// arm, `lan0`, for both. Its wan interfaces go down.
    pub fn make_one_armed(&self) -> Result<()> {
        let routes = ["203.0.113.0/24", "2001:db8:f::/48", "10.20.0.0/16", "fd00:20::/64"];
        let gone: Vec<String> = routes.iter().map(|route| format!("route del {route}")).collect();
        self.inet.ip(&gone)?;
        self.gateway.ip(&["link set wan0 down", "link set wan1 down"])?;
        // Who comes in and goes out by one interface is told of a shorter way, around the gateway.
        self.gateway.sysctl("net/ipv4/conf/all/send_redirects", "0")?;
        self.gateway.sysctl("net/ipv4/conf/lan0/send_redirects", "0")?;
        self.connect_inside((16, 64))?;
        self.inet.ip(&[
            format!("route add {} via {}", routes[0], LAN.v4),
            format!("route add {} via {}", routes[1], LAN.v6),
        ])?;
        self.gateway.ip(&[
            format!("route replace default via {}", plan::LAN_PEER.v4),
            format!("route replace default via {}", plan::LAN_PEER.v6),
        ])
    }

    /// Tags all between the gateway and the inside, as on a trunk: `lan0` carries a VLAN interface, `tagged`.
    pub fn tag_inside(&self, id: u16) -> Result<()> {
        self.gateway.ip(&[
            format!("link add link lan0 name tagged type vlan id {id}"),
            "addr flush dev lan0 scope global".to_owned(),
            format!("addr add {}/16 dev tagged", LAN.v4),
            format!("addr add {}/64 dev tagged nodad", LAN.v6),
            "link set tagged up".to_owned(),
        ])?;
        self.inside.ip(&[
            "link set gw nomaster".to_owned(),
            format!("link add link gw name tagged type vlan id {id}"),
            "link set tagged master br0 up".to_owned(),
        ])
    }

    /// Gives a site's machines its VIP, and another way to the Internet than the gateway, so that they answer clients by
    /// themselves. What has no address of its own to answer from takes the VIP.
    pub fn let_answer(&self, site: &Site) -> Result<()> {
        self.hide_inside()?;
        self.connect_inside((32, 128))?;
        let (vip, to) = (plan::vip(site.number()), plan::LAN_PEER);
        for station in site.stations() {
            station.ns().ip(&[
                format!("addr add {}/32 dev lo", vip.v4),
                format!("addr add {}/128 dev lo nodad", vip.v6),
                format!("route replace default via {} src {}", to.v4, vip.v4),
                format!("route replace default via {} src {}", to.v6, vip.v6),
            ])?;
        }
        Ok(())
    }

    /// Connects the Internet with the bridge inside. It has the inside's networks behind it, or nothing, with prefixes of these lengths.
    fn connect_inside(&self, (v4, v6): (u8, u8)) -> Result<()> {
        connect(
            &End {
                ns: &self.inet,
                interface: "arm",
                addresses: Some((plan::LAN_PEER, v4, v6)),
                receives_xdp: false,
            },
            &End { ns: &self.inside, interface: "inet", addresses: None, receives_xdp: false },
        )?;
        self.inside.ip(&["link set inet master br0"])
    }

    /// Puts a site's machines behind a router, too, with links that take packets of so many bytes. Once in a lab.
    pub fn put_behind_router(&self, site: &Site, mtu: u16) -> Result<()> {
        let forwards = [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];
        let router = namespace(&self.record.namespace("rt"), &forwards)?;
        connect(
            &End {
                ns: &router,
                interface: "eth0",
                addresses: Some((plan::ROUTER, 16, 64)),
                receives_xdp: false,
            },
            &End { ns: &self.inside, interface: "rt", addresses: None, receives_xdp: false },
        )?;
        self.inside.ip(&["link set rt master br0"])?;
        router.ip(&[
            format!("route add default via {}", LAN.v4),
            format!("route add default via {}", LAN.v6),
        ])?;
        for station in site.stations() {
            let (n, ns) = (station.number(), station.ns());
            connect(
                &End {
                    ns,
                    interface: "far0",
                    addresses: Some((plan::routed(n), 30, 64)),
                    receives_xdp: false,
                },
                &End {
                    ns: &router,
                    interface: &format!("b{n}"),
                    addresses: Some((plan::router(n), 30, 64)),
                    receives_xdp: false,
                },
            )?;
        }
        self.narrow_behind_router(site, mtu)?;
        self.gateway.ip(&[
            format!("route add 10.21.0.0/16 via {}", plan::ROUTER.v4),
            format!("route add fd00:21::/32 via {}", plan::ROUTER.v6),
        ])
    }

    /// Changes the size of packets that these links take.
    pub fn narrow_behind_router(&self, site: &Site, mtu: u16) -> Result<()> {
        let router = Ns::open(&self.record.namespace("rt"))?;
        for station in site.stations() {
            station.ns().ip(&[format!("link set far0 mtu {mtu}")])?;
            router.ip(&[format!("link set b{} mtu {mtu}", station.number())])?;
        }
        Ok(())
    }

    /// Takes away the Internet's routes to the machines inside, as it usually has none: only the
    /// VIPs are reached. Concentrators with MOBIKE tell clients their own addresses, which clients
    /// that roam try.
    pub fn hide_inside(&self) -> Result<()> {
        self.inet.ip(&["route del 10.20.0.0/16", "route del fd00:20::/64"])
    }

    /// Four letters that name this lab among all on the machine.
    pub fn id(&self) -> &str {
        self.record.id()
    }

    /// The directory for its logs, records and pins.
    pub fn dir(&self) -> &Path {
        self.record.dir()
    }

    /// The Internet.
    pub fn inet(&self) -> &Ns {
        &self.inet
    }

    /// The gateway's namespace, with `wan0`, `wan1` and `lan0`.
    pub fn gateway(&self) -> &Ns {
        &self.gateway
    }

    /// The bridge between the gateway and the concentrators.
    pub fn inside(&self) -> &Ns {
        &self.inside
    }

    /// The name of a tunnel's interface for `role`.
    pub(crate) fn interface(&self, role: &str) -> String {
        self.record.interface(role)
    }

    /// How long processes of this lab may live.
    pub(crate) fn lifetime(&self) -> Lifetime {
        if self.keep { Lifetime::Kept } else { Lifetime::Ours }
    }

    /// Connects another machine to the Internet, with two uplinks.
    ///
    /// # Panics
    /// Beyond [`plan::MAX_HOSTS`].
    pub fn host(&self) -> Result<Host> {
        let n = next(&self.hosts, plan::MAX_HOSTS);
        let ns = namespace(&self.record.namespace(&format!("c{n}")), &[])?;
        for u in [0, 1] {
            connect(
                &End {
                    ns: &ns,
                    interface: &format!("up{u}"),
                    addresses: Some((plan::uplink(n, u), 30, 64)),
                    receives_xdp: false,
                },
                &End {
                    ns: &self.inet,
                    interface: &format!("c{n}u{u}"),
                    addresses: Some((plan::uplink_peer(n, u), 30, 64)),
                    receives_xdp: false,
                },
            )?;
        }
        Host::new(n, ns, self.inet.clone())
    }

    /// Starts a pool of WireGuard concentrators that share one configuration, one for
    /// each given implementation.
    ///
    /// # Panics
    /// Beyond [`plan::MAX_CONCENTRATORS`].
    pub fn pool(&self, name: &str, implementations: &[Implementation]) -> Result<Pool> {
        Pool::start(self, name, implementations)
    }

    /// Sets up machines inside for a pool of servers; it gets the next VIP. What runs
    /// on them is started by whoever asks ([`crate::peer`]).
    ///
    /// # Panics
    /// Beyond [`plan::MAX_CONCENTRATORS`].
    pub fn site(&self, name: &str, kind: Kind, machines: usize) -> Result<Site> {
        let number = next(&self.pools, u8::MAX) - 1;
        let stations = (0..machines).map(|_| self.station(kind.prefix)).collect::<Result<_>>()?;
        Ok(Site::new(name, number, kind, stations))
    }

    fn station(&self, prefix: &str) -> Result<Station> {
        let n = next(&self.concentrators, plan::MAX_CONCENTRATORS);
        let ns = namespace(&self.record.namespace(&format!("b{n}")), &[])?;
        connect(
            &End {
                ns: &ns,
                interface: "eth0",
                addresses: Some((plan::concentrator(n), 16, 64)),
                receives_xdp: false,
            },
            &End {
                ns: &self.inside,
                interface: &format!("b{n}"),
                addresses: None,
                receives_xdp: false,
            },
        )?;
        self.inside.ip(&[format!("link set b{n} master br0")])?;
        ns.ip(&[
            format!("route add default via {}", LAN.v4),
            format!("route add default via {}", LAN.v6),
        ])?;
        Ok(Station::new(n, prefix, ns))
    }
}

/// Numbers from 1.
fn next(counter: &AtomicU8, most: u8) -> u8 {
    let n = counter.fetch_add(1, Ordering::Relaxed) + 1;
    assert!(n <= most, "a lab has at most {most} of these");
    n
}
