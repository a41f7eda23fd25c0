//! A mistake in a configuration, and how it is shown to people.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but is probably not what was meant.
    Warning,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: Option<String>,
    #[serde(skip)]
    span: Range<usize>,
    /// Another place that belongs to it.
    #[serde(skip)]
    also: Option<(Range<usize>, String)>,
    /// That something is not there, which is no news where the syntax is broken.
    #[serde(skip)]
    absence: bool,
}

impl Finding {
    /// Says how to mend it.
    pub(super) fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Shows another place too.
    pub(super) fn also(&mut self, span: Range<usize>, label: impl Into<String>) -> &mut Self {
        self.also = Some((span, label.into()));
        self
    }

    /// Marks it as something missing.
    pub(super) fn absence(&mut self) -> &mut Self {
        self.absence = true;
        self
    }
}

/// Collects findings.
#[derive(Debug, Default)]
pub(super) struct Findings {
    all: Vec<Finding>,
    reads_files: bool,
}

impl Findings {
    /// Those of a configuration that is to be used here, with the files that it names.
    pub(super) fn with_files() -> Self {
        Self { reads_files: true, ..Self::default() }
    }

    /// Whether the files that are named are read.
    pub(super) fn reads_files(&self) -> bool {
        self.reads_files
    }

    pub(super) fn error(&mut self, span: Range<usize>, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Error, span, message.into())
    }

    pub(super) fn warn(&mut self, span: Range<usize>, message: impl Into<String>) -> &mut Finding {
        self.add(Severity::Warning, span, message.into())
    }

    fn add(&mut self, severity: Severity, span: Range<usize>, message: String) -> &mut Finding {
        let finding = Finding {
            severity,
            line: 0,
            column: 0,
            message,
            help: None,
            span,
            also: None,
            absence: false,
        };
        self.all.push_mut(finding)
    }

    /// The report on a file. Where the syntax is broken, what is missing is left out:
    /// it may stand in the part that could not be read.
    pub(super) fn report(mut self, file: &str, text: &str, syntax_broken: bool) -> Report {
        self.all.retain(|finding| !(syntax_broken && finding.absence));
        for finding in &mut self.all {
            finding.span = first_line(text, finding.span.clone());
            let before = &text[..finding.span.start];
            finding.line = before.matches('\n').count() + 1;
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            finding.column = before[line_start..].chars().count() + 1;
            finding.also = finding.also.take().map(|(span, label)| (first_line(text, span), label));
        }
        self.all.sort_by_key(|finding| (finding.span.start, finding.severity));
        Report { file: file.to_owned(), text: text.to_owned(), findings: self.all }
    }
}

/// The part of a span on its first line, on character boundaries of the text.
fn first_line(text: &str, span: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    let end = text.floor_char_boundary(span.end.clamp(start, text.len()));
    let end = text[start..end].find('\n').map_or(end, |at| start + at);
    start..end
}

/// What was found in a configuration file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The file's name.
    pub file: String,
    /// All findings.
    pub findings: Vec<Finding>,
    #[serde(skip)]
    text: String,
}

impl Report {
    /// Whether the configuration cannot be used.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// The findings as text, each with its line of the file; in colour for terminals.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for finding in &self.findings {
            let level = match finding.severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARNING,
            };
            let mut snippet = Snippet::source(self.text.as_str())
                .path(self.file.as_str())
                .annotation(AnnotationKind::Primary.span(finding.span.clone()));
            if let Some((span, label)) = &finding.also {
                let also = AnnotationKind::Context.span(span.clone()).label(label.as_str());
                snippet = snippet.annotation(also);
            }
            let mut group = level.primary_title(finding.message.as_str()).element(snippet);
            if let Some(help) = &finding.help {
                group = group.element(Level::HELP.message(help.as_str()));
            }
            out += &renderer.render(&[group]);
            out += "\n\n";
        }
        out
    }
}

/// One line each: `file:line:column: message (help)`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, finding) in self.findings.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{}:{}: ", self.file, finding.line, finding.column)?;
            if finding.severity == Severity::Warning {
                f.write_str("warning: ")?;
            }
            f.write_str(&finding.message)?;
            if let Some(help) = &finding.help {
                write!(f, " ({help})")?;
            }
        }
        Ok(())
    }
}

/// A configuration cannot be used: everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigErrors(pub Report);
