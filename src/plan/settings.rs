//! The settings of a recovery: where it stops, where WAL comes from, and what keeps the copy from doing harm.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::catalog::compression::{may_be_short, names_of};
use crate::catalog::{Compression, Layout, Layouts};
use crate::core::archive::{Archive, in_order};
use crate::core::{
    Action, ArchiveFile, PgMajor, PlacedCommand, SegmentName, SegmentSize, Target, TargetKind, TimelineId,
};
use crate::resolve::{Resolved, StopSide};

/// Every setting that says where recovery stops (`src/backend/utils/misc/guc_tables.c`, 13 to 18).
pub const TARGET_SETTINGS: [&str; 5] =
    ["recovery_target", "recovery_target_name", "recovery_target_time", "recovery_target_xid", "recovery_target_lsn"];

/// What belongs to recovery and has to be gone after promotion.
pub const RECOVERY_SETTINGS: [&str; 13] = [
    "recovery_target",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
    "recovery_target_lsn",
    "recovery_target_inclusive",
    "recovery_target_timeline",
    "recovery_target_action",
    "restore_command",
    "recovery_end_command",
    "archive_cleanup_command",
    "recovery_min_apply_delay",
    "recovery_prefetch",
];

/// What keeps the copy able to go back while it is paused: whatever is written to its files then cannot be undone, and
/// restartpoints and the background writer write by and by (`CreateRestartPoint`, `xlog.c`; `BgBufferSync`, `bufmgr.c`).
/// Replay still makes restartpoints by the amount of WAL. Gone after promotion.
pub const WAY_BACK_SETTINGS: [(&str, &str); 2] = [("bgwriter_lru_maxpages", "0"), ("checkpoint_timeout", "1d")];

/// What Walback has to set itself, to find the server and to know what it does; with the settings of recovery, nobody
/// else's to set.
pub const OWN_SETTINGS: [&str; 15] = [
    "config_file",
    "data_directory",
    "hba_file",
    "hot_standby",
    "ident_file",
    "lc_messages",
    "log_destination",
    "log_error_verbosity",
    "log_line_prefix",
    "log_min_messages",
    "log_timezone",
    "logging_collector",
    "port",
    "recovery_prefetch",
    "unix_socket_directories",
];

/// Whether no operator may set this: it is Walback's own.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    RECOVERY_SETTINGS.iter().chain(&OWN_SETTINGS).any(|own| own.eq_ignore_ascii_case(name))
}

/// The settings that make the server stop where the resolved target says: those of what it is told instead of the
/// target, where that is not the same.
///
/// The order matters: a target that is set to nothing after another one was set is taken for a second target and
/// refused, so the empty ones come first (`assign_recovery_target*`, `xlogrecovery.c`; 13 to 18).
#[must_use]
pub fn target_settings(target: &Target, resolved: &Resolved) -> Vec<(String, String)> {
    let target = resolved.as_told(target);
    let (wanted, value) = match (&target.kind, resolved.stop) {
        // The server has no word for it: it is always told a record instead.
        (TargetKind::Latest, _) | (_, StopSide::EndOfWal) => ("recovery_target_lsn", resolved.lsn.to_string()),
        (TargetKind::Time(time), _) => ("recovery_target_time", time.for_server()),
        (TargetKind::Xid(xid), _) => ("recovery_target_xid", xid.to_string()),
        (TargetKind::Lsn(lsn), _) => ("recovery_target_lsn", lsn.to_string()),
        (TargetKind::Name(name), _) => ("recovery_target_name", name.as_str().to_owned()),
        (TargetKind::Immediate, _) => ("recovery_target", "immediate".to_owned()),
    };
    let inclusive = !target.has_sides() || target.inclusive;
    let empty = TARGET_SETTINGS.iter().filter(|name| **name != wanted).map(|name| ((*name).to_owned(), String::new()));
    empty
        .chain([
            (wanted.to_owned(), value),
            ("recovery_target_inclusive".to_owned(), on_off(inclusive)),
            ("recovery_target_timeline".to_owned(), timeline_setting(resolved.timeline)),
            ("recovery_target_action".to_owned(), action_setting(target.action).to_owned()),
        ])
        .collect()
}

/// Always a number: "latest" would follow whatever forks off later.
fn timeline_setting(timeline: TimelineId) -> String {
    timeline.to_string()
}

