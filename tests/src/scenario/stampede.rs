//! A backend dies under thousands of sessions of two tenants, which all come back at once.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::{Check, Claim, SOON, ms};
use crate::error::{LabError, Result};
use crate::gateway::{BackendView, Config, Gateway, Health, Limits, Rate, SessionView, Tenant};
use crate::lateness::Meter;
use crate::layout::plan::{self, Family};
use crate::layout::{Kind, Lab, Options, Site, Transport};
use crate::traffic::{Crowd, CrowdTally, ECHO_PORT, EchoServer, Target};
use crate::wait::until;

const KIND: Kind = Kind { prefix: "udp", profile: "udp", ports: &[(ECHO_PORT, Transport::Udp)] };
/// Of the other tenant's service at the same machines.
const OTHER_PORT: u16 = ECHO_PORT + 1;
/// The tenant with two thirds of the sessions, and that with one.
const LARGE: &str = "crowd";
const SMALL: &str = "small";
const MACHINES: usize = 3;
const HOMES: usize = 6;
/// Many flows come from few addresses here.
const UNLIMITED: Limits =
    Limits { unestablished_per_source: Rate { rate: 100_000, burst: 100_000 } };
/// When shares and paces are looked at after the release, while both tenants want more: when the burst is over, of which a tenant may take
/// what the other has not come for yet, and some seconds later. Clients ask once a second: who had the burst is missed at the beginning of
/// each second.
const FROM: Duration = Duration::from_millis(600);
const UNTIL: Duration = Duration::from_millis(3600);
/// How long the gateway may take to end the sessions of a backend that it has found down.
const RELEASED_MS: u64 = 300;
/// How long they may take to come back.
const BACK: Duration = Duration::from_secs(60);

/// How many, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct StampedePlan {
    /// Sessions on all backends together.
    pub sessions: usize,
    /// Requests a second on all together.
    pub rate: u32,
    /// Handshakes a second that each backend is given.
    pub pace: u32,
}

/// How many a second: at least and at most, as nobody knows when exactly the gateway counted them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pace {
    /// If it was the longest time that it can have been.
    pub least: f64,
    /// If it was the shortest.
    pub most: f64,
}

impl Pace {
    /// Some that came between two moments.
    fn of(count: u64, from: &Moment, to: &Moment) -> Self {
        let time = |from, to: Instant| to.saturating_duration_since(from).as_secs_f64();
        let pace = |seconds| count as f64 / seconds;
        Self {
            least: pace(time(from.earliest, to.latest)),
            most: pace(time(from.latest, to.earliest)),
        }
    }

    fn can_be(&self, wanted: RangeInclusive<f64>) -> bool {
        self.least <= *wanted.end() && self.most >= *wanted.start()
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} to {:.0}", self.least, self.most)
    }
}

/// When something was, as far as it is known.
#[derive(Clone, Copy, Debug)]
struct Moment {
    earliest: Instant,
    latest: Instant,
}

impl Moment {
    /// Somewhere within a piece of work.
    fn within<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Self)> {
        let earliest = Instant::now();
        let done = work()?;
        Ok((done, Self { earliest, latest: Instant::now() }))
    }
}

/// What [`stampede`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Stampede {
    /// Sessions before.
    pub sessions: usize,
    /// Of them those on the backend that died.
    pub orphans: usize,
    /// From its death until the daemon's log says that it is down.
    pub detected_after_ms: u64,
    /// From its death until the gateway listed no session on it any more.
    pub released_after_ms: u64,
    /// How much later that may have been found than it was: from the last look but one until the end of the last.
    pub look_ms: u64,
    /// What was configured: the probes' interval times their failures.
    pub patience_ms: u64,
    /// How late this machine was from the death until the release was seen.
    pub late_ms: u64,
    /// Handshakes a second that were let through, while more wanted to.
    pub pace: Pace,
    /// The same for each backend that was left, between two looks while both tenants wanted more.
    pub paces: BTreeMap<String, Pace>,
    /// What was configured, of all backends that were left.
    pub configured_pace: f64,
    /// Clients of the small tenant and of the large one that came back a second, between these looks.
    pub shares: [Pace; 2],
    /// Handshakes that had to wait.
    pub paced: u64,
    /// Sessions of the other backends that are not what they were.
    pub changed: usize,
    /// Traffic on those.
    pub others: CrowdTally,
}

