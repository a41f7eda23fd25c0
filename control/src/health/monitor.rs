//! One task for each backend.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::icmp::Pinger;
use super::{Streak, tcp};
use crate::config::{BackendId, Health, Timing};
use crate::model::{HealthView, Status};

/// What to probe, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The backend's addresses, all of which must answer.
    pub addresses: Vec<IpAddr>,
    /// How.
    pub health: Health,
}

/// Backends cannot be probed.
#[derive(Debug, thiserror::Error)]
#[error("cannot open a socket for echo requests: {0}")]
pub struct MonitorError(#[from] io::Error);

type Errors = Arc<Mutex<BTreeMap<BackendId, String>>>;

/// Probes backends.
#[derive(Debug)]
pub struct Monitor {
    pinger: Arc<Pinger>,
    running: BTreeMap<BackendId, (Target, AbortHandle)>,
    report: mpsc::UnboundedSender<(BackendId, Status)>,
    reports: mpsc::UnboundedReceiver<(BackendId, Status)>,
    errors: Errors,
}

impl Monitor {
    /// Starts to probe, in the network namespace of the caller.
    ///
    /// # Errors
    /// The sockets cannot be opened.
    pub fn start(targets: BTreeMap<BackendId, Target>) -> Result<Self, MonitorError> {
        let (report, reports) = mpsc::unbounded_channel();
        let mut monitor = Self {
            pinger: Pinger::start()?,
            running: BTreeMap::new(),
            report,
            reports,
            errors: Errors::default(),
        };
        monitor.set_targets(targets);
        Ok(monitor)
    }

    /// Probes these from now on. What is known of those that stay the same is kept.
    pub fn set_targets(&mut self, targets: BTreeMap<BackendId, Target>) {
        self.running.retain(|id, (target, task)| {
            let same = targets.get(id) == Some(target);
            if !same {
                task.abort();
            }
            same
        });
        lock(&self.errors).retain(|id, _| self.running.contains_key(id));
        for (id, target) in targets {
            if self.running.contains_key(&id) {
                continue;
            }
            let Some(timing) = target.health.timing() else {
                // Whatever was known of it no longer counts.
                let _ = self.report.send((id, Status::Unknown));
                continue;
            };
            let probe = Probe {
                id: id.clone(),
                target: target.clone(),
                timing,
                pinger: Arc::clone(&self.pinger),
                report: self.report.clone(),
                errors: Arc::clone(&self.errors),
            };
            let task = tokio::spawn(probe.run()).abort_handle();
            self.running.insert(id, (target, task));
        }
    }

    /// Waits for changes; returns all there are.
    pub async fn changed(&mut self) -> HealthView {
        let mut changes = HealthView::new();
        // The sender is `self`'s: the channel does not end.
        if let Some((id, status)) = self.reports.recv().await {
            changes.insert(id, status);
        }
        while let Ok((id, status)) = self.reports.try_recv() {
            changes.insert(id, status);
        }
        changes
    }

    /// Why the last probes failed, of those that failed.
    pub fn errors(&self) -> BTreeMap<BackendId, String> {
        lock(&self.errors).clone()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        for (_, task) in self.running.values() {
            task.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Probe {
    id: BackendId,
    target: Target,
    timing: Timing,
    pinger: Arc<Pinger>,
    report: mpsc::UnboundedSender<(BackendId, Status)>,
    errors: Errors,
}

impl Probe {
    async fn run(self) {
        let Timing { interval, rise, fall, .. } = self.timing;
        // Backends take turns within the interval, always in the same order.
        let mut hasher = DefaultHasher::new();
        self.id.hash(&mut hasher);
        let turn = interval.mul_f64(f64::from(hasher.finish() as u16) / f64::from(u16::MAX));
        let mut ticks = interval_at(Instant::now() + turn, interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut streak = Streak::new();
        loop {
            ticks.tick().await;
            let result = self.once().await;
            let good = result.is_ok();
            {
                let mut errors = lock(&self.errors);
                match result {
                    Ok(()) => drop(errors.remove(&self.id)),
                    Err(e) => drop(errors.insert(self.id.clone(), e)),
                }
            }
            if let Some(status) = streak.observe(good, rise, fall)
                && self.report.send((self.id.clone(), status)).is_err()
            {
                return;
            }
        }
    }

    /// Probes all addresses at once.
    async fn once(&self) -> Result<(), String> {
        let probes = self.target.addresses.iter().map(|address| async move {
            match self.target.health {
                Health::None => Ok(()),
                Health::Icmp(timing) => self.pinger.probe(*address, timing.timeout).await,
                Health::Tcp { port, timing } => tcp::probe(*address, port, timing.timeout).await,
            }
        });
        futures_util::future::try_join_all(probes).await.map(drop)
    }
}
