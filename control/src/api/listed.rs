//! Long answers, of whose rows no more are in memory than those that are being sent.

use std::io;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

/// About as much is made at once, in bytes. hyper takes sixteen of them before they are sent.
const PIECE: usize = 8 << 10;

/// These rows, as a JSON array that is made while it is read. What is no row takes time to find: others get their turn.
pub(super) fn listed<T: Serialize + 'static>(
    rows: impl Iterator<Item = Option<T>> + Send + 'static,
) -> Response {
    let body = Body::from_stream(futures_util::stream::iter(pieces(rows)));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The array's text, in pieces.
fn pieces<T: Serialize>(
    rows: impl Iterator<Item = Option<T>>,
) -> impl Iterator<Item = io::Result<Bytes>> {
    let mut rows = rows.fuse();
    // What comes before the next row; `None` once all is said.
    let mut before = Some(b'[');
    std::iter::from_fn(move || {
        let mut piece = Vec::with_capacity(PIECE + 1024);
        while let Some(mark) = before {
            match rows.next() {
                Some(Some(row)) => {
                    piece.push(mark);
                    before = Some(b',');
                    if let Err(e) = serde_json::to_writer(&mut piece, &row) {
                        before = None;
                        return Some(Err(e.into()));
                    }
                    if piece.len() >= PIECE {
                        break;
                    }
                }
                Some(None) => {
                    // Space means nothing in JSON.
                    piece.push(b' ');
                    break;
                }
                None => {
                    before = None;
                    piece.extend_from_slice(if mark == b'[' { b"[]" } else { b"]" });
                }
            }
        }
        (!piece.is_empty()).then(|| Ok(piece.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_array_and_none_is_long() {
        for count in [0, 1, 2, 1000, 100_000] {
            let rows = || (0..count).map(|n| format!("row {n}"));
            let found = |n: usize| [None, None, Some(format!("row {n}")), None];
            let made: Vec<_> = pieces((0..count).flat_map(found)).map(Result::unwrap).collect();
            assert!(made.iter().all(|piece| piece.len() < PIECE + 100), "{count}");
            let text = made.concat();
            let read: Vec<String> = serde_json::from_slice(&text).unwrap();
            assert!(read.into_iter().eq(rows()), "{count}");
        }
    }
}
