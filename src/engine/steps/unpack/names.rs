//! What becomes of the entries of a backup: where each belongs, by its name and kind, and which do not belong there.

use std::path::{Component, Path, PathBuf};

use crate::catalog::PartContents;
use crate::plan::build::OWN_DIRECTORY;
use crate::plan::files::{EMPTIED, LEFT_OUT, TEMPORARY};

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A directory.
    Directory,
    /// A file with contents.
    File,
    /// Another name of a file that came before.
    HardLink(PathBuf),
    /// A link to wherever.
    SymbolicLink,
    /// What never belongs into a data directory, in words.
    Other(String),
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// A directory of this name is made.
    Directory(PathBuf),
    /// A file of this name is made.
    File(PathBuf),
    /// It is read, and held against the manifest, and not written.
    ReadOnly(PathBuf),
    /// The first of these gets the second for another name.
    Link(PathBuf, PathBuf),
    /// It is left out.
    LeftOut,
    /// It is refused, with why.
    Refused(String),
}

const LEADS_OUT: &str = "it leads out of the data directory";
/// Where the links to tablespaces are.
pub(super) const TABLESPACE_LINKS: &str = "pg_tblspc";
/// What the server makes these links from.
pub(super) const TABLESPACE_MAP: &str = "tablespace_map";

/// Whether it is what a running server makes for itself, and no backup's.
fn is_fleeting(relative: &Path, holds: PartContents) -> bool {
    let mut names = relative.components().filter_map(|part| part.as_os_str().to_str());
    let top = relative.components().next().and_then(|part| part.as_os_str().to_str());
    let is_below = holds == PartContents::Data
        && relative.components().count() > 1
        && top.is_some_and(|top| EMPTIED.contains(&top));
    is_below || names.any(|name| TEMPORARY.iter().any(|begin| name.starts_with(begin)))
}

/// Where an entry of the part that `holds` this belongs. `placed` has the tablespaces that the plan places.
pub(super) fn fate(named: &Path, kind: &Kind, holds: PartContents, placed: &[u32]) -> Fate {
    let Some(relative) = confined(named) else { return Fate::Refused(LEADS_OUT.to_owned()) };
    if relative.as_os_str().is_empty() {
        return match kind {
            Kind::Directory => Fate::LeftOut,
            _ => Fate::Refused("it has the name of the directory itself".to_owned()),
        };
    }
    if is_fleeting(&relative, holds) {
        return Fate::LeftOut;
    }
    if holds == PartContents::Data
        && let Some(fate) = in_data_directory(&relative, kind, placed)
    {
        return fate;
    }
    let own = relative.starts_with(OWN_DIRECTORY);
    match kind {
        // A backup of a server that Walback recovered has it; this recovery has its own.
        Kind::File if own => Fate::ReadOnly(relative),
        _ if own => Fate::LeftOut,
        Kind::Directory => Fate::Directory(relative),
        Kind::File => Fate::File(relative),
        Kind::HardLink(target) => match confined(target) {
            Some(target) if !target.as_os_str().is_empty() && !target.starts_with(OWN_DIRECTORY) => {
                Fate::Link(target, relative)
            }
            _ => Fate::Refused(format!("it is a link to {}, and that leads out", target.display())),
        },
        Kind::SymbolicLink => Fate::Refused("a base backup has no symbolic link there".to_owned()),
        Kind::Other(what) => Fate::Refused(format!("a data directory has no entry of this kind ({what})")),
    }
}

/// What is special about names in the data directory itself.
fn in_data_directory(relative: &Path, kind: &Kind, placed: &[u32]) -> Option<Fate> {
    if let Some((oid, deeper)) = tablespace_of(relative).filter(|(oid, _)| placed.contains(oid)) {
        return Some(match kind {
            Kind::SymbolicLink | Kind::Directory if !deeper => Fate::LeftOut,
            _ => Fate::Refused(format!("the tablespace {oid} comes by itself, and this is in the place of its link")),
        });
    }
    // pg_wal is often a link to another disk; the new one is a directory.
    if relative == Path::new("pg_wal") && *kind == Kind::SymbolicLink {
        return Some(Fate::LeftOut);
    }
    let at_the_top = relative.components().count() == 1;
    let left_out = LEFT_OUT.iter().any(|name| relative == Path::new(name)) || relative == Path::new(TABLESPACE_MAP);
    (at_the_top && left_out && *kind == Kind::File).then(|| Fate::ReadOnly(relative.to_path_buf()))
}

/// The OID in `pg_tblspc/OID`, and whether the name goes on behind that.
fn tablespace_of(relative: &Path) -> Option<(u32, bool)> {
    let mut below = relative.strip_prefix(TABLESPACE_LINKS).ok()?.components();
    let oid = below.next()?.as_os_str().to_str()?.parse().ok()?;
    Some((oid, below.next().is_some()))
}

