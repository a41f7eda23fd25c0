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
use super::wall_clock::{WallClock, epoch};
use crate::config::{BackendId, Config, Gateway, ReadError, Sysctl, XdpMode};
use crate::health::{Monitor, MonitorError, Target};
use crate::loader::{self, Bpffs, LoadError, Lock, PacketLog, Pins, Program, Tables, find};
use crate::routing::{Mirror, MirrorError, features, interfaces, sysctl, vips};
use crate::sessions::{Clock, Recount};

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
    /// For `fernpass status`, if a configuration could not be taken back.
    not_reverted: Option<String>,
    clock: WallClock,
    bpffs: Bpffs,
    lock: Lock,
    store: Store,
}

impl Prepared {
    /// Reads the configuration, and takes the directories that it names.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn new(file: &Path) -> Result<Self, StartError> {
        let source = fs::read_to_string(file)
            .map_err(|source| ReadError::File { path: file.to_owned(), source })?;
        let config = Config::parse_with_files(&source, &file.display().to_string())
            .map_err(ReadError::from)?;
        let gateway = &config.gateway;
        for name in &gateway.interfaces {
            interfaces::index(name)?;
        }
        let bpffs = Bpffs::prepare(&gateway.bpffs)?;
        let lock = bpffs.lock()?;
        let store = Store::open(&gateway.state_dir);
        // For the socket, before the right to make directories is given up. Who makes the socket says what is wrong with it.
        if let Some(directory) = config.api.socket.parent() {
            let _ = fs::create_dir_all(directory);
        }
        let clock = WallClock::new();
        let Found { kept, is_older, warning: mut not_reverted } = store.trial();
        let (config, source, trial) = match kept {
            None => (config, source, None),
            Some(trial) => match trial.start(&source, epoch(clock.wall())) {
                Start::File(trial) => (config, source, trial),
                Start::Before(before, trial) => (*before, trial.before.clone(), Some(trial)),
                Start::Lost(why) => {
                    not_reverted = Some(format!(
                        "the configuration was not confirmed, but is in force: the one before it cannot be used any more ({})",
                        why.trim_end()
                    ));
                    (config, source, None)
                }
            },
        };
        let mut prepared = Self { config, source, trial, not_reverted, clock, bpffs, lock, store };
        if is_older {
            prepared.clock.leave(prepared.trial.iter().filter_map(|trial| trial.until));
        }
        Ok(prepared)
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
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
        let Prepared { config, source, trial, not_reverted, mut clock, bpffs, lock, store } =
            prepared;
        let Found { kept, is_older, warning: lost } = store.load();
        let overrides = kept.unwrap_or_default();
        if is_older {
            clock.leave(overrides.drained.values().filter_map(|drain| drain.deadline));
        }
        // Forwarding does not wait for a disk.
        if let Err(e) = store.keep_trial_again(trial.as_ref()) {
            tracing::error!("{e}");
        }

        let pins = Pins::under(&bpffs);
        let found = find(&bpffs)?;
        let is_adopted = !matches!(found, loader::Found::Nothing);
        let started = Parts { config, overrides, clock, store, pins: pins.clone(), bpffs };
        match started.start(file, lock, found, log).await {
            Ok((mut daemon, handle)) => {
                let lost: Vec<_> = lost.into_iter().chain(not_reverted).collect();
                lost.iter().for_each(|warning| tracing::warn!("{warning}"));
                daemon.core.warnings.extend(lost);
                daemon.core.source = source;
                daemon.core.trial = trial;
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
    overrides: crate::model::Overrides,
    clock: WallClock,
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
        let Self { config, overrides, clock, store, pins, bpffs } = self;
        let adopted = !matches!(found, loader::Found::Nothing);
        let gateway = config.gateway.clone();
        let indexes: BTreeSet<u32> = gateway
            .interfaces
            .iter()
            .map(|name| interfaces::index(name))
            .collect::<Result<_, _>>()?;
        let mut mirror = Mirror::start(indexes, backend_addresses(&config)).await?;
        let routes = mirror.first(ROUTES).await?;

        let inputs = growth::Inputs { config, overrides, routes };
        let growth::Begun { mut state, program, not_grown } =
            growth::begin(&bpffs, found, inputs, log)?;
        let writes = state.reconcile()?;
        let warnings = not_grown.map(|e| too_small(&state.config, &state.tables, &e));
        let mut around = surroundings(&state.config).await;
        recount(&state).await;

        let mut program = match program {
            Some(program) => program,
            None => Program::load(&pins, log)?,
        };
        if log != PacketLog::Off {
            program.messages()?.run();
        }
        let mut interfaces = Interfaces::new(program, pins);
        interfaces.replace(&gateway.interfaces, gateway.xdp_mode).await?;
        around.extend(sinks(&gateway).await);
        around.extend(store.obstacle());
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
            clock,
            trial: None,
            before: None,
            not_reverted: None,
            interfaces,
            monitor,
            warnings: warnings.into_iter().collect(),
            around,
            look_at: Instant::now() + LOOK,
            again_at: Instant::now(),
            meter: Meter::default(),
            forecasts: Forecasts::default(),
            told: Arc::default(),
            unreachable: Arc::clone(&unreachable),
            behind: None,
        };
        let (publish, published) = watch::channel(Arc::new(core.published()));
        let daemon = Daemon { core, store, mirror, commands: received, publish, locks: vec![lock] };
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
pub(super) async fn sinks(gateway: &Gateway) -> Vec<String> {
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
pub(super) async fn surroundings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let families = config.services.iter().flat_map(|s| &s.listen).map(|l| l.family()).collect();
    let backends = backend_addresses(config);
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
