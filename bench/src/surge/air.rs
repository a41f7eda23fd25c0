//! Frames between the peers and the gateway, on both sides.
//!
//! A veth holds 256 frames. So they are sent in bursts, and what came out is taken before the next
//! one: the harness itself never drops.

use std::collections::VecDeque;
use std::io;
use std::thread::yield_now;
use std::time::{Duration, Instant};

use super::socket::PacketSocket;
use super::wire::{Datagram, ROOM, Read};

/// Frames of a burst.
pub(super) const BURST: usize = 64;
/// So many may be under way when the next burst is sent.
const UNDER_WAY: u64 = 64;
/// What has not come out by then was not forwarded.
const PATIENCE: Duration = Duration::from_millis(5);

const CLIENTS_LINK: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 1, 0xb, 1];
const CONCENTRATORS_LINK: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 1, 0xc, 1];

/// One side.
#[derive(Debug)]
pub(super) struct End {
    socket: PacketSocket,
    link: [u8; 12],
    /// What is to be sent.
    pub(super) queue: VecDeque<Datagram>,
    /// Frames of ours that were sent, and those that were received.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Of these, with a wrong checksum, length or TTL.
    pub(super) damaged: u64,
    arrived: VecDeque<Datagram>,
}

/// Both sides.
#[derive(Debug)]
pub(super) struct Air {
    pub(super) clients: End,
    pub(super) concentrators: End,
    /// Frames that were given up waiting for.
    forgotten: u64,
}

impl End {
    fn new(socket: PacketSocket, link: [u8; 12]) -> Self {
        let (queue, arrived) = (VecDeque::new(), VecDeque::new());
        Self { socket, link, queue, sent: 0, received: 0, damaged: 0, arrived }
    }

    /// Sends a burst: whether there was anything to send.
    fn send(&mut self) -> io::Result<bool> {
        let mut frame = Vec::with_capacity(ROOM);
        let count = self.queue.len().min(BURST);
        for datagram in self.queue.drain(..count) {
            datagram.write(&self.link, &mut frame);
            self.socket.send(&frame)?;
        }
        self.sent += count as u64;
        Ok(count > 0)
    }

    /// Takes what came in.
    fn take(&mut self) -> io::Result<()> {
        let mut room = [0; 2 * ROOM];
        while let Some(length) = self.socket.receive(&mut room)? {
            match Datagram::read(&room[..length]) {
                Read::Other => {}
                Read::Damaged => {
                    self.received += 1;
                    self.damaged += 1;
                }
                Read::Good(datagram) => {
                    self.received += 1;
                    self.arrived.push_back(datagram);
                }
            }
        }
        Ok(())
    }

    /// The next one that came in.
    pub(super) fn next(&mut self) -> Option<Datagram> {
        self.arrived.pop_front()
    }

    /// Frames that the socket had no room for, since this was last asked.
    pub(super) fn dropped(&self) -> io::Result<u64> {
        self.socket.dropped()
    }
}

impl Air {
    pub(super) fn new(clients: PacketSocket, concentrators: PacketSocket) -> Self {
        Self {
            clients: End::new(clients, CLIENTS_LINK),
            concentrators: End::new(concentrators, CONCENTRATORS_LINK),
            forgotten: 0,
        }
    }

    /// Sends a burst from each side, and takes what came out: whether there was anything.
    pub(super) fn exchange(&mut self) -> io::Result<bool> {
        let mut busy = self.clients.send()?;
        self.take()?;
        busy |= self.concentrators.send()?;
        self.take()?;
        let begin = Instant::now();
        while self.under_way() > UNDER_WAY {
            if begin.elapsed() > PATIENCE {
                self.forgotten += self.under_way();
            }
            yield_now();
            self.take()?;
        }
        Ok(busy || !self.clients.arrived.is_empty() || !self.concentrators.arrived.is_empty())
    }

    fn take(&mut self) -> io::Result<()> {
        self.clients.take()?;
        self.concentrators.take()
    }

    fn under_way(&self) -> u64 {
        let sent = self.clients.sent + self.concentrators.sent;
        sent.saturating_sub(self.clients.received + self.concentrators.received + self.forgotten)
    }
}
