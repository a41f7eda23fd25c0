//! Many connections, and what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::frame;
use crate::error::Result;
use crate::net::Ns;
use crate::peer::worker::{End, Worker};
use crate::traffic::{SHORTEST, TAG};
use crate::wait::until;

/// How long a connection or an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What load to make: so many connections, each with so many requests.
#[derive(Clone, Copy, Debug)]
pub struct TcpLoad {
    /// Connections altogether.
    pub connections: u32,
    /// Connections at once.
    pub concurrent: u32,
    /// Requests on each.
    pub requests: u32,
    /// Bytes of a request, and of its answer.
    pub bytes: usize,
    /// Time between an answer and the next request.
    pub pause: Duration,
}

/// What became of the connections.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TcpTally {
    /// Connections that were begun.
    pub begun: u32,
    /// Connections that stand now.
    pub open: u32,
    /// Of those that stand now, how many each server has answered last.
    pub open_on: BTreeMap<u8, u32>,
    /// Most that stood at once.
    pub most_open: u32,
    /// Connections whose requests were all answered, and that were closed in order.
    pub completed: u32,
    /// Connections refused by the other side.
    pub refused: u32,
    /// Connections that were reset, or closed by the server.
    pub reset: u32,
    /// Connections that waited in vain.
    pub timed_out: u32,
    /// Connections that failed for another reason.
    pub failed: u32,
    /// Connections with an answer other than expected.
    pub wrong: u32,
    /// Connections answered by more than one server.
    pub split: u32,
    /// Bytes that came back.
    pub bytes: u64,
    /// Connections by the number of the server that answered last.
    pub answered_by: BTreeMap<u8, u32>,
    /// The longest time until a connection stood, milliseconds.
    pub longest_connect_ms: u64,
}

impl TcpTally {
    /// Connections that did not go as they should.
    pub fn broken(&self) -> u32 {
        self.refused + self.reset + self.timed_out + self.failed + self.wrong + self.split
    }
}

/// A load that is being made. Dropping it ends it.
#[derive(Debug)]
pub struct RunningLoad {
    tally: Arc<Mutex<TcpTally>>,
    worker: Worker<()>,
}

impl TcpLoad {
    /// Starts to make the load from `ns`.
    pub fn start(self, ns: &Ns, to: SocketAddr) -> Result<RunningLoad> {
        let tally = Arc::new(Mutex::new(TcpTally::default()));
        let book = tally.clone();
        let work = move |end: End| async move {
            let begun = Arc::new(AtomicU32::new(0));
            let mut lanes = JoinSet::new();
            for _ in 0..self.concurrent {
                lanes.spawn(lane(self, to, begun.clone(), book.clone(), end.clone()));
            }
            while lanes.join_next().await.is_some() {}
        };
        Ok(RunningLoad { tally, worker: Worker::start(ns, work)? })
    }

    /// Makes the load, from beginning to end.
    pub fn run(self, ns: &Ns, to: SocketAddr) -> Result<TcpTally> {
        self.start(ns, to)?.finish()
    }
}

impl RunningLoad {
    /// The account so far.
    pub fn so_far(&self) -> TcpTally {
        lock(&self.tally).clone()
    }

    /// Waits until so many connections stand at once.
    pub fn wait_for_open(&self, connections: u32, deadline: Duration) -> Result<()> {
        until(&format!("{connections} open connections"), deadline, || {
            Ok((self.so_far().open >= connections).then_some(()))
        })
    }

    /// Waits until so many connections stand at once and were answered: how many are on each server.
    ///
    /// That a connection stands says nothing of its server: the server's kernel answers before the server has heard of it.
    pub fn wait_for_answers(
        &self,
        connections: u32,
        deadline: Duration,
    ) -> Result<BTreeMap<u8, u32>> {
        until(&format!("{connections} answered connections"), deadline, || {
            let on = self.so_far().open_on;
            Ok((on.values().sum::<u32>() >= connections).then_some(on))
        })
    }

