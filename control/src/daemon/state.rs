//! Everything the daemon knows, and the one way in which it changes the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use dataplane::abi::NAME_TENANT;

use super::policy::Fates;
use super::published::{Endpoints, endpoints};
use super::silence::{Heard, Silences, probes_go_as_packets};
use crate::clock::Clock;
use crate::config::{BackendId, Config, Family};
use crate::loader::{LoadError, Tables, Writer};
use crate::model::{
    ApplyError, Drain, Drift, Fixed, Guard, HealthView, Held, Inputs, Judgement, Load, ModelError,
    Overrides, Probed, ProbedView, Registry, RouteView, Status, TableWriter, Wanted, apply,
    compute, diff, drift,
};
use crate::sessions::{Keeper, Record, Recount, Scan};

/// The tables could not be brought to what they should be.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// What they should be cannot be expressed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A write failed.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// The tables could not be verified.
#[derive(Debug, thiserror::Error)]
pub(super) enum VerifyError {
    /// A table cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It could not be mended.
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
}

/// Tables that are written, and looked at.
pub(super) trait Kept: TableWriter + Send + Sync {
    /// What they hold.
    fn look(&self) -> Result<Wanted, LoadError>;
}

impl Kept for Writer {
    fn look(&self) -> Result<Wanted, LoadError> {
        self.read()
    }
}

/// The inputs of the model, what the tables hold, and the tables.
pub(super) struct State {
    pub(super) config: Arc<Config>,
    pub(super) overrides: Overrides,
    /// What probes found, and what is believed of it.
    pub(super) probed: ProbedView,
    pub(super) health: HealthView,
    pub(super) held: Held,
    guard: Guard,
    pub(super) load: Load,
    pub(super) routes: Arc<RouteView>,
    pub(super) current: Wanted,
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) tables: Arc<Tables>,
    fixed: Fixed,
    pub(super) writer: Box<dyn Kept>,
    keeper: Keeper,
    silences: Silences,
    /// Retired endpoints that were retired before the scan now to come began.
    retired: BTreeSet<u32>,
    /// Retired endpoints that no slot refers to.
    released: BTreeSet<u32>,
}

impl State {
    /// The state that the tables are in, with nothing done yet. Backends that the tables
    /// call dead stay so until they answer, at each address for itself.
    pub(super) fn new(
        config: Config,
        overrides: Overrides,
        routes: Arc<RouteView>,
        tables: Arc<Tables>,
        writer: Writer,
    ) -> Result<Self, LoadError> {
        let current = writer.read()?;
        let endpoints = Arc::new(endpoints(&current));
        let health = Registry::of(&current).health();
        let mut state = Self {
            config: Arc::new(config),
            overrides,
            probed: ProbedView::new(),
            health: HealthView::new(),
            held: Held::new(),
            guard: Guard::default(),
            load: Load::default(),
            routes,
            current,
            endpoints,
            fixed: Fixed::read(tables.settings()),
            tables,
            writer: Box::new(writer),
            keeper: Keeper::default(),
            silences: Silences::default(),
            retired: BTreeSet::new(),
            released: BTreeSet::new(),
        };
        state.adopt(health);
        Ok(state)
    }

    /// Takes for true what other tables say of backends' health, until probes say otherwise.
    pub(super) fn adopt(&mut self, health: HealthView) {
        let known = health.into_iter().filter(|(id, _)| is_probed(&self.config, id));
        for (id, health) in known {
            self.probed.insert(id.clone(), Probed::known(health));
            self.health.insert(id, health);
        }
    }

