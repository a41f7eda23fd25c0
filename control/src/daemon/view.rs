//! What the daemon shows: the values behind every `list` and `show`, as the API and
//! `--json` print them. Field names are stable.
//!
//! Times are RFC 3339 in UTC; durations are seconds.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::Status as HealthStatus;

/// `fernpass status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Version of the tables' layout.
    pub abi: u32,
    /// The daemon's process.
    pub pid: u32,
    /// Since when the daemon runs.
    pub started: String,
    /// For how many seconds the daemon has run.
    pub uptime: f64,
    /// Whether the daemon adopted tables that were there when it started.
    pub adopted: bool,
    /// The configuration file.
    pub config: String,
    /// The interfaces.
    pub interfaces: Vec<Interface>,
    /// Open sessions.
    pub sessions: u64,
    /// Tentative sessions: handshakes in progress.
    pub tentative: u64,
    /// Sessions the table takes.
    pub max_sessions: u64,
    /// Packets a second that came in on the interfaces, lately.
    pub rx_pps: f64,
    /// Packets a second that were dropped or refused, lately.
    pub drop_pps: f64,
    /// Packets received since the tables were made.
    pub received: u64,
    /// Of these, forwarded by XDP.
    pub forwarded: u64,
    /// Of these, left to the kernel's stack.
    pub passed: u64,
    /// Of these, dropped or refused.
    pub dropped: u64,
    /// Of these, for the gateway itself: agents' reports.
    pub taken: u64,
    /// What an operator should look at.
    pub warnings: Vec<String>,
}

/// An interface the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// `native` or `generic`.
    pub mode: String,
}

/// A line of `fernpass session list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Its identity: 16 hexadecimal digits. It outlives moves.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// What the client dialled.
    pub service: String,
    /// What the gateway knows of its protocol.
    pub profile: String,
    /// The backend's pool.
    pub pool: String,
    /// The backend.
    pub backend: String,
    /// The client's present address and port.
    #[schema(value_type = String)]
    pub client: SocketAddr,
    /// `open`, or `tentative`: a handshake that was not yet completed.
    pub state: SessionState,
    /// When it was opened.
    pub opened: String,
    /// When the last packet came, of either direction.
    pub last_seen: String,
    /// How long no packet has come, in seconds.
    pub idle: f64,
    /// Packets from the client.
    pub rx_packets: u64,
    /// Bytes from the client.
    pub rx_bytes: u64,
    /// Packets to the client.
    pub tx_packets: u64,
    /// Bytes to the client.
    pub tx_bytes: u64,
    /// How often the client changed its address or port.
    pub moves: u64,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// A handshake that was not yet completed: not counted in the quota.
    Tentative,
    /// Open.
    Open,
    /// Open, but its address and port are another session's now: known by its ids only.
    Aside,
}

/// Which sessions to list; all that are given must hold.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, utoipa::IntoParams,
)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionFilter {
    /// Of this tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Of this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// On this backend: its name, or `pool/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Of the client at this address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub client: Option<IpAddr>,
    /// At most so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A line of `fernpass tenant list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Open sessions.
    pub sessions: u64,
    /// Its quota.
    pub max_sessions: u64,
    /// Sessions that it can have whatever others have.
    #[serde(default)]
    pub guaranteed_sessions: u64,
    /// Tentative sessions.
    pub tentative: u64,
    /// Most tentative sessions.
    pub max_tentative: u64,
    /// Sessions opened since the tables were made.
    pub opened: u64,
    /// Packets refused because the quota was used up, or sessions came too fast.
    pub refused: u64,
    /// Packets refused by its rates.
    #[serde(default)]
    pub limited: Limited,
    /// Packets from its clients, ended sessions included.
    pub rx_packets: u64,
    /// Bytes from its clients.
    pub rx_bytes: u64,
    /// Packets to its clients.
    pub tx_packets: u64,
    /// Bytes to its clients.
    pub tx_bytes: u64,
}

/// Packets of a tenant that were refused, by the rate that they exceeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Limited {
    /// Handshakes that its clients began.
    pub handshakes: u64,
    /// Answers that would have opened a session.
    pub new_sessions: u64,
    /// By packets from its clients.
    pub packets_in: u64,
    /// By bits from its clients.
    pub bits_in: u64,
    /// By packets to its clients.
    pub packets_out: u64,
    /// By bits to its clients.
    pub bits_out: u64,
}

impl Limited {
    /// With the names of the configuration.
    pub fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("handshakes", self.handshakes),
            ("new_sessions", self.new_sessions),
            ("packets_in", self.packets_in),
            ("bits_in", self.bits_in),
            ("packets_out", self.packets_out),
            ("bits_out", self.bits_out),
        ]
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.named().iter().map(|(_, packets)| packets).sum()
    }
}

/// A line of `fernpass service list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// What the gateway knows of its protocol.
    pub profile: String,
    /// Its addresses: `address:port/protocol`.
    pub listen: Vec<String>,
    /// Where its sessions go.
    pub pool: String,
    /// Open sessions.
    pub sessions: u64,
    /// Tentative sessions.
    pub tentative: u64,
}

