//! The API under many clients, and under bad ones.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use lab::gate;
use lab::layout::plan::Family;
use lab::peer::Implementation::WireguardGo;
use lab::scenario::{FarmPlan, ReadersPlan, readers, sessions_open};

use crate::common::{PLENTY, holds, one_pool, start};

const SOON: Duration = Duration::from_secs(20);

fn connect(socket: &str) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

/// What is answered to these bytes, as far as it can be read.
fn said_to(socket: &str, bytes: &[u8]) -> String {
    let mut stream = connect(socket);
    // It may be refused before all of it is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: fernpass\r\nconnection: close\r\n\r\n").into_bytes()
}

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: fernpass\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn long_lists_cost_little_memory_whoever_asks_and_does_not_read() {
    let _place = gate::enter().unwrap();
    holds(&readers(&ReadersPlan { sessions: 8_000, deaf: 40, askers: 64 }).unwrap());
}

#[test]
fn the_api_serves_many_bears_bad_ones_and_tells_who_changed_what() {
    let pools = [one_pool(PLENTY)];
    let (_place, mut farm) = start(&FarmPlan::new(&pools));
    farm.join(0, WireguardGo, Family::V4).unwrap();
    holds(&sessions_open(&farm).unwrap());
    let traffic = farm.traffic(0, 200).unwrap();
    let gateway = farm.gateway();
    let socket = gateway.socket().to_owned();

    // Who says nothing, who says half of it, and who asks for much and does not listen.
    let silent: Vec<_> = (0..40).map(|_| connect(&socket)).collect();
    let mut halves: Vec<_> = (0..20).map(|_| connect(&socket)).collect();
    for half in &mut halves {
        half.write_all(b"POST /v1/backends/drain HTTP/1.1\r\nhost: fern").unwrap();
    }
    let mut deaf: Vec<_> = (0..20).map(|_| connect(&socket)).collect();
    let much = b"GET /v1/openapi.json HTTP/1.1\r\nhost: fernpass\r\n\r\n".repeat(200);
    for deaf in &mut deaf {
        deaf.set_nonblocking(true).unwrap();
        let _ = deaf.write_all(&much);
    }

    // 64 at once, each again and again, beside them.
    let asks = |n: usize| {
        let paths = ["/v1/status", "/v1/sessions", "/v1/backends", "/v1/counters", "/metrics"];
        for round in 0..10 {
            let path = paths[(n + round) % paths.len()];
            let answer = said_to(&socket, &get(path));
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..64).map(|n| scope.spawn(move || asks(n))).collect();
        for one in all {
            one.join().unwrap();
        }
    });

    // What is too large, or no request.
    let large = said_to(&socket, &post("/v1/backends/drain", &vec![b' '; 8 << 20]));
    assert!(large.starts_with("HTTP/1.1 400") && large.contains("65536 bytes"), "{large}");
    let header = [&b"GET /v1/status HTTP/1.1\r\nx: "[..], &vec![b'x'; 4 << 20]].concat();
    assert!(!said_to(&socket, &header).starts_with("HTTP/1.1 200"));
    for body in ["", "{", "[]", "{\"backend\": 7}", "{\"backend\": \"x\", \"more\": 1}", "\u{0}"] {
        let answer = said_to(&socket, &post("/v1/backends/drain", body.as_bytes()));
        assert!(answer.starts_with("HTTP/1.1 4") && answer.contains("fernpass:"), "{answer}");
    }
    let mut random = 1_u32;
    for _ in 0..200 {
        let noise: Vec<u8> = (0..300)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 24) as u8
            })
            .collect();
        assert!(!said_to(&socket, &[&noise[..], b"\r\n\r\n"].concat()).contains(" 200 "));
    }

    // Who changed something is told, with what was asked; nothing that was asked breaks a line of the log.
    let backend = gateway.backends().unwrap()[0].name.clone();
    gateway.act(&["backend", "drain", &backend]).unwrap();
    said_to(&socket, &post("/v1/backends/drain", b"{\"backend\": \"x\n2026 all is well\"}"));
    let log = gateway.log();
    let line =
        |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(line(&["asked for a change", "uid=0", "/v1/backends/drain", &backend, "status=200"]));
    assert!(line(&["asked for a change", "x2026 all is well", "status=4"]));
    gateway.act(&["backend", "undrain", &backend]).unwrap();

    // Several at once are one answer, and one that cannot be drained keeps none of the others from it.
    let names: Vec<_> = gateway.backends().unwrap().into_iter().map(|b| b.name).take(2).collect();
    let done = gateway.call(&["backend", "drain", &names[0], &names[1]]).unwrap();
    assert_eq!(done.as_array().map(Vec::len), Some(2), "{done}");
    for name in &names {
        gateway.act(&["backend", "undrain", name]).unwrap();
    }
    let partly = gateway.act(&["backend", "drain", &names[0], "nobody", &names[1]]);
    let partly = partly.unwrap_err().to_string();
    assert!(
        partly.contains("nobody") && names.iter().all(|name| partly.contains(name)),
        "{partly}"
    );
    let backends = gateway.backends().unwrap();
    assert_eq!(backends.iter().filter(|b| b.state == "draining").count(), 2);
    for name in &names {
        gateway.act(&["backend", "undrain", name]).unwrap();
    }

    let memory = gateway.process_status("VmRSS").unwrap();
    let memory: u64 = memory.split_whitespace().next().unwrap().parse().unwrap();
    assert!(memory < 150_000, "{memory} KiB");
    // A daemon that is to end does not wait for them.
    farm.gateway_mut().terminate().unwrap();
    farm.gateway_mut().run().unwrap();
    drop((silent, halves, deaf));
    let tally = traffic.stop();
    assert_eq!(tally.lost, 0, "{tally:?}");
}
