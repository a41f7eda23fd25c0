//! A QUIC client at home.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinn::rustls::RootCertStore;
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, TokioRuntime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::pool::QuicPool;
use super::transport;
use crate::error::{LabError, Result, Tried};
use crate::layout::plan::Family;
use crate::layout::{Host, Lab};
use crate::net::Ns;
use crate::peer::relay;
use crate::peer::remote::Client;
use crate::peer::worker::{End, Order, Worker, order};
use crate::traffic::Target;
use crate::wait::until;

/// How long it waits before it tries again to connect.
const PAUSE: Duration = Duration::from_millis(200);

/// A client on a [`Host`] that keeps a connection, and makes another when it breaks.
#[derive(Debug)]
pub struct QuicClient {
    ns: Ns,
    relay: SocketAddr,
    is_v4: bool,
    state: Arc<State>,
    sockets: UnboundedSender<Order<UdpSocket>>,
    _worker: Worker<()>,
}

#[derive(Debug, Default)]
struct State {
    port: AtomicU16,
    connections: AtomicU32,
    breaks: Mutex<Vec<String>>,
}

impl QuicClient {
    /// Starts a client that dials the VIP of a pool.
    pub fn start(lab: &Lab, host: &Host, pool: &QuicPool, family: Family) -> Result<Self> {
        Self::dial(lab, host, pool, pool.site().vip(family))
    }

    /// Starts a client that dials `endpoint`.
    pub fn dial(_lab: &Lab, host: &Host, pool: &QuicPool, endpoint: SocketAddr) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots
            .add(pool.authority().certificate_der().into())
            .map_err(|e| LabError::Scenario(format!("an authority cannot be trusted: {e}")))?;
        let mut config = ClientConfig::with_root_certificates(Arc::new(roots))
            .map_err(|e| LabError::Scenario(format!("no QUIC client can be made: {e}")))?;
        config.transport_config(transport());
        let (socket, address) = relay::open(host.ns())?;
        let (sockets, wanted) = unbounded_channel();
        let (state, is_v4) = (Arc::new(State::default()), endpoint.is_ipv4());
        let own = open(host, is_v4)?;
        state.port.store(own.1, Ordering::Relaxed);
        let seen = state.clone();
        let work = move |end: End| async move {
            tokio::select! {
                () = end.wait() => {}
                ended = keep(endpoint, config, own.0, socket, wanted, &seen) => {
                    if let Err(e) = ended {
                        seen.broke(e.to_string());
                    }
                }
            }
        };
        let worker = Worker::start(host.ns(), work)?;
        let ns = host.ns().clone();
        Ok(Self { ns, relay: address, is_v4, state, sockets, _worker: worker })
    }

    /// How many connections it has made: one, as long as it survives.
    pub fn connections(&self) -> u32 {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Why connections ended or could not be made.
    pub fn breaks(&self) -> Vec<String> {
        self.state.breaks.lock().expect("no panic holds this lock").clone()
    }

    /// Sends from another socket, with another port and, if the host has changed its address,
    /// from there. The client knows, so it uses another connection id too, one that it was given in
    /// an encrypted packet.
    pub fn migrate(&mut self, host: &Host) -> Result<()> {
        let (socket, port) = open(host, self.is_v4)?;
        order(&self.sockets, socket);
        self.state.port.store(port, Ordering::Relaxed);
        Ok(())
    }
}

impl Client for QuicClient {
    fn port(&self) -> u16 {
        self.state.port.load(Ordering::Relaxed)
    }

    fn connected(&self, deadline: Duration) -> Result<()> {
        until("a QUIC connection", deadline, || Ok((self.connections() > 0).then_some(())))
    }

    fn target(&self) -> Result<Target> {
        Ok(Target::relayed(&self.ns, self.relay))
    }

    /// The address changes and the client does not notice, as behind a NAT that forgets: socket,
    /// port and connection ids stay. [`Self::migrate`] is the other way.
    fn roam(&mut self, host: &Host) -> Result<()> {
        host.switch_uplink()
    }
}

impl State {
    fn broke(&self, why: String) {
        self.breaks.lock().expect("no panic holds this lock").push(why);
    }
}

/// A socket on a fresh port of a host, and the port.
fn open(host: &Host, is_v4: bool) -> Result<(UdpSocket, u16)> {
    let port = host.fresh_port();
    let any = if is_v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = host.ns().enter(|| UdpSocket::bind(SocketAddr::new(any, port)))?;
    Ok((socket.tried(|| format!("opening port {port} in {}", host.ns().name()))?, port))
}

/// Keeps a connection; ends only with an error of this machine.
async fn keep(
    to: SocketAddr,
    config: ClientConfig,
    own: UdpSocket,
    socket: UdpSocket,
    mut sockets: UnboundedReceiver<Order<UdpSocket>>,
    state: &State,
) -> std::io::Result<()> {
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    let mut endpoint = Endpoint::new(EndpointConfig::default(), None, own, Arc::new(TokioRuntime))?;
    endpoint.set_default_client_config(config);
    loop {
        let connected = async {
            let connecting = endpoint.connect(to, &to.ip().to_string());
            let connection = connecting.map_err(std::io::Error::other)?.await?;
            state.connections.fetch_add(1, Ordering::Relaxed);
            exchange(&connection, &socket).await
        };
        tokio::pin!(connected);
        let why = loop {
            tokio::select! {
                Some((socket, done)) = sockets.recv() => {
                    endpoint.rebind(socket)?;
                    let _ = done.send(());
                }
                Err(e) = &mut connected => break e,
                else => return Ok(()),
            }
        };
        state.broke(why.to_string());
        tokio::time::sleep(PAUSE).await;
    }
}

/// Carries datagrams to the server and back, until the connection breaks.
async fn exchange(connection: &Connection, socket: &tokio::net::UdpSocket) -> std::io::Result<()> {
    let there = async {
        let mut buffer = [0; 2048];
        loop {
            let (length, source) = socket.recv_from(&mut buffer).await?;
            // One that does not fit is lost, as on the way; a broken connection shows below.
            let _ = connection.send_datagram(relay::wrap(&buffer[..length], source).into());
        }
    };
    let back = async {
        loop {
            let message = connection.read_datagram().await?;
            if let Some((datagram, asker)) = relay::unwrap(&message) {
                // One that has gone wants no answer.
                let _ = socket.send_to(datagram, asker).await;
            }
        }
    };
    tokio::select! {
        ended = there => ended,
        ended = back => ended,
    }
}
