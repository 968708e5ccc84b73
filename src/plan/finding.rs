//! What preflight found.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// The recovery works, but perhaps not as meant.
    Warning,
    /// The recovery would fail, or do harm. It is not begun.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One result of preflight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A stable word for scripts, like `directory-not-empty`.
    pub code: Cow<'static, str>,
    /// What is wrong, and with what.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Finding {
    /// Something that forbids the recovery.
    #[must_use]
    pub fn error(code: &'static str, message: impl Into<String>) -> Finding {
        Self::new(Severity::Error, code, message)
    }

    /// Something that may not be as meant.
    #[must_use]
    pub fn warning(code: &'static str, message: impl Into<String>) -> Finding {
        Self::new(Severity::Warning, code, message)
    }

    /// Something good to know.
    #[must_use]
    pub fn note(code: &'static str, message: impl Into<String>) -> Finding {
        Self::new(Severity::Note, code, message)
    }

    fn new(severity: Severity, code: &'static str, message: impl Into<String>) -> Finding {
        Finding { severity, code: Cow::Borrowed(code), message: message.into(), hint: None }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Finding {
        self.hint = Some(hint.into());
        self
    }
}
