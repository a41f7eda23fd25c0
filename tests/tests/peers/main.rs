//! Every kind of peer by itself, without a gateway program: plain kernel forwarding between
//! clients and servers. What fails here is no fault of the gateway.

mod anyconnect;
mod common;
mod ipsec;
mod killed;
mod openvpn;
mod quic;
mod tcp;
