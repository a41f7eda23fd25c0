//! The lab's own program: the demo, and labs that are left standing.

use std::process::{Command, Output, Stdio};

use lab::{gate, record};
use serde_json::Value;

fn program(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fernpass-lab"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn the_demo_passes_and_prints_its_results_alone() {
    let _place = gate::enter().unwrap();
    let output = program(&["demo", "--json"]);
    let story = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}\n{story}", text(&output)));
    assert!(output.status.success() && report["ok"] == true, "{report:#}\n{story}");
    let steps = report["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().filter_map(|step| step["name"].as_str()).collect();
    let story = ["sessions_open", "roam", "drain_and_death", "flood", "restart", "quota"];
    assert_eq!(names, story);
    assert!(steps.iter().all(|step| step["ok"] == true && step["measured"].is_object()));
}

#[test]
fn a_lab_stands_until_it_is_taken_down() {
    let _place = gate::enter().unwrap();
    let up = program(&["lab", "up"]);
    let printed = text(&up);
    assert!(up.status.success(), "{printed}");
    let id = printed
        .split_whitespace()
        .skip_while(|word| *word != "Lab")
        .nth(1)
        .unwrap_or_else(|| panic!("no id in {printed}"))
        .to_owned();
    let status = text(&program(&["lab", "status"]));
    // The commands that are printed work as they stand.
    let listing = printed
        .lines()
        .find(|line| line.contains("session list"))
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .unwrap();
    let listed = Command::new(listing[0]).args(&listing[1..]).output().unwrap();
    let refused = program(&["lab", "down", "none"]);
    let down = program(&["lab", "down", &id]);
    assert!(status.contains(&id), "{status}");
    assert_eq!(text(&listed).matches(" open ").count(), 6, "{}", text(&listed));
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(down.status.success(), "{}", text(&down));
    assert!(record::standing().unwrap().iter().all(|lab| lab.id != id));
}

#[test]
fn bad_usage_is_refused() {
    let output = program(&["demo", "--jason"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("--json"));
}
