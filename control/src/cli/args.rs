//! What can be typed.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::HIGHEST_WEIGHT;
use crate::loader::PacketLog;

/// Session gateway for remote work: keeps every VPN session on its concentrator.
#[derive(Debug, Parser)]
#[command(name = "fernpass", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Args {
    /// Print JSON, and nothing else.
    #[arg(short, long, global = true)]
    pub(crate) json: bool,
    /// The daemon's socket.
    #[arg(long, global = true, value_name = "PATH", default_value = "/run/fernpass/api.sock")]
    pub(crate) socket: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon. Stopping it stops no traffic; `unload` does.
    Run {
        /// The configuration.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// Say of packets what became of them: a line each, for debugging, not under load.
        #[arg(long, value_name = "WHICH", default_value = "none")]
        log_packets: Packets,
        /// Keep all rights that it was started with, for debugging: no Landlock, no seccomp.
        #[arg(long)]
        unconfined: bool,
    },
    /// Run the agent, on a backend that answers its clients by itself: it tells the gateways of the answers.
    Agent {
        /// The gateways' configuration: by its addresses the agent knows which backend it is on.
        #[arg(short, long, value_name = "FILE", default_value = "/etc/fernpass/fernpass.toml")]
        config: PathBuf,
        /// An interface that answers leave by; several with commas between.
        #[arg(short, long, value_name = "NAME", required = true, value_delimiter = ',')]
        interface: Vec<String>,
        /// A gateway's address; several with commas between.
        #[arg(short, long, value_name = "ADDRESS", required = true, value_delimiter = ',')]
        gateway: Vec<IpAddr>,
    },
    /// Check a configuration: every mistake at once, with its line.
    Check {
        /// The configuration.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Load the kernel program and make its tables, without a daemon.
    Load(Place),
    /// Take the gateway off its interfaces, and its tables away.
    Unload(Place),
    /// Attach the loaded program to an interface, without a daemon.
    Attach {
        /// The interface.
        interface: String,
        #[command(flatten)]
        place: Place,
    },
    /// Take the program off an interface, without a daemon.
    Detach {
        /// The interface.
        interface: String,
        #[command(flatten)]
        place: Place,
    },
    #[command(flatten)]
    Remote(Remote),
    /// Print the kernel program's figures.
    #[command(hide = true)]
    BpfInfo,
    /// Print the document that describes the API.
    #[command(hide = true)]
    Openapi,
    /// Print completions for a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write manual pages.
    #[command(hide = true)]
    Man {
        /// Where to.
        dir: PathBuf,
    },
}

/// Which gateway of this host.
#[derive(Debug, clap::Args)]
pub(crate) struct Place {
    /// The gateway's configuration.
    #[arg(short, long, value_name = "FILE", default_value = "/etc/fernpass/fernpass.toml")]
    pub(crate) config: PathBuf,
    /// Its bpffs, where there is no configuration: defaults hold for the rest.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub(crate) bpffs: Option<PathBuf>,
}

