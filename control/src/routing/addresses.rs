//! The host's own addresses, asked for once.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;

use super::socket::Requester;
use super::state::State;

/// All of them.
///
/// # Errors
/// Netlink does not work.
pub async fn own() -> io::Result<BTreeSet<IpAddr>> {
    Ok(read(&mut Requester::open()?).await?.addresses().collect())
}

/// A mirror that knows addresses and nothing else.
pub(super) async fn read(requester: &mut Requester) -> io::Result<State> {
    let mut state = State::default();
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let clear = |state: &mut State| *state = State::default();
    let each = |state: &mut State, message| {
        state.apply(0, &message);
    };
    requester.dump(&request, &mut state, clear, each).await?;
    Ok(state)
}
