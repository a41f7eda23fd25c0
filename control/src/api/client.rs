//! The other end of the API, for the command line.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::problem::Problem;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The daemon cannot be asked, or refuses.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No socket.
    #[error(
        "there is no socket {0}; is the daemon running (`fernpass run`), and with this --socket?"
    )]
    NoSocket(PathBuf),
    /// A socket, but nobody listens.
    #[error(
        "no daemon answers on {0}; it was stopped or killed (packets are forwarded nevertheless)"
    )]
    NoDaemon(PathBuf),
    /// Not allowed to.
    #[error("{0}: permission denied; the socket is for root and its group")]
    Rights(PathBuf),
    /// Something else with the connection.
    #[error("cannot talk to the daemon on {path}: {reason}")]
    Connection {
        /// The socket.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No answer.
    #[error("the daemon does not answer within {PATIENCE:?}")]
    Timeout,
    /// The daemon refuses.
    #[error("{}", .0.detail)]
    Refused(Problem),
}

/// Asks a daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon on this socket.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// GET.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::DELETE, path, Bytes::new()).await
    }

    /// POST, with JSON.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| self.failed(&e))?;
        self.ask(Method::POST, path, body.into()).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let answer = timeout(PATIENCE, self.exchange(method, path, body));
        let (status, body) = answer.await.map_err(|_| ClientError::Timeout)??;
        if !status.is_success() {
            let problem = serde_json::from_slice(&body).map_err(|_| {
                self.failed(&format!("{status}: {}", String::from_utf8_lossy(&body)))
            })?;
            return Err(ClientError::Refused(problem));
        }
        serde_json::from_slice(&body)
            .map_err(|e| self.failed(&format!("an answer of another version? {e}")))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| self.unreachable(&e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.failed(&e))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "fernpass")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| self.failed(&e))?;
        let response = sender.send_request(request).await.map_err(|e| self.failed(&e))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|e| self.failed(&e))?;
        Ok((status, body.to_bytes()))
    }

    fn unreachable(&self, error: &io::Error) -> ClientError {
        let path = self.socket.clone();
        match error.kind() {
            io::ErrorKind::NotFound => ClientError::NoSocket(path),
            io::ErrorKind::ConnectionRefused => ClientError::NoDaemon(path),
            io::ErrorKind::PermissionDenied => ClientError::Rights(path),
            _ => self.failed(error),
        }
    }

    fn failed(&self, reason: &dyn std::fmt::Display) -> ClientError {
        ClientError::Connection { path: self.socket.clone(), reason: reason.to_string() }
    }
}
