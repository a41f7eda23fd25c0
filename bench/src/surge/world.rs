//! All employees and concentrators, and what they say to each other over the air.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::air::{Air, BURST};
use super::authority::{FIRST_PORT, Region};
use super::client::{Client, Event, NEVER, Say, Why};
use super::concentrator::{Answer, Concentrator, Heard};
use super::employee::{Data, Employee, address};
use super::timeline::Timeline;
use super::wire::{Datagram, Message};
use crate::gateway::{BACKEND4, BACKEND6, VIP4, VIP6};

/// When one roams who cannot right now.
const LATER: Duration = Duration::from_millis(10);
/// What happened so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Milliseconds from the first initiation to the first answer, of those who arrived.
    pub(super) arrivals: Vec<f64>,
    /// Likewise, of rekeys.
    pub(super) rekeys: Vec<f64>,
    /// Seconds from the death of a concentrator to the first answer of another.
    pub(super) rehomed: Vec<f64>,
    pub(super) roamed: u64,
    /// Handshakes that were begun anew though the concentrator was there.
    pub(super) silences: u64,
    /// Data of sessions on dead concentrators that was lost, and all that was sent on them.
    pub(super) lost_with_the_dead: u64,
    sent_with_the_dead: u64,
    /// What came twice, to the wrong one, or with ids that nobody handed out.
    pub(super) strays: Vec<Datagram>,
    /// Handshakes that came to another pool's concentrator.
    pub(super) misplaced: u64,
    /// By how much the harness was behind, at most.
    pub(super) behind: Duration,
}

/// All of it.
#[derive(Debug)]
pub(super) struct World {
    begin: Instant,
    pub(super) rng: Rng,
    pub(super) air: Air,
    pub(super) region: Region,
    pub(super) employees: Vec<Employee>,
    pub(super) concentrators: Vec<Concentrator>,
    pub(super) seen: Seen,
    /// When concentrators died.
    pub(super) death: Duration,
    due: BinaryHeap<Reverse<(Duration, u32)>>,
}

/// The number of the concentrator at an address.
fn number(address: IpAddr) -> Option<usize> {
    let number = match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4).checked_sub(u32::from(BACKEND4))?),
        IpAddr::V6(v6) => u128::from(v6).checked_sub(u128::from(BACKEND6))?,
    };
    usize::try_from(number).ok()
}

