//! The task that owns the state. Every input is an event; nothing else writes the tables.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::core::Core;
use super::handle::{Command, Outcome, Refusal, Reply};
use super::interfaces::Ensured;
use super::published::{Published, Totals, find_backend, find_session, identity};
use super::store::Found;
use super::time::{moment, time};
use super::view::{Done, Drift, Verified};
use crate::clock::{Clock, Moment};
use crate::config::{BackendId, Family, HIGHEST_WEIGHT, Pool};
use crate::loader::Lock;
use crate::model::{AddressHealth, Drain, Overrides};
use crate::routing::{Mirror, Netlink};

/// How often sessions are scanned and rates are taken.
const TICK: Duration = Duration::from_secs(1);

/// How long the kernel may take to say what stands in the way.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is looked what stands in the way around the program.
pub(super) const LOOK: Duration = Duration::from_secs(60);

/// The daemon, started: it forwards, and [`Daemon::run`] keeps it up to date.
pub struct Daemon {
    pub(super) core: Core,
    pub(super) mirror: Mirror,
    /// Where the kernel is asked.
    pub(super) netlink: Netlink,
    pub(super) commands: mpsc::Receiver<(Command, Reply)>,
    pub(super) publish: watch::Sender<Arc<Published>>,
    /// Dropped last: until then no other daemon touches the tables.
    pub(super) locks: Vec<Lock>,
}