/// Where it happens.
struct Ground {
    lab: Lab,
    site: Site,
    config: Config,
    gateway: Gateway,
    _servers: Vec<EchoServer>,
}

impl Ground {
    /// Two tenants with a service each at the same pool.
    fn new(sessions: u32) -> Result<Self> {
        let lab = Lab::new(Options::default())?;
        let site = lab.site(LARGE, KIND, MACHINES)?;
        let mut servers = Vec::new();
        for station in site.stations() {
            for port in [ECHO_PORT, OTHER_PORT] {
                let at = SocketAddr::new(station.address(Family::V4), port);
                servers.push(EchoServer::start_at(station.ns(), at, station.number())?);
            }
        }
        let mut config = Config::new(&lab).with_site(&site, 2 * sessions);
        config.gateway.max_sessions = (2 * sessions).next_power_of_two();
        config.limits = Some(UNLIMITED);
        // Short enough for what is said of interval times failures to hold.
        if let Some(health) = &mut config.pool[0].health {
            health.timeout = "350ms".to_owned();
        }
        // There are few homes.
        config.service[0].affinity = Some("flow");
        config.tenant.push(Tenant::new(SMALL, 2 * sessions));
        let mut service = config.service[0].clone();
        service.name = format!("vpn-{SMALL}");
        service.tenant = SMALL.to_owned();
        service.listen = vec![format!("{}/udp", Self::vip(&site, OTHER_PORT))];
        config.service.push(service);
        let gateway = Gateway::start(&lab, &config)?;
        gateway.await_backends(SOON)?;
        Ok(Self { lab, site, config, gateway, _servers: servers })
    }

    fn vip(site: &Site, port: u16) -> SocketAddr {
        SocketAddr::new(Family::V4.of(plan::vip(site.number())), port)
    }

    /// Two sessions of the large tenant for each of the small one, each with the same wish to come back.
    fn crowd(&self, plan: &StampedePlan) -> Result<Crowd> {
        let mut targets = Vec::new();
        for _ in 0..HOMES {
            let home = self.lab.host()?;
            for port in [ECHO_PORT, ECHO_PORT, OTHER_PORT] {
                targets.push(Target::outside_at(home.ns(), Self::vip(&self.site, port)));
            }
        }
        let crowd = Crowd::start(&targets, plan.sessions.div_ceil(targets.len()), plan.rate)?;
        crowd.wait_for(2, SOON * 3)?;
        Ok(crowd)
    }

    /// Clients of each tenant, the small one and the large one, whose handshakes were let through so far, and when.
    fn begun(&self) -> Result<([u64; 2], Moment)> {
        let (tenants, at) = Moment::within(|| self.gateway.tenants())?;
        let begun = [SMALL, LARGE].map(|name| {
            let own = tenants.iter().filter(|tenant| tenant.name == name);
            own.map(|tenant| tenant.opened + tenant.tentative).sum()
        });
        Ok((begun, at))
    }
}

/// Who has come back at one moment.
struct Look {
    /// Clients of each tenant whose handshakes were let through, and when that was asked.
    tenants: [u64; 2],
    asked: Moment,
    /// Those on each backend, and when they were listed.
    backends: BTreeMap<String, u64>,
    listed: Moment,
}

/// How many sessions of those that are listed each backend has, by its name.
fn on_each<'a>(sessions: impl IntoIterator<Item = &'a SessionView>) -> BTreeMap<String, u64> {
    let mut on = BTreeMap::new();
    for session in sessions {
        *on.entry(session.backend.clone()).or_default() += 1;
    }
    on
}

