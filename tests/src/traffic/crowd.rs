//! Numbered packets on many flows at once, and the account of each flow.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use serde::Serialize;

use super::sequence::{Book, Tally, await_answers, lock};
use super::target::{Target, answer, request};
use crate::error::{Result, Tried};
use crate::wait::{Stop, until};

/// How often the sender wakes.
const TURN: Duration = Duration::from_millis(10);
/// Bytes of a request.
pub(crate) const SIZE: usize = 64;
/// What epoll tells of the signal to end.
const STOP: u64 = u64::MAX;

/// What became of all flows' packets.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CrowdTally {
    /// Flows.
    pub flows: usize,
    /// Requests sent.
    pub sent: u64,
    /// Requests without an answer.
    pub lost: u64,
    /// Answers that came more than once.
    pub duplicated: u64,
    /// Answers that came after the answer to a later request of their flow.
    pub reordered: u64,
    /// Flows that several concentrators answered.
    pub strayed: usize,
    /// Longest time between two answers of a flow, milliseconds.
    pub longest_gap_ms: u64,
}

/// Many flows, on each of which requests are sent. Dropping it ends it.
#[derive(Debug)]
pub struct Crowd {
    sockets: Arc<Vec<UdpSocket>>,
    rate: u32,
    books: Arc<Vec<Mutex<Book>>>,
    /// Ends the sender, then the receiver.
    stops: [Stop; 2],
    threads: Option<[JoinHandle<()>; 2]>,
}

impl Crowd {
    /// Starts so many flows to each target, with `rate` requests a second on all together.
    pub fn start(targets: &[Target], flows: usize, rate: u32) -> Result<Self> {
        let mut sockets = Vec::new();
        // In turn, so that each target's are spread over the time.
        for _ in 0..flows {
            for target in targets {
                sockets.push(target.open()?);
            }
        }
        Self::on(Arc::new(sockets), rate)
    }

    /// Goes on with the same flows and an account of its own, when the last answers have come.
    pub fn anew(mut self) -> Result<Self> {
        self.end();
        let books = self.books.iter().map(|book| Mutex::new(lock(book).next_account())).collect();
        Self::with(self.sockets.clone(), books, self.rate)
    }

    fn on(sockets: Arc<Vec<UdpSocket>>, rate: u32) -> Result<Self> {
        let books = sockets.iter().map(|_| Mutex::new(Book::default())).collect();
        Self::with(sockets, books, rate)
    }

    fn with(sockets: Arc<Vec<UdpSocket>>, books: Vec<Mutex<Book>>, rate: u32) -> Result<Self> {
        let books = Arc::new(books);
        let stops = [Stop::new()?, Stop::new()?];
        let epoll = epoll::create(CreateFlags::CLOEXEC).tried(|| "creating an epoll".to_owned())?;
        let what = || "waiting for many sockets".to_owned();
        for (socket, index) in sockets.iter().zip(0..) {
            epoll::add(&epoll, socket, EventData::new_u64(index), EventFlags::IN).tried(what)?;
        }
        epoll::add(&epoll, &stops[1], EventData::new_u64(STOP), EventFlags::IN).tried(what)?;
        let sender = {
            let (sockets, books, stop) = (sockets.clone(), books.clone(), stops[0].clone());
            std::thread::spawn(move || send(&sockets, &books, &stop, rate))
        };
        let receiver = {
            let (sockets, books) = (sockets.clone(), books.clone());
            std::thread::spawn(move || receive(&epoll, &sockets, &books))
        };
        Ok(Self { sockets, rate, books, stops, threads: Some([sender, receiver]) })
    }

    /// The account so far; what is on its way counts as lost.
    pub fn so_far(&self) -> CrowdTally {
        self.so_far_where(|_| true)
    }

