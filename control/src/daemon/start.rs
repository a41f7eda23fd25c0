//! From a configuration file to a gateway that forwards: adopting what an earlier daemon
//! left, or making it new.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::actor::{Daemon, LOOK};
use super::core::{Core, Meter};
use super::forecast::Forecasts;
use super::growth;
use super::handle::{Handle, Unreachable};
use super::interfaces::Interfaces;
use super::published::Birth;
use super::state::{ReconcileError, State};
use super::store::{Found, Store};
use super::trial::{Start, Trial};
use crate::clock::Clock;
use crate::config::{BackendId, Config, ReadError, Sysctl, XdpMode};
use crate::health::{Monitor, MonitorError, Target};
use crate::loader::{self, Bpffs, LoadError, Lock, PacketLog, Pins, Program, Tables, find};
use crate::model::Overrides;
use crate::routing::{Mirror, MirrorError, Netlink, features, interfaces, sysctl, vips};
use crate::sessions::Recount;

/// How long the kernel may take to tell its routes.
const ROUTES: Duration = Duration::from_secs(30);

/// The daemon cannot start. Nothing was changed, or what was is as before.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ReadError),
    /// The kernel program or its maps.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The kernel's routes.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The probes.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// The tables.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
}

/// What a daemon has before it has threads: its place is its own, and nothing was changed in the kernel
/// but a bpffs that may have been mounted.
#[derive(Debug)]
pub struct Prepared {
    config: Config,
    source: String,
    trial: Option<Trial>,
    /// Why the configuration on trial cannot be taken back.
    not_reverted: Option<String>,
    bpffs: Bpffs,
    overrides: Overrides,
    lock: Lock,
    store: Store,
}

/// The configuration that a daemon starts with.
#[derive(Debug)]
struct Chosen {
    config: Config,
    source: String,
    trial: Option<Trial>,
    not_reverted: Option<String>,
}

impl Chosen {
    /// The file's, or the one before it; `usable` tells whether one can be used, and is told whether it is the one before. Nothing is needed of the
    /// other one: it may be what keeps the host from starting with it.
    fn of<E: std::fmt::Display>(
        kept: Option<Trial>,
        file: String,
        now: &Clock,
        usable: impl Fn(&str, bool) -> Result<Config, E>,
    ) -> Result<Self, E> {
        let start = kept.map_or(Start::File(None), |trial| trial.start(&file, now));
        let (trial, not_reverted) = match start {
            Start::File(trial) => (trial, None),
            Start::Before(trial) => match usable(&trial.before, true) {
                Ok(config) => {
                    let source = trial.before.clone();
                    return Ok(Self { config, source, trial: Some(trial), not_reverted: None });
                }
                // As long as that is so, the file's is all there is.
                Err(e) => (Some(trial.due(now)), Some(e.to_string().trim_end().to_owned())),
            },
        };
        Ok(Self { config: usable(&file, false)?, source: file, trial, not_reverted })
    }
}

impl Prepared {
    /// Reads the configuration, and takes the directories that it names.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn new(file: &Path) -> Result<Self, StartError> {
        let source = fs::read_to_string(file)
            .map_err(|source| ReadError::File { path: file.to_owned(), source })?;
        let name = file.display().to_string();
        // Where its places are. What it needs beside them may not be there, and not be needed either.
        let draft = Config::parse(&source, &name).map_err(ReadError::from)?;
        let bpffs = Bpffs::prepare(&draft.gateway.bpffs)?;
        let lock = bpffs.lock()?;
        let store = Store::open(&draft.gateway.state_dir);
        let Found { trial, overrides } = store.found();
        let chosen = Chosen::of(trial, source, &Clock::now(), |source, is_before| {
            let name = if is_before { "the configuration before" } else { &name };
            let config = Config::parse_with_files(source, name).map_err(ReadError::from)?;
            for name in &config.gateway.interfaces {
                interfaces::index(name)?;
            }
            Ok::<_, StartError>(config)
        })?;
        store.begin();
        let Chosen { config, source, trial, not_reverted } = chosen;
        // For the socket, before the right to make directories is given up. Who makes the socket says what is wrong with it.
        if let Some(directory) = config.api.socket.parent() {
            let _ = fs::create_dir_all(directory);
        }
        let overrides = overrides.unwrap_or_default();
        Ok(Self { config, source, trial, not_reverted, overrides, bpffs, lock, store })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether the disk of the state directory has answered.
    pub fn keeps_state(&self) -> bool {
        self.store.has_place()
    }
}

