//! How the server gets WAL where `cp` is not enough: it runs Walback, which reads a few instructions. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::catalog::Catalog;
use crate::core::archive::{self, Archive};
use crate::core::{ArchiveFile, Lsn, PgMajor, PlacedCommand, SegmentName, SegmentSize, TimelineId, TimelinePath};

use super::Plan;
use super::build::OWN_DIRECTORY;
use super::settings::quoted_for_server;

/// The command's name.
pub const COMMAND: &str = "fetch";
/// The instructions' file, in Walback's own directory inside the data directory.
pub const INSTRUCTIONS: &str = "fetch.json";
/// A copy of the program there, where the server's user cannot run the original.
pub const PROGRAM: &str = "walback";
/// Segments are made ready there, ahead of replay. It is on `pg_wal`'s file system, so that a rename hands them over.
pub const SPOOL: &str = "spool";
/// The form of the instructions. A program that does not know it refuses.
const FORMAT: u32 = 1;

/// What a plan says about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The program that the server runs.
    pub program: PathBuf,
    /// Whether that is a copy, made in the data directory because the server's user cannot run the original.
    pub copied: bool,
    /// The segments in which timelines fork off, with the older timelines' files of them.
    pub older_files: BTreeMap<SegmentName, BTreeSet<SegmentName>>,
    /// The segments that the archive has as `.partial` only.
    pub partials: BTreeSet<SegmentName>,
    /// The segments on the way up to the predicted stop that no archive has: the backup brought them along, or another
    /// timeline's file of the same place is there. A command that says of any other that it is not there is broken.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub absent: BTreeSet<SegmentName>,
    /// The same in shell, with the system's programs alone, for the runbook.
    pub by_hand: String,
}

impl Fetch {
    /// The value of `restore_command`. The server runs it in the data directory.
    #[must_use]
    pub fn restore_command(&self, recovery: &str) -> String {
        let program = quoted_for_server(&self.program);
        format!("exec {program} {COMMAND} --recovery {} %f \"%p\"", quoted_for_server(Path::new(recovery)))
    }
}

/// Whether `cp` is not enough to get WAL from these archives.
#[must_use]
pub fn is_needed(archives: &[PathBuf], catalog: &Catalog, partials: &BTreeSet<SegmentName>) -> bool {
    let is_packed = !catalog.compressions.is_empty();
    archives.len() > 1 || is_packed || catalog.layouts.has_folders() || !partials.is_empty()
}

/// Where a copy of the program goes.
#[must_use]
pub fn copied_program(directory: &Path) -> PathBuf {
    directory.join(OWN_DIRECTORY).join(PROGRAM)
}

/// What the program that the server runs has to know. It can read neither the journal nor a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instructions {
    format: u32,
    /// The recovery's name.
    pub recovery: String,
    /// The archives, absolute, in the order in which they are asked.
    pub archives: Vec<PathBuf>,
    /// The commands among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<PlacedCommand>,
    /// The size of the cluster's segments.
    pub segment_size: SegmentSize,
    /// Whose WAL it is; as text, since many readers of JSON take numbers of this size for something near them.
    #[serde(with = "text")]
    pub system_identifier: u64,
    /// The major that wrote it.
    pub major: PgMajor,
    /// The way of recovery through the timelines.
    pub way: TimelinePath,
    /// Replay is predicted to stop in the segment that has the byte before this place.
    pub stop: Lsn,
    /// As [`Fetch::older_files`].
    pub older_files: BTreeMap<SegmentName, BTreeSet<SegmentName>>,
    /// As [`Fetch::partials`].
    pub partials: BTreeSet<SegmentName>,
    /// As [`Fetch::absent`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub absent: BTreeSet<SegmentName>,
}

