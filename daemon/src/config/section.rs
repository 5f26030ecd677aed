//! Reads one table of a file, key by key, and knows afterwards which keys nobody asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::duration;
use super::fault::{Fault, Place, Problem};
use super::words::Word;

/// A file's text and name, to turn offsets into lines.
pub(super) struct Source<'a> {
    pub(super) file: Arc<Path>,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// The place of a byte of the file.
    pub(super) fn place(&self, offset: usize) -> Place {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        Place { file: Arc::clone(&self.file), line: 1 + before.iter().filter(|b| **b == b'\n').count() }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// One table. Each `take` names a key; [`Section::finish`] complains about every key that was never named.
pub(super) struct Section<'a, 'i> {
    source: &'a Source<'i>,
    /// As the header has it: `breaker.default`; empty at the top.
    header: String,
    /// What stands before the keys in complaints: `cooldown.`.
    prefix: String,
    /// Where the table stands.
    place: Place,
    table: &'a DeTable<'i>,
    known: Vec<&'static str>,
    /// Keys that this release does not act on: complained about already, and nobody is pointed at them.
    not_built: Vec<&'static str>,
    faults: &'a mut Vec<Fault>,
}

impl<'a, 'i> Section<'a, 'i> {
    pub(super) fn top(source: &'a Source<'i>, table: &'a DeTable<'i>, faults: &'a mut Vec<Fault>) -> Self {
        let place = source.place(0);
        Self {
            source,
            header: String::new(),
            prefix: String::new(),
            place,
            table,
            known: Vec::new(),
            not_built: Vec::new(),
            faults,
        }
    }

    /// A table in this one.
    fn deeper(&mut self, header: String, prefix: String, place: Place, table: &'a DeTable<'i>) -> Section<'_, 'i> {
        Section {
            source: self.source,
            header,
            prefix,
            place,
            table,
            known: Vec::new(),
            not_built: Vec::new(),
            faults: &mut *self.faults,
        }
    }

    /// The place of a key's value; of the key itself where the value is a table.
    fn place(&self, key: &str, value: &Spanned<DeValue<'_>>) -> Place {
        let start = match self.table.get_key_value(key) {
            Some((name, _)) => name.span().start,
            None => value.span().start,
        };
        self.source.place(start)
    }

    fn take(&mut self, key: &'static str) -> Option<(&'a DeValue<'i>, Place)> {
        self.known.push(key);
        let value = self.table.get(key)?;
        Some((value.get_ref(), self.place(key, value)))
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(super) fn fault(&mut self, problem: Problem, place: Place) {
        self.faults.push(problem.at(place));
    }

    fn wrong_type(&mut self, key: &str, takes: &'static str, given: &DeValue<'_>, place: Place) {
        self.fault(Problem::WrongType { key: self.full(key), takes, given: kind(given) }, place);
    }

    /// A text.
    pub(super) fn text(&mut self, key: &'static str) -> Option<At<String>> {
        let (value, place) = self.take(key)?;
        match value {
            DeValue::String(text) => Some(At { value: text.clone().into_owned(), place }),
            other => {
                self.wrong_type(key, "a text in quotes", other, place);
                None
            }
        }
    }

    /// A duration with units, in whole milliseconds.
    pub(super) fn duration_ms(&mut self, key: &'static str) -> Option<At<u64>> {
        let (value, place) = self.take(key)?;
        let DeValue::String(text) = value else {
            self.wrong_type(key, "a duration in quotes, as \"15s\"", value, place);
            return None;
        };
        match duration::parse(text) {
            Ok(value) => Some(At { value: whole_ms(value), place }),
            Err(bad) => {
                self.fault(
                    Problem::WrongDuration { key: self.full(key), given: text.clone().into_owned(), bad },
                    place,
                );
                None
            }
        }
    }

    /// A whole number.
    pub(super) fn number(&mut self, key: &'static str) -> Option<At<u32>> {
        let (value, place) = self.take(key)?;
        let DeValue::Integer(number) = value else {
            self.wrong_type(key, "a whole number", value, place);
            return None;
        };
        match u32::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) => Some(At { value, place }),
            Err(_) => {
                self.fault(Problem::WrongNumber { key: self.full(key), given: number.to_string() }, place);
                None
            }
        }
    }

    /// A number with or without a fraction.
    pub(super) fn fraction(&mut self, key: &'static str) -> Option<At<f64>> {
        let (value, place) = self.take(key)?;
        let parsed = match value {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => number.as_str().parse().ok(),
            _ => None,
        };
        match parsed {
            Some(value) => Some(At { value, place }),
            None => {
                self.wrong_type(key, "a number", value, place);
                None
            }
        }
    }

    /// One of some words.
    pub(super) fn word<T: Word>(&mut self, key: &'static str) -> Option<At<T>> {
        let At { value, place } = self.text(key)?;
        let found = T::ALL.iter().find(|meaning| meaning.written() == value);
        if found.is_none() {
            let allowed = T::ALL.iter().map(|meaning| meaning.written()).collect();
            self.fault(Problem::WrongWord { key: self.full(key), given: value, allowed }, place.clone());
        }
        found.map(|meaning| At { value: *meaning, place })
    }

    /// `false`, which stands for `off`, or what `read` takes.
    pub(super) fn or_false<T>(
        &mut self,
        key: &'static str,
        off: T,
        read: impl FnOnce(&mut Self) -> Option<At<T>>,
    ) -> Option<At<T>> {
        match self.table.get(key).map(Spanned::get_ref) {
            Some(DeValue::Boolean(false)) => self.take(key).map(|(_, place)| At { value: off, place }),
            _ => read(self),
        }
    }

    /// An absolute path.
    pub(super) fn path(&mut self, key: &'static str) -> Option<At<PathBuf>> {
        let At { value, place } = self.text(key)?;
        let path = PathBuf::from(&value);
        if path.is_absolute() {
            return Some(At { value: path, place });
        }
        self.fault(Problem::WrongPath { key: self.full(key), given: value }, place);
        None
    }

    /// Texts or whole numbers, each with its place; numbers as they are written.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<At<String>> {
        let takes = "a list of texts, as [\"www-data\"]";
        let Some((value, place)) = self.take(key) else { return Vec::new() };
        let DeValue::Array(items) = value else {
            self.wrong_type(key, takes, value, place);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            let place = self.source.place(item.span().start);
            match item.get_ref() {
                DeValue::String(text) => texts.push(At { value: text.clone().into_owned(), place }),
                DeValue::Integer(number) => texts.push(At { value: number.to_string(), place }),
                other => self.wrong_type(key, takes, other, place),
            }
        }
        texts
    }

    /// Complains if the key is there: this release does not act on it.
    pub(super) fn not_built(&mut self, key: &'static str, instead: &'static str) {
        self.not_built.push(key);
        let Some(value) = self.table.get(key) else { return };
        let place = self.place(key, value);
        self.fault(Problem::NotBuilt { key: self.full(key), instead }, place);
    }

    /// Whether the key is there, whatever its value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where the table stands.
    pub(super) fn own_place(&self) -> Place {
        self.place.clone()
    }

    /// Complains if the key is not there.
    pub(super) fn require(&mut self, key: &'static str, example: &'static str) {
        if !self.has(key) {
            let table = self.prefix.trim_end_matches('.').to_owned();
            self.fault(Problem::MissingKey { table, key, example }, self.place.clone());
        }
    }

    /// Whether the key is there with just this text.
    pub(super) fn is_text(&self, key: &str, text: &str) -> bool {
        self.table.get(key).is_some_and(|value| value.get_ref().as_str() == Some(text))
    }

    /// A key that is allowed and decides nothing.
    pub(super) fn pass(&mut self, key: &'static str) {
        self.known.push(key);
    }

    /// The table under a key.
    pub(super) fn inner<R>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_, 'i>) -> R) -> Option<R> {
        let (value, place) = self.take(key)?;
        let DeValue::Table(table) = value else {
            self.wrong_type(key, "a table", value, place);
            return None;
        };
        let at_top = self.header.is_empty();
        let header = if at_top { key.to_owned() } else { self.header.clone() };
        let prefix = if at_top { String::new() } else { format!("{}{key}.", self.prefix) };
        Some(read(&mut self.deeper(header, prefix, place, table)))
    }

    /// The table under a key, or each table of the list under it; returns where the key stands.
    pub(super) fn tables(
        &mut self,
        key: &'static str,
        takes: &'static str,
        mut read: impl FnMut(&mut Section<'_, 'i>),
    ) -> Option<Place> {
        let (value, place) = self.take(key)?;
        let tables: Vec<(&'a DeTable<'i>, Place)> = match value {
            DeValue::Table(table) => vec![(table, place.clone())],
            DeValue::Array(items) if !items.is_empty() => {
                let table = |item: &'a Spanned<DeValue<'i>>| match item.get_ref() {
                    DeValue::Table(table) => Some((table, self.source.place(item.span().start))),
                    _ => None,
                };
                items.iter().filter_map(table).collect()
            }
            _ => Vec::new(),
        };
        let items = value.as_array().map_or(1, |items| items.len());
        if tables.is_empty() || tables.len() < items {
            self.wrong_type(key, takes, value, place);
            return None;
        }
        let (header, prefix) = (self.header.clone(), format!("{}{key}.", self.prefix));
        for (table, place) in tables {
            read(&mut self.deeper(header.clone(), prefix.clone(), place, table));
        }
        Some(place)
    }

    /// The tables in this one, each under a name that the operator chose; what is no table is handed to `bare`.
    pub(super) fn each(
        &mut self,
        bare: impl Fn(&str) -> Problem,
        mut read: impl FnMut(&str, Place, &mut Section<'_, 'i>),
    ) {
        for (name, value) in self.table.iter() {
            let place = self.source.place(name.span().start);
            let DeValue::Table(table) = value.get_ref() else {
                self.faults.push(bare(name.get_ref()).at(place));
                continue;
            };
            let header = match name.get_ref().as_ref() {
                "default" => format!("{}.default", self.header),
                pattern => format!("{}.{pattern:?}", self.header),
            };
            read(name.get_ref(), place.clone(), &mut self.deeper(header, String::new(), place, table));
        }
    }

    /// Complains about every key that was never named, with the nearest of those that were and of `deeper`.
    pub(super) fn finish(&mut self, deeper: &[&'static str]) {
        for (key, value) in self.table.iter() {
            let name: &str = key.get_ref();
            if self.known.contains(&name) || self.not_built.contains(&name) {
                continue;
            }
            let place = self.place(name, value);
            let full: Vec<String> = self.known.iter().map(|known| self.full(known)).collect();
            let candidates = full.iter().map(String::as_str).chain(deeper.iter().copied());
            self.faults.push(
                Problem::UnknownKey {
                    section: self.header.clone(),
                    key: self.full(name),
                    nearest: nearest(&self.full(name), candidates),
                    known: self.known.clone(),
                }
                .at(place),
            );
        }
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(items) if items.is_empty() => "an empty list",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The most alike of the candidates, compared by the whole key and by its last part, if any is alike enough.
fn nearest<'c>(key: &str, candidates: impl Iterator<Item = &'c str>) -> Option<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let likeness = |candidate: &str| {
        let whole = strsim::normalized_damerau_levenshtein(key, candidate);
        let end = strsim::normalized_damerau_levenshtein(&last(key), &last(candidate));
        // The same word under another table is a good guess, but the same table is a better one.
        whole.max(end * 0.98)
    };
    let scored = candidates.map(|candidate| (likeness(candidate), candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= 0.6).then(|| best.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_by_its_whole_path_or_its_end() {
        let known = ["trip.consecutive_failures", "cooldown.first", "cooldown.max", "mode", "probe.max"];
        for (key, expect) in [
            ("cooldown.frist", Some("cooldown.first")),
            ("consecutive_failures", Some("trip.consecutive_failures")),
            ("trip.consecutive_failure", Some("trip.consecutive_failures")),
            ("probe.mx", Some("probe.max")),
            ("moode", Some("mode")),
            ("colour", None),
        ] {
            assert_eq!(nearest(key, known.into_iter()).as_deref(), expect, "{key}");
        }
    }
}
