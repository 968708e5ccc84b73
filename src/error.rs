//! Errors as an operator needs them: what happened, to what, why, and what to do next.

use std::fmt;

use serde::Serialize;

use crate::core::{Lsn, Timestamp};

/// What kind of failure it is; decides the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Something went wrong while doing what was asked. Exit status 1.
    Failed,
    /// The command line or the configuration is wrong; nothing was tried. Exit status 2.
    Usage,
    /// The plan has findings that forbid it. Exit status 3.
    Problems,
    /// The target cannot be reached, or does not exist. Exit status 4.
    Unreachable,
    /// It would change something and nobody confirmed. Exit status 5.
    Unconfirmed,
    /// The operator interrupted it. Exit status 130.
    Interrupted,
}

impl ErrorKind {
    /// The process's exit status for it (`docs/cli.md`).
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Problems => 3,
            Self::Unreachable => 4,
            Self::Unconfirmed => 5,
            Self::Interrupted => 130,
        }
    }
}

/// An error with a stable code, its causes and a hint.
///
/// `message` is `WHAT: WHERE`; causes go from the nearest to the deepest; the hint says what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Report>);

/// What an [`Error`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Decides the exit status.
    pub kind: ErrorKind,
    /// A stable word for scripts, like `backup-truncated`.
    pub code: &'static str,
    /// What happened, and to which file or server.
    pub message: String,
    /// Why, from the nearest to the deepest.
    pub causes: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
    /// Where recovery can stop instead.
    pub reachable: Option<Reachable>,
    /// From when to when there are transactions at which it can stop, where the target is a time behind them.
    pub times: Option<(Timestamp, Timestamp)>,
}

/// The nearest place at which recovery can stop, where it cannot stop at the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reachable {
    /// The TARGET options that stop there, as separate words; with `--backup`, where it takes another base backup.
    pub target: Vec<String>,
    /// Where in WAL: the record's start, or the end of the base backup.
    pub lsn: Lsn,
    /// When the last transaction before it ended, where that is known.
    pub at: Option<Timestamp>,
}

/// What most of Walback's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` with a stable `code`.
    #[must_use]
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<String>) -> Error {
        Error(Box::new(Report {
            kind,
            code,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            reachable: None,
            times: None,
        }))
    }

    /// Something went wrong while doing what was asked.
    #[must_use]
    pub fn failed(code: &'static str, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Failed, code, message)
    }

    /// The command line or the configuration is wrong.
    #[must_use]
    pub fn usage(code: &'static str, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Usage, code, message)
    }

    /// The same, caused by `cause` and whatever caused that.
    #[must_use]
    pub fn caused_by(mut self, cause: &dyn std::error::Error) -> Error {
        let mut next = Some(cause);
        while let Some(cause) = next {
            self.0.causes.push(cause.to_string());
            next = cause.source();
        }
        self
    }

    /// The same, with one more cause in words.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Error {
        self.0.causes.push(cause.into());
        self
    }

    /// The same, with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same, with where recovery can stop instead.
    #[must_use]
    pub fn reachable(mut self, reachable: Option<Reachable>) -> Error {
        self.0.reachable = reachable;
        self
    }

    /// The same, with from when to when there are transactions at which recovery can stop.
    #[must_use]
    pub fn times(mut self, times: Option<(Timestamp, Timestamp)>) -> Error {
        self.0.times = times;
        self
    }

    /// What it says, in parts.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.0
    }

    /// What happened and why, line by line: its message, and its causes from the nearest to the deepest.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        std::iter::once(&self.0.message).chain(&self.0.causes).cloned().collect()
    }

    /// What happened and why, in one line.
    #[must_use]
    pub fn in_words(&self) -> String {
        self.lines().join(": ")
    }

    /// As `--json` prints it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        #[derive(Serialize)]
        struct Body<'a> {
            code: &'a str,
            message: String,
            hint: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            reachable: Option<&'a Reachable>,
        }
        let (message, hint) = (self.in_words(), self.0.hint.as_deref());
        let body = Body { code: self.0.code, message, hint, reachable: self.0.reachable.as_ref() };
        serde_json::json!({ "error": body })
    }
}

impl fmt::Display for Error {
    /// `error: …`, `caused by: …`, `hint: …`, one a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.0.message)?;
        for cause in &self.0.causes {
            write!(f, "\ncaused by: {cause}")?;
        }
        if let Some(hint) = &self.0.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_why_and_what_next() {
        let error = Error::failed("unreadable", "cannot read the backup: /b/base.tar")
            .caused_by(&std::io::Error::other("permission denied"))
            .hint("run as a user who may read it");
        assert_eq!(
            error.to_string(),
            "error: cannot read the backup: /b/base.tar\ncaused by: permission denied\nhint: run as a user who may read it"
        );
        assert_eq!(error.to_json()["error"]["message"], "cannot read the backup: /b/base.tar: permission denied");
    }
}
