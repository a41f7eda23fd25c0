//! Netlink sockets: one that listens, one that asks.
//!
//! The connection type of `rtnetlink` splits notifications from answers and hides the
//! headers' flags, undecodable messages and unknown kinds; a mirror must see them.

use std::io;
use std::os::fd::AsFd;

use futures_util::FutureExt;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use tracing::{debug, warn};

/// Longest datagram: the kernel's dumps come in pieces of 32 KiB at most.
const DATAGRAM: usize = 64 * 1024;
/// Room for notifications that come faster than they are read, in bytes: some
/// ten thousand route changes.
const BACKLOG: usize = 16 << 20;
/// How often a dump is asked for again that changes have overtaken.
const ATTEMPTS: u32 = 5;

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;

/// What the kernel told.
#[derive(Debug)]
pub(super) enum Event {
    /// A notification, with the flags of its header.
    Message(u16, Box<RouteNetlinkMessage>),
    /// Something of which the messages do not say what it means for the mirror.
    Lost,
}

/// A socket that hears of changes.
pub(super) struct Listener {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl Listener {
    /// Subscribes to everything that is mirrored, in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        // Needs CAP_NET_ADMIN; without it the default has to do.
        if let Err(error) = set_socket_recv_buffer_size_force(socket.socket_ref().as_fd(), BACKLOG)
        {
            debug!(%error, "netlink receive buffer stays as small as it is");
        }
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        for group in [
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Nexthop,
        ] {
            socket.socket_ref().add_membership(group as u32)?;
        }
        Ok(Self { socket, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Waits for the next events. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The socket is of no more use.
    pub(super) async fn next(&mut self) -> io::Result<Vec<Event>> {
        self.buffer.clear();
        match self.socket.recv_from(&mut self.buffer).await {
            Ok(_) => Ok(events(&self.buffer)),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                warn!("the kernel dropped netlink notifications; reading its tables again");
                Ok(vec![Event::Lost])
            }
            Err(error) => Err(error),
        }
    }

    /// Events that are there already, if any.
    pub(super) fn queued(&mut self) -> io::Result<Option<Vec<Event>>> {
        self.next().now_or_never().transpose()
    }
}

/// What a datagram tells.
pub(super) fn events(datagram: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    for bytes in messages(datagram) {
        let Ok(header) = NetlinkBuffer::new_checked(bytes) else { continue };
        match header.message_type() {
            // A nexthop object is referred to by routes, which the kernel changes with it.
            RTM_DELNEXTHOP => events.push(Event::Lost),
            RTM_NEWNEXTHOP => {
                if header.flags() & rtnetlink::packet_core::NLM_F_REPLACE != 0 {
                    events.push(Event::Lost);
                }
            }
            _ => match NetlinkMessage::deserialize(bytes) {
                Ok(NetlinkMessage { header, payload: NetlinkPayload::InnerMessage(m), .. }) => {
                    events.push(Event::Message(header.flags, Box::new(m)));
                }
                Ok(_) => {}
                Err(error) => debug!(%error, "netlink notification not understood"),
            },
        }
    }
    events
}

/// The messages of a datagram.
fn messages(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = NetlinkBuffer::new_checked(rest).ok()?.length() as usize;
        let message = rest.get(..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// A socket that asks and orders, one request at a time.
pub(super) struct Requester {
    socket: TokioSocket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Requester {
    /// A socket in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(DATAGRAM) })
    }

    /// Has the kernel list something. The list may come more than once: `start` is
    /// called before each time.
    ///
    /// # Errors
    /// The kernel refused, or the tables changed all the time while it listed them.
    pub(super) async fn dump<C>(
        &mut self,
        request: &RouteNetlinkMessage,
        context: &mut C,
        start: impl Fn(&mut C),
        each: impl Fn(&mut C, RouteNetlinkMessage),
    ) -> io::Result<()> {
        for _ in 0..ATTEMPTS {
            start(context);
            self.send(request.clone(), NLM_F_REQUEST | NLM_F_DUMP).await?;
            if self.receive(|message| each(context, message)).await? {
                return Ok(());
            }
        }
        Err(io::Error::other("the kernel's tables change faster than they can be read"))
    }

    /// Has the kernel do something.
    ///
    /// # Errors
    /// It refused.
    pub(super) async fn order(
        &mut self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<()> {
        self.send(request, NLM_F_REQUEST | NLM_F_ACK | flags).await?;
        self.receive(|_| {}).await.map(|_| ())
    }

    async fn send(&mut self, request: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0)).await.map(|_| ())
    }

    /// Reads the answers to the last request; false if they do not fit together.
    async fn receive(&mut self, mut each: impl FnMut(RouteNetlinkMessage)) -> io::Result<bool> {
        let mut consistent = true;
        loop {
            self.buffer.clear();
            self.socket.recv_from(&mut self.buffer).await?;
            for bytes in messages(&self.buffer) {
                let message = match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) {
                    Ok(message) => message,
                    Err(error) => {
                        debug!(%error, "netlink answer not understood");
                        continue;
                    }
                };
                // The rest of an answer that nobody waited for.
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                consistent &= message.header.flags & NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(consistent),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(inner) => each(inner),
                    _ => {}
                }
            }
        }
    }
}