impl Daemon {
    /// Keeps the tables up to date until `shutdown`. Then everything stays as it is: packets
    /// are forwarded without a daemon.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                _ = tick.tick() => self.tick().await,
                view = self.mirror.changed() => {
                    self.core.state.routes = view;
                    self.attach_again().await;
                    self.reconcile("routes changed");
                }
                found = self.core.monitor.changed() => {
                    for (id, now) in &found {
                        let before = self.core.state.probed.get(id).copied().unwrap_or_default();
                        log_changes(id, before.status, now.status);
                    }
                    if self.core.state.learn(found) {
                        self.reconcile("health changed");
                        self.scan();
                    }
                }
                command = self.commands.recv() => {
                    if let Some((command, reply)) = command {
                        // What an operator asks for is not to go by what was true a moment ago.
                        self.heed_store();
                        let answer = self.obey(command).await;
                        self.publish();
                        // The caller may have gone away.
                        let _ = reply.send(answer);
                    }
                }
            }
            self.publish();
        }
    }

    async fn tick(&mut self) {
        self.attach_again().await;
        if Instant::now() >= self.core.look_at {
            self.look_around(PATIENCE).await;
        }
        self.heed_store();
        self.revert_if_due().await;
        self.release_drained();
        self.scan();
        if self.core.behind.is_some() {
            self.reconcile("trying again");
        }
        if let Ok(counts) = self.core.state.tables.counts() {
            self.core.meter.take(Totals::of(&counts));
        }
    }

    /// Attaches to interfaces that were deleted and made again, and to those that the program was taken from. These are returned, and those
    /// that do not run it.
    pub(super) async fn attach_again(&mut self) -> Vec<String> {
        // Links are pinned there, too.
        self.core.interfaces.keep_pins(&mut self.locks);
        let gateway = self.core.state.config.gateway.clone();
        let before = self.core.interfaces.indexes();
        let Ensured { taken_off, failures } =
            self.core.interfaces.ensure(&gateway.interfaces, gateway.xdp_mode).await;
        for failure in failures {
            tracing::warn!("{failure}");
        }
        self.core.interfaces.look_for_links();
        let indexes = self.core.interfaces.indexes();
        if indexes != before {
            // New ones have the kernel's own settings.
            self.forget_look();
            self.look_around(PATIENCE).await;
        }
        self.mirror.set_interfaces(indexes);
        taken_off
    }

    /// What is being looked for is not what is wanted any more.
    pub(super) fn forget_look(&mut self) {
        if let Some(looking) = self.core.looking.take() {
            looking.abort();
        }
    }

    /// Looks what stands in the way around the program, and mends it where the configuration says so. A kernel that does not answer soon is not
    /// waited for: what it says is taken in when this is called again. True if it is known now.
    pub(super) async fn look_around(&mut self, patience: Duration) -> bool {
        self.core.look_at = Instant::now();
        let (mut looking, patience) = match self.core.looking.take() {
            Some(looking) => (looking, Duration::ZERO),
            None if self.core.interfaces.is_kernel_busy() => return false,
            None => {
                let config = Arc::clone(&self.core.state.config);
                let looking = self.netlink.ask(async move {
                    let mut around = super::start::surroundings(Arc::clone(&config)).await;
                    around.extend(super::start::sinks(config).await);
                    around
                });
                (looking, patience)
            }
        };
        let around = match timeout(patience, &mut looking).await {
            Ok(Ok(around)) => around,
            // It is looked for again.
            Ok(Err(_)) => return false,
            Err(_) => {
                self.core.looking = Some(looking);
                return false;
            }
        };
        for warning in around.iter().filter(|warning| !self.core.around.contains(warning)) {
            tracing::warn!("{warning}");
        }
        (self.core.around, self.core.look_at) = (around, Instant::now() + LOOK);
        true
    }

    pub(super) fn reconcile(&mut self, why: &str) -> usize {
        match self.core.state.reconcile() {
            Ok(writes) => {
                if writes > 0 {
                    tracing::info!(writes, "{why}");
                }
                self.core.behind = None;
                writes
            }
            Err(e) => {
                tracing::error!("the tables are behind ({why}): {e}");
                self.core.behind = Some(e.to_string());
                0
            }
        }
    }

    pub(super) fn scan(&mut self) {
        let (scan, sessions, changed) = self.core.state.scan(&Clock::now());
        let drained = self.core.state.overrides.drained.keys();
        self.core.forecasts.observe(Instant::now(), drained, &sessions);
        if scan.ended > 0 {
            tracing::debug!(ended = scan.ended, freed = scan.freed, "sessions ended");
        }
        if changed {
            self.reconcile("sessions came and went");
        }
    }

    /// Takes in what the disk told only now, and says what it could not keep.
    pub(super) fn heed_store(&mut self) {
        let lost = self.core.store.lost();
        lost.iter().for_each(|warning| tracing::warn!("{warning}"));
        self.core.warnings.extend(lost);
        let Found { trial, overrides } = self.core.store.found();
        if let Some(overrides) = overrides {
            tracing::warn!("drains and weights that were set before could be read only now");
            self.core.state.overrides = overrides;
            self.reconcile("drains and weights were read");
        }
        if let Some(trial) = trial {
            self.adopt_trial(trial);
        }
        self.core.store.tend();
        let told = self.core.store.warnings();
        for warning in told.iter().filter(|warning| !self.core.store_told.contains(warning)) {
            tracing::warn!("{warning}");
        }
        self.core.store_told = told;
    }

    /// Backends whose drain's deadline has come open no more sessions, before what is left of theirs is ended.
    fn release_drained(&mut self) {
        if self.core.state.release_drained(&Clock::now()) {
            self.keep_overrides();
            self.reconcile("drain deadline");
        }
    }

    async fn obey(&mut self, command: Command) -> Result<Outcome, Refusal> {
        match command {
            Command::Drain { backend, deadline, spread } => {
                let id = find_backend(&self.core.state.config, &backend)?;
                let deadline = deadline.map(moment).transpose()?;
                moment(spread)?;
                let spread = spread.as_secs();
                self.override_with(|o| {
                    o.drained.insert(id.clone(), Drain { deadline, spread, released: false });
                })?;
                let pool = self.core.state.config.pool(&id.pool);
                let knows = pool.is_none_or(Pool::knows_sessions);
                let told = |at: Moment| time(at.wall(&Clock::now()));
                let until = match deadline {
                    None if !knows => "who is there already stays".to_owned(),
                    // There are no sessions that could end one after the other.
                    Some(at) if !knows => format!(
                        "who is there already stays until {}, and all go elsewhere then with their next packet: without an agent it has no sessions, \
                         and there is nothing to spread",
                        told(at)
                    ),
                    None => "its sessions stay until they end".to_owned(),
                    Some(at) => format!(
                        "its sessions stay until they end, at most until {}; what is left then ends over {}",
                        told(at),
                        humantime::format_duration(Duration::from_secs(spread))
                    ),
                };
                done(format!("{id} gets no new sessions; {until}"))
            }
            Command::Undrain { backend } => {
                let id = find_backend(&self.core.state.config, &backend)?;
                let was_silent = self.core.state.trust(&id);
                if was_silent {
                    tracing::info!(backend = %id, "it is taken to answer its sessions again");
                    self.reconcile("silence was ended");
                }
                let is_drained = self.core.state.overrides.drained.contains_key(&id);
                // It may be drained by what could not be read.
                if is_drained || self.core.store.has_unread_overrides() {
                    self.override_with(|o| {
                        o.drained.remove(&id);
                    })?;
                } else if !was_silent {
                    return done(format!("{id} was not draining"));
                }
                done(format!("{id} gets new sessions again"))
            }
            Command::Weight { backend, weight } => {
                let id = find_backend(&self.core.state.config, &backend)?;
                if weight.is_some_and(|weight| !(1..=HIGHEST_WEIGHT).contains(&weight)) {
                    return Err(Refusal::Invalid(format!(
                        "a weight goes from 1 to {HIGHEST_WEIGHT}; to keep new sessions away, drain the backend"
                    )));
                }
                self.override_with(|o| {
                    let _ = match weight {
                        Some(weight) => o.weights.insert(id.clone(), weight),
                        None => o.weights.remove(&id),
                    };
                })?;
                done(match weight {
                    Some(weight) => {
                        format!("{id} has weight {weight}, until it is set again or `default`")
                    }
                    None => format!("{id} has its configured weight"),
                })
            }
            Command::Kill { session } => {
                let found = find_session(&self.core.state.tables, &session)?;
                if !self.core.state.end(&found) {
                    return Err(Refusal::NotFound(format!("session `{session}` has just ended")));
                }
                done(format!("session {} of {} ended", identity(found.identity), found.client))
            }
            Command::Difference => self.difference().map(Outcome::Difference),
            Command::Apply { confirm } => self.apply(confirm).await.map(Outcome::Reloaded),
            Command::Confirm => self.confirm().map(Outcome::Done),
            Command::Verify => self.verify().await.map(Outcome::Verified),
            Command::Revert => self.revert().await.map(Outcome::Reloaded),
        }
    }

    async fn verify(&mut self) -> Result<Verified, Refusal> {
        let taken_off = self.attach_again().await;
        let (drift, writes) =
            self.core.state.verify().map_err(|e| Refusal::Failed(e.to_string()))?;
        let told = |d: &crate::model::Drift| Drift {
            table: d.table.to_owned(),
            missing: d.missing as u64,
            foreign: d.foreign as u64,
            different: d.different as u64,
            entries: d.entries.clone(),
        };
        for drift in &drift {
            let (missing, foreign, different) = (drift.missing, drift.foreign, drift.different);
            tracing::warn!(
                table = drift.table,
                missing,
                foreign,
                different,
                entries = drift.entries.join("; "),
                writes,
                "tables mended"
            );
        }
        let mut drift: Vec<_> = drift.iter().map(told).collect();
        if !taken_off.is_empty() {
            drift.push(Drift {
                table: "interfaces".to_owned(),
                missing: taken_off.len() as u64,
                foreign: 0,
                different: 0,
                entries: taken_off.iter().map(|what| format!("missing: {what}")).collect(),
            });
        }
        Ok(Verified { drift, writes: writes as u64 })
    }

    /// Changes what operators said: in the tables and in the store, or not at all.
    fn override_with(&mut self, change: impl FnOnce(&mut Overrides)) -> Result<(), Refusal> {
        let before = self.core.state.overrides.clone();
        let mut after = before.clone();
        change(&mut after);
        let kept = self.core.store.keep_overrides(&after, &before);
        kept.map_err(|e| Refusal::Failed(e.to_string()))?;
        self.core.state.overrides = after;
        match self.core.state.reconcile() {
            Ok(_) => {
                self.scan();
                Ok(())
            }
            Err(e) => {
                self.core.state.overrides = before;
                self.keep_overrides();
                self.reconcile("taking an override back");
                Err(Refusal::Failed(e.to_string()))
            }
        }
    }

    /// Keeps what operators said as it is, or says at once, and in the status, why it cannot be kept.
    pub(super) fn keep_overrides(&mut self) {
        if let Err(e) = self.core.store.note_overrides(&self.core.state.overrides) {
            tracing::error!("{e}");
        }
    }

    pub(super) fn publish(&self) {
        self.publish.send_replace(Arc::new(self.core.published()));
    }
}

fn log_changes(backend: &BackendId, before: AddressHealth, now: AddressHealth) {
    for family in Family::ALL {
        let (before, now) = (before.of(family), now.of(family));
        if before != now {
            tracing::info!(%backend, %family, ?before, ?now, "health changed");
        }
    }
}

fn done(message: String) -> Result<Outcome, Refusal> {
    Ok(Outcome::Done(Done { message }))
}
