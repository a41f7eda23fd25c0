//! What the kernel program says of packets, when it was asked to.
//!
//! The program was loaded with a level as a constant; without one the verifier takes the
//! messages out of it.

use aya::{Ebpf, EbpfLoader};
use aya_log::{EbpfLogger, LEVEL, Level};
use dataplane::reason::Reason;
use log::{Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::LoadError;

/// Of which packets the kernel program says what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PacketLog {
    /// Of none, which costs nothing.
    #[default]
    Off,
    /// Of those that were dropped.
    Dropped,
    /// Of all.
    All,
}

const MAP: &str = "AYA_LOGS";
/// The least a ring buffer can be, in bytes: where it stays empty.
const SMALLEST: u32 = 4096;

impl PacketLog {
    fn level(self) -> &'static u8 {
        const DEBUG: u8 = Level::Debug as u8;
        const TRACE: u8 = Level::Trace as u8;
        match self {
            Self::Off => &0,
            Self::Dropped => &DEBUG,
            Self::All => &TRACE,
        }
    }

    /// Makes what `loader` loads talk so much.
    pub(super) fn set(self, loader: &mut EbpfLoader<'_>) {
        loader.override_global(LEVEL, self.level(), true);
        if self == Self::Off {
            loader.map_max_entries(MAP, SMALLEST);
        }
    }
}

/// Reads the messages.
pub struct PacketLogger(EbpfLogger<Named>);

impl std::fmt::Debug for PacketLogger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PacketLogger").finish_non_exhaustive()
    }
}

impl PacketLogger {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        EbpfLogger::init_with_logger(ebpf, Named)
            .map(Self)
            .map_err(|e| LoadError::kernel("reading the kernel program's messages", &e))
    }

    /// Hands messages on to the daemon's own log as they come, on a thread that lives as long
    /// as the process. Those that come faster than they are read are lost.
    pub fn run(mut self) {
        std::thread::spawn(move || {
            loop {
                let waited = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None);
                if !matches!(waited, Ok(_) | Err(Errno::INTR)) {
                    return;
                }
                self.0.flush();
            }
        });
    }
}

/// Puts names into the messages, where the kernel program has numbers.
struct Named;

impl Log for Named {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let message = record.args().to_string();
        tracing::info!("packet {}", named(&message).unwrap_or(message));
    }

    fn flush(&self) {}
}

/// `reason 7, ...` with the reason's name.
fn named(message: &str) -> Option<String> {
    let (number, rest) = message.strip_prefix("reason ")?.split_once(',')?;
    let reason = Reason::ALL.get(number.parse::<usize>().ok()?)?;
    Some(format!("{}:{rest}", reason.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_their_names() {
        let number = Reason::Fragment as u32;
        let message = format!("reason {number}, 60 bytes from interface 3");
        assert_eq!(named(&message).unwrap(), "fragment: 60 bytes from interface 3");
        for other in ["", "reason 7", "reason x, y", "reason 9999, 60 bytes"] {
            assert_eq!(named(other), None);
        }
    }
}
