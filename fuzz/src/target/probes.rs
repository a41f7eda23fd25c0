//! What health probes take for a backend's answer, of protocols whose messages they read themselves.

use control::config::ControlKey;
use control::fuzz::{ike_answers, openvpn_answers, openvpn_wrapped};
use dataplane::abi::Profile;
use dataplane::packet::Buffer;
use dataplane::profile::outbound_at;

use crate::{Target, captures};

pub(crate) const TARGET: Target =
    Target::new("probes", "what health probes take for a backend's answer", run, seeds);

/// Of the probe's own.
const SESSION: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const KEY: ControlKey = {
    let mut key = [0; 256];
    let mut n = 0;
    while n < key.len() {
        key[n] = n as u8;
        n += 1;
    }
    ControlKey(key)
};
/// Where IKE has no marker before it, and where it has.
const PORTS: [u16; 2] = [500, 4500];
/// A server's reset: opcode, its session, packet id and time.
const HEADER: [u8; 17] = [0x40, 9, 9, 9, 9, 9, 9, 9, 9, 0, 0, 0, 1, 0x65, 0x53, 0xf1, 0];
const CLEAR: usize = 9;

fn run(data: &[u8]) {
    openvpn(data);
    encrypted(data);
    for port in PORTS {
        ike(port, data);
    }
}

/// A server's reset that acknowledges ours alone, whatever comes behind that.
fn openvpn(data: &[u8]) {
    let is_reset = data.len() >= 22
        && data[0] == HEADER[0]
        && data[CLEAR..14] == [1, 0, 0, 0, 0]
        && data[14..22] == SESSION;
    assert_eq!(openvpn_answers(None, SESSION, data), is_reset);
    if is_reset {
        of_protocol(Profile::OpenVpn, data);
        assert!(openvpn_answers(None, SESSION, &data[..22]), "of what is behind it");
        assert!(!openvpn_answers(None, [0; 8], data), "of another session");
        assert!(!openvpn_answers(Some(&KEY), SESSION, data), "in clear text");
    }
}

/// What a server encrypts is what it says in clear text; nothing else has its tag.
fn encrypted(data: &[u8]) {
    let genuine = openvpn_wrapped(&KEY, HEADER, data.to_vec()).expect("the key has all parts");
    let clear = [&HEADER[..CLEAR], data].concat();
    let answers = openvpn_answers(Some(&KEY), SESSION, &genuine);
    assert_eq!(answers, openvpn_answers(None, SESSION, &clear));
    for genuine in [&genuine[..], data] {
        if openvpn_answers(Some(&KEY), SESSION, genuine) {
            forged(genuine, data.iter().fold(0, |sum, byte| sum * 31 % 9973 + usize::from(*byte)));
        }
    }
}

/// With another bit somewhere, or without its end, it is none.
fn forged(genuine: &[u8], bit: usize) {
    let mut forged = genuine.to_vec();
    forged[bit / 8 % genuine.len()] ^= 1 << (bit % 8);
    assert!(!openvpn_answers(Some(&KEY), SESSION, &forged), "forged");
    assert!(!openvpn_answers(Some(&KEY), SESSION, &genuine[..genuine.len() - 1]), "cut");
}

/// A response with our SPI, behind a marker where there is one.
fn ike(port: u16, data: &[u8]) {
    if !ike_answers(port, SESSION, data) {
        return;
    }
    let message = if port == 500 { data } else { &data[4..] };
    assert!(message.len() >= 28 && message[..8] == SESSION);
    assert!(!ike_answers(port, [8; 8], data), "to another request");
    let cut = data.len() - message.len() + 27;
    assert!(!ike_answers(port, SESSION, &data[..cut]), "cut");
    // Its sender's role and the direction are told by two bits.
    let mut request = data.to_vec();
    request[data.len() - message.len() + 19] ^= 0x28;
    assert!(!ike_answers(port, SESSION, &request), "a request");
}

/// The pipeline, which reads the same messages for itself, knows it for one of the protocol's.
fn of_protocol(profile: Profile, payload: &[u8]) {
    let packet = Buffer::new(payload, 0);
    let read = outbound_at(profile as u8, &packet, 0, payload.len() as u32);
    assert!(read.is_ok(), "{read:?}");
}

fn seeds() -> Vec<Vec<u8>> {
    let body = [&[1, 0, 0, 0, 0][..], &SESSION, &[0; 4]].concat();
    let mut seeds = vec![
        [&HEADER[..CLEAR], &body].concat(),
        body.clone(),
        openvpn_wrapped(&KEY, HEADER, body).expect("the key has all parts"),
    ];
    let mut response = [&SESSION[..], &[9; 8], &[0, 0x20, 34, 0x20, 0, 0, 0, 0]].concat();
    response.extend([0, 0, 0, 28]);
    seeds.push([&[0; 4][..], &response].concat());
    seeds.push(response);
    // Real ones, made answers to ours.
    for mut payload in captures::payloads("openvpn", 1194) {
        seeds.push(payload.clone());
        if let Some(acknowledged) = payload.get_mut(14..22) {
            acknowledged.copy_from_slice(&SESSION);
            seeds.push(payload);
        }
    }
    for mut payload in captures::payloads("ikev2-esp", 500) {
        if let Some(spi) = payload.get_mut(..8) {
            spi.copy_from_slice(&SESSION);
            seeds.push(payload);
        }
    }
    seeds
}
