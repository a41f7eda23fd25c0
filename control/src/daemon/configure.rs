//! Another configuration, while the daemon runs: shown, applied, tried, taken back.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::actor::Daemon;
use super::changes::changes;
use super::growth;
use super::handle::Refusal;
use super::time::{moment, time};
use super::trial::{Start, Trial};
use super::view::{Difference, Done, Reloaded};
use crate::clock::Clock;
use crate::config::{Config, ReadError};

/// How long the kernel may take to say what stands in the way of another configuration.
const PATIENCE: Duration = Duration::from_secs(3);

/// When it is tried again to take a configuration back, which failed.
const REVERT_AGAIN: Duration = Duration::from_secs(60);

/// A configuration and its text.
struct Text {
    config: Config,
    text: String,
}

impl Daemon {
    /// What the file would change.
    pub(super) fn difference(&self) -> Result<Difference, Refusal> {
        let new = self.file()?;
        let old = &self.core.state.config;
        let restart = needs_restart(old, &new.config);
        let writes = if restart.is_empty() {
            self.core.state.writes_for(&new.config).map_err(|e| Refusal::Failed(e.to_string()))?
        } else {
            0
        };
        Ok(Difference {
            changes: changes(old, &new.config),
            restart: restart.into_iter().map(str::to_owned).collect(),
            growth: growth::forecast(&new.config, &self.core.state.tables),
            writes: writes as u64,
        })
    }

    /// Reads the file again: it is applied, or nothing has changed. With a time to confirm it in, it is taken back afterwards.
    pub(super) async fn apply(&mut self, confirm: Option<Duration>) -> Result<Reloaded, Refusal> {
        if self.on_trial().is_ok() {
            let warning = self.core.trial_warning().unwrap_or_default();
            return Err(Refusal::Invalid(format!("{warning}; nothing was changed")));
        }
        let until = confirm.map(moment).transpose()?;
        let new = self.file()?;
        let is_other = new.text != self.core.source || new.config != *self.core.state.config;
        let until = until.filter(|_| is_other);
        let trial = until.map(|_| Trial {
            before: self.core.source.clone(),
            tried: new.text.clone(),
            until,
        });
        let before = self.core.trial.clone();
        let in_force = Arc::clone(&self.core.state.config);
        // A start that finds what was taken back goes by the file, as soon as that is another one.
        if trial.is_none() && !self.core.store.takes_for_tried(&new.text) {
            self.keep_anyway(None);
        } else {
            // Before anything is changed: a daemon that dies now takes it back, too.
            self.keep(trial)?;
        }
        let mut reloaded = match self.take(new).await {
            Ok(reloaded) => {
                self.core.before = until.map(|_| in_force);
                reloaded
            }
            Err(e) => {
                self.keep_anyway(before);
                return Err(e);
            }
        };
        reloaded.confirm_by = until.map(|until| time(until.wall(&Clock::now())));
        Ok(reloaded)
    }

    /// Keeps the configuration that is on trial.
    pub(super) fn confirm(&mut self) -> Result<Done, Refusal> {
        // What could not be read may be one that was on trial.
        if !self.core.store.has_unread_trial() {
            self.on_trial()?;
        }
        self.keep(None)?;
        self.forget_strangers();
        tracing::info!("the configuration was confirmed");
        Ok(Done { message: "the configuration stays".to_owned() })
    }

    /// Goes back to the configuration before the one on trial.
    pub(super) async fn revert(&mut self) -> Result<Reloaded, Refusal> {
        let trial = self.on_trial()?;
        // As it was, with what its files held then: those may be other ones now, or gone.
        let config = match &self.core.before {
            Some(before) => Config::clone(before),
            None => trial.config_before().map_err(|e| Refusal::Config(e.0.render(false)))?,
        };
        let reverted = self.take(Text { config, text: trial.before.clone() }).await?;
        self.keep_anyway(Some(Trial { until: None, ..trial }));
        Ok(reverted)
    }

    /// Takes back what nobody has confirmed in time.
    pub(super) async fn revert_if_due(&mut self) {
        let until = self.core.trial.as_ref().and_then(|trial| trial.until);
        if until.is_none_or(|until| until.passed(&Clock::now()).is_none()) {
            return;
        }
        match &self.core.not_reverted {
            Some((_, then)) if then.elapsed() < REVERT_AGAIN => return,
            Some(_) => {}
            None => tracing::warn!("the configuration was not confirmed, and is taken back"),
        }
        if let Err(e) = self.revert().await {
            let why = e.to_string();
            if self.core.not_reverted.as_ref().is_none_or(|(before, _)| *before != why) {
                tracing::error!("the configuration cannot be taken back: {why}");
            }
            self.core.not_reverted = Some((why, Instant::now()));
        }
    }

    /// Forgets drains and weights of backends that there are no more: not before it is known that they do not come back.
    fn forget_strangers(&mut self) {
        if self.core.state.forget_strangers() {
            self.keep_overrides();
        }
    }

