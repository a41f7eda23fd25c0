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
/// How long what passes is looked at, and how often at least and at most: until the machine did not stand still in one of them.
const WINDOW: Duration = Duration::from_secs(1);
const WINDOWS: std::ops::RangeInclusive<u32> = 3..=10;
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
    /// What it may get, of which it gets nearly all:
    pub most: u64,
    /// so much.
    pub least: u64,
    /// Packets refused for the limit.
    pub refused: u64,
}

impl Dimension {
    fn has_too_much(&self) -> bool {
        self.got > self.most
    }

    fn has_enough(&self) -> bool {
        self.got >= self.least
    }
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

/// What the gateway has counted as passed by some moment between when it was asked and when it answered.
struct Look {
    passed: u64,
    asked: Instant,
    answered: Instant,
}

impl Look {
    /// The longest and the shortest time that may have passed from an earlier one to this, in seconds.
    fn since(&self, before: &Self) -> [f64; 2] {
        let (longest, shortest) = (
            self.answered.saturating_duration_since(before.asked),
            self.asked.saturating_duration_since(before.answered),
        );
        [longest, shortest].map(|time| time.as_secs_f64())
    }
}

/// What a rate allows in some seconds, with its burst.
fn allowed(rate: Rate, seconds: f64) -> u64 {
    (f64::from(rate.rate) * seconds + f64::from(rate.burst)) as u64
}

/// Nearly all of it.
fn nearly(most: u64) -> u64 {
    most / 10 * 8
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

    /// A tenant's service, from a home of its own.
    fn target(&self, site: &Site) -> Result<Target> {
        let home = self.lab.host()?;
        Ok(Target::outside(home.ns(), site.vip(Family::V4).ip()))
    }

    /// Flows to a tenant's service, from a home of their own.
    fn crowd(&self, site: &Site, flows: usize, rate: u32) -> Result<Crowd> {
        Crowd::start(&[self.target(site)?], flows, rate)
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

    /// Looks at something that is counted.
    fn look(&self, count: impl FnOnce(&Gateway) -> Result<u64>) -> Result<Look> {
        let asked = Instant::now();
        let passed = count(&self.gateway)?;
        Ok(Look { passed, asked, answered: Instant::now() })
    }

    /// Packets of the loud tenant that came to the gateway, or answers to it, and were not refused for a limit. What arrives, and when, says
    /// as much of the machine's other programs.
    fn passed(&self, limit: &str) -> Result<Look> {
        self.look(|gateway| {
            let tenants = gateway.call(&["tenant", "list"])?;
            let rows = tenants.as_array().into_iter().flatten();
            let loud = rows.into_iter().find(|tenant| tenant["name"] == "loud");
            let all = if limit.ends_with("_in") { "rx_packets" } else { "tx_packets" };
            let passed = loud
                .and_then(|loud| loud[all].as_u64()?.checked_sub(loud["limited"][limit].as_u64()?));
            passed.ok_or_else(|| LabError::Answer {
                command: "tenant list".to_owned(),
                what: format!("no {all} and what was refused for {limit} in {tenants}"),
            })
        })
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
        let mut found = Dimension { limit, got: 0, most: 0, least: 1, refused: 0 };
        let (_, refused) = self.refused(reason, || {
            // Until the burst is used up.
            std::thread::sleep(WINDOW / 2);
            let mut before = self.passed(limit)?;
            for n in 1..=*WINDOWS.end() {
                std::thread::sleep(WINDOW);
                let now = self.passed(limit)?;
                let got = (now.passed - before.passed) * in_unit;
                let [longest, shortest] = now.since(&before);
                let least = (0.9 * f64::from(rate.rate) * shortest) as u64;
                before = now;
                let window = Dimension { got, most: allowed(rate, longest), least, ..found };
                // It may get too much in none, and has to get enough in one.
                let is_better = got * found.least > found.got * least;
                if window.has_too_much() || is_better {
                    found = window;
                }
                if found.has_too_much() || n >= *WINDOWS.start() && found.has_enough() {
                    break;
                }
            }
            Ok(())
        })?;
        Ok(Dimension { refused, ..found })
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
        let most = allowed(rate, seconds);
        Ok(Dimension { limit: "handshakes", got, most, least: nearly(most), refused })
    }

    /// Sessions open too fast.
    fn new_sessions(&mut self) -> Result<Dimension> {
        let rate = Rate { rate: 30, burst: 30 };
        self.limit(|tenant| tenant.new_sessions = Some(rate))?;
        let target = self.target(&self.loud)?;
        let opened = |gateway: &Gateway| Ok(gateway.tenant("loud")?.opened);
        let mut dimension = None;
        let (_, refused) = self.refused("new_sessions", || {
            let mut before = self.look(opened)?;
            // Its sockets take their time: it begins somewhere in between.
            before.asked = Instant::now();
            let _crowd = Crowd::start(&[target], 300, LOUD)?;
            before.answered = Instant::now();
            std::thread::sleep(WHILE);
            let after = self.look(opened)?;
            let [most, least] = after.since(&before).map(|seconds| allowed(rate, seconds));
            dimension = Some((after.passed - before.passed, most, nearly(least)));
            Ok(())
        })?;
        let none = || LabError::Scenario("nobody opened sessions".to_owned());
        let (got, most, least) = dimension.ok_or_else(none)?;
        Ok(Dimension { limit: "new_sessions", got, most, least, refused })
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
        let most = u64::from(TABLE - GUARANTEED);
        let limit = "guaranteed_sessions";
        let dimension = Dimension { limit, got, most, least: nearly(most), refused };
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
                .that(!d.has_too_much(), || {
                    format!("{}: the loud tenant got {} of {}", d.limit, d.got, d.most)
                })
                .that(d.has_enough(), || {
                    format!(
                        "{}: the loud tenant got {} of {} only, not {}",
                        d.limit, d.got, d.most, d.least
                    )
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
