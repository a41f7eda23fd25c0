//! Backends that answer their clients by themselves, with agents that tell the gateway: sessions are what they are where
//! the gateway sees the answers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use lab::gateway::{Agent, Config, Gateway};
use lab::layout::plan::{self, Family};
use lab::peer::Implementation::{Boringtun, WireguardGo};
use lab::peer::{Implementation, Pool, TcpLoad, TcpPool, TunnelEnd, WgClient};
use lab::traffic::Sequence;
use lab::wait::until;
use lab::{Lab, Options, gate};

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// The ways to a backend, with concentrators that answer from the VIP there; see `direct`.
const WAYS: [(Option<&str>, Implementation); 3] =
    [(None, WireguardGo), (Some("ipip"), Boringtun), (Some("gue"), Boringtun)];

/// WireGuard concentrators that answer by themselves, and their agents.
struct Farm {
    gateway: Gateway,
    agents: Vec<Agent>,
    _ends: Vec<TunnelEnd>,
    pool: Pool,
    lab: Lab,
}

impl Farm {
    fn start(way: Option<&'static str>, concentrators: Implementation, quota: u32) -> Self {
        let lab = Lab::new(Options::default()).unwrap();
        let pool = lab.pool("justiz", &[concentrators; 2]).unwrap();
        lab.let_answer(pool.site()).unwrap();
        let stations = pool.site().stations();
        let _ends = stations.iter().map(|station| TunnelEnd::start(station).unwrap()).collect();
        let config =
            Config::new(&lab).with_tenant(&pool, quota).answered_directly(way).with_agents();
        let gateway = Gateway::start(&lab, &config).unwrap();
        gateway.await_backends(SOON).unwrap();
        let agent = |station| Agent::start(&lab, &gateway, station).unwrap();
        let agents = stations.iter().map(agent).collect();
        Self { gateway, agents, _ends, pool, lab }
    }

    /// A client, with the machine that it is on.
    fn client(&mut self, family: Family) -> (WgClient, std::sync::Arc<lab::layout::Host>) {
        let host = std::sync::Arc::new(self.lab.host().unwrap());
        let listener = plan::listener(self.pool.number(), family);
        let client =
            WgClient::dial(&self.lab, &host, &mut self.pool, WireguardGo, listener, 0).unwrap();
        (client, host)
    }
}

#[test]
fn sessions_open_and_follow_their_clients_where_agents_tell_of_the_answers() {
    let _place = gate::enter().unwrap();
    for (way, concentrators) in WAYS {
        let mut farm = Farm::start(way, concentrators, 100);
        for family in [Family::V4, Family::V6] {
            let (mut client, host) = farm.client(family);
            let on = client.reach(SOON).unwrap();
            let at = |client: &WgClient| SocketAddr::new(host.address(family), client.port());
            let session = farm.gateway.await_session(at(&client), SOON).unwrap();
            assert_eq!((session.state.as_str(), session.concentrator()), ("open", on));
            let traffic = Sequence::start(&client.target(), 20, 64).unwrap();
            traffic.wait_for(20, SOON).unwrap();
            for moves in 1..=3 {
                traffic.between(|| client.roam(&host)).unwrap();
                traffic.wait_for(40, SOON).unwrap();
                let moved = farm.gateway.await_session(at(&client), SOON).unwrap();
                assert_eq!((&moved.id, moved.moves), (&session.id, moves), "{way:?} {family:?}");
                assert_eq!(moved.concentrator(), on);
            }
            let tally = traffic.stop();
            println!("{way:?} {family:?}: {} of {} lost in three moves", tally.lost, tally.sent);
            assert!(tally.lost <= 5 && tally.answered_by.len() == 1, "{tally:?}");
        }
        let counters = farm.gateway.counters().unwrap();
        assert!(counters.get("reported") > 0 && counters.get("in_by_id") > 0, "{counters:?}");
        for none in ["out_established", "in_direct", "report_malformed", "stack_inbound"] {
            assert_eq!(counters.get(none), 0, "{none}: {counters:?}");
        }
    }
}

