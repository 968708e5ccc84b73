//! What there is to recover from: base backups, timelines, WAL. Pure: it is made from listings, and reads nothing.

pub mod backup;
pub mod point;
pub mod timeline;

pub use backup::{Backup, BackupKind, Compression, Part, PartContents, Tablespace};
pub use point::{Point, PointKind};
pub use timeline::{Gap, Timeline};

use std::collections::{BTreeMap, BTreeSet};

use crate::core::{SegmentName, SegmentSize, TimelineId};
use crate::pgdata::history::History;

/// Everything that a source has.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalog {
    /// Base backups, the newest first.
    pub backups: Vec<Backup>,
    /// Timelines by number.
    pub timelines: Vec<Timeline>,
    /// Which cluster it all is of, where anything told.
    pub system_identifier: Option<u64>,
    /// The size of the cluster's segments.
    pub segment_size: SegmentSize,
    /// What could not be read, or does not belong here, in words.
    pub problems: Vec<String>,
    /// The whole segments that the archives have.
    pub segments: BTreeSet<SegmentName>,
    /// The history of every timeline that has one which parses.
    pub histories: BTreeMap<TimelineId, History>,
}
