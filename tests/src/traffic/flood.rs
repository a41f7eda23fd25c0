//! Floods from random addresses: WireGuard handshake initiations, fragments, TCP connection requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::net::{Ns, Obstruction, RawSender};
use crate::wait::Stop;

/// Length of an initiation (type 1).
const INITIATION: usize = 148;
/// Packets between two looks at the clock.
const BURST: u64 = 50;

/// What looks like an initiation: right type and length, random otherwise.
pub fn initiation() -> [u8; INITIATION] {
    let mut message = [0; INITIATION];
    fastrand::Rng::new().fill(&mut message[4..]);
    message[0] = 1;
    message
}

/// How to flood.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// How many packets.
    pub count: u64,
    /// Most packets a second. The concentrators must be able to read what
    /// arrives: behind a full socket buffer of theirs, nobody can tell whose
    /// fault a loss is.
    pub rate: u32,
}

impl Flood {
    /// Floods `to` from the namespace of the Internet; the time it took.
    pub fn run(&self, inet: &Ns, to: SocketAddr) -> Result<Duration> {
        let mut message = initiation();
        paced(inet, self.count, self.rate, |sender| {
            // The sender's index and the start of its key differ from packet to packet.
            fastrand::Rng::new().fill(&mut message[4..24]);
            sender.send(random_source(to), to, &message)
        })
    }
}

/// A flood of fragments, half of them first ones of initiations, half of them later ones of nothing: no packet is ever whole.
#[derive(Clone, Copy, Debug)]
pub struct FragmentFlood {
    /// How many packets.
    pub count: u64,
    /// Most packets a second.
    pub rate: u32,
}

impl FragmentFlood {
    /// Floods `to` from the namespace of the Internet; the time it took.
    pub fn run(&self, inet: &Ns, to: SocketAddr) -> Result<Duration> {
        let message = initiation();
        let mut is_first = false;
        paced(inet, self.count, self.rate, |sender| {
            is_first = !is_first;
            let obstruction =
                if is_first { Obstruction::FirstFragment } else { Obstruction::LaterFragment };
            sender.send_obstructed(random_source(to), to, &message, obstruction)
        })
    }
}

/// A flood of TCP SYN packets. Who answers them gets no answer.
#[derive(Clone, Copy, Debug)]
pub struct SynFlood {
    /// How many packets.
    pub count: u64,
    /// Most packets a second.
    pub rate: u32,
}

impl SynFlood {
    /// Floods `to` from the namespace of the Internet; the time it took.
    pub fn run(&self, inet: &Ns, to: SocketAddr) -> Result<Duration> {
        paced(inet, self.count, self.rate, |sender| sender.send_syn(random_source(to), to))
    }
}

/// Sends so many packets, no more of them a second than `rate`; the time it took.
fn paced(
    inet: &Ns,
    count: u64,
    rate: u32,
    mut send: impl FnMut(&RawSender) -> Result<()>,
) -> Result<Duration> {
    let sender = RawSender::new(inet)?;
    let pace = Stop::new()?;
    let started = Instant::now();
    let least = Duration::from_secs_f64(BURST as f64 / f64::from(rate) / 2.0);
    for n in 0..count {
        if n % BURST == 0 {
            let due = Duration::from_secs_f64(n as f64 / f64::from(rate));
            // Where the machine stood still, what was missed does not go out all at once: no queue has room for it.
            pace.wait(due.saturating_sub(started.elapsed()).max(least));
        }
        send(&sender)?;
    }
    Ok(started.elapsed())
}

/// An address somewhere in the world, of the family of `to`; none the lab uses.
fn random_source(to: SocketAddr) -> SocketAddr {
    let ip: IpAddr = if to.is_ipv4() {
        let [_, b, c, d] = fastrand::u32(..).to_be_bytes();
        Ipv4Addr::new(fastrand::u8(11..100), b, c, d).into()
    } else {
        // Beyond 2001:db8::/32.
        Ipv6Addr::from((0x2a00_u128 << 112) | (fastrand::u128(..) >> 16)).into()
    };
    SocketAddr::new(ip, fastrand::u16(1024..))
}
