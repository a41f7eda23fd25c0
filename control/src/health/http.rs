//! Probes by a request of HTTP, which is answered with a status.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::probe::Failure;
use super::{tcp, tls};
use crate::config::Http;

/// Asks, over TLS if there is a client of it.
///
/// # Errors
/// Why there is no good answer.
pub(super) async fn probe(
    to: SocketAddr,
    http: &Http,
    tls: Option<&tls::Client>,
    patience: Duration,
) -> Result<(), Failure> {
    let answered = async {
        match tls {
            None => {
                let stream = tcp::connect(to).await.map_err(|e| Failure::of(to, &e))?;
                status(to, http, stream).await
            }
            Some(client) => {
                let stream = client.connect(to).await.map_err(|e| tls::failure(to, &e))?;
                status(to, http, stream).await
            }
        }
    };
    let status = match timeout(patience, answered).await {
        Ok(status) => status?,
        Err(_) => return Err(Failure::late(to, "answer", patience)),
    };
    if http.status.contains(status) {
        return Ok(());
    }
    let (path, expected) = (&http.path, http.status);
    Err(Failure::Backend(format!("{to}: `GET {path}` is answered with {status}, not {expected}")))
}

async fn status(
    to: SocketAddr,
    http: &Http,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<u16, Failure> {
    let failed = |e: hyper::Error| Failure::Backend(format!("{to}: HTTP: {}", whole(&e)));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let host = http.host.clone().unwrap_or_else(|| to.to_string());
    let request = Request::get(&http.path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("fernpass/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| Failure::Gateway(format!("{to}: this cannot be asked: {e}")))?;
    let answer = sender.send_request(request);
    tokio::pin!(connection, answer);
    let answer = tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => match (answer.await, ended) {
            // Why there is no answer is known here alone; of one that is there, how the connection ended does not matter.
            (Err(_), Err(e)) => Err(e),
            (answer, _) => answer,
        },
    };
    Ok(answer.map_err(failed)?.status().as_u16())
}

/// An error with those that led to it.
fn whole(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
