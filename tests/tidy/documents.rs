//! What the documents name exists.

use std::path::Path;

use breakerd_tests::daemon::workspace;

use crate::files::{assert_none, sources};

/// Commands in the fenced blocks of a document: lines that begin with `$ `, and all lines of `sh` blocks.
fn commands(text: &str) -> Vec<(usize, &str)> {
    let (mut commands, mut fence) = (Vec::new(), None::<&str>);
    for (at, line) in text.lines().enumerate() {
        if let Some(kind) = line.strip_prefix("```") {
            fence = fence.is_none().then_some(kind);
            continue;
        }
        match (fence, line.strip_prefix("$ ")) {
            (Some(_), Some(command)) => commands.push((at + 1, command)),
            (Some("sh" | "bash"), None) if !line.trim().is_empty() && !line.starts_with('#') => {
                commands.push((at + 1, line));
            }
            _ => {}
        }
    }
    commands
}

/// The subcommands that the binary itself lists.
fn subcommands() -> Vec<String> {
    let output = std::process::Command::new(breakerd_tests::daemon::binary()).arg("--help").output().unwrap();
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    let listed = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    listed
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_breakerd_command_of_the_documents_is_one() {
    let known = subcommands();
    assert!(known.iter().any(|name| name == "status"), "no list of commands in --help: {known:?}");
    let mut wrong = Vec::new();
    for document in sources(&["md"]) {
        for (at, command) in commands(&document.text) {
            let rest = command.strip_prefix("breakerd ").or_else(|| command.strip_prefix("cargo run --release -- "));
            let Some(word) = rest.and_then(|rest| rest.split_whitespace().next()) else { continue };
            if !word.starts_with('-') && !known.iter().any(|name| name == word) {
                wrong.push(format!("{}:{at}: breakerd has no command {word:?}", document.path));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_file_that_a_link_of_the_documents_names_is_there() {
    let mut wrong = Vec::new();
    for document in sources(&["md"]) {
        let folder = workspace().join(&document.path);
        let folder = folder.parent().unwrap_or(Path::new("/"));
        for (at, line) in document.text.lines().enumerate() {
            for target in links(line) {
                let file = target.split('#').next().unwrap_or_default();
                if !file.is_empty() && !file.contains("://") && !folder.join(file).exists() {
                    wrong.push(format!("{}:{}: {file} is not there", document.path, at + 1));
                }
            }
        }
    }
    assert_none(&wrong);
}

/// The targets of a line's Markdown links.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[test]
fn every_path_that_the_documents_put_in_code_is_there() {
    let roots = ["proto/", "daemon/", "client-lib/", "tests/", ".ci/", "systemd/"];
    let mut wrong = Vec::new();
    for document in sources(&["md"]) {
        for (at, line) in document.text.lines().enumerate() {
            for code in line.split('`').skip(1).step_by(2) {
                let path = code.split([' ', ':', '#']).next().unwrap_or_default();
                let names_file =
                    roots.iter().any(|root| path.starts_with(root)) && !path.contains(['*', '{', '…', '<']);
                if names_file && !workspace().join(path).exists() {
                    wrong.push(format!("{}:{}: {path} is not there", document.path, at + 1));
                }
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn both_licences_are_there_in_full() {
    let read = |name: &str| std::fs::read_to_string(workspace().join(name)).unwrap();
    assert!(read("LICENSE-MIT").contains("Permission is hereby granted, free of charge"));
    assert!(read("LICENSE-APACHE").contains("END OF TERMS AND CONDITIONS"));
}
