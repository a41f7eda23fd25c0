//! TCP servers.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::frame;
use crate::error::{Result, Tried};
use crate::layout::{Kind, Lab, Site, Station, Transport};
use crate::peer::relay::mark;
use crate::peer::worker::{End, Worker};

const PORT: u16 = 7443;
const KIND: Kind = Kind { prefix: "tcp", profile: "tcp", ports: &[(PORT, Transport::Tcp)] };
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;

/// Servers of one service.
#[derive(Debug)]
pub struct TcpPool {
    site: Site,
    servers: Vec<TcpServer>,
}

/// A machine with a TCP server.
#[derive(Debug)]
pub struct TcpServer {
    station: Station,
    counts: Arc<Counts>,
    worker: Option<Worker<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicU64,
    open: AtomicU64,
}

impl TcpPool {
    /// Starts so many servers.
    pub fn start(lab: &Lab, name: &str, machines: usize) -> Result<Self> {
        let site = lab.site(name, KIND, machines)?;
        let servers = site.stations().iter().map(TcpServer::start).collect::<Result<_>>()?;
        Ok(Self { site, servers })
    }

    /// Its machines, and what they serve.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Its servers.
    pub fn servers(&self) -> &[TcpServer] {
        &self.servers
    }

    /// The server with this number.
    ///
    /// # Panics
    /// When it is not one of the pool's.
    pub fn server(&mut self, n: u8) -> &mut TcpServer {
        let found = self.servers.iter_mut().find(|server| server.number() == n);
        found.unwrap_or_else(|| panic!("server {n} is not in this pool"))
    }
}

impl TcpServer {
    fn start(station: &Station) -> Result<Self> {
        let open = || {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
            socket.set_only_v6(false)?;
            socket.set_reuse_address(true)?;
            socket.bind(&std::net::SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)).into())?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(std::net::TcpListener::from(socket))
        };
        let ns = station.ns();
        // The kernel's queue is no longer than this says.
        ns.sysctl("net/core/somaxconn", &BACKLOG.to_string())?;
        let listener = ns.enter(open)?.tried(|| format!("listening on TCP in {}", ns.name()))?;
        let counts = Arc::new(Counts::default());
        let (tag, seen) = (station.number(), counts.clone());
        let work = move |end: End| async move {
            tokio::select! {
                () = end.wait() => {}
                // An error of the listener shows at the clients.
                _ = accept(listener, tag, seen) => {}
            }
        };
        let worker = Some(Worker::start(ns, work)?);
        Ok(Self { station: station.clone(), counts, worker })
    }

    /// Its number in the lab: by it an answer tells who gave it.
    pub fn number(&self) -> u8 {
        self.station.number()
    }

    /// Its machine.
    pub fn station(&self) -> &Station {
        &self.station
    }

    /// Connections that were made to it.
    pub fn accepted(&self) -> u64 {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Connections that it has now.
    pub fn open(&self) -> u64 {
        self.counts.open.load(Ordering::Relaxed)
    }

    /// Dies like a machine that lost its power: its connections are gone without a word.
    pub fn die(&mut self) -> Result<()> {
        self.station.unplug()?;
        self.worker = None;
        Ok(())
    }
}

async fn accept(
    listener: std::net::TcpListener,
    tag: u8,
    counts: Arc<Counts>,
) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        counts.accepted.fetch_add(1, Ordering::Relaxed);
        counts.open.fetch_add(1, Ordering::Relaxed);
        let counts = counts.clone();
        tokio::spawn(async move {
            // A connection that breaks is the client's to report.
            let _ = serve(stream, tag).await;
            counts.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn serve(mut stream: TcpStream, tag: u8) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    while let Some(mut message) = frame::read(&mut stream).await? {
        mark(&mut message, tag);
        frame::write(&mut stream, &message).await?;
    }
    Ok(())
}