/// A line of `fernpass pool list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// How packets reach its backends.
    pub mode: String,
    /// Its services.
    pub services: Vec<String>,
    /// How many backends it has.
    pub backends: u64,
    /// How many of them get new sessions.
    pub accepting: u64,
    /// Open sessions.
    pub sessions: u64,
    /// Seconds of silence after which a session ends.
    pub idle_timeout: u64,
}

/// A line of `fernpass backend list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Backend {
    /// Its name in the pool.
    pub name: String,
    /// Its pool.
    pub pool: String,
    /// Its address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The address that serves IPv6 clients, where `address` is IPv4.
    #[schema(value_type = Option<String>)]
    pub address6: Option<IpAddr>,
    /// What becomes of new sessions.
    pub state: BackendState,
    /// Whether it answers the probes: `up`, `down`, or `unknown`, which counts as up. It is down
    /// if none of its addresses answers.
    #[schema(value_type = String)]
    pub health: HealthStatus,
    /// Likewise, at its IPv4 address, if it has one.
    #[schema(value_type = Option<String>)]
    pub health4: Option<HealthStatus>,
    /// Likewise, at its IPv6 address, if it has one.
    #[schema(value_type = Option<String>)]
    pub health6: Option<HealthStatus>,
    /// Whether an operator keeps new sessions away, whatever else it is.
    pub drained: bool,
    /// Whether it does not answer its sessions any more, whatever else it is.
    pub silent: bool,
    /// Whether it stays in service although its probes fail, because too many of its pool do at once.
    pub held: bool,
    /// Why the last probe failed, while it fails.
    pub last_error: Option<String>,
    /// Its share of new sessions, relative to the pool's others.
    pub weight: u32,
    /// The configured weight, where an operator said otherwise.
    pub configured_weight: u32,
    /// Open sessions.
    pub sessions: u64,
    /// Sessions from which on it gets no new ones.
    pub max_sessions: Option<u64>,
    /// When what is left of a drained backend's sessions is ended.
    pub drain_deadline: Option<String>,
    /// How many sessions fewer a drained backend has each minute, by the last ten.
    pub drain_rate: Option<f64>,
    /// When none of them will be left: at this rate, and at the latest a deadline and its spread; absent where they do not become fewer and there is no deadline.
    pub drain_empty_at: Option<String>,
}

/// What becomes of new sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackendState {
    /// It gets its share.
    Active,
    /// An operator keeps new ones away; those it has stay.
    Draining,
    /// It has as many as it may have.
    Full,
    /// It does not answer the sessions that it has, as it used to: it gets no new ones.
    Silent,
    /// Its probes fail, and those of too many others of its pool: it stays in service.
    Held,
    /// It does not answer at one of its two addresses: it gets its share of the other
    /// family's sessions.
    Impaired,
    /// It does not answer; its sessions were ended.
    Down,
}

/// A line of `fernpass route list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    /// The destination.
    pub prefix: String,
    /// The neighbour it goes to.
    pub via: String,
    /// The interface.
    pub interface: String,
    /// Whether XDP sends it, or the kernel's stack.
    pub resolved: bool,
}

/// A line of `fernpass nexthop list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NextHop {
    /// The neighbour.
    #[schema(value_type = String)]
    pub neighbour: IpAddr,
    /// The interface that has the route.
    pub interface: String,
    /// Its MAC address, if it is known.
    pub mac: Option<String>,
    /// The VLAN it is sent with.
    pub vlan: Option<u16>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Whether XDP can send to it; otherwise the kernel's stack does.
    pub resolved: bool,
    /// Backends that are reached by it.
    pub backends: u64,
}

/// A line of `fernpass counters`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counter {
    /// The reason's stable name.
    pub name: String,
    /// `forwarded`, `passed`, `dropped`, `taken` (by the gateway itself), or `event`: counted beside a packet's end.
    pub kind: String,
    /// How often, since the tables were made.
    pub packets: u64,
    /// What it means.
    pub description: String,
}

/// What a change of the configuration changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// One line for each difference between the old configuration and the new.
    pub changes: Vec<String>,
    /// How many table entries were written.
    pub writes: u64,
    /// What the new configuration has that is odd, or takes effect only after a restart.
    pub warnings: Vec<String>,
    /// When it is taken back, unless it is confirmed before.
    pub confirm_by: Option<String>,
}

/// What a reload would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// One line for each difference between the configuration in force and the file.
    pub changes: Vec<String>,
    /// What of it cannot change while the daemon runs: a reload would be refused.
    pub restart: Vec<String>,
    /// That the tables would grow, and what that takes; none if they have room.
    pub growth: Option<String>,
    /// How many table entries would be written.
    pub writes: u64,
}

/// Whether the tables hold what was written to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verified {
    /// Those that did not.
    pub drift: Vec<Drift>,
    /// How many table entries were written to mend it.
    pub writes: u64,
}

/// How one table differed from what was written to it, in entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drift {
    /// The map's name; `interfaces` for interfaces that did not run the program.
    pub table: String,
    /// Entries that were gone.
    pub missing: u64,
    /// Entries that nobody wrote.
    pub foreign: u64,
    /// Entries with another value.
    pub different: u64,
    /// What they are, each with which of the three: the first hundred.
    pub entries: Vec<String>,
}

/// What was done to one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// For people.
    pub message: String,
}
