//! Probes of real servers of TLS, HTTP and datagrams, in namespaces of the tests' own. Those of VPNs are probed in the end-to-end tests.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::asker::Asker;
use super::icmp::Pinger;
use super::live_tests::health_by;
use super::probe::Failure;
use super::{Target, openvpn};
use crate::config::{
    Authorities, FileOf, Http, Https, OpenVpn, Payload, Port, Probe, PublicKey, StatusRange, Tls,
    Trust, Udp, WireGuard, WireGuardKey,
};
use crate::routing::netns::{Namespace, ip};

/// Patient enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long what does not come is waited for.
const SHORT: Duration = Duration::from_secs(2);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What a single probe of a port here finds.
async fn ask(probe: Probe, at: SocketAddr) -> Result<(), String> {
    asked(probe, at).await.map_err(Failure::into_text)
}

/// The same where no answer comes.
async fn ask_in_vain(probe: Probe, at: SocketAddr) -> Result<(), String> {
    asked_for(SHORT, probe, at).await.map_err(Failure::into_text)
}

async fn asked(probe: Probe, at: SocketAddr) -> Result<(), Failure> {
    asked_for(PATIENCE, probe, at).await
}

async fn asked_for(time: Duration, probe: Probe, at: SocketAddr) -> Result<(), Failure> {
    let target =
        Target { addresses: vec![at.ip()], port: Some(at.port()), health: health_by(probe) };
    let (asker, _) = Asker::new(&target, &Arc::new(Pinger::start().unwrap())).expect("probed");
    asker.ask(at.ip(), time).await
}

fn udp(send: &str, expect: Option<&str>) -> Probe {
    let payload = |text: &str| text.parse::<Payload>().unwrap();
    Probe::Udp(Udp { to: Port::default(), send: payload(send), expect: expect.map(payload) })
}

#[test]
fn a_datagram_is_answered_as_expected_or_not() {
    Namespace::new().run_async(|| async {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = server.local_addr().unwrap();
        let echo = tokio::spawn(async move {
            let mut datagram = [0; 100];
            loop {
                let (length, from) = server.recv_from(&mut datagram).await.unwrap();
                if datagram[..length] != *b"silence" {
                    server.send_to(&datagram[..length], from).await.unwrap();
                }
            }
        });
        assert_eq!(ask(udp("0x0102ff", None), at).await, Ok(()));
        assert_eq!(ask(udp("0x0102ff", Some("0x01")), at).await, Ok(()));
        let other = ask_in_vain(udp("ping", Some("pong")), at).await;
        assert_eq!(other, Err(format!("{at}: no answer that begins as expected within 2s")));
        let none = ask_in_vain(udp("silence", None), at).await;
        assert_eq!(none, Err(format!("{at}: no answer within 2s")));
        echo.abort();
        assert!(echo.await.unwrap_err().is_cancelled());
        // Nothing is waited for.
        let started = std::time::Instant::now();
        let gone = ask(udp("ping", None), at).await;
        assert_eq!(gone, Err(format!("{at}: nothing listens there (ICMP port unreachable)")));
        assert!(started.elapsed() < PATIENCE);
    });
}

/// What the gateway's own firewall does says nothing about a backend.
#[test]
fn what_the_gateway_may_not_send_does_not_count() {
    Namespace::new().run_async(|| async {
        // Linux answers with EACCES.
        ip("route add prohibit 10.0.0.9/32");
        let at = "10.0.0.9:7".parse().unwrap();
        assert!(matches!(asked(udp("ping", None), at).await, Err(Failure::Gateway(_))));
        assert!(matches!(asked(Probe::Tcp(Port::default()), at).await, Err(Failure::Gateway(_))));
        ip("route add unreachable 10.0.0.8/32");
        let at = "10.0.0.8:7".parse().unwrap();
        assert!(asked(udp("ping", None), at).await.is_err_and(|failure| failure.is_backends()));
    });
}

#[test]
fn servers_of_vpns_that_say_nothing_are_told_of_with_what_to_look_at() {
    Namespace::new().run_async(|| async {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = silent.local_addr().unwrap();
        let key = |bytes| FileOf { path: "/k".into(), contents: Some(WireGuardKey(bytes)) };
        let wireguard = |private_key_file| {
            Probe::WireGuard(WireGuard {
                to: Port::default(),
                public_key: PublicKey([9; 32]),
                private_key_file,
                preshared_key_file: None,
            })
        };
        let said = ask_in_vain(wireguard(key([7; 32])), at).await.unwrap_err();
        let public = PublicKey(
            boringtun::x25519::PublicKey::from(&boringtun::x25519::StaticSecret::from([7; 32]))
                .to_bytes(),
        );
        assert_eq!(
            said,
            format!("{at}: no handshake response within 2s: does it know the probe's public key {public}?")
        );
        let unread = FileOf { path: "/k".into(), contents: None };
        assert!(matches!(asked(wireguard(unread), at).await, Err(Failure::Gateway(_))));

        let config = OpenVpn { to: Port::default(), tls_crypt_file: None };
        assert!(openvpn::Servers::new(&config).is_some());
        let said = ask_in_vain(Probe::OpenVpn(config), at).await.unwrap_err();
        assert!(said.starts_with(&format!("{at}: no answer to a reset within 2s: ")), "{said}");
        let said = ask_in_vain(Probe::Ike(Port::default()), at).await.unwrap_err();
        assert_eq!(said, format!("{at}: no response of IKE within 2s"));
    });
}

