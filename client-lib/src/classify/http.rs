//! What an HTTP answer is evidence of, whichever client brought it.

use std::time::Duration;

use breakerd_proto::Failure;
use breakerd_proto::clock::ms_up;

use super::retry_after;

/// An answer as far as it is evidence: its status, what it says of when to come back, the provider's word for the error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub(super) status: u16,
    retry_after: Option<Duration>,
    code: String,
}

impl Answer {
    /// An answer with this status and nothing else.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// The same with its headers, of which [`retry_after`](super::retry_after) reads some. With the `http` crate's types:
    /// `headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))`.
    #[must_use]
    pub fn with_headers<'h>(mut self, headers: impl IntoIterator<Item = (&'h str, &'h [u8])>) -> Self {
        self.retry_after = self.retry_after.max(retry_after::of(headers));
        self
    }

    /// The same with the provider's own word for the error, such as `insufficient_quota`: a code, never a sentence, which
    /// could quote what no log should hold.
    #[must_use]
    pub fn with_code(mut self, code: &str) -> Self {
        code.clone_into(&mut self.code);
        self
    }

    /// The failure that the answer is where it is one.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let failure = Failure::new(&format!("http-{}", self.status));
        let failure = match self.code.as_str() {
            "" => failure,
            code => failure.with_detail(&format!("{} {code}", self.status)),
        };
        match self.retry_after {
            Some(after) => failure.with_retry_after_ms(ms_up(after)),
            None => failure,
        }
    }
}