/// What the daemon is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Remote {
    /// How the gateway is, on one screen.
    Status,
    /// Authorities and their quotas.
    #[command(subcommand)]
    Tenant(ListOnly),
    /// What clients dial.
    #[command(subcommand)]
    Service(ListOnly),
    /// Sets of backends.
    #[command(subcommand)]
    Pool(ListOnly),
    /// Concentrators.
    #[command(subcommand)]
    Backend(BackendVerb),
    /// Clients' sessions.
    #[command(subcommand)]
    Session(SessionVerb),
    /// Routes to clients, mirrored from the kernel.
    #[command(subcommand)]
    Route(ListOnly),
    /// Neighbours that packets are sent to.
    #[command(subcommand)]
    Nexthop(ListOnly),
    /// What became of packets, by reason.
    Counters {
        /// Also reasons that never occurred.
        #[arg(short, long)]
        all: bool,
    },
    /// Read the configuration again: it is applied, or nothing is changed.
    Reload,
    /// What reading the configuration again would change.
    Diff,
    /// Read the configuration again, on trial: it is taken back if it is not confirmed.
    Apply {
        /// Take it back after so long, unless `fernpass confirm` comes before, e.g. 60s.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        confirm: Option<Duration>,
    },
    /// Keep the configuration that is on trial.
    Confirm,
    /// Take back the configuration that is on trial.
    Revert,
    /// Look whether the tables hold what was written to them, and mend them.
    Verify,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ListOnly {
    /// List them.
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackendVerb {
    /// List them.
    List,
    /// Send no new sessions there; those it has stay.
    Drain {
        /// The backends: NAME, or POOL/NAME.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// End what is left after so long, e.g. 30m.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        deadline: Option<Duration>,
        /// End it over so long then, so that not all clients come back at once [default: 30s].
        #[arg(long, value_name = "TIME", value_parser = duration, requires = "deadline")]
        spread: Option<Duration>,
    },
    /// Send new sessions there again.
    Undrain {
        /// The backend: NAME, or POOL/NAME.
        name: String,
    },
    /// Change its share of new sessions.
    Weight {
        /// The backend: NAME, or POOL/NAME.
        name: String,
        /// Its share relative to the pool's others, or `default`.
        #[arg(value_parser = weight)]
        weight: Weight,
    },
}

/// A weight, or back to the configured one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weight(pub(crate) Option<u32>);

#[derive(Debug, Subcommand)]
pub(crate) enum SessionVerb {
    /// List them.
    List {
        /// Of this tenant.
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        /// Of this service.
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        /// On this backend: NAME, or POOL/NAME.
        #[arg(long, value_name = "NAME")]
        backend: Option<String>,
        /// Of the client at this address.
        #[arg(long, value_name = "ADDRESS")]
        client: Option<IpAddr>,
        /// At most so many.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Show one.
    Show {
        /// Its id, or the beginning of it.
        id: String,
    },
    /// End one: its client's next handshake is placed anew.
    Kill {
        /// Its id, or the beginning of it.
        id: String,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e} (e.g. 90s, 30m, 2h)"))
}

fn weight(text: &str) -> Result<Weight, String> {
    if text == "default" {
        return Ok(Weight(None));
    }
    match text.parse() {
        Ok(weight @ 1..=HIGHEST_WEIGHT) => Ok(Weight(Some(weight))),
        _ => Err(format!(
            "1 to {HIGHEST_WEIGHT}, or `default`; to keep new sessions away, `backend drain`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_stable_interface_parses() {
        for line in [
            "run -c f",
            "run -c f --unconfined",
            "check -c f",
            "agent -c f -i eth0,eth1 -g 10.20.0.1,fd00:20::1",
            "agent --config f --interface eth0 --gateway 10.20.0.1 --gateway 10.20.0.2",
            "load",
            "unload --bpffs /sys/fs/bpf/x",
            "attach wan0",
            "detach wan0 -c f",
            "status",
            "-j status",
            "--json --socket /x tenant list",
            "service list",
            "pool list",
            "backend list -j",
            "backend drain wg-1 --deadline 30m",
            "backend undrain wg-1",
            "backend weight p/wg-1 50",
            "backend weight wg-1 default",
            "session list --tenant t --backend b --client 2001:db8::1",
            "session show 1f",
            "session kill 1f",
            "route list",
            "nexthop list",
            "counters",
            "reload",
        ] {
            let words = std::iter::once("fernpass").chain(line.split(' '));
            Args::try_parse_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
        for line in [
            "",
            "sessions",
            "backend weight wg-1 much",
            "backend weight wg-1 0",
            "backend weight wg-1 10001",
            "session list --client x",
            "run",
            "agent -c f -i eth0",
            "agent -c f -g 10.20.0.1",
            "agent -c f -i eth0 -g gateway",
        ] {
            let words = std::iter::once("fernpass").chain(line.split_whitespace());
            assert_eq!(Args::try_parse_from(words).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}

/// The packets that `run` says something of.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Packets {
    None,
    Dropped,
    All,
}

impl From<Packets> for PacketLog {
    fn from(packets: Packets) -> Self {
        match packets {
            Packets::None => Self::Off,
            Packets::Dropped => Self::Dropped,
            Packets::All => Self::All,
        }
    }
}
