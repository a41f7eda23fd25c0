//! What the audience sees.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::Duration;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table};

use super::Outcome;
use super::steps::{STEPS, Step};

/// Where the story is told: standard output, or standard error where that
/// belongs to the JSON.
pub(crate) struct Screen {
    aside: bool,
    colour: bool,
}

impl Screen {
    /// A screen; `json` keeps standard output free.
    pub(crate) fn new(json: bool) -> Self {
        let terminal = if json { stderr().is_terminal() } else { stdout().is_terminal() };
        // https://no-color.org
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { aside: json, colour: terminal && !unwanted }
    }

    /// Writes lines. A closed pipe is no reason to stop.
    pub(crate) fn say(&self, text: &str) {
        let _ =
            if self.aside { writeln!(stderr(), "{text}") } else { writeln!(stdout(), "{text}") };
    }

    /// What will happen.
    pub(super) fn headline(&self, step: &Step) {
        let number = STEPS.iter().position(|s| s.name == step.name).unwrap_or_default() + 1;
        self.say(&format!("\n{number}. {}", self.paint("1", step.story)));
    }

    /// What a command printed.
    pub(super) fn listing(&self, command: &str, printed: &str) {
        self.say(&format!("   $ {command}"));
        for line in printed.trim_end().lines() {
            self.say(&format!("   {line}"));
        }
    }

    /// What became of a step.
    pub(super) fn verdict(&self, outcome: &Outcome) {
        self.say(&format!("   {}  {}", self.mark(outcome.ok()), outcome.summary));
        for failure in &outcome.failures {
            self.say(&format!("       {failure}"));
        }
    }

    /// Everything once more.
    pub(super) fn table(&self, outcomes: &[Outcome], took: Duration) {
        let mut table = Table::new();
        table
            .load_style(UTF8_HORIZONTAL_ONLY)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(["step", "", "measured"]);
        // No terminal, or one that does not know its size, as a serial line.
        if table.width().is_none_or(|columns| columns == 0) {
            table.set_width(110);
        }
        for outcome in outcomes {
            let mark = if outcome.ok() { "ok" } else { "FAILED" };
            table.add_row([outcome.name, mark, &outcome.summary]);
        }
        let passed = outcomes.iter().filter(|o| o.ok()).count();
        self.say(&format!("\n{table}"));
        self.say(&format!(
            "{passed} of {} steps as claimed, in {:.0} s",
            outcomes.len(),
            took.as_secs_f64()
        ));
    }

    fn mark(&self, ok: bool) -> String {
        if ok { self.paint("32", "ok") } else { self.paint("31", "FAILED") }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