/// An authority, and a server's certificate of it for a name.
struct Pki {
    authority: CertificateDer<'static>,
    server: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

fn pki(name: &str) -> Pki {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let server = params.signed_by(&key, &issuer).unwrap();
    Pki {
        authority: issuer.der().clone(),
        server: server.der().clone(),
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    }
}

/// A TLS server that answers every request in the same way; where it is.
async fn tls_server(pki: &Pki, asks_clients: bool) -> SocketAddr {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if asks_clients {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(pki.authority.clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        builder.with_client_cert_verifier(verifier.unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let config = builder.with_single_cert(vec![pki.server.clone()], pki.key.clone_key()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
                    let _ = stream.write_all(answer).await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    at
}

fn tls(trust: Trust) -> Probe {
    Probe::Tls(Tls { to: Port::default(), trust })
}

fn signed_by(certificate: &CertificateDer<'static>, name: Option<&str>) -> Trust {
    let contents = Some(Authorities(vec![certificate.clone()]));
    Trust {
        server_name: name.map(str::to_owned),
        ca_file: Some(FileOf { path: "/ca.pem".into(), contents }),
    }
}

fn https(trust: Trust, status: &str) -> Probe {
    Probe::Https(Https { http: request("/", None, status), trust })
}

fn request(path: &str, host: Option<&str>, status: &str) -> Http {
    Http {
        to: Port::default(),
        path: path.to_owned(),
        host: host.map(str::to_owned),
        status: status.parse().unwrap(),
    }
}

#[test]
fn a_handshake_of_tls_is_asked_for_and_its_certificate_only_if_it_is_said_so() {
    Namespace::new().run_async(|| async {
        let (good, other) = (pki("vpn.example.org"), pki("vpn.example.org"));
        let at = tls_server(&good, false).await;
        assert_eq!(ask(tls(Trust::default()), at).await, Ok(()));
        let named = |authority, name| tls(signed_by(authority, name));
        assert_eq!(ask(named(&good.authority, Some("vpn.example.org")), at).await, Ok(()));
        let said = ask(named(&good.authority, Some("www.example.org")), at).await.unwrap_err();
        assert!(said.starts_with(&format!("{at}: TLS: invalid peer certificate")), "{said}");
        let said = ask(named(&good.authority, None), at).await.unwrap_err();
        assert!(said.contains("not valid for name \"127.0.0.1\""), "{said}");
        let said = ask(named(&other.authority, Some("vpn.example.org")), at).await.unwrap_err();
        assert!(said.contains("invalid peer certificate"), "{said}");
        // Who asks for a client's certificate is alive.
        let strict = tls_server(&good, true).await;
        assert_eq!(ask(tls(Trust::default()), strict).await, Ok(()));

        assert_eq!(ask(https(Trust::default(), "204"), at).await, Ok(()));
        let said = ask(https(Trust::default(), "200"), at).await;
        assert_eq!(said, Err(format!("{at}: `GET /` is answered with 204, not 200")));
        let said = ask(https(signed_by(&other.authority, None), "204"), at).await.unwrap_err();
        assert!(said.contains("invalid peer certificate"), "{said}");
    });
}

#[test]
fn what_does_not_speak_tls_is_told_as_that() {
    Namespace::new().run_async(|| async {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let said = ask_in_vain(tls(Trust::default()), at).await;
        assert_eq!(said, Err(format!("{at}: no TLS handshake within 2s")), "it says nothing");
        let server = axum::serve(listener, Router::new());
        tokio::spawn(async move { server.await.unwrap() });
        let said = ask(tls(Trust::default()), at).await;
        assert_eq!(said, Err(format!("{at}: what answers there does not speak TLS")));
        let closed = SocketAddr::new(HERE, 1);
        let said = ask(tls(Trust::default()), closed).await.unwrap_err();
        assert!(said.starts_with("127.0.0.1:1: Connection refused"), "{said}");
    });
}

#[test]
fn a_request_is_answered_with_a_status() {
    Namespace::new().run_async(|| async {
        let health = |headers: HeaderMap| async move {
            match headers["host"].to_str() {
                Ok("vpn.example.org") => StatusCode::OK,
                _ => StatusCode::MISDIRECTED_REQUEST,
            }
        };
        let app = Router::new()
            .route("/health", get(health))
            .route("/busy", get(|| async { StatusCode::SERVICE_UNAVAILABLE }))
            .route("/slow", get(|| async { tokio::time::sleep(10 * PATIENCE).await }));
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let http = |path, host, status| Probe::Http(request(path, host, status));
        let good = StatusRange::GOOD.to_string();
        assert_eq!(ask(http("/health", Some("vpn.example.org"), &good), at).await, Ok(()));
        assert_eq!(ask(http("/health", None, "421"), at).await, Ok(()));
        let said = ask(http("/busy", None, &good), at).await;
        assert_eq!(said, Err(format!("{at}: `GET /busy` is answered with 503, not 200-299")));
        let said = ask_in_vain(http("/slow", None, &good), at).await;
        assert_eq!(said, Err(format!("{at}: no answer within 2s")));
        server.abort();
        assert!(server.await.unwrap_err().is_cancelled());
        let said = ask(http("/health", None, &good), at).await.unwrap_err();
        assert!(said.contains("Connection refused"), "{said}");
        // One that is no server of HTTP.
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"SSH-2.0-OpenSSH\r\n").await.unwrap();
            tokio::time::sleep(PATIENCE).await;
        });
        let said = ask(http("/", None, &good), at).await.unwrap_err();
        assert!(said.starts_with(&format!("{at}: HTTP: ")), "{said}");
    });
}
