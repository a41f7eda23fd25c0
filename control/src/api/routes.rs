//! What can be asked.

use std::time::Duration;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{OriginalUri, Path, Query, State};
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::listed::listed;
use super::metrics;
use super::openapi::openapi;
use super::problem::Problem;
use crate::daemon::Handle;
use crate::daemon::view::{
    Backend, Counter, Difference, Done, NextHop, Pool, Reloaded, Route, Service, Session,
    SessionFilter, Status, Tenant, Verified,
};

/// A backend is to get no new sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// The backend: its name, or `pool/name`.
    pub backend: String,
    /// In how many seconds what is left of its sessions is ended, at most ten years; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// Over how many seconds it is ended then, so that not all clients come back at once; 30 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<u64>,
}

/// A backend is to get new sessions again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UndrainRequest {
    /// The backend: its name, or `pool/name`.
    pub backend: String,
}

/// The configuration is to be read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// In how many seconds it is taken back, at most ten years, unless it is confirmed before; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<u64>,
}

/// A backend is to get another share of new sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightRequest {
    /// The backend: its name, or `pool/name`.
    pub backend: String,
    /// Its share relative to the pool's others; the configured one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// Over how long a drain's sessions are ended, if nothing is said.
const SPREAD: Duration = Duration::from_secs(30);

type Answer<T> = Result<Json<T>, Problem>;
type Body<T> = Result<Json<T>, JsonRejection>;

pub(super) fn router(handle: Handle) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/tenants", get(tenants))
        .route("/v1/services", get(services))
        .route("/v1/pools", get(pools))
        .route("/v1/backends", get(backends))
        .route("/v1/backends/drain", post(drain))
        .route("/v1/backends/undrain", post(undrain))
        .route("/v1/backends/weight", post(weight))
        .route("/v1/sessions", get(sessions))
        .route("/v1/sessions/{id}", get(session).delete(kill))
        .route("/v1/routes", get(routes))
        .route("/v1/nexthops", get(nexthops))
        .route("/v1/counters", get(counters))
        .route("/v1/difference", get(difference))
        .route("/v1/apply", post(apply))
        .route("/v1/confirm", post(confirm))
        .route("/v1/revert", post(revert))
        .route("/v1/verify", post(verify))
        .route("/v1/reload", post(reload))
        .route("/v1/openapi.json", get(async || Json(openapi())))
        .route("/metrics", get(prometheus))
        .fallback(async |OriginalUri(uri): OriginalUri| Problem::no_path(uri.path()))
        .method_not_allowed_fallback(async |method: Method, OriginalUri(uri): OriginalUri| {
            Problem::no_method(&method, uri.path())
        })
        .with_state(handle)
}

/// What is served to Prometheus, and to nobody else: no change can be made there.
pub(super) fn metrics_router(handle: Handle) -> Router {
    Router::new()
        .route("/metrics", get(prometheus))
        .fallback(async || Problem::no_path("such path but /metrics"))
        .with_state(handle)
}

macro_rules! reads {
    ($($(#[$doc:meta])* $name:ident $path:literal $ty:ty;)*) => {$(
        $(#[$doc])*
        #[utoipa::path(get, path = $path, responses(
            (status = 200, body = $ty),
            (status = "default", body = Problem, content_type = "application/problem+json"),
        ))]
        pub(super) async fn $name(State(handle): State<Handle>) -> Answer<$ty> {
            Ok(Json(handle.$name().await?))
        }
    )*};
}

reads! {
    /// How the gateway is.
    status "/v1/status" Status;
    /// All tenants, with their quotas and traffic.
    tenants "/v1/tenants" Vec<Tenant>;
    /// All services.
    services "/v1/services" Vec<Service>;
    /// All pools.
    pools "/v1/pools" Vec<Pool>;
    /// All backends.
    backends "/v1/backends" Vec<Backend>;
    /// Next hops.
    nexthops "/v1/nexthops" Vec<NextHop>;
    /// What became of packets, by reason.
    counters "/v1/counters" Vec<Counter>;
}