/// What the agent counts is what the gateway lists, and quotas hold.
#[test]
fn sessions_are_counted_and_limited_where_agents_tell_of_the_answers() {
    let _place = gate::enter().unwrap();
    let mut farm = Farm::start(Some("gue"), Boringtun, 1);
    let (client, host) = farm.client(Family::V4);
    client.reach(SOON).unwrap();
    let at = SocketAddr::new(host.address(Family::V4), client.port());
    farm.gateway.await_session(at, SOON).unwrap();
    let traffic = Sequence::start(&client.target(), 200, 1000).unwrap();
    traffic.wait_for(1000, SOON).unwrap();
    let tally = traffic.stop();
    // What was counted since the last report comes with the next one, ten seconds later at most.
    until("the answers being counted", SOON, || {
        let _ = client.reach(Duration::from_secs(1));
        let session = farm.gateway.session_of(at)?;
        Ok(session.filter(|s| s.tx_packets + 1 >= tally.sent - tally.lost).map(|_| ()))
    })
    .unwrap();
    let session = farm.gateway.session_of(at).unwrap().unwrap();
    assert!(session.tx_bytes > 1000 * session.tx_packets * 9 / 10, "{session:?}");
    // The tenant has one session, and that is taken.
    let (other, _host) = farm.client(Family::V4);
    assert!(other.reach(Duration::from_secs(4)).is_err());
    assert!(farm.gateway.counters().unwrap().get("tenant_quota") > 0);
    assert_eq!(farm.gateway.sessions().unwrap().len(), 1);
}

/// A gateway that lost a session learns of it again from agents that were away meanwhile; none of it costs a packet.
#[test]
fn who_comes_back_learns_the_sessions_again() {
    let _place = gate::enter().unwrap();
    let mut farm = Farm::start(None, WireguardGo, 100);
    let (client, host) = farm.client(Family::V4);
    client.reach(SOON).unwrap();
    let at = SocketAddr::new(host.address(Family::V4), client.port());
    let traffic = Sequence::start(&client.target(), 50, 64).unwrap();
    let session = farm.gateway.await_session(at, SOON).unwrap();
    for agent in &mut farm.agents {
        agent.kill();
    }
    // The session lives on by what its client sends.
    traffic.wait_for(100, SOON).unwrap();
    assert_eq!(farm.gateway.await_session(at, SOON).unwrap().id, session.id);
    let stations = farm.pool.site().stations();
    let again = |station| Agent::start(&farm.lab, &farm.gateway, station).unwrap();
    farm.agents = stations.iter().map(again).collect();
    farm.gateway.act(&["session", "kill", &session.id]).unwrap();
    let learned = farm.gateway.await_session(at, SOON).unwrap();
    assert_ne!(learned.id, session.id);
    traffic.wait_for(100, SOON).unwrap();
    let tally = traffic.stop();
    assert_eq!((tally.lost, tally.answered_by.len()), (0, 1), "{tally:?}");
}

#[test]
fn tcp_connections_are_sessions_and_end_where_agents_tell_of_the_answers() {
    const STANDING: TcpLoad = TcpLoad {
        connections: 50,
        concurrent: 50,
        requests: 20,
        bytes: 3000,
        pause: Duration::from_millis(200),
    };
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = TcpPool::start(&lab, "justiz", 2).unwrap();
    lab.let_answer(pool.site()).unwrap();
    let stations = pool.site().stations();
    let _ends: Vec<_> = stations.iter().map(|station| TunnelEnd::start(station).unwrap()).collect();
    let config = Config::new(&lab)
        .with_site(pool.site(), 1000)
        .answered_directly(Some("ipip"))
        .with_agents();
    let gateway = Gateway::start(&lab, &config).unwrap();
    let _agents: Vec<_> =
        stations.iter().map(|station| Agent::start(&lab, &gateway, station).unwrap()).collect();
    for family in [Family::V4, Family::V6] {
        let host = lab.host().unwrap();
        let load = STANDING.start(host.ns(), pool.site().vip(family)).unwrap();
        let own = || -> lab::Result<Vec<lab::gateway::SessionView>> {
            let mut all = gateway.sessions()?;
            all.retain(|s| s.client.ip() == host.address(family) && s.state == "open");
            Ok(all)
        };
        until("fifty sessions", SOON, || Ok((own()?.len() == 50).then_some(()))).unwrap();
        let backends: BTreeSet<_> = own().unwrap().into_iter().map(|s| s.backend).collect();
        assert_eq!(backends.len(), 1, "{backends:?}");
        let tally = load.finish().unwrap();
        assert_eq!((tally.completed, tally.broken()), (50, 0), "{tally:?}");
    }
    // Half a minute after the servers closed them.
    until("their end", 2 * SOON, || Ok(gateway.sessions()?.is_empty().then_some(()))).unwrap();
}
