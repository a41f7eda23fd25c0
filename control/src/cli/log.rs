//! Where messages go.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;

use rustix::fs::fstat;
use rustix::process::{getpid, getuid};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// What the names of fields in the journal begin with.
const PREFIX: &str = "FERNPASS";

/// Messages go to the journal, with their fields, where stderr leads there; otherwise to stderr.
pub(super) fn log() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,netlink_packet_route=error,netlink_proto=error"));
    let registry = tracing_subscriber::registry().with(filter);
    if is_journal(io::stderr())
        && let Ok(journal) = tracing_journald::layer()
    {
        registry.with(journal.with_field_prefix(Some(PREFIX.to_owned()))).init();
        return;
    }
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal());
    registry.with(lines).init();
}

/// Whether a stream is the one that systemd connected with the journal (`$JOURNAL_STREAM`, systemd.exec(5)).
fn is_journal(stream: impl AsFd) -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(stream).is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// A line in the journal, where there is one, for a change that was made without a daemon: as the API has them.
pub(super) fn audit(asked: &str) {
    let Ok(journal) = tracing_journald::layer() else { return };
    let journal = journal.with_field_prefix(Some(PREFIX.to_owned()));
    let (uid, pid) = (getuid().as_raw(), getpid().as_raw_nonzero().get());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), || {
        tracing::info!(audit = true, uid, pid, asked, "changed without a daemon");
    });
}
