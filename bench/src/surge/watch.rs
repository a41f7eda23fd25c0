//! What is seen of the gateway from outside, while it works: its tables, its daemon's process and log.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use control::loader::{Bpffs, Pins, Tables, Writer, adopt};
use control::model::Registry;
use dataplane::abi::NAME_TENANT;
use dataplane::reason::Reason;
use std::path::Path;
use std::sync::Arc;

use super::authority::Region;
use super::world::World;
use crate::daemon::Daemon;
use crate::series::Series;

/// From one look to the next.
const STEP: Duration = Duration::from_millis(500);

/// What is looked at.
pub(super) struct Watch {
    pub(super) daemon: Daemon,
    pub(super) tables: Arc<Tables>,
    /// The index of each authority's tenant.
    tenants: Vec<usize>,
    /// Sessions of each pool that have ended, and when that was seen: each change.
    pub(super) endings: Vec<Vec<(SystemTime, u64)>>,
    /// [`Figure`]s, and those of losses.
    pub(super) series: [Series; 6],
    last: Look,
}

/// A look at what only grows.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    at: Duration,
    frames: u64,
    processor: Duration,
}

/// Figures that are plotted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    Open,
    Frames,
    Processor,
    Memory,
}

impl Watch {
    /// Looks at the tables that a daemon has made.
    pub(super) fn new(daemon: Daemon, bpffs: &Path, region: &Region) -> anyhow::Result<Self> {
        let pins = Pins::under(&Bpffs::existing(bpffs)?);
        let tables = Arc::new(adopt(&pins)?.context("the daemon has made no tables")?);
        let names = Writer::open(&pins, Arc::clone(&tables))?.read()?;
        let tenant = |name: &str| Registry::of(&names).index(NAME_TENANT, name);
        let index = |name: &str| tenant(name).context("a tenant is not in the tables");
        let tenants = region.authorities.iter().map(|a| Ok(index(&a.name)? as usize));
        let series = [
            ("sessions open", "sessions"),
            ("through the gateway", "packets/s"),
            ("daemon: processor", "% of a core"),
            ("daemon: memory beside the tables", "MB"),
            ("packets lost, all other sessions", "packets"),
            ("packets lost, sessions on dead concentrators", "packets"),
        ];
        Ok(Self {
            tenants: tenants.collect::<anyhow::Result<_>>()?,
            endings: vec![Vec::new(); region.pools.len()],
            series: series.map(|(case, unit)| Series {
                suite: "surge",
                case: case.to_owned(),
                unit,
                points: Vec::new(),
            }),
            last: Look { processor: daemon.processor_time()?, ..Look::default() },
            daemon,
            tables,
        })
    }

    /// Sessions that are open.
    pub(super) fn open(&self) -> u64 {
        self.tenants.iter().map(|index| self.tables.tenants[*index].sessions.load()).sum()
    }

    /// Slots of the table that are in use.
    pub(super) fn used(&self) -> u64 {
        self.tables.settings().used.load()
    }

    /// How often something happened.
    pub(super) fn count(&self, reason: Reason) -> anyhow::Result<u64> {
        let counts = self.tables.counts()?;
        Ok(counts.iter().find(|count| count.reason == reason).map_or(0, |count| count.packets))
    }

    /// Sees whether sessions have ended.
    pub(super) fn see_endings(&mut self, region: &Region) {
        for (pool, seen) in self.endings.iter_mut().enumerate() {
            let those =
                region.authorities.iter().zip(&self.tenants).filter(|(a, _)| a.pool == pool);
            let ended = those.map(|(_, index)| self.tables.tenants[*index].ended.get()).sum();
            if seen.last().map_or(0, |(_, before)| *before) != ended {
                seen.push((SystemTime::now(), ended));
            }
        }
    }

    /// Notes a point of each series, if it is time. To be called when nothing is under way.
    pub(super) fn look(&mut self, world: &World) -> anyhow::Result<()> {
        let at = world.now();
        if at < self.last.at + STEP {
            return Ok(());
        }
        let air = &world.air;
        let look = Look {
            at,
            frames: air.clients.received + air.concentrators.received,
            processor: self.daemon.processor_time()?,
        };
        let span = (at - self.last.at).as_secs_f64();
        let processor = look.processor.saturating_sub(self.last.processor).as_secs_f64();
        let (lost, with_the_dead) = world.lost();
        let figures = [
            self.open() as f64,
            (look.frames - self.last.frames) as f64 / span,
            processor / span * 100.0,
            self.daemon.memory()? as f64 / 1e6,
            lost as f64,
            with_the_dead as f64,
        ];
        for (series, figure) in self.series.iter_mut().zip(figures) {
            series.points.push((at.as_secs_f64(), figure));
        }
        self.last = look;
        Ok(())
    }

    /// The values of a series.
    pub(super) fn values(&self, figure: Figure) -> impl Iterator<Item = f64> + '_ {
        self.series[figure as usize].points.iter().map(|(_, value)| *value)
    }
}

/// When the daemon found an address dead, by its log: the concentrator's name, whether by IPv6, and when.
pub(super) fn detections(log: &str) -> Vec<(String, bool, SystemTime)> {
    let of = |line: &str| {
        let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
        let backend = field("backend=").filter(|_| field("now=") == Some("Down"))?;
        let at = humantime::parse_rfc3339(line.split_whitespace().next()?).ok()?;
        let name = backend.rsplit('/').next()?.to_owned();
        Some((name, field("family=")? == "IPv6", at))
    };
    log.lines().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_are_found_in_the_log() {
        let log = "2026-01-02T03:04:05.250000Z  INFO health changed backend=pool-01/wg-0 family=IPv6 before=Up now=Down
2026-01-02T03:04:05.260000Z  INFO health changed writes=12
2026-01-02T03:04:06.000000Z  INFO health changed backend=pool-01/wg-0 family=IPv6 before=Down now=Up
";
        let found = detections(log);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0.as_str(), found[0].1), ("wg-0", true));
        let at = humantime::parse_rfc3339("2026-01-02T03:04:05.25Z").unwrap();
        assert_eq!(found[0].2, at);
    }
}