fn action_setting(action: Action) -> &'static str {
    match action {
        Action::Pause => "pause",
        Action::Promote => "promote",
        Action::Shutdown => "shutdown",
    }
}

fn on_off(on: bool) -> String {
    if on { "on".to_owned() } else { "off".to_owned() }
}

/// Settings by which a copy reaches out of itself, or others into it. An operator may want that of a recovery, and of a drill
/// nobody does: one that archives adds a timeline to production's archive.
pub const REACHING_OUT: [&str; 11] = [
    "archive_command",
    "archive_library",
    "archive_mode",
    "external_pid_file",
    "listen_addresses",
    "max_logical_replication_workers",
    "promote_trigger_file",
    "stats_temp_directory",
    "synchronous_standby_names",
    "unix_socket_group",
    "unix_socket_permissions",
];

/// What keeps a restored copy from touching anything but itself, and lets Walback follow it.
pub struct Isolation<'a> {
    /// The server's version.
    pub major: PgMajor,
    /// Its own port.
    pub port: u16,
    /// Its own directory for sockets.
    pub socket_directory: &'a Path,
    /// Its own `pg_hba.conf`.
    pub hba_file: &'a Path,
    /// Its own `pg_ident.conf`.
    pub ident_file: &'a Path,
    /// Its own second file with the process id: a copied setting would overwrite the original server's.
    pub external_pid_file: &'a Path,
}

impl Isolation<'_> {
    /// The settings, in alphabetical order.
    #[must_use]
    pub fn settings(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.display().to_string();
        let mut settings = vec![
            ("archive_command", String::new()),
            ("archive_mode", "off".to_owned()),
            ("cluster_name", "walback".to_owned()),
            // A server in recovery refuses every query of a session that is serializable by default.
            ("default_transaction_isolation", "read committed".to_owned()),
            ("external_pid_file", text(self.external_pid_file)),
            ("hba_file", text(self.hba_file)),
            ("hot_standby", "on".to_owned()),
            ("ident_file", text(self.ident_file)),
            ("lc_messages", "C".to_owned()),
            ("listen_addresses", String::new()),
            ("local_preload_libraries", String::new()),
            ("log_destination", "stderr".to_owned()),
            ("log_error_verbosity", "default".to_owned()),
            ("log_line_prefix", "%m [%p] %b %e: ".to_owned()),
            ("log_min_messages", "warning".to_owned()),
            ("log_timezone", "UTC".to_owned()),
            ("logging_collector", "off".to_owned()),
            ("max_logical_replication_workers", "0".to_owned()),
            ("port", self.port.to_string()),
            ("primary_conninfo", String::new()),
            ("primary_slot_name", String::new()),
            ("recovery_end_command", String::new()),
            ("archive_cleanup_command", String::new()),
            ("recovery_min_apply_delay", "0".to_owned()),
            ("session_preload_libraries", String::new()),
            ("shared_preload_libraries", String::new()),
            ("ssl", "off".to_owned()),
            ("synchronous_standby_names", String::new()),
            ("unix_socket_directories", quote_list_item(&text(self.socket_directory))),
            ("unix_socket_group", String::new()),
            ("unix_socket_permissions", "0700".to_owned()),
        ];
        if self.major.has_archive_library() {
            settings.push(("archive_library", String::new()));
        }
        if self.major.has_recovery_prefetch() {
            // Reading ahead asks the archive for segments behind the target, of other timelines too.
            settings.push(("recovery_prefetch", "off".to_owned()));
        }
        if self.major.has_stats_temp_directory() {
            // Where the original's own is named, the copy would remove its files.
            settings.push(("stats_temp_directory", "pg_stat_tmp".to_owned()));
        }
        if self.major.has_promote_trigger_file() {
            settings.push(("promote_trigger_file", String::new()));
        }
        settings.sort();
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// An item of a comma-separated list of directories (`SplitDirectoriesString`, `varlena.c`): quoted, so that commas
/// and spaces in a path stay what they are.
fn quote_list_item(item: &str) -> String {
    format!("\"{}\"", item.replace('"', "\"\""))
}

/// Where WAL lies, and in what form: what a `restore_command` in shell has to know of the archives.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// Their directories, in the order in which they are asked.
    pub archives: &'a [PathBuf],
    /// How files are packed.
    pub compressions: &'a BTreeSet<Compression>,
    /// How those are packed whose names do not say so.
    pub unmarked: &'a BTreeSet<Compression>,
    /// Where below the directories they lie.
    pub layouts: Layouts,
}

