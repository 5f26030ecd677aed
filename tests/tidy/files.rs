//! The project's files, as every rule sees them.

use std::fs;
use std::path::{Path, PathBuf};

use breakerd_tests::daemon::workspace;

/// Longest source file, in lines.
const LINES_MAX: usize = 500;
/// One file of the project.
pub(crate) struct Source {
    /// Its path from the workspace's directory.
    pub(crate) path: String,
    /// What it holds.
    pub(crate) text: String,
}

impl Source {
    /// Whether this is a test: a file under `tests`, or one that its crate compiles for tests alone.
    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// The code that ships: lines before the file's own tests, each with its number, without comments.
    pub(crate) fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(at, line)| (at + 1, line));
        let shipped = lines.take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
        shipped.map(|(at, line)| (at, line.split("//").next().unwrap_or_default()))
    }
}

/// Every text file of the project with one of these extensions, in the order of the paths.
pub(crate) fn sources(extensions: &[&str]) -> Vec<Source> {
    let root = workspace();
    let mut found = Vec::new();
    collect(&root, &root, extensions, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no {extensions:?} in {}", root.display());
    found
}

fn collect(root: &Path, dir: &Path, extensions: &[&str], found: &mut Vec<Source>) {
    let entries: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let made = ["target", "node_modules", "__pycache__", "dist", "venv"].contains(&name.as_str());
        if made || (name.starts_with('.') && name != ".ci") {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, extensions, found);
        } else if extensions.contains(&extension(&path).as_str()) {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let path = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            found.push(Source { path, text });
        }
    }
}

/// A file's extension; its whole name where it has none.
fn extension(path: &Path) -> String {
    path.extension().or_else(|| path.file_name()).unwrap().to_string_lossy().into_owned()
}

/// Complaints, one a line, or nothing.
#[track_caller]
pub(crate) fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn no_file_is_longer_than_a_reader_s_patience() {
    let long = sources(&["rs", "py", "lua", "sh"]).into_iter().filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > LINES_MAX)
            .then(|| format!("{}: {lines} lines; at most {LINES_MAX}: give a part of it a file", source.path))
    });
    assert_none(&long.collect::<Vec<_>>());
}

#[test]
fn no_line_ends_in_blanks_and_every_file_ends_in_a_line() {
    let mut untidy = Vec::new();
    for source in sources(&["rs", "py", "toml", "md", "lua", "sh", "pyi"]) {
        for (at, line) in source.text.lines().enumerate() {
            if line.ends_with([' ', '\t']) {
                untidy.push(format!("{}:{}: ends in a blank", source.path, at + 1));
            }
        }
        if !source.text.is_empty() && (!source.text.ends_with('\n') || source.text.ends_with("\n\n")) {
            untidy.push(format!("{}: must end in exactly one newline", source.path));
        }
    }
    assert_none(&untidy);
}

#[test]
fn no_module_is_a_drawer_for_odds_and_ends() {
    let drawers = ["utils", "util", "helpers", "helper", "common", "misc", "types", "manager", "context"];
    let named = sources(&["rs", "py"]).into_iter().filter(|source| {
        let path = Path::new(&source.path).with_extension("");
        path.components().any(|part| drawers.contains(&part.as_os_str().to_string_lossy().as_ref()))
    });
    let complaints = named.map(|source| format!("{}: say what it is about", source.path));
    assert_none(&complaints.collect::<Vec<_>>());
}

#[test]
fn nothing_of_the_machine_that_it_was_written_on() {
    // Put together here, so that this file does not hold what it forbids.
    let paths = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat(), ["/home", "/"].concat()];
    let files = ["rs", "py", "toml", "md", "lua", "sh", "run", "txt", "lock", "pyi"];
    let mut found = Vec::new();
    for source in sources(&files) {
        for (at, line) in source.text.lines().enumerate() {
            for path in paths.iter().filter(|path| line.contains(path.as_str())) {
                found.push(format!("{}:{}: {path} exists on one machine only", source.path, at + 1));
            }
        }
    }
    assert_none(&found);
}

#[test]
fn packages_come_from_the_public_registries_by_default() {
    let files = sources(&["lock", "txt", "toml", "cfg"]);
    let mut found = Vec::new();
    for source in files {
        for (at, line) in source.text.lines().enumerate() {
            let names = line.starts_with("source = \"")
                && !line.contains("registry+https://github.com/rust-lang/crates.io-index");
            let index = ["--index-url", "--extra-index-url", "index-url ="].iter().any(|option| line.contains(option));
            if names || index {
                found.push(format!("{}:{}: {line}", source.path, at + 1));
            }
        }
    }
    assert_none(&found);
}
