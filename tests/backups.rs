//! Base backups in every format that PostgreSQL's own tools and usual scripts make: each is listed with the same fields,
//! recovered from, paused and asked. And what lies between them.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex};
use std::thread;

use serde_json::{Value, json};
use support::{
    Answer, Cluster, Directory, FORMS, Operator, Options, Server, Stop, TreeDigest, as_operator, as_server, ask,
    assert_is, run, server_user, sql, tree_digest,
};

/// What has to be the same of all formats of one backup.
const FIELDS: [&str; 9] = [
    "pg_version",
    "system_identifier",
    "timeline",
    "start_lsn",
    "stop_lsn",
    "start_wal",
    "label",
    "started_at",
    "from_standby",
];

/// A cluster's past with the table `kept` in a tablespace, and one backup of it as scripts make them: all files were
/// copied while the server ran.
struct Past {
    directory: &'static Directory,
    server: Server,
    archive: PathBuf,
    /// Where the tablespace was.
    origin: PathBuf,
    oid: String,
    /// What was copied: `data`, with a link to where the tablespace was, and the tablespace.
    copy: PathBuf,
    /// What `pg_basebackup` made, where there is one for this major.
    taken: PathBuf,
    before: TreeDigest,
}

impl Past {
    #[track_caller]
    fn make(server: &Server) -> Past {
        let directory = Directory::lasting();
        let cluster = Cluster::create(directory, server, &Options { segment_mib: 1, ..Options::default() });
        let origin = directory.create("far away");
        cluster.psql(&format!("create tablespace far location '{}'", origin.display()));
        cluster
            .psql("create table kept (n int) tablespace far; insert into kept values (1); create unlogged table u ()");
        let oid = cluster.psql("select oid from pg_tablespace where spcname = 'far'");
        let taken = directory.create("taken");
        take(&cluster, &taken, &origin);
        if server.major == 15 {
            // As if this server had been restored from what was taken of it before.
            run(as_server("cp").arg(taken.join("plain/backup_manifest")).arg(&cluster.data));
        }
        let copy = directory.create("copy");
        copy_by_script(&cluster, &copy, &origin, &oid);
        cluster.psql("insert into kept values (2)");
        cluster.restore_point("wanted");
        cluster.psql("insert into kept values (3)");
        cluster.switch_and_wait_archived();
        cluster.stop(Stop::Fast);
        let before = tree_digest(&origin);
        let archive = cluster.archive.clone();
        Past { directory, server: server.clone(), archive, origin, oid, copy, taken, before }
    }

    fn operator(&self, backups: &Path) -> Operator<'_> {
        Operator { directory: self.directory, backups: backups.to_owned(), archive: self.archive.clone() }
    }

    fn create(&self, name: &str) -> PathBuf {
        self.directory.create(name)
    }

    /// Runs `tar` over the copy; what follows the word `+` is added by a second run.
    #[track_caller]
    fn tar(&self, archive: &Path, words: &[&str]) {
        for (number, words) in words.split(|word| *word == "+").enumerate() {
            let how = if number == 0 { "-cf" } else { "-rf" };
            run(as_server("tar").arg(how).arg(archive).args(words).current_dir(&self.copy));
        }
    }

    /// A directory `name` in which there is `file`, packed in this form.
    #[track_caller]
    fn packed(&self, name: &str, file: &str, form: Option<usize>, words: &[&str]) -> PathBuf {
        let place = self.create(name);
        let tar = place.join(file);
        self.tar(&tar, words);
        if let Some((ending, pack)) = form.and_then(|form| FORMS.get(form)) {
            let bytes = fs::read(&tar).unwrap();
            fs::remove_file(&tar).unwrap();
            // The short endings are the form's already.
            let name = if file.ends_with(".tar") { format!("{file}.{ending}") } else { file.to_owned() };
            fs::write(place.join(name), pack(&bytes)).unwrap();
        }
        place
    }

    #[track_caller]
    fn assert_origin_is_untouched(&self) {
        tree_digest(&self.origin).assert_same_as(&self.before);
    }
}

