//! What the daemon is made of, and what it shows of itself.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use tokio::task::JoinHandle;

use super::forecast::Forecasts;
use super::handle::Unreachable;
use super::interfaces::Interfaces;
use super::published::{Birth, Published, Rates, Told, Totals};
use super::state::State;
use super::store::Store;
use super::trial::Trial;
use crate::clock::Clock;
use crate::config::Config;
use crate::health::Monitor;
use crate::loader::{Bpffs, PacketLog};

/// What readers are told about.
pub(super) struct Core {
    pub(super) birth: Arc<Birth>,
    pub(super) bpffs: Bpffs,
    pub(super) log: PacketLog,
    pub(super) state: State,
    /// Text of the configuration in force.
    pub(super) source: String,
    pub(super) store: Store,
    /// The configuration on trial.
    pub(super) trial: Option<Trial>,
    /// The one that it goes back to, unless this daemon knows only its text.
    pub(super) before: Option<Arc<Config>>,
    /// Why it could not be taken back, and when that was tried.
    pub(super) not_reverted: Option<(String, Instant)>,
    pub(super) interfaces: Interfaces,
    pub(super) monitor: Monitor,
    /// Found at the start, and true until the next reload.
    pub(super) warnings: Vec<String>,
    /// What stands in the way around the program, when it was looked for last.
    pub(super) around: Vec<String>,
    /// It is being looked for.
    pub(super) looking: Option<JoinHandle<Vec<String>>>,
    /// When it is looked for next.
    pub(super) look_at: Instant,
    /// What stood in the way of keeping the state, when that was logged last.
    pub(super) store_told: Vec<String>,
    pub(super) meter: Meter,
    pub(super) forecasts: Forecasts,
    pub(super) told: Arc<Told>,
    pub(super) unreachable: Unreachable,
    /// The tables are behind: a write failed.
    pub(super) behind: Option<String>,
}

impl Core {
    /// What is to be known of the configuration on trial.
    pub(super) fn trial_warning(&self) -> Option<String> {
        let trial = self.trial.as_ref()?;
        Some(match &self.not_reverted {
            Some((why, _)) => format!(
                "the configuration was not confirmed, and cannot be taken back: {why}. It stays in force; it is tried again each minute, and by \
                 `fernpass revert`. `fernpass confirm` keeps it"
            ),
            None => trial.warning(&Clock::now()),
        })
    }

    pub(super) fn published(&self) -> Published {
        let mut warnings = self.warnings.clone();
        warnings.extend_from_slice(&self.around);
        warnings.extend(self.interfaces.warnings());
        warnings.extend(self.store.warnings());
        warnings.extend(self.trial_warning());
        warnings.extend(self.unreachable.lock().unwrap_or_else(PoisonError::into_inner).clone());
        warnings.extend(self.behind.iter().map(|e| format!("the tables are behind: {e}")));
        let tenants = self.state.tenants();
        self.told.keep(tenants.values());
        Published {
            birth: Arc::clone(&self.birth),
            tables: Arc::clone(&self.state.tables),
            config: Arc::clone(&self.state.config),
            overrides: self.state.overrides.clone(),
            health: self.state.health.clone(),
            probed: self.state.probed.clone(),
            held: self.state.held.clone(),
            probe_errors: Arc::new(self.monitor.errors()),
            load: self.state.load.clone(),
            endpoints: Arc::clone(&self.state.endpoints),
            tenants: Arc::new(tenants),
            told: Arc::clone(&self.told),
            routes: Arc::clone(&self.state.routes),
            interfaces: self.interfaces.views(),
            rates: self.meter.rates,
            forecasts: self.forecasts.all(),
            warnings,
        }
    }
}

/// Measures packets a second.
#[derive(Debug, Default)]
pub(super) struct Meter {
    last: Option<(Instant, Totals)>,
    rates: Rates,
}

impl Meter {
    pub(super) fn take(&mut self, totals: Totals) {
        let now = Instant::now();
        if let Some((then, before)) = self.last.replace((now, totals)) {
            let seconds = now.duration_since(then).as_secs_f64().max(1e-3);
            let rate = |now: u64, then: u64| {
                (now.saturating_sub(then) as f64 / seconds * 10.0).round() / 10.0
            };
            self.rates = Rates {
                rx: rate(totals.received(), before.received()),
                drop: rate(totals.dropped, before.dropped),
            };
        }
    }
}
