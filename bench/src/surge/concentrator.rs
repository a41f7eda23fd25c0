//! A concentrator: it answers handshakes, and data with an id that it handed out. Everything else
//! it meets with silence.

use std::collections::HashMap;

/// What it says to what it heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Type 2.
    Response { sender: u32, receiver: u32 },
    /// Type 4.
    Data { receiver: u32, counter: u64 },
}

/// What came of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// It has not handed out this id, or to another employee.
    Unknown,
    /// It came before.
    Again,
    /// An employee's, of whom it had no session: it is answered.
    New(Answer),
    /// An employee's: it is answered.
    Known(Answer),
}

/// A pair of ids: the one that it handed out, and the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Keys {
    own: u32,
    theirs: u32,
    /// The last counter that came in, and the last that went out.
    received: u64,
    sent: u64,
}

/// An employee's keys: those of a handshake that no data has confirmed, those in use, and those before.
#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    next: Option<Keys>,
    current: Option<Keys>,
    previous: Option<Keys>,
}

/// A concentrator.
#[derive(Debug, Default)]
pub(super) struct Concentrator {
    pub(super) is_dead: bool,
    /// Employees that came without having a session here.
    pub(super) adopted: u64,
    peers: HashMap<u32, Peer>,
    /// Whose each id is that it handed out.
    ids: HashMap<u32, u32>,
}

impl Concentrator {
    /// A handshake of an employee. `fresh` makes up ids.
    pub(super) fn initiation(
        &mut self,
        employee: u32,
        theirs: u32,
        mut fresh: impl FnMut() -> u32,
    ) -> Option<Answer> {
        if self.is_dead {
            return None;
        }
        let mut own = fresh();
        while own == 0 || self.ids.contains_key(&own) {
            own = fresh();
        }
        self.ids.insert(own, employee);
        let peer = self.peers.entry(employee).or_default();
        let given_up = peer.next.replace(Keys { own, theirs, received: 0, sent: 0 });
        given_up.map(|keys| self.ids.remove(&keys.own));
        Some(Answer::Response { sender: own, receiver: theirs })
    }

    /// Data.
    pub(super) fn data(&mut self, employee: u32, own: u32, counter: u64) -> Option<Heard> {
        if self.is_dead {
            return None;
        }
        let peer = self.peers.get_mut(&employee);
        let Some(peer) = peer.filter(|_| self.ids.get(&own) == Some(&employee)) else {
            return Some(Heard::Unknown);
        };
        let mut is_new = false;
        if peer.next.is_some_and(|keys| keys.own == own) {
            is_new = peer.current.is_none();
            peer.previous.take().map(|keys| self.ids.remove(&keys.own));
            peer.previous = peer.current;
            peer.current = peer.next.take();
        }
        let with = |keys: &&mut Keys| keys.own == own;
        let current = peer.current.as_mut().filter(with);
        let Some(keys) = current.or(peer.previous.as_mut().filter(with)) else {
            return Some(Heard::Unknown);
        };
        if counter <= keys.received {
            return Some(Heard::Again);
        }
        keys.received = counter;
        // It talks with the keys in use, whichever the client used.
        let Some(keys) = &mut peer.current else { return Some(Heard::Unknown) };
        keys.sent += 1;
        let answer = Answer::Data { receiver: keys.theirs, counter: keys.sent };
        self.adopted += u64::from(is_new);
        Some(if is_new { Heard::New(answer) } else { Heard::Known(answer) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted() -> impl FnMut() -> u32 {
        let mut next = 99;
        move || {
            next += 1;
            next
        }
    }

    #[test]
    fn it_answers_what_it_handed_out_and_nothing_else() {
        let mut own = Concentrator::default();
        let mut fresh = counted();
        assert_eq!(own.data(5, 100, 1), Some(Heard::Unknown));
        let answer = own.initiation(5, 1, &mut fresh);
        assert_eq!(answer, Some(Answer::Response { sender: 100, receiver: 1 }));
        assert_eq!(own.data(6, 100, 1), Some(Heard::Unknown), "another employee's");
        let first = Answer::Data { receiver: 1, counter: 1 };
        assert_eq!(own.data(5, 100, 1), Some(Heard::New(first)));
        assert_eq!(own.data(5, 100, 1), Some(Heard::Again));
        let second = Answer::Data { receiver: 1, counter: 2 };
        assert_eq!(own.data(5, 100, 2), Some(Heard::Known(second)));
        assert_eq!(own.adopted, 1);
    }

    #[test]
    fn old_keys_are_good_until_new_ones_are_followed_by_newer_ones() {
        let mut own = Concentrator::default();
        let mut fresh = counted();
        own.initiation(5, 1, &mut fresh);
        own.data(5, 100, 1);
        own.initiation(5, 2, &mut fresh);
        let old = Answer::Data { receiver: 1, counter: 2 };
        assert_eq!(own.data(5, 100, 2), Some(Heard::Known(old)), "not confirmed yet");
        let new = Answer::Data { receiver: 2, counter: 1 };
        assert_eq!(own.data(5, 101, 1), Some(Heard::Known(new)));
        let new = Answer::Data { receiver: 2, counter: 2 };
        assert_eq!(own.data(5, 100, 3), Some(Heard::Known(new)), "late, by the old keys");
        own.initiation(5, 3, &mut fresh);
        own.data(5, 102, 1);
        assert_eq!(own.data(5, 100, 4), Some(Heard::Unknown));
    }

    #[test]
    fn a_handshake_that_was_tried_again_leaves_nothing() {
        let mut own = Concentrator::default();
        let mut fresh = counted();
        own.initiation(5, 1, &mut fresh);
        own.initiation(5, 2, &mut fresh);
        assert_eq!(own.data(5, 100, 1), Some(Heard::Unknown));
        assert!(matches!(own.data(5, 101, 1), Some(Heard::New(_))));
    }

    #[test]
    fn the_dead_say_nothing() {
        let mut own = Concentrator { is_dead: true, ..Concentrator::default() };
        assert_eq!(own.initiation(5, 1, counted()), None);
        assert_eq!(own.data(5, 100, 1), None);
    }
}
