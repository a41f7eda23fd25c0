//! Every plot is drawn from a file of its suite.

use std::fs;

use serde_json::{Value, json};

fn row(case: &str, flows: u64, unit: &str) -> Value {
    let median = 10.0 + flows as f64 / 1e4;
    json!({
        "suite": "", "case": case, "family": "ipv4", "flows": flows, "unit": unit,
        "median": median, "min": median * 0.9, "max": median * 1.2, "against": null, "ratio": null,
    })
}

fn line(case: &str, unit: &str) -> Value {
    let points: Vec<_> = (1..=20).map(|x| (f64::from(x * 3_000), f64::from(900 + x * 5))).collect();
    json!({ "suite": "", "case": case, "unit": unit, "points": points })
}

/// Draws a suite's plot from these results: the plot.
fn drawn(suite: &str, what: &str, results: &[Value], series: &[Value]) -> Option<String> {
    let (process, thread) = (std::process::id(), std::thread::current().id());
    let directory = std::env::temp_dir().join(format!("fernpass-plots-{process}-{thread:?}"));
    fs::create_dir_all(&directory).unwrap();
    let machine = json!({
        "processor": "Some & Other", "processors": 2, "memory_mib": 1024, "kernel": "6.1",
        "spectre_v2": "Mitigation: Retpolines; more",
    });
    let file = json!({ "machine": machine, "results": results, "series": series });
    fs::write(directory.join(format!("{suite}.json")), file.to_string()).unwrap();
    let written = super::draw(suite, &directory).unwrap();
    let svg = directory.join(format!("{suite}-{what}.svg"));
    let text = (written == [svg.clone()]).then(|| fs::read_to_string(svg).unwrap());
    fs::remove_dir_all(directory).unwrap();
    text
}

#[test]
fn every_suite_has_its_plot() {
    let flows = [1, 1_000, 60_000, 1_000_000];
    let over = |case: &str| flows.map(|flows| row(case, flows, "ns/packet"));
    let packets = ["wireguard in", "wireguard in, bpf hash", "wireguard out"].map(over).concat();
    let ways = ["fernpass, 64 bytes", "nftables dnat, 64 bytes", "fernpass, 1400 bytes"];
    let ways = ways.map(|case| row(case, 60_000, "packets/s"));
    let costs = [row("expiry scan", 60_000, "ms"), row("daemon: memory", 60_000, "MB")];
    let filling = ["median", "least", "most"];
    let filling = filling.map(|what| line(&format!("60000 sessions, {what}"), "ns/session"));
    let surge = [line("open", "sessions"), line("all", "packets/s"), line("daemon", "% of a core")];
    for (suite, what, results, series, text) in [
        ("packet", "sessions", &packets[..], &[][..], "Katran"),
        ("forward", "throughput", &ways, &[], "60,000 flows"),
        ("open", "filling", &[], &filling, "A gateway for 60,000 sessions"),
        ("control", "costs", &costs, &[], "expiry scan"),
        ("surge", "time", &[], &surge, "% of a core"),
    ] {
        let plot = drawn(suite, what, results, series).expect(suite);
        assert!(plot.contains(text), "{suite} does not tell of {text}");
        assert!(plot.contains("Some &amp; Other"), "{suite} does not tell the machine");
        assert!(
            !plot.contains("NaN") && !plot.contains("inf"),
            "{suite} has figures that are none"
        );
    }
}

#[test]
fn without_results_there_is_no_plot() {
    for (suite, what) in [
        ("packet", "sessions"),
        ("forward", "throughput"),
        ("open", "filling"),
        ("control", "costs"),
        ("surge", "time"),
    ] {
        assert_eq!(drawn(suite, what, &[], &[]), None);
    }
}
