//! Another configuration, while the daemon runs: shown, applied, tried, taken back.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::actor::{Daemon, epoch};
use super::changes::changes;
use super::growth;
use super::handle::Refusal;
use super::trial::Trial;
use super::view::{Difference, Done, Reloaded};
use crate::config::{Config, ReadError};

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
        if let Some(trial) = self.core.trial.as_ref().filter(|trial| trial.is_pending()) {
            return Err(Refusal::Invalid(format!("{}; nothing was changed", trial.warning())));
        }
        let new = self.file()?;
        let until = confirm
            .filter(|_| new.text != self.core.source)
            .map(|after| epoch(SystemTime::now() + after));
        let trial = until.map(|_| Trial {
            before: self.core.source.clone(),
            tried: new.text.clone(),
            until,
        });
        let before = self.core.trial.clone();
        // Before anything is changed: a daemon that dies now takes it back, too.
        self.keep(trial)?;
        let mut reloaded = match self.take(new).await {
            Ok(reloaded) => reloaded,
            Err(e) => {
                self.keep(before).unwrap_or_else(|e| tracing::error!("{e}"));
                return Err(e);
            }
        };
        reloaded.confirm_by = until.map(super::time);
        Ok(reloaded)
    }

    /// Keeps the configuration that is on trial.
    pub(super) fn confirm(&mut self) -> Result<Done, Refusal> {
        self.on_trial()?;
        self.keep(None)?;
        tracing::info!("the configuration was confirmed");
        Ok(Done { message: "the configuration stays".to_owned() })
    }

    /// Goes back to the configuration before the one on trial.
    pub(super) async fn revert(&mut self) -> Result<Reloaded, Refusal> {
        let trial = self.on_trial()?;
        let config = Config::parse_with_files(&trial.before, "the configuration before")
            .map_err(|e| Refusal::Config(e.0.render(false)))?;
        let reverted = self.take(Text { config, text: trial.before.clone() }).await?;
        self.keep(Some(Trial { until: None, ..trial }))?;
        Ok(reverted)
    }

    /// Takes back what nobody has confirmed in time.
    pub(super) async fn revert_if_due(&mut self) {
        let until = self.core.trial.as_ref().and_then(|trial| trial.until);
        if until.is_none_or(|until| epoch(SystemTime::now()) < until) {
            return;
        }
        tracing::warn!("the configuration was not confirmed, and is taken back");
        if let Err(e) = self.revert().await {
            tracing::error!("{e}");
        }
    }

    fn on_trial(&self) -> Result<Trial, Refusal> {
        let trial = self.core.trial.clone().filter(Trial::is_pending);
        trial.ok_or_else(|| Refusal::Invalid("no configuration is on trial".to_owned()))
    }

    fn keep(&mut self, trial: Option<Trial>) -> Result<(), Refusal> {
        self.store.keep_trial(trial.as_ref()).map_err(|e| Refusal::Failed(e.to_string()))?;
        self.core.trial = trial;
        Ok(())
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
        self.grow_for(&config).await?;
        let gateway = &config.gateway;
        self.core
            .interfaces
            .replace(&gateway.interfaces, gateway.xdp_mode)
            .await
            .map_err(|e| Refusal::Failed(format!("{e}; nothing was changed")))?;
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
                return Err(Refusal::Failed(e.to_string()));
            }
        };
        self.core.source = text;
        self.core.behind = None;
        let config = Arc::clone(&self.core.state.config);
        self.mirror.set_interfaces(self.core.interfaces.indexes());
        self.mirror.set_backends(super::start::backend_addresses(&config));
        self.core.monitor.set_targets(super::start::targets(&config));
        self.core.warnings =
            super::start::surroundings(&config, &self.core.state.tables, None).await;
        self.core.warnings.extend(super::start::sinks(&config.gateway).await);
        if let Err(e) = self.store.save(&self.core.state.overrides) {
            tracing::error!("{e}");
        }
        self.scan();
        for change in &changes {
            tracing::info!("reload: {change}");
        }
        let warnings = self.core.warnings.clone();
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