/// What `pg_basebackup` makes of a cluster with a tablespace.
#[track_caller]
fn take(cluster: &Cluster<'_>, into: &Path, origin: &Path) {
    let mut formats = vec![("tar", vec!["-Ft"]), ("gz", vec!["-Ft", "-z"])];
    if cluster.server.major == 15 {
        formats.push(("server-zst", vec!["-Ft", "--compress=server-zstd:1"]));
        formats.push(("server-lz4", vec!["-Ft", "--compress=server-lz4", "-X", "fetch"]));
        formats.push(("client-lz4", vec!["-Ft", "--compress=client-lz4", "--no-manifest"]));
        formats.push(("server-gz", vec!["-Ft", "--compress=server-gzip:1", "-X", "none"]));
    }
    let map = format!("{}={}", origin.display(), into.join("plain.far").display());
    formats.push(("plain", vec!["-Fp", "-T", &map]));
    for (name, words) in formats {
        let Some(mut command) = cluster.server.pg_basebackup() else { return };
        command.arg("-D").arg(into.join(name)).args(["-d", &cluster.connection(), "-l", name, "-c", "fast"]);
        run(command.args(words));
    }
}

/// What a script does: it tells the server, copies everything with `cp -a`, and writes the files that it gets. Of 13, the
/// exclusive way, in which the server itself writes them into its directory.
#[track_caller]
fn copy_by_script(cluster: &Cluster<'_>, into: &Path, origin: &Path, oid: &str) {
    let copy_all = || {
        // What vanishes meanwhile is not missed.
        let _ = as_server("cp").arg("-a").arg(&cluster.data).arg(into.join("data")).output().unwrap();
        let _ = as_server("cp").arg("-a").arg(origin).arg(into.join(oid)).output().unwrap();
    };
    let stopped = match cluster.server.major {
        13 | 14 => {
            cluster.psql("select pg_start_backup('by script', true)");
            copy_all();
            cluster.psql("select lsn from pg_stop_backup(true, false)")
        }
        _ => {
            let mut session = cluster.session();
            session.query("select pg_backup_start('by script', true);");
            copy_all();
            let stopped =
                session.query("select lsn, '<label>', labelfile, '<map>', spcmapfile from pg_backup_stop(false);");
            let (stop, files) = stopped.split_once("|<label>|").unwrap();
            let (label, map) = files.split_once("|<map>|").unwrap();
            let data = cluster.directory().path().join("copy/data");
            fs::write(data.join("backup_label"), label).unwrap();
            fs::write(data.join("tablespace_map"), format!("{}\n", map.trim_end())).unwrap();
            stop.to_owned()
        }
    };
    cluster.wait_archived(&cluster.segment_before(stopped.parse().unwrap()));
    assert!(into.join("data/postmaster.pid").exists(), "a copy of a running server's files has it");
}

static OF_15: LazyLock<Past> = LazyLock::new(|| Past::make(&Server::v15()));

/// A place with one backup, and how many bytes it shall have at least.
struct Format {
    name: String,
    place: PathBuf,
    /// What `pg_basebackup` made: it is another backup than those by script.
    is_taken: bool,
}

