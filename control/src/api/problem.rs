//! Errors as problem details (RFC 9457).

use axum::Json;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::daemon::Refusal;

/// What went wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is; stable. One of `fernpass:not-found`, `fernpass:invalid`,
    /// `fernpass:configuration`, `fernpass:failed`, `fernpass:stopping`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind for people.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened.
    pub detail: String,
}

impl Problem {
    fn new(kind: &str, title: &str, status: StatusCode, detail: String) -> Self {
        Self {
            kind: format!("fernpass:{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
        }
    }

    /// A request that cannot be understood.
    pub(super) fn invalid(detail: String) -> Self {
        Self::new("invalid", "The request makes no sense", StatusCode::BAD_REQUEST, detail)
    }

    /// No such path.
    pub(super) fn no_path(path: &str) -> Self {
        let detail = format!("there is no {path}; see /v1/openapi.json");
        Self::new("not-found", "There is no such thing", StatusCode::NOT_FOUND, detail)
    }

    /// The path is there, and not for this method.
    pub(super) fn no_method(method: &Method, path: &str) -> Self {
        let detail = format!("{method} is not for {path}; see /v1/openapi.json");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::new("invalid", "The request makes no sense", status, detail)
    }

    /// Whether the configuration is at fault.
    pub fn is_configuration(&self) -> bool {
        self.kind == "fernpass:configuration"
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::NotFound(_) => {
                Self::new("not-found", "There is no such thing", StatusCode::NOT_FOUND, detail)
            }
            Refusal::Invalid(_) => Self::invalid(detail),
            Refusal::Config(_) => Self::new(
                "configuration",
                "The configuration has mistakes; nothing was changed",
                StatusCode::UNPROCESSABLE_ENTITY,
                detail,
            ),
            Refusal::Failed(_) => Self::new(
                "failed",
                "It was tried, and failed",
                StatusCode::INTERNAL_SERVER_ERROR,
                detail,
            ),
            Refusal::Stopping => Self::new(
                "stopping",
                "The daemon is stopping",
                StatusCode::SERVICE_UNAVAILABLE,
                detail,
            ),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (status, kind, Json(self)).into_response()
    }
}
