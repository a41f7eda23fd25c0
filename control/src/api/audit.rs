//! A line in the log for each change that somebody asked for: who, what, and what became of it.

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::bounded::Peer;
use super::problem::Problem;
use crate::daemon::Refusal;

/// Bytes of the largest request.
const LARGEST: usize = 64 << 10;
/// Characters of a request that are logged.
const SHOWN: usize = 400;

/// Logs what changes something, and refuses what is too large.
pub(super) async fn audit(
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST).await else {
        return Problem::invalid(format!("a request has {LARGEST} bytes at most")).into_response();
    };
    let is_change = head.method != Method::GET && head.method != Method::HEAD;
    let (method, path) = (head.method.clone(), head.uri.path().to_owned());
    // Its own characters, but for those that would break a line.
    let asked = String::from_utf8_lossy(&body);
    let asked: String = asked.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    let answer = next.run(Request::from_parts(head, Body::from(body)));
    if !is_change {
        return answer.await;
    }
    // On its own: what was begun is carried out, and told of, also if who asked for it has gone away.
    let answer = tokio::spawn(async move {
        let response = answer.await;
        let status = response.status().as_u16();
        let (uid, pid) = (peer.uid.unwrap_or(u32::MAX), peer.pid.unwrap_or(-1));
        tracing::info!(audit = true, uid, pid, %method, path, asked, status, "asked for a change");
        response
    });
    answer.await.unwrap_or_else(|_| Problem::from(Refusal::Stopping).into_response())
}
