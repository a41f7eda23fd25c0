//! A local UDP port whose datagrams go through a connection to an echo server. With it the
//! lab's numbered traffic is the same for all protocols, those without tunnels, too.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use crate::error::{Result, Tried};
use crate::net::Ns;
use crate::traffic::{BUFFER, TAG};

/// Opens the port on the loopback interface of `ns`.
pub(super) fn open(ns: &Ns) -> Result<(UdpSocket, SocketAddr)> {
    let open = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        set_socket_recv_buffer_size_force(&socket, BUFFER)?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        Ok::<_, std::io::Error>((socket, address))
    };
    ns.enter(open)?.tried(|| format!("opening a relay in {}", ns.name()))
}

/// What goes through the connection: the datagram, and the port it is to be answered to.
pub(super) fn wrap(datagram: &[u8], from: SocketAddr) -> Vec<u8> {
    let mut message = datagram.to_vec();
    message.extend(from.port().to_be_bytes());
    message
}

/// A message that came back, and where it belongs.
pub(super) fn unwrap(message: &[u8]) -> Option<(&[u8], SocketAddr)> {
    let (datagram, port) = message.split_last_chunk()?;
    Some((datagram, (Ipv4Addr::LOCALHOST, u16::from_be_bytes(*port)).into()))
}

/// What a server does with a message before it sends it back.
pub(super) fn mark(message: &mut [u8], tag: u8) {
    if let Some(place) = message.get_mut(TAG) {
        *place = tag;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_comes_back_with_its_place_and_a_tag() {
        let from = "127.0.0.1:4711".parse().unwrap();
        let mut message = wrap(&[0; 16], from);
        mark(&mut message, 5);
        let (datagram, to) = unwrap(&message).unwrap();
        assert_eq!((datagram.len(), datagram[TAG], to), (16, 5, from));
        assert_eq!(unwrap(&[1]), None);
    }
}
