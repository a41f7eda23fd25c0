//! End-to-end tests: the real gateway in native XDP between real peers. One
//! module for each area, one test for each scenario; the scenarios themselves,
//! and what they must show, are in `lab::scenario`, where the demo has them too.

mod agents;
mod api;
mod common;
mod configuration;
mod direct;
mod drift;
mod faults;
mod fragments;
mod growth;
mod interfaces;
mod ipsec;
mod mutated;
mod openvpn;
mod operations;
mod own_traffic;
mod paths;
mod plain_udp;
mod probes;
mod program;
mod protection;
mod quic;
mod roaming;
mod service;
mod sessions;
mod shares;
mod tcp;
mod tools;
mod wrong_input;
