//! One tenant takes all it can get, in every dimension, and the other has what it is guaranteed.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Check, Claim, SOON};
use crate::error::{LabError, Result};
use crate::gateway::{Config, Gateway, Limits, Rate, Tenant};
use crate::layout::plan::Family;
use crate::layout::{Kind, Lab, Options, Site, Transport};
use crate::traffic::{Crowd, CrowdTally, ECHO_PORT, EchoServer, Flood, Target};
use crate::wait::until;

const KIND: Kind = Kind { prefix: "udp", profile: "udp", ports: &[(ECHO_PORT, Transport::Udp)] };
/// Many flows come from few addresses here.
const UNLIMITED: Limits =
    Limits { unestablished_per_source: Rate { rate: 100_000, burst: 100_000 } };
/// Sessions of the table, and those that the quiet tenant is guaranteed.
const TABLE: u32 = 1024;
const GUARANTEED: u32 = 400;
/// How long each dimension is flooded.
const WHILE: Duration = Duration::from_secs(3);
/// Requests a second of the loud tenant.
const LOUD: u32 = 6_000;
/// Bits of the IP packet of a request, or of its answer: 64 bytes behind the headers of UDP and IPv4.
const PACKET_BITS: u64 = 8 * (64 + 28);

/// One dimension.
#[derive(Clone, Debug, Serialize)]
pub struct Dimension {
    /// The key that limits it.
    pub limit: &'static str,
    /// What the loud tenant got.
    pub got: u64,
    /// What it may get, of which it gets nearly all.
    pub most: u64,
    /// Packets refused for the limit.
    pub refused: u64,
}

/// What [`overload`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Overload {
    /// What the loud tenant got.
    pub dimensions: Vec<Dimension>,
    /// Traffic of the quiet tenant's sessions all the while.
    pub quiet: CrowdTally,
    /// Sessions that the quiet tenant opened while the other flooded.
    pub opened: usize,
    /// Their traffic.
    pub late: CrowdTally,
}

/// A gateway with a quiet tenant and a loud one.
struct Ground {
    lab: Lab,
    config: Config,
    gateway: Gateway,
    loud: Site,
    quiet: Site,
}

impl Ground {
    fn new() -> Result<Self> {
        let lab = Lab::new(Options::default())?;
        let (quiet, loud) = (lab.site("quiet", KIND, 2)?, lab.site("loud", KIND, 2)?);
        let mut config =
            Config::new(&lab).with_site(&quiet, TABLE).with_site(&loud, TABLE).without_probes();
        config.gateway.max_sessions = TABLE;
        config.limits = Some(UNLIMITED);
        config.tenant[0].guaranteed_sessions = Some(GUARANTEED);
        let gateway = Gateway::start(&lab, &config)?;
        Ok(Self { lab, config, gateway, loud, quiet })
    }

    /// Flows to a tenant's service, from a home of their own.
    fn crowd(&self, site: &Site, flows: usize, rate: u32) -> Result<Crowd> {
        let home = self.lab.host()?;
        let target = Target::outside(home.ns(), site.vip(Family::V4).ip());
        Crowd::start(&[target], flows, rate)
    }

    /// Limits the loud tenant, and nothing else than so.
    fn limit(&mut self, change: impl FnOnce(&mut Tenant)) -> Result<()> {
        let loud = &mut self.config.tenant[1];
        *loud = Tenant::new(&loud.name, TABLE);
        change(loud);
        self.gateway.write(&self.config)?;
        self.gateway.act(&["reload"]).map(drop)
    }

    /// What happens while it is flooded: how long, and what the counter of a reason says.
    fn refused(&self, reason: &str, work: impl FnOnce() -> Result<()>) -> Result<(f64, u64)> {
        let (counters, started) = (self.gateway.counters()?, Instant::now());
        work()?;
        let seconds = started.elapsed().as_secs_f64();
        Ok((seconds, self.gateway.counters()?.since(&counters).get(reason)))
    }

