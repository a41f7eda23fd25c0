//! The same claim with other protocols: real clients change their address under way.

use std::time::Duration;

use lab::gateway::{Config, Gateway};
use lab::layout::Site;
use lab::layout::plan::Family;
use lab::peer::{IkeClient, IkePool, OvpnClient, OvpnPool, QuicClient, QuicIds, QuicPool};
use lab::scenario::{Claim, migrate, roam_client};
use lab::{Lab, Result};

use super::screen::Screen;
use super::{Outcome, Profile, take_down_when_interrupted};

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// Sessions of the one tenant: more than come.
const QUOTA: u32 = 100;

/// Plays it: a client of each family roams, between two concentrators.
pub(super) fn play(profile: Profile, screen: &Screen) -> Result<Vec<Outcome>> {
    let lab = Lab::new(lab::Options::default())?;
    take_down_when_interrupted(&lab);
    match profile {
        Profile::OpenVpn => {
            screen.say("Fernpass between OpenVPN clients and two servers that count alike.");
            let mut pool = OvpnPool::start(&lab, "justiz", 2)?;
            let gateway = start(&lab, pool.site())?;
            each(screen, |family| {
                let host = lab.host()?;
                let mut client = OvpnClient::start(&lab, &host, &mut pool, family)?;
                let name = client.name().to_owned();
                roam_client(&gateway, &name, &host, family, &mut client)
            })
        }
        Profile::Ipsec => {
            screen
                .say("Fernpass between strongSwan clients (IKEv2, MOBIKE) and two concentrators.");
            // MOBIKE tells the concentrators' inner addresses.
            lab.hide_inside()?;
            let mut pool = IkePool::start(&lab, "justiz", 2)?;
            let gateway = start(&lab, pool.site())?;
            each(screen, |family| {
                let host = lab.host()?;
                let mut client = IkeClient::start(&lab, &host, &mut pool, family)?;
                let name = client.name().to_owned();
                roam_client(&gateway, &name, &host, family, &mut client)
            })
        }
        Profile::Quic => {
            screen.say(
                "Fernpass between QUIC clients (quinn) and three servers, named in their ids.",
            );
            let pool = QuicPool::start(&lab, "umwelt", 3, QuicIds::Numbered)?;
            let config = Config::new(&lab).with_site(pool.site(), QUOTA).with_numbered_servers();
            let mut gateway = Gateway::start(&lab, &config)?;
            gateway.await_backends(SOON)?;
            let mut clients = Vec::new();
            let mut outcomes = each(screen, |family| {
                let host = lab.host()?;
                let mut client = QuicClient::start(&lab, &host, &pool, family)?;
                let roamed = roam_client(&gateway, "the client", &host, family, &mut client);
                clients.push((host, family, client));
                roamed
            })?;
            for ((host, family, mut client), name) in
                clients.into_iter().zip(["migrate_ipv4", "migrate_ipv6"])
            {
                let migrated = migrate(&mut gateway, &host, family, &mut client, |_| Ok(()))?;
                let outcome = Outcome::of(name, &migrated);
                screen.verdict(&outcome);
                outcomes.push(outcome);
            }
            Ok(outcomes)
        }
        Profile::WireGuard => Ok(Vec::new()),
    }
}

/// A gateway before a site, whose concentrators are up.
fn start(lab: &Lab, site: &Site) -> Result<Gateway> {
    let gateway = Gateway::start(lab, &Config::new(lab).with_site(site, QUOTA))?;
    gateway.await_backends(SOON)?;
    Ok(gateway)
}

fn each<C: Claim>(
    screen: &Screen,
    mut play: impl FnMut(Family) -> Result<C>,
) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for (family, name) in [(Family::V4, "roam_ipv4"), (Family::V6, "roam_ipv6")] {
        let outcome = Outcome::of(name, &play(family)?);
        screen.verdict(&outcome);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}
