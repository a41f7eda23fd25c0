//! Sends them, no faster than they are taken in.

use std::fs::File;
use std::io::{Read, Seek};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use arbitrary::Unstructured;
use dataplane::fixture::mutate;
use fastrand::Rng;

use super::material::octets;
use crate::error::{LabError, Result, Tried};
use crate::net::{FrameSender, Ns};

/// Frames sent at once: a veth has room for 256, which it shares with all that goes there.
const BURST: usize = 32;
/// Bytes of the choices of a frame's mutation.
const CHOICES: usize = 64;
/// Of a frame: those of an Ethernet header, without which no interface takes it; and the most.
const LEAST: usize = 14;
const MOST: usize = 1514;
/// How long a burst may take until it is taken in.
const PATIENCE: Duration = Duration::from_secs(10);
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// Where an IPv6 packet right behind an Ethernet header has its hop limit. Neighbour discovery takes packets with 255 alone (RFC 4861, 6.1).
const HOP_LIMIT: usize = 14 + 7;

/// Which frames are not sent.
///
/// A wrong answer *may* move or end a session, if it comes from the session's own backend: whoever can send as a concentrator is one. And whoever is
/// on a link can tell its router other neighbours (ARP, neighbour discovery): that is the host's, with or without a gateway on it.
/// Nothing else is left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exclusion(Vec<Vec<u8>>);

impl Exclusion {
    /// Leaves out what has one of these addresses in it, wherever: also in what an ICMP error is about.
    pub(crate) fn of(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self(addresses.into_iter().map(octets).collect())
    }

    fn has(&self, frame: &[u8]) -> bool {
        let is_links =
            frame[12..14] == ARP || frame[12..14] == IPV6 && frame.get(HOP_LIMIT) == Some(&u8::MAX);
        is_links || self.0.iter().any(|bytes| frame.windows(bytes.len()).any(|at| at == bytes))
    }
}

/// Where they go: out of the interface at the other end of one of the gateway's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'a> {
    /// The gateway's namespace and its interface.
    pub(crate) to: (&'a Ns, &'a str),
    /// The other end's.
    pub(crate) from: (&'a Ns, &'a str),
}

/// Mutated frames of one side: the same ones for the same seed.
#[derive(Debug)]
pub(crate) struct Mutants {
    random: Rng,
    frames: Vec<Vec<u8>>,
    exclusion: Exclusion,
    sender: FrameSender,
    taken: Received,
}

impl Mutants {
    /// Of these frames.
    pub(crate) fn new(
        seed: u64,
        frames: Vec<Vec<u8>>,
        exclusion: Exclusion,
        way: Way<'_>,
    ) -> Result<Self> {
        Ok(Self {
            random: Rng::with_seed(seed),
            frames,
            exclusion,
            sender: FrameSender::new(way.from.0, way.from.1)?,
            taken: Received::open(way.to.0, way.to.1)?,
        })
    }

    /// Sends so many.
    pub(crate) fn send(&mut self, count: u64) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let burst = left.min(BURST as u64);
            let frames: Vec<_> = (0..burst).map(|_| self.next()).collect();
            let before = self.taken.packets()?;
            self.sender.send(&frames)?;
            let begun = Instant::now();
            // Others' packets count, too, so that it may be too early by a few: never by more than a burst.
            while self.taken.packets()? < before + burst {
                if begun.elapsed() > PATIENCE {
                    return Err(LabError::Scenario("the gateway takes no frames in".to_owned()));
                }
                std::thread::sleep(Duration::from_micros(200));
            }
            left -= burst;
        }
        Ok(())
    }

    fn next(&mut self) -> Vec<u8> {
        loop {
            let mut frame = self.frames[self.random.usize(..self.frames.len())].clone();
            let mut choices = [0; CHOICES];
            self.random.fill(&mut choices);
            // What was changed until the choices end is a frame as well.
            let _ = mutate(&mut Unstructured::new(&choices), &mut frame, &self.frames);
            if (LEAST..=MOST).contains(&frame.len()) && !self.exclusion.has(&frame) {
                return frame;
            }
        }
    }
}

/// How many packets an interface has received.
#[derive(Debug)]
struct Received {
    /// `/proc/net/dev` of its namespace, to which it belongs as long as it is open.
    file: File,
    name: String,
}

impl Received {
    fn open(ns: &Ns, interface: &str) -> Result<Self> {
        let file = ns.enter(|| File::open("/proc/thread-self/net/dev"))?;
        let file = file.tried(|| format!("opening /proc/net/dev in {}", ns.name()))?;
        Ok(Self { file, name: format!("{interface}:") })
    }

    fn packets(&mut self) -> Result<u64> {
        let mut text = String::new();
        let read = self.file.rewind().and_then(|()| self.file.read_to_string(&mut text));
        read.tried(|| "reading /proc/net/dev".to_owned())?;
        let line = text.lines().find_map(|line| line.trim_start().strip_prefix(&self.name));
        // Bytes come first.
        let packets = line.and_then(|fields| fields.split_whitespace().nth(1)?.parse().ok());
        packets.ok_or_else(|| LabError::Scenario(format!("/proc/net/dev has no {}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_an_answer_of_anothers_backend_or_of_a_links_neighbour_is_left_out() {
        let exclusion =
            Exclusion::of(["10.20.0.11".parse().unwrap(), "fd00:20::11".parse().unwrap()]);
        let frame = |kind: [u8; 2], rest: &[u8]| [&[0; 12][..], &kind, rest].concat();
        assert!(exclusion.has(&frame([8, 0], &[1, 2, 3, 10, 20, 0, 11, 4])));
        assert!(!exclusion.has(&frame([8, 0], &[1, 2, 3, 10, 20, 0, 12, 4])));
        assert!(exclusion.has(&frame(ARP, &[0; 28])));
        let hops = |limit| frame(IPV6, &[0x60, 0, 0, 0, 0, 0, 58, limit, 1, 2]);
        assert!(exclusion.has(&hops(255)) && !exclusion.has(&hops(64)));
    }
}
