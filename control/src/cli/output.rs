//! Where answers go.

use std::io::{self, Write as _};

use comfy_table::{CellAlignment, ContentArrangement, Table, TableStyle};
use serde::Serialize;

use super::Failure;

/// Prints answers: for people, or as JSON and nothing else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a value as JSON, or as the text that `people` makes of it.
    pub(crate) fn show<T: Serialize>(
        &self,
        value: &T,
        people: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            let text =
                serde_json::to_string_pretty(value).map_err(|e| Failure::Io(e.to_string()))?;
            self.print(&text)
        } else {
            self.print(&people(value))
        }
    }

    /// Says why a command failed: on stderr for people, as an object with `error` on
    /// stdout where JSON was asked for.
    pub(crate) fn fail(&self, failure: &Failure) {
        if self.json {
            let (problem, done) = (failure.problem(), failure.done());
            let object = Failed { error: failure.to_string(), problem, done };
            // There is nobody left to tell that this could not be told.
            let _ = self.show(&object, |_| String::new());
        } else {
            let _ = self.print(&failure.done().join("\n"));
            eprintln!("fernpass: {failure}");
        }
    }

    /// Prints text, with a newline at its end.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let text = text.trim_end_matches('\n');
        if text.is_empty() {
            return Ok(());
        }
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|e| {
            if e.kind() == io::ErrorKind::BrokenPipe {
                Failure::Pipe
            } else {
                Failure::Io(format!("cannot write the answer: {e}"))
            }
        })
    }
}

/// A failure as JSON.
#[derive(Debug, Serialize)]
struct Failed<'a> {
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a crate::api::Problem>,
    /// What was done nevertheless.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    done: &'a [String],
}

/// A column: its head, and whether it holds numbers.
pub(crate) type Column = (&'static str, bool);

/// Rows under a head, without lines around them.
pub(crate) fn table(columns: &[Column], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(head, _)| *head));
    for row in rows {
        table.add_row(row);
    }
    for (column, (_, number)) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if *number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string().lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}