/// The formats of what was copied by a script: the same backup, in all its forms.
#[track_caller]
fn of_the_copy(past: &Past) -> Vec<Format> {
    let oid = past.oid.as_str();
    let transform = format!("--transform=s,^data,var/lib/postgresql/{}/main,", past.server.major);
    let absolute = past.copy.join("data");
    let absolute = absolute.to_str().unwrap();
    // The label last, as it is where it was added at the end.
    let late = ["--exclude=./backup_label", "-C", "data", ".", "+", "-C", "data", "./backup_label"];
    let followed = ["-h", "-C", "data", "."];
    let mut places = vec![
        past.packed("one tar", "2026-11-20.tar", None, &["data"]),
        past.packed("followed", "pgdata.tgz", Some(0), &followed),
        past.packed("late", "label last.tar", Some(2), &late),
    ];
    // With the tablespace's own tar beside it, packed in another way, and with the directory's name in front.
    past.packed("one tar", &format!("{oid}.tar"), Some(3), &[oid]);
    past.packed("late", &format!("{oid}.tar"), None, &["-C", oid, "."]);
    if past.server.major == 15 {
        places.push(past.packed("deep", "main.tar", Some(1), &[&transform, "-h", "data"]));
        places.push(past.packed("absolute", "nightly", Some(3), &["-P", "-h", absolute]));
        places.push(past.packed("no wal", "week 47.tar", Some(4), &["-h", "--exclude=data/pg_wal/*", "./data"]));
        for (form, name) in ["lz4", "xz", "bz2"].iter().enumerate() {
            let form = [1, 3, 4][form];
            let place = past.packed(&format!("base {name}"), "base.tar", Some(form), &["-C", "data", "."]);
            past.packed(&format!("base {name}"), &format!("{oid}.tar"), Some(2), &["-C", oid, "."]);
            places.push(place);
        }
    }
    // Copies of the files: links followed, links that lead to the original with the tablespace's copy beside them, and
    // links to the copy.
    let copied = |name: &str, option: &str| {
        let place = past.create(name);
        run(as_server("cp").arg(option).arg("-p").arg(past.copy.join("data")).arg(&place));
        place
    };
    places.push(copied("cp -rL", "-rL"));
    let beside = copied("cp -r", "-r");
    run(as_server("cp").arg("-a").arg(past.copy.join(oid)).arg(&beside));
    places.push(beside);
    if past.server.major == 15 {
        let linked = copied("linked", "-r");
        let link = linked.join("data/pg_tblspc").join(oid);
        fs::remove_file(&link).unwrap();
        let copy = past.directory.path().join("linked.far");
        run(as_server("cp").arg("-a").arg(past.copy.join(oid)).arg(&copy));
        symlink(copy, link).unwrap();
        places.push(linked);
    }
    let name = |place: &Path| place.file_name().unwrap().to_str().unwrap().to_owned();
    places.into_iter().map(|place| Format { name: name(&place), place, is_taken: false }).collect()
}

#[track_caller]
fn listed(past: &Past, format: &Format) -> Value {
    let mut all = past.operator(&format.place).listed();
    assert_eq!(all.len(), 1, "{}: {all:#?}", format.name);
    let backup = all.remove(0);
    assert_is(&backup, "problems", json!([]));
    assert_is(&backup, "tablespaces/0/oid", past.oid.parse::<u32>().unwrap());
    assert!(backup["size_bytes"].as_u64().unwrap() > 0, "{backup:#}");
    backup
}

/// Restores to the restore point, and asks the server.
#[track_caller]
fn recovers(past: &Past, format: &Format, name: &str) {
    let operator = past.operator(&format.place);
    let bin_dir = past.server.bin_dir.display().to_string();
    let recovery = operator.recovers(name, &["--name", "wanted", "--bin-dir", &bin_dir], "1,2");
    let place = past.directory.path().join(format!("{name}.tablespaces")).join(&past.oid);
    let located = sql(&recovery, &format!("select pg_tablespace_location({})", past.oid));
    assert_eq!(located, place.display().to_string(), "{}", format.name);
    let pid = fs::read_to_string(operator.place(name).join("postmaster.pid")).unwrap();
    assert!(pid.contains(name), "the copied postmaster.pid is left: {pid}");
    operator.discards(name);
}

