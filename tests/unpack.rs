//! Base backups of real servers, unpacked: with tablespaces, in every compression, damaged in one file.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use support::{
    Cluster, Directory, Format, History, Operator, Options, Server, Stop, as_server, ask, assert_is, assert_paused,
    gzip, run, server_user, sql, tree_digest,
};

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

/// The codes of what was found.
fn codes(found: &Value) -> Vec<&str> {
    found.as_array().unwrap().iter().filter_map(|finding| finding["code"].as_str()).collect()
}

/// Panics where something below `path` belongs to anybody but the server's user, or can be used by others.
#[track_caller]
fn assert_owned(path: &Path) {
    let (uid, gid) =
        server_user().map_or_else(|| (nix::unistd::geteuid(), nix::unistd::getegid()), |user| (user.uid, user.gid));
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (uid.as_raw(), gid.as_raw()), "{}", path.display());
        assert!(metadata.is_symlink() || metadata.mode() & 0o7027 == 0, "{}: {:o}", path.display(), metadata.mode());
        if metadata.is_dir() {
            let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            // What is Walback's and the server's own is not the backup's.
            left.extend(entries.filter(|path| !path.ends_with(".walback")));
        }
    }
}

/// A cluster whose table `kept` lies in a tablespace, and whose database has another one for its own; a backup of it
/// in each of these formats; and the restore points `wanted` and `later`.
struct Past {
    directory: Directory,
    server: Server,
    archive: PathBuf,
    /// Where the tablespaces are.
    origins: [PathBuf; 2],
    oids: [u64; 2],
}

impl Past {
    #[track_caller]
    fn make(server: &Server, formats: &[(Format, &str)]) -> Past {
        let directory = Directory::new();
        let (archive, origins, oids) = {
            let cluster = Cluster::create(&directory, server, &Options { segment_mib: 1, ..Options::default() });
            let origins = ["far away", "slow"].map(|name| directory.create(name));
            for (name, place) in ["far", "slow"].iter().zip(&origins) {
                cluster.psql(&format!("create tablespace {name} location '{}'", place.display()));
            }
            cluster.psql("create table kept (n int) tablespace far; insert into kept values (1)");
            cluster
                .psql("create table other (n int) tablespace slow; insert into other select generate_series(1, 1000)");
            cluster.psql("create index on kept (n) tablespace slow");
            let oid = |name| cluster.psql(&format!("select oid from pg_tablespace where spcname = '{name}'"));
            let oids = ["far", "slow"].map(|name| oid(name).parse().unwrap());
            for (format, name) in formats {
                let can = server.pg_basebackup().is_some();
                if can && *format == Format::Plain {
                    let mapped = origins.iter().zip(["far", "slow"]).flat_map(|(origin, name)| {
                        let copy = directory.path().join("copies").join(name);
                        ["-T".to_owned(), format!("{}={}", origin.display(), copy.display())]
                    });
                    let mapped: Vec<String> = mapped.collect();
                    directory.create("copies");
                    let words: Vec<&str> = mapped.iter().map(String::as_str).collect();
                    cluster.base_backup_by(*format, name, &words);
                } else {
                    cluster.base_backup(*format, name);
                }
            }
            cluster.psql("insert into kept values (2)");
            cluster.restore_point("wanted");
            cluster.psql("insert into kept values (3); truncate other");
            cluster.restore_point("later");
            cluster.switch_and_wait_archived();
            cluster.stop(Stop::Fast);
            (cluster.archive.clone(), origins, oids)
        };
        Past { directory, server: server.clone(), archive, origins, oids }
    }

    fn operator(&self, backup: &str) -> Operator<'_> {
        let backups = self.directory.path().join("backups").join(backup);
        Operator { directory: &self.directory, backups, archive: self.archive.clone() }
    }
}

