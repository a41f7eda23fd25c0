//! What the daemon is made of, and what it shows of itself.

use std::sync::Arc;
use std::time::Instant;

use super::forecast::Forecasts;
use super::interfaces::Interfaces;
use super::published::{Birth, Published, Rates, Totals};
use super::state::State;
use super::trial::Trial;
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
    /// The configuration on trial.
    pub(super) trial: Option<Trial>,
    pub(super) interfaces: Interfaces,
    pub(super) monitor: Monitor,
    /// Found at the start, and true until the next reload.
    pub(super) warnings: Vec<String>,
    pub(super) meter: Meter,
    pub(super) forecasts: Forecasts,
    /// The tables are behind: a write failed.
    pub(super) behind: Option<String>,
}

impl Core {
    pub(super) fn published(&self) -> Published {
        let mut warnings = self.warnings.clone();
        warnings.extend(self.interfaces.warning());
        warnings.extend(self.trial.as_ref().map(Trial::warning));
        warnings.extend(self.behind.iter().map(|e| format!("the tables are behind: {e}")));
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
            tenants: Arc::new(self.state.tenants()),
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