/// Everything that is known of this major, listed and recovered from, two at a time.
#[track_caller]
fn every_format_is_recovered_from(past: &Past) {
    let mut formats = of_the_copy(past);
    let taken = fs::read_dir(&past.taken).unwrap().map(|entry| entry.unwrap().path());
    let mut taken: Vec<PathBuf> = taken.filter(|path| !path.ends_with("plain.far")).collect();
    taken.sort();
    let name = |place: &Path| place.file_name().unwrap().to_str().unwrap().to_owned();
    formats.extend(taken.into_iter().map(|place| Format { name: name(&place), place, is_taken: true }));
    let mut first: Option<Value> = None;
    for format in &formats {
        let backup = listed(past, format);
        let fields: Value = FIELDS.iter().map(|field| ((*field).to_owned(), backup[field].clone())).collect();
        assert!(FIELDS.iter().all(|field| !backup[field].is_null()), "{}: {backup:#}", format.name);
        assert_is(&backup, "pg_version", past.server.major);
        if format.is_taken {
            assert_is(&backup, "label", format.name.as_str());
            let first = first.as_ref().unwrap();
            assert_eq!(fields["system_identifier"], first["system_identifier"], "{}", format.name);
        } else {
            assert_is(&backup, "label", "by script");
            assert_eq!(&fields, first.get_or_insert_with(|| fields.clone()), "{}", format.name);
        }
    }
    let _ = support::walback(past.directory);
    let left = Mutex::new(formats.iter().enumerate());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let next = left.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
                    let Some((number, format)) = next else { return };
                    recovers(past, format, &format!("copy{number}"));
                }
            });
        }
    });
    past.assert_origin_is_untouched();
}

#[test]
fn every_format_of_15_is_recovered_from() {
    every_format_is_recovered_from(&OF_15);
}

fn every_format_of(major: u16) {
    let Some(server) = Server::available(major) else { return };
    every_format_is_recovered_from(&Past::make(&server));
}

#[test]
fn every_format_of_13_is_recovered_from() {
    every_format_of(13);
}

#[test]
fn every_format_of_17_is_recovered_from() {
    every_format_of(17);
}

#[test]
fn every_format_of_18_is_recovered_from() {
    every_format_of(18);
}

/// Several tars in one directory are several backups, each with the name of its file.
#[test]
fn each_tar_of_a_directory_is_a_backup() {
    let past = &*OF_15;
    let place = past.create("nightly");
    for name in ["2026-11-19.tar", "2026-11-20.tar"] {
        past.tar(&place.join(name), &["-h", "data"]);
    }
    let operator = past.operator(&place);
    let mut ids: Vec<Value> = operator.listed().into_iter().map(|backup| backup["id"].clone()).collect();
    ids.sort_by_key(ToString::to_string);
    assert_eq!(ids, ["2026-11-19.tar", "2026-11-20.tar"]);
    operator.recovers("chosen", &["--name", "wanted", "--backup", "2026-11-19.tar"], "1,2");
    // To before: it is unpacked anew, from the same tar.
    operator.about(&["retarget", "chosen", "--immediate", "--yes"]).ended_with(0);
    operator.discards("chosen");
    // One of them by its own name.
    let one = past.operator(&place.join("2026-11-20.tar")).listed();
    assert_eq!((one.len(), &one[0]["id"]), (1, &json!("2026-11-20.tar")));
}

