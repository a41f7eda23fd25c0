//! What the gateway counted between two moments, and what it may have: nothing is forgotten, and nothing is counted twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::error::Result;
use crate::gateway::{Counters, Gateway, SessionView};
use crate::traffic::{Crowd, REQUEST, Sequence, Tally};

/// Where packets come in.
const INTERFACES: [&str; 3] = ["wan0", "wan1", "lan0"];
/// What a tunnel says beside what it carries: handshakes and keepalives.
const OWN: u64 = 10;
/// Headers of UDP and IP, which count.
const HEADERS: [u64; 2] = [8 + 20, 8 + 40];
/// Packets that a driver takes in one go, before it counts what it got.
const BATCH: u64 = 64;

/// All that was counted at one moment.
#[derive(Debug)]
pub(super) struct Look {
    /// The sessions.
    pub(super) sessions: Vec<SessionView>,
    counters: Counters,
    /// Names of counters that no packet ends for.
    events: Vec<String>,
    /// Sessions that tenants have opened.
    opened: BTreeMap<String, u64>,
    /// What had really been sent before it was looked, and afterwards: what was counted is in between.
    really: [Really; 2],
}

/// A client with a tunnel, by where the gateway sees it, and what it sends into the tunnel, if anything.
pub(super) type Tunnel<'a> = (SocketAddr, Option<&'a Sequence>);

/// What was really sent and received so far.
#[derive(Debug)]
struct Really {
    flows: BTreeMap<SocketAddr, Flow>,
    /// Packets that came in at the gateway.
    came: u64,
}

/// The traffic of one client.
#[derive(Clone, Copy, Debug)]
struct Flow {
    sent: u64,
    answered: u64,
    is_tunnel: bool,
}

impl Really {
    fn read(gateway: &Gateway, crowd: &Crowd, tunnels: &[Tunnel<'_>]) -> Result<Self> {
        let came = INTERFACES.iter().map(|i| gateway.ns().interface_counter(i, "rx_packets"));
        let came = came.sum::<Result<u64>>()?;
        let of_crowd = crowd.each()?.into_iter().map(|(client, tally)| (client, tally, false));
        let so_far = |(client, sequence): &Tunnel<'_>| {
            (*client, sequence.map(Sequence::so_far).unwrap_or_default(), true)
        };
        let tunnels = tunnels.iter().map(so_far);
        let flow = |(client, tally, is_tunnel): (SocketAddr, Tally, bool)| {
            (client, Flow { sent: tally.sent, answered: tally.received, is_tunnel })
        };
        Ok(Self { flows: of_crowd.chain(tunnels).map(flow).collect(), came })
    }
}

impl Look {
    /// Looks, while a crowd sends, and clients in their tunnels. Who else has a session is silent.
    pub(super) fn take(gateway: &Gateway, crowd: &Crowd, tunnels: &[Tunnel<'_>]) -> Result<Self> {
        let really = || Really::read(gateway, crowd, tunnels);
        let kinds = gateway.kinds()?.into_iter();
        let events = kinds.filter_map(|(name, kind)| (kind == "event").then_some(name)).collect();
        let before = really()?;
        let (sessions, counters) = (gateway.sessions()?, gateway.counters()?);
        let tenants = gateway.tenants()?.into_iter();
        let opened = tenants.map(|tenant| (tenant.name, tenant.opened)).collect();
        Ok(Self { sessions, counters, events, opened, really: [before, really()?] })
    }

    /// What was counted since an earlier look, and was not so; or the other way round. A sentence each. Where `may_miss`, what was not
    /// counted is not wrong: who takes over from one that was killed in the middle of it does not know what that one had carried.
    pub(super) fn wrong_since(&self, old: &Self, may_miss: bool) -> Vec<String> {
        let mut wrong = self.counters.lower_than(&old.counters);
        let before: BTreeMap<_, _> = old.sessions.iter().map(|s| (&s.id, s)).collect();
        let of_sessions: Vec<_> = self
            .sessions
            .iter()
            .filter_map(|new| self.wrong_session(new, before.get(&new.id)?, old, may_miss))
            .collect();
        // They are alike if they are many.
        if let Some(first) = of_sessions.first() {
            wrong.push(format!("of {} sessions, the first: {first}", of_sessions.len()));
        }
        if self.opened != old.opened {
            wrong.push(format!("tenants opened {:?}, then {:?}", old.opened, self.opened));
        }
        let ends = |look: &Self| -> u64 {
            let ends = look.counters.iter().filter(|(name, _)| !look.is_event(name));
            ends.map(|(_, count)| count).sum()
        };
        let ended = ends(self).saturating_sub(ends(old));
        let least = self.really[0].came.saturating_sub(old.really[1].came + BATCH);
        let least = if may_miss { 0 } else { least };
        let most = self.really[1].came - old.really[0].came + BATCH;
        if !(least..=most).contains(&ended) {
            wrong.push(format!("{ended} packets ended, of {least} to {most} that came in"));
        }
        wrong
    }

    fn is_event(&self, name: &str) -> bool {
        self.events.iter().any(|event| event == name)
    }

    /// What a session has had more than before, if it is not what its client sent and got.
    fn wrong_session(
        &self,
        new: &SessionView,
        before: &SessionView,
        old: &Self,
        may_miss: bool,
    ) -> Option<String> {
        let had = |s: &SessionView| [s.rx_packets, s.tx_packets, s.rx_bytes, s.tx_bytes];
        let more: Vec<_> =
            had(before).into_iter().zip(had(new)).map(|(old, new)| new.checked_sub(old)).collect();
        let at = |look: &Self, n: usize| look.really[n].flows.get(&new.client).copied();
        let flows = [at(old, 0), at(old, 1), at(self, 0), at(self, 1)];
        let [Some(first), Some(second), Some(third), Some(last)] = flows else {
            // It sent nothing in between.
            let has_more = more.iter().any(|more| *more != Some(0));
            return has_more.then(|| format!("{before:?} became {new:?}, and was silent"));
        };
        let own = if last.is_tunnel { OWN } else { 0 };
        let least = if may_miss { 0 } else { third.answered.saturating_sub(second.sent) };
        let most = last.sent - first.answered + own;
        let bytes = REQUEST as u64 + HEADERS[usize::from(new.client.is_ipv6())];
        let units = if last.is_tunnel { &[1, 1][..] } else { &[1, 1, bytes, bytes] };
        let is_right = |(more, unit): (&Option<u64>, &u64)| {
            more.is_some_and(|more| (least * unit..=most * unit).contains(&more))
        };
        let all_right = more.iter().zip(units).all(is_right);
        (!all_right).then(|| format!("{before:?} became {new:?} for {least} to {most} packets"))
    }
}
