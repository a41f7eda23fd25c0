//! Where it happens: the gateway's namespace with the cable to the clients' end, and the
//! concentrators' with their addresses, where the kernel answers the daemon's probes.

use std::fmt::Write as _;
use std::fs;

use anyhow::Context as _;

use super::socket::PacketSocket;
use crate::gateway::{backend4, backend6};
use crate::place::{LAN_PEER, Net, WAN_PEER, command, sysctl};

/// The router to the clients. Nobody has its MAC: no stack takes what is sent to it.
const ROUTER_MAC: &str = "02:00:00:01:0b:01";

/// Statistics of all interfaces of this namespace.
const INTERFACES: &str = "/proc/thread-self/net/dev";

/// The two namespaces.
#[derive(Debug)]
pub(super) struct Ground {
    gateway: Net,
    farm: Net,
}

impl Ground {
    /// Lays it out, and leaves this process in the gateway's namespace.
    pub(super) fn lay_out(concentrators: usize) -> anyhow::Result<Self> {
        let farm = Net::empty()?;
        let gateway = Net::new()?;
        for name in ["all", "default", "wan", "lan"] {
            sysctl(&format!("ipv6/conf/{name}/disable_ipv6"), "0")?;
        }
        let routes = format!(
            "link set lo up
link set lan-peer netns {}
address add 198.51.100.2/24 dev wan
address add 2001:db8:ffff::2/64 dev wan nodad
address add 10.20.0.1/24 dev lan
address add fd20::1/64 dev lan nodad
neighbour add 198.51.100.1 lladdr {ROUTER_MAC} nud permanent dev wan
neighbour add 2001:db8:ffff::1 lladdr {ROUTER_MAC} nud permanent dev wan
route add default via 198.51.100.1 dev wan
route add default via 2001:db8:ffff::1 dev wan
",
            farm.path()
        );
        command("ip", "-batch -", &routes)?;
        // It is this that makes a veth take frames from XDP where there is no program.
        command("ethtool", "-K wan-peer gro on", "")?;
        farm.enter()?;
        let mut lines = String::from("link set lo up\nlink set lan-peer up\n");
        for number in 0..concentrators {
            let _ = writeln!(lines, "address add {}/32 dev lan-peer", backend4(number as u32));
            let _ =
                writeln!(lines, "address add {}/128 dev lan-peer nodad", backend6(number as u32));
        }
        lines.push_str("route add 10.20.0.0/24 dev lan-peer\nroute add fd20::/64 dev lan-peer\n");
        command("ip", "-batch -", &lines)?;
        command("ethtool", "-K lan-peer gro on", "")?;
        // The sockets of the concentrators are not the stack's: it would say that the port is closed.
        let silence = "table netdev farm {
chain in {
type filter hook ingress device lan-peer priority 0
meta l4proto udp drop
}
}
";
        command("nft", "-f -", silence)?;
        gateway.enter()?;
        Ok(Self { gateway, farm })
    }

    /// Sockets at the clients' end, and at the concentrators'.
    pub(super) fn sockets(&self) -> anyhow::Result<(PacketSocket, PacketSocket)> {
        let clients = PacketSocket::open(WAN_PEER).context("cannot open a packet socket")?;
        self.farm.enter()?;
        let concentrators = PacketSocket::open(LAN_PEER).context("cannot open a packet socket")?;
        self.gateway.enter()?;
        Ok((clients, concentrators))
    }

    /// Takes these concentrators' addresses away.
    pub(super) fn kill(&self, concentrators: &[usize]) -> anyhow::Result<()> {
        let mut lines = String::new();
        for number in concentrators {
            let _ = writeln!(lines, "address del {}/32 dev lan-peer", backend4(*number as u32));
            let _ = writeln!(lines, "address del {}/128 dev lan-peer", backend6(*number as u32));
        }
        self.farm.enter()?;
        command("ip", "-batch -", &lines)?;
        self.gateway.enter()
    }

    /// Frames that interfaces have dropped, or could not send or receive.
    pub(super) fn dropped(&self) -> anyhow::Result<u64> {
        self.farm.enter()?;
        let farm = fs::read_to_string(INTERFACES)?;
        self.gateway.enter()?;
        Ok(sum(&farm) + sum(&fs::read_to_string(INTERFACES)?))
    }
}

/// Of all cables. After the name: bytes, packets, errs, drop, fifo, frame, compressed, multicast, received; then
/// bytes, packets, errs, drop, sent.
fn sum(text: &str) -> u64 {
    let of = |line: &str| -> u64 {
        let Some((name, figures)) = line.split_once(':') else { return 0 };
        if name.trim() == "lo" {
            return 0;
        }
        let figures: Vec<u64> = figures.split_whitespace().flat_map(str::parse).collect();
        [2, 3, 10, 11].iter().filter_map(|at| figures.get(*at)).sum()
    };
    text.lines().map(of).sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn drops_are_summed() {
        let text = "Inter-|   Receive          |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo
    lo:       0       0    0    0    0     0          0         0        0       0    0    7 0 0 0 0
   wan:  123456    1000    1    2    7     7          7         7    99999     900    4    8 7 7 7 7
";
        assert_eq!(super::sum(text), 15);
    }
}