/// A name below the root, without `.`; `None` where it is absolute or climbs up.
pub(super) fn confined(path: &Path) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => relative.push(name),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(relative)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(name: &str, kind: &Kind) -> Fate {
        fate(Path::new(name), kind, PartContents::Data, &[16385])
    }

    fn refused(name: &str, kind: &Kind) -> bool {
        matches!(of(name, kind), Fate::Refused(_))
    }

    #[test]
    fn entries_that_lead_out_are_refused() {
        for bad in ["/etc/passwd", "../x", "base/../../x", "..", "./../x"] {
            assert_eq!(confined(Path::new(bad)), None, "{bad:?}");
            for kind in [Kind::File, Kind::Directory, Kind::SymbolicLink, Kind::HardLink("base/1".into())] {
                assert!(refused(bad, &kind), "{bad:?} {kind:?}");
            }
            assert!(refused("base/1", &Kind::HardLink(bad.into())), "{bad:?}");
        }
        assert_eq!(confined(Path::new("./pg_wal/./archive_status/")), Some("pg_wal/archive_status".into()));
        assert_eq!(confined(Path::new("./")), Some("".into()));
        assert_eq!(of("./", &Kind::Directory), Fate::LeftOut);
        assert!(refused("./", &Kind::File) && refused("", &Kind::SymbolicLink));
    }

    #[test]
    fn what_is_no_file_and_no_directory_is_refused() {
        for kind in [Kind::SymbolicLink, Kind::Other("Fifo".to_owned()), Kind::Other("Char".to_owned())] {
            assert!(refused("base/1", &kind), "{kind:?}");
        }
        assert_eq!(of("base/1", &Kind::HardLink("./base/2".into())), Fate::Link("base/2".into(), "base/1".into()));
    }

    #[test]
    fn what_is_walbacks_own_is_never_a_backups_to_write() {
        for name in [".walback/recovery.json", "./.walback/socket/x"] {
            assert_eq!(of(name, &Kind::File), Fate::ReadOnly(confined(Path::new(name)).unwrap()));
            assert_eq!(
                (of(name, &Kind::HardLink("base/1".into())), of(name, &Kind::SymbolicLink)),
                (Fate::LeftOut, Fate::LeftOut)
            );
        }
        assert_eq!(of(".walback", &Kind::Directory), Fate::LeftOut);
        assert!(refused("base/1", &Kind::HardLink(".walback/recovery.json".into())));
    }

    #[test]
    fn tablespaces_come_by_themselves() {
        assert_eq!(of("pg_tblspc/16385", &Kind::SymbolicLink), Fate::LeftOut);
        assert_eq!(of("pg_tblspc/16385", &Kind::Directory), Fate::LeftOut);
        assert!(refused("pg_tblspc/16385/PG_15/1", &Kind::File) && refused("pg_tblspc/16386", &Kind::SymbolicLink));
        assert_eq!(of("pg_tblspc", &Kind::Directory), Fate::Directory("pg_tblspc".into()));
        // One in its own place (allow_in_place_tablespaces) is a directory like others.
        assert_eq!(of("pg_tblspc/16386/PG_15/1", &Kind::File), Fate::File("pg_tblspc/16386/PG_15/1".into()));
        assert_eq!(of("./tablespace_map", &Kind::File), Fate::ReadOnly("tablespace_map".into()));
        assert_eq!(of("pg_wal", &Kind::SymbolicLink), Fate::LeftOut);
        assert_eq!(of("postmaster.pid", &Kind::File), Fate::ReadOnly("postmaster.pid".into()));
        assert_eq!(of("base/postmaster.pid", &Kind::File), Fate::File("base/postmaster.pid".into()));
    }

    #[test]
    fn what_a_server_makes_for_itself_is_left_out() {
        for name in [
            "pg_replslot/slot/state",
            "./pg_stat_tmp/global.stat",
            "pg_dynshmem/mmap.1",
            "base/pgsql_tmp/pgsql_tmp123.0",
            "base/5/pg_internal.init",
        ] {
            assert_eq!(of(name, &Kind::File), Fate::LeftOut, "{name}");
        }
        assert_eq!(of("pg_replslot", &Kind::Directory), Fate::Directory("pg_replslot".into()));
        assert_eq!(of("pg_stat/pgstat.stat", &Kind::File), Fate::File("pg_stat/pgstat.stat".into()));
        assert!(refused("pg_replslot/../../x", &Kind::File));
        let temporary = Path::new("PG_15_1/pgsql_tmp/pgsql_tmp1.0");
        assert_eq!(fate(temporary, &Kind::File, PartContents::Tablespace(1), &[]), Fate::LeftOut);
    }

    proptest! {
        #[test]
        fn whatever_is_let_through_stays_inside(path in "[a./]{0,12}", link in "[a./]{0,12}", which in 0..4) {
            let kind = match which {
                0 => Kind::Directory,
                1 => Kind::File,
                2 => Kind::HardLink(link.into()),
                _ => Kind::SymbolicLink,
            };
            let names = match of(&path, &kind) {
                Fate::Directory(name) | Fate::File(name) | Fate::ReadOnly(name) => vec![name],
                Fate::Link(from, to) => vec![from, to],
                Fate::LeftOut | Fate::Refused(_) => vec![],
            };
            for relative in names {
                prop_assert!(relative.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert!(relative.components().next().is_some());
                prop_assert!(Path::new("/root").join(relative).starts_with("/root"));
            }
            if let Some(relative) = confined(Path::new(&path)) {
                prop_assert!(Path::new("/root").join(relative).starts_with("/root"));
            }
        }
    }
}
