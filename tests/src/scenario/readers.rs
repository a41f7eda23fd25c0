//! Many ask for long lists at once, and some of them do not listen to the answers.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::crowded::Crowded;
use super::{Check, Claim, SOON};
use crate::error::{LabError, Result, Tried as _};
use crate::gateway::Gateway;
use crate::traffic::CrowdTally;

/// What all of them may cost the daemon, in KiB: a piece of the list for each, not the list.
const MOST_KIB: u64 = 60 << 10;

/// Who asks, for how much.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ReadersPlan {
    /// Sessions that are listed.
    pub sessions: usize,
    /// Who ask for all of them, and do not read on.
    pub deaf: usize,
    /// Who do so at once, and read.
    pub askers: usize,
}

/// What [`readers`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Readers {
    /// Who asked.
    pub plan: ReadersPlan,
    /// Answers that were no list of all sessions, each once: what is wrong.
    pub wrong: Vec<String>,
    /// Memory of the daemon's own, without the tables, in KiB: before, and with all of them.
    pub own_kib: [u64; 2],
    /// Traffic all the while.
    pub traffic: CrowdTally,
}

/// Asks a gateway with many sessions, in a lab of its own.
pub fn readers(plan: &ReadersPlan) -> Result<Readers> {
    let farm = Crowded::start((2 * plan.sessions as u32).next_power_of_two())?;
    farm.idle_beside(plan.sessions, 100)?;
    let crowd = farm.crowd(100, 1000)?;
    let socket = farm.gateway.socket();
    let before = own_kib(&farm.gateway)?;
    let mut deaf = Vec::new();
    for _ in 0..plan.deaf {
        let mut stream = ask(socket)?;
        // It has begun.
        stream.read_exact(&mut [0; 1000]).tried(|| "reading the beginning of a list".to_owned())?;
        deaf.push(stream);
    }
    let asks = || list(socket, plan.sessions);
    let mut wrong: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..plan.askers).map(|_| scope.spawn(asks)).collect();
        let one = |one: std::thread::ScopedJoinHandle<'_, Result<()>>| one.join().ok()?.err();
        all.into_iter().filter_map(one).map(|e| e.to_string()).collect()
    });
    wrong.sort_unstable();
    wrong.dedup();
    let own_kib = [before, own_kib(&farm.gateway)?];
    drop(deaf);
    crowd.wait_for(5, SOON)?;
    Ok(Readers { plan: *plan, wrong, own_kib, traffic: crowd.stop() })
}

fn own_kib(gateway: &Gateway) -> Result<u64> {
    let anonymous = gateway.process_status("RssAnon").unwrap_or_default();
    let number = anonymous.split_whitespace().next().and_then(|number| number.parse().ok());
    number.ok_or_else(|| LabError::Scenario(format!("`{anonymous}` is no size")))
}

fn ask(socket: &str) -> Result<UnixStream> {
    let asked = || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        stream.write_all(
            b"GET /v1/sessions HTTP/1.0\r\nhost: fernpass\r\nconnection: close\r\n\r\n",
        )?;
        Ok::<_, std::io::Error>(stream)
    };
    asked().tried(|| "asking for a list".to_owned())
}

/// Reads a list, in which there must be so many.
fn list(socket: &str, sessions: usize) -> Result<()> {
    let mut answer = Vec::new();
    ask(socket)?.read_to_end(&mut answer).tried(|| "reading a list".to_owned())?;
    let answer = String::from_utf8_lossy(&answer);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let listed: Vec<Value> =
        serde_json::from_str(body).map_err(|e| LabError::Scenario(format!("no list: {e}")))?;
    let mut ids: Vec<_> = listed.iter().filter_map(|session| session["id"].as_str()).collect();
    let count = ids.len();
    ids.dedup();
    if ids.len() != count || count < sessions {
        let of = ids.len();
        return Err(LabError::Scenario(format!("{count} rows, of {of} of {sessions} sessions")));
    }
    Ok(())
}

impl Claim for Readers {
    fn failures(&self) -> Vec<String> {
        let (t, more) = (&self.traffic, self.own_kib[1].saturating_sub(self.own_kib[0]));
        Check::default()
            .that(self.wrong.is_empty(), || format!("not answered: {:?}", self.wrong))
            .that(more < MOST_KIB, || format!("{more} KiB more were taken"))
            .that(t.lost == 0, || format!("{} of {} packets lost", t.lost, t.sent))
            .failures()
    }

    fn summary(&self) -> String {
        let [before, after] = self.own_kib;
        format!(
            "{} asked for {} sessions at once, beside {} that did not read on: the daemon had {before} KiB of its own before, and {after} \
             then; {} of {} packets lost",
            self.plan.askers,
            self.plan.sessions,
            self.plan.deaf,
            self.traffic.lost,
            self.traffic.sent
        )
    }
}
