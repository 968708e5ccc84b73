//! What is found below directories, what it is taken for and why, and the configuration that is written of it.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use support::{
    Answer, Cluster, Directory, Format, Options, Server, Stop, as_operator, ask, gzip, run, server_user, walback,
};
use walback::source::Cancel;
use walback::source::discover::{Bounds, discover};

/// Two clusters and everything that may lie beside them:
///
/// `shop` has two base backups, an archive, a second one with few packed segments in folders, and runs in a directory of
/// its own; one tar of its data lies beside one of the other cluster's;
/// `crm` has two packed base backups, one of which does not say of which cluster it is, an archive of packed segments, and
/// a data directory that its server was killed in.
struct Place {
    tree: PathBuf,
    running: PathBuf,
    shop: String,
    crm: String,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let directory = Directory::lasting();
    let tree = directory.create("tree");
    let (running, shop) = make_shop(&tree);
    let crm = make_crm(&tree);
    make_rubbish(&tree);
    Place { tree, running, shop, crm }
});

fn options(gzip: bool) -> Options {
    Options { segment_mib: 1, gzip, ..Options::default() }
}

fn identifier(cluster: &Cluster<'_>) -> String {
    cluster.psql("select system_identifier from pg_control_system()")
}

fn give(path: &Path) {
    if let Some(user) = server_user() {
        run(Command::new("chown").arg("-R").arg(format!("{}:{}", user.uid, user.gid)).arg(path));
    }
}

/// Its server runs on, until the test program ends.
fn make_shop(tree: &Path) -> (PathBuf, String) {
    let directory = Directory::lasting();
    let cluster = Cluster::create(directory, &Server::v15(), &options(false));
    for (format, name) in [(Format::TarGz, "2026-11-20"), (Format::Plain, "2026-11-21")] {
        cluster.base_backup(format, name);
        cluster.psql("create table if not exists t (n int); insert into t values (1)");
        cluster.switch_and_wait_archived();
    }
    copy(&directory.path().join("backups"), &tree.join("shop/base"));
    copy(&cluster.archive, &tree.join("shop/wal"));
    // Few of its segments, packed, in another archive.
    let packed = tree.join("shop/wal-offsite/0000000100000000");
    fs::create_dir_all(&packed).unwrap();
    for name in segments(&cluster.archive).iter().rev().take(2) {
        fs::write(packed.join(format!("{name}.gz")), gzip(&fs::read(cluster.archive.join(name)).unwrap())).unwrap();
    }
    fs::create_dir_all(tree.join("loose")).unwrap();
    let tar = tree.join("loose/one-of-shop.tar.gz");
    run(Command::new("tar").arg("-C").arg(tree.join("shop/base/2026-11-21")).arg("-czf").arg(tar).arg("."));
    let id = identifier(&cluster);
    let data = cluster.data.clone();
    (data, id)
}

fn make_crm(tree: &Path) -> String {
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &Server::v15(), &options(true));
    cluster.base_backup(Format::TarGz, "with-wal");
    cluster.base_backup_without_wal(Format::TarGz, "without-wal");
    cluster.psql("create table t (n int)");
    cluster.switch_and_wait_archived();
    cluster.psql("insert into t values (1)");
    let id = identifier(&cluster);
    cluster.stop(Stop::Immediate);
    copy(&directory.path().join("backups"), &tree.join("crm/base"));
    copy(&tree.join("crm/base/without-wal/base.tar.gz"), &tree.join("loose/one-of-crm.tar.gz"));
    copy(&cluster.archive, &tree.join("crm/wal"));
    copy(&cluster.data, &tree.join("crm/broken-server/data"));
    id
}

