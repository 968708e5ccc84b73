//! Where WAL ends, where it has a gap, and why.

use std::fmt;

use super::page::BadPage;
use crate::core::{Lsn, TimelineId};

/// Where WAL ends, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndOfWal {
    /// Just behind the last whole record: where the server's replay ends, and where the next record would have
    /// started (behind the page header, where this is the start of a page). Where there was no record: where the
    /// first was looked for.
    pub at: Lsn,
    /// Why there is no record.
    pub reason: EndReason,
}

impl fmt::Display for EndOfWal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WAL ends at {}: {}", self.at, self.reason)
    }
}

impl EndOfWal {
    /// The ordinary end of WAL, if nothing comes behind it: where the server stopped writing, or was stopped by a
    /// crash. Anything else is damage.
    #[must_use]
    pub fn is_ordinary(&self) -> bool {
        match self.reason {
            EndReason::Zeroed | EndReason::NoMoreBytes | EndReason::CutOff | EndReason::MissingContinuation => true,
            EndReason::WrongPageAddress { expected, found } => found < expected,
            _ => false,
        }
    }
}

/// A stretch that could not be read, behind which reading went on ([`super::Decoder::resume`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Where reading had stopped, and why. What is damaged lies between here and `resumed`; zeros or old pages, where
    /// they are the reason, are a hole.
    pub stopped: EndOfWal,
    /// What was found to be wrong: the start of the record, or of the page. Where the record goes on behind its page,
    /// the damage can be on any of its pages.
    pub found: Lsn,
    /// Where the first record behind it starts.
    pub resumed: Lsn,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gap { stopped: EndOfWal { at, reason }, found, resumed } = self;
        write!(f, "WAL from {at} to {resumed} cannot be read: at {found}, {reason}")
    }
}

/// Why there is no record where one was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// Zeros: the ordinary end of WAL.
    #[error("nothing was written there yet")]
    Zeroed,
    /// No more was fed, and nothing was begun.
    #[error("there is no more WAL")]
    NoMoreBytes,
    /// No more was fed, but a record or a page header is not complete: the ordinary end of an archive whose last
    /// segment is full.
    #[error("there is no more WAL, and the record there is not complete")]
    CutOff,
    /// The first page is of no major that Walback knows.
    #[error("the page magic {0:04X} is of no PostgreSQL from 13 to 18")]
    UnknownMagic(u16),
    /// A page is not of the same major as those before, or no page of WAL at all.
    #[error("a page has the magic {found:04X} instead of {expected:04X}")]
    BadMagic {
        /// Of the pages before.
        expected: u16,
        /// Of this one.
        found: u16,
    },
    /// A page header is none that a server writes.
    #[error("a page is damaged: {0}")]
    BadPage(BadPage),
    /// A page says that it belongs elsewhere: most often an old segment under a new name, of which this page was not
    /// written again. That is an ordinary end of WAL too.
    #[error("the page at {expected} holds what belongs to {found}: it was recycled and not written again")]
    WrongPageAddress {
        /// Where the page is.
        expected: Lsn,
        /// Where it says it is.
        found: Lsn,
    },
    /// A segment is of another size than was said.
    #[error("the segment is {0} bytes long, unlike the others")]
    WrongSegmentSize(u32),
    /// A segment is another cluster's.
    #[error("the segment belongs to the cluster {found}, those before it to {expected}")]
    WrongSystem {
        /// The system identifier so far.
        expected: u64,
        /// That of this segment.
        found: u64,
    },
    /// A page is of an older timeline than one before.
    #[error("a page of timeline {to} follows one of timeline {from}")]
    TimelineWentBack {
        /// Of the page before.
        from: TimelineId,
        /// Of this page.
        to: TimelineId,
    },
    /// The position that was asked for cannot be a record's start.
    #[error("no record can start there")]
    NotARecordStart,
    /// A page begins with the rest of a record where one had to start.
    #[error("the rest of a record stands where one should start")]
    UnexpectedContinuation,
    /// A page does not begin with the rest of the record that was begun.
    #[error("the rest of the record there is missing")]
    MissingContinuation,
    /// A page begins with the rest of another record than the one that was begun.
    #[error("the rest of the record there should be {expected} bytes long, not {found}")]
    BadContinuation {
        /// Bytes that the record lacks.
        expected: u32,
        /// Bytes that the page announces.
        found: u32,
    },
    /// Not a length that a record can have.
    #[error("a record cannot be {0} bytes long")]
    BadLength(u32),
    /// Not a resource manager.
    #[error("there is no resource manager {0}")]
    UnknownRmgr(u8),
    /// The record does not follow the one before it.
    #[error("the record says that the one before it starts at {found}{}", .expected.map(|lsn| format!(", not at {lsn}")).unwrap_or_default())]
    BadPrevLink {
        /// Where the one before starts, if there was one.
        expected: Option<Lsn>,
        /// Where this one says it starts.
        found: Lsn,
    },
    /// The record says which incomplete one it stands for, and it is another one. A server in recovery gives up there
    /// (`VerifyOverwriteContrecord`, `src/backend/access/transam/xlogrecovery.c`).
    #[error("the record stands for an incomplete one at {found}, but the incomplete one starts at {expected}")]
    WrongOverwrite {
        /// Where the incomplete record starts.
        expected: Lsn,
        /// Where this one says it starts.
        found: Lsn,
    },
    /// The record is damaged.
    #[error("the record's checksum does not match")]
    BadChecksum,
    /// The record's checksum is right, but what it says makes no sense.
    #[error("the record of resource manager {rmgr} with info {info:02X} is not laid out as its version has it")]
    Malformed {
        /// Its resource manager.
        rmgr: u8,
        /// Its info.
        info: u8,
    },
}
