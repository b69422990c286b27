//! One request and its result.

use std::time::Duration;

use crate::{answer::Answer, credential::CredentialRead, error::PollError, server_clock::Correction};

/// One request and its result.
#[derive(Debug)]
pub struct Exchange {
    /// The request's `X-Traceid`, by which the vendor's support finds it; empty where there was no request.
    pub trace_id: String,
    /// How the credential was read for it.
    pub credential: CredentialRead,
    /// By how much `X-Date` was corrected.
    pub correction: Correction,
    /// Whether another clock than this had been refused.
    pub is_dated_anew: bool,
    /// How far the request came.
    pub stage: Stage,
    /// The answer, or why there is none.
    pub result: Result<Answer, PollError>,
}

/// How far a request came.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Stage {
    /// It was not sent: there is no credential, say.
    #[default]
    Unsent,
    /// It was sent, and no answer came.
    Sent,
    /// An answer's head came; its body may be missing.
    Answered(Head),
}

/// What is read from the head of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Head {
    /// The HTTP status.
    pub status: u16,
    /// The local clock minus the `Date` header, in seconds, where the answer has one and is the API's own.
    pub clock_skew: Option<f64>,
    /// How long the API asks to be left alone, where it answered 429 or 503 and says so.
    pub retry_after: Option<Duration>,
}

impl Exchange {
    /// One that has not come to anything yet, and which ends with `error` unless it does.
    #[must_use]
    pub fn unfinished(error: PollError) -> Self {
        let (correction, is_dated_anew, stage) = Default::default();
        let (trace_id, credential) = (String::new(), CredentialRead::Known);
        Self { trace_id, credential, correction, is_dated_anew, stage, result: Err(error) }
    }

    /// The trace id of a request that was sent.
    #[must_use]
    pub fn sent_trace_id(&self) -> Option<&str> {
        (self.stage != Stage::Unsent).then_some(&*self.trace_id)
    }

    /// The head of the answer, where one came.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        match self.stage {
            Stage::Answered(head) => Some(head),
            Stage::Unsent | Stage::Sent => None,
        }
    }

    /// How long the API asks to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.head()?.retry_after
    }
}
