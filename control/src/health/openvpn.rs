//! Probes by the first message of OpenVPN over UDP: a hard reset, which is answered by one. A session is not begun.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aes::Aes256;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use ring::hmac;

use super::datagram::exchange;
use super::probe::Failure;
use crate::config::{ControlKey, OpenVpn};

/// `P_CONTROL_HARD_RESET_CLIENT_V2` and `P_CONTROL_HARD_RESET_SERVER_V2`, with key id 0.
const CLIENT: u8 = 7 << 3;
const SERVER: u8 = 8 << 3;
/// Opcode and session id.
const HEADER: usize = 9;
/// With `tls-crypt`: packet id and time, and the tag.
const REPLAY: usize = 8;
const TAG: usize = 32;

/// A server's `tls-crypt` key, by which control messages are encrypted.
struct Wrap {
    /// What clients send with, and what servers do.
    ours: Direction,
    theirs: Direction,
}

struct Direction {
    cipher: [u8; 32],
    hmac: hmac::Key,
}

impl Direction {
    /// One half of a static key: 64 bytes for a cipher, 64 for an HMAC, of which 32 are used.
    fn new(half: &[u8]) -> Option<Self> {
        let cipher = half.get(..32)?.try_into().ok()?;
        Some(Self { cipher, hmac: hmac::Key::new(hmac::HMAC_SHA256, half.get(64..96)?) })
    }

    /// A message as it is sent with this key: a header in clear text, the tag of all of it, and the encrypted rest.
    fn wrapped(&self, header: &[u8], mut body: Vec<u8>) -> Vec<u8> {
        let tag = hmac::sign(&self.hmac, &[header, &body].concat());
        self.crypt(tag.as_ref(), &mut body);
        [header, tag.as_ref(), &body].concat()
    }

    fn crypt(&self, tag: &[u8], text: &mut [u8]) {
        if let Ok(mut cipher) = ctr::Ctr128BE::<Aes256>::new_from_slices(&self.cipher, &tag[..16]) {
            cipher.apply_keystream(text);
        }
    }
}

/// What is known of the servers.
pub(super) struct Servers(Option<Wrap>);

impl Servers {
    /// From the configuration, if its files were read.
    pub(super) fn new(config: &OpenVpn) -> Option<Self> {
        match &config.tls_crypt_file {
            None => Some(Self(None)),
            Some(file) => Self::with(file.contents.as_ref()?),
        }
    }

    fn with(key: &ControlKey) -> Option<Self> {
        let (theirs, ours) = key.0.split_at(128);
        Some(Self(Some(Wrap { ours: Direction::new(ours)?, theirs: Direction::new(theirs)? })))
    }

    /// Sends a reset, and waits for the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn probe(&self, to: SocketAddr, patience: Duration) -> Result<(), Failure> {
        let session = fastrand::u64(..).to_be_bytes();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as u32;
        let reset = self.reset(session, now);
        let is_answer = |datagram: &[u8]| self.answers(session, datagram);
        let answered = exchange(to, &reset, "answer to a reset", patience, is_answer).await;
        let wrapped = || "does it want `tls-crypt`, so that the probe needs `tls_crypt_file`?";
        answered.map_err(|failure| match self.0 {
            None => failure.if_late(|| wrapped().to_owned()),
            Some(_) => failure,
        })
    }

    fn reset(&self, session: [u8; 8], now: u32) -> Vec<u8> {
        let mut message = vec![CLIENT];
        message.extend(session);
        // It acknowledges nothing, and is message 0.
        let body = [0; 5];
        let Some(wrap) = &self.0 else { return [&message[..], &body].concat() };
        message.extend(1_u32.to_be_bytes());
        message.extend(now.to_be_bytes());
        wrap.ours.wrapped(&message, body.to_vec())
    }

    /// Whether it is a server's reset that acknowledges ours.
    fn answers(&self, session: [u8; 8], datagram: &[u8]) -> bool {
        if datagram.first() != Some(&SERVER) {
            return false;
        }
        let body = match &self.0 {
            None => datagram.get(HEADER..).map(<[u8]>::to_vec),
            Some(wrap) => unwrapped(&wrap.theirs, datagram),
        };
        // One message, message 0, of our session.
        let acknowledges = [&[1, 0, 0, 0, 0][..], &session].concat();
        body.is_some_and(|body| body.starts_with(&acknowledges))
    }
}

/// What is in an encrypted message, if it is genuine.
fn unwrapped(with: &Direction, datagram: &[u8]) -> Option<Vec<u8>> {
    let (clear, rest) = datagram.split_at_checked(HEADER + REPLAY)?;
    let (tag, body) = rest.split_at_checked(TAG)?;
    let mut body = body.to_vec();
    with.crypt(tag, &mut body);
    hmac::verify(&with.hmac, &[clear, &body].concat(), tag).ok()?;
    Some(body)
}

/// See [`crate::fuzz::openvpn_answers`].
#[cfg(feature = "fuzz")]
pub(crate) fn answers(key: Option<&ControlKey>, session: [u8; 8], datagram: &[u8]) -> bool {
    let servers = key.map_or(Some(Servers(None)), Servers::with);
    servers.is_some_and(|servers| servers.answers(session, datagram))
}

/// See [`crate::fuzz::openvpn_wrapped`].
#[cfg(feature = "fuzz")]
pub(crate) fn of_server(key: &ControlKey, header: [u8; 17], body: Vec<u8>) -> Option<Vec<u8>> {
    Some(Servers::with(key)?.0?.theirs.wrapped(&header, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

    fn answer(acknowledged: [u8; 8]) -> Vec<u8> {
        let mut answer = vec![SERVER];
        answer.extend([9; 8]);
        answer.extend([1, 0, 0, 0, 0]);
        answer.extend(acknowledged);
        answer.extend([0; 4]);
        answer
    }

    #[test]
    fn a_reset_is_answered_by_one_that_acknowledges_it() {
        let servers = Servers(None);
        assert_eq!(servers.reset(SESSION, 0).len(), 14);
        let good = answer(SESSION);
        assert!(servers.answers(SESSION, &good));
        assert!(!servers.answers(SESSION, &answer([0; 8])));
        assert!(!servers.answers(SESSION, &servers.reset(SESSION, 0)), "our own");
        for length in 0..22 {
            assert!(!servers.answers(SESSION, &good[..length]), "{length}");
        }
    }

    #[test]
    fn encrypted_messages_are_genuine_or_none() {
        let key: [u8; 256] = std::array::from_fn(|n| n as u8);
        let half = |at: usize| Direction::new(&key[at..at + 128]).unwrap();
        let servers = Servers::with(&ControlKey(key)).unwrap();
        let reset = servers.reset(SESSION, 1_700_000_000);
        assert_eq!(reset.len(), 54);
        assert_eq!(unwrapped(&half(128), &reset), Some(vec![0; 5]), "as a server reads it");
        assert_eq!(unwrapped(&half(0), &reset), None);
        let mut other = reset;
        other[53] ^= 1;
        assert_eq!(unwrapped(&half(128), &other), None);
        assert!(!servers.answers(SESSION, &answer(SESSION)), "in clear text");
    }
}