/// Kills a backend under many sessions, whose clients send on.
pub fn stampede(plan: &StampedePlan) -> Result<Stampede> {
    let mut ground = Ground::new(plan.sessions as u32)?;
    let crowd = ground.crowd(plan)?;
    // There are more of them than may have a handshake in progress at once: these open as others have.
    let before = until("all sessions", SOON, || {
        let sessions = ground.gateway.sessions()?;
        Ok((sessions.len() == crowd.so_far().flows).then_some(sessions))
    })?;

    // The pace is not for those that are there.
    ground.config.pool[0].handshakes = Some(Rate { rate: plan.pace, burst: plan.pace });
    let Ground { site, config, gateway, .. } = &ground;
    gateway.write(config)?;
    gateway.act(&["reload"])?;
    let crowd = crowd.anew()?;
    crowd.wait_for(1, SOON)?;
    let (victims_name, orphans) = on_each(&before)
        .into_iter()
        .max_by_key(|(_, sessions)| *sessions)
        .ok_or_else(|| LabError::Scenario("there are no sessions".to_owned()))?;
    let is_victims = |session: &&SessionView| session.backend == victims_name;

    let counters = gateway.counters()?;
    let station = site.stations().iter().find(|station| victims_name.ends_with(station.name()));
    let victim = station.ok_or_else(|| LabError::Scenario("nobody to die".to_owned()))?;
    let meter = Meter::start()?;
    victim.unplug()?;
    let (died, died_at) = (Instant::now(), SystemTime::now());
    let is_released = |backends: &[BackendView]| {
        backends.iter().any(|b| b.name.ends_with(victim.name()) && b.sessions == 0)
    };
    let (mut before_last, mut last) = (died, died);
    until("the death's discovery", BACK, || {
        (before_last, last) = (last, Instant::now());
        Ok(is_released(&gateway.backends()?).then_some(()))
    })?;
    let released_at = Instant::now();
    let released = released_at - died;
    let late_ms = ms(meter.late().sum);
    drop(meter);
    let detected = gateway.went_down(victim.name(), Family::V4, died_at)?;
    // What passes is what the pace lets pass since the release, and a burst: also where the machine stands still for a moment. At
    // the end there are too few left to use it up.
    let most = orphans * 3 / 4;
    let look = || -> Result<Look> {
        let (tenants, asked) = ground.begun()?;
        // To read thousands of lines takes a while, in which the moment is past.
        let (text, listed) = Moment::within(|| gateway.act(&["session", "list"]))?;
        let mut new: Vec<SessionView> = serde_json::from_str(&text).map_err(|e| {
            LabError::Answer { command: "session list".to_owned(), what: e.to_string() }
        })?;
        new.retain(|new| before.binary_search_by(|old| old.id.cmp(&new.id)).is_err());
        Ok(Look { tenants, asked, backends: on_each(&new), listed })
    };
    let mut looks = Vec::new();
    let (back, at) = until("the return of most", BACK, || {
        if [FROM, UNTIL].get(looks.len()).is_some_and(|&due| released_at.elapsed() >= due) {
            looks.push(look()?);
        }
        let (counted, at) = Moment::within(|| gateway.counters())?;
        let back = counted.since(&counters).get("in_unestablished");
        Ok((back >= most).then_some((back, at)))
    })?;
    let bursts = u64::from(plan.pace) * (MACHINES as u64 - 1);
    let release = Moment { earliest: before_last, latest: released_at };
    let pace = Pace::of(back.saturating_sub(bursts), &release, &at);
    let paced = gateway.counters()?.since(&counters).get("paced");
    let [first, last] = &looks[..] else {
        return Err(LabError::Scenario("they came back too fast to look".to_owned()));
    };
    let paces = last.backends.iter().map(|(backend, &sessions)| {
        let before = first.backends.get(backend).copied().unwrap_or(0);
        let more = sessions.saturating_sub(before);
        (backend.clone(), Pace::of(more, &first.listed, &last.listed))
    });
    let shares =
        [0, 1].map(|n| Pace::of(last.tenants[n] - first.tenants[n], &first.asked, &last.asked));
    let after = gateway.sessions()?;
    let after: BTreeMap<_, _> = after.iter().map(|session| (session.client, session)).collect();
    let is_same = |old: &&SessionView| {
        after.get(&old.client).is_some_and(|new| (&new.id, &new.backend) == (&old.id, &old.backend))
    };
    let others = || before.iter().filter(|session| !is_victims(session));
    Ok(Stampede {
        sessions: before.len(),
        orphans: orphans as usize,
        detected_after_ms: ms(detected),
        released_after_ms: ms(released),
        look_ms: ms(released_at - before_last),
        patience_ms: ms(Health::QUICK),
        late_ms,
        pace,
        paces: paces.collect(),
        configured_pace: f64::from(plan.pace) * (MACHINES - 1) as f64,
        shares,
        paced,
        changed: others().count() - others().filter(is_same).count(),
        others: crowd.stop_where(|tally| !tally.answered_by.contains_key(&victim.number())),
    })
}

