//! What the command line shows, as values.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::process::Gateway;
use crate::error::{LabError, Result};
use crate::layout::plan::Family;
use crate::wait::until;

/// One line of `fernpass session list`, with the stable field names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[expect(missing_docs, reason = "named as in the product's reference")]
pub struct SessionView {
    pub id: String,
    pub tenant: String,
    pub service: String,
    pub backend: String,
    pub client: SocketAddr,
    pub state: String,
    pub rx_packets: u64,
    pub rx_bytes: u64,
    pub tx_packets: u64,
    pub tx_bytes: u64,
    pub moves: u64,
}

impl SessionView {
    /// The number of its concentrator, which the lab names `KIND-N`; 0 if it has another name.
    pub fn concentrator(&self) -> u8 {
        self.backend.rsplit_once('-').and_then(|(_, n)| n.parse().ok()).unwrap_or(0)
    }
}

/// One line of `fernpass backend list`, as far as the lab needs it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct BackendView {
    /// Its name, with or without its pool's.
    pub name: String,
    /// Whether it is up, as the health checks see it.
    pub health: String,
    /// What becomes of new sessions.
    pub state: String,
    /// Open sessions on it.
    pub sessions: u64,
    /// It stays in service although its probes fail.
    pub held: bool,
    /// Why the last probe failed, while it fails.
    pub last_error: Option<String>,
    /// When what is left of its sessions is ended, while it drains (RFC 3339).
    pub drain_deadline: Option<String>,
    /// When it will have none, while it drains (RFC 3339).
    pub drain_empty_at: Option<String>,
    /// How many sessions fewer it has each minute, while it drains.
    pub drain_rate: Option<f64>,
}

impl BackendView {
    /// The health checks say that it is up.
    pub fn is_up(&self) -> bool {
        self.health == "up"
    }
}

/// One line of `fernpass tenant list`, as far as the lab needs it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TenantView {
    /// Its name.
    pub name: String,
    /// Open sessions.
    pub sessions: u64,
    /// Handshakes in progress.
    pub tentative: u64,
    /// Sessions opened so far.
    pub opened: u64,
}

/// Packets by the stable name of the reason they ended for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// The count of a reason; 0 if it never happened.
    pub fn get(&self, reason: &str) -> u64 {
        self.0.get(reason).copied().unwrap_or(0)
    }

    /// Those that are lower than `before`, in a sentence each.
    pub fn lower_than(&self, before: &Self) -> Vec<String> {
        let lower = before.0.iter().filter(|(name, count)| self.get(name) < **count);
        lower.map(|(name, count)| format!("{name}: {count} became {}", self.get(name))).collect()
    }

    /// All reasons that are counted, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, &count)| (name.as_str(), count))
    }

    /// How much was counted since `before`, without what stayed the same.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let grown = |(name, &count): (&String, &u64)| {
            let more = count - before.get(name).min(count);
            (more > 0).then(|| (name.clone(), more))
        };
        Self(self.0.iter().filter_map(grown).collect())
    }
}

impl Gateway {
    /// The sessions, in the order of their ids; handshakes in progress are none.
    pub fn sessions(&self) -> Result<Vec<SessionView>> {
        let mut sessions = self.sessions_and_handshakes()?;
        sessions.retain(|session| session.state != "tentative");
        Ok(sessions)
    }

    /// The sessions, and handshakes in progress, in the order of their ids.
    pub fn sessions_and_handshakes(&self) -> Result<Vec<SessionView>> {
        let mut sessions: Vec<SessionView> = self.list("session", "sessions", &[])?;
        sessions.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(sessions)
    }

    /// The backends.
    pub fn backends(&self) -> Result<Vec<BackendView>> {
        self.list("backend", "backends", &[])
    }

    /// The tenants.
    pub fn tenants(&self) -> Result<Vec<TenantView>> {
        self.list("tenant", "tenants", &[])
    }

    /// A tenant.
    pub fn tenant(&self, name: &str) -> Result<TenantView> {
        let found = self.tenants()?.into_iter().find(|tenant| tenant.name == name);
        found.ok_or_else(|| LabError::Scenario(format!("there is no tenant {name}")))
    }

