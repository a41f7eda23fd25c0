//! Frames out of an interface, as they are. All `unsafe` of the lab is here: the address of a packet socket, which neither socket2 nor rustix can make.

use std::io::{self, IoSlice};

use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::Ns;
use crate::error::{Result, Tried};

/// Sends frames out of one interface.
#[derive(Debug)]
pub(crate) struct FrameSender {
    socket: Socket,
    what: String,
}

impl FrameSender {
    /// Out of an interface of `ns`.
    pub(crate) fn new(ns: &Ns, interface: &str) -> Result<Self> {
        let what = format!("sending frames out of {interface} of {}", ns.name());
        let open = || {
            // Without a protocol it receives nothing.
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
            let index = rustix::net::netdevice::name_to_index(&socket, interface)?;
            socket.bind(&address(index))?;
            Ok::<_, io::Error>(socket)
        };
        let socket = ns.enter(open)?.tried(|| what.clone())?;
        Ok(Self { socket, what })
    }

    /// Sends all of them at once, in their order.
    pub(crate) fn send(&self, frames: &[Vec<u8>]) -> Result<()> {
        let slices: Vec<_> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
        let mut sent = 0;
        while sent < slices.len() {
            let mut nothing: Vec<_> =
                slices[sent..].iter().map(|_| SendAncillaryBuffer::default()).collect();
            let mut messages: Vec<_> = slices[sent..]
                .iter()
                .zip(&mut nothing)
                .map(|(slice, nothing)| MMsgHdr::new(slice, nothing))
                .collect();
            match sendmmsg(&self.socket, &mut messages, SendFlags::empty()) {
                Ok(more) => sent += more,
                // The interface's queue is full.
                Err(rustix::io::Errno::NOBUFS) => std::thread::yield_now(),
                Err(e) => return Err(io::Error::from(e)).tried(|| self.what.clone()),
            }
        }
        Ok(())
    }
}

/// The address of an interface.
#[expect(unsafe_code, reason = "nobody else makes one")]
fn address(index: u32) -> SockAddr {
    let link = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: index as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: an address of a packet socket is one of those that a storage has room for.
    *unsafe { storage.view_as::<libc::sockaddr_ll>() } = link;
    // SAFETY: the storage holds this address, which has this length.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}