impl Stored<'_> {
    /// The directories in which a file may lie, as words of `sh` in which `$log` and `$timeline` stand for folders.
    fn places(self, archive: &Path) -> Vec<String> {
        let top = quoted_for_server(archive);
        let folders = [(Layout::ByLog, "$log"), (Layout::ByTimeline, "$timeline")];
        let folders = folders.into_iter().filter(|(layout, _)| self.layouts.has(*layout));
        let folders: Vec<String> = folders.map(|(_, folder)| format!("{top}/{folder}")).collect();
        // History files are at the top of most archives that have folders.
        std::iter::once(top).chain(folders).collect()
    }

    /// Commands that set the folders of the file in this variable. `00000002.history` has a timeline in front of its last
    /// eight characters, and names of segments have another eight.
    fn folders_of(self, variable: &str) -> String {
        if !self.layouts.has_folders() {
            return String::new();
        }
        // The server makes one % of two.
        format!("log=${{{variable}%%????????}}; timeline=${{log%%????????}}; timeline=${{timeline:-$log}}; ")
    }

    /// Commands that copy what is packed and does not say so to `to`, and leave it to what follows where it is not.
    fn unpack_unmarked(self, file: &str, to: &str, then: &str, or_else: &str) -> String {
        let cases = self.unmarked.iter().filter_map(|form| {
            let (program, options) = form.program()?;
            let bytes: String = form.magic().iter().map(|byte| format!("{byte:02x}")).collect();
            Some(format!("{bytes}*) {program} {options} <{file} >{to} || {or_else}; {then};; "))
        });
        let cases: String = cases.collect();
        if cases.is_empty() {
            return cases;
        }
        format!("case $(od -An -tx1 -N6 {file} | tr -d ' ') in {cases}esac; ")
    }
}

/// A `restore_command` that takes segments from directories, asked in order: as they are where they are plain, else
/// unpacked by the system's program for it.
///
/// A directory that may not be searched has no `.` either; `test -f` would say of every segment that it is not there.
///
/// Exit status 1 means "not in the archive" to the server, which then takes it for the end of WAL; everything from
/// 126 on stops it. So an archive that is gone, or a copy that breaks off, must never be 1.
///
/// `older_files` are copied beside the file of a segment in which a timeline begins, see [`place_older_files`];
/// `partials` are the segments that are there as `.partial` only.
#[must_use]
pub fn restore_command(
    stored: Stored,
    older_files: &BTreeMap<SegmentName, BTreeSet<SegmentName>>,
    partials: &BTreeSet<SegmentName>,
    segment_size: SegmentSize,
) -> String {
    let mut command = place_older_files(stored, older_files);
    if stored.layouts.has_folders() {
        command.push_str(&format!("f=%f; {}", stored.folders_of("f")));
    }
    for archive in stored.archives {
        let directory = quoted_for_server(archive);
        command.push_str(&format!(
            "test -d {directory}/. || {{ echo archive not reachable: {directory} >&2; exit 126; }}; "
        ));
        for place in stored.places(archive) {
            let file = format!("{place}/%f");
            let unmarked = stored.unpack_unmarked(&file, "\"%p\"", "exit 0", "exit 126");
            command.push_str(&format!("if test -f {file}; then {unmarked}cp {file} \"%p\" || exit 126; exit 0; fi; "));
            for compression in stored.compressions {
                let Some((program, options)) = compression.program() else { continue };
                let file = format!("{place}/%f{}", compression.ending());
                command.push_str(&format!(
                    "if test -f {file}; then {program} {options} <{file} >\"%p\" || exit 126; exit 0; fi; "
                ));
            }
        }
    }
    for name in partials {
        let places = stored.archives.iter().flat_map(|archive| stored.places(archive));
        for place in places {
            let file = format!("{place}/{name}.partial");
            let unmarked = stored.unpack_unmarked(&file, "\"%p\"", "exit 0", "exit 126");
            command.push_str(&format!(
                "if test %f = {name} && test -f {file}; then {unmarked}cp {file} \"%p\" || exit 126; exit 0; fi; "
            ));
            for compression in stored.compressions {
                command.push_str(&unpack_partial(&place, *name, *compression, segment_size));
            }
        }
    }
    command.push_str("exit 1");
    command
}