impl Instructions {
    /// For a plan that fetches; `system_identifier` is that of the unpacked backup.
    #[must_use]
    pub fn of(plan: &Plan, system_identifier: u64) -> Option<Instructions> {
        let fetch = plan.fetch.as_ref()?;
        let resolved = &plan.resolved;
        let last = resolved.path.last().copied().unwrap_or(resolved.timeline);
        let left: Vec<(TimelineId, Lsn)> =
            resolved.path.iter().copied().zip(resolved.forks.iter().copied()).filter(|(id, _)| *id != last).collect();
        Some(Instructions {
            format: FORMAT,
            recovery: plan.recovery.clone(),
            archives: plan.wal.clone(),
            commands: plan.commands.clone(),
            segment_size: plan.server.segment_size,
            system_identifier,
            major: plan.server.major,
            way: TimelinePath::new(&left, last),
            stop: resolved.replay_end.max(Lsn(resolved.lsn.0.saturating_add(1))),
            older_files: fetch.older_files.clone(),
            partials: fetch.partials.clone(),
            absent: fetch.absent.clone(),
        })
    }

    /// Reads them.
    ///
    /// # Errors
    /// In words, where these are none, or those of another version of Walback.
    pub fn parse(json: &[u8]) -> Result<Instructions, String> {
        let read: Instructions = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if read.format == FORMAT { Ok(read) } else { Err(format!("their form {} is not known", read.format)) }
    }

    /// The number of the segment in which replay is predicted to stop.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        self.segment_size.number_of(Lsn(self.stop.0.saturating_sub(1)))
    }

    /// All archives, in the order in which they are asked.
    #[must_use]
    pub fn in_order(&self) -> Vec<Archive<'_>> {
        archive::in_order(&self.archives, &self.commands)
    }

    /// Whether this file has to be there, as the plan knows: it lies on the way, before the predicted stop.
    #[must_use]
    pub fn is_expected(&self, file: ArchiveFile) -> bool {
        match file {
            ArchiveFile::Segment(name) => {
                let is_on_way = self.files_of(name.number(self.segment_size)).contains(&name);
                is_on_way && !self.is_behind_the_stop(name) && !self.absent.contains(&name)
            }
            ArchiveFile::History(timeline) => timeline != TimelineId::FIRST && timeline == self.way.last(),
            ArchiveFile::Partial(_) | ArchiveFile::BackupHistory(..) => false,
        }
    }

    /// Whether replay is predicted to stop before it comes to this segment.
    #[must_use]
    pub fn is_behind_the_stop(&self, name: SegmentName) -> bool {
        name.number(self.segment_size) > self.last_number()
    }

    /// The segments that the server will ask for after this one, at most so many, for each the files in which it may
    /// be found, the likeliest first. Nothing behind the one that follows the predicted stop.
    #[must_use]
    pub fn upcoming(&self, after: SegmentName, count: usize) -> Vec<Vec<SegmentName>> {
        let size = self.segment_size;
        let next = after.number(size).saturating_add(1);
        let until = self.last_number().saturating_add(1);
        (next..=until).take(count).map(|number| self.files_of(number)).collect()
    }

    /// The files in which the segment of this number may be found, the likeliest first: the server asks for each in turn
    /// until it gets one.
    #[must_use]
    pub fn files_of(&self, number: u64) -> Vec<SegmentName> {
        let owners = self.way.owners_of(number, self.segment_size).into_iter();
        owners.map(|timeline| SegmentName::new(timeline, number, self.segment_size)).collect()
    }

    /// The files that are of use once the server has asked for this one: those of the same segment, which it may be
    /// fetching at this moment or asks for next, and what is upcoming.
    #[must_use]
    pub fn of_use(&self, asked: SegmentName, upcoming: &[Vec<SegmentName>]) -> Vec<SegmentName> {
        let mut files = self.files_of(asked.number(self.segment_size));
        files.extend(upcoming.iter().flatten());
        files
    }
}