    fn on_trial(&self) -> Result<Trial, Refusal> {
        let trial = self.core.trial.clone().filter(Trial::is_pending);
        trial.ok_or_else(|| Refusal::Invalid("no configuration is on trial".to_owned()))
    }

    /// What is to be on trial from now on: kept for the next start, or refused.
    fn keep(&mut self, trial: Option<Trial>) -> Result<(), Refusal> {
        let kept = self.core.store.keep_trial(trial.as_ref(), self.core.trial.as_ref());
        kept.map_err(|e| Refusal::Failed(format!("{e}; nothing was changed")))?;
        self.now_on_trial(trial);
        Ok(())
    }

    /// What is so is so, also where it cannot be kept for the next start: that is said.
    pub(super) fn keep_anyway(&mut self, trial: Option<Trial>) {
        if let Err(e) = self.core.store.note_trial(trial.as_ref()) {
            tracing::error!("{e}");
        }
        self.now_on_trial(trial);
    }

    /// Goes on with what was on trial when an earlier daemon ended, and could not be read by the start of this one.
    pub(super) fn adopt_trial(&mut self, kept: Trial) {
        let now = Clock::now();
        match kept.start(&self.core.source, &now) {
            Start::File(None) => self.keep_anyway(None),
            Start::File(trial) => self.now_on_trial(trial),
            Start::Before(trial) => self.now_on_trial(Some(trial.due(&now))),
        }
    }

    /// Of another trial, or one that is over, nobody knows more than its text.
    fn now_on_trial(&mut self, trial: Option<Trial>) {
        if self.core.trial.as_ref().map(|t| &t.tried) != trial.as_ref().map(|t| &t.tried)
            || !trial.as_ref().is_some_and(Trial::is_pending)
        {
            (self.core.before, self.core.not_reverted) = (None, None);
        }
        self.core.trial = trial;
    }

    fn file(&self) -> Result<Text, Refusal> {
        let path = &self.core.birth.config_file;
        let text = fs::read_to_string(path).map_err(|source| {
            Refusal::Config(ReadError::File { path: path.clone(), source }.to_string())
        })?;
        let config = Config::parse_with_files(&text, &path.display().to_string())
            .map_err(|e| Refusal::Config(e.0.render(false)))?;
        Ok(Text { config, text })
    }

    /// Puts a configuration in force, or leaves everything as it is.
    async fn take(&mut self, new: Text) -> Result<Reloaded, Refusal> {
        let Text { config, text } = new;
        let old = Arc::clone(&self.core.state.config);
        let fixed = needs_restart(&old, &config);
        if !fixed.is_empty() {
            return Err(Refusal::Invalid(format!(
                "{} cannot change while the daemon runs; nothing was changed (restart the daemon: no packet is lost)",
                fixed.join(", ")
            )));
        }
        // What somebody has just taken off is to have its link again.
        self.attach_again().await;
        let grown = self.grow_for(&config).await?;
        let unchanged = if grown {
            "the tables have grown, and nothing else was changed"
        } else {
            "nothing was changed"
        };
        let gateway = &config.gateway;
        self.core
            .interfaces
            .replace(&gateway.interfaces, gateway.xdp_mode)
            .await
            .map_err(|e| Refusal::Failed(format!("{e}; {unchanged}")))?;
        let changes = changes(&old, &config);
        let writes = match self.core.state.configure(config) {
            Ok(writes) => writes as u64,
            Err(e) => {
                let gateway = &self.core.state.config.gateway;
                if let Err(e) =
                    self.core.interfaces.replace(&gateway.interfaces, gateway.xdp_mode).await
                {
                    tracing::error!("{e}");
                }
                self.reconcile("going back");
                return Err(Refusal::Failed(format!("{e}; {unchanged}")));
            }
        };
        self.core.source = text;
        self.core.behind = None;
        let config = Arc::clone(&self.core.state.config);
        self.mirror.set_interfaces(self.core.interfaces.indexes());
        self.mirror.set_backends(super::start::backend_addresses(&config));
        self.core.monitor.set_targets(super::start::targets(&config));
        self.core.warnings.clear();
        self.core.store.retry_now();
        self.forget_look();
        let is_known = self.look_around(PATIENCE).await;
        if self.on_trial().is_err() {
            self.forget_strangers();
        }
        self.scan();
        for change in &changes {
            tracing::info!("reload: {change}");
        }
        let mut warnings = self.core.store.warnings();
        if is_known {
            warnings.splice(..0, self.core.around.iter().cloned());
        } else {
            warnings.push(
                "the kernel does not say yet what stands in the way around the program: `fernpass status` tells it soon"
                    .to_owned(),
            );
        }
        Ok(Reloaded { changes, writes, warnings, confirm_by: None })
    }
}

/// What is different and is only read at the start.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let differences = [
        ("gateway.bpffs", old.gateway.bpffs != new.gateway.bpffs),
        ("gateway.state_dir", old.gateway.state_dir != new.gateway.state_dir),
        ("gateway.xdp_mode", old.gateway.xdp_mode != new.gateway.xdp_mode),
        ("api", old.api != new.api),
    ];
    differences.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}
