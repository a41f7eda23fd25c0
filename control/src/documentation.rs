//! The documentation is true: what it names exists, and what exists it names.

use std::collections::BTreeSet;

use clap::Parser;
use dataplane::abi::ABI_VERSION;
use dataplane::reason::Reason;

use crate::cli::Args;
use crate::config::Config;

const EXAMPLE: &str = include_str!("../../docs/fernpass.toml");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");
const README: &str = include_str!("../../README.md");
const PAGES: [(&str, &str); 3] =
    [("README.md", README), ("configuration.md", CONFIGURATION), ("operations.md", OPERATIONS)];

/// The names in the first column of a page's tables, by the heading above them.
fn first_column(page: &str) -> Vec<(String, String)> {
    let mut heading = String::new();
    let mut names = Vec::new();
    for line in page.lines() {
        if let Some(text) = line.strip_prefix('#') {
            heading = text.trim_matches(['#', ' ', '`']).to_owned();
        }
        let Some(cell) = line.strip_prefix("| ").and_then(|row| row.split('|').next()) else {
            continue;
        };
        let quoted = cell.split('`').skip(1).step_by(2);
        names.extend(quoted.map(|name| (heading.clone(), name.to_owned())));
    }
    names
}

/// Adds the keys of a table of the example, under the headings of the tables.
fn keys(table: &toml::Table, heading: &str, all: &mut BTreeSet<(String, String)>) {
    for (key, value) in table {
        match value {
            toml::Value::Array(items) if items.iter().all(toml::Value::is_table) => {
                let path = heading.trim_matches(['[', ']']);
                let dot = if path.is_empty() { "" } else { "." };
                let inner = format!("[[{path}{dot}{key}]]");
                for item in items {
                    keys(item.as_table().expect("a table"), &inner, all);
                }
            }
            toml::Value::Table(section) if heading.is_empty() => {
                keys(section, &format!("[{key}]"), all);
            }
            toml::Value::Table(inner) => {
                all.insert((heading.to_owned(), key.clone()));
                if key == "health" {
                    keys(inner, heading, all);
                }
            }
            _ => {
                all.insert((heading.to_owned(), key.clone()));
            }
        }
    }
}

#[test]
fn every_key_of_the_example_is_explained_and_every_explained_key_is_in_it() {
    // A key that is commented out is a key.
    let mut text = EXAMPLE.to_owned();
    for key in [
        "web",
        "tcp_mss",
        "quic_lb",
        "server_id",
        "ca_file",
        "send",
        "expect",
        "public_key",
        "private_key_file",
        "preshared_key_file",
        "tls_crypt_file",
    ] {
        text = text.replace(&format!("# {key} "), &format!("{key} "));
    }
    let example: toml::Table = text.parse().expect("the example is TOML");
    let mut there = BTreeSet::new();
    keys(&example, "", &mut there);
    let explained: BTreeSet<_> = first_column(CONFIGURATION)
        .into_iter()
        .filter(|(heading, _)| heading.starts_with('['))
        .collect();
    assert_eq!(there, explained);
}

#[test]
fn every_reason_is_explained_and_every_explained_reason_exists() {
    let there: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str().to_owned()).collect();
    let explained: BTreeSet<_> = first_column(OPERATIONS)
        .into_iter()
        .filter(|(heading, _)| heading == "What became of packets")
        .map(|(_, name)| name)
        .collect();
    assert_eq!(there, explained);
}

#[test]
fn every_command_that_is_shown_can_be_typed() {
    let mut commands = 0;
    for (page, text) in PAGES {
        let mut console = false;
        for line in text.lines() {
            if line.starts_with("```") {
                console = line == "```console";
                continue;
            }
            let typed = line.trim_start_matches(['#', '$', ' ']);
            if console && typed.starts_with("fernpass ") {
                let words = typed.split_whitespace();
                Args::try_parse_from(words).unwrap_or_else(|e| panic!("{page}: {typed}: {e}"));
                commands += 1;
            }
        }
    }
    assert!(commands > 15, "only {commands} found");
}

#[test]
fn the_configuration_that_readers_begin_with_is_right() {
    let block = README.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let (config, report) = Config::examine(block.expect("a configuration"), "README.md");
    assert_eq!(report.to_string(), "");
    assert!(config.is_some());
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (page, text) in PAGES {
        let dir = if page == "README.md" { root.clone() } else { root.join("docs") };
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("https:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = dir.join(file);
            let text = std::fs::read_to_string(&file)
                .unwrap_or_else(|e| panic!("{page}: {target}: {}: {e}", file.display()));
            let is_heading = |line: &str| {
                line.starts_with('#')
                    && line.trim_matches(['#', ' ']).to_lowercase().replace(' ', "-") == anchor
            };
            assert!(anchor.is_empty() || text.lines().any(is_heading), "{page}: {target}");
        }
    }
}

#[test]
fn pins_are_where_the_pages_say() {
    let below = "/sys/fs/bpf/fernpass/v";
    for (page, text) in PAGES {
        for (at, _) in text.match_indices(below) {
            let rest = &text[at + below.len()..];
            assert!(rest.starts_with(&format!("{ABI_VERSION}/")), "{page}: {below}{rest:.9}");
        }
    }
    assert!(OPERATIONS.contains(below));
}
