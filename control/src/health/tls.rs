//! Probes by a handshake of TLS. That the backend is alive is what is asked; whether its certificate is good, only where the configuration
//! says who signs it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::probe::Failure;
use super::tcp;
use crate::config::Trust;

/// How hands are shaken, made ready.
pub(super) struct Client {
    connector: TlsConnector,
    /// The address if there is none.
    name: Option<ServerName<'static>>,
}

impl Client {
    /// From the configuration, if its files were read.
    pub(super) fn new(trust: &Trust) -> Option<Self> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .ok()?;
        let mut config = match &trust.ca_file {
            None => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
            }
            Some(file) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(file.contents.as_ref()?.0.iter().cloned());
                builder.with_root_certificates(roots)
            }
        }
        .with_no_client_auth();
        // A session that is resumed would prove less.
        config.resumption = Resumption::disabled();
        let name = match &trust.server_name {
            None => None,
            Some(name) => Some(ServerName::try_from(name.clone()).ok()?),
        };
        Some(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Shakes hands, and says farewell.
    ///
    /// # Errors
    /// Why they are not shaken.
    pub(super) async fn probe(&self, to: SocketAddr, patience: Duration) -> Result<(), Failure> {
        let shaken = async {
            match self.connect(to).await {
                Ok(mut stream) => {
                    // It may have closed the connection by itself.
                    let _ = stream.shutdown().await;
                    Ok(())
                }
                Err(e) if wants_certificate(&e) => Ok(()),
                Err(e) => Err(failure(to, &e)),
            }
        };
        match timeout(patience, shaken).await {
            Ok(result) => result,
            Err(_) => Err(Failure::late(to, "TLS handshake", patience)),
        }
    }

    /// A connection after its handshake.
    pub(super) async fn connect(&self, to: SocketAddr) -> io::Result<TlsStream<TcpStream>> {
        let stream = tcp::connect(to).await?;
        let name = self.name.clone().unwrap_or_else(|| to.ip().into());
        self.connector.connect(name, stream).await
    }
}

/// What went wrong, of a connection or in its handshake.
pub(super) fn failure(to: SocketAddr, error: &io::Error) -> Failure {
    match refusal(error) {
        Some(Error::InvalidMessage(_)) => {
            Failure::Backend(format!("{to}: what answers there does not speak TLS"))
        }
        Some(e) => Failure::Backend(format!("{to}: TLS: {e}")),
        None => Failure::of(to, error),
    }
}

/// What is wrong with a handshake, if it is not with the connection.
fn refusal(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// A server that wants to know who is asking is alive.
fn wants_certificate(error: &io::Error) -> bool {
    use AlertDescription as Alert;
    let wanted = [Alert::CertificateRequired, Alert::BadCertificate, Alert::NoCertificate];
    matches!(refusal(error), Some(Error::AlertReceived(alert)) if wanted.contains(alert))
}

/// Believes everybody who has the key to the certificate.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
