//! `WIRE.md` says what the code does: every kind with its number and bound, every field in its order, every variant.
//! A hash of the types' source says when somebody must read the page again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use breakerd_proto::Kind;

const PAGE: &str = include_str!("../WIRE.md");
const SOURCES: [(&str, &str); 7] = [
    ("message.rs", include_str!("../src/message.rs")),
    ("part.rs", include_str!("../src/part.rs")),
    ("state.rs", include_str!("../src/state.rs")),
    ("verdict.rs", include_str!("../src/verdict.rs")),
    ("outcome.rs", include_str!("../src/outcome.rs")),
    ("error.rs", include_str!("../src/error.rs")),
    ("limits.rs", include_str!("../src/limits.rs")),
];

/// The lines that make the wire: no comments, no blank lines, no methods' bodies' indentation.
fn code(source: &str) -> impl Iterator<Item = &str> {
    let before_tests = source.split("#[cfg(test)]").next().unwrap_or_default();
    before_tests.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"))
}

/// FNV-1a, 64 bits (draft-eastlake-fnv, section 4.1): enough to notice an edit.
fn fnv1a64(lines: impl Iterator<Item = &'static str>) -> u64 {
    let bytes = lines.flat_map(|line| line.bytes().chain(std::iter::once(b'\n')));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[test]
fn the_page_was_read_after_the_last_change_of_the_types() {
    let hash = fnv1a64(SOURCES.iter().flat_map(|(_, source)| code(source)));
    let ours = format!("Types: fnv1a64 {hash:016x}");
    assert!(
        PAGE.lines().any(|line| line == ours),
        "the types in proto/src changed. Read proto/WIRE.md against the change, correct it, and put this line in \
         place of its `Types:` line:\n{ours}"
    );
}

/// The rows of the page's tables, by the heading that they stand under; each row as its cells without backticks.
fn tables() -> BTreeMap<&'static str, Vec<Vec<String>>> {
    let mut tables: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
    let mut heading = "";
    for line in PAGE.lines() {
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim();
        } else if line.starts_with('|') && !line.starts_with("|---") {
            let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
            tables.entry(heading).or_default().push(cells);
        }
    }
    for rows in tables.values_mut() {
        rows.remove(0);
    }
    tables
}

#[test]
fn every_kind_stands_there_with_its_number_and_bound() {
    let tables = tables();
    let rows = ["From the client", "From the daemon"].iter().flat_map(|heading| &tables[heading]);
    let page: Vec<[String; 3]> = rows.map(|row| [row[0].clone(), row[1].clone(), row[2].clone()]).collect();
    let ours: Vec<[String; 3]> = Kind::ALL
        .iter()
        .map(|kind| [format!("{kind:?}"), (*kind as u16).to_string(), kind.body_bytes_max().to_string()])
        .collect();
    assert_eq!(page, ours);
}

/// A Rust type as the page writes it.
fn written(rust: &str) -> String {
    let rust = rust.trim().trim_end_matches(',');
    if let Some(inner) = rust.strip_prefix("Option<").and_then(|rest| rest.strip_suffix('>')) {
        return format!("option<{}>", written(inner));
    }
    if let Some(inner) = rust.strip_prefix("Box<").and_then(|rest| rest.strip_suffix('>')) {
        return written(inner);
    }
    if let Some(inner) = rust.strip_prefix("Vec<").and_then(|rest| rest.strip_suffix('>')) {
        return format!("list<{}>", written(inner));
    }
    match rust {
        "String" => "string".to_owned(),
        "Mono" => "mono".to_owned(),
        other => other.to_owned(),
    }
}

/// A struct's fields in their order, from the source: lines `name: Type,` between `Name {` and `}`.
fn fields(name: &str) -> Option<Vec<[String; 2]>> {
    let opens = [format!("{name} {{"), format!("pub struct {name} {{")];
    let lines: Vec<&str> = SOURCES.iter().flat_map(|(_, source)| code(source)).collect();
    let start = lines.iter().position(|line| opens.iter().any(|open| open == line))?;
    let body = lines.iter().skip(start + 1).take_while(|line| !line.starts_with('}'));
    let fields = body.filter(|line| !line.starts_with('#')).map(|line| {
        let (field, of) = line.trim_start_matches("pub ").split_once(": ").unwrap();
        [field.to_owned(), written(of)]
    });
    Some(fields.collect())
}

#[test]
fn every_struct_stands_there_field_by_field() {
    let tables = tables();
    let parts = [
        "Counts",
        "Untold",
        "Failure",
        "View",
        "BreakerRow",
        "LaneRow",
        "WorkerRow",
        "Place",
        "LastFailure",
        "PolicyPatch",
        "Rules",
        "CallsRule",
        "TimeRule",
        "ProbeRate",
    ];
    let names = Kind::ALL.iter().map(|kind| format!("{kind:?}")).chain(parts.map(str::to_owned));
    for name in names {
        let ours = fields(&name).unwrap_or_else(|| panic!("no struct {name} in the sources"));
        let rows = tables.get(name.as_str()).unwrap_or_else(|| panic!("no section {name} in WIRE.md"));
        let page: Vec<[String; 2]> = rows.iter().map(|row| [row[0].clone(), row[1].clone()]).collect();
        assert_eq!(page, ours, "{name}");
    }
}

/// An enum's variants in their order, from the source: what is left of the body at depth one.
fn variants(name: &str) -> Vec<String> {
    let open = format!("pub enum {name} {{");
    let lines: Vec<&str> = SOURCES.iter().flat_map(|(_, source)| code(source)).collect();
    let start = lines.iter().position(|line| *line == open).unwrap_or_else(|| panic!("no enum {name}"));
    let (mut depth, mut variants) = (0, Vec::new());
    for line in lines.iter().skip(start + 1).filter(|line| !line.starts_with('#')) {
        if depth == 0 && line.starts_with('}') {
            break;
        }
        if depth == 0 {
            variants.push(line.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned());
        }
        depth += line.matches('{').count();
        depth -= line.matches('}').count();
    }
    variants
}

#[test]
fn every_enum_stands_there_variant_by_variant() {
    let tables = tables();
    let enums = [
        "Verdict",
        "RejectReason",
        "Outcome",
        "Action",
        "State",
        "Override",
        "Mode",
        "Link",
        "Fallback",
        "AuthErrors",
        "OnQuota",
        "Code",
    ];
    for name in enums {
        let mut ours = String::new();
        for (number, variant) in variants(name).iter().enumerate() {
            writeln!(ours, "{number} {variant}").unwrap();
        }
        let rows = tables.get(name).unwrap_or_else(|| panic!("no section {name} in WIRE.md"));
        let page: String = rows.iter().map(|row| format!("{} {}\n", row[0], row[1])).collect();
        assert_eq!(page, ours, "{name}");
    }
}

#[test]
fn every_enum_that_is_sent_is_in_the_list_above() {
    let lines = SOURCES.iter().flat_map(|(_, source)| code(source));
    let declared: Vec<&str> = lines.filter_map(|line| line.strip_prefix("pub enum ")?.strip_suffix(" {")).collect();
    let unsent = ["WireError", "Kind", "$side"];
    let tables = tables();
    for name in declared.into_iter().filter(|name| !unsent.contains(name)) {
        assert!(tables.contains_key(name), "{name} has no section in WIRE.md");
    }
}