    /// Established flows ask more than their tenant may.
    fn traffic(
        &mut self,
        (limit, reason): (&'static str, &str),
        rate: Rate,
        in_unit: u64,
        change: impl FnOnce(&mut Tenant),
    ) -> Result<Dimension> {
        self.limit(|_| {})?;
        let crowd = self.crowd(&self.loud, 50, LOUD)?;
        crowd.wait_for(3, SOON)?;
        self.limit(change)?;
        let mut got = 0;
        let (seconds, refused) = self.refused(reason, || {
            let before = crowd.so_far();
            std::thread::sleep(WHILE);
            let after = crowd.so_far();
            got = (after.sent - after.lost) - (before.sent - before.lost);
            Ok(())
        })?;
        let most = f64::from(rate.rate) * seconds + f64::from(rate.burst);
        Ok(Dimension { limit, got: got * in_unit, most: most as u64, refused })
    }

    /// Nobody's handshakes, from everywhere.
    fn handshakes(&mut self) -> Result<Dimension> {
        let rate = Rate { rate: 200, burst: 200 };
        self.limit(|tenant| tenant.handshakes = Some(rate))?;
        let to = self.loud.vip(Family::V4);
        let before = self.gateway.counters()?;
        let (seconds, refused) = self.refused("handshakes", || {
            Flood { count: 30_000, rate: 10_000 }.run(self.lab.inet(), to).map(drop)
        })?;
        let got = self.gateway.counters()?.since(&before).get("in_unestablished");
        let most = f64::from(rate.rate) * seconds + f64::from(rate.burst);
        Ok(Dimension { limit: "handshakes", got, most: most as u64, refused })
    }

    /// Sessions open too fast.
    fn new_sessions(&mut self) -> Result<Dimension> {
        let rate = Rate { rate: 30, burst: 30 };
        self.limit(|tenant| tenant.new_sessions = Some(rate))?;
        let before = self.gateway.tenant("loud")?.opened;
        let mut crowd = None;
        let (seconds, refused) = self.refused("new_sessions", || {
            crowd = Some(self.crowd(&self.loud, 300, LOUD)?);
            std::thread::sleep(WHILE);
            Ok(())
        })?;
        let got = self.gateway.tenant("loud")?.opened - before;
        let most = f64::from(rate.rate) * seconds + f64::from(rate.burst);
        Ok(Dimension { limit: "new_sessions", got, most: most as u64, refused })
    }

    /// More sessions than there are; and the quiet tenant opens some, too, in the middle of it.
    fn sessions(&mut self, late: usize) -> Result<(Dimension, Crowd)> {
        self.limit(|_| {})?;
        let reason = "guaranteed";
        let (mut loud, mut quiet) = (None, None);
        let (_, refused) = self.refused(reason, || {
            loud = Some(self.crowd(&self.loud, TABLE as usize, LOUD)?);
            std::thread::sleep(WHILE);
            let crowd = self.crowd(&self.quiet, late, 1000)?;
            crowd.wait_for(3, SOON)?;
            // The first ones are lost while the kernel asks for neighbours.
            quiet = Some(crowd.anew()?);
            std::thread::sleep(WHILE);
            Ok(())
        })?;
        let got = self.gateway.tenant("loud")?.sessions;
        let dimension = Dimension {
            limit: "guaranteed_sessions",
            got,
            most: u64::from(TABLE - GUARANTEED),
            refused,
        };
        let quiet = quiet.ok_or_else(|| LabError::Scenario("nobody came late".to_owned()))?;
        Ok((dimension, quiet))
    }
}

/// Floods the tables, the backends and the lines of one tenant while another one works.
pub fn overload() -> Result<Overload> {
    let mut ground = Ground::new()?;
    let mut servers = Vec::new();
    for station in ground.quiet.stations().iter().chain(ground.loud.stations()) {
        let at = station.address(Family::V4);
        servers.push(EchoServer::start(station.ns(), at, station.number())?);
    }
    let quiet = ground.crowd(&ground.quiet, GUARANTEED as usize / 2, 1000)?;
    quiet.wait_for(3, SOON)?;
    let quiet = quiet.anew()?;

    let packets = Rate { rate: 1000, burst: 200 };
    let bits = Rate { rate: 1_000_000, burst: 200_000 };
    let mut dimensions = vec![
        ground.traffic(("packets_in", "rate_packets"), packets, 1, |tenant| {
            tenant.packets_in = Some(packets);
        })?,
        ground.traffic(("packets_out", "rate_packets"), packets, 1, |tenant| {
            tenant.packets_out = Some(packets);
        })?,
        ground.traffic(("bits_in", "rate_bits"), bits, PACKET_BITS, |tenant| {
            tenant.bits_in = Some(bits);
        })?,
        ground.traffic(("bits_out", "rate_bits"), bits, PACKET_BITS, |tenant| {
            tenant.bits_out = Some(bits);
        })?,
        ground.new_sessions()?,
        ground.handshakes()?,
    ];
    // Of those that were let through, the echo's answers are handshakes in progress.
    until("the end of the flood's handshakes", 3 * SOON, || {
        Ok((ground.gateway.tenant("loud")?.tentative == 0).then_some(()))
    })?;
    let opened = GUARANTEED as usize / 2;
    let (sessions, late) = ground.sessions(opened)?;
    dimensions.push(sessions);
    Ok(Overload { dimensions, quiet: quiet.stop(), opened, late: late.stop() })
}

impl Claim for Overload {
    fn failures(&self) -> Vec<String> {
        let mut check = Check::default();
        for d in &self.dimensions {
            check = check
                .that(d.got <= d.most, || {
                    format!("{}: the loud tenant got {} of {}", d.limit, d.got, d.most)
                })
                .that(d.got >= d.most / 10 * 8, || {
                    format!("{}: the loud tenant got {} of {} only", d.limit, d.got, d.most)
                })
                .that(d.refused > 0, || format!("{}: nothing was refused", d.limit));
        }
        for (who, tally) in [("who was there", &self.quiet), ("who came late", &self.late)] {
            check = check
                .that(tally.lost == 0, || {
                    format!("the quiet tenant's, {who}, lost {} of {}", tally.lost, tally.sent)
                })
                .that(tally.sent > 0, || format!("{who} sent nothing"));
        }
        check.that(self.late.flows == self.opened, || "not all came late".to_owned()).failures()
    }

    fn summary(&self) -> String {
        let dimensions: Vec<String> = self
            .dimensions
            .iter()
            .map(|d| format!("{} {} of {}, {} refused", d.limit, d.got, d.most, d.refused))
            .collect();
        format!(
            "the loud tenant got: {}; the quiet one lost {} of {}, {} of {} on the {} sessions that it opened meanwhile",
            dimensions.join("; "),
            self.quiet.lost,
            self.quiet.sent,
            self.late.lost,
            self.late.sent,
            self.opened,
        )
    }
}