impl Claim for Stampede {
    fn failures(&self) -> Vec<String> {
        let (wanted, patience) = (self.configured_pace, self.patience_ms as f64);
        let is_near = |wanted: f64, is: &Pace| is.can_be(0.9 * wanted..=1.1 * wanted);
        let left = MACHINES - 1;
        let of_one = wanted / left as f64;
        let all: f64 = self.paces.values().map(|pace| pace.least).sum();
        // Of one and the same time, whichever it was.
        let part = |pace: &Pace| pace.least / all * wanted;
        let (of_tenant, [small, large]) = (wanted / 2.0, &self.shares);
        Check::default()
            // The log's line is written when it is found.
            .that(self.detected_after_ms as f64 <= 1.1 * patience + self.late_ms as f64, || {
                format!(
                    "found to be down after {} ms, on a machine that was {} ms late",
                    self.detected_after_ms, self.late_ms
                )
            })
            .that(
                self.released_after_ms
                    <= self.detected_after_ms + RELEASED_MS + self.look_ms + self.late_ms,
                || {
                    format!(
                        "found to be down after {} ms, and released after {} ms, seen by looks of {} ms, on a machine that was {} ms late",
                        self.detected_after_ms, self.released_after_ms, self.look_ms, self.late_ms
                    )
                },
            )
            .that(is_near(wanted, &self.pace), || {
                format!("{} came back a second, not {wanted}", self.pace)
            })
            .that(self.paces.len() == left, || format!("they came back to {:?}", self.paces))
            .that(self.paces.values().all(|pace| is_near(of_one, pace)), || {
                format!("not {of_one} a second came to each backend: {:?}", self.paces)
            })
            .that(
                self.paces.values().all(|pace| (0.9..=1.1).contains(&(part(pace) / of_one))),
                || format!("not as many came to each backend: {:?}", self.paces),
            )
            .that(is_near(of_tenant, small), || {
                format!("{small} of the small tenant came back a second, not {of_tenant}")
            })
            // It borrows what the small one does not come for at the moment, which is there for that one nevertheless.
            .that(large.can_be(0.9 * of_tenant..=1.2 * of_tenant), || {
                format!("{large} of the large tenant came back a second, not {of_tenant}")
            })
            .that(self.paced > 0, || "nobody had to wait".to_owned())
            .that(self.changed == 0, || {
                format!("{} sessions of the other backends changed", self.changed)
            })
            .that(self.others.lost == 0 && self.others.sent > 0, || {
                format!("the others lost {} of {} packets", self.others.lost, self.others.sent)
            })
            .failures()
    }

    fn summary(&self) -> String {
        let paces: Vec<String> = self.paces.values().map(Pace::to_string).collect();
        format!(
            "a backend with {} of {} sessions died: found after {} ms (probes: {} ms), released after {} ms (the machine was {} ms late), back at {} a second ({:.0} \
             configured; {}), while both tenants wanted {} of the small one and {} of the large one, {} packets paced, {} sessions of the others \
             changed, {} of their {} packets lost",
            self.orphans,
            self.sessions,
            self.detected_after_ms,
            self.patience_ms,
            self.released_after_ms,
            self.late_ms,
            self.pace,
            self.configured_pace,
            paces.join(", "),
            self.shares[0],
            self.shares[1],
            self.paced,
            self.changed,
            self.others.lost,
            self.others.sent,
        )
    }
}
