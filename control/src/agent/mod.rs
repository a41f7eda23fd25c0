//! The agent: on a backend that answers its clients by itself, it tells the gateways of the answers.
//!
//! * `own`: which backend this machine is, by its addresses; what it serves.
//! * `program`: the kernel program that watches what leaves.
//! * `report`: what gateways are told.
//!
//! It keeps nothing: what a gateway or an agent forgot is told anew.

mod own;
mod program;
mod report;

#[cfg(feature = "fuzz")]
pub(crate) use report::datagram;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use dataplane::abi::REPORT_PORT;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::config::Config;
use crate::loader::{Info, LoadError};
use crate::routing::addresses;
use own::Own;
use program::Program;

/// How often it looks whether reports were lost.
const LOOK: Duration = Duration::from_secs(60);

/// The agent cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No pool has agents.
    #[error("no pool has `agent = true`: there is nobody to tell of answers")]
    NoPool,
    /// This machine is none of the backends.
    #[error(
        "none of the backends of pools with `agent = true` is this machine; their addresses are {addresses}"
    )]
    NotABackend {
        /// Those that were looked for.
        addresses: String,
    },
    /// Something else has the port.
    #[error("UDP port {REPORT_PORT} of {address} cannot be used: {source}")]
    Port {
        /// The backend's address.
        address: IpAddr,
        /// Why.
        source: io::Error,
    },
    /// A gateway of a family that the backend has no address of.
    #[error(
        "gateway {gateway} cannot be told: backend `{backend}` has no address of its family in the configuration"
    )]
    Family {
        /// The gateway.
        gateway: IpAddr,
        /// The backend.
        backend: String,
    },
    /// The machine's addresses.
    #[error("cannot read this machine's addresses: {0}")]
    Addresses(io::Error),
    /// The kernel program.
    #[error("{0}")]
    Load(#[from] LoadError),
    /// The kernel's events.
    #[error("the kernel program's reports cannot be waited for: {0}")]
    Wait(io::Error),
}

impl AgentError {
    /// True if the configuration, or what was typed, does not fit the machine.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::NoPool | Self::NotABackend { .. } | Self::Family { .. })
    }
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    own: Own,
    gateways: Vec<SocketAddr>,
    program: Program,
}

impl Agent {
    /// Finds out which backend this is, and watches the interfaces.
    ///
    /// # Errors
    /// See [`AgentError`].
    pub async fn start(
        config: &Config,
        interfaces: &[String],
        gateways: &[IpAddr],
    ) -> Result<Self, AgentError> {
        let addresses = addresses::own().await.map_err(AgentError::Addresses)?;
        let own = Own::find(config, &addresses)?;
        if let Some(gateway) = gateways.iter().find(|gateway| own.socket(**gateway).is_none()) {
            return Err(AgentError::Family { gateway: *gateway, backend: own.name().to_owned() });
        }
        let program = Program::start(interfaces, own.services())?;
        let gateways = gateways.iter().map(|ip| SocketAddr::new(*ip, REPORT_PORT)).collect();
        Ok(Self { own, gateways, program })
    }

    /// Loads the kernel program for its figures.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn examine() -> Result<Info, LoadError> {
        Program::examine()
    }

    /// Takes the program off interfaces: also that of an agent that was killed.
    pub fn leave(interfaces: &[String]) {
        Program::leave(interfaces);
    }

    /// The backend that it is on, as `POOL/NAME`.
    pub fn backend(&self) -> &str {
        self.own.name()
    }

    /// How many listeners it watches.
    pub fn listeners(&self) -> usize {
        self.own.services().len()
    }

    /// Tells the gateways, for ever, on the thread that calls it.
    ///
    /// # Errors
    /// The kernel's events cannot be waited for.
    pub fn run(self) -> Result<(), AgentError> {
        let Self { own, gateways, mut program } = self;
        let mut ring = program.take_reports()?;
        let timeout = Timespec::try_from(LOOK).ok();
        let (mut looked, mut lost, mut unsent) = (Instant::now(), 0, Unsent::default());
        loop {
            let waited = poll(&mut [PollFd::new(&ring, PollFlags::IN)], timeout.as_ref());
            if !matches!(waited, Ok(_) | Err(Errno::INTR)) {
                return waited.map(|_| ()).map_err(|e| AgentError::Wait(e.into()));
            }
            while let Some(entry) = ring.next() {
                if let Some(datagram) = report::datagram(&entry) {
                    unsent.note(tell(&own, &gateways, &datagram));
                }
            }
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                let now = program.lost()?;
                if now > lost {
                    tracing::warn!(
                        "{} reports lost: answers come faster than they are told",
                        now - lost
                    );
                }
                lost = now;
                unsent.say();
            }
        }
    }
}

/// Tells all gateways: how often that failed, and the last reason.
fn tell(own: &Own, gateways: &[SocketAddr], datagram: &[u8]) -> Option<io::Error> {
    let mut failed = None;
    for gateway in gateways {
        let Some(socket) = own.socket(gateway.ip()) else { continue };
        if let Err(e) = socket.send_to(datagram, gateway) {
            failed = Some(e);
        }
    }
    failed
}

/// Reports that could not be sent, said once a while.
#[derive(Debug, Default)]
struct Unsent {
    count: u64,
    last: Option<io::Error>,
}

impl Unsent {
    fn note(&mut self, error: Option<io::Error>) {
        if let Some(e) = error {
            self.count += 1;
            self.last = Some(e);
        }
    }

    fn say(&mut self) {
        if let Some(e) = self.last.take() {
            tracing::warn!("{} reports could not be sent: {e}", self.count);
            self.count = 0;
        }
    }
}
