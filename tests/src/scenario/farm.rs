//! A lab with a gateway, concentrators behind it and clients in front.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::error::{LabError, Result};
use crate::gateway::{Config, Gateway, SessionView};
use crate::layout::plan::{self, Family};
use crate::layout::{Host, Lab, Options};
use crate::peer::{Implementation, Pool, WgClient};
use crate::scenario::{HANDSHAKE, SOON};
use crate::traffic::Sequence;

/// A tenant with a pool of concentrators of its own.
#[derive(Clone, Copy, Debug)]
pub struct PoolPlan<'a> {
    /// Name of the tenant and the pool.
    pub name: &'a str,
    /// What its concentrators run.
    pub concentrators: &'a [Implementation],
    /// The tenant's quota.
    pub max_sessions: u32,
}

/// What a farm is made of.
#[derive(Clone, Copy, Debug)]
pub struct FarmPlan<'a> {
    /// The tenants.
    pub pools: &'a [PoolPlan<'a>],
    /// Lets the farm outlive this process.
    pub keep: bool,
    /// All behind one interface of the gateway.
    pub one_armed: bool,
    /// Backends are probed.
    pub probes: bool,
    /// The VLAN that all is in between the gateway and the concentrators.
    pub tag: Option<u16>,
}

impl<'a> FarmPlan<'a> {
    /// Two-armed, probed, gone with this process.
    pub fn new(pools: &'a [PoolPlan<'a>]) -> Self {
        Self { pools, keep: false, one_armed: false, probes: true, tag: None }
    }
}

/// A client and the machine it runs on.
#[derive(Debug)]
pub struct Member {
    name: String,
    host: Arc<Host>,
    client: WgClient,
    pool: usize,
    family: Family,
}

impl Member {
    /// `client-N`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its machine, which others may share.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Its WireGuard.
    pub fn client(&self) -> &WgClient {
        &self.client
    }

    /// Its WireGuard, to make it do something.
    pub fn client_mut(&mut self) -> &mut WgClient {
        &mut self.client
    }

    /// What it dials the gateway with.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The pool it dials, as an index into [`Farm::pools`].
    pub fn pool(&self) -> usize {
        self.pool
    }

    /// Where the gateway sees it.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.client.port())
    }

    fn ip(&self) -> IpAddr {
        self.host.address(self.family)
    }

    /// Changes its address and its port in the middle of whatever it does.
    pub fn roam(&mut self) -> Result<()> {
        self.client.roam(&self.host)
    }

    /// Sends from another port.
    pub fn set_port(&mut self, port: u16) -> Result<()> {
        self.client.set_port(port)
    }
}

/// Everything a scenario needs. Dropping it takes the lab down, unless it is kept.
#[derive(Debug)]
pub struct Farm {
    members: Vec<Member>,
    pools: Vec<Pool>,
    gateway: Gateway,
    config: Config,
    lab: Lab,
}

impl Farm {
    /// Lays out a lab, starts the concentrators and the gateway.
    pub fn start(plan: &FarmPlan<'_>) -> Result<Self> {
        let lab = Lab::new(Options { keep: plan.keep })?;
        if plan.one_armed {
            lab.make_one_armed()?;
        }
        if let Some(id) = plan.tag {
            lab.tag_inside(id)?;
        }
        let pools = plan
            .pools
            .iter()
            .map(|pool| lab.pool(pool.name, pool.concentrators))
            .collect::<Result<Vec<_>>>()?;
        let mut config = Config::new(&lab);
        for (pool, planned) in pools.iter().zip(plan.pools) {
            config = config.with_tenant(pool, planned.max_sessions);
        }
        if !plan.probes {
            config = config.without_probes();
        }
        if plan.one_armed {
            config.gateway.interfaces = vec!["lan0".to_owned()];
        }
        let gateway = Gateway::start(&lab, &config)?;
        let farm = Self { members: Vec::new(), pools, gateway, config, lab };
        if plan.probes {
            farm.gateway.await_backends(SOON)?;
        }
        Ok(farm)
    }

