//! What the daemon costs: its parts, called as it calls them, and the daemon itself, started upon
//! a full session table.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::bail;
use control::clock::Clock;
use control::model::maglev::{self, Candidate};
use control::sessions::{Fate, Keeper, Policy, Reader};

use crate::daemon::Daemon;
use crate::farm;
use crate::gateway::{BACKENDS, Gateway, WIREGUARD};
use crate::measure::Spread;
use crate::player::{Family, Message, Player};
use crate::report::{Measured, Progress, Report};
use crate::suite::Wanted;

/// Backends that die: about a tenth.
const DEAD: u32 = BACKENDS / 10 + 1;

/// Sessions end on endpoints that are not live, and when they were silent for an hour.
struct Fates {
    not_live: BTreeSet<u32>,
}

impl Policy for Fates {
    fn fate(&self, endpoint: u32) -> Fate {
        if self.not_live.contains(&endpoint) {
            Fate::End
        } else {
            Fate::Idle(Duration::from_secs(3600))
        }
    }

    fn tenant(&self, _endpoint: u32) -> Option<u32> {
        Some(0)
    }
}

/// Figures by what was measured, in the order of the report.
#[derive(Default)]
struct Figures(Vec<(&'static str, &'static str, Vec<f64>)>);

impl Figures {
    fn add(&mut self, case: &'static str, unit: &'static str, figure: f64) {
        match self.0.iter_mut().find(|(other, ..)| *other == case) {
            Some((.., figures)) => figures.push(figure),
            None => self.0.push((case, unit, vec![figure])),
        }
    }

    /// Milliseconds that something took.
    fn time<T>(&mut self, case: &'static str, what: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let result = what();
        self.add(case, "ms", begin.elapsed().as_secs_f64() * 1e3);
        result
    }
}

/// Measures.
pub(super) fn run(wanted: Wanted<'_>, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, idle) = if wanted.quick { (3, 5) } else { (9, 30) };
    let mut progress = Progress::new("control", 2 * rounds);
    for sessions in [60_000, 1_000_000] {
        let mut figures = Figures::default();
        for round in 1..=rounds {
            progress.step(&format!("{sessions} sessions, round {round} of {rounds}"));
            let idle = Duration::from_secs(if round == 1 { idle } else { 0 });
            measure(sessions, idle, &mut figures)?;
        }
        for (case, unit, figures) in figures.0 {
            report.add(Measured {
                suite: "control",
                case: case.to_owned(),
                family: None,
                flows: sessions.into(),
                unit,
                spread: Spread::of(figures),
                against: None,
                ratio: None,
            });
        }
    }
    Ok(())
}

/// One round, on a gateway of its own: with a look at the idle daemon, if that has any length.
fn measure(sessions: u32, idle: Duration, figures: &mut Figures) -> anyhow::Result<()> {
    let mut gateway = Gateway::with("control", u64::from(sessions), &[WIREGUARD])?;
    let mut player = Player::new(&gateway, 1)?;
    gateway.fill(&mut player, Message::DataAnswer, Family::V4, sessions)?;
    drop(player);
    alone(&gateway, sessions, figures)?;
    // Until the end: with its end of the cable the gateway's would go, and nobody says when.
    let _farm = farm::lay_out(&gateway)?;
    daemon(&gateway, sessions, idle, figures)?;
    dead(&mut gateway, sessions, figures)
}

/// What leaves the tables as they are.
fn alone(gateway: &Gateway, sessions: u32, figures: &mut Figures) -> anyhow::Result<()> {
    let fates = Fates { not_live: BTreeSet::new() };
    let mut keeper = Keeper::default();
    let scan = figures.time("expiry scan", || keeper.scan(gateway.tables(), &Clock::now(), &fates));
    if scan.open.values().sum::<u64>() != u64::from(sessions) || scan.ended != 0 {
        bail!("the scan did not see {sessions} sessions");
    }
    let list = figures.time("session list, in memory", || Reader::new(gateway.tables()).list());
    if list.len() != sessions as usize {
        bail!("{} of {sessions} sessions are listed", list.len());
    }
    let names: Vec<String> = (0..BACKENDS).map(|number| format!("b{number}")).collect();
    let candidates: Vec<Candidate<'_>> = names
        .iter()
        .zip(0..)
        .map(|(name, ordinal)| Candidate { name, ordinal, weight: 1 })
        .collect();
    let ring = figures.time("maglev ring of 64 backends", || maglev::ring(&candidates));
    if ring.is_none() {
        bail!("there is no ring");
    }
    Ok(())
}

/// A daemon that takes the tables over.
fn daemon(
    gateway: &Gateway,
    sessions: u32,
    idle: Duration,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let daemon =
        figures.time("daemon: start until it answers, adoption", || gateway.start_daemon())?;
    let list = || -> anyhow::Result<()> {
        let listed = daemon.get("/v1/sessions")?.matches("\"id\"").count();
        if listed != sessions as usize {
            bail!("the daemon lists {listed} of {sessions} sessions");
        }
        Ok(())
    };
    figures.time("daemon: session list, JSON", list)?;
    figures.time("daemon: metrics scrape", || daemon.get("/metrics"))?;
    if !idle.is_zero() {
        let share = idle_share(&daemon, idle)?;
        figures.add("daemon: processor, idle sessions", "% of a core", share);
        figures.add("daemon: memory beside the tables", "MB", daemon.memory()? as f64 / 1e6);
        // They are still there: it was not the cost of having lost them.
        list()?;
        drop(daemon);
        let share = idle_share(&gateway.start_daemon_without_probes()?, idle)?;
        figures.add("daemon: processor, idle sessions, no probes", "% of a core", share);
    }
    Ok(())
}

/// What a daemon that nobody asks anything takes of a processor, in percent.
fn idle_share(daemon: &Daemon, idle: Duration) -> anyhow::Result<f64> {
    sleep(Duration::from_secs(2));
    let before = (Instant::now(), daemon.processor_time()?);
    sleep(idle);
    let used = daemon.processor_time()?.saturating_sub(before.1);
    Ok(used.as_secs_f64() / before.0.elapsed().as_secs_f64() * 100.0)
}

/// The death of backends: until no table leads to them, and their sessions are ended.
fn dead(gateway: &mut Gateway, sessions: u32, figures: &mut Figures) -> anyhow::Result<()> {
    // What the daemon changed is taken as it is.
    gateway.look_again()?;
    gateway.reconcile(0)?;
    let nothing = figures.time("reconcile, nothing to do", || gateway.reconcile(0))?;
    if nothing != 0 {
        bail!("{nothing} writes where there was nothing to write");
    }
    let mut keeper = Keeper::default();
    let begin = Instant::now();
    let writes = figures.time("7 of 64 backends die: tables", || gateway.reconcile(DEAD))?;
    let fates = Fates { not_live: gateway.not_live() };
    let scan = keeper.scan(gateway.tables(), &Clock::now(), &fates);
    let whole = begin.elapsed().as_secs_f64() * 1e3;
    figures.add("7 of 64 backends die: tables, and their sessions ended", "ms", whole);
    // Sessions are dealt out to the backends in turn.
    let theirs = (0..sessions).filter(|flow| flow % BACKENDS < DEAD).count() as u64;
    if writes == 0 || scan.ended != theirs {
        bail!("{writes} writes, {} of {theirs} sessions ended", scan.ended);
    }
    Ok(())
}
