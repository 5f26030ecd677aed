//! The only place that writes to standard output and standard error.

use std::io::{self, Write};

use super::failure::Failure;

/// Writes a text and an end of line, at once.
///
/// # Errors
/// [`Failure::NobodyReads`] if the reader has gone (`breakerd watch | head`), which ends a command without a word.
pub(super) fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::NobodyReads,
        _ => Failure::Output(error),
    })
}

/// Writes a complaint to standard error.
pub(super) fn complain(text: &str) {
    // Where a complaint cannot be written nobody can be told so.
    drop(writeln!(io::stderr().lock(), "breakerd: {text}"));
}

/// The text with every control character and every mark that turns the direction of writing spelled out: what came from
/// a worker or another host must not steer the terminal.
pub(super) fn safe(text: &str) -> String {
    let steers = |c: char| {
        c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        assert_eq!(safe("chat-api[4211] ü"), "chat-api[4211] ü");
        assert_eq!(safe("a\x1b[2Jb\nc\u{202e}d"), "a\\u{1b}[2Jb\\nc\\u{202e}d");
    }
}
