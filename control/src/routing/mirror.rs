//! The task that follows the kernel.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::{Handle, MulticastGroup, new_connection, new_multicast_connection};
use tokio::sync::watch;
use tokio::time::timeout;

use super::neighbours::manage;
use super::state::{Routes, State};
use super::view::ViewSpec;
use crate::model::RouteView;

/// How long changes are gathered before they are looked at.
const GATHER: Duration = Duration::from_millis(20);

/// After so long everything is read again, even if nothing was heard.
const AUDIT: Duration = Duration::from_secs(60);

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
];

/// The kernel's routes cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Socket(std::io::Error),
    /// A request failed.
    #[error("cannot read the kernel's {what}: {source}")]
    Dump {
        /// Links, routes or neighbours.
        what: &'static str,
        /// Why.
        source: rtnetlink::Error,
    },
    /// It takes too long.
    #[error("the kernel did not tell its routes within {0:?}")]
    Timeout(Duration),
}

/// Follows the kernel's links, routes and neighbours.
#[derive(Debug)]
pub struct Mirror {
    spec: watch::Sender<ViewSpec>,
    views: watch::Receiver<Option<Arc<RouteView>>>,
}

impl Mirror {
    /// Starts to follow, in the network namespace of the caller.
    ///
    /// # Errors
    /// No netlink socket can be opened.
    pub async fn start(
        interfaces: BTreeSet<u32>,
        backends: BTreeSet<IpAddr>,
    ) -> Result<Self, MirrorError> {
        let (spec, wanted) = watch::channel(ViewSpec { interfaces, backends });
        let (publish, views) = watch::channel(None);
        let follower = Follower::connect(wanted, publish)?;
        tokio::spawn(follower.run());
        Ok(Self { spec, views })
    }

    /// Waits for the first view.
    ///
    /// # Errors
    /// It takes longer than `patience`.
    pub async fn first(&mut self, patience: Duration) -> Result<Arc<RouteView>, MirrorError> {
        match timeout(patience, self.changed()).await {
            Ok(view) => Ok(view),
            Err(_) => Err(MirrorError::Timeout(patience)),
        }
    }

    /// Waits for a view that differs from the last.
    pub async fn changed(&mut self) -> Arc<RouteView> {
        loop {
            if self.views.changed().await.is_err() {
                // The task goes only with the runtime.
                std::future::pending::<()>().await;
            }
            if let Some(view) = self.views.borrow_and_update().clone() {
                return view;
            }
        }
    }

    /// Sets the interfaces that the program is attached to, by index.
    pub fn set_interfaces(&self, interfaces: BTreeSet<u32>) {
        self.spec.send_if_modified(|spec| {
            let modified = spec.interfaces != interfaces;
            spec.interfaces = interfaces;
            modified
        });
    }

    /// Sets the backends' addresses.
    pub fn set_backends(&self, backends: BTreeSet<IpAddr>) {
        self.spec.send_if_modified(|spec| {
            let modified = spec.backends != backends;
            spec.backends = backends;
            modified
        });
    }
}

/// What has to be read again.
#[derive(Clone, Copy, Debug, Default)]
struct Stale {
    links: bool,
    routes: bool,
    neighbours: bool,
}

impl Stale {
    const ALL: Self = Self { links: true, routes: true, neighbours: true };

    /// Learns from an event. What it says is not taken over, but read again with all
    /// the rest: events are lost, and do not tell everything (routes that go with a link).
    fn note(&mut self, message: &NetlinkMessage<RouteNetlinkMessage>) {
        use RouteNetlinkMessage as M;
        match &message.payload {
            NetlinkPayload::InnerMessage(inner) => match inner {
                M::NewNeighbour(_) | M::DelNeighbour(_) => self.neighbours = true,
                M::NewRoute(_) | M::DelRoute(_) => self.routes = true,
                _ => *self = Self::ALL,
            },
            NetlinkPayload::Overrun(_) => *self = Self::ALL,
            _ => {}
        }
    }
}

type Events = std::pin::Pin<Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send>>;