#[track_caller]
fn tablespaces_are_placed(major: u16) {
    let Some(server) = Server::available(major) else { return };
    let past = Past::make(&server, &[(Format::TarGz, "gz"), (Format::Plain, "plain"), (Format::Tar, "tar")]);
    let bin_dir = past.server.bin_dir.display().to_string();
    let [far, slow] = past.oids.map(|oid| oid.to_string());
    let beside = past.directory.path().join("copy.tablespaces");
    let before: Vec<_> = past.origins.iter().map(|origin| tree_digest(origin)).collect();
    // A plain tar is told from a packed one here only, and not by the server.
    let forms: &[&str] = if major == 15 { &["gz", "plain", "tar"] } else { &["gz", "plain"] };
    for name in forms {
        let operator = past.operator(name);
        let words = ["--name", "wanted", "--bin-dir", &bin_dir];
        let plan = ask(operator.command(&["plan"]).args(words).arg("--into").arg(operator.place("copy")));
        // Made by SQL, it has no manifest.
        let unverified = *name == "plain" && server.pg_basebackup().is_none();
        let plan = plan.ended_with(0).json();
        let found = codes(&plan["plan"]["findings"]);
        assert_eq!(found.contains(&"tablespaces-unverified"), unverified, "{found:?}");
        let recovery = operator.recovers("copy", &words, "1,2");
        assert_eq!(sql(&recovery, "select count(*), sum(n) from other"), "1000|500500");
        for oid in [&far, &slow] {
            let place = beside.join(oid);
            assert_eq!(sql(&recovery, &format!("select pg_tablespace_location({oid})")), place.display().to_string());
            assert_eq!(fs::read_link(operator.place("copy").join("pg_tblspc").join(oid)).unwrap(), place);
        }
        assert_owned(&operator.place("copy"));
        assert_owned(&beside);

        // By unpacking again: before is where a server that went on does not come back to.
        let recovery = operator.about(&["retarget", "copy", "--name", "later", "--yes"]).ended_with(0).recovery();
        assert_paused(&recovery, "1,2,3");
        assert_eq!(sql(&recovery, "select count(*) from other"), "0");
        let recovery = operator.about(&["retarget", "copy", "--name", "wanted", "--yes"]).ended_with(0).recovery();
        assert_paused(&recovery, "1,2");
        assert_eq!(sql(&recovery, "select count(*) from other"), "1000");
        operator.discards("copy");
        assert!(!beside.exists(), "{name}: the tablespaces are left");
        for (origin, before) in past.origins.iter().zip(&before) {
            tree_digest(origin).assert_same_as(before);
        }
    }

    // Where the operator says, one in a directory that is there already.
    let operator = past.operator("gz");
    let (new, there) = (past.directory.path().join("new place"), past.directory.create("there"));
    let mapped = [format!("{}={}", past.origins[0].display(), new.display()), format!("{slow}={}", there.display())];
    let mut words = vec!["--name", "wanted", "--bin-dir", &bin_dir];
    mapped.iter().for_each(|word| words.extend(["--tablespace", word]));
    let recovery = operator.recovers("copy", &words, "1,2");
    assert_eq!(sql(&recovery, &format!("select pg_tablespace_location({far})")), new.display().to_string());
    assert_is(&recovery, "state", "paused");
    assert!(!beside.exists());
    // What somebody puts there meanwhile goes with it; the directory that was there stays.
    operator.discards("copy");
    assert!(!new.exists() && fs::read_dir(&there).unwrap().count() == 0);

    // By hand.
    let script = past.directory.path().join("by-hand.sh");
    let mut plan = operator.command(&["plan", "--name", "wanted", "--bin-dir", &bin_dir, "--script"]);
    let plan = ask(plan.arg(&script).arg("--into").arg(operator.place("by hand"))).ended_with(0).json()["plan"].clone();
    let said = run(Command::new("sh").arg(&script));
    assert!(said.contains("as predicted"), "{said}");
    let connection = plan_connection(&plan);
    let placed = run(support::client("psql").args(["-XAtq", "-d", &connection, "-c"]).arg(format!(
        "select pg_tablespace_location({far}), (select count(*) from kept), (select count(*) from other)"
    )));
    let place = past.directory.path().join("by hand.tablespaces").join(&far);
    assert_eq!(placed, format!("{}|2|1000", place.display()));
    for (origin, before) in past.origins.iter().zip(&before) {
        tree_digest(origin).assert_same_as(before);
    }
}

fn plan_connection(plan: &Value) -> String {
    let server = &plan["server"];
    format!(
        "host='{}' port={} user=postgres dbname=postgres",
        server["socket_directory"].as_str().unwrap(),
        server["port"]
    )
}

#[test]
fn tablespaces_of_13_are_placed() {
    tablespaces_are_placed(13);
}

#[test]
fn tablespaces_of_15_are_placed() {
    tablespaces_are_placed(15);
}

#[test]
fn tablespaces_of_18_are_placed() {
    tablespaces_are_placed(18);
}

