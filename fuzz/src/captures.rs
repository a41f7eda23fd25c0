//! The captures of `control/tests/captures`, which are replayed there, too.

use std::path::Path;

use dataplane::fixture::capture;

/// Both sides of the captures whose files begin with a name.
fn files(name: &str) -> [Vec<u8>; 2] {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../control/tests/captures");
    ["outside", "inside"].map(|side| {
        let file = directory.join(format!("{name}-roam-{side}.pcap"));
        std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
    })
}

/// The frames.
pub(crate) fn frames(name: &str) -> Vec<Vec<u8>> {
    let files = files(name);
    files.iter().flat_map(|file| capture::frames(file)).map(<[u8]>::to_vec).collect()
}

/// The payloads of the datagrams from or to a port.
pub(crate) fn payloads(name: &str, port: u16) -> Vec<Vec<u8>> {
    files(name).iter().flat_map(|file| capture::payloads(file, port)).collect()
}
