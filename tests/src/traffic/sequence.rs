//! Numbered packets at a steady rate, and the exact account of those that came back.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::target::{Target, answer, request};
use crate::error::Result;
use crate::wait::{Stop, patient};

/// How long an answer may take after the last request, or after the answer before.
const GRACE: Duration = Duration::from_secs(2);
/// How long the last answers may take altogether.
const PATIENCE: Duration = Duration::from_secs(20);

/// What became of a sequence.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// Requests sent.
    pub sent: u64,
    /// Answers received, each number counted once.
    pub received: u64,
    /// Requests without an answer.
    pub lost: u64,
    /// Answers that came more than once.
    pub duplicated: u64,
    /// Answers that came after the answer to a later request.
    pub reordered: u64,
    /// Longest time between two answers, milliseconds.
    pub longest_gap_ms: u64,
    /// Answers by the number of the concentrator that gave them.
    pub answered_by: BTreeMap<u8, u64>,
}

impl Tally {
    /// Who answered, if it was one and the same throughout.
    pub fn only_answerer(&self) -> Option<u8> {
        match self.answered_by.len() {
            1 => self.answered_by.keys().next().copied(),
            _ => None,
        }
    }
}

/// The account while it is being written.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// The first request's number.
    first: u64,
    sent: u64,
    /// One bit a request.
    seen: Vec<u64>,
    received: u64,
    duplicated: u64,
    reordered: u64,
    highest: Option<u64>,
    answered_by: BTreeMap<u8, u64>,
    last: Option<Instant>,
    longest_gap: Duration,
}

impl Book {
    /// An account that begins where this one ends: an answer that comes too late for this one is nobody's.
    pub(super) fn next_account(&self) -> Self {
        Self { first: self.first + self.sent, ..Self::default() }
    }

    /// Takes down that a request is sent: its number.
    pub(super) fn next(&mut self) -> u64 {
        self.sent += 1;
        self.first + self.sent - 1
    }

    /// Takes down an answer.
    pub(super) fn enter(&mut self, number: u64, tag: u8, now: Instant) {
        let Some(number) = number.checked_sub(self.first).filter(|n| *n < self.sent) else {
            return; // not ours
        };
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.duplicated += 1;
            return;
        }
        self.seen[word] |= bit;
        self.received += 1;
        if self.highest.is_some_and(|highest| number < highest) {
            self.reordered += 1;
        }
        self.highest = self.highest.max(Some(number));
        *self.answered_by.entry(tag).or_default() += 1;
        if let Some(last) = self.last {
            self.longest_gap = self.longest_gap.max(now - last);
        }
        self.last = Some(now);
    }

    pub(super) fn tally(&self) -> Tally {
        Tally {
            sent: self.sent,
            received: self.received,
            lost: self.sent - self.received,
            duplicated: self.duplicated,
            reordered: self.reordered,
            longest_gap_ms: self.longest_gap.as_millis() as u64,
            answered_by: self.answered_by.clone(),
        }
    }
}

/// A running sequence of requests. Dropping it ends it.
#[derive(Debug)]
pub struct Sequence {
    book: Arc<Mutex<Book>>,
    /// Held while a request is sent.
    turn: Arc<Mutex<()>>,
    /// Ends the sender, then the receiver.
    stops: [Stop; 2],
    threads: Option<[JoinHandle<()>; 2]>,
    rate: u32,
}

impl Sequence {
    /// Starts to send `rate` requests a second, of `size` bytes each.
    pub fn start(target: &Target, rate: u32, size: usize) -> Result<Self> {
        let socket = Arc::new(target.open()?);
        let book = Arc::new(Mutex::new(Book::default()));
        let turn = Arc::new(Mutex::new(()));
        let stops = [Stop::new()?, Stop::new()?];
        let sender = {
            let (socket, book, stop) = (socket.clone(), book.clone(), stops[0].clone());
            let turn = turn.clone();
            std::thread::spawn(move || send(&socket, &book, &turn, &stop, rate, size))
        };
        let receiver = {
            let (book, stop) = (book.clone(), stops[1].clone());
            std::thread::spawn(move || receive(&socket, &book, &stop))
        };
        Ok(Self { book, turn, stops, threads: Some([sender, receiver]), rate })
    }

