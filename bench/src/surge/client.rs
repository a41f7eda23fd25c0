//! An employee's client: what it does when its time comes, and when it hears something.
//!
//! It does nothing by itself: time and messages go in, what it says comes out. Times are a fifth
//! of WireGuard's: a handshake is tried again after 1 s (5 s), and after 3 s of silence upon
//! something sent (15 s: REKEY_TIMEOUT + KEEPALIVE_TIMEOUT) it begins anew.

use std::time::Duration;

/// From one try of a handshake to the next.
pub(super) const RETRY: Duration = Duration::from_millis(1_000);
/// How long something sent may be left without an answer.
pub(super) const PATIENCE: Duration = Duration::from_millis(3_000);
/// Never.
pub(super) const NEVER: Duration = Duration::MAX;

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// Type 1.
    Initiation { sender: u32 },
    /// Type 4.
    Data { receiver: u32, counter: u64 },
}

/// What came of something that it heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It is none of its messages.
    Stray,
    /// The handshake is done; what it says next is data.
    Shaken,
    /// The first answer after a handshake, for this reason, which began then.
    Ready(Why, Duration),
    /// An answer.
    Answer,
}

/// Why it shakes hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    Arrival,
    Rekey,
    Silence,
}

/// A handshake that was begun.
#[derive(Clone, Copy, Debug)]
struct Shaking {
    why: Why,
    begun: Duration,
    tried: Duration,
    /// The id for the other side.
    own: u32,
}

/// A pair of ids, of which each end handed out one.
#[derive(Clone, Copy, Debug)]
struct Keys {
    own: u32,
    theirs: u32,
}

/// A client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) arrival: Duration,
    pub(super) rekey: Duration,
    pub(super) leaving: Duration,
    period: Duration,
    shaking: Option<Shaking>,
    keys: Option<Keys>,
    /// Its id before the last rekey, which answers may still have.
    old: Option<u32>,
    /// A handshake that no data has proven yet.
    unproven: Option<(Why, Duration)>,
    /// Since when something sent has had no answer.
    unanswered: Option<Duration>,
    next: Duration,
    counter: u64,
}

impl Client {
    /// One that arrives then, and says something every so often.
    pub(super) fn new(arrival: Duration, period: Duration) -> Self {
        Self {
            arrival,
            rekey: NEVER,
            leaving: NEVER,
            period,
            shaking: None,
            keys: None,
            old: None,
            unproven: None,
            unanswered: None,
            next: NEVER,
            counter: 0,
        }
    }

    /// When it wants to be woken.
    pub(super) fn due(&self) -> Duration {
        let shaking = self.shaking.map(|s| s.tried + RETRY);
        let Some(_) = self.keys else { return shaking.unwrap_or(self.arrival) };
        let silence = self.unanswered.map(|since| since + PATIENCE);
        let rekey = if shaking.is_none() { self.rekey } else { NEVER };
        [shaking, silence, Some(rekey), Some(self.next)]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(NEVER)
    }

    /// It will be heard no more.
    pub(super) fn is_gone(&self, now: Duration) -> bool {
        now >= self.leaving
    }

    /// It has a session, as far as it can tell.
    pub(super) fn is_up(&self) -> bool {
        self.keys.is_some() && self.unproven.is_none()
    }

    /// Its time has come. `id` is one that it may hand out.
    pub(super) fn wake(&mut self, now: Duration, id: u32) -> Option<Say> {
        if self.is_gone(now) {
            return None;
        }
        if self.keys.is_some() {
            if let Some(since) = self.unanswered.filter(|since| now >= *since + PATIENCE) {
                (self.keys, self.unanswered, self.unproven) = (None, None, None);
                return Some(self.shake(Why::Silence, since, now, id));
            }
            if self.shaking.is_none() && now >= self.rekey {
                self.rekey = NEVER;
                return Some(self.shake(Why::Rekey, now, now, id));
            }
        } else if self.shaking.is_none() && now >= self.arrival {
            return Some(self.shake(Why::Arrival, now, now, id));
        }
        if let Some(Shaking { why, begun, tried, .. }) = self.shaking
            && now >= tried + RETRY
        {
            return Some(self.shake(why, begun, now, id));
        }
        if now >= self.next {
            return self.talk(now);
        }
        None
    }

    /// It says something now and not later.
    pub(super) fn hurry(&mut self, now: Duration) {
        if self.keys.is_some() {
            self.next = now;
        }
    }

    fn shake(&mut self, why: Why, begun: Duration, now: Duration, own: u32) -> Say {
        self.shaking = Some(Shaking { why, begun, tried: now, own });
        Say::Initiation { sender: own }
    }

