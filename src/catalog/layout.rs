//! Where a file of an archive lies below the archive's directory: the one place that decides it. Pure.

use std::fmt;

use crate::core::{ArchiveFile, SegmentName, TimelineId};

/// A way of sorting an archive's files into folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    /// Into none.
    Flat,
    /// A folder for each timeline and number in the middle of a segment's name: `0000000100000000/`. So does Barman
    /// (`wals`, 1.0 to 3), which leaves history files at the top.
    ByLog,
    /// A folder for each timeline: `00000001/`.
    ByTimeline,
}

impl Layout {
    /// All, in the order in which a file is looked for.
    pub const ALL: [Layout; 3] = [Layout::Flat, Layout::ByLog, Layout::ByTimeline];

    /// The folder of a file in this layout; `None` where it lies at the top.
    #[must_use]
    pub fn folder_of(self, file: ArchiveFile) -> Option<Folder> {
        match (self, file) {
            (Layout::Flat, _) | (Layout::ByLog, ArchiveFile::History(_)) => None,
            (Layout::ByTimeline, ArchiveFile::History(timeline)) => Some(Folder { timeline, log: None }),
            (
                _,
                ArchiveFile::Segment(SegmentName { timeline, log, .. })
                | ArchiveFile::Partial(SegmentName { timeline, log, .. })
                | ArchiveFile::BackupHistory(SegmentName { timeline, log, .. }, _),
            ) => Some(Folder { timeline, log: (self == Layout::ByLog).then_some(log) }),
        }
    }
}

/// A folder below an archive's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Folder {
    timeline: TimelineId,
    log: Option<u32>,
}

impl Folder {
    /// By its name, which is 8 or 16 upper-case hexadecimal digits.
    #[must_use]
    pub fn parse(name: &str) -> Option<Folder> {
        if !matches!(name.len(), 8 | 16) {
            return None;
        }
        // As the beginning of a segment's name.
        let SegmentName { timeline, log, .. } = SegmentName::parse(&format!("{name:0<24}"))?;
        Some(Folder { timeline, log: (name.len() == 16).then_some(log) })
    }

    /// The layout that has such folders.
    #[must_use]
    pub fn layout(self) -> Layout {
        if self.log.is_some() { Layout::ByLog } else { Layout::ByTimeline }
    }

    /// Whether a file belongs into it.
    #[must_use]
    pub fn is_of(self, file: ArchiveFile) -> bool {
        self.layout().folder_of(file) == Some(self)
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}", self.timeline.0)?;
        self.log.map_or(Ok(()), |log| write!(f, "{log:08X}"))
    }
}

/// The layouts that an archive has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Layouts(u8);

impl Layouts {
    /// Every one that there is: of an archive that was not listed.
    pub const ANY: Layouts = Layouts(0b111);

    /// One more.
    pub fn add(&mut self, layout: Layout) {
        self.0 |= 1 << layout as u8;
    }

    /// The one of a file in this folder, or at the top.
    pub fn add_folder(&mut self, folder: Option<Folder>) {
        self.add(folder.map_or(Layout::Flat, Folder::layout));
    }

    /// Those of either.
    #[must_use]
    pub fn and(self, other: Layouts) -> Layouts {
        Layouts(self.0 | other.0)
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn has(self, layout: Layout) -> bool {
        self.0 & (1 << layout as u8) != 0
    }

    /// Whether there may be files in folders.
    #[must_use]
    pub fn has_folders(self) -> bool {
        self.has(Layout::ByLog) || self.has(Layout::ByTimeline)
    }

    /// The folders in which a file is looked for, in this order; `None` stands for the top, where history files are
    /// always looked for.
    pub fn places_of(self, file: ArchiveFile) -> impl Iterator<Item = Option<Folder>> + Clone {
        let is_history = matches!(file, ArchiveFile::History(_));
        Layout::ALL.into_iter().filter_map(move |layout| {
            let folder = layout.folder_of(file);
            // At the top it lies in several layouts, and is looked for once.
            let is_looked_for = match folder {
                None => layout == Layout::Flat && (is_history || self.has(layout)),
                Some(_) => self.has(layout),
            };
            is_looked_for.then_some(folder)
        })
    }
}

/// A file's path below the archive's directory.
#[must_use]
pub fn path_in(folder: Option<Folder>, name: &str) -> String {
    folder.map_or_else(|| name.to_owned(), |folder| format!("{folder}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn paths(layouts: Layouts, name: &str) -> Vec<String> {
        let file = ArchiveFile::parse(name).unwrap();
        layouts.places_of(file).map(|folder| path_in(folder, name)).collect()
    }

    fn only(layout: Layout) -> Layouts {
        let mut layouts = Layouts::default();
        layouts.add(layout);
        layouts
    }

    #[test]
    fn a_name_says_where_its_file_may_lie() {
        let segment = "0000000A0000000B0000000C";
        assert_eq!(paths(only(Layout::Flat), segment), [segment]);
        assert_eq!(paths(only(Layout::ByLog), segment), [format!("0000000A0000000B/{segment}")]);
        assert_eq!(paths(only(Layout::ByTimeline), segment), [format!("0000000A/{segment}")]);
        assert_eq!(paths(Layouts::ANY, segment).len(), 3);
        for name in [format!("{segment}.partial"), format!("{segment}.00000028.backup")] {
            assert_eq!(paths(only(Layout::ByLog), &name), [format!("0000000A0000000B/{name}")]);
        }
        let history = "0000000A.history";
        assert_eq!(paths(only(Layout::ByLog), history), [history]);
        assert_eq!(paths(only(Layout::ByTimeline), history), [history.to_owned(), format!("0000000A/{history}")]);
        assert_eq!(paths(Layouts::ANY, history).len(), 2, "at the top once");
        assert!(Layouts::ANY.has_folders() && !only(Layout::Flat).has_folders());
    }

    #[test]
    fn other_folders_are_none() {
        for name in ["", "0000000", "0000000a", "000000010000000", "archive_status", "00000001000000000", "0000000é"] {
            assert_eq!(Folder::parse(name), None, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn folders_read_back(timeline: u32, log: u32, seg: u32) {
            let file = ArchiveFile::Segment(SegmentName { timeline: TimelineId(timeline), log, seg });
            for layout in [Layout::ByLog, Layout::ByTimeline] {
                let folder = layout.folder_of(file).unwrap();
                prop_assert_eq!(Folder::parse(&folder.to_string()), Some(folder));
                prop_assert!(folder.layout() == layout && folder.is_of(file));
            }
        }

        #[test]
        fn no_name_makes_it_panic(name in "\\PC{0,20}") {
            let _ = Folder::parse(&name);
        }
    }
}
