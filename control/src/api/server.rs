//! The sockets.

use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use axum::middleware;
use tokio::net::{TcpListener, UnixListener};

use super::audit::audit;
use super::bounded::{Bounded, Peer};
use super::routes::{metrics_router, router};
use crate::config::Api;
use crate::daemon::Handle;

/// The API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The Unix socket.
    #[error("cannot listen on {path}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon's socket.
    #[error("another daemon answers on {0}; give this one another [api] socket")]
    Taken(PathBuf),
    /// The metrics' address.
    #[error("cannot serve metrics on {address}: {source}")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// The sockets, open.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    api: UnixListener,
    metrics: Option<TcpListener>,
}

impl Server {
    /// Opens the sockets. The Unix socket can be used by root and its group.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn bind(api: &Api) -> Result<Self, ServeError> {
        let path = api.socket.clone();
        let failed = |source| ServeError::Socket { path: path.clone(), source };
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(ServeError::Taken(path));
        }
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        remove_stale(&path).map_err(failed)?;
        let listener = UnixListener::bind(&path).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
        let metrics = match api.metrics {
            Some(address) => Some(
                TcpListener::bind(address)
                    .await
                    .map_err(|source| ServeError::Metrics { address, source })?,
            ),
            None => None,
        };
        Ok(Self { path, api: listener, metrics })
    }

    /// Answers until `shutdown`.
    pub async fn serve(self, handle: Handle, shutdown: impl Future<Output = ()> + Send + 'static) {
        if let Some(listener) = self.metrics {
            let app = metrics_router(handle.clone());
            tokio::spawn(async move { axum::serve(Bounded::new(listener), app).await });
        }
        let app = router(handle)
            .layer(middleware::from_fn(audit))
            .into_make_service_with_connect_info::<Peer>();
        let served =
            axum::serve(Bounded::new(self.api), app).with_graceful_shutdown(shutdown).await;
        if let Err(e) = served {
            tracing::error!("the API ended: {e}");
        }
        // The next daemon would find it stale.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the socket that a daemon left behind which was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    match fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}