    fn talk(&mut self, now: Duration) -> Option<Say> {
        let keys = self.keys?;
        self.unanswered.get_or_insert(now);
        self.counter += 1;
        // What was missed is not made up for.
        self.next = (self.next.min(now) + self.period).max(now + self.period / 2);
        Some(Say::Data { receiver: keys.theirs, counter: self.counter })
    }

    /// A response, with the ids of its sender and its receiver.
    pub(super) fn response(
        &mut self,
        now: Duration,
        theirs: u32,
        own: u32,
    ) -> (Event, Option<Say>) {
        let Some(shaking) = self.shaking.filter(|shaking| shaking.own == own) else {
            return (Event::Stray, None);
        };
        self.shaking = None;
        self.old = self.keys.map(|keys| keys.own);
        self.keys = Some(Keys { own, theirs });
        self.unproven = Some((shaking.why, shaking.begun));
        self.counter = 0;
        self.next = now;
        (Event::Shaken, self.talk(now))
    }

    /// Data, with the id of its receiver.
    pub(super) fn data(&mut self, own: u32) -> Event {
        if self.keys.is_none_or(|keys| keys.own != own) && self.old != Some(own) {
            return Event::Stray;
        }
        self.unanswered = None;
        match self.unproven.take() {
            Some((why, begun)) => Event::Ready(why, begun),
            None => Event::Answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn up() -> Client {
        let mut client = Client::new(s(10), s(2));
        assert_eq!(client.wake(s(10), 1), Some(Say::Initiation { sender: 1 }));
        let (event, say) = client.response(s(10), 71, 1);
        assert_eq!(event, Event::Shaken);
        assert_eq!(say, Some(Say::Data { receiver: 71, counter: 1 }));
        assert!(!client.is_up());
        assert_eq!(client.data(1), Event::Ready(Why::Arrival, s(10)));
        assert!(client.is_up());
        client
    }

    #[test]
    fn it_arrives_shakes_hands_and_talks() {
        let mut client = Client::new(s(10), s(2));
        assert_eq!(client.due(), s(10));
        assert_eq!(client.wake(s(9), 1), None);
        let mut client = up();
        assert_eq!(client.due(), s(12));
        assert_eq!(client.wake(s(11), 2), None);
        assert_eq!(client.wake(s(12), 2), Some(Say::Data { receiver: 71, counter: 2 }));
        assert_eq!(client.data(1), Event::Answer);
        assert_eq!(client.data(9), Event::Stray);
    }

    #[test]
    fn it_tries_again_with_another_id() {
        let mut client = Client::new(s(0), s(2));
        client.wake(s(0), 1);
        assert_eq!(client.due(), RETRY);
        assert_eq!(client.wake(RETRY, 2), Some(Say::Initiation { sender: 2 }));
        assert_eq!(client.response(RETRY, 71, 1), (Event::Stray, None));
        assert_eq!(client.response(RETRY, 71, 2).0, Event::Shaken);
    }

    #[test]
    fn it_rekeys_while_it_talks_and_takes_answers_to_the_old_id() {
        let mut client = up();
        client.rekey = s(11);
        assert_eq!(client.wake(s(11), 2), Some(Say::Initiation { sender: 2 }));
        assert_eq!(client.wake(s(12), 3), Some(Say::Initiation { sender: 3 }));
        assert_eq!(client.wake(s(12), 4), Some(Say::Data { receiver: 71, counter: 2 }));
        let (_, say) = client.response(s(12), 72, 3);
        assert_eq!(say, Some(Say::Data { receiver: 72, counter: 1 }));
        assert_eq!(client.data(1), Event::Ready(Why::Rekey, s(11)));
        assert_eq!(client.data(3), Event::Answer);
    }

    #[test]
    fn after_silence_it_begins_anew_and_says_nothing_else() {
        let mut client = up();
        client.wake(s(12), 2);
        client.wake(s(14), 2);
        assert_eq!(client.due(), s(12) + PATIENCE);
        let anew = client.wake(s(12) + PATIENCE, 2);
        assert_eq!(anew, Some(Say::Initiation { sender: 2 }));
        assert_eq!(client.wake(s(12) + PATIENCE, 3), None);
        assert_eq!(client.due(), s(12) + PATIENCE + RETRY);
        client.response(s(16), 90, 2);
        assert_eq!(client.data(2), Event::Ready(Why::Silence, s(12)));
    }

    #[test]
    fn when_it_has_left_it_says_nothing() {
        let mut client = up();
        client.leaving = s(12);
        assert_eq!(client.wake(s(12), 2), None);
    }
}