/// The same where commands are among the archives, in the shell alone: each is the operator's own text. `of_directories`
/// gives the part for directories that follow one another.
///
/// Of a command it goes on to the next archive where its status means that the file is not there, and stops the server
/// for any other. A single command is what it is: the server reads its status.
#[must_use]
pub fn restore_by_commands(
    directories: &[PathBuf],
    commands: &[PlacedCommand],
    of_directories: &dyn Fn(&[PathBuf]) -> String,
) -> String {
    if let ([], [only]) = (directories, commands) {
        return only.fetch.command.clone();
    }
    let mut text = String::new();
    let mut row: Vec<PathBuf> = Vec::new();
    // Each part for itself ends with 1 where nothing was there.
    let end_row = |row: &mut Vec<PathBuf>, text: &mut String| {
        if !row.is_empty() {
            text.push_str(&format!("( {} ); case $? in 0) exit 0;; 1) ;; *) exit 126;; esac; ", of_directories(row)));
            row.clear();
        }
    };
    for archive in in_order(directories, commands) {
        match archive {
            Archive::Directory(directory) => row.push(directory.to_path_buf()),
            Archive::Command(fetch) => {
                end_row(&mut row, &mut text);
                let missing: Vec<String> = fetch.missing_statuses().iter().map(u8::to_string).collect();
                text.push_str(&format!(
                    "sh -c {}; case $? in 0) test -s \"%p\" && exit 0;; {}) ;; *) exit 126;; esac; ",
                    shell_quote(&fetch.command),
                    missing.join("|")
                ));
            }
        }
    }
    end_row(&mut row, &mut text);
    text.push_str("exit 1");
    text
}

/// Commands that unpack a `.partial`.
fn unpack_partial(place: &str, name: SegmentName, compression: Compression, size: SegmentSize) -> String {
    let Some((program, options)) = compression.program() else { return String::new() };
    names_of(ArchiveFile::Partial(name), compression).iter().fold(String::new(), |mut commands, file| {
        let packed = format!("{place}/{file}");
        let unpack = match may_be_short(file) {
            true => unpack_short(&packed, program, compression, size),
            false => format!("{program} {options} <{packed} >\"%p\""),
        };
        commands.push_str(&format!("if test %f = {name} && test -f {packed}; then {unpack} || exit 126; exit 0; fi; "));
        commands
    })
}

/// Commands that unpack what `pg_receivewal` packs. It is shorter than a segment, and breaks off where it is still
/// written to: what can be unpacked of it counts, and zeros come behind that, as in a plain one.
///
/// Only what the program says tells that from a disk that is full or a file that cannot be read: for all of them most
/// programs end with the same status. One that is killed says nothing. One that writes and reads at once (zstd 1.5) may say
/// that the file breaks off before it meets the full disk: so the zeros are written, and no hole is left in their place.
fn unpack_short(packed: &str, program: &str, compression: Compression, size: SegmentSize) -> String {
    let (bytes, breaks_off) = (size.bytes(), of_breaking_off(compression));
    format!(
        "said=$(LC_ALL=C {program} -dc <{packed} 2>&1 >\"%p\") || case $?:$said in [0-9]:*{breaks_off}*|[0-9][0-9]:*{breaks_off}*) ;; *) echo \"$said\" >&2; exit 126;; esac; test -s \"%p\" && test $(wc -c <\"%p\") -le {bytes} && head -c $(({bytes} - $(wc -c <\"%p\"))) /dev/zero >>\"%p\""
    )
}

/// What the program says of a file that breaks off, as a pattern of `sh` (gzip 1.12, lz4 1.9, zstd 1.5, xz 5.4, bzip2 1.0).
fn of_breaking_off(compression: Compression) -> &'static str {
    match compression {
        Compression::Gzip => r"unexpected\ end\ of\ file",
        Compression::Lz4 => r"Unfinished\ stream",
        Compression::Zstd => r"premature\ end",
        Compression::Xz => r"Unexpected\ end\ of\ input",
        Compression::Bzip2 | Compression::None => r"ends\ unexpectedly",
    }
}