    /// Starts a client on a machine of its own.
    pub fn join(
        &mut self,
        pool: usize,
        implementation: Implementation,
        family: Family,
    ) -> Result<usize> {
        let host = Arc::new(self.lab.host()?);
        self.join_on(host, pool, implementation, family, 0)
    }

    /// Starts a client on a given machine, with a persistent keepalive in
    /// seconds (0 is none). Its index.
    pub fn join_on(
        &mut self,
        host: Arc<Host>,
        pool: usize,
        implementation: Implementation,
        family: Family,
        keepalive: u16,
    ) -> Result<usize> {
        let number = self.pools[pool].number();
        let client = WgClient::dial(
            &self.lab,
            &host,
            &mut self.pools[pool],
            implementation,
            plan::listener(number, family),
            keepalive,
        )?;
        let index = self.members.len();
        let name = format!("client-{}", index + 1);
        self.members.push(Member { name, host, client, pool, family });
        Ok(index)
    }

    /// Starts two clients of one pool that are on different concentrators, on
    /// machines of their own, or the second on the machine of the first. Which they are on.
    pub fn join_apart(
        &mut self,
        pool: usize,
        implementation: Implementation,
        same_host: bool,
    ) -> Result<[(usize, u8); 2]> {
        let first = self.join(pool, implementation, Family::V4)?;
        let one = self.reach(first)?;
        // The hint would put a second client behind the same address on the same concentrator.
        let backend = self.backend_name(one);
        self.gateway.act(&["backend", "drain", &backend])?;
        let host =
            if same_host { self.members[first].host.clone() } else { Arc::new(self.lab.host()?) };
        let second = self.join_on(host, pool, implementation, Family::V4, 0)?;
        let other = self.reach(second)?;
        self.gateway.act(&["backend", "undrain", &backend])?;
        if one == other {
            return Err(LabError::Scenario(format!(
                "{backend} was draining, and still got a new session"
            )));
        }
        Ok([(first, one), (second, other)])
    }

    /// Makes a client say something: who answered it.
    pub fn reach(&self, member: usize) -> Result<u8> {
        self.members[member].client.reach(HANDSHAKE)
    }

    /// A client's session, as soon as there is one.
    pub fn session(&self, member: usize) -> Result<SessionView> {
        self.gateway.await_session(self.members[member].address(), SOON)
    }

    /// The session with this id, if it still exists.
    pub fn session_by_id(&self, id: &str) -> Result<Option<SessionView>> {
        Ok(self.gateway.sessions()?.into_iter().find(|session| session.id == id))
    }

    /// Starts requests into a client's tunnel, so many a second.
    pub fn traffic(&self, member: usize, rate: u32) -> Result<Sequence> {
        Sequence::start(&self.members[member].client.target(), rate, 64)
    }

    /// What the gateway calls a concentrator.
    pub fn backend_name(&self, concentrator: u8) -> String {
        format!("wg-{concentrator}")
    }

    /// The clients, in the order in which they came.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// A client.
    pub fn member(&mut self, index: usize) -> &mut Member {
        &mut self.members[index]
    }

    /// Indexes of the clients of a pool.
    pub fn members_of(&self, pool: usize) -> Vec<usize> {
        (0..self.members.len()).filter(|&m| self.members[m].pool == pool).collect()
    }

    /// The pools, in the order of the plan.
    pub fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// A pool.
    pub fn pool(&mut self, index: usize) -> &mut Pool {
        &mut self.pools[index]
    }

    /// The gateway.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The gateway, and a client that is to do something.
    pub fn gateway_and_member(&mut self, index: usize) -> (&Gateway, &mut Member) {
        (&self.gateway, &mut self.members[index])
    }

    /// The gateway, to kill or to start it.
    pub fn gateway_mut(&mut self) -> &mut Gateway {
        &mut self.gateway
    }

    /// The configuration the gateway was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }
}
