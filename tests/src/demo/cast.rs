//! Who plays: two tenants with three and two concentrators, and six clients.

use lab::Result;
use lab::layout::plan::Family;
use lab::peer::Implementation::{self, Boringtun, WireguardGo};
use lab::scenario::{Farm, FarmPlan, PoolPlan};

use super::screen::Screen;

/// The tenant that has room for more.
pub(super) const ROOMY: usize = 0;
/// The tenant whose quota its clients use up.
pub(super) const FULL: usize = 1;

const POOLS: [PoolPlan<'static>; 2] = [
    PoolPlan {
        name: "justiz",
        concentrators: &[WireguardGo, Boringtun, WireguardGo],
        max_sessions: 1000,
    },
    PoolPlan { name: "finanz", concentrators: &[WireguardGo, Boringtun], max_sessions: 2 },
];

/// Pool, implementation and family of each client.
const CLIENTS: [(usize, Implementation, Family); 6] = [
    (ROOMY, WireguardGo, Family::V4),
    (ROOMY, Boringtun, Family::V4),
    (ROOMY, WireguardGo, Family::V6),
    (ROOMY, WireguardGo, Family::V4),
    (FULL, WireguardGo, Family::V6),
    (FULL, Boringtun, Family::V4),
];

/// Says what is being set up.
pub(crate) fn greet(screen: &Screen) {
    screen.say(
        "Fernpass between real WireGuard peers: two tenants with 3 + 2 concentrators, \
         6 clients, one gateway in native XDP.",
    );
}

/// The lab with the gateway and all who play.
pub(crate) fn farm(keep: bool) -> Result<Farm> {
    let mut farm = Farm::start(&FarmPlan { keep, ..FarmPlan::new(&POOLS) })?;
    for (pool, implementation, family) in CLIENTS {
        farm.join(pool, implementation, family)?;
    }
    Ok(farm)
}

/// How to explore a lab that is left standing.
pub(crate) fn commands(farm: &Farm) -> Result<String> {
    let gateway = farm.gateway();
    let fernpass = format!(
        "nsenter --net={} {} --socket {}",
        gateway.ns().path(),
        gateway.binary().display(),
        gateway.socket()
    );
    let mut text = format!("Lab {} stands. To explore it:\n", farm.lab().id());
    for verb in ["status", "session list", "backend list", "counters"] {
        text.push_str(&format!("  {fernpass} {verb}\n"));
    }
    if let Some(member) = farm.members().first() {
        let device = member.client().device();
        text.push_str(&format!(
            "  nsenter --net={} ping -I {} {}    # a client's tunnel\n",
            device.ns().path(),
            device.interface(),
            lab::layout::plan::inner_server(farm.pools()[member.pool()].number()),
        ));
    }
    text.push_str(&format!(
        "  tail -f {}    # the daemon's log\n",
        farm.lab().dir().join("fernpass.log").display()
    ));
    text.push_str("  cargo xtask lab shell    # a shell in the gateway's namespace\n");
    text.push_str("  cargo xtask lab down     # takes it down");
    Ok(text)
}