/// Commands that put the older timelines' files of a segment into `pg_wal` when the server asks for the newest one.
///
/// Where a transaction that was prepared in that segment is still open at the shutdown checkpoint with which the new
/// timeline begins, the server looks for its record once more, and in the file of the timeline before: `requested WAL
/// segment pg_wal/… has already been removed`, and recovery ends. It never asks an archive for that file
/// (`xlog_redo`, `XlogReadTwoPhaseData`, `read_local_xlog_page`; seen with 13.23, 15.18, 17.10 and 18.4). What cannot
/// be put there is not missed in any other case, so that it is no error. The server runs it in the data directory.
fn place_older_files(stored: Stored, older_files: &BTreeMap<SegmentName, BTreeSet<SegmentName>>) -> String {
    if older_files.is_empty() {
        return String::new();
    }
    let mut command = "case %f in ".to_owned();
    for (newest, older) in older_files {
        let names: Vec<String> = older.iter().map(ToString::to_string).collect();
        command.push_str(&format!("{newest}) set -- {};; ", names.join(" ")));
    }
    command.push_str(&format!("*) set --;; esac; for o do {}", stored.folders_of("o")));
    for place in stored.archives.iter().flat_map(|archive| stored.places(archive)) {
        let mut put = |file: String, copy: String| {
            command.push_str(&format!(
                "if test -f {file} && ! test -f pg_wal/$o; then {copy} pg_wal/$o || rm -f pg_wal/$o; fi; "
            ));
        };
        let file = format!("{place}/$o");
        let unmarked = stored.unpack_unmarked(&file, "pg_wal/$o", "continue", "rm -f pg_wal/$o");
        put(file.clone(), format!("{unmarked}cp {file}"));
        for compression in stored.compressions {
            let Some((program, options)) = compression.program() else { continue };
            let file = format!("{place}/$o{}", compression.ending());
            put(file.clone(), format!("{program} {options} <{file} >"));
        }
    }
    command.push_str("done; ");
    command
}

/// A path for `sh`, in a command in which the server replaces what begins with `%`.
pub(super) fn quoted_for_server(path: &Path) -> String {
    shell_quote(&path.display().to_string().replace('%', "%%"))
}

