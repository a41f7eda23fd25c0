//! What the API is asked: bodies and queries.

use axum::extract::Query;
use control::api::{ApplyRequest, DrainRequest, UndrainRequest, WeightRequest};
use control::daemon::view::SessionFilter;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Target;

pub(crate) const TARGET: Target =
    Target { words, ..Target::new("api", "bodies and queries of the API's requests", run, seeds) };

fn run(data: &[u8]) {
    body::<DrainRequest>(data);
    body::<UndrainRequest>(data);
    body::<WeightRequest>(data);
    body::<ApplyRequest>(data);
    let uri = [b"/v1/sessions?", data].concat();
    let Ok(uri) = axum::http::Uri::try_from(uri) else { return };
    // Refused or understood: an address is one, a number is one.
    let _ = Query::<SessionFilter>::try_from_uri(&uri);
}

/// What is understood is written in a way that means the same.
fn body<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(data: &[u8]) {
    let Ok(request) = serde_json::from_slice::<T>(data) else { return };
    let written = serde_json::to_vec(&request).expect("it has only what JSON has");
    assert_eq!(serde_json::from_slice::<T>(&written).ok(), Some(request));
}

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"backend":"wg-1","deadline":1800,"spread":30}"#,
        r#"{"backend":"wg-justiz/wg-1"}"#,
        r#"{"backend":"wg-1","weight":50}"#,
        r#"{"confirm":60}"#,
        "{}",
        "tenant=justiz&backend=wg-1&limit=5",
        "client=2001%3adb8%3a%3a1&service=vpn",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

fn words() -> Vec<String> {
    let words = ["\"backend\"", "\"deadline\"", "\"spread\"", "\"weight\"", "\"confirm\""];
    let keys = ["tenant=", "service=", "backend=", "client=", "limit=", "%3a"];
    words.into_iter().chain(keys).map(str::to_owned).collect()
}