    /// Waits for all connections.
    pub fn finish(self) -> Result<TcpTally> {
        self.worker.join()?;
        let tally = lock(&self.tally).clone();
        Ok(tally)
    }

    /// Begins no more connections; those that stand end in order after their next answer.
    pub fn stop(mut self) -> Result<TcpTally> {
        self.worker.stop();
        self.finish()
    }
}

fn lock(tally: &Mutex<TcpTally>) -> std::sync::MutexGuard<'_, TcpTally> {
    tally.lock().expect("no panic holds this lock")
}

/// One connection after the other.
async fn lane(
    load: TcpLoad,
    to: SocketAddr,
    begun: Arc<AtomicU32>,
    book: Arc<Mutex<TcpTally>>,
    end: End,
) {
    while !end.is_given() && begun.fetch_add(1, Ordering::Relaxed) < load.connections {
        lock(&book).begun += 1;
        let started = Instant::now();
        let stream = patient(TcpStream::connect(to)).await;
        let outcome = match stream {
            Ok(stream) => {
                {
                    let mut tally = lock(&book);
                    let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tally.longest_connect_ms = tally.longest_connect_ms.max(took);
                    tally.open += 1;
                    tally.most_open = tally.most_open.max(tally.open);
                }
                let outcome = converse(stream, load, &book, &end).await;
                lock(&book).open -= 1;
                outcome
            }
            Err(e) => Err(e),
        };
        enter(&mut lock(&book), outcome);
    }
}

/// The server that answered a standing connection last, in the tally for as long as this lives.
struct Last<'a> {
    book: &'a Mutex<TcpTally>,
    server: Option<u8>,
}

impl Last<'_> {
    fn is(&mut self, server: u8) {
        self.forget();
        *lock(self.book).open_on.entry(server).or_default() += 1;
        self.server = Some(server);
    }

    fn forget(&mut self) {
        let Some(server) = self.server.take() else { return };
        let mut tally = lock(self.book);
        if let Some(open) = tally.open_on.get_mut(&server) {
            *open -= 1;
        }
        tally.open_on.retain(|_, open| *open > 0);
    }
}

impl Drop for Last<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Makes all requests of a connection: who answered.
async fn converse(
    mut stream: TcpStream,
    load: TcpLoad,
    book: &Mutex<TcpTally>,
    end: &End,
) -> io::Result<BTreeSet<u8>> {
    stream.set_nodelay(true)?;
    let mut answerers = BTreeSet::new();
    let mut last = Last { book, server: None };
    for n in 0..load.requests {
        let mut request = vec![0; load.bytes.max(SHORTEST)];
        request.fill_with(|| fastrand::u8(..));
        patient(frame::write(&mut stream, &request)).await?;
        let answer = patient(frame::read(&mut stream)).await?;
        let answer = answer.ok_or(ErrorKind::ConnectionReset)?;
        let tag = answer.get(TAG).copied().ok_or(ErrorKind::InvalidData)?;
        request[TAG] = tag;
        if request != answer {
            return Err(ErrorKind::InvalidData.into());
        }
        answerers.insert(tag);
        last.is(tag);
        lock(book).bytes += answer.len() as u64;
        if end.is_given() {
            break;
        }
        if n + 1 < load.requests && !load.pause.is_zero() {
            tokio::select! {
                () = sleep(load.pause) => {}
                () = end.clone().wait() => {}
            }
        }
    }
    Ok(answerers)
}

fn enter(tally: &mut TcpTally, outcome: io::Result<BTreeSet<u8>>) {
    match outcome {
        Ok(answerers) => {
            tally.completed += 1;
            tally.split += u32::from(answerers.len() > 1);
            if let Some(&last) = answerers.last() {
                *tally.answered_by.entry(last).or_default() += 1;
            }
        }
        Err(e) => match e.kind() {
            ErrorKind::ConnectionRefused => tally.refused += 1,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => {
                tally.reset += 1;
            }
            ErrorKind::TimedOut => tally.timed_out += 1,
            ErrorKind::InvalidData => tally.wrong += 1,
            _ => tally.failed += 1,
        },
    }
}

async fn patient<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}
