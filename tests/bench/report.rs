//! What was measured, for people and for programs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::goals::{GOALS, Goal};
use crate::harness::Row;

/// A table in markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = String::from("| id | unit | min | median | max | goal | |\n|---|---|---|---|---|---|---|\n");
    for row in rows {
        let goal = goal_of(&row.id);
        let verdict = goal.map_or("", |goal| if goal.is_met(row.median()) { "met" } else { "missed" });
        let goal = goal.map(|goal| goal.to_string()).unwrap_or_default();
        let (min, median, max) = (short(row.min()), short(row.median()), short(row.max()));
        writeln!(table, "| {} | {} | {min} | {median} | {max} | {goal} | {verdict} |", row.id, row.unit).unwrap();
    }
    table
}

/// A list of objects, one for each figure and each ratio.
pub(crate) fn write_json(path: &Path, rows: &[Row]) {
    let objects = rows.iter().map(|row| {
        let (min, median, max, runs) = (row.min(), row.median(), row.max(), row.runs());
        let (id, unit) = (&row.id, row.unit);
        format!(
            "  {{\"id\": \"{id}\", \"unit\": \"{unit}\", \"min\": {min}, \"median\": {median}, \"max\": {max}, \
             \"runs\": {runs}}}"
        )
    });
    let objects: Vec<String> = objects.collect();
    fs::write(path, format!("[\n{}\n]\n", objects.join(",\n"))).unwrap();
}

fn goal_of(id: &str) -> Option<Goal> {
    GOALS.iter().find(|(goal, _)| *goal == id).map(|(_, goal)| *goal)
}

/// Three figures that say something.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
