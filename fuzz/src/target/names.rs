//! Backends, listeners and servers' ids as people write them.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use control::config::{BackendId, Config, Listener, ServerId};

use crate::Target;

pub(crate) const TARGET: Target =
    Target::new("names", "backends, listeners and servers' ids as people write them", run, seeds);

const CONFIG: &str = include_str!("../../../docs/fernpass.toml");

fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    reads_back::<BackendId>(text);
    reads_back::<Listener>(text);
    reads_back::<ServerId>(text);
    thread_local! {
        static EXAMPLE: Config = Config::parse(CONFIG, "example").expect("the example is right");
    }
    EXAMPLE.with(|config| match BackendId::find(config, text) {
        Ok(id) => assert!(id.name == text || id.to_string() == text),
        Err(e) => assert!(!e.to_string().is_empty()),
    });
}

/// What is understood is written in a way that means the same; what is not, is refused in words.
fn reads_back<T: FromStr<Err: Display> + Display + Debug + PartialEq>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => {
            let again = value.to_string().parse::<T>();
            assert_eq!(again.ok().as_ref(), Some(&value));
        }
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "wg-justiz/wg-1",
        "wg-1",
        "203.0.113.10:51820/udp",
        "[2001:db8::10]:443/tcp",
        "[fe80::1%3]:1/udp",
        "203.0.113.10:0/esp",
        "00ff10",
        "7",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
