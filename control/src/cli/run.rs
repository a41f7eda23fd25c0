//! The daemon's process.

use std::future::Future;
use std::io::{self, IsTerminal as _};
use std::net::IpAddr;
use std::path::Path;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tracing_subscriber::EnvFilter;

use super::Failure;
use crate::agent::Agent;
use crate::api::Server;
use crate::config::{Config, ReadError};
use crate::daemon::{Daemon, Handle, Refusal, StartError};
use crate::loader::PacketLog;

pub(super) fn run(config: &Path, packets: PacketLog) -> Result<(), Failure> {
    log();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::Io(format!("cannot start: {e}")))?;
    runtime.block_on(serve(config, packets))
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
        let agent = Agent::start(&read(config)?, interfaces, gateways)?;
        let (backend, listeners) = (agent.backend(), agent.listeners());
        tracing::info!(backend, listeners, ?interfaces, ?gateways, "telling of answers");
        notify(&[NotifyState::Ready]);
        let (tell, ended) = oneshot::channel();
        // It ends with the process.
        std::thread::spawn(move || tell.send(agent.run()));
        tokio::select! {
            Ok(ended) = ended => ended?,
            () = terminated() => notify(&[NotifyState::Stopping]),
        }
        Ok(())
    })
}

/// The configuration; a mistake is shown as `check` shows it.
fn read(file: &Path) -> Result<Config, Failure> {
    Config::load(file).map_err(|e| match e {
        ReadError::Config(errors) => Failure::Config(format!(
            "{} cannot be used\n{}",
            file.display(),
            errors.0.render(io::stderr().is_terminal())
        )),
        e @ ReadError::File { .. } => Failure::Config(e.to_string()),
    })
}

async fn serve(file: &Path, packets: PacketLog) -> Result<(), Failure> {
    // Read once for the sockets.
    let config = read(file)?;
    let (daemon, handle) = Daemon::start(file, packets).await.map_err(|e| match e {
        StartError::Config(ReadError::Config(errors)) => Failure::Config(errors.to_string()),
        e => Failure::Start(e),
    })?;
    let server = Server::bind(&config.api).await?;
    let (stop, stopped) = watch::channel(false);
    let api = tokio::spawn(server.serve(handle.clone(), until(stopped.clone())));
    tokio::spawn(reload_on_hangup(handle));
    notify(&[NotifyState::Ready]);
    daemon.run(terminated()).await;
    notify(&[NotifyState::Stopping]);
    tracing::info!("stopping; packets are forwarded nevertheless");
    stop.send_replace(true);
    let _ = api.await;
    Ok(())
}

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
        notify(&[NotifyState::Reloading]);
        match handle.reload().await {
            Ok(done) => tracing::info!(changes = done.changes.len(), "reloaded"),
            Err(Refusal::Stopping) => return,
            Err(e) => tracing::error!("reload: {e}"),
        }
        notify(&[NotifyState::Ready]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::debug!("systemd cannot be told: {e}");
    }
}

/// Messages go to stderr: with times for a terminal or a file, without for the journal, which has its own.
fn log() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,netlink_packet_route=error,netlink_proto=error"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal());
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        subscriber.without_time().init();
    } else {
        subscriber.init();
    }
}
