//! What the gateway knows of each protocol: one file a profile.
//!
//! A profile reads a datagram's payload and says what it means to the session
//! tables. It holds no state and touches no table. To add one: a file here, a
//! number in [`crate::abi::Profile`], and its arm in [`inbound`] and [`outbound`].

pub mod dtls;
pub mod ipsec;
pub mod openvpn;
pub mod quic;
pub mod quic_lb;
pub mod tcp;
pub mod udp;
pub mod wireguard;

use crate::abi::Profile;
use crate::packet::{Packet, View};
use crate::reason::Reason;

/// What an inbound packet says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inbound {
    /// The session id by which the concentrator knows the session; 0 is none.
    pub id: u32,
    /// Low 32 bits of the packet counter.
    pub counter: u32,
    /// Session data: giving `id` back in it completes a handshake.
    pub data: bool,
    /// Answers carry the same id, and they alone teach it.
    pub both_ways: bool,
    /// The client ends the session.
    pub closes: bool,
    /// `id` is one of the control channel's, which answers have, too: [`Outbound::control`].
    pub control: bool,
    /// Nobody hands out `id` in clear text: on the flow of an open session this packet teaches it.
    pub begins: bool,
    /// Ids after the first are handed out in secret: one that nobody has, on the flow of an open session, is the session's.
    pub renews: bool,
    /// Answers have no id: where `id` comes from another flow, that is remembered for [`Outbound::follows`].
    pub unanswered: bool,
    /// It is the first of a handshake, of which a session may come.
    pub opens: bool,
    /// With `renews`, the id's first four bytes, by which a server may be named: [`quic_lb`].
    pub head: u32,
}

/// How much an answer proves about the client at its destination.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// Nothing.
    #[default]
    Nothing,
    /// A handshake is under way: worth remembering its ids, not worth a session.
    Handshake,
    /// An answer of a protocol that tells nothing: the second one counts.
    Answer,
    /// Authenticated data: the client is there.
    Data,
}

/// What an answer says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// An id that the concentrator hands out: inbound packets will carry it. 0 is none.
    pub in_id: u32,
    /// The id by which the client knows the session. 0 is none.
    pub out_id: u32,
    /// Low 32 bits of the packet counter.
    pub counter: u32,
    /// What it proves.
    pub proof: Proof,
    /// Inbound packets carry `out_id`, too: it is all there is to learn.
    pub both_ways: bool,
    /// A new session's handshake: another id than is known may come out of it. Where there is no room to remember
    /// it, it is let through.
    pub begins: bool,
    /// The session is over, or about to be.
    pub closes: bool,
    /// It has no id: where its flow is not known, the session whose id came from there last moves there.
    pub follows: bool,
    /// `out_id` is the control channel's, and the same in both directions, where data have others.
    pub control: bool,
}

/// Bytes of a payload's beginning that profiles read.
pub const HEAD: usize = 12;

const WIREGUARD: u8 = Profile::WireGuard as u8;
const OPENVPN: u8 = Profile::OpenVpn as u8;
const TCP: u8 = Profile::Tcp as u8;
const IKE: u8 = Profile::Ike as u8;
const IPSEC: u8 = Profile::Ipsec as u8;
const QUIC: u8 = Profile::Quic as u8;
const DTLS: u8 = Profile::Dtls as u8;

/// Reads an inbound payload of `len` bytes at `offset`.
#[inline(always)]
pub fn inbound_at<P: Packet>(
    profile: u8,
    packet: &P,
    offset: usize,
    len: u32,
) -> Result<Inbound, Reason> {
    if profile == QUIC && packet.view(offset).is_some_and(quic::is_long) {
        return quic::long_inbound(packet, offset, len);
    }
    match ike_at(profile, packet, offset, len) {
        Some((at, len)) => ipsec::ike_inbound(packet.view(at), len),
        None => inbound(profile, packet.view(offset), len, || {
            Some(packet.view::<8>(offset + dtls::PLAIN)?.u64::<0>())
        }),
    }
}

/// Reads an answer's payload of `len` bytes at `offset`.
#[inline(always)]
pub fn outbound_at<P: Packet>(
    profile: u8,
    packet: &P,
    offset: usize,
    len: u32,
) -> Result<Outbound, Reason> {
    if profile == QUIC {
        return if packet.view(offset).is_some_and(quic::is_long) {
            quic::long_outbound(packet, offset, len)
        } else {
            quic::short_outbound(packet.view(offset), len)
        };
    }
    if profile == DTLS && packet.view(offset).is_some_and(dtls::is_handshake) {
        return dtls::handshake(packet, offset, len);
    }
    match ike_at(profile, packet, offset, len) {
        Some((at, len)) => ipsec::ike_outbound(packet.view(at), len),
        None => outbound(profile, packet.view(offset), len),
    }
}

/// Where IKE begins and how long it is, if the payload is IKE.
#[inline(always)]
fn ike_at<P: Packet>(profile: u8, packet: &P, offset: usize, len: u32) -> Option<(usize, u32)> {
    match profile {
        IKE => Some((offset, len)),
        IPSEC if len > ipsec::KEEPALIVE && packet.view(offset).is_some_and(ipsec::is_marked) => {
            Some((offset + ipsec::MARKER, len.saturating_sub(ipsec::MARKER as u32)))
        }
        _ => None,
    }
}

/// Reads the head of an inbound payload of `len` bytes (of TCP: what follows the first eight bytes of its header), whose head is `None` if it is shorter than that.
/// `dtls_id` reads what DTLS has behind it, as [`dtls::inbound`] wants it. What else cannot be read from the head alone is an error here: [`inbound_at`].
#[inline(always)]
pub fn inbound(
    profile: u8,
    head: Option<impl View<HEAD>>,
    len: u32,
    dtls_id: impl FnOnce() -> Option<u64>,
) -> Result<Inbound, Reason> {
    match profile {
        WIREGUARD => wireguard::inbound(head, len),
        OPENVPN => openvpn::inbound(head, len),
        TCP => tcp::inbound(head, len),
        IPSEC => ipsec::inbound(head, len),
        QUIC => quic::inbound(head, len),
        DTLS => dtls::inbound(head, len, dtls_id),
        IKE => Err(Reason::IpsecMalformed),
        _ => Ok(udp::inbound()),
    }
}

/// Reads the head of an answer's payload, likewise.
#[inline(always)]
pub fn outbound(profile: u8, head: Option<impl View<HEAD>>, len: u32) -> Result<Outbound, Reason> {
    match profile {
        WIREGUARD => wireguard::outbound(head, len),
        OPENVPN => openvpn::outbound(head, len),
        TCP => tcp::outbound(head, len),
        IPSEC => ipsec::outbound(head, len),
        QUIC => quic::outbound(head, len),
        DTLS => dtls::outbound(head, len),
        IKE => Err(Reason::IpsecMalformed),
        _ => Ok(udp::outbound()),
    }
}
