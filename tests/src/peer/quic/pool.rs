//! QUIC servers that hold the same certificate.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use quinn::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use quinn::{Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};

use super::ids::{Generator, QuicIds};
use super::transport;
use crate::error::{LabError, Result, Tried};
use crate::layout::plan::{self, Family};
use crate::layout::{Kind, Lab, Site, Station, Transport};
use crate::peer::pki::{Authority, Identity, Subject};
use crate::peer::relay::mark;
use crate::peer::worker::{End, Worker};

const PORT: u16 = 8443;
const KIND: Kind = Kind { prefix: "quic", profile: "quic", ports: &[(PORT, Transport::Udp)] };

/// Servers of one service.
#[derive(Debug)]
pub struct QuicPool {
    site: Site,
    authority: Authority,
    servers: Vec<QuicServer>,
}

/// A machine with a QUIC server.
#[derive(Debug)]
pub struct QuicServer {
    station: Station,
    connections: Arc<Mutex<Vec<Connection>>>,
    worker: Option<Worker<()>>,
}

impl QuicPool {
    /// Starts so many servers.
    pub fn start(lab: &Lab, name: &str, machines: usize, ids: QuicIds) -> Result<Self> {
        let site = lab.site(name, KIND, machines)?;
        let authority = Authority::new()?;
        let mut addresses = Vec::new();
        for family in [Family::V4, Family::V6] {
            addresses.push(family.of(plan::vip(site.number())));
            addresses.extend(site.stations().iter().map(|station| station.address(family)));
        }
        let identity = authority.issue(Subject::Server(&addresses))?;
        let servers = site
            .stations()
            .iter()
            .map(|station| QuicServer::start(station, &identity, ids))
            .collect::<Result<_>>()?;
        Ok(Self { site, authority, servers })
    }

    /// Its machines, and what they serve.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Its servers.
    pub fn servers(&self) -> &[QuicServer] {
        &self.servers
    }

    /// The server with this number.
    ///
    /// # Panics
    /// When it is not one of the pool's.
    pub fn server(&mut self, n: u8) -> &mut QuicServer {
        let found = self.servers.iter_mut().find(|server| server.number() == n);
        found.unwrap_or_else(|| panic!("server {n} is not in this pool"))
    }

    /// Who signed the servers' certificate.
    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }
}

impl QuicServer {
    fn start(station: &Station, identity: &Identity, ids: QuicIds) -> Result<Self> {
        let open = || {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_only_v6(false)?;
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)).into())?;
            Ok::<_, std::io::Error>(std::net::UdpSocket::from(socket))
        };
        let ns = station.ns();
        let socket = ns.enter(open)?.tried(|| format!("listening for QUIC in {}", ns.name()))?;
        let certificate = CertificateDer::from(identity.certificate_der.clone());
        let key = PrivateKeyDer::try_from(identity.key_der.clone())
            .map_err(|e| LabError::Scenario(format!("a key has another form: {e}")))?;
        let mut config = ServerConfig::with_single_cert(vec![certificate], key)
            .map_err(|e| LabError::Scenario(format!("a certificate cannot be used: {e}")))?;
        config.transport_config(transport());
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (tag, seen) = (station.number(), connections.clone());
        let work = move |end: End| async move {
            tokio::select! {
                () = end.wait() => {}
                // What goes wrong shows at the clients.
                _ = serve(socket, config, Generator { ids, server: tag }, seen) => {}
            }
        };
        let worker = Some(Worker::start(ns, work)?);
        Ok(Self { station: station.clone(), connections, worker })
    }

    /// Its number in the lab: by it an answer tells who gave it.
    pub fn number(&self) -> u8 {
        self.station.number()
    }

    /// Its machine.
    pub fn station(&self) -> &Station {
        &self.station
    }

    /// How many connections were made to it.
    pub fn accepted(&self) -> usize {
        self.connections.lock().expect("no panic holds this lock").len()
    }

    /// Where the clients of its connections were last heard from.
    pub fn clients(&self) -> Vec<SocketAddr> {
        let connections = self.connections.lock().expect("no panic holds this lock");
        let open = connections.iter().filter(|connection| connection.close_reason().is_none());
        open.map(|connection| {
            let address = connection.remote_address();
            SocketAddr::new(address.ip().to_canonical(), address.port())
        })
        .collect()
    }

    /// Dies like a machine that lost its power: its connections are gone without a word.
    pub fn die(&mut self) -> Result<()> {
        self.station.unplug()?;
        self.worker = None;
        Ok(())
    }
}

async fn serve(
    socket: std::net::UdpSocket,
    config: ServerConfig,
    ids: Generator,
    connections: Arc<Mutex<Vec<Connection>>>,
) -> std::io::Result<()> {
    let mut own = EndpointConfig::default();
    own.cid_generator(move || Box::new(ids));
    let endpoint = Endpoint::new(own, Some(config), socket, Arc::new(TokioRuntime))?;
    while let Some(incoming) = endpoint.accept().await {
        let connections = connections.clone();
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            connections.lock().expect("no panic holds this lock").push(connection.clone());
            while let Ok(datagram) = connection.read_datagram().await {
                let mut message = datagram.to_vec();
                mark(&mut message, ids.server);
                // One that does not fit is lost, as on the way.
                let _ = connection.send_datagram(message.into());
            }
        });
    }
    Ok(())
}