fn make_rubbish(tree: &Path) {
    let file = |name: &str| {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    };
    for name in [
        "notes/read me.txt",
        "notes/base.tar.gz.part",
        "notes/.base.tar.gz.swp",
        "shop/base/2026-11-22.tar.gz.part",
        "pgbackrest/archive/demo/archive.info",
        "pgbackrest/archive/demo/15-1/0000000100000000/000000010000000000000001",
        "pgbackrest/backup/demo/backup.info",
        "barman/main/base/20261120T180125/backup.info",
        "barman/main/base/20261120T180125/data/PG_VERSION",
        "barman/main/wals/xlog.db",
        "walg/basebackups_005/base_000000010000000000000001_backup_stop_sentinel.json",
        "walg/wal_005/000000010000000000000001.lz4",
        "probackup/backups/one/pg_probackup.conf",
        "probackup/wal/one/000000010000000000000001",
        "dump/toc.dat",
        "deep/1/2/3/4/5/6/base.tar",
        "histories/00000002.history",
    ] {
        file(name);
    }
    for name in ["shop/wal/000000010000000000000099", "unreadable"] {
        fs::create_dir_all(tree.join(name)).unwrap();
    }
    symlink("..", tree.join("notes/up")).unwrap();
    symlink("../shop/wal", tree.join("notes/wal-again")).unwrap();
    symlink("loop", tree.join("notes/loop")).unwrap();
    symlink("/proc", tree.join("notes/proc")).unwrap();
    give(tree);
    fs::set_permissions(tree.join("unreadable"), fs::Permissions::from_mode(0o000)).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

fn segments(archive: &Path) -> Vec<String> {
    let names = fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.len() == 24).collect();
    names.sort();
    names
}

/// The program, run by the servers' user: root may look into every directory.
fn operator(directory: &Directory, words: &[&str]) -> Answer {
    let mut command = walback(directory);
    command.args(words);
    if server_user().is_some() { ask(&mut as_operator(&command)) } else { ask(&mut command) }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What `init` found below the tree and in the data directory of the running server.
fn found(directory: &Directory) -> Value {
    let output = directory.path().join("found.yaml");
    let place = &*PLACE;
    let words = ["--json", "init", text(&place.tree), text(&place.running), "--force", "--output", text(&output)];
    operator(directory, &words).ended_with(0).json()["found"].clone()
}

fn source<'a>(found: &'a Value, name: &str) -> &'a Value {
    let sources = found["sources"].as_array().unwrap();
    sources.iter().find(|source| source["name"] == name).unwrap_or_else(|| panic!("no {name} in {found:#}"))
}

fn paths<'a>(list: &'a Value, base: &Path) -> Vec<&'a str> {
    let path = |it: &'a Value| {
        let path = it.as_str().or(it["path"].as_str()).unwrap();
        path.strip_prefix(text(base)).map_or(path, |rest| rest.trim_start_matches('/'))
    };
    list.as_array().unwrap().iter().map(path).collect()
}

/// Why something has its place, or was left alone.
fn said<'a>(list: &'a Value, path: &Path, field: &str) -> &'a str {
    let it = list.as_array().unwrap().iter().find(|it| it["path"] == text(path));
    it.unwrap_or_else(|| panic!("{} is not in {list:#}", path.display()))[field].as_str().unwrap()
}

#[test]
fn clusters_are_told_apart_and_their_archives_put_in_order() {
    let (place, directory) = (&*PLACE, Directory::new());
    let found = found(&directory);
    let tree = &place.tree;
    assert_eq!(found["sources"].as_array().unwrap().len(), 2, "{found:#}");

    let shop = source(&found, "shop");
    assert_eq!(shop["system_identifier"], place.shop.as_str());
    assert_eq!(shop["pg_versions"], serde_json::json!([15]));
    assert_eq!(paths(&shop["backup_directories"], tree), ["loose/one-of-shop.tar.gz", "shop/base"]);
    let backups = ["shop/base/2026-11-20", "loose/one-of-shop.tar.gz", "shop/base/2026-11-21"];
    assert_eq!(paths(&shop["backups"], tree), backups);
    let own = text(&place.running).to_owned() + "/pg_wal";
    assert_eq!(paths(&shop["wal"], tree), ["shop/wal", "shop/wal-offsite", &own]);
    let kinds: Vec<&str> = shop["wal"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["archive", "archive", "pg-wal-of-running"]);
    assert!(said(&shop["wal"], &tree.join("shop/wal"), "why").starts_with("asked first: has all "), "{shop:#}");
    assert!(said(&shop["wal"], &tree.join("shop/wal-offsite"), "why").starts_with("asked next: has 2 of the "));
    assert!(said(&shop["wal"], Path::new(&own), "why").contains("running server"));

    let crm = source(&found, "crm");
    assert_eq!(crm["system_identifier"], place.crm.as_str());
    assert_eq!(paths(&crm["backup_directories"], tree), ["crm/base", "loose/one-of-crm.tar.gz"]);
    let backups = ["crm/base/with-wal", "crm/base/without-wal", "loose/one-of-crm.tar.gz"];
    assert_eq!(BTreeSet::from_iter(paths(&crm["backups"], tree)), BTreeSet::from(backups));
    assert_eq!(paths(&crm["wal"], tree), ["crm/wal", "crm/broken-server/data/pg_wal"]);
    assert!(said(&crm["backups"], &tree.join("crm/base/without-wal"), "why").starts_with("an archive tells of it in "));
    assert!(said(&crm["backups"], &tree.join("crm/base/with-wal"), "why").contains("its own files"));
    assert!(said(&crm["wal"], &tree.join("crm/broken-server/data/pg_wal"), "why").contains("does not run here"));
    assert_eq!(found["unplaced_backups"], serde_json::json!([]));
}

