//! Echo requests (RFC 792, RFC 4443).

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{LabError, Result, Tried};
use crate::net::Ns;
use crate::wait::Stop;

/// Sends one echo request from `ns` and waits for the reply; the time it took.
pub fn ping(ns: &Ns, to: IpAddr, deadline: Duration) -> Result<Duration> {
    // "Ping sockets": the kernel sets the identifier and the checksum, and
    // delivers only replies to this socket's own requests.
    ns.sysctl("net/ipv4/ping_group_range", "0 0")?;
    let (domain, protocol, kind, reply) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let open = || {
        let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
        socket.connect(&SocketAddr::new(to, 0).into())?;
        socket.set_nonblocking(true)?;
        Ok::<_, std::io::Error>(socket)
    };
    let socket = ns.enter(open)?.tried(|| format!("opening a ping socket in {}", ns.name()))?;
    let idle = Stop::new()?;
    let started = Instant::now();
    socket
        .send(&[kind, 0, 0, 0, 0, 0, 0, 1, b'f', b'e', b'r', b'n'])
        .tried(|| format!("pinging {to} from {}", ns.name()))?;
    let mut buffer = [0; 256];
    while let Some(left) = deadline.checked_sub(started.elapsed()) {
        idle.readable(socket.as_fd(), Some(left));
        if let Ok(length) = (&socket).read(&mut buffer)
            && length >= 12
            && buffer[0] == reply
            && buffer[8..12] == *b"fern"
        {
            return Ok(started.elapsed());
        }
    }
    Err(LabError::Timeout {
        what: format!("a ping reply of {to} to {}", ns.name()),
        after: deadline,
    })
}