/// A word for `sh`, in single quotes where it has anything but harmless characters.
#[must_use]
pub fn shell_quote(word: &str) -> String {
    let harmless =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '=' | ':' | ',' | '@' | '%');
    if !word.is_empty() && word.chars().all(harmless) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Lsn, TimelineChoice, Xid};
    use proptest::prelude::*;

    fn resolved(stop: StopSide) -> Resolved {
        Resolved {
            path: vec![TimelineId(1), TimelineId(2)],
            consistent_at: Lsn(0x200_0100),
            ..Resolved::new(TimelineId(2), stop, Lsn(0x300_0148))
        }
    }

    static NONE: BTreeSet<Compression> = BTreeSet::new();

    fn stored<'a>(archives: &'a [PathBuf], compressions: &'a BTreeSet<Compression>) -> Stored<'a> {
        Stored { archives, compressions, unmarked: &NONE, layouts: Layouts::default() }
    }

    /// In folders, and packed without a name that says so: what the shell finds is what Walback finds.
    #[test]
    fn the_shell_finds_files_in_folders_and_what_is_packed_in_them() {
        let directory = tempfile::tempdir().unwrap();
        let (archive, data) = (directory.path().join("a 'b' 100%"), directory.path().join("data"));
        std::fs::create_dir_all(data.join("pg_wal")).unwrap();
        let gzip = |text: &str| {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
            packed.finish().unwrap()
        };
        let put = |path: &str, bytes: &[u8]| {
            std::fs::create_dir_all(archive.join(path).parent().unwrap()).unwrap();
            std::fs::write(archive.join(path), bytes).unwrap();
        };
        put("0000000100000000/000000010000000000000001", b"by log");
        put("0000000100000000/000000010000000000000002", &gzip("unmarked"));
        put("0000000100000000/000000010000000000000003.gz", &gzip("marked"));
        put("00000002/000000020000000000000004", b"by timeline");
        put("0000000200000000/000000020000000000000007.partial", b"partial");
        put("00000002.history", b"at the top");
        put("00000003/00000003.history", b"in its folder");
        put("000000010000000000000005", &gzip("at the top"));
        let partial = SegmentName::parse("000000020000000000000007").unwrap();
        let older = [1, 2, 3].map(|seg| SegmentName::parse(&format!("00000001000000000000000{seg}")).unwrap());
        let older = BTreeMap::from([(SegmentName::parse("000000020000000000000004").unwrap(), BTreeSet::from(older))]);
        let (archives, forms) = ([archive], BTreeSet::from([Compression::Gzip, Compression::Zstd]));
        let stored = Stored { unmarked: &forms, layouts: Layouts::ANY, ..stored(&archives, &forms) };
        let command = restore_command(stored, &older, &BTreeSet::from([partial]), SegmentSize::DEFAULT);
        let run = |name: &str| {
            let command = command.replace("%f", name).replace("%p", "pg_wal/RECOVERYXLOG").replace("%%", "%");
            let status = std::process::Command::new("sh").arg("-ec").arg(command).current_dir(&data).status().unwrap();
            let got = std::fs::read_to_string(data.join("pg_wal/RECOVERYXLOG")).unwrap_or_default();
            (status.code(), if status.success() { got } else { String::new() })
        };
        for (name, expected) in [
            ("000000010000000000000001", "by log"),
            ("000000010000000000000002", "unmarked"),
            ("000000010000000000000003", "marked"),
            ("000000020000000000000004", "by timeline"),
            ("000000020000000000000007", "partial"),
            ("00000002.history", "at the top"),
            ("00000003.history", "in its folder"),
            ("000000010000000000000005", "at the top"),
        ] {
            assert_eq!(run(name), (Some(0), expected.to_owned()), "{name}");
        }
        for absent in ["000000010000000000000006", "00000004.history"] {
            assert_eq!(run(absent).0, Some(1), "{absent}");
        }
        for (seg, expected) in [(1, "by log"), (2, "unmarked"), (3, "marked")] {
            let placed = data.join(format!("pg_wal/00000001000000000000000{seg}"));
            assert_eq!(std::fs::read_to_string(placed).unwrap(), expected, "beside the first segment of timeline 2");
        }
    }

    #[test]
    fn empty_targets_come_first_and_the_timeline_is_a_number() {
        let target =
            Target { inclusive: false, timeline: TimelineChoice::Latest, ..Target::new(TargetKind::Xid(Xid(735))) };
        let settings = target_settings(&target, &resolved(StopSide::Before));
        let set: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(set[..4].iter().filter(|(_, value)| value.is_empty()).count(), 4);
        assert_eq!(
            set[4..],
            [
                ("recovery_target_xid", "735"),
                ("recovery_target_inclusive", "off"),
                ("recovery_target_timeline", "2"),
                ("recovery_target_action", "pause"),
            ]
        );
    }

    #[test]
    fn latest_becomes_the_exact_end_so_that_recovery_pauses_there() {
        let settings = target_settings(&Target::new(TargetKind::Latest), &resolved(StopSide::EndOfWal));
        assert!(settings.contains(&("recovery_target_lsn".to_owned(), "0/3000148".to_owned())));
        assert!(settings.contains(&("recovery_target_inclusive".to_owned(), "on".to_owned())));
    }

    #[test]
    fn an_archive_that_is_gone_is_not_the_end_of_wal() {
        let partial = SegmentName::parse("000000010000000000000009").unwrap();
        let partials = BTreeSet::from([partial]);
        let run = |archive: &Path, name: &str, to: &Path| {
            let archives = [archive.to_path_buf()];
            let gzip = BTreeSet::from([Compression::Gzip]);
            let command = restore_command(stored(&archives, &gzip), &BTreeMap::new(), &partials, SegmentSize::DEFAULT);
            let command = command.replace("%f", name).replace("%p", &to.display().to_string()).replace("%%", "%");
            std::process::Command::new("sh")
                .arg("-c")
                .arg(command)
                .stderr(std::process::Stdio::null())
                .status()
                .unwrap()
                .code()
        };
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("a 'b' $(touch no) 100%");
        std::fs::create_dir(&archive).unwrap();
        std::fs::write(archive.join("SEG"), "wal").unwrap();
        let to = directory.path().join("copied");
        assert_eq!(run(&archive, "SEG", &to), Some(0));
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "wal");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut packed, b"packed wal").unwrap();
        let packed = packed.finish().unwrap();
        std::fs::write(archive.join("PACKED.gz"), &packed).unwrap();
        assert_eq!(run(&archive, "PACKED", &to), Some(0));
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "packed wal");
        std::fs::write(archive.join("CUT.gz"), &packed[..packed.len() - 4]).unwrap();
        assert_eq!(run(&archive, "CUT", &to), Some(126), "what cannot be unpacked is not “not there”");
        assert_eq!(run(&archive, "OTHER", &to), Some(1));
        std::fs::write(archive.join("OTHER.partial"), "partial").unwrap();
        assert_eq!((run(&archive, "OTHER", &to), run(&archive, &partial.to_string(), &to)), (Some(1), Some(1)));
        std::fs::write(archive.join(format!("{partial}.partial")), "partial").unwrap();
        assert_eq!(run(&archive, &partial.to_string(), &to), Some(0));
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "partial");
        std::fs::remove_file(archive.join(format!("{partial}.partial"))).unwrap();
        std::fs::write(archive.join(format!("{partial}.partial.gz")), &packed).unwrap();
        assert_eq!(run(&archive, &partial.to_string(), &to), Some(0));
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "packed wal");
        std::fs::remove_file(archive.join(format!("{partial}.partial.gz"))).unwrap();
        std::fs::write(archive.join(format!("{partial}.gz.partial")), &packed).unwrap();
        assert_eq!(run(&archive, &partial.to_string(), &to), Some(0));
        let filled = std::fs::read(&to).unwrap();
        assert!(filled.len() as u64 == SegmentSize::DEFAULT.bytes() && filled.starts_with(b"packed wal\0"));
        std::fs::write(archive.join(format!("{partial}.gz.partial")), "").unwrap();
        assert_eq!(run(&archive, &partial.to_string(), &to), Some(126), "nothing is no segment of zeros");
        assert_eq!(run(&archive, "SEG", Path::new("/nowhere/x")), Some(126), "a copy that fails is not “not there”");
        assert_eq!(run(&directory.path().join("gone"), "SEG", &to), Some(126));
        let (archives, none) = ([archive], BTreeSet::new());
        let command =
            restore_command(stored(&archives, &none), &BTreeMap::new(), &BTreeSet::new(), SegmentSize::DEFAULT);
        assert!(command.starts_with("test -d '") && command.contains("'/. ||"), "it has to be searched: {command}");
    }

    /// Bytes of a kind that no program makes shorter: half of the packed file is half of them.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(bytes).collect()
    }

    /// In each form: whole, breaking off, too long, something else, and on a disk that is full.
    #[test]
    fn what_breaks_off_is_filled_and_nothing_else_is() {
        let name = SegmentName::parse("000000010000000000000009").unwrap();
        let size = SegmentSize::new(1 << 20).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (archive, to) = (directory.path().join("a 'b' 100%"), directory.path().join("copied"));
        std::fs::create_dir(&archive).unwrap();
        let wal = noise(1 << 20);
        for compression in Compression::PACKED {
            let (program, _) = compression.program().unwrap();
            let pack = |bytes: &[u8]| {
                let plain = directory.path().join("plain");
                std::fs::write(&plain, bytes).unwrap();
                let small_blocks: &[&str] = if compression == Compression::Bzip2 { &["-1"] } else { &[] };
                let plain = std::fs::File::open(plain).unwrap();
                let packed = std::process::Command::new(program).arg("-c").args(small_blocks).stdin(plain).output();
                packed.unwrap().stdout
            };
            let (archives, form) = ([archive.clone()], BTreeSet::from([compression]));
            let command = restore_command(stored(&archives, &form), &BTreeMap::new(), &BTreeSet::from([name]), size);
            let file = archive.join(format!("{name}{}.partial", compression.ending()));
            let run = |packed: &[u8], before: &str, to: &Path| {
                std::fs::write(&file, packed).unwrap();
                let command = command.replace("%f", &name.to_string()).replace("%p", &to.display().to_string());
                let shell: &[&str] = if before.starts_with("mount") { &["unshare", "-m", "sh"] } else { &["sh"] };
                let mut command_line = std::process::Command::new(shell[0]);
                command_line.args(&shell[1..]).arg("-c").arg(format!("{before}{}", command.replace("%%", "%")));
                let output = command_line.output().unwrap();
                (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
            };
            let fine = (Some(0), String::new());
            let packed = pack(&wal);
            assert_eq!(run(&packed, "", &to), fine);
            assert!(std::fs::read(&to).unwrap() == wal, "{program}");
            assert_eq!(run(&pack(&wal[..700_000]), "", &to), fine);
            let filled = std::fs::read(&to).unwrap();
            assert!(
                filled.len() == wal.len() && filled.starts_with(&wal[..700_000]) && filled.ends_with(&[0; 300_000])
            );
            assert_eq!(run(&packed[..packed.len() / 2], "", &to), fine);
            let filled = std::fs::read(&to).unwrap();
            assert!(filled.len() == wal.len() && filled.starts_with(&wal[..200_000]), "{program}: {}", filled.len());
            let refused = |packed: &[u8], before: &str, to: &Path, what: &str| {
                let (status, said) = run(packed, before, to);
                assert_eq!(status, Some(126), "{program}: {what}: {said}");
                said
            };
            refused(&pack(&[&wal[..], b"more"].concat()), "", &to, "it is longer than a segment");
            refused(b"\0\0\0\0\0\0\0\0damaged", "", &to, "it is something else");
            refused(&packed[..1], "", &to, "nothing can be unpacked");
            refused(&packed, "", Path::new("/nowhere/x"), "it goes nowhere");
            let killed = format!("{program}() {{ head -c 1000; sh -c 'kill -KILL $$'; }}; ");
            refused(&packed, &killed, &to, "it is killed");
            for packed in [&packed[..], &packed[..packed.len() - 3]] {
                if nix::unistd::geteuid().is_root() {
                    let full = directory.path().join("full");
                    std::fs::create_dir_all(&full).unwrap();
                    let mount = format!("mount -t tmpfs -o size=200k none {} || exit; ", full.display());
                    let said = refused(packed, &mount, &full.join("x"), "the disk is full");
                    assert!(!said.is_empty(), "{program}");
                }
            }
        }
    }

    #[test]
    fn beside_the_segment_of_a_fork_lie_the_older_files_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let (archive, data) = (directory.path().join("a 'b' 100%"), directory.path().join("data"));
        std::fs::create_dir(&archive).unwrap();
        std::fs::create_dir_all(data.join("pg_wal")).unwrap();
        let name = |timeline: u32| format!("{timeline:08X}0000000000000005");
        std::fs::write(archive.join(name(1)), "older").unwrap();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut packed, b"packed").unwrap();
        std::fs::write(archive.join(name(2) + ".gz"), packed.finish().unwrap()).unwrap();
        std::fs::write(archive.join(name(3)), "newest").unwrap();
        std::fs::write(archive.join(name(4)), "no fork").unwrap();
        let segment = |timeline: u32| SegmentName::parse(&name(timeline)).unwrap();
        let older = BTreeMap::from([(segment(3), BTreeSet::from([segment(1), segment(2)]))]);
        let (archives, gzip) = ([archive], BTreeSet::from([Compression::Gzip]));
        let command = restore_command(stored(&archives, &gzip), &older, &BTreeSet::new(), SegmentSize::DEFAULT);
        let run = |asked: u32| {
            let command = command.replace("%f", &name(asked)).replace("%p", "pg_wal/RECOVERYXLOG").replace("%%", "%");
            std::process::Command::new("sh").arg("-c").arg(command).current_dir(&data).status().unwrap().code()
        };
        let placed = |name: &str| std::fs::read_to_string(data.join("pg_wal").join(name)).ok();
        assert_eq!(run(4), Some(0));
        assert_eq!((placed("RECOVERYXLOG").as_deref(), placed(&name(1))), (Some("no fork"), None));
        assert_eq!(run(3), Some(0));
        assert_eq!(placed("RECOVERYXLOG").as_deref(), Some("newest"));
        assert_eq!((placed(&name(1)).as_deref(), placed(&name(2)).as_deref()), (Some("older"), Some("packed")));
        std::fs::write(data.join("pg_wal").join(name(1)), "the backup's own").unwrap();
        assert_eq!(run(3), Some(0));
        assert_eq!(placed(&name(1)).as_deref(), Some("the backup's own"));
    }

    proptest! {
        #[test]
        fn the_shell_gives_a_quoted_word_back(word in "[^\\x00]{0,40}") {
            let echoed = std::process::Command::new("sh")
                .arg("-c").arg(format!("printf %s {}", shell_quote(&word))).output().unwrap();
            prop_assert_eq!(String::from_utf8_lossy(&echoed.stdout), word);
        }
    }
}