/// Routes to clients, as mirrored from the kernel.
#[utoipa::path(get, path = "/v1/routes", responses(
    (status = 200, body = Vec<Route>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn routes(State(handle): State<Handle>) -> Response {
    listed(handle.routes())
}

/// Sessions.
#[utoipa::path(get, path = "/v1/sessions", params(SessionFilter), responses(
    (status = 200, body = Vec<Session>),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn sessions(
    State(handle): State<Handle>,
    filter: Result<Query<SessionFilter>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(filter) = filter.map_err(|e| Problem::invalid(e.body_text()))?;
    Ok(listed(handle.sessions(filter).await?))
}

/// One session. The id may be abbreviated.
#[utoipa::path(get, path = "/v1/sessions/{id}", params(("id" = String, Path)), responses(
    (status = 200, body = Session),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn session(
    State(handle): State<Handle>,
    Path(id): Path<String>,
) -> Answer<Session> {
    Ok(Json(handle.session(id).await?))
}

/// Ends a session: its client's next handshake is placed anew.
#[utoipa::path(delete, path = "/v1/sessions/{id}", params(("id" = String, Path)), responses(
    (status = 200, body = Done),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn kill(State(handle): State<Handle>, Path(id): Path<String>) -> Answer<Done> {
    Ok(Json(handle.kill(id).await?))
}

/// Keeps new sessions away from a backend.
#[utoipa::path(post, path = "/v1/backends/drain", request_body = DrainRequest, responses(
    (status = 200, body = Done),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn drain(State(handle): State<Handle>, body: Body<DrainRequest>) -> Answer<Done> {
    let DrainRequest { backend, deadline, spread } = read(body)?;
    let spread = spread.map_or(SPREAD, Duration::from_secs);
    Ok(Json(handle.drain(backend, deadline.map(Duration::from_secs), spread).await?))
}

/// Lets a backend have new sessions again.
#[utoipa::path(post, path = "/v1/backends/undrain", request_body = UndrainRequest, responses(
    (status = 200, body = Done),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn undrain(
    State(handle): State<Handle>,
    body: Body<UndrainRequest>,
) -> Answer<Done> {
    Ok(Json(handle.undrain(read(body)?.backend).await?))
}

/// Changes a backend's share of new sessions.
#[utoipa::path(post, path = "/v1/backends/weight", request_body = WeightRequest, responses(
    (status = 200, body = Done),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn weight(
    State(handle): State<Handle>,
    body: Body<WeightRequest>,
) -> Answer<Done> {
    let WeightRequest { backend, weight } = read(body)?;
    Ok(Json(handle.weight(backend, weight).await?))
}

/// Reads the configuration again: it is applied, or nothing is changed.
#[utoipa::path(post, path = "/v1/reload", responses(
    (status = 200, body = Reloaded),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn reload(State(handle): State<Handle>) -> Answer<Reloaded> {
    Ok(Json(handle.reload().await?))
}

/// What reading the configuration again would change.
#[utoipa::path(get, path = "/v1/difference", responses(
    (status = 200, body = Difference),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn difference(State(handle): State<Handle>) -> Answer<Difference> {
    Ok(Json(handle.difference().await?))
}

/// Reads the configuration again; it is taken back if it is not confirmed in time.
#[utoipa::path(post, path = "/v1/apply", request_body = ApplyRequest, responses(
    (status = 200, body = Reloaded),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn apply(
    State(handle): State<Handle>,
    body: Body<ApplyRequest>,
) -> Answer<Reloaded> {
    Ok(Json(handle.apply(read(body)?.confirm.map(Duration::from_secs)).await?))
}

/// Keeps the configuration that is on trial.
#[utoipa::path(post, path = "/v1/confirm", responses(
    (status = 200, body = Done),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn confirm(State(handle): State<Handle>) -> Answer<Done> {
    Ok(Json(handle.confirm().await?))
}

/// Looks whether the tables hold what was written to them, and mends them.
#[utoipa::path(post, path = "/v1/verify", responses(
    (status = 200, body = Verified),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn verify(State(handle): State<Handle>) -> Answer<Verified> {
    Ok(Json(handle.verify().await?))
}

/// Takes back the configuration that is on trial.
#[utoipa::path(post, path = "/v1/revert", responses(
    (status = 200, body = Reloaded),
    (status = "default", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn revert(State(handle): State<Handle>) -> Answer<Reloaded> {
    Ok(Json(handle.revert().await?))
}

/// Metrics in the format of OpenMetrics, which Prometheus reads.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "application/openmetrics-text")))]
pub(super) async fn prometheus(State(handle): State<Handle>) -> Result<impl IntoResponse, Problem> {
    let text = metrics::collect(&handle).await?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text))
}

fn read<T>(body: Body<T>) -> Result<T, Problem> {
    body.map(|Json(value)| value).map_err(|e| Problem::invalid(e.body_text()))
}
