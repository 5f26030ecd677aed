//! One breaker as the fleet stores it: `ver|st|dur|until|lid|holder|lease|ok|sv|step|ov|end|by|why`.
//!
//! Integers are decimal, times are milliseconds of Redis's clock. `by` and `why` are percent-encoded just enough that a
//! person can still read them: what is not printable ASCII, `%` and `|`.

use std::fmt;

use breakerd_proto::limits::{AUTHOR_BYTES_MAX, REASON_BYTES_MAX};
use breakerd_proto::{Name, Override, State, outcome};

/// Longest value, in bytes: what no writer of this version comes near, with room for a newer one's trailing fields.
pub const VALUE_BYTES_MAX: usize = 2048;
/// Longest lease id or holder, in bytes.
pub const ID_BYTES_MAX: usize = 64;
/// Largest integer that a script can count to without losing one: its numbers are doubles.
pub const INTEGER_MAX: u64 = 1 << 53;

/// One breaker as the fleet knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Value {
    /// The fleet's number of this change.
    pub version: u64,
    /// The state beneath the override.
    pub state: State,
    /// How long open lasts, in ms; bounds what is left of it on every host. What probes have closed keeps it and `step`.
    pub duration_ms: u64,
    /// The end of the cooldown, in ms of Redis's clock; stays where it was in half-open.
    pub until_ms: u64,
    /// The probe lease's id, empty if nobody holds it.
    pub lease_id: String,
    /// The host that holds the lease, empty if none.
    pub holder: String,
    /// The end of the lease, in ms of Redis's clock, 0 if nobody holds it.
    pub lease_until_ms: u64,
    /// Probes that succeeded in this half-open.
    pub successes: u64,
    /// The version in an earlier epoch that this was seeded from, 0 if it was not.
    pub seed_version: u64,
    /// Reopenings since the trip.
    pub step: u32,
    /// The override over the state.
    pub forced: Option<Override>,
    /// The end of the override, in ms of Redis's clock, 0 for until released.
    pub forced_until_ms: u64,
    /// Who made the last change: `chat-api[4211]@web-1`.
    pub by: String,
    /// Why: `3 consecutive failures, last http-401`.
    pub why: String,
    /// Fields of a newer writer, as they came, with the bar before the first; passed on unchanged.
    pub extra: String,
}

/// Why a text is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadValue {
    /// More than [`VALUE_BYTES_MAX`] bytes.
    TooLong,
    /// Fewer than fourteen fields.
    TooFewFields,
    /// This field, counted from 1, breaks its rule.
    Field(u8),
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "a value has more than {VALUE_BYTES_MAX} bytes"),
            Self::TooFewFields => f.write_str("a value has fewer than 14 fields"),
            Self::Field(number) => write!(f, "field {number} of a value breaks its rule"),
        }
    }
}

impl std::error::Error for BadValue {}

impl Value {
    /// Parses a stored value. Fields after the fourteenth are kept and not looked at.
    ///
    /// # Errors
    /// [`BadValue`] tells the first field that is wrong.
    pub fn parse(text: &str) -> Result<Self, BadValue> {
        if text.len() > VALUE_BYTES_MAX {
            return Err(BadValue::TooLong);
        }
        let mut fields = Fields { rest: Some(text), number: 0 };
        let value = Self {
            version: fields.integer()?,
            state: fields.read(state)?,
            duration_ms: fields.integer()?,
            until_ms: fields.integer()?,
            lease_id: fields.read(id)?,
            holder: fields.read(id)?,
            lease_until_ms: fields.integer()?,
            successes: fields.integer()?,
            seed_version: fields.integer()?,
            step: fields.read(|text| integer(text).and_then(|step| u32::try_from(step).ok()))?,
            forced: fields.read(forced)?,
            forced_until_ms: fields.integer()?,
            by: fields.read(|text| decode(text, AUTHOR_BYTES_MAX))?,
            why: fields.read(|text| decode(text, REASON_BYTES_MAX))?,
            extra: fields.rest.map(|rest| format!("|{rest}")).unwrap_or_default(),
        };
        match extra_is_plain(&value.extra) {
            true => Ok(value),
            false => Err(BadValue::Field(15)),
        }
    }

    /// Whether it stands in the fleet's table: what is closed and not forced does not.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.state != State::Closed || self.forced.is_some()
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Closed => 'C',
            State::Open => 'O',
            State::HalfOpen => 'H',
        };
        write!(f, "{}|{state}|{}|{}|", self.version, self.duration_ms, self.until_ms)?;
        write!(f, "{}|{}|{}|{}|", self.lease_id, self.holder, self.lease_until_ms, self.successes)?;
        write!(f, "{}|{}|{}|{}|", self.seed_version, self.step, force_letter(self.forced), self.forced_until_ms)?;
        write!(f, "{}|{}{}", encode(&self.by), encode(&self.why), self.extra)
    }
}