/// A backup that cannot be used is listed with why, and never taken for another.
#[test]
fn what_is_missing_or_uncertain_is_a_problem() {
    let past = &*OF_15;
    let oid = past.oid.as_str();
    let cut = past.packed("cut", "monday.tar", Some(2), &["-h", "data"]);
    let bytes = fs::read(cut.join("monday.tar.zst")).unwrap();
    fs::write(cut.join("monday.tar.zst"), &bytes[..bytes.len() / 2]).unwrap();
    let label = past.packed("label beside", "a.tar", None, &["-h", "--exclude=data/backup_label", "data"]);
    fs::copy(past.copy.join("data/backup_label"), label.join("backup_label")).unwrap();
    let several = past.create("several of them");
    past.tar(&several.join("both.tar"), &["-h", "data", "+", "-h", "--transform=s,^data,second,", "data"]);
    let linked = past.packed("only a link", "a.tar", None, &["data"]);
    let bare = past.create("bare");
    run(as_server("cp").arg("-a").arg(past.copy.join("data")).arg(&bare));
    let mut twice = past.packed("twice", "base.tar", None, &["-C", "data", "."]);
    past.tar(&twice.join(format!("{oid}.tar")), &["-C", oid, "."]);
    let plain = fs::read(twice.join("base.tar")).unwrap();
    fs::write(twice.join("base.tar.gz"), FORMS[0].1(&plain)).unwrap();
    let own = past.create("own");
    run(as_server("cp").arg("-rL").arg(past.copy.join("data")).arg(&own));
    let pid = fs::read_to_string(own.join("data/postmaster.pid")).unwrap();
    let named = pid.lines().nth(1).unwrap();
    fs::write(own.join("data/postmaster.pid"), pid.replace(named, own.join("data").to_str().unwrap())).unwrap();
    for (place, says) in [
        (&cut, "cut off"),
        (&label, "one lies beside it"),
        (&several, "several data directories"),
        (&linked, "only the link to where they were"),
        (&bare, "were not copied"),
        (&twice, "more than once"),
        (&own, "names this directory"),
    ] {
        let operator = past.operator(place);
        let backups = operator.listed();
        assert_eq!(backups.len(), 1, "{backups:#?}");
        let problems = backups[0]["problems"].to_string();
        assert!(problems.contains(says), "{}: {problems}", place.display());
        ask(&mut operator.restore("never", &["--name", "wanted"])).ended_with(1);
        assert!(!operator.place("never").exists());
    }
    twice.push("base.tar.gz");
    fs::remove_file(&twice).unwrap();
    twice.pop();
    assert_is(&past.operator(&twice).listed()[0], "problems", json!([]));
    past.assert_origin_is_untouched();
}

