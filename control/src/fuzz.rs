//! What fuzz targets reach, and nobody else: readers of what comes from outside that are private elsewhere.

use dataplane::abi::{Layout, LayoutKey};

use crate::config::{Authorities, Contents as _, ControlKey, WireGuardKey};
use crate::routing::{Effect, State};

/// Takes in a datagram of the kernel's netlink notifications, as the mirror does: the greatest effect of its messages.
pub fn hear(state: &mut State, datagram: &[u8]) -> Effect {
    crate::routing::hear(state, datagram)
}

/// The datagram that tells a gateway of an entry of the agent's ring buffer; `None` if the entry is none.
pub fn report(entry: &[u8]) -> Option<Vec<u8>> {
    crate::agent::datagram(entry)
}

/// The token of what a health probe's raw socket was given, if it is an echo reply.
pub fn echo_token(is_v6: bool, packet: &[u8]) -> Option<u64> {
    crate::health::token(is_v6, packet)
}

/// Whether a daemon that starts goes by its configuration file, of this text, when this was kept of a trial.
pub fn goes_by_file(kept: &[u8], file: &str, now: u64) -> bool {
    crate::daemon::goes_by_file(kept, file, now)
}

/// Whether a datagram is what servers of OpenVPN, with this `tls-crypt` key, answer to a health probe's reset of this session.
pub fn openvpn_answers(key: Option<&ControlKey>, session: [u8; 8], datagram: &[u8]) -> bool {
    crate::health::openvpn_answers(key, session, datagram)
}

/// A server's control message, encrypted: its header with packet id and time in clear text, and what follows.
pub fn openvpn_wrapped(key: &ControlKey, header: [u8; 17], body: Vec<u8>) -> Option<Vec<u8>> {
    crate::health::openvpn_wrapped(key, header, body)
}

/// Whether a datagram from a port is the response to a health probe's `IKE_SA_INIT` with this SPI.
pub fn ike_answers(port: u16, spi: [u8; 8], datagram: &[u8]) -> bool {
    crate::health::ike_answers(port, spi, datagram)
}

/// The key of WireGuard in a file.
pub fn wireguard_key(file: &[u8]) -> Option<WireGuardKey> {
    WireGuardKey::read(file)
}

/// The static key of OpenVPN in a file.
pub fn control_key(file: &[u8]) -> Option<ControlKey> {
    ControlKey::read(file)
}

/// The certificates in a file.
pub fn authorities(file: &[u8]) -> Option<Authorities> {
    Authorities::read(file)
}

/// What the description of some version's tables makes of an element.
#[derive(Debug)]
pub struct Described {
    /// What was read of fields: as one number, and the first two words.
    pub readings: Vec<Reading>,
    /// Each word taken for a session's state, in this version's numbers.
    pub states: Vec<Option<u8>>,
}

/// A number that was read of a field.
#[derive(Debug)]
pub struct Reading {
    /// Of which field; without a name, of what the meter of tenants' handshakes refused.
    pub name: &'static str,
    /// How many such numbers stand before it in the field.
    pub n: usize,
    /// How many bytes it has.
    pub bytes: usize,
    /// The number; 0 if there is none.
    pub value: u64,
}

/// Reads an element, whatever it is of, by all fields that are described; or says what is missing in the description.
pub fn described(entries: &[(LayoutKey, Layout)], element: &[u64]) -> Result<Described, String> {
    crate::loader::described(entries, element)
}
