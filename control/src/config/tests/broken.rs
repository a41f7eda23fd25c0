//! The example with every key, broken in every way that a hand breaks a file: each is refused at its line, and says
//! what is wrong.

use crate::config::{Config, Finding, Severity};

const EXAMPLE: &str = include_str!("../../../../docs/fernpass.toml");

/// A line of the example broken.
#[derive(Clone, Debug)]
struct Broken {
    /// From 0.
    line: usize,
    /// Instead of it.
    text: String,
    /// What was done.
    how: &'static str,
}

/// The example with some lines replaced.
fn with(broken: &[&Broken]) -> String {
    let replaced = |at| broken.iter().find(|broken| broken.line == at);
    let lines = EXAMPLE.lines().enumerate();
    lines
        .map(|(at, line)| replaced(at).map_or(line, |broken| &broken.text).to_owned() + "\n")
        .collect()
}

/// Everything that can be done to the lines with a key.
fn all() -> Vec<Broken> {
    let mut all = Vec::new();
    for (line, text) in EXAMPLE.lines().enumerate() {
        let text = text.split(" #").next().unwrap_or(text).trim_end();
        let Some((key, value)) = text.split_once('=').filter(|_| !text.starts_with('#')) else {
            continue;
        };
        let (key, value) = (key.trim_end(), value.trim());
        let mut add = |how, text| all.push(Broken { line, text, how });
        add("a key misspelt", format!("{key}x = {value}"));
        add("no value", format!("{key} ="));
        add("no sign between", format!("{key} {value}"));
        add("said twice", format!("{key} = {value}\n{key} = {value}"));
        add("a time instead", format!("{key} = 2026-01-01T08:00:00Z"));
        add("a list of lists instead", format!("{key} = [[1], [2]]"));
        add("a table of something else", format!("{key} = {{ colour = \"red\" }}"));
        match value.as_bytes()[0] {
            b'"' => {
                add("no end of the text", format!("{key} = {}", value.trim_end_matches('"')));
                add("a number instead of a text", format!("{key} = 4711"));
                add("nothing in the text", format!("{key} = \"\""));
            }
            b'0'..=b'9' => {
                add("a text instead of a number", format!("{key} = \"{value}\""));
                add("less than nothing", format!("{key} = -{value}"));
                add("a fraction", format!("{key} = {value}.5"));
                add("more than there can be", format!("{key} = 99999999999999"));
            }
            b'[' => {
                add("a text instead of a list", format!("{key} = \"{key}\""));
                add("a number in the list", format!("{key} = [4711]"));
                add("no end of the list", format!("{key} = {}", value.trim_end_matches(']')));
            }
            b'{' => add("no end of the table", format!("{key} = {}", value.trim_end_matches(" }"))),
            _ => add("a number instead of yes or no", format!("{key} = 1")),
        }
    }
    all
}

fn errors(text: &str) -> Vec<Finding> {
    let (config, report) = Config::examine(text, "fernpass.toml");
    assert_eq!(config.is_none(), report.has_errors());
    // It can be shown, too.
    let shown = report.render(false);
    assert!(!shown.contains("Some(") && !shown.contains("Err("), "{shown}");
    report.findings.into_iter().filter(|finding| finding.severity == Severity::Error).collect()
}

/// Whether one of the errors is about it, and says what is to be written instead. That there is no end is noticed where
/// something else begins.
fn is_told(errors: &[Finding], broken: &Broken) -> bool {
    let after = if broken.how.starts_with("no end") { 3 } else { 1 };
    let lines = broken.line + 1..=broken.line + 1 + after;
    let mends = |error: &Finding| {
        error.help.is_some()
            || ["must be", "expected"].iter().any(|word| error.message.contains(word))
    };
    errors.iter().any(|error| lines.contains(&error.line) && mends(error))
}

#[test]
fn the_example_is_right() {
    assert_eq!(errors(EXAMPLE), []);
}

#[test]
fn whatever_is_broken_is_refused_at_its_line() {
    let all = all();
    assert!(all.len() >= 400, "{}", all.len());
    for broken in &all {
        let errors = errors(&with(&[broken]));
        assert!(is_told(&errors, broken), "{broken:?} was answered with {errors:#?}");
    }
}

#[test]
fn mistakes_do_not_hide_each_other() {
    // Those that leave the syntax whole.
    let kept = ["a key misspelt", "a time instead", "a list of lists instead"];
    let all: Vec<Broken> = all().into_iter().filter(|broken| kept.contains(&broken.how)).collect();
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..200 {
        let mut some: Vec<&Broken> = Vec::new();
        for _ in 0..5 {
            let one = &all[random.usize(..all.len())];
            if some.iter().all(|other| other.line != one.line) {
                some.push(one);
            }
        }
        let errors = errors(&with(&some));
        for broken in &some {
            assert!(is_told(&errors, broken), "{broken:?} of {some:?} in {errors:#?}");
        }
    }
}