#[test]
fn places_for_tablespaces_that_are_none() {
    let past = Past::make(&Server::v15(), &[(Format::TarGz, "gz")]);
    let operator = past.operator("gz");
    let full = past.directory.create("full");
    past.directory.write("full/somebody's", "nobody touches this");
    let mapped = |to: &Path| format!("{}={}", past.origins[0].display(), to.display());
    let none = past.directory.path().join("none/deeper");
    let cases = [
        (mapped(&full), "directory-not-empty"),
        (mapped(&past.origins[1]), "tablespace-misplaced"),
        (mapped(&past.origins[1].join("x")), "tablespace-misplaced"),
        (mapped(&operator.place("copy").join("x")), "tablespace-misplaced"),
        (mapped(&operator.backups.join("x")), "inside-source"),
        (mapped(&none), "no-parent-directory"),
        (format!("/nowhere={}", operator.place("x").display()), "tablespace-unknown"),
    ];
    for (word, code) in cases {
        let words = ["plan", "--name", "wanted", "--tablespace", &word];
        let plan = ask(operator.command(&words).arg("--into").arg(operator.place("copy"))).ended_with(3).json();
        let found = codes(&plan["plan"]["findings"]);
        assert!(found.contains(&code), "{word}: {found:?}");
    }
    let mut wrong = operator.command(&["plan", "--immediate", "--tablespace", "nothing"]);
    ask(wrong.arg("--into").arg(operator.place("copy"))).ended_with(2);

    // A part that is missing makes the backup one that is not used.
    fs::remove_file(operator.backups.join(format!("{}.tar.gz", past.oids[0]))).unwrap();
    let problems = operator.listed()[0]["problems"].clone();
    assert!(problems[0].as_str().unwrap().contains(&past.oids[0].to_string()), "{problems}");
}

/// Changes one byte in the middle of a table's file in a tar, and gives the file's name.
fn damage(tar: &mut [u8]) -> String {
    let mut archive = tar::Archive::new(&*tar);
    let found = archive.entries().unwrap().find_map(|entry| {
        let entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().into_owned();
        (name.starts_with("base/1/") && entry.size() >= 16_384)
            .then(|| (name, entry.raw_file_position() + entry.size() / 2))
    });
    let (name, at) = found.unwrap();
    tar[usize::try_from(at).unwrap()] ^= 0x40;
    name
}

#[test]
fn a_backup_that_is_damaged_in_one_file_is_found_by_its_manifest() {
    for backup in ["gz", "tar-stream", "plain-stream"] {
        let directory = Directory::new();
        let operator = Operator::of_copies(&directory, &HISTORY, backup);
        let damaged = match backup {
            "gz" => {
                let path = operator.backups.join("base.tar.gz");
                let mut tar = Vec::new();
                flate2::read::GzDecoder::new(File::open(&path).unwrap()).read_to_end(&mut tar).unwrap();
                let name = damage(&mut tar);
                fs::write(&path, gzip(&tar)).unwrap();
                name
            }
            "tar-stream" => {
                let path = operator.backups.join("base.tar");
                let mut tar = fs::read(&path).unwrap();
                let name = damage(&mut tar);
                fs::write(&path, tar).unwrap();
                name
            }
            _ => {
                let name = "global/pg_filenode.map";
                let mut bytes = fs::read(operator.backups.join(name)).unwrap();
                bytes[100] ^= 1;
                fs::write(operator.backups.join(name), bytes).unwrap();
                name.to_owned()
            }
        };
        let failed = ask(&mut operator.restore("copy", &["--name", "first"])).ended_with(1);
        let error = failed.lines().pop().unwrap()["error"].clone();
        assert_is(&error, "code", "backup-damaged");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(&damaged) && message.contains("checksum"), "{backup}: {message}");
        assert!(error["hint"].as_str().unwrap().contains("walback backups"), "{error}");
        assert!(!operator.place("copy").exists(), "{backup}: what was unpacked is left");
    }
    HISTORY.assert_untouched();
}

#[test]
fn a_backup_without_a_manifest_is_unpacked_and_that_is_said() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "gz");
    fs::remove_file(operator.backups.join("backup_manifest")).unwrap();
    let recovery = operator.recovers("copy", &["--name", "first"], &HISTORY.restore_points["first"]);
    let journal = fs::read_to_string(operator.journal("copy")).unwrap();
    assert!(journal.contains("backup-unverified"), "{recovery:#}");
    operator.discards("copy");
    // One that knows more and less than there is.
    let operator = Operator::of(&directory, &HISTORY, "plain-stream");
    let copy = directory.path().join("changed");
    run(Command::new("cp").arg("-a").arg(&operator.backups).arg(&copy));
    run(as_server("touch").arg(copy.join("base/1/more")));
    let operator = Operator { backups: copy.clone(), ..operator };
    let recovery = operator.recovers("copy", &["--name", "first"], &HISTORY.restore_points["first"]);
    let journal = fs::read_to_string(operator.journal(recovery["id"].as_str().unwrap())).unwrap();
    assert!(journal.contains("backup-has-more") && journal.contains("base/1/more"));
    operator.discards("copy");
    fs::remove_file(copy.join("base/1/PG_VERSION")).unwrap();
    let failed = ask(&mut operator.restore("copy", &["--name", "first"])).ended_with(1);
    let error = failed.lines().pop().unwrap()["error"].clone();
    assert_is(&error, "code", "backup-damaged");
    assert!(error["message"].as_str().unwrap().contains("base/1/PG_VERSION"), "{error}");
}
