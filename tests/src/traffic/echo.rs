//! Echo servers: UDP with a tag that tells who answered, and TCP.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{Result, Tried};
use crate::net::Ns;
use crate::wait::Background;

/// Port of the echo servers, UDP and TCP.
pub const PORT: u16 = 7007;
/// Shortest request: a sequence number and room for the tag.
pub(crate) const SHORTEST: usize = 16;
/// Longest request, in fragments.
const LONGEST: usize = 1 << 16;
/// Where the answer carries the server's tag.
pub(crate) const TAG: usize = 8;
/// Socket buffers, so that a busy machine does not look like loss on the way.
pub(crate) const BUFFER: usize = 8 << 20;

/// A UDP socket in `ns` with a large buffer. It is bound to an address, because
/// answers must come from the one that was asked.
fn listen(ns: &Ns, at: SocketAddr) -> Result<UdpSocket> {
    let open = || {
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
        set_socket_recv_buffer_size_force(&socket, BUFFER)?;
        socket.bind(&at.into())?;
        socket.set_nonblocking(true)?;
        Ok::<_, std::io::Error>(UdpSocket::from(socket))
    };
    ns.enter(open)?.tried(|| format!("listening on {at}, UDP, in {}", ns.name()))
}

/// Answers UDP requests with themselves and its tag.
#[derive(Debug)]
pub struct EchoServer {
    _server: Background,
}

impl EchoServer {
    /// Starts a server with a tag on an address of `ns`.
    pub fn start(ns: &Ns, own: IpAddr, tag: u8) -> Result<Self> {
        Self::start_at(ns, SocketAddr::new(own, PORT), tag)
    }

    /// The same, with a port of its own.
    pub fn start_at(ns: &Ns, at: SocketAddr, tag: u8) -> Result<Self> {
        let socket = listen(ns, at)?;
        let server = Background::spawn(move |stop| {
            let mut buffer = vec![0; LONGEST];
            while !stop.is_given() {
                stop.readable(socket.as_fd(), None);
                while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    if length >= SHORTEST {
                        buffer[TAG] = tag;
                        // Loss on the way back is the measuring side's to find.
                        let _ = socket.send_to(&buffer[..length], from);
                    }
                }
            }
        })?;
        Ok(Self { _server: server })
    }
}

/// Answers TCP connections with what they send, one at a time.
#[derive(Debug)]
pub struct TcpEchoServer {
    _server: Background,
}

impl TcpEchoServer {
    /// Starts a server on `port` in `ns`.
    pub fn start(ns: &Ns, port: u16) -> Result<Self> {
        let open = || {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
            listener.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(listener)
        };
        let listener =
            ns.enter(open)?.tried(|| format!("listening on TCP port {port} in {}", ns.name()))?;
        let server = Background::spawn(move |stop| {
            while !stop.is_given() {
                stop.readable(listener.as_fd(), None);
                while let Ok((stream, _)) = listener.accept() {
                    // A connection that breaks is the client's to report.
                    let _ = serve(stream);
                }
            }
        })?;
        Ok(Self { _server: server })
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = [0; 65536];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

/// Sends `length` bytes over a TCP connection from `ns` and reads them back.
pub fn tcp_round_trip(ns: &Ns, server: SocketAddr, length: usize) -> Result<()> {
    let deadline = Duration::from_secs(10);
    let exchange = || {
        let mut stream = TcpStream::connect_timeout(&server, deadline)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(deadline))?;
        let sent: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
        let mut received = vec![0; length];
        // One chunk after the other: neither side's buffers can fill up and stop both.
        for (out, back) in sent.chunks(16384).zip(received.chunks_mut(16384)) {
            stream.write_all(out)?;
            stream.read_exact(back)?;
        }
        if sent == received { Ok(()) } else { Err(std::io::Error::other("other bytes came back")) }
    };
    ns.enter(exchange)?.tried(|| format!("a TCP connection from {} to {server}", ns.name()))
}
