//! One client with one connection at a time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::frame;
use super::pool::TcpPool;
use crate::error::Result;
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
pub struct TcpClient {
    ns: Ns,
    relay: SocketAddr,
    state: Arc<State>,
    again: UnboundedSender<Order<u16>>,
    _worker: Worker<()>,
}

#[derive(Debug, Default)]
struct State {
    port: AtomicU16,
    connections: AtomicU32,
    breaks: Mutex<Vec<String>>,
}

impl TcpClient {
    /// Starts a client that dials the VIP of a pool.
    pub fn start(lab: &Lab, host: &Host, pool: &TcpPool, family: Family) -> Result<Self> {
        Self::dial(lab, host, pool.site().vip(family))
    }

    /// Starts a client that dials `endpoint`.
    pub fn dial(_lab: &Lab, host: &Host, endpoint: SocketAddr) -> Result<Self> {
        let (socket, address) = relay::open(host.ns())?;
        let state = Arc::new(State::default());
        let (again, wanted) = unbounded_channel();
        let (port, seen) = (host.fresh_port(), state.clone());
        let work = move |end: End| async move {
            tokio::select! {
                () = end.wait() => {}
                ended = keep(endpoint, port, socket, wanted, &seen) => {
                    if let Err(e) = ended {
                        seen.broke(e.to_string());
                    }
                }
            }
        };
        let worker = Worker::start(host.ns(), work)?;
        Ok(Self { ns: host.ns().clone(), relay: address, state, again, _worker: worker })
    }

    /// How many connections it has made.
    pub fn connections(&self) -> u32 {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Why connections ended or could not be made, but those it gave up itself.
    pub fn breaks(&self) -> Vec<String> {
        self.state.breaks.lock().expect("no panic holds this lock").clone()
    }
}

impl Client for TcpClient {
    fn port(&self) -> u16 {
        self.state.port.load(Ordering::Relaxed)
    }

    fn connected(&self, deadline: Duration) -> Result<()> {
        until("a TCP connection", deadline, || Ok((self.connections() > 0).then_some(())))
    }

    fn target(&self) -> Result<Target> {
        Ok(Target::relayed(&self.ns, self.relay))
    }

    /// The address changes, which no connection survives: it gives up the one it has and makes
    /// another, from another port.
    fn roam(&mut self, host: &Host) -> Result<()> {
        host.switch_uplink()?;
        order(&self.again, host.fresh_port());
        Ok(())
    }
}

impl State {
    fn broke(&self, why: String) {
        self.breaks.lock().expect("no panic holds this lock").push(why);
    }
}

/// Keeps a connection; ends only with an error of this machine.
async fn keep(
    to: SocketAddr,
    mut port: u16,
    socket: std::net::UdpSocket,
    mut wanted: UnboundedReceiver<Order<u16>>,
    state: &State,
) -> std::io::Result<()> {
    let socket = UdpSocket::from_std(socket)?;
    loop {
        let connected = async {
            let stream = connect(to, port).await?;
            state.port.store(stream.local_addr()?.port(), Ordering::Relaxed);
            state.connections.fetch_add(1, Ordering::Relaxed);
            exchange(stream, &socket).await
        };
        let wish = tokio::select! {
            wish = wanted.recv() => wish,
            Err(e) = connected => {
                state.broke(e.to_string());
                tokio::time::sleep(PAUSE).await;
                // The kernel keeps the old one for a while.
                port = 0;
                continue;
            }
        };
        // The connection is gone by now.
        let Some((next, done)) = wish else { return Ok(()) };
        port = next;
        let _ = done.send(());
    }
}

async fn connect(to: SocketAddr, port: u16) -> std::io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_nodelay(true)?;
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let mut own: SocketAddr = any.parse().map_err(std::io::Error::other)?;
    own.set_port(port);
    socket.bind(own)?;
    socket.connect(to).await
}

/// Carries datagrams to the server and back, until the connection breaks.
async fn exchange(mut stream: TcpStream, socket: &UdpSocket) -> std::io::Result<()> {
    let (mut from, mut to) = stream.split();
    let there = async {
        let mut buffer = [0; 2048];
        loop {
            let (length, source) = socket.recv_from(&mut buffer).await?;
            frame::write(&mut to, &relay::wrap(&buffer[..length], source)).await?;
        }
    };
    let back = async {
        while let Some(message) = frame::read(&mut from).await? {
            if let Some((datagram, asker)) = relay::unwrap(&message) {
                // One that has gone wants no answer.
                let _ = socket.send_to(datagram, asker).await;
            }
        }
        Err(std::io::Error::other("closed by the server"))
    };
    tokio::select! {
        ended = there => ended,
        ended = back => ended,
    }
}