/// The letter of an override: `F` forced open, `K` kept closed, `-` none.
#[must_use]
pub fn force_letter(forced: Option<Override>) -> &'static str {
    match forced {
        None => "-",
        Some(Override::ForcedOpen) => "F",
        Some(Override::ForcedClosed) => "K",
    }
}

/// An author or reason as it stands in a value.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | b'|' => encoded.push_str(&format!("%{byte:02X}")),
            b' '..=b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// An author or reason as this host sends it: cut to its bound, and control characters made spaces, so that no host's
/// terminal or log ever meets them.
#[must_use]
pub fn scrub(text: &str, bytes_max: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    outcome::cut(&clean, bytes_max).to_owned()
}

/// What [`encode`] made, read again; control characters, which no writer of ours sends, become `?`.
fn decode(text: &str, bytes_max: usize) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => bytes.push(hex_digit(rest.next()?)? << 4 | hex_digit(rest.next()?)?),
            b' '..=b'~' => bytes.push(byte),
            _ => return None,
        }
    }
    let decoded = String::from_utf8(bytes).ok()?;
    if decoded.len() > bytes_max {
        return None;
    }
    Some(decoded.chars().map(|c| if c.is_control() { '?' } else { c }).collect())
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// A decimal integer up to [`INTEGER_MAX`], with no sign and no leading zero.
pub(super) fn integer(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let plain = text == "0" || !text.starts_with('0');
    if !digits || !plain {
        return None;
    }
    text.parse().ok().filter(|n| *n <= INTEGER_MAX)
}

fn state(text: &str) -> Option<State> {
    match text {
        "C" => Some(State::Closed),
        "O" => Some(State::Open),
        "H" => Some(State::HalfOpen),
        _ => None,
    }
}

fn forced(text: &str) -> Option<Option<Override>> {
    match text {
        "-" => Some(None),
        "F" => Some(Some(Override::ForcedOpen)),
        "K" => Some(Some(Override::ForcedClosed)),
        _ => None,
    }
}

fn id(text: &str) -> Option<String> {
    (text.len() <= ID_BYTES_MAX && text.chars().all(Name::allows)).then(|| text.to_owned())
}

/// Whatever a newer writer appends, it may not break the event's lines.
fn extra_is_plain(extra: &str) -> bool {
    extra.bytes().all(|b| (b' '..=b'~').contains(&b))
}

/// The fields of one value, taken from the left.
struct Fields<'a> {
    rest: Option<&'a str>,
    number: u8,
}