#[test]
fn what_is_no_source_is_said_to_be_what_it_is() {
    let (place, directory) = (&*PLACE, Directory::new());
    let found = found(&directory);
    let tree = &place.tree;

    let servers = &found["data_directories"];
    assert_eq!(servers.as_array().unwrap().len(), 2, "{servers:#}");
    assert!(said(servers, &place.running, "note").contains("of a server that runs: no base backup"));
    let broken = tree.join("crm/broken-server/data");
    assert!(said(servers, &broken, "note").contains("no server runs on this machine"), "{servers:#}");
    assert!(said(servers, &broken, "note").contains("in production"), "{servers:#}");

    let foreign = &found["foreign"];
    for (path, program, command) in [
        ("pgbackrest", "pgbackrest", "pgbackrest --stanza=demo archive-get %f %p"),
        ("barman/main", "barman", "barman get-wal main %f > %p"),
        ("walg", "wal-g", "wal-g wal-fetch %f %p"),
        ("probackup", "pg_probackup", "--instance=one --wal-file-path=%p --wal-file-name=%f"),
    ] {
        let path = tree.join(path);
        assert_eq!(said(foreign, &path, "program"), program);
        assert!(said(foreign, &path, "hint").contains(command), "{foreign:#}");
    }
    assert_eq!(foreign.as_array().unwrap().len(), 4, "{foreign:#}");

    let left = &found["left_alone"];
    for (path, why) in [
        ("notes/up", "back to where it came from"),
        ("notes/wal-again", "looked into already"),
        ("notes/proc", "another file system"),
        ("unreadable", "Permission denied"),
        ("dump", "a dump of pg_dump"),
        ("histories", "no segment"),
        ("shop/wal/000000010000000000000099", "a directory with a name of WAL"),
        ("deep/1/2/3/4/5/6", "more than 6 levels below"),
        ("shop/base/2026-11-22.tar.gz.part", "half copied"),
    ] {
        let said = said(left, &tree.join(path), "why");
        assert!(said.contains(why), "{path}: {said}");
    }
    assert_eq!(left.as_array().unwrap().len(), 9, "{left:#}");
}

#[test]
fn a_directory_of_one_cluster_is_a_source_without_any_word_more() {
    let (place, directory) = (&*PLACE, Directory::new());
    let shop = place.tree.join("shop");
    let base = shop.join("base");
    let wal = shop.join("wal");
    let named = ["--json", "--backups", text(&base), "--wal", text(&wal), "backups"];
    let expected = operator(&directory, &named).ended_with(0).json();
    assert_eq!(expected["backups"].as_array().unwrap().len(), 2);
    for words in [["--json", text(&shop), "backups"], ["--json", "backups", "--in"]] {
        let mut words = words.to_vec();
        if words.last() == Some(&"--in") {
            words.push(text(&shop));
        }
        let answer = operator(&directory, &words).ended_with(0);
        assert_eq!(answer.json(), expected, "{}", answer.shown);
        assert!(answer.err.contains("found shop: PostgreSQL 15, 2 base backups"), "{}", answer.err);
    }
    let lines = operator(&directory, &["--plain", text(&shop)]).ended_with(0);
    assert!(lines.out.contains("shop") && lines.out.contains("2026-11-21"), "{}", lines.shown);
}

