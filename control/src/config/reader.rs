//! Walks a TOML tree and collects mistakes instead of stopping at the first.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::Findings;
use super::suggest::{all_of, closest};
use super::value::FromValue;

/// A value and where it stands; `None` if it is absent, or is wrong and was complained of.
pub(super) type Field<T> = Option<Spanned<T>>;

/// One table of the file while its keys are being read.
pub(super) struct Section<'a, 'i> {
    /// As people know it: `[gateway]`.
    title: &'static str,
    table: &'a DeTable<'i>,
    span: Range<usize>,
    /// Every key that was asked for, once.
    known: Vec<&'static str>,
    /// Keys that must be there and are not, with the mend.
    missing: Vec<(&'static str, String)>,
}

impl<'a, 'i> Section<'a, 'i> {
    pub(super) fn new(title: &'static str, table: &'a DeTable<'i>, span: Range<usize>) -> Self {
        Self { title, table, span, known: Vec::new(), missing: Vec::new() }
    }

    /// Where the table begins.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    fn get(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.known(key);
        self.table.get(key)
    }

    /// Whether the key is there, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether the key is there and a table.
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().is_table())
    }

    /// Whether the key is there and a list that is not empty.
    pub(super) fn has_elements(&self, key: &str) -> bool {
        let value = self.table.get(key).and_then(|value| value.get_ref().as_array());
        value.is_some_and(|array| !array.is_empty())
    }

    /// Lets a key be, whatever it is.
    pub(super) fn known(&mut self, key: &'static str) {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
    }

    /// Complains of a key that does nothing here, if it is there.
    pub(super) fn pointless(&mut self, key: &'static str, why: &str, out: &mut Findings) {
        self.known(key);
        if let Some((key, _)) = self.table.get_key_value(key) {
            let message = format!("`{}` does nothing with {why}", key.get_ref());
            out.error(key.span(), message).help("leave it out");
        }
    }

    /// A value that may be absent.
    pub(super) fn optional<T: FromValue>(
        &mut self,
        key: &'static str,
        out: &mut Findings,
    ) -> Field<T> {
        read(self.get(key)?, &format!("`{key}`"), out)
    }

    /// A value that must be there.
    pub(super) fn required<T: FromValue>(
        &mut self,
        key: &'static str,
        out: &mut Findings,
    ) -> Field<T> {
        if !self.has(key) {
            self.missing(key, &format!("add `{key} = …`, {}", T::EXPECTED));
        }
        self.optional(key, out)
    }

    /// A key is not there, and must be.
    pub(super) fn missing(&mut self, key: &'static str, help: &str) {
        self.known(key);
        self.missing.push((key, help.to_owned()));
    }

    /// A whole number in a range, or the default.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        out: &mut Findings,
    ) -> Field<u64> {
        let field = self.optional::<u64>(key, out)?;
        if range.contains(field.get_ref()) {
            return Some(field);
        }
        let message = format!("`{key}` must not be {}", field.get_ref());
        let help = format!("it goes from {} to {}", range.start(), range.end());
        out.error(field.span(), message).help(help);
        None
    }

    /// A list of values, each where it stands.
    pub(super) fn list<T: FromValue>(
        &mut self,
        key: &'static str,
        out: &mut Findings,
    ) -> Option<Spanned<Vec<Spanned<T>>>> {
        let value = self.get(key)?;
        let Some(array) = value.get_ref().as_array() else {
            let found = value.get_ref().type_str();
            out.error(value.span(), format!("`{key}` must be a list, not {}", article(found)))
                .help(format!("write `{key} = [ … ]`"));
            return None;
        };
        let what = format!("an element of `{key}`");
        let items = array.iter().filter_map(|item| read(item, &what, out)).collect();
        Some(Spanned::new(value.span(), items))
    }

    /// A table inside this one.
    pub(super) fn table(
        &mut self,
        key: &'static str,
        title: &'static str,
        out: &mut Findings,
    ) -> Option<Section<'a, 'i>> {
        let value = self.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(title, table, value.span())),
            DeValue::Array(_) => {
                out.error(value.span(), format!("there is only one {title}"))
                    .help(format!("write `[{key}]` once, with single brackets"));
                None
            }
            other => {
                let message = format!("{title} must be a table, not {}", article(other.type_str()));
                out.error(value.span(), message).help(format!("write `{key} = {{ … }}`"));
                None
            }
        }
    }

    /// An array of tables inside this one; empty if absent.
    pub(super) fn tables(
        &mut self,
        key: &'static str,
        title: &'static str,
        out: &mut Findings,
    ) -> Vec<Section<'a, 'i>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            let found = article(value.get_ref().type_str());
            out.error(value.span(), format!("there can be several {title}, but this is {found}"))
                .help(format!("write `{title}` with double brackets"));
            // Read it all the same: what is right in it may be referred to.
            let one = value.get_ref().as_table();
            return one.map(|table| Section::new(title, table, value.span())).into_iter().collect();
        };
        array
            .iter()
            .filter_map(|item| match item.get_ref() {
                DeValue::Table(table) => Some(Section::new(title, table, item.span())),
                other => {
                    let found = article(other.type_str());
                    out.error(item.span(), format!("{title} must be a table, not {found}"));
                    None
                }
            })
            .collect()
    }

    /// All keys have been read: what is left is unknown. A missing key that was only
    /// misspelt is told as that.
    pub(super) fn finish(mut self, out: &mut Findings) {
        for key in self.table.keys() {
            if self.known.contains(&key.get_ref().as_ref()) {
                continue;
            }
            let meant = closest(key.get_ref(), self.known.iter().copied());
            self.missing.retain(|(missing, _)| Some(*missing) != meant);
            let help = match meant {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("{} has {}", self.title, all_of(&self.known)),
            };
            out.error(key.span(), format!("unknown key `{}` in {}", key.get_ref(), self.title))
                .help(help);
        }
        for (key, help) in self.missing {
            let message = format!("`{key}` is missing in {}", self.title);
            out.error(self.span.clone(), message).help(help).absence();
        }
    }
}

fn read<T: FromValue>(value: &Spanned<DeValue<'_>>, what: &str, out: &mut Findings) -> Field<T> {
    match T::from_value(value.get_ref()) {
        Ok(read) => Some(Spanned::new(value.span(), read)),
        Err(complaint) => {
            let message = match complaint.message {
                Some(message) => message,
                None => format!(
                    "{what} must be {}, not {}",
                    T::EXPECTED,
                    article(value.get_ref().type_str())
                ),
            };
            let finding = out.error(value.span(), message);
            if let Some(help) = complaint.help {
                finding.help(help);
            }
            None
        }
    }
}

fn article(noun: &str) -> String {
    let an = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if an { "an" } else { "a" })
}
