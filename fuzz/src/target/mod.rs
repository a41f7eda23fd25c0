//! One file for each target.

mod agent;
mod api;
mod config;
mod dtls;
mod echo;
mod frames;
mod headers;
mod ike;
mod ipsec;
mod keys;
mod layout;
mod names;
mod netlink;
mod openvpn;
mod probes;
mod quic;
mod quic_lb;
mod state;
mod stream;
mod tcp;
mod wireguard;

use crate::Target;

/// All targets.
pub const TARGETS: &[Target] = &[
    headers::TARGET,
    wireguard::TARGET,
    openvpn::TARGET,
    ike::TARGET,
    ipsec::TARGET,
    quic::TARGET,
    quic_lb::TARGET,
    dtls::TARGET,
    tcp::TARGET,
    frames::TARGET,
    stream::TARGET,
    agent::TARGET,
    echo::TARGET,
    probes::TARGET,
    config::TARGET,
    keys::TARGET,
    names::TARGET,
    state::TARGET,
    layout::TARGET,
    api::TARGET,
    netlink::TARGET,
];