    /// Twenty requests a second, as a person's ping would be seen.
    pub fn pings(target: &Target) -> Result<Self> {
        Self::start(target, 20, 64)
    }

    /// The account so far; what is on its way counts as lost.
    pub fn so_far(&self) -> Tally {
        lock(&self.book).tally()
    }

    /// Does something between two requests: none is under way meanwhile, and none is sent; those
    /// that fall due are sent afterwards. What takes several steps is one event for the traffic.
    pub fn between<T>(&self, work: impl FnOnce() -> T) -> T {
        let _turn = lock(&self.turn);
        self.await_answers();
        work()
    }

    /// Waits until `more` further answers have come.
    pub fn wait_for(&self, more: u64, deadline: Duration) -> Result<Tally> {
        let goal = self.so_far().received + more;
        crate::wait::until(&format!("{more} more answers"), deadline, || {
            let tally = self.so_far();
            Ok((tally.received >= goal).then_some(tally))
        })
    }

    /// Lets it run for `time`, and until half of what its rate makes of that was sent; an error if that takes much too long: it would make the
    /// measurement worthless.
    pub fn run_for(&self, time: Duration) -> Result<()> {
        let before = self.so_far().sent;
        self.stops[0].wait(time);
        let wanted = (f64::from(self.rate) * time.as_secs_f64()) as u64;
        let what = format!("half of {wanted} requests on a machine that is too busy to measure");
        crate::wait::until(&what, PATIENCE, || {
            Ok((self.so_far().sent - before >= wanted / 2).then_some(()))
        })
    }

    /// Ends sending, waits for the last answers, and closes the account.
    pub fn stop(mut self) -> Tally {
        self.end();
        lock(&self.book).tally()
    }

    fn await_answers(&self) {
        await_answers(|| {
            let book = lock(&self.book);
            (book.received, book.received == book.sent)
        });
    }

    fn end(&mut self) {
        let Some([sender, receiver]) = self.threads.take() else { return };
        self.stops[0].signal();
        let _ = sender.join();
        self.await_answers();
        self.stops[1].signal();
        let _ = receiver.join();
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits for the last answers: for how many there are, and whether these are all. Some may never come; of a machine that stands still they come late.
pub(super) fn await_answers(so_far: impl Fn() -> (u64, bool)) {
    let (mut seen, mut since) = (0, Instant::now());
    let _ = crate::wait::until("the last answers", PATIENCE, || {
        let (received, are_all) = so_far();
        if received != seen {
            (seen, since) = (received, Instant::now());
        }
        Ok((are_all || since.elapsed() > patient(GRACE)).then_some(()))
    });
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no panic holds this lock")
}

fn send(
    socket: &UdpSocket,
    book: &Mutex<Book>,
    turn: &Mutex<()>,
    stop: &Stop,
    rate: u32,
    size: usize,
) {
    let interval = Duration::from_secs(1) / rate;
    let mut due = Instant::now();
    for number in 0.. {
        // Where the machine stood still, what was missed does not go out all at once: no queue has room for it.
        if stop.wait(due.saturating_duration_since(Instant::now()).max(interval / 2)) {
            return;
        }
        due += interval;
        let _turn = lock(turn);
        lock(book).sent += 1;
        // A request that could not be sent is a request without an answer.
        let _ = socket.send(&request(number, size));
    }
}

fn receive(socket: &UdpSocket, book: &Mutex<Book>, stop: &Stop) {
    let mut buffer = [0; 2048];
    while !stop.is_given() {
        stop.readable(socket.as_fd(), None);
        while let Ok(length) = socket.recv(&mut buffer) {
            if let Some((number, tag)) = answer(&buffer[..length]) {
                lock(book).enter(number, tag, Instant::now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_book_counts_every_number_once() {
        let mut book = Book { sent: 130, ..Book::default() };
        let now = Instant::now();
        for number in [0, 2, 1, 2, 129, 400] {
            book.enter(number, 3, now + Duration::from_millis(number));
        }
        let tally = book.tally();
        assert_eq!((tally.received, tally.duplicated, tally.reordered), (4, 1, 1));
        assert_eq!(tally.lost, 126);
        assert_eq!(tally.only_answerer(), Some(3));
        assert_eq!(tally.longest_gap_ms, 128);
    }
}
