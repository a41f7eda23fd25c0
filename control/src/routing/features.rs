//! What drivers say they can do (`Documentation/netlink/specs/netdev.yaml`, Linux 6.3).

use futures_util::TryStreamExt as _;
use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload, Nla as _,
    NlasIterator, Parseable as _, ParseableParametrized,
};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};

use super::interfaces;

// include/uapi/linux/netdev.h
const CMD_DEV_GET: u8 = 1;
const A_DEV_IFINDEX: u16 = 1;
const A_DEV_XDP_FEATURES: u16 = 3;
const XDP_ACT_NDO_XMIT: u64 = 4;

/// A message of the family `netdev`: a request for one interface, or what is known of it.
#[derive(Clone, Debug)]
struct Device(Vec<DefaultNla>);

impl GenlFamily for Device {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        CMD_DEV_GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Device {
    fn buffer_len(&self) -> usize {
        self.0.as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.0.as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Device {
    fn parse_with_param(buffer: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        NlasIterator::new(buffer)
            .map(|nla| DefaultNla::parse(&nla?))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Whether an interface sends frames that are redirected to it in native mode. `None` if the
/// kernel does not tell.
pub async fn takes_redirects(index: u32) -> Option<bool> {
    let (connection, mut handle, _) = genetlink::new_connection().ok()?;
    tokio::spawn(connection);
    let request = Device(vec![DefaultNla::new(A_DEV_IFINDEX, index.to_ne_bytes().to_vec())]);
    let mut message = NetlinkMessage::from(GenlMessage::from_payload(request));
    message.header.flags = NLM_F_REQUEST;
    let answer = handle.request(message).await.ok()?.try_next().await.ok()??;
    let NetlinkPayload::InnerMessage(device) = answer.payload else { return None };
    let features = device.payload.0.iter().find(|nla| nla.kind() == A_DEV_XDP_FEATURES)?;
    let mut value = [0; 8];
    features.emit_value(value.get_mut(..features.value_len())?);
    Some(u64::from_ne_bytes(value) & XDP_ACT_NDO_XMIT != 0)
}

/// Says which of these interfaces lose what is forwarded to them: the kernel drops it
/// without a word, and it is counted as forwarded. To be asked when they run the program, without
/// which some drivers are no target.
pub async fn problems(names: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    for name in names {
        let Ok(index) = interfaces::index(name) else { continue };
        if takes_redirects(index).await == Some(false) {
            problems.push(format!(
                "what is forwarded to {name} is lost: its driver takes no redirected frames \
                 (a veth does once `ethtool -K PEER gro on` ran on its other end)"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::netns::Namespace;

    #[test]
    fn a_veth_is_a_target_once_its_peer_can_receive() {
        let namespace = Namespace::new();
        namespace.ip("link add one type veth peer name two");
        namespace.ip("link set one up");
        namespace.ip("link set two up");
        namespace.run_async(|| async {
            let names = ["one".to_owned(), "two".to_owned()];
            let index = interfaces::index("one").unwrap();
            // Before Linux 6.3 nothing is known.
            let Some(takes) = takes_redirects(index).await else { return };
            assert!(!takes, "the peer has neither GRO nor a program");
            let problems = problems(&names).await;
            assert!(problems.len() == 2 && problems[0].contains("one"), "{problems:?}");
            assert_eq!(takes_redirects(9999).await, None);
        });
    }
}
