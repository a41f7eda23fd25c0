//! Connection ids that a server gives out.

use std::time::Duration;

use quinn::{ConnectionId, ConnectionIdGenerator};

/// How servers choose connection ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuicIds {
    /// Eight random bytes.
    Random,
    /// The server's number in two bytes behind the first, which tells the length of the rest; then
    /// random ones: the unencrypted form of draft-ietf-quic-load-balancers, configuration 0.
    Numbered,
}

/// Length of an id.
const LENGTH: usize = 8;

/// Makes the ids of one server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Generator {
    pub(super) ids: QuicIds,
    pub(super) server: u8,
}

impl ConnectionIdGenerator for Generator {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; LENGTH];
        fastrand::Rng::new().fill(&mut id);
        if self.ids == QuicIds::Numbered {
            [id[0], id[1], id[2]] = [LENGTH as u8 - 1, 0, self.server];
        }
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