    /// Waits until probes have found all backends up, so that none of them is missing when clients are placed. Who asks nothing of them waits
    /// in vain.
    pub fn await_backends(&self, deadline: Duration) -> Result<()> {
        until("all backends being up", deadline, || {
            Ok(self.backends()?.iter().all(BackendView::is_up).then_some(()))
        })
    }

    /// When the daemon's log says that an address of a backend went down, since some moment: how long after it. No look from outside
    /// is as exact.
    pub fn went_down(&self, backend: &str, family: Family, since: SystemTime) -> Result<Duration> {
        let log = self.log();
        let backend = format!("{backend} ");
        let family = match family {
            Family::V4 => "family=IPv4",
            Family::V6 => "family=IPv6",
        };
        let words = ["health changed", &backend, family, "now=Down"];
        let lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        let mut times = lines.filter_map(|line| {
            let at = humantime::parse_rfc3339(line.split(' ').next()?).ok()?;
            at.duration_since(since).ok()
        });
        let none = || LabError::Scenario(format!("the log does not say that {backend}went down"));
        times.next().ok_or_else(none)
    }

    /// The session of the client at this address, but for one that has lost it to another.
    pub fn session_of(&self, client: SocketAddr) -> Result<Option<SessionView>> {
        let here = |session: &SessionView| session.client == client && session.state == "open";
        Ok(self.sessions()?.into_iter().find(here))
    }

    /// Waits until the client at this address has a session.
    pub fn await_session(&self, client: SocketAddr, deadline: Duration) -> Result<SessionView> {
        until(&format!("a session of {client}"), deadline, || self.session_of(client))
    }

    /// The same of a tenant's client: what others have, which may be much, is not looked at.
    pub fn await_session_of(
        &self,
        tenant: &str,
        client: SocketAddr,
        deadline: Duration,
    ) -> Result<SessionView> {
        until(&format!("a session of {client}"), deadline, || {
            let all: Vec<SessionView> = self.list("session", "sessions", &["--tenant", tenant])?;
            Ok(all.into_iter().find(|s| s.client == client && s.state == "open"))
        })
    }

    /// All counters.
    pub fn counters(&self) -> Result<Counters> {
        let answer = self.call(&["counters"])?;
        counters(&answer).ok_or_else(|| LabError::Answer {
            command: "counters".to_owned(),
            what: format!("no names with counts in {answer}"),
        })
    }

    /// What kind of end, or an event, each reason is.
    pub fn kinds(&self) -> Result<BTreeMap<String, String>> {
        let answer = self.call(&["counters"])?;
        let rows =
            answer.get("counters").unwrap_or(&answer).as_array().cloned().unwrap_or_default();
        let word = |row: &Value, key: &str| row.get(key)?.as_str().map(str::to_owned);
        Ok(rows.iter().filter_map(|row| Some((word(row, "name")?, word(row, "kind")?))).collect())
    }

    /// What `fernpass OBJECT list` shows, of some if it is told which.
    fn list<T: serde::de::DeserializeOwned>(
        &self,
        object: &str,
        field: &str,
        which: &[&str],
    ) -> Result<Vec<T>> {
        let answer = self.call(&[&[object, "list"], which].concat())?;
        let rows = answer.get(field).unwrap_or(&answer).clone();
        serde_json::from_value(rows).map_err(|e| LabError::Answer {
            command: format!("{object} list"),
            what: format!("{e} in {answer}"),
        })
    }
}

/// A list of objects with a name and a count, or an object of counts.
fn counters(answer: &Value) -> Option<Counters> {
    let rows = answer.get("counters").unwrap_or(answer);
    let counters = match rows {
        Value::Array(rows) => rows
            .iter()
            .map(|row| {
                let name = row.get("name").or_else(|| row.get("reason"))?.as_str()?;
                let count = row.get("packets").or_else(|| row.get("count"))?.as_u64()?;
                Some((name.to_owned(), count))
            })
            .collect::<Option<_>>()?,
        Value::Object(fields) => {
            fields.iter().map(|(k, v)| Some((k.clone(), v.as_u64()?))).collect::<Option<_>>()?
        }
        _ => return None,
    };
    Some(Counters(counters))
}
