//! Probes by the first message of IKEv2 (RFC 7296). It proposes algorithms that nobody has, so that a server refuses it and keeps no
//! half-open exchange, of which it would take a few from each address alone.

use std::net::SocketAddr;
use std::time::Duration;

use super::datagram::exchange;
use super::probe::Failure;

/// Where there is no marker (RFC 3948, 2.2).
const IKE_PORT: u16 = 500;
const MARKER: [u8; 4] = [0; 4];

const HEADER: usize = 28;
const SA_INIT: u8 = 34;
const VERSION: u8 = 0x20;
const INITIATOR: u8 = 0x08;
const RESPONSE: u8 = 0x20;

const SECURITY_ASSOCIATION: u8 = 33;
const KEY_EXCHANGE: u8 = 34;
const NONCE: u8 = 40;
/// Of private use: no algorithm of any kind.
const NOBODYS: u16 = 65_535;
const CURVE25519: u16 = 31;

/// Sends a request, and waits for a response: whatever it says, somebody gave it.
///
/// # Errors
/// Why there is none.
pub(super) async fn probe(to: SocketAddr, patience: Duration) -> Result<(), Failure> {
    let spi = (fastrand::u64(..) | 1).to_be_bytes();
    let message = [marker(to.port()), &request(spi)].concat();
    let is_answer = |datagram: &[u8]| answers(to.port(), spi, datagram);
    exchange(to, &message, "response of IKE", patience, is_answer).await
}

/// What stands before IKE at a port.
const fn marker(port: u16) -> &'static [u8] {
    if port == IKE_PORT { &[] } else { &MARKER }
}

/// Whether what comes from a port is the response to the request with this SPI.
pub(crate) fn answers(port: u16, spi: [u8; 8], datagram: &[u8]) -> bool {
    datagram.strip_prefix(marker(port)).is_some_and(|message| is_response(spi, message))
}

/// An `IKE_SA_INIT` request.
fn request(spi: [u8; 8]) -> Vec<u8> {
    let transform = |more: bool, kind: u8, id: u16| {
        let [id0, id1] = id.to_be_bytes();
        [if more { 3 } else { 0 }, 0, 0, 8, kind, 0, id0, id1]
    };
    // Encryption, pseudorandom function, integrity, key exchange.
    let transforms = [
        transform(true, 1, NOBODYS),
        transform(true, 2, NOBODYS),
        transform(true, 3, NOBODYS),
        transform(false, 4, CURVE25519),
    ];
    // The only proposal, the first, of IKE, without an SPI.
    let mut proposal = vec![0, 0, 0, 8 + 32, 1, 1, 0, transforms.len() as u8];
    proposal.extend(transforms.as_flattened());
    let [group0, group1] = CURVE25519.to_be_bytes();
    let mut public = vec![group0, group1, 0, 0];
    public.extend(random());

    let mut message = Vec::from(spi);
    message.extend([0; 8]);
    message.extend([SECURITY_ASSOCIATION, VERSION, SA_INIT, INITIATOR]);
    message.extend([0; 8]);
    message.extend(payload(KEY_EXCHANGE, &proposal));
    message.extend(payload(NONCE, &public));
    message.extend(payload(0, &random()));
    let length = (message.len() as u32).to_be_bytes();
    message[HEADER - 4..HEADER].copy_from_slice(&length);
    message
}

/// A payload, and which comes next.
fn payload(next: u8, body: &[u8]) -> Vec<u8> {
    let [length0, length1] = (4 + body.len() as u16).to_be_bytes();
    [&[next, 0, length0, length1], body].concat()
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    fastrand::fill(&mut bytes);
    bytes
}

/// Whether it is the response to the request with this SPI.
fn is_response(spi: [u8; 8], message: &[u8]) -> bool {
    message.len() >= HEADER
        && message[..8] == spi
        && message[17] & 0xf0 == VERSION & 0xf0
        && message[18] == SA_INIT
        && message[19] & (RESPONSE | INITIATOR) == RESPONSE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_gives_back_the_spi_and_nothing_else_does() {
        let spi = [7; 8];
        let request = request(spi);
        assert_eq!(request.len(), HEADER + 44 + 40 + 36);
        assert!(!is_response(spi, &request), "a request is none");
        let mut response = request;
        response[19] = RESPONSE;
        response.truncate(HEADER);
        assert!(is_response(spi, &response));
        assert!(!is_response([8; 8], &response));
        for length in 0..HEADER {
            assert!(!is_response(spi, &response[..length]));
        }
        response[17] = 0x10;
        assert!(!is_response(spi, &response), "IKEv1");
    }
}
