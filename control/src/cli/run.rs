//! The daemon's process.

use std::future::Future;
use std::io::{self, IsTerminal as _};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use super::Failure;
use super::log::log;
use crate::agent::Agent;
use crate::api::Server;
use crate::config::{Config, ReadError};
use crate::confine;
use crate::daemon::{Daemon, Handle, Prepared, Refusal, StartError};
use crate::loader::PacketLog;
use crate::systemd::notify;

pub(super) fn run(file: &Path, packets: PacketLog, confined: bool) -> Result<(), Failure> {
    log();
    // A mistake is shown as `check` shows it.
    let prepared = Prepared::new(file).map_err(|e| match e {
        StartError::Config(e) => unusable(file, e),
        e => Failure::Start(e),
    })?;
    if confined {
        // Before there are other threads, which inherit it.
        confine::files(prepared.config(), prepared.keeps_state())?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Who asks for what takes long waits for others who do.
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .map_err(|e| Failure::Io(format!("cannot start: {e}")))?;
    let ended = runtime.block_on(serve(file, prepared, packets, confined));
    // Who reads long lists is not waited for.
    runtime.shutdown_background();
    ended
}

/// Runs the agent until it is told to end.
pub(super) fn agent(
    config: &Path,
    interfaces: &[String],
    gateways: &[IpAddr],
) -> Result<(), Failure> {
    log();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Io(format!("cannot start: {e}")))?;
    runtime.block_on(async {
        let config = Config::load(config).map_err(|e| unusable(config, e))?;
        let agent = Agent::start(&config, interfaces, gateways).await?;
        let (backend, listeners) = (agent.backend(), agent.listeners());
        tracing::info!(backend, listeners, ?interfaces, ?gateways, "telling of answers");
        notify(&[NotifyState::Ready]);
        let (tell, ended) = oneshot::channel();
        // It ends with the process.
        std::thread::spawn(move || tell.send(agent.run()));
        let ended = tokio::select! {
            ended = ended => match ended {
                Ok(ended) => ended.map_err(Failure::from),
                Err(_) => Err(Failure::Io("the agent ended by a mistake of its own".to_owned())),
            },
            () = terminated() => {
                notify(&[NotifyState::Stopping]);
                Ok(())
            }
        };
        Agent::leave(interfaces);
        ended
    })
}

/// A mistake in the configuration, shown as `check` shows it.
fn unusable(file: &Path, error: ReadError) -> Failure {
    match error {
        ReadError::Config(errors) => Failure::Config(format!(
            "{} cannot be used\n{}",
            file.display(),
            errors.0.render(io::stderr().is_terminal())
        )),
        e @ ReadError::File { .. } => Failure::Config(e.to_string()),
    }
}

async fn serve(
    file: &Path,
    prepared: Prepared,
    packets: PacketLog,
    confined: bool,
) -> Result<(), Failure> {
    // First what may be refused.
    let server = Server::bind(&prepared.config().api).await?;
    let (daemon, handle) = match Daemon::start(file, prepared, packets).await {
        Ok(started) => started,
        Err(e) => {
            server.withdraw();
            return Err(e.into());
        }
    };
    let (stop, stopped) = watch::channel(false);
    let api = tokio::spawn(server.serve(handle.clone(), until(stopped.clone())));
    tokio::spawn(reload_on_hangup(handle.clone()));
    tokio::spawn(feed_watchdog(handle));
    if confined {
        confine::calls()?;
    }
    notify(&[NotifyState::Ready]);
    daemon.run(terminated()).await;
    notify(&[NotifyState::Stopping]);
    tracing::info!("stopping; packets are forwarded nevertheless");
    stop.send_replace(true);
    // Who reads slowly is not waited for: until the next daemon runs, nobody looks after sessions and routes.
    if tokio::time::timeout(LAST_ANSWERS, api).await.is_err() {
        tracing::warn!("clients of the API that are still reading are cut off");
    }
    Ok(())
}

/// For how long answers are finished when the daemon ends.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Waits for SIGTERM or SIGINT.
fn terminated() -> impl Future<Output = ()> {
    let signals = signal(SignalKind::terminate())
        .and_then(|term| Ok((term, signal(SignalKind::interrupt())?)));
    async move {
        match signals {
            Ok((mut term, mut int)) => {
                tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            }
            Err(e) => {
                tracing::error!("signals cannot be received: {e}");
                std::future::pending::<()>().await;
            }
        }
    }
}

/// SIGHUP is `fernpass reload`.
async fn reload_on_hangup(handle: Handle) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        let mut reloading = vec![NotifyState::Reloading];
        // What `Type=notify-reload` wants to know (systemd.service(5)).
        reloading.extend(NotifyState::monotonic_usec_now());
        notify(&reloading);
        match handle.reload().await {
            Ok(done) => tracing::info!(changes = done.changes.len(), "reloaded"),
            Err(Refusal::Stopping) => return,
            Err(e) => tracing::error!("reload: {e}"),
        }
        notify(&[NotifyState::Ready]);
    }
}

/// Tells systemd that the daemon's loop turns, where it wants to know (`WatchdogSec=`).
async fn feed_watchdog(mut handle: Handle) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    // It may turn a thousand times a second; half of the patience is what sd_watchdog_enabled(3) advises.
    let pause = patience / 4;
    while handle.turned().await {
        notify(&[NotifyState::Watchdog]);
        tokio::time::sleep(pause).await;
    }
}