impl World {
    /// Nobody has come yet, and nobody will before they are told when.
    pub(super) fn new(air: Air, region: Region, day: &Timeline) -> Self {
        let mut rng = Rng::with_seed(8_00);
        let mut of: Vec<usize> = Vec::new();
        for (index, authority) in region.authorities.iter().enumerate() {
            of.extend(std::iter::repeat_n(index, authority.employees as usize));
        }
        rng.shuffle(&mut of);
        let employee = |(n, authority): (usize, usize)| Employee {
            authority,
            client: Client::new(NEVER, day.period),
            address: address(n as u32, false),
            home: None,
            bereaved: false,
            roam: NEVER,
            is_roaming: false,
            data: Data::default(),
            noted: NEVER,
        };
        let employees = of.into_iter().enumerate().map(employee).collect();
        let concentrators = region.pools.iter().flat_map(|pool| pool.concentrators.clone());
        let concentrators = concentrators.map(|_| Concentrator::default()).collect();
        Self {
            begin: Instant::now(),
            rng,
            air,
            region,
            employees,
            concentrators,
            seen: Seen::default(),
            death: NEVER,
            due: BinaryHeap::new(),
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Notes when an employee is to be woken. To be called when that was changed.
    pub(super) fn note(&mut self, n: usize) {
        let now = self.now();
        let employee = &mut self.employees[n];
        let due = employee.client.due().min(employee.roam);
        if due < employee.noted && !employee.client.is_gone(due.max(now)) {
            employee.noted = due;
            self.due.push(Reverse((due, n as u32)));
        }
    }

    /// Lets everyone do what they have to do now: whether there was anything.
    pub(super) fn turn(&mut self) -> anyhow::Result<bool> {
        let now = self.now();
        while self.air.clients.queue.len() < BURST
            && let Some(Reverse((due, n))) = self.due.peek().copied()
            && due <= now
        {
            self.due.pop();
            self.seen.behind = self.seen.behind.max(now - due);
            self.wake(n as usize, now);
        }
        let busy = self.air.exchange()?;
        while let Some(datagram) = self.air.concentrators.next() {
            if let Some(answer) = self.concentrator_hears(&datagram) {
                let Datagram { from, to, .. } = datagram;
                let answer = Datagram { from: to, to: from, message: answer };
                self.air.concentrators.queue.push_back(answer);
            }
        }
        while let Some(datagram) = self.air.clients.next() {
            self.client_hears(&datagram);
        }
        Ok(busy)
    }

    fn wake(&mut self, n: usize, now: Duration) {
        let id = self.rng.u32(1..);
        let employee = &mut self.employees[n];
        employee.noted = NEVER;
        if now >= employee.roam && employee.data.missing() > 0 {
            // What is under way to the old address would be lost with any gateway.
            employee.roam = now + LATER;
        } else if now >= employee.roam {
            employee.roam = NEVER;
            employee.address = address(n as u32, true);
            employee.is_roaming = true;
            employee.client.hurry(now);
        }
        let said = employee.client.wake(now, id);
        if let Some(said) = said {
            self.say(n, said);
        }
        self.note(n);
    }

    fn say(&mut self, n: usize, said: Say) {
        let employee = &mut self.employees[n];
        let who = n as u32;
        let message = match said {
            Say::Initiation { sender } => Message::Initiation { sender, employee: who },
            Say::Data { receiver, counter } => {
                employee.data.up += 1;
                let number = employee.data.up;
                Message::Data { receiver, counter, employee: who, concentrator: 0, number }
            }
        };
        let from = employee.address;
        let vip = if from.is_ipv4() { IpAddr::from(VIP4) } else { IpAddr::from(VIP6) };
        let to = SocketAddr::new(vip, FIRST_PORT + employee.authority as u16);
        self.air.clients.queue.push_back(Datagram { from, to, message });
    }

    fn concentrator_hears(&mut self, datagram: &Datagram) -> Option<Message> {
        let at = number(datagram.to.ip())?;
        let concentrator = self.concentrators.get_mut(at)?;
        match datagram.message {
            Message::Initiation { sender, employee } => {
                let authority = self.employees[employee as usize].authority;
                let pool = self.region.authorities[authority].pool;
                if !self.region.pools[pool].concentrators.contains(&at)
                    || datagram.to.port() != FIRST_PORT + authority as u16
                {
                    self.seen.misplaced += 1;
                    return None;
                }
                let answer = concentrator.initiation(employee, sender, || self.rng.u32(..))?;
                let Answer::Response { sender, receiver } = answer else { return None };
                Some(Message::Response { sender, receiver, employee })
            }
            Message::Data { receiver, counter, employee, .. } => {
                let data = &mut self.employees[employee as usize].data;
                let answer = match concentrator.data(employee, receiver, counter)? {
                    // The gateway has no session of it, and may try another concentrator.
                    Heard::Unknown => return None,
                    Heard::Again => {
                        self.seen.strays.push(*datagram);
                        return None;
                    }
                    Heard::New(answer) | Heard::Known(answer) => answer,
                };
                data.up_arrived += 1;
                data.down += 1;
                let Answer::Data { receiver, counter } = answer else { return None };
                let (concentrator, number) = (at as u32, data.down);
                Some(Message::Data { receiver, counter, employee, concentrator, number })
            }
            Message::Response { .. } => {
                self.seen.strays.push(*datagram);
                None
            }
        }
    }

    fn client_hears(&mut self, datagram: &Datagram) {
        let now = self.now();
        let (Message::Response { employee: n, .. } | Message::Data { employee: n, .. }) =
            datagram.message
        else {
            self.seen.strays.push(*datagram);
            return;
        };
        let employee = &mut self.employees[n as usize];
        if datagram.to != employee.address {
            // It is for an address that they have left.
            self.seen.strays.push(*datagram);
            return;
        }
        let (event, said) = match datagram.message {
            Message::Response { sender, receiver, .. } => {
                employee.client.response(now, sender, receiver)
            }
            Message::Data { receiver, concentrator, .. } => {
                let event = employee.client.data(receiver);
                if event != Event::Stray {
                    employee.data.down_arrived += 1;
                    employee.home = Some(concentrator as usize);
                    self.seen.roamed += u64::from(std::mem::take(&mut employee.is_roaming));
                }
                (event, None)
            }
            Message::Initiation { .. } => (Event::Stray, None),
        };
        match event {
            Event::Stray => self.seen.strays.push(*datagram),
            Event::Ready(why, begun) => self.ready(n as usize, why, now - begun, now),
            Event::Shaken | Event::Answer => {}
        }
        if let Some(said) = said {
            self.say(n as usize, said);
        }
        self.note(n as usize);
    }

    fn ready(&mut self, n: usize, why: Why, took: Duration, now: Duration) {
        let employee = &mut self.employees[n];
        let milliseconds = took.as_secs_f64() * 1e3;
        match why {
            Why::Arrival => self.seen.arrivals.push(milliseconds),
            Why::Rekey => self.seen.rekeys.push(milliseconds),
            Why::Silence if employee.bereaved => {
                employee.bereaved = false;
                self.seen.rehomed.push((now - self.death).as_secs_f64());
                self.seen.lost_with_the_dead += employee.data.missing();
                self.seen.sent_with_the_dead += employee.data.sent();
                employee.data = Data::default();
            }
            Why::Silence => self.seen.silences += 1,
        }
    }

    /// Nothing waits to be sent.
    pub(super) fn is_quiet(&self) -> bool {
        self.air.clients.queue.is_empty() && self.air.concentrators.queue.is_empty()
    }

    /// Data that was sent, in both directions.
    pub(super) fn sent(&self) -> u64 {
        let now: u64 = self.employees.iter().map(|e| e.data.sent()).sum();
        now + self.seen.sent_with_the_dead
    }

    /// Data that established sessions lost: those with live concentrators, and those with dead ones.
    pub(super) fn lost(&self) -> (u64, u64) {
        let of = |bereaved| {
            let those = self.employees.iter().filter(move |e| e.bereaved == bereaved);
            those.map(|e| e.data.missing()).sum::<u64>()
        };
        (of(false), of(true) + self.seen.lost_with_the_dead)
    }
}