impl Daemon {
    /// Starts: when this returns, packets are forwarded. `log` is for debugging.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        file: &Path,
        prepared: Prepared,
        log: PacketLog,
    ) -> Result<(Self, Handle), StartError> {
        let Prepared { config, source, trial, not_reverted, overrides, bpffs, lock, store } =
            prepared;
        // Forwarding does not wait for a disk.
        if let Err(e) = store.note_trial(trial.as_ref()) {
            tracing::error!("{e}");
        }

        let pins = Pins::under(&bpffs);
        let found = find(&bpffs)?;
        let is_adopted = !matches!(found, loader::Found::Nothing);
        let started = Parts { config, overrides, store, pins: pins.clone(), bpffs };
        match started.start(file, lock, found, log).await {
            Ok((mut daemon, handle)) => {
                daemon.core.source = source;
                daemon.core.trial = trial;
                daemon.core.not_reverted = not_reverted.map(|why| {
                    tracing::error!("the configuration cannot be taken back: {why}");
                    (why, Instant::now())
                });
                daemon.heed_store();
                // Whoever asks first is told all of it.
                daemon.publish();
                Ok((daemon, handle))
            }
            Err(e) => {
                // What this start made is taken away again.
                if !is_adopted && let Err(e) = pins.remove() {
                    tracing::error!("{e}");
                }
                Err(e)
            }
        }
    }
}

struct Parts {
    config: Config,
    overrides: Overrides,
    store: Store,
    pins: Pins,
    bpffs: Bpffs,
}

impl Parts {
    async fn start(
        self,
        file: &Path,
        lock: Lock,
        found: loader::Found,
        log: PacketLog,
    ) -> Result<(Daemon, Handle), StartError> {
        let Self { config, overrides, store, pins, bpffs } = self;
        let adopted = !matches!(found, loader::Found::Nothing);
        let gateway = config.gateway.clone();
        let indexes: BTreeSet<u32> = gateway
            .interfaces
            .iter()
            .map(|name| interfaces::index(name))
            .collect::<Result<_, _>>()?;
        let netlink = Netlink::start().map_err(MirrorError::Threads)?;
        let starting = netlink.ask(Mirror::start(indexes, backend_addresses(&config)));
        let mut mirror = starting.await.map_err(|e| MirrorError::Threads(e.into()))??;
        let routes = mirror.first(ROUTES).await?;

        let inputs = growth::Inputs { config, overrides, routes };
        let growth::Begun { mut state, program, not_grown } =
            growth::begin(&bpffs, found, inputs, log)?;
        let writes = state.reconcile()?;
        let warnings = not_grown.map(|e| too_small(&state.config, &state.tables, &e));
        let asked = netlink.ask(surroundings(Arc::clone(&state.config)));
        let mut around = asked.await.map_err(|e| MirrorError::Threads(e.into()))?;
        recount(&state).await;

        let mut program = match program {
            Some(program) => program,
            None => Program::load(&pins, log)?,
        };
        if log != PacketLog::Off {
            program.messages()?.run();
        }
        let mut interfaces = Interfaces::new(program, pins, netlink.handle());
        interfaces.replace(&gateway.interfaces, gateway.xdp_mode).await?;
        let asked = netlink.ask(sinks(Arc::clone(&state.config)));
        around.extend(asked.await.map_err(|e| MirrorError::Threads(e.into()))?);
        for warning in warnings.iter().chain(&around) {
            tracing::warn!("{warning}");
        }
        let monitor = Monitor::start(targets(&state.config), &state.health)?;
        tracing::info!(adopted, writes, "forwarding");

        let (commands, received) = mpsc::channel(64);
        let birth = Birth {
            config_file: file.to_owned(),
            clock: Clock::now(),
            instant: Instant::now(),
            adopted,
        };
        let unreachable = Unreachable::default();
        let core = Core {
            birth: Arc::new(birth),
            bpffs,
            log,
            state,
            source: String::new(),
            store,
            store_told: Vec::new(),
            trial: None,
            before: None,
            not_reverted: None,
            interfaces,
            monitor,
            warnings: warnings.into_iter().collect(),
            around,
            look_at: Instant::now() + LOOK,
            looking: None,
            meter: Meter::default(),
            forecasts: Forecasts::default(),
            told: Arc::default(),
            unreachable: Arc::clone(&unreachable),
            behind: None,
        };
        let (publish, published) = watch::channel(Arc::new(core.published()));
        let daemon =
            Daemon { core, netlink, mirror, commands: received, publish, locks: vec![lock] };
        Ok((daemon, Handle { commands, published, unreachable }))
    }
}