    fn so_far_where(&self, counts: impl Fn(&Tally) -> bool) -> CrowdTally {
        let mut all = CrowdTally::default();
        for tally in self.books.iter().map(|book| lock(book).tally()).filter(counts) {
            all.flows += 1;
            all.sent += tally.sent;
            all.lost += tally.lost;
            all.duplicated += tally.duplicated;
            all.reordered += tally.reordered;
            all.strayed += usize::from(tally.answered_by.len() > 1);
            all.longest_gap_ms = all.longest_gap_ms.max(tally.longest_gap_ms);
        }
        all
    }

    /// The account of each flow so far, by the address that it is sent from.
    pub fn each(&self) -> Result<Vec<(SocketAddr, Tally)>> {
        let own = |socket: &UdpSocket| {
            socket.local_addr().tried(|| "asking a socket for its address".to_owned())
        };
        let flows = self.sockets.iter().zip(self.books.iter());
        flows.map(|(socket, book)| Ok((own(socket)?, lock(book).tally()))).collect()
    }

    /// Waits until each flow has had so many answers.
    pub fn wait_for(&self, answers: u64, deadline: Duration) -> Result<()> {
        until(&format!("{answers} answers on each flow"), deadline, || {
            let all = self.books.iter().all(|book| lock(book).tally().received >= answers);
            Ok(all.then_some(()))
        })
    }

    /// Ends sending, waits for the last answers, and closes the account.
    pub fn stop(mut self) -> CrowdTally {
        self.end();
        self.so_far()
    }

    /// The same, with the account of some of the flows alone.
    pub fn stop_where(mut self, counts: impl Fn(&Tally) -> bool) -> CrowdTally {
        self.end();
        self.so_far_where(counts)
    }

    /// The same, with an account of those flows and one of all others.
    pub fn stop_apart(mut self, counts: impl Fn(&Tally) -> bool) -> [CrowdTally; 2] {
        self.end();
        [self.so_far_where(&counts), self.so_far_where(|tally| !counts(tally))]
    }

    fn end(&mut self) {
        let Some([sender, receiver]) = self.threads.take() else { return };
        self.stops[0].signal();
        let _ = sender.join();
        await_answers(|| {
            let so_far = self.so_far();
            (so_far.sent - so_far.lost, so_far.lost == 0)
        });
        self.stops[1].signal();
        let _ = receiver.join();
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.end();
    }
}

/// Each flow in its turn, as many in each turn as the rate wants by then.
fn send(sockets: &[UdpSocket], books: &[Mutex<Book>], stop: &Stop, rate: u32) {
    let (mut start, mut sent) = (Instant::now(), 0_u64);
    while !stop.wait(TURN) {
        let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        // Where the machine stood still, what was missed does not go out: no queue has room for it, and a machine that is late does not need twice
        // the work.
        let most = sent + (2 * u64::from(rate) * TURN.as_millis() as u64 / 1000).max(1);
        if due > most {
            start += Duration::from_secs_f64((due - most) as f64 / f64::from(rate));
        }
        let due = due.min(most);
        for n in sent..due {
            let index = (n % sockets.len() as u64) as usize;
            let number = lock(&books[index]).next();
            // What cannot be sent is missed.
            let _ = sockets[index].send(&request(number, SIZE));
        }
        sent = due;
    }
}

fn receive(epoll: &rustix::fd::OwnedFd, sockets: &[UdpSocket], books: &[Mutex<Book>]) {
    let mut events = Vec::with_capacity(256);
    let mut buffer = [0; 2048];
    loop {
        events.clear();
        // An interrupted wait has nothing to tell.
        let _ = epoll::wait(epoll, spare_capacity(&mut events), None);
        for event in &events {
            let data = event.data;
            if data.u64() == STOP {
                return;
            }
            let index = data.u64() as usize;
            while let Ok(length) = sockets[index].recv(&mut buffer) {
                if let Some((number, tag)) = answer(&buffer[..length]) {
                    lock(&books[index]).enter(number, tag, Instant::now());
                }
            }
        }
    }
}