struct Follower {
    handle: Handle,
    events: Events,
    spec: watch::Receiver<ViewSpec>,
    publish: watch::Sender<Option<Arc<RouteView>>>,
    state: State,
    managed: BTreeSet<(u32, IpAddr)>,
}

impl Follower {
    fn connect(
        spec: watch::Receiver<ViewSpec>,
        publish: watch::Sender<Option<Arc<RouteView>>>,
    ) -> Result<Self, MirrorError> {
        let (handle, events) = sockets()?;
        let (state, managed) = (State::default(), BTreeSet::new());
        Ok(Self { handle, events, spec, publish, state, managed })
    }

    async fn run(mut self) {
        let mut stale = Stale::ALL;
        loop {
            let started = Instant::now();
            let pause = match self.refresh(stale).await {
                Ok(()) => {
                    stale = Stale::default();
                    // Large tables are not read more than a fifth of the time.
                    GATHER.max(5 * started.elapsed())
                }
                Err(e) => {
                    tracing::warn!("{e}; trying again");
                    stale = Stale::ALL;
                    if let Ok((handle, events)) = sockets() {
                        (self.handle, self.events) = (handle, events);
                    }
                    Duration::from_secs(1)
                }
            };
            tokio::select! {
                event = self.events.next() => match event {
                    Some(event) => stale.note(&event),
                    None => {
                        stale = Stale::ALL;
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        if let Ok((handle, events)) = sockets() {
                            (self.handle, self.events) = (handle, events);
                        }
                    }
                },
                changed = self.spec.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(AUDIT) => stale = Stale::ALL,
                () = self.publish.closed() => return,
            }
            // More is likely to follow.
            let deadline = tokio::time::Instant::now() + pause;
            while let Ok(Some(event)) = tokio::time::timeout_at(deadline, self.events.next()).await
            {
                stale.note(&event);
            }
        }
    }

    /// Reads what is stale, and publishes the view if it has changed.
    async fn refresh(&mut self, stale: Stale) -> Result<(), MirrorError> {
        if stale.links {
            self.state.links.clear();
            let links = self.handle.link().get().execute();
            for link in all("links", links).await? {
                self.state.add_link(&link);
            }
        }
        if stale.routes || stale.links {
            self.state.routes = Routes::default();
            for family in [AddressFamily::Inet, AddressFamily::Inet6] {
                let mut request = RouteMessage::default();
                request.header.address_family = family;
                let routes = self.handle.route().get(request).execute();
                for route in all("routes", routes).await? {
                    self.state.add_route(&route);
                }
            }
        }
        if stale.neighbours || stale.links {
            self.state.neighbours.clear();
            for family in [AddressFamily::Inet, AddressFamily::Inet6] {
                let request = self.handle.neighbours().get().set_address_family(family);
                let neighbours: Vec<NeighbourMessage> =
                    all("neighbours", request.execute()).await?;
                for neighbour in neighbours {
                    self.state.add_neighbour(&neighbour);
                }
            }
        }
        let spec = self.spec.borrow_and_update().clone();
        let view = self.state.view(&spec);
        self.publish.send_if_modified(|published| {
            let modified = published.as_deref() != Some(&view);
            if modified {
                *published = Some(Arc::new(view));
            }
            modified
        });
        manage(&self.handle, &self.state, &spec, &mut self.managed).await;
        Ok(())
    }
}

/// A socket for requests, and one that hears of changes: a flood of changes does not
/// stand in the way of answers.
fn sockets() -> Result<(Handle, Events), MirrorError> {
    let (connection, handle, _) = new_connection().map_err(MirrorError::Socket)?;
    tokio::spawn(connection);
    let (connection, _, events) = new_multicast_connection(&GROUPS).map_err(MirrorError::Socket)?;
    tokio::spawn(connection);
    Ok((handle, Box::pin(events.map(|(message, _)| message))))
}

async fn all<T>(
    what: &'static str,
    dump: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, MirrorError> {
    dump.try_collect().await.map_err(|source| MirrorError::Dump { what, source })
}
