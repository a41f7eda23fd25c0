//! A daemon's knowledge and its tables, in memory.

use std::collections::BTreeSet;

use dataplane::abi::{AddressKey, Directory};

use crate::config::Config;
use crate::model::{
    HealthView, Inputs, Load, ModelError, Overrides, RouteView, Step, Wanted, apply, compute, diff,
};

/// All that [`compute`] depends on.
#[derive(Debug)]
pub(super) struct World {
    pub(super) config: Config,
    pub(super) overrides: Overrides,
    pub(super) health: HealthView,
    pub(super) load: Load,
    pub(super) routes: RouteView,
    pub(super) released: BTreeSet<u32>,
    /// What the tables hold.
    pub(super) tables: Wanted,
}

impl World {
    /// Empty tables, and a configuration.
    pub(super) fn new(text: &str) -> Self {
        Self {
            config: Config::parse(text, "test").unwrap(),
            overrides: Overrides::default(),
            health: HealthView::new(),
            load: Load::default(),
            routes: RouteView::default(),
            released: BTreeSet::new(),
            tables: Wanted::default(),
        }
    }

    /// What the tables should hold.
    pub(super) fn wanted(&self) -> Result<Wanted, ModelError> {
        compute(&Inputs {
            config: &self.config,
            overrides: &self.overrides,
            health: &self.health,
            load: &self.load,
            routes: &self.routes,
            current: &self.tables,
            released: &self.released,
        })
    }

    /// The next steps.
    pub(super) fn steps(&self) -> Vec<Step> {
        diff(&self.tables, &self.wanted().unwrap())
    }

    /// Brings the tables to what they should hold.
    pub(super) fn settle(&mut self) {
        // The tables are their own writer's.
        let (steps, mut written) = (self.steps(), self.tables.clone());
        apply(&mut self.tables, &steps, &mut written).unwrap();
    }

    /// The directory's entry for `address:port/udp`.
    pub(super) fn entry(&self, at: &str) -> Option<Directory> {
        let at: std::net::SocketAddr = at.parse().unwrap();
        let key =
            AddressKey { address: at.ip().into(), port: at.port().to_be(), protocol: 17, zero: 0 };
        self.tables.directory.get(&key).copied()
    }
}
