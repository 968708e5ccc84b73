//! Bytes in, records out: reading WAL without I/O.
//!
//! [`Decoder`] is fed the bytes of one stretch of WAL and gives its records; [`SegmentHeader`] says whose a segment
//! is; [`summary`] keeps what lies in one. Whatever differs between PostgreSQL's majors stands in [`layout`].

mod crc;
mod cursor;
pub mod decoder;
mod end;
pub mod lasting;
pub mod layout;
pub mod locks;
pub mod page;
pub mod record;
pub mod rmgr;
pub mod run;
pub mod summary;
mod walk;
#[cfg(test)]
mod writer;

pub use decoder::{Decoded, Decoder, Piece, Reached};
pub use end::{EndOfWal, EndReason, Gap};
pub use lasting::Lasting;
pub use layout::Layout;
pub use locks::{HeldLock, LockChanges, Locks};
pub use page::{BadPage, SegmentHeader};
pub use record::Record;
pub use rmgr::{
    Body, Checkpoint, Lock, Origin, Outcome, ParameterChange, RelFileLocator, RowChange, Rows, RunningTransactions,
};
pub use summary::{Summarizer, Summary};