impl<'a> Fields<'a> {
    fn read<T>(&mut self, read: impl FnOnce(&'a str) -> Option<T>) -> Result<T, BadValue> {
        let rest = self.rest.ok_or(BadValue::TooFewFields)?;
        self.number = self.number.saturating_add(1);
        let field = match rest.split_once('|') {
            Some((field, rest)) => {
                self.rest = Some(rest);
                field
            }
            None => {
                self.rest = None;
                rest
            }
        };
        read(field).ok_or(BadValue::Field(self.number))
    }

    fn integer(&mut self) -> Result<u64, BadValue> {
        self.read(integer)
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;

    const TRIP: &str =
        "7|O|15000|1732469628123|||0|0|0|0|-|0|chat-api[4211]@web-1|3 consecutive failures, last http-401";

    pub(in crate::fleet) fn any_value() -> impl Strategy<Value = Value> {
        let integer = 0..=INTEGER_MAX;
        let id = "[A-Za-z0-9._:/@+-]{0,64}";
        let words =
            |bytes_max: usize| "[^\\p{Cc}]{0,90}".prop_map(move |text| outcome::cut(&text, bytes_max).to_owned());
        let numbers = (integer.clone(), integer.clone(), integer.clone(), integer.clone(), integer.clone(), integer);
        let states = prop_oneof![Just(State::Closed), Just(State::Open), Just(State::HalfOpen)];
        let forces = prop_oneof![Just(None), Just(Some(Override::ForcedOpen)), Just(Some(Override::ForcedClosed))];
        let texts = (id, id, words(AUTHOR_BYTES_MAX), words(REASON_BYTES_MAX), "(\\|[ -~]{0,20})?");
        (numbers, any::<u32>(), states, forces, texts, 0..=INTEGER_MAX).prop_map(
            |(numbers, step, state, forced, (lease_id, holder, by, why, extra), forced_until_ms)| {
                let (version, duration_ms, until_ms, lease_until_ms, successes, seed_version) = numbers;
                Value {
                    version,
                    state,
                    duration_ms,
                    until_ms,
                    lease_id,
                    holder,
                    lease_until_ms,
                    successes,
                    seed_version,
                    step,
                    forced,
                    forced_until_ms,
                    by,
                    why,
                    extra,
                }
            },
        )
    }

    #[test]
    fn a_trip_can_be_read_by_a_person_and_by_us() {
        let value = Value::parse(TRIP).unwrap();
        assert_eq!(value.version, 7);
        assert_eq!(value.state, State::Open);
        assert_eq!(value.by, "chat-api[4211]@web-1");
        assert_eq!(value.why, "3 consecutive failures, last http-401");
        assert_eq!(value.to_string(), TRIP);
        assert!(value.is_held());
        let closed = Value { state: State::Closed, ..value };
        assert!(!closed.is_held() && Value { forced: Some(Override::ForcedClosed), ..closed }.is_held());
    }

    #[test]
    fn a_value_may_have_so_many_bytes_and_an_author_too() {
        let plain = Value { by: "a".repeat(AUTHOR_BYTES_MAX), ..Value::default() };
        assert_eq!(Value::parse(&plain.to_string()), Ok(plain.clone()));
        let long = Value { by: "a".repeat(AUTHOR_BYTES_MAX + 1), ..Value::default() };
        assert_eq!(Value::parse(&long.to_string()), Err(BadValue::Field(13)));
        let whole = format!("{plain}|{}", "x".repeat(VALUE_BYTES_MAX - plain.to_string().len() - 1));
        assert!(Value::parse(&whole).is_ok());
        assert_eq!(Value::parse(&format!("{whole}x")), Err(BadValue::TooLong));
    }

    #[test]
    fn fields_of_a_newer_writer_are_kept() {
        let text = format!("{TRIP}|new|99");
        let value = Value::parse(&text).unwrap();
        assert_eq!(value.extra, "|new|99");
        assert_eq!(value.to_string(), text);
    }

    #[test]
    fn each_broken_field_is_named() {
        let rows = [
            ("", BadValue::Field(1)),
            ("1|O", BadValue::TooFewFields),
            ("-1|O|0|0|||0|0|0|0|-|0||", BadValue::Field(1)),
            ("01|O|0|0|||0|0|0|0|-|0||", BadValue::Field(1)),
            ("9007199254740993|O|0|0|||0|0|0|0|-|0||", BadValue::Field(1)),
            ("1|X|0|0|||0|0|0|0|-|0||", BadValue::Field(2)),
            ("1|O|0|0|a b||0|0|0|0|-|0||", BadValue::Field(5)),
            ("1|O|0|0|||0|0|0|4294967296|-|0||", BadValue::Field(10)),
            ("1|O|0|0|||0|0|0|0|Z|0||", BadValue::Field(11)),
            ("1|O|0|0|||0|0|0|0|-|0|%|", BadValue::Field(13)),
            ("1|O|0|0|||0|0|0|0|-|0||%FF", BadValue::Field(14)),
            ("1|O|0|0|||0|0|0|0|-|0|||a\tb", BadValue::Field(15)),
        ];
        for (text, bad) in rows {
            assert_eq!(Value::parse(text), Err(bad), "{text:?}");
        }
        let long = format!("1|O|0|0|||0|0|0|0|-|0||{}", "a".repeat(REASON_BYTES_MAX + 1));
        assert_eq!(Value::parse(&long), Err(BadValue::Field(14)));
        assert_eq!(Value::parse(&"1".repeat(VALUE_BYTES_MAX + 1)), Err(BadValue::TooLong));
    }

    #[test]
    fn control_characters_reach_nobody() {
        assert_eq!(scrub("a\u{1b}[31m\nb", 64), "a [31m b");
        let value = Value::parse("1|O|0|0|||0|0|0|0|-|0||a%1B%0Ab").unwrap();
        assert_eq!(value.why, "a??b");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in any_value()) {
            let text = value.to_string();
            prop_assert!(text.len() <= VALUE_BYTES_MAX);
            prop_assert_eq!(Value::parse(&text), Ok(value));
        }

        #[test]
        fn no_text_panics_and_what_is_accepted_stays_the_same(text in "[0-9OHCFK|%a-f -]{0,60}|\\PC{0,80}") {
            if let Ok(value) = Value::parse(&text) {
                prop_assert_eq!(Value::parse(&value.to_string()), Ok(value));
            }
        }
    }
}