/// Corrects the counts of sessions, which a daemon that was killed may have left wrong.
pub(super) async fn recount(state: &State) {
    let mut before: Option<Recount> = None;
    for _ in 0..20 {
        let taken = state.recount();
        // Twice the same, so that what was under way is not taken for wrong.
        if let Some(now) = taken.as_ref().filter(|now| before.as_ref() == Some(now)) {
            if !now.is_right() {
                tracing::warn!(?now, "counts of sessions corrected");
                now.correct(&*state.tables);
            }
            return;
        }
        before = taken;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tracing::warn!("sessions come and go too fast to be recounted");
}

/// Interfaces that lose what is forwarded to them. They must run the program to be asked.
pub(super) async fn sinks(config: Arc<Config>) -> Vec<String> {
    let gateway = &config.gateway;
    match gateway.xdp_mode {
        XdpMode::Native => features::problems(&gateway.interfaces).await,
        // The kernel sends by itself.
        XdpMode::Generic => Vec::new(),
    }
}

/// For people: the tables did not become as large as they should be.
fn too_small(config: &Config, tables: &Tables, why: &LoadError) -> String {
    format!(
        "max_sessions is {}, but the tables have room for {} and could not grow: {why}; the next reload or start tries again",
        config.gateway.max_sessions,
        tables.sizes().sessions()
    )
}

/// Everything around the program that stands in the way, which is mended where the
/// configuration says so. What is left is returned for people.
pub(super) async fn surroundings(config: Arc<Config>) -> Vec<String> {
    let mut warnings = Vec::new();
    let families = config.services.iter().flat_map(|s| &s.listen).map(|l| l.family()).collect();
    let backends = backend_addresses(&config);
    let needs = sysctl::Needs::find(&config.gateway.interfaces, &families, &backends).await;
    let problems = sysctl::check(&needs);
    if config.gateway.sysctl == Sysctl::Set {
        for failure in sysctl::set(&problems) {
            warnings.push(failure.to_string());
        }
    } else {
        warnings.extend(problems.iter().map(ToString::to_string));
    }
    if config.gateway.manage_vips {
        let addresses: BTreeSet<IpAddr> =
            config.services.iter().flat_map(|s| &s.listen).map(|l| l.address).collect();
        match vips::ensure(&addresses).await {
            Ok(added) => added.iter().for_each(|vip| tracing::info!(%vip, "added to lo")),
            Err(e) => warnings.push(e.to_string()),
        }
    }
    warnings
}

/// All addresses of all backends.
pub(super) fn backend_addresses(config: &Config) -> BTreeSet<IpAddr> {
    config
        .backends()
        .flat_map(|(_, _, b)| [Some(b.address), b.address6.map(IpAddr::V6)])
        .flatten()
        .collect()
}

/// What to probe, and how.
pub(super) fn targets(config: &Config) -> BTreeMap<BackendId, Target> {
    config
        .backends()
        .map(|(id, pool, backend)| {
            let addresses = [Some(backend.address), backend.address6.map(IpAddr::V6)];
            let target = Target {
                addresses: addresses.into_iter().flatten().collect(),
                port: config.probe_port(pool, backend),
                health: pool.health.clone(),
            };
            (id, target)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::clock::Moment;

    const FILE: &str = include_str!("../../../docs/fernpass.toml");

    fn at(seconds: u64) -> Clock {
        Clock { monotonic: seconds * 1_000_000_000, wall: UNIX_EPOCH }
    }

    fn choose(
        kept: Option<Trial>,
        now: u64,
        is_usable: impl Fn(&str) -> bool,
    ) -> Result<Chosen, String> {
        Chosen::of(kept, FILE.to_owned(), &at(now), |text, is_before| {
            assert_eq!(is_before, text != FILE);
            if is_usable(text) {
                Config::parse(text, "test").map_err(|e| e.0.render(false))
            } else {
                Err("interface \"vlan7\" does not exist\n".to_owned())
            }
        })
    }

    #[test]
    fn a_start_takes_the_configuration_that_counts_and_needs_nothing_of_the_other() {
        let before = FILE.replace("12000", "13000");
        assert_ne!(before, FILE);
        let until = Some(Moment::after(&at(0), Duration::from_secs(60)));
        let trial = Trial { before: before.clone(), tried: FILE.to_owned(), until };
        let is_file = |text: &str| text == FILE;

        let Chosen { source, trial: kept, .. } = choose(None, 0, is_file).unwrap();
        assert_eq!((source.as_str(), kept), (FILE, None));
        let Chosen { source, trial: kept, .. } = choose(Some(trial.clone()), 59, is_file).unwrap();
        assert_eq!((source.as_str(), kept), (FILE, Some(trial.clone())));
        let refused = choose(Some(trial.clone()), 59, |_| false).unwrap_err();
        assert!(refused.contains("vlan7"), "{refused}");

        // Its time is over, and what the file names is not there: who set the time need not be able to come and mend it.
        let chosen = choose(Some(trial.clone()), 60, |text| text == before).unwrap();
        assert_eq!((&chosen.source, &chosen.not_reverted), (&before, &None));
        assert_eq!(chosen.config, Config::parse(&before, "before").unwrap());
        assert_eq!(chosen.trial, Some(Trial { until: None, ..trial.clone() }));
        // It is the other way round: it stays on trial, and it is said why.
        for kept in [trial.clone(), Trial { until: None, ..trial.clone() }] {
            let chosen = choose(Some(kept), 60, is_file).unwrap();
            assert_eq!(chosen.source, FILE);
            assert_eq!(chosen.not_reverted.as_deref(), Some("interface \"vlan7\" does not exist"));
            let kept = chosen.trial.unwrap();
            assert!(kept.is_pending() && matches!(kept.start(FILE, &at(60)), Start::Before(_)));
        }
        assert!(choose(Some(trial), 60, |_| false).is_err());
    }
}
