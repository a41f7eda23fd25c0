//! The end of a gateway's tunnels on a machine inside. The kernels that this runs on have no modules for it, so it is done here: what
//! comes out of a tunnel is sent to the machine's own VIP.

use std::io::Read;
use std::net::{Ipv6Addr, UdpSocket};
use std::os::fd::AsFd;

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::{Result, Tried};
use crate::layout::Station;
use crate::net::RawSender;
use crate::wait::Background;

/// IP protocol numbers.
const IPV4: i32 = 4;
const IPV6: i32 = 41;
const UDP: i32 = 17;
/// Where datagrams with packets inside go.
const GUE_PORT: u16 = 6080;
/// Bytes of a UDP header.
const UDP_HEADER: usize = 8;
/// Socket buffers, so that a busy machine does not look like loss on the way.
const BUFFER: usize = 8 << 20;

/// Takes packets out of tunnels of all kinds, until it is dropped.
#[derive(Debug)]
pub struct TunnelEnd {
    _receivers: Vec<Background>,
    /// Nobody reads from it: without it the machine would say that the port is closed.
    _port: UdpSocket,
}

impl TunnelEnd {
    /// Starts it on a machine.
    pub fn start(station: &Station) -> Result<Self> {
        let ns = station.ns();
        let at = (Ipv6Addr::UNSPECIFIED, GUE_PORT);
        let port = ns.enter(|| UdpSocket::bind(at))?.tried(|| format!("listening on {at:?}"))?;
        let mut receivers = Vec::new();
        for domain in [Domain::IPV4, Domain::IPV6] {
            for protocol in [IPV4, IPV6, UDP] {
                let open = || {
                    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(protocol)))?;
                    set_socket_recv_buffer_size_force(&socket, BUFFER)?;
                    socket.set_nonblocking(true)?;
                    Ok::<_, std::io::Error>(socket)
                };
                let socket = ns.enter(open)?.tried(|| "opening the end of a tunnel".to_owned())?;
                let sender = RawSender::new(ns)?;
                let has_header = domain == Domain::IPV4;
                receivers.push(Background::spawn(move |stop| {
                    let mut buffer = vec![0; 1 << 16];
                    while !stop.is_given() {
                        stop.readable(socket.as_fd(), None);
                        while let Ok(length) = (&socket).read(&mut buffer) {
                            let packet = &buffer[..length];
                            if let Some(inside) = inside(packet, has_header, protocol == UDP) {
                                // What is lost is the measuring side's to find.
                                let _ = sender.pass_on(inside);
                            }
                        }
                    }
                })?);
            }
        }
        Ok(Self { _receivers: receivers, _port: port })
    }
}

/// What a tunnel's packet carries. A raw socket gives the header of IPv4, and not that of IPv6.
fn inside(packet: &[u8], has_header: bool, is_datagram: bool) -> Option<&[u8]> {
    let payload = match has_header {
        true => packet.get(usize::from(packet.first()? & 0x0f) * 4..)?,
        false => packet,
    };
    if !is_datagram {
        return Some(payload);
    }
    (payload.get(2..4)? == GUE_PORT.to_be_bytes()).then_some(payload.get(UDP_HEADER..)?)
}
