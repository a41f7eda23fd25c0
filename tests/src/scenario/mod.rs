//! What Fernpass claims, one function for each claim: it plays the scenario on a
//! [`Farm`], measures, and returns what it found. The tests and the demo use the
//! same functions, so what the demo shows is what the tests hold.

mod account;
mod chaos;
mod crowded;
mod death;
mod drain;
mod farm;
mod flood;
mod growth;
mod idle;
mod impaired;
mod impostor;
mod migrate;
mod mutated;
mod obstructed;
mod open;
mod outage;
mod overload;
mod own_traffic;
mod paths;
mod quota;
mod readers;
mod rebuild;
mod restart;
mod reuse;
mod roam;
mod shared;
mod stampede;
mod upgrade;

pub use chaos::{Chaos, ChaosPlan, chaos};
pub use death::{Death, death};
pub use drain::{Drain, Ending, drain, drain_to_the_end};
pub use farm::{Farm, FarmPlan, Member, PoolPlan};
pub use flood::{Flooded, flood, fragment_flood};
pub use growth::{Growth, GrowthPlan, growth};
pub use idle::{Idle, IdleClient, idle_clients};
pub use impaired::{Impaired, impaired};
pub use impostor::{Impostor, impostor};
pub use migrate::{Migration, migrate};
pub use mutated::{Mutated, MutatedPlan, mutated};
pub use obstructed::{Obstructed, obstructed};
pub use open::{Opened, sessions_open};
pub use outage::{Outage, unresolved};
pub use overload::{Dimension, Overload, overload};
pub use own_traffic::{OwnTraffic, own_traffic};
pub use paths::{PathChange, link_down, neighbour_change, route_change};
pub use quota::{Quota, quota};
pub use readers::{Readers, ReadersPlan, readers};
pub use rebuild::{Rebuild, rebuild};
pub use restart::{Restart, restart};
pub use reuse::{Reuse, address_reused};
pub use roam::{Roam, roam, roam_client};
pub use shared::{Shared, two_behind_one_address};
pub use stampede::{Stampede, StampedePlan, stampede};
pub use upgrade::{Upgrade, UpgradePlan, upgrade};

use std::time::Duration;

use serde::Serialize;

/// How long a handshake may take on a busy machine: one lost initiation costs
/// five seconds, and two may be lost.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(20);
/// How long anything may take that needs a few packets only.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// What a scenario measured, and whether it is what was claimed.
pub trait Claim: Serialize {
    /// What is not as claimed, each in a sentence; nothing when the claim holds.
    fn failures(&self) -> Vec<String>;

    /// The figures that matter, in one line for people.
    fn summary(&self) -> String;
}

/// Collects what is not as claimed.
#[derive(Debug, Default)]
struct Check(Vec<String>);

impl Check {
    /// Notes `otherwise` unless it holds.
    fn that(mut self, holds: bool, otherwise: impl FnOnce() -> String) -> Self {
        if !holds {
            self.0.push(otherwise());
        }
        self
    }

    fn failures(self) -> Vec<String> {
        self.0
    }
}

/// A duration as the whole milliseconds that are reported.
fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