/// A number as text.
mod text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Instructions for tests: segments of 1 MiB, timeline 2 forks off in segment 5, replay stops in segment 8.
#[cfg(test)]
pub(crate) fn example(archives: &[PathBuf]) -> Instructions {
    Instructions {
        format: FORMAT,
        recovery: "restore".to_owned(),
        archives: archives.to_vec(),
        commands: Vec::new(),
        segment_size: SegmentSize::new(1 << 20).unwrap_or(SegmentSize::DEFAULT),
        system_identifier: 7_380_000_000_000_000_001,
        major: PgMajor(15),
        way: TimelinePath::new(&[(TimelineId(1), Lsn(0x50_0148))], TimelineId(2)),
        stop: Lsn(0x80_0100),
        older_files: BTreeMap::new(),
        partials: BTreeSet::new(),
        absent: BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::example as plan;

    fn names(instructions: &Instructions, after: &str, count: usize) -> Vec<String> {
        let upcoming = instructions.upcoming(SegmentName::parse(after).unwrap(), count);
        let short = |name: &SegmentName| format!("{}:{}", name.timeline, name.seg);
        upcoming.iter().map(|files| files.iter().map(short).collect::<Vec<_>>().join(" or ")).collect()
    }

    #[test]
    fn what_comes_next_follows_the_way_and_ends_behind_the_stop() {
        let instructions = example(&[]);
        assert_eq!(names(&instructions, "000000010000000000000003", 3), ["1:4", "2:5 or 1:5", "2:6"]);
        assert_eq!(names(&instructions, "000000020000000000000007", 9), ["2:8", "2:9"]);
        assert!(names(&instructions, "000000020000000000000009", 9).is_empty());
        // Asked for 2:5, which no archive may have, the server asks for 1:5 next.
        let asked = SegmentName::parse("000000020000000000000005").unwrap();
        let files = instructions.of_use(asked, &instructions.upcoming(asked, 2));
        let short: Vec<String> = files.iter().map(|name| format!("{}:{}", name.timeline, name.seg)).collect();
        assert_eq!(short, ["2:5", "1:5", "2:6", "2:7"]);
        assert!(!instructions.is_behind_the_stop(SegmentName::parse("000000020000000000000008").unwrap()));
        assert!(instructions.is_behind_the_stop(SegmentName::parse("000000020000000000000009").unwrap()));
    }

    #[test]
    fn what_has_to_be_there_is_what_lies_before_the_stop_and_is_not_known_to_be_absent() {
        let segment = |name: &str| ArchiveFile::Segment(SegmentName::parse(name).unwrap());
        let absent = SegmentName::parse("000000020000000000000005").unwrap();
        let instructions = Instructions { absent: BTreeSet::from([absent]), ..example(&[]) };
        for (name, expected) in [
            ("000000010000000000000004", true),
            ("000000010000000000000005", true),
            ("000000020000000000000005", false),
            ("000000020000000000000008", true),
            ("000000020000000000000009", false),
            ("000000010000000000000008", false),
        ] {
            assert_eq!(instructions.is_expected(segment(name)), expected, "{name}");
        }
        let history = |number| ArchiveFile::History(TimelineId(number));
        assert_eq!([1, 2, 3].map(|number| instructions.is_expected(history(number))), [false, true, false]);
    }

    #[test]
    fn they_read_back_and_those_of_another_form_are_refused() {
        let instructions = example(&[PathBuf::from("/a b")]);
        let json = serde_json::to_vec(&instructions).unwrap();
        assert_eq!(Instructions::parse(&json), Ok(instructions.clone()));
        let other = Instructions { format: 2, ..instructions };
        assert!(Instructions::parse(&serde_json::to_vec(&other).unwrap()).unwrap_err().contains("form 2"));
        assert!(Instructions::parse(b"").is_err());
    }

    #[test]
    fn the_command_survives_the_server_and_the_shell() {
        let fetch = Fetch {
            program: PathBuf::from("/opt/it's 100%/walback"),
            copied: false,
            older_files: BTreeMap::new(),
            partials: BTreeSet::new(),
            absent: BTreeSet::new(),
            by_hand: String::new(),
        };
        let command = fetch.restore_command("a");
        assert_eq!(command, r#"exec '/opt/it'\''s 100%%/walback' fetch --recovery a %f "%p""#);
        let mut plan = plan();
        plan.fetch = Some(fetch);
        let instructions = Instructions::of(&plan, 7).unwrap();
        assert_eq!((instructions.stop, instructions.way.last()), (Lsn(0x300_0149), TimelineId(1)));
    }
}
