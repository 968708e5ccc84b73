//! Names of relations come from the catalogs' files in base backups of every form.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use support::{Cluster, Directory, Format, Options, Server};
use walback::catalog::{Suspect, SuspectKind};
use walback::config::SourceConfig;
use walback::source::index::Index;
use walback::source::names::NameBook;
use walback::source::{Cancel, LocalSource, Source};

/// The suspects of the archive, named from this backup alone.
fn named_suspects(backup: &Path, archive: &Path) -> Vec<Suspect> {
    let config = SourceConfig {
        name: "test".to_owned(),
        backups: vec![backup.to_owned()],
        wal: vec![archive.to_owned()],
        ..SourceConfig::default()
    };
    let (source, cancel) = (LocalSource::new(&config), Cancel::default());
    let catalog = source.list(&cancel).unwrap();
    let index = Index::new(&source, &catalog, None, 1000);
    let mut suspects = index.build(&cancel, &mut |_, _| {}, &mut |_| {}).unwrap().suspects;
    let mut book = NameBook::default();
    book.name(&mut suspects, &catalog, &cancel).unwrap();
    assert!(book.problems.is_empty(), "{:?}", book.problems);
    suspects
}

fn names_come_from_backups_of(major: u16) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &server, &Options { segment_mib: 1, ..Options::default() });
    cluster.psql("create schema \"Shop\"; create table \"Shop\".orders (id int primary key, note text)");
    cluster.psql("create database other");
    // The catalogs' files get other numbers: only the map and pg_class itself tell them.
    cluster.psql("vacuum full pg_namespace");
    cluster.psql("vacuum full pg_class");
    cluster.psql("vacuum full pg_database");
    let forms = [(Format::Tar, "tar"), (Format::TarGz, "gz"), (Format::Plain, "plain")];
    let backups = forms.map(|(format, name)| cluster.base_backup(format, name).path);
    cluster.psql("create table later (n int)");
    cluster.psql("drop table later");
    cluster.psql("drop table \"Shop\".orders");
    cluster.psql("drop database other");
    cluster.switch_and_wait_archived();
    for backup in backups {
        let named = named_suspects(&backup, &cluster.archive);
        let names = |kind: SuspectKind| {
            let of_kind = named.iter().filter(|suspect| suspect.kind == kind);
            of_kind.map(|suspect| suspect.relations.iter().map(|r| r.name.clone()).collect()).collect::<Vec<Vec<_>>>()
        };
        assert_eq!(names(SuspectKind::DropDatabase), [[Some("other".to_owned())]], "{major}, {}", backup.display());
        let dropped = names(SuspectKind::Drop);
        let orders = dropped.iter().find(|names| names.len() > 1).unwrap();
        assert_eq!(orders[..2], [Some("Shop.orders".to_owned()), Some("Shop.orders_pkey".to_owned())], "{major}");
        assert!(orders[2..].iter().flatten().all(|name| name.starts_with("pg_toast.")), "{orders:?}");
        assert!(dropped.contains(&vec![None]), "what was made after the backup has no name: {dropped:?}");
    }
}

#[test]
fn names_come_from_backups_of_13() {
    names_come_from_backups_of(13);
}

#[test]
fn names_come_from_backups_of_15() {
    names_come_from_backups_of(15);
}

#[test]
fn names_come_from_backups_of_18() {
    names_come_from_backups_of(18);
}
