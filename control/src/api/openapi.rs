//! The document that describes the API.

use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Document;

use super::routes;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Fernpass",
        description = "The API of the Fernpass session gateway, on its Unix socket."
    ),
    paths(
        routes::status,
        routes::tenants,
        routes::services,
        routes::pools,
        routes::backends,
        routes::drain,
        routes::undrain,
        routes::weight,
        routes::sessions,
        routes::session,
        routes::kill,
        routes::routes,
        routes::nexthops,
        routes::counters,
        routes::reload,
        routes::difference,
        routes::apply,
        routes::confirm,
        routes::revert,
        routes::verify,
        routes::prometheus,
    )
)]
struct Api;

/// The document.
pub fn openapi() -> Document {
    Api::openapi()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_document_is_the_codes() {
        let committed = include_str!("../../openapi.json");
        let code = super::openapi().to_pretty_json().unwrap() + "\n";
        assert!(
            committed == code,
            "write it anew with: cargo run -p fernpass -- openapi > control/openapi.json"
        );
    }
}
