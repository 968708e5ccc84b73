//! The vocabulary: what PostgreSQL's operators talk about, as values. No I/O, no clock.

pub mod abbreviation;
pub mod amount;
pub mod archive;
pub mod check;
pub mod lsn;
pub mod progress;
pub mod segment;
pub mod target;
pub mod thresholds;
pub mod time;
pub mod timeline;
pub mod version;
pub mod xid;

pub use archive::{Archive, FetchCommand, PlacedCommand};
pub use check::{Check, Checked, Expectation, Rows};
pub use lsn::Lsn;
pub use segment::{ArchiveFile, SegmentName, SegmentSize};
pub use target::{Action, RestorePointName, Target, TargetKind, TimelineChoice};
pub use thresholds::{Grade, Limits, Thresholds};
pub use time::{Timestamp, Zone};
pub use timeline::{TimelineId, TimelinePath};
pub use version::{DatabaseLocaleColumns, PgMajor};
pub use xid::Xid;