    fn inputs<'a>(&'a self, config: &'a Config, overrides: &'a Overrides) -> Inputs<'a> {
        Inputs {
            config,
            overrides,
            health: &self.health,
            load: &self.load,
            routes: &self.routes,
            current: &self.current,
            released: &self.released,
        }
    }

    /// Brings the tables to what they should be. Returns how many writes it took.
    ///
    /// # Errors
    /// See [`ReconcileError`]; the next call goes on from there.
    pub(super) fn reconcile(&mut self) -> Result<usize, ReconcileError> {
        let wanted = compute(&self.inputs(&self.config, &self.overrides))?;
        self.bring_to(&wanted)
    }

    fn bring_to(&mut self, wanted: &Wanted) -> Result<usize, ReconcileError> {
        let steps = diff(&self.current, wanted);
        if steps.is_empty() {
            return Ok(0);
        }
        let applied = apply(&mut self.current, &steps, &mut *self.writer);
        self.endpoints = Arc::new(endpoints(&self.current));
        // What was released is gone or in use again: only a scan can release it once more.
        self.released = &self.released & &Registry::of(&self.current).retired();
        applied?;
        tracing::debug!(writes = steps.len(), "tables reconciled");
        Ok(steps.len())
    }

    /// Goes on with other tables, which hold the same.
    pub(super) fn move_to(&mut self, tables: Arc<Tables>, writer: Writer) {
        self.fixed = Fixed::read(tables.settings());
        (self.tables, self.writer) = (tables, Box::new(writer));
        // It knows slots, and these are others.
        self.keeper = Keeper::default();
    }

    /// Takes a new configuration, or leaves everything as it is.
    ///
    /// # Errors
    /// What it asks for cannot be expressed, or a write failed: the configuration in force stays so, and the next
    /// [`Self::reconcile`] takes back what was written.
    pub(super) fn configure(&mut self, config: Config) -> Result<usize, ReconcileError> {
        let wanted = compute(&self.inputs(&config, &self.overrides))?;
        let writes = self.bring_to(&wanted)?;
        let exists = |id: &BackendId| config.backend(id).is_some();
        self.health.retain(|id, _| exists(id));
        self.probed.retain(|id, _| exists(id));
        self.silences.configure(&self.config, &config);
        self.load.set_silent(self.silences.silent(Instant::now()));
        self.config = Arc::new(config);
        Ok(writes)
    }

    /// Forgets what was said of backends that the configuration no longer has: true if there was anything.
    pub(super) fn forget_strangers(&mut self) -> bool {
        let exists = |id: &BackendId| self.config.backend(id).is_some();
        let said = |overrides: &Overrides| overrides.drained.len() + overrides.weights.len();
        let before = said(&self.overrides);
        self.overrides.drained.retain(|id, _| exists(id));
        self.overrides.weights.retain(|id, _| exists(id));
        said(&self.overrides) != before
    }

    /// Takes an operator's word for it that a backend answers its sessions: true if it was silent. The tables are not brought to that.
    pub(super) fn trust(&mut self, id: &BackendId) -> bool {
        let was_silent = self.silences.forget(id);
        self.load.set_silent(self.silences.silent(Instant::now()));
        was_silent
    }

    /// Takes note of drains whose deadline has come: from now on their backends open no more sessions. True if there are any.
    pub(super) fn release_drained(&mut self, now: &Clock) -> bool {
        let due = |drain: &Drain| {
            !drain.released && drain.deadline.is_some_and(|at| at.passed(now).is_some())
        };
        let mut released = false;
        for (id, drain) in &mut self.overrides.drained {
            if due(drain) {
                tracing::info!(backend = %id, spread = drain.spread, "drain deadline: what is left of its sessions is ended");
                (drain.released, released) = (true, true);
            }
        }
        released
    }

    /// Takes in what probes found. True if that changes anything.
    pub(super) fn learn(&mut self, found: ProbedView) -> bool {
        for (id, now) in &found {
            let before = self.probed.get(id).copied().unwrap_or_default().status;
            let is_back =
                |family| (before.of(family), now.status.of(family)) == (Status::Down, Status::Up);
            if Family::ALL.into_iter().any(is_back) {
                // Whatever it was, it is over.
                self.silences.forget(id);
            }
        }
        self.probed.extend(found);
        self.judge()
    }

    /// Judges anew what probes found: also when only time has passed. True if that changes anything.
    pub(super) fn judge(&mut self) -> bool {
        let (now, overrides) = (Instant::now(), &self.overrides);
        let (config, load) = (&self.config, &self.load);
        let judged = self.guard.judge(now, config, &self.probed, &self.health, overrides, load);
        let Judgement { health, held } = judged;
        for (id, family) in held.difference(&self.held) {
            let pool = &id.pool;
            tracing::warn!(backend = %id, %family, "held: its probes fail, but too many of pool `{pool}` do at once to believe them; it stays in service");
        }
        for (id, family) in self.held.difference(&held) {
            let now = health.get(id).copied().unwrap_or_default().of(*family);
            tracing::info!(backend = %id, %family, ?now, "no longer held");
        }
        let changed = health != self.health || held != self.held;
        (self.health, self.held) = (health, held);
        changed
    }

    /// Looks whether the tables hold what was written to them, and mends them. Returns what was wrong, and how many
    /// writes mended it.
    ///
    /// # Errors
    /// A table cannot be read, or written.
    pub(super) fn verify(&mut self) -> Result<(Vec<Drift>, usize), VerifyError> {
        // By these everything else is found.
        let fixed = self.fixed.mend(self.tables.settings());
        let read = self.writer.look()?;
        let mut found = drift(&self.current, &read, self.tables.sizes().sessions());
        Drift::add_fixed(&mut found, &fixed);
        if found.is_empty() {
            return Ok((found, 0));
        }
        let written = self.current.clone();
        self.current = read.known_as(&written);
        // First what was there. Were the rest computed from damaged names, an index might mean something else, and sessions refer to it.
        let writes = fixed.len() + self.bring_to(&written)?;
        Ok((found, writes + self.reconcile()?))
    }

    /// How many writes a configuration would take.
    ///
    /// # Errors
    /// What it asks for cannot be expressed.
    pub(super) fn writes_for(&self, config: &Config) -> Result<usize, ReconcileError> {
        let wanted = compute(&self.inputs(config, &self.overrides))?;
        Ok(diff(&self.current, &wanted).len())
    }

    /// Scans the sessions. With open ones by backend, and true if the scan found a reason to reconcile.
    pub(super) fn scan(&mut self, now: &Clock) -> (Scan, BTreeMap<BackendId, u64>, bool) {
        let registry = Registry::of(&self.current);
        let retired_now = registry.retired();
        let not_live = registry.not_live();
        let fates = Fates::new(&self.config, &self.overrides, &self.endpoints, &not_live, now);
        let scan = self.keeper.scan(&*self.tables, now, &fates);
        // Only what was retired before this scan began, and before the one before it, so that a
        // packet that was placed meanwhile is seen.
        let released: BTreeSet<u32> = self
            .retired
            .intersection(&retired_now)
            .filter(|index| !scan.referred.contains(index))
            .copied()
            .collect();
        self.retired = retired_now;
        let mut sessions = BTreeMap::new();
        for (index, count) in &scan.open {
            if let Some(info) = self.endpoints.get(index) {
                *sessions.entry(info.names.backend.clone()).or_insert(0) += count;
            }
        }
        let full_changed = self.load.observe(&self.config, &sessions);
        let silent_changed = self.listen(&scan, &sessions);
        let judged = self.judge();
        let changed = full_changed || silent_changed || judged || released != self.released;
        self.released = released;
        (scan, sessions, changed)
    }

    /// Finds out who no longer answers; true if that changes who gets new sessions.
    fn listen(&mut self, scan: &Scan, sessions: &BTreeMap<BackendId, u64>) -> bool {
        let mut heard: BTreeMap<BackendId, Heard> = BTreeMap::new();
        for (index, (asked, answered)) in &scan.heard {
            if let Some(info) = self.endpoints.get(index) {
                let of = heard.entry(info.names.backend.clone()).or_default();
                of.asked += asked;
                of.answered += answered;
            }
        }
        let now = Instant::now();
        let (silent, again) = self.silences.observe(now, &self.config, &heard);
        // Without sessions it could never answer any. Probes that speak their protocol say instead whether it serves.
        for id in self.silences.silent(now).all {
            if !sessions.contains_key(&id) && self.is_served(&id) {
                self.silences.forget(&id);
                tracing::info!(backend = %id, "it has no sessions any more, and its probes say that it serves");
            }
        }
        for backend in silent {
            tracing::warn!(%backend, "silent: it does not answer its sessions any more");
        }
        for backend in again {
            tracing::info!(%backend, "it answers its sessions again");
        }
        self.load.set_silent(self.silences.silent(now))
    }

    /// Whether probes that go as clients' packets do find a backend up.
    fn is_served(&self, id: &BackendId) -> bool {
        let status = self.probed.get(id).map(|probed| probed.status).unwrap_or_default();
        self.config.pool(&id.pool).is_some_and(probes_go_as_packets)
            && status.overall() == Status::Up
            && !status.is_impaired()
    }

    /// Ends one session.
    pub(super) fn end(&mut self, session: &Record) -> bool {
        let fates = Fates::new(
            &self.config,
            &self.overrides,
            &self.endpoints,
            &BTreeSet::new(),
            &Clock::now(),
        );
        self.keeper.end(&*self.tables, session, &fates)
    }

    /// Corrects counts that a crash left wrong. `None` while sessions come and go.
    pub(super) fn recount(&self) -> Option<Recount> {
        let tenant = |endpoint: u32| self.endpoints.get(&endpoint).map(|info| info.tenant);
        Recount::take(&*self.tables, &tenant)
    }

    /// Names of the tenants that are configured, by index.
    pub(super) fn tenants(&self) -> std::collections::BTreeMap<u32, String> {
        let live = Registry::of(&self.current).live(NAME_TENANT);
        live.map(|(index, name)| (index, name.to_owned())).collect()
    }
}

/// Whether a backend is there, and can be found to answer again.
pub(super) fn is_probed(config: &Config, id: &BackendId) -> bool {
    config.backend(id).is_some_and(|(pool, _)| pool.health.probing().is_some())
}