/// What `pg_basebackup` writes to its output, of a primary and of its standby: one tar with the WAL and a manifest in it.
#[test]
fn a_tar_from_the_output_of_pg_basebackup_is_recovered_from() {
    let directory = Directory::new();
    let server = Server::v15();
    let primary = Cluster::create(&directory, &server, &Options { segment_mib: 1, ..Options::default() });
    primary.psql("create table kept (n int); insert into kept values (1)");
    let standby = primary.standby("standby");
    standby.wait_caught_up(&primary);
    let place = directory.create("backups");
    // It begins at the standby's last restart point.
    for (name, cluster) in [("primary.tar.zst", &primary), ("standby.tar.gz", &standby)] {
        let mut command = cluster.server.pg_basebackup().unwrap();
        command.args(["-D", "-", "-Ft", "-X", "fetch", "-c", "fast", "-d", &cluster.connection()]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let pack = if name.ends_with("zst") { FORMS[2].1 } else { FORMS[0].1 };
        fs::write(place.join(name), pack(&output.stdout)).unwrap();
    }
    primary.psql("insert into kept values (2)");
    primary.restore_point("wanted");
    primary.psql("insert into kept values (3)");
    primary.switch_and_wait_archived();
    standby.stop(Stop::Fast);
    primary.stop(Stop::Fast);
    let operator = Operator::of_cluster(&directory, &primary, "");
    for backup in operator.listed() {
        let id = backup["id"].as_str().unwrap().to_owned();
        assert_is(&backup, "problems", json!([]));
        assert_is(&backup, "from_standby", id.starts_with("standby"));
        assert!(!backup["stop_lsn"].is_null() && !backup["system_identifier"].is_null(), "{backup:#}");
        operator.recovers("copy", &["--name", "wanted", "--backup", &id], "1,2");
        operator.discards("copy");
    }
}

/// A directory with one of everything, and with what else collects there.
#[test]
fn what_is_no_backup_is_named_and_left_alone() {
    let past = &*OF_15;
    let place = past.create("everything");
    let write = |name: &str, bytes: &[u8]| past.directory.write(&format!("everything/{name}"), bytes);
    past.tar(&place.join("good.tar"), &["-h", "data"]);
    let tar = fs::read(place.join("good.tar")).unwrap();
    write("good.tar~", &tar);
    write(".good.tar.swp", b"b0VIM 9.0");
    write("good.tar.gz.part", b"\x1f\x8b");
    write(".good.tar.gz.Ab12Cd", b"\x1f\x8b");
    write("shop.dump", b"PGDMP\x01\x0e\x00");
    write("shop.sql.gz", &FORMS[0].1(b"--\n-- PostgreSQL database dump\n--\n"));
    write("README", b"nightly");
    write("16999.tar", &tar);
    past.create("everything/000000010000000000000007");
    past.create("everything/empty");
    write("000000010000000000000001", b"");
    past.directory.create("everything/directory.dump");
    write("directory.dump/toc.dat", b"PGDMP");
    let etc = past.directory.create("etc");
    fs::write(etc.join("passwd"), "x").unwrap();
    run(Command::new("tar").arg("-cf").arg(place.join("etc.tar")).arg("-C").arg(&etc).arg("."));
    symlink(&place, place.join("loop")).unwrap();
    symlink("/nowhere", place.join("dangling.tar")).unwrap();
    for name in ["locked.tar", "locked"] {
        let locked = write(name, &tar);
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o0)).unwrap();
    }
    let operator = past.operator(&place);
    let command = operator.command(&["backups"]);
    let answer = if server_user().is_some() { ask(&mut as_operator(&command)) } else { ask(&mut { command }) };
    let listed = answer.ended_with(0).json();
    let ids: Vec<&str> = listed["backups"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    // What cannot be read is a backup where its name says so.
    assert_eq!(ids, ["good.tar", "locked.tar"], "{listed:#}");
    let problems = listed["backups"][1]["problems"].to_string();
    assert!(problems.contains("it cannot be read: Permission denied"), "{problems}");
    for (name, why) in [
        ("good.tar~", "editor"),
        (".good.tar.swp", "editor"),
        ("good.tar.gz.part", "half copied"),
        (".good.tar.gz.Ab12Cd", "half copied"),
        ("shop.dump", "a logical dump: it has no WAL position"),
        ("shop.sql.gz", "a logical dump"),
        ("directory.dump", "a logical dump"),
        ("README", "neither a tar nor"),
        ("etc.tar", "without a data directory"),
        ("000000010000000000000007", "an empty directory"),
        ("empty", "an empty directory"),
        ("dangling.tar", "a link that leads nowhere"),
        ("locked", "cannot be read: Permission denied"),
        ("everything", "1 file of a WAL archive"),
    ] {
        let left = listed["left_alone"].as_array().unwrap();
        let path = |one: &Value| PathBuf::from(one["path"].as_str().unwrap());
        let found = left.iter().find(|one| path(one).ends_with(name) && one["why"].as_str().unwrap().contains(why));
        assert!(found.is_some(), "{name}: {why}: {left:#?}");
    }
    let shown: Answer = ask(support::walback(past.directory)
        .arg("--backups")
        .arg(&place)
        .arg("--wal")
        .arg(&past.archive)
        .arg("backups"));
    let shown = shown.ended_with(0).out;
    assert!(
        shown.contains("Left alone, since these are no backups:") && shown.contains("more; --json has them all"),
        "{shown}"
    );
    // With nothing but these, that is what the error says.
    let only = past.create("only");
    fs::copy(place.join("shop.dump"), only.join("shop.dump")).unwrap();
    let failed = ask(&mut past.operator(&only).command(&["backups"])).ended_with(1);
    assert!(failed.err.contains("a logical dump"), "{}", failed.shown);
}

/// What was found in a tar whose label comes late is kept, for as long as the tar is the same.
#[test]
fn what_took_long_to_find_is_remembered_until_the_tar_changes() {
    let past = &*OF_15;
    let place = past.packed(
        "remembered",
        "a.tar",
        Some(2),
        &["--exclude=data/backup_label", "-h", "data", "+", "data/backup_label"],
    );
    let file = place.join("a.tar.zst");
    let operator = past.operator(&place);
    let first = operator.listed();
    assert_eq!(operator.listed(), first);
    let packed = past.packed("other", "a.tar", Some(2), &["--exclude=data/backup_label", "-h", "data"]);
    fs::copy(packed.join("a.tar.zst"), &file).unwrap();
    let problems = operator.listed()[0]["problems"].to_string();
    assert!(problems.contains("there is no backup_label"), "{problems}");
}
