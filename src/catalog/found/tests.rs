use std::path::PathBuf;

use super::super::Listing;
use super::*;
use crate::core::{ArchiveFile, Lsn, SegmentName, SegmentSize};

const MIB: u64 = 1 << 20;

fn size() -> SegmentSize {
    SegmentSize::new(MIB as u32).unwrap()
}

fn segment(number: u64) -> SegmentName {
    SegmentName::new(TimelineId(1), number, size())
}

/// An archive with these segments, and with the history of timeline 2 where one is given.
fn archive(path: &str, id: u64, numbers: std::ops::Range<u64>, history: Option<&str>) -> MetArchive {
    let listing = Listing {
        files: numbers.map(|number| (ArchiveFile::Segment(segment(number)), MIB)).collect(),
        histories: history.into_iter().map(|text| (TimelineId(2), text.to_owned())).collect(),
        segment_size: Some(size()),
        system_identifier: (id > 0).then_some(id),
        ..Listing::default()
    };
    let kind = if path.contains("pg_wal") { ArchiveKind::PgWal } else { ArchiveKind::Archive };
    MetArchive { path: path.into(), kind, catalog: Catalog::build(listing), pg_version: Some(PgMajor::OLDEST) }
}

fn backup(path: &str, id: u64) -> MetBackup {
    let mut backup = Backup::at(path, BackupKind::Tar, Compression::None);
    backup.system_identifier = (id > 0).then_some(id);
    backup.start_lsn = Some(Lsn(3 * MIB));
    backup.pg_version = Some(PgMajor::NEWEST);
    MetBackup { backup, identified_by: None }
}

fn found(backups: Vec<MetBackup>, archives: Vec<MetArchive>) -> Found {
    Found::of(Met { paths: vec!["/b".into()], backups, archives, depth: 3, ..Met::default() })
}

fn shown(paths: impl IntoIterator<Item = PathBuf>) -> String {
    paths.into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
}

/// `name: its backups' directories | its archives`
fn sources(found: &Found) -> Vec<String> {
    let source = |it: &FoundSource| {
        let wal = shown(it.wal.iter().map(|archive| archive.path.clone()));
        format!("{}: {} | {wal}", it.name, shown(it.backup_directories.clone()))
    };
    found.sources.iter().map(source).collect()
}

#[test]
fn each_cluster_is_a_source() {
    let found = found(
        vec![backup("/b/shop/base/1", 7), backup("/b/crm/1", 8), backup("/b/shop/base/2", 7)],
        vec![archive("/b/crm/wal", 8, 1..5, None), archive("/b/shop/wal", 7, 1..5, None)],
    );
    assert_eq!(sources(&found), ["crm: /b/crm | /b/crm/wal", "shop: /b/shop/base | /b/shop/wal"]);
    assert_eq!(found.sources[1].system_identifier, Some(7));
    assert!(found.sources[1].in_words().starts_with("PostgreSQL 18, 2 base backups of 0 B, 4 segments"));
}

#[test]
fn what_does_not_say_its_cluster_is_the_only_ones_or_nobodys() {
    let one = found(vec![backup("/b/x/1", 0)], vec![archive("/b/wal", 7, 1..5, None)]);
    assert_eq!(sources(&one), ["x: /b/x | /b/wal"]);
    assert!(one.sources[0].backups[0].why.contains("there is one only here"));

    let two = found(
        vec![backup("/b/x/1", 0), backup("/b/x/2", 7)],
        vec![archive("/b/wal", 7, 1..5, None), archive("/b/other/wal", 8, 1..5, None)],
    );
    assert_eq!(sources(&two), ["other:  | /b/other/wal", "x: /b/x/2 | /b/wal"], "the directory of both is not taken");
    assert_eq!(two.unplaced_backups.len(), 1);

    let none = found(vec![backup("/b/x/1", 0)], Vec::new());
    assert_eq!(sources(&none), ["x: /b/x | "]);
    assert_eq!(none.sources[0].system_identifier, None);
}

#[test]
fn the_pg_wal_of_a_server_alone_is_no_source() {
    assert!(found(Vec::new(), vec![archive("/b/data/pg_wal", 7, 1..5, None)]).sources.is_empty());
}

#[test]
fn the_most_complete_archive_is_asked_first_and_pg_wal_last() {
    let found = found(
        vec![backup("/b/shop/1", 7)],
        vec![
            archive("/b/data/pg_wal", 7, 0..20, None),
            // Segments from before the backup count for nothing.
            archive("/b/a-old", 7, 0..8, None),
            archive("/b/z-new", 7, 3..10, None),
        ],
    );
    assert_eq!(sources(&found), ["shop: /b/shop | /b/z-new /b/a-old /b/data/pg_wal"]);
    let why: Vec<&str> = found.sources[0].wal.iter().map(|archive| archive.why.as_str()).collect();
    assert_eq!(why[0], "asked first: has all 7 segments from the oldest backup on");
    assert_eq!(why[1], "asked next: has 5 of the 7 segments from the oldest backup on");
    assert!(why[2].starts_with("asked last: ") && why[2].ends_with("10 segments that no archive has"), "{}", why[2]);
}

#[test]
fn two_timelines_of_one_number_are_not_put_together() {
    let (here, there) = ("1\t0/300000\tno recovery target specified\n", "1\t0/500000\tno recovery target specified\n");
    let archives =
        || vec![archive("/b/wal", 7, 1..9, Some(here)), archive("/b/copy/data/pg_wal", 7, 1..5, Some(there))];
    let found = found(Vec::new(), archives());
    assert_eq!(found.sources[0].wal.len(), 1);
    assert!(found.left_alone[0].why.contains("its timeline 2 is not the one that /b/wal has"), "{found:#?}");
}

#[test]
fn names_are_told_apart() {
    let mut old = backup("/b/b/shop/1", 8);
    old.backup.pg_version = Some(PgMajor::OLDEST);
    let found = found(vec![backup("/b/a/shop/1", 7), old, backup("/b/c/shop/1", 9)], Vec::new());
    let names: Vec<&str> = found.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["shop-13", "shop-18", "shop-18-2"]);
}