#[test]
fn which_of_several_clusters_is_asked_and_never_guessed() {
    let (place, directory) = (&*PLACE, Directory::new());
    let tree = text(&place.tree);
    for words in [&[tree][..], &[tree, "backups"], &["--in", tree, "--json", "check", "--quick"]] {
        let answer = operator(&directory, words).ended_with(2);
        for part in ["several clusters", "shop: PostgreSQL 15, 3 base backups of ", "crm: ", "--source: crm, shop"] {
            assert!(answer.err.contains(part), "{part}: {}", answer.shown);
        }
    }
    let crm = operator(&directory, &[tree, "--source", "crm", "--json", "backups"]).ended_with(0).json();
    let ids: Vec<&str> = crm["backups"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(BTreeSet::from_iter(ids), BTreeSet::from(["with-wal", "without-wal", "one-of-crm.tar.gz"]));
    let answer = operator(&directory, &[tree, "--source", "crn", "backups"]).ended_with(2);
    assert!(answer.err.contains("found were: crm, shop"), "{}", answer.shown);
    let answer = operator(&directory, &[tree, "--wal", tree, "backups"]).ended_with(2);
    assert!(answer.err.contains("do not go with --backups"), "{}", answer.shown);
}

#[test]
fn the_configuration_that_is_written_has_the_same_sources() {
    let (place, directory) = (&*PLACE, Directory::new());
    let tree = text(&place.tree);
    let words = operator(&directory, &["init", tree]).ended_with(0).out;
    for part in [
        "shop: PostgreSQL 15, 3 base backups of ",
        &format!("system identifier {}", place.crm),
        "asked first: has all ",
        "what you can do: ",
        "left alone:",
        "of other backup programs:",
        "walback --source crm check --quick",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let written = directory.path().join("walback.yaml");
    assert_eq!(fs::metadata(&written).unwrap().permissions().mode() & 0o777, 0o640);
    for name in ["shop", "crm"] {
        let found = operator(&directory, &[tree, "--source", name, "--json", "backups"]).ended_with(0).json();
        let configured = operator(&directory, &["--source", name, "--json", "backups"]).ended_with(0).json();
        assert_eq!(configured, found, "the file is looked for where the program is run");
        let timelines = |words: &[&str]| operator(&directory, words).ended_with(0).json();
        let found = timelines(&[tree, "--source", name, "--json", "timelines"]);
        assert_eq!(timelines(&["--source", name, "--json", "timelines"]), found);
    }
    let yaml = fs::read_to_string(&written).unwrap();
    let shown = operator(&directory, &["init", tree, "--output", "-"]).ended_with(0);
    assert_eq!(shown.out, yaml);
    assert!(shown.err.contains("left alone:"));
}

#[test]
fn a_configuration_is_replaced_only_where_that_is_said() {
    let (place, directory) = (&*PLACE, Directory::new());
    let shop = place.tree.join("shop");
    let file = directory.write("mine.yaml", "time_zone: UTC\n");
    let init = |more: &[&str]| operator(&directory, &[&["init", text(&shop), "--output", text(&file)], more].concat());
    let refused = init(&[]).ended_with(2);
    assert!(refused.err.contains("--force replaces it"), "{}", refused.shown);
    assert_eq!(fs::read_to_string(&file).unwrap(), "time_zone: UTC\n");
    let refused = init(&["--force", "--read-only"]).ended_with(2);
    assert!(refused.err.contains("--read-only"), "{}", refused.shown);
    let replaced = init(&["--force"]).ended_with(0);
    assert!(replaced.out.contains(&format!("--config {}", text(&file))), "{}", replaced.shown);
    assert!(fs::read_to_string(&file).unwrap().contains("sources:\n"));
    let beside = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!beside.into_iter().any(|name| name.to_string_lossy().contains("walback-")), "nothing is left beside it");
}

#[test]
fn nothing_and_what_is_no_directory_are_said() {
    let (place, directory) = (&*PLACE, Directory::new());
    let notes = place.tree.join("pgbackrest");
    for words in [&["init", text(&notes)][..], &[text(&notes), "backups"]] {
        let answer = operator(&directory, words).ended_with(1);
        assert!(answer.err.contains("there is no base backup and no WAL archive below"), "{}", answer.shown);
        assert!(answer.err.contains("a pgBackRest repository, stanza demo"), "{}", answer.shown);
    }
    assert!(!directory.path().join("walback.yaml").exists());
    let file = place.tree.join("notes/read me.txt");
    let answer = operator(&directory, &[text(&file)]).ended_with(2);
    assert!(answer.err.contains("this is a file") && answer.err.contains("notes\n"), "{}", answer.shown);
    assert!(operator(&directory, &["/proc"]).ended_with(2).err.contains("kernel"));
    assert!(operator(&directory, &["/no/where"]).ended_with(1).err.contains("/no/where"));
    let answer = operator(&directory, &["bakups"]).ended_with(2);
    assert!(answer.err.contains("'backups'"), "{}", answer.shown);
    let answer = operator(&directory, &["backups"]).ended_with(2);
    assert!(answer.err.contains("walback /backups"), "{}", answer.shown);
}

#[test]
fn a_search_ends_at_its_bound_and_when_it_is_told() {
    let place = &*PLACE;
    let paths = [place.tree.clone()];
    let few = Bounds { entries: 20, ..Bounds::default() };
    let found = discover(&paths, few, None, &Cancel::default()).unwrap();
    assert!(found.cut_short.as_deref().is_some_and(|why| why.contains("after 20 entries")), "{found:#?}");
    let near = Bounds { depth: 1, ..Bounds::default() };
    let found = discover(&paths, near, None, &Cancel::default()).unwrap();
    let is_near = |path: &Path| path.strip_prefix(&place.tree).unwrap().components().count() <= 2;
    let backups = found.sources.iter().flat_map(|source| &source.backups);
    assert!(backups.chain(&found.unplaced_backups).all(|backup| is_near(&backup.path)), "{found:#?}");
    assert!(found.left_alone.iter().any(|left| left.why.contains("more than 1 levels below")), "{found:#?}");
    let cancel = Cancel::default();
    cancel.cancel();
    assert_eq!(discover(&paths, Bounds::default(), None, &cancel).unwrap_err().report().code, "cancelled");
}

#[test]
fn the_effective_configuration_says_where_each_value_comes_from() {
    let directory = Directory::new();
    directory.write(
        "walback.yaml",
        "suspects: {rows: 5}\nsources:\n  shop:\n    wal:\n      - path: wal\n    primary: host=db user=op password=geheim\n",
    );
    let words = ["--json", "--time-zone", "Asia/Kolkata", "config", "show"];
    let answer = operator(&directory, &words).ended_with(0);
    assert!(!answer.out.contains("geheim"), "{}", answer.out);
    let shown = answer.json();
    let setting = |key: &str| {
        let all = shown["configuration"].as_array().unwrap();
        let it = all.iter().find(|it| it["key"] == key).unwrap_or_else(|| panic!("no {key} in {shown:#}"));
        let from = &it["from"];
        let name = from["name"].as_str().map(|name| name.rsplit('/').next().unwrap()).unwrap_or("-");
        format!("{} {} {name} {}", it["value"].as_str().unwrap(), from["kind"].as_str().unwrap(), from["line"])
    };
    let wal = directory.path().join("wal");
    assert_eq!(setting("time_zone"), "Asia/Kolkata command-line --time-zone null");
    assert_eq!(setting("suspects.rows"), "5 file walback.yaml 1");
    assert_eq!(setting("sources.shop.wal[0].path"), format!("{} file walback.yaml 5", wal.display()));
    assert_eq!(setting("sources.shop.primary"), "host=db user=op password=******** file walback.yaml 6");
    assert_eq!(setting("interface.colours"), "auto default - null");
    assert_eq!(setting("sources.shop.restore.port"), "the first free one from 5499 on default - null");
    assert!(setting("state directory").ends_with("environment WALBACK_STATE_DIR null"));
    let words = ["config", "show", "--wal", "/w", "--wal-command", "get %f %p", "--source", "shop"];
    let table = operator(&directory, &words).ended_with(0).out;
    let row = table.lines().find(|line| line.starts_with("sources.shop.wal[1].command")).unwrap();
    assert!(row.contains("get") && row.ends_with("--wal-command"), "{table}");
    let row = table.lines().find(|line| line.starts_with("sources.shop.wal[0].path")).unwrap();
    assert!(row.contains("/w") && row.ends_with("--wal"), "{table}");
}
