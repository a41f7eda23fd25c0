//! The task that keeps the mirror.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::keep::{self, Keeper};
use super::socket::{Event, Listener, Requester};
use super::state::{Effect, State};
use super::view::ViewSpec;
use crate::model::{HopKey, RouteView};

/// Shortest time from one view to the next.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest time from one view to the next, and until a dump that is needed.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// Longest time until everything is read again, in case the kernel keeps still about more
/// than is known here.
const AUDIT: Duration = Duration::from_secs(60);
/// Time until a broken socket is replaced.
const REPAIR: Duration = Duration::from_secs(1);

/// The kernel's routes cannot be followed.
#[derive(Debug, Error)]
pub enum MirrorError {
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Socket(#[source] io::Error),
    /// The kernel's tables could not be read.
    #[error("cannot read the kernel's {what}: {source}")]
    Dump {
        /// Which tables.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// No threads for that.
    #[error("cannot ask the kernel for its routes: {0}")]
    Threads(#[source] io::Error),
    /// It takes too long.
    #[error("the kernel did not tell its routes within {0:?}")]
    Timeout(Duration),
}

/// Follows the kernel. It ends when this is dropped.
#[derive(Debug)]
pub struct Mirror {
    spec: watch::Sender<ViewSpec>,
    views: watch::Receiver<Option<Arc<RouteView>>>,
    task: AbortHandle,
}

impl Mirror {
    /// Starts to follow, in the network namespace of the calling thread. `interfaces` are the
    /// indexes of those that have the program, `backends` the addresses of all backends.
    ///
    /// # Errors
    /// No netlink socket can be opened.
    pub async fn start(
        interfaces: BTreeSet<u32>,
        backends: BTreeSet<IpAddr>,
    ) -> Result<Self, MirrorError> {
        let (spec, specs) = watch::channel(ViewSpec { interfaces, backends });
        let (publish, views) = watch::channel(None);
        let task = tokio::spawn(Task::open(specs, publish)?.run()).abort_handle();
        Ok(Self { spec, views, task })
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

    /// Waits for a view that differs from the last. Dropping the future loses nothing.
    pub async fn changed(&mut self) -> Arc<RouteView> {
        loop {
            if self.views.changed().await.is_err() {
                // The task goes only with this, or with the runtime.
                std::future::pending::<()>().await;
            }
            if let Some(view) = self.views.borrow_and_update().clone() {
                return view;
            }
        }
    }

    /// Sets the interfaces that the program is attached to, by index.
    pub fn set_interfaces(&self, interfaces: BTreeSet<u32>) {
        self.spec.send_if_modified(|spec| replace(&mut spec.interfaces, interfaces));
    }

    /// Sets the backends' addresses.
    pub fn set_backends(&self, backends: BTreeSet<IpAddr>) {
        self.spec.send_if_modified(|spec| replace(&mut spec.backends, backends));
    }
}

/// Sets a value; true if it was another.
fn replace<T: PartialEq>(value: &mut T, new: T) -> bool {
    let differs = *value != new;
    *value = new;
    differs
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    listener: Listener,
    requester: Requester,
    /// `None` until it has been read.
    state: Option<State>,
    keeper: Keeper,
    needed: BTreeSet<HopKey>,
    specs: watch::Receiver<ViewSpec>,
    publish: watch::Sender<Option<Arc<RouteView>>>,
    /// Something has changed since the last view.
    dirty: bool,
    /// A dump is needed.
    stale: bool,
    /// The sockets are to be replaced.
    broken: bool,
    next_view: Instant,
    next_dump: Instant,
    next_audit: Instant,
    next_order: Option<Instant>,
}

impl Task {
    fn open(
        specs: watch::Receiver<ViewSpec>,
        publish: watch::Sender<Option<Arc<RouteView>>>,
    ) -> Result<Self, MirrorError> {
        let now = Instant::now();
        Ok(Self {
            // Listening comes first: what changes during a dump is heard, and applied after it.
            listener: Listener::open().map_err(MirrorError::Socket)?,
            requester: Requester::open().map_err(MirrorError::Socket)?,
            state: None,
            keeper: Keeper::default(),
            needed: BTreeSet::new(),
            specs,
            publish,
            dirty: false,
            stale: true,
            broken: false,
            next_view: now,
            next_dump: now,
            next_audit: now,
            next_order: None,
        })
    }

    async fn run(mut self) {
        loop {
            self.work().await;
            let wake = tokio::time::Instant::from_std(self.wake());
            tokio::select! {
                heard = self.listener.next(), if !self.broken => self.hear(heard),
                changed = self.specs.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.dirty = true;
                }
                () = tokio::time::sleep_until(wake) => {}
            }
            self.hear_queued();
        }
    }

    /// Does what is due.
    async fn work(&mut self) {
        let due = if self.stale { self.next_dump } else { self.next_audit };
        if Instant::now() >= due {
            self.refresh().await;
        }
        if self.dirty && Instant::now() >= self.next_view {
            self.show();
        }
        if self.next_order.is_some_and(|due| Instant::now() >= due) {
            self.order().await;
        }
    }

    /// When something is to be done even if nothing happens.
    fn wake(&self) -> Instant {
        let dump = if self.stale { self.next_dump } else { self.next_audit };
        let view = self.dirty.then_some(self.next_view);
        [view, self.next_order].into_iter().flatten().fold(dump, Instant::min)
    }

    fn hear(&mut self, heard: io::Result<Vec<Event>>) {
        match heard {
            Ok(events) => events.into_iter().for_each(|event| self.take(event)),
            Err(error) => {
                warn!(%error, "netlink socket failed; opening another");
                self.stale = true;
                self.broken = true;
                self.next_dump = Instant::now() + REPAIR;
            }
        }
    }

    /// Takes in what has come meanwhile, so that one view covers it all.
    fn hear_queued(&mut self) {
        while !self.broken {
            match self.listener.queued() {
                Ok(None) => break,
                Ok(Some(events)) => self.hear(Ok(events)),
                Err(error) => self.hear(Err(error)),
            }
        }
    }

    fn take(&mut self, event: Event) {
        match (event, &mut self.state) {
            (Event::Message(flags, message), Some(state)) => {
                let effect = state.apply(flags, &message);
                self.dirty |= effect >= Effect::Changed;
                self.stale |= effect == Effect::Stale;
            }
            // Everything is yet to be read.
            (_, None) => {}
            (Event::Lost, Some(_)) => self.stale = true,
        }
    }

    /// Reads everything again.
    async fn refresh(&mut self) {
        let started = Instant::now();
        match self.reread().await {
            Ok(state) => {
                debug!(routes = state.routes.len(), took = ?started.elapsed(), "tables read");
                if self.state.is_none() {
                    self.keeper.adopt(&state);
                }
                self.dirty |= self.state.as_ref() != Some(&state);
                self.state = Some(state);
                self.stale = false;
                self.broken = false;
                self.next_dump = Instant::now() + pause(started);
                self.next_audit = Instant::now() + AUDIT;
            }
            Err(error) => {
                warn!("{error}; trying again");
                self.stale = true;
                self.next_dump = Instant::now() + REPAIR;
            }
        }
    }

    async fn reread(&mut self) -> Result<State, MirrorError> {
        if self.broken {
            self.listener = Listener::open().map_err(MirrorError::Socket)?;
            self.requester = Requester::open().map_err(MirrorError::Socket)?;
        }
        dump(&mut self.requester).await
    }

    /// Computes the view, and publishes it if it differs from the last.
    fn show(&mut self) {
        let started = Instant::now();
        let Some(state) = &self.state else { return };
        let outlook = state.outlook(&self.specs.borrow_and_update());
        self.publish.send_if_modified(|published| {
            let differs = published.as_deref() != Some(&outlook.view);
            if differs {
                *published = Some(Arc::new(outlook.view));
            }
            differs
        });
        self.needed = outlook.keep;
        self.next_order = Some(started);
        self.dirty = false;
        self.next_view = Instant::now() + pause(started);
    }

    /// Has the kernel look after the neighbours that are needed.
    async fn order(&mut self) {
        let Some(state) = &self.state else { return };
        let (orders, again) = self.keeper.plan(&self.needed, state, Instant::now());
        self.next_order = again;
        keep::carry_out(&mut self.requester, &orders).await;
    }
}

/// How long to leave the kernel and the tables in peace after work that began then: long
/// enough that large tables do not take a processor.
fn pause(started: Instant) -> Duration {
    (started.elapsed() * 4).clamp(PAUSE, LONGEST_PAUSE)
}

/// Reads all the kernel's tables that are mirrored.
pub(super) async fn dump(requester: &mut Requester) -> Result<State, MirrorError> {
    let mut state = State::default();
    let routes = |family| {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        RouteNetlinkMessage::GetRoute(message)
    };
    let requests = [
        ("interfaces", RouteNetlinkMessage::GetLink(LinkMessage::default())),
        ("addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default())),
        ("IPv4 routes", routes(AddressFamily::Inet)),
        ("IPv6 routes", routes(AddressFamily::Inet6)),
        ("neighbours", RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default())),
    ];
    for (what, request) in requests {
        let clear = |state: &mut State| match &request {
            RouteNetlinkMessage::GetRoute(message) => {
                let v4 = message.header.address_family == AddressFamily::Inet;
                state.routes.retain(|prefix, _| prefix.address.is_ipv4() != v4);
            }
            RouteNetlinkMessage::GetAddress(_) => state.addresses.clear(),
            RouteNetlinkMessage::GetNeighbour(_) => state.neighbours.clear(),
            _ => state.links.clear(),
        };
        let each = |state: &mut State, message| {
            // Routes come in the order in which the kernel tries them.
            state.apply(rtnetlink::packet_core::NLM_F_APPEND, &message);
        };
        requester
            .dump(&request, &mut state, clear, each)
            .await
            .map_err(|source| MirrorError::Dump { what, source })?;
    }
    Ok(state)
}
