//! Rounds: each measures every entry of a group once, in rotating order, so that whatever disturbs the machine disturbs
//! all of them; ratios are made inside a round and only then summed up.

use std::collections::BTreeMap;
use std::fs;

use breakerd_proto::Mono;

use crate::goals::GOALS;

/// One thing that is measured: breakerd, a peer or a floor.
pub(crate) struct Entry<'w> {
    id: &'static str,
    run: Box<dyn FnMut() -> Vec<Figure> + 'w>,
}

/// What is added to the entry's id, the unit, the value.
pub(crate) type Figure = (&'static str, &'static str, f64);

impl<'w> Entry<'w> {
    /// One figure a round.
    pub(crate) fn one(id: &'static str, unit: &'static str, mut run: impl FnMut() -> f64 + 'w) -> Self {
        Self::many(id, move || vec![("", unit, run())])
    }

    /// Several figures a round.
    pub(crate) fn many(id: &'static str, run: impl FnMut() -> Vec<Figure> + 'w) -> Self {
        Self { id, run: Box::new(run) }
    }
}

/// What was seen of one figure or one ratio, over all rounds.
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) unit: &'static str,
    values: Vec<f64>,
}

impl Row {
    pub(crate) fn min(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn max(&self) -> f64 {
        self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    pub(crate) fn median(&self) -> f64 {
        median(&mut self.values.clone())
    }

    pub(crate) fn runs(&self) -> usize {
        self.values.len()
    }
}

/// The whole run.
pub(crate) struct Bench {
    rounds: usize,
    quick: bool,
    prefixes: Vec<String>,
    pub(crate) rows: Vec<Row>,
}

impl Bench {
    pub(crate) fn new(rounds: usize, quick: bool, prefixes: Vec<String>) -> Self {
        Self { rounds, quick, prefixes, rows: Vec::new() }
    }

    /// So many, or a tenth in a quick run.
    pub(crate) fn many(&self, full: usize) -> usize {
        if self.quick { full.div_ceil(10) } else { full }
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds
    }

    /// Whether any of a group's ids was asked for.
    pub(crate) fn wants(&self, ids: &[&str]) -> bool {
        let asked = |id: &&str| self.prefixes.iter().any(|prefix| id.starts_with(prefix.as_str()));
        self.prefixes.is_empty() || ids.iter().any(asked)
    }

    /// Measures a group.
    pub(crate) fn measure(&mut self, mut entries: Vec<Entry<'_>>) {
        let began = Mono::now();
        let mut rows: Vec<Row> = Vec::new();
        for round in 0..self.rounds {
            let mut seen = Vec::new();
            for place in 0..entries.len() {
                let turn = (round + place) % entries.len();
                let entry = &mut entries[turn];
                for (suffix, unit, value) in (entry.run)() {
                    seen.push((format!("{}{suffix}", entry.id), unit, value));
                }
            }
            seen.extend(ratios(&seen));
            for (id, unit, value) in seen {
                match rows.iter_mut().find(|row| row.id == id) {
                    Some(row) => row.values.push(value),
                    None => rows.push(Row { id, unit, values: vec![value] }),
                }
            }
        }
        let name = entries.iter().map(|entry| entry.id).find(|id| !id.contains('.')).unwrap_or_default();
        progress(&format!("{name}: {:.1} s, load {}", Mono::now().since(began).as_secs_f64(), load()));
        self.rows.append(&mut rows);
    }
}

/// Each figure against each peer's and floor's of the same id, and whatever else a goal compares.
fn ratios(seen: &[(String, &'static str, f64)]) -> Vec<(String, &'static str, f64)> {
    let values: BTreeMap<&str, f64> = seen.iter().map(|(id, _, value)| (id.as_str(), *value)).collect();
    let beside = seen.iter().filter_map(|(other, _, divisor)| {
        let (who, id) = other.split_once('.')?;
        Some((format!("{id}/{who}"), "ratio", values.get(id)? / divisor))
    });
    let wanted = GOALS.iter().filter_map(|(id, _)| {
        let (id, divisor) = id.split_once('/')?;
        Some((format!("{id}/{divisor}"), "ratio", values.get(id)? / values.get(divisor)?))
    });
    beside.chain(wanted).collect()
}

/// The middle of what was seen.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value that so many of all do not exceed.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length")]
pub(crate) fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1).expect("something was measured");
    values[(last as f64 * part).round() as usize]
}

/// The machine's load of the last minute.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

#[allow(clippy::print_stderr, reason = "whoever waits wants to see it go on")]
pub(crate) fn progress(line: &str) {
    eprintln!("{line}");
}
