//! What is left to do after promotion: done with real servers, item by item.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{
    Cluster, Directory, Format, LIMIT, Moment, Operator, Options, Server, Stop, ask, assert_is, run_and_kill, sql,
    wait_until, walback,
};

/// A cluster that still runs, and a recovery of it that was promoted.
struct Promoted<'a> {
    operator: Operator<'a>,
}

impl<'a> Promoted<'a> {
    /// Recovers to the restore point `good` and promotes.
    #[track_caller]
    fn make(original: &'a Cluster<'a>) -> Promoted<'a> {
        let directory = original.directory();
        original.psql("alter system set checkpoint_timeout = '7min'");
        original.base_backup(Format::TarGz, "before");
        original.psql("create table kept (n int); insert into kept values (1)");
        original.restore_point("good");
        original.psql("insert into kept values (2)");
        original.switch_and_wait_archived();
        let (backups, archive) = (directory.path().join("backups/before"), original.archive.clone());
        let operator = Operator { directory, backups, archive };
        let bin_dir = original.server.bin_dir.display().to_string();
        // There is no such role: the one that is named like the server's user is taken, for the programs of the list too.
        let words = ["--name", "good", "--bin-dir", &bin_dir, "--role", "nobody"];
        let paused = ask(&mut operator.restore("copy", &words)).ended_with(0).recovery();
        assert_eq!(sql(&paused, "show checkpoint_timeout"), "1d");
        let refused = operator.about(&["checklist", "copy"]).ended_with(1);
        assert_eq!(refused.json()["error"]["code"], "not-promoted");
        operator.about(&["promote", "copy", "--yes"]).ended_with(0);
        Promoted { operator }
    }

    #[track_caller]
    fn items(&self) -> Vec<Value> {
        let listed = self.operator.about(&["checklist", "copy"]).ended_with(0).json();
        listed["checklist"].as_array().unwrap().clone()
    }

    #[track_caller]
    fn item(&self, name: &str) -> Value {
        let items = self.items();
        items.iter().find(|item| item["item"] == name).unwrap_or_else(|| panic!("{name} in {items:#?}")).clone()
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> Value {
        let words = [["checklist", "copy", "--yes"].as_slice(), words].concat();
        self.operator.about(&words).ended_with(0).recovery()
    }

    /// Begins an item with a server that runs, and is killed.
    #[track_caller]
    fn is_killed_doing(&self, item: &str, moment: Moment) {
        let Operator { directory, .. } = self.operator;
        let mut command = walback(directory);
        command.args(["--json", "checklist", "copy", "--yes", "--do", item]);
        let journal = self.operator.journal("copy");
        let killed = run_and_kill(&command, &journal, moment, &directory.path().join("said"));
        assert!(killed.killed.is_some(), "{}", killed.said);
        eprintln!("{item}: killed about to {:?}", killed.killed);
    }

    /// The settings from before an item, for whoever goes on with it.
    fn before_item(&self) -> PathBuf {
        self.operator.place("copy").join(".walback/auto.conf.before-item")
    }

    fn auto_conf(&self) -> String {
        fs::read_to_string(self.operator.place("copy").join("postgresql.auto.conf")).unwrap()
    }
}

fn names(items: &[Value]) -> Vec<&str> {
    items.iter().filter_map(|item| item["item"].as_str()).collect()
}

/// The isolation is lifted; what cannot work is taken back.
fn isolation_is_lifted(major: u16) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::new();
    let settings = vec![("wal_level", "logical".to_owned()), ("log_min_messages", "notice".to_owned())];
    let original = Cluster::create(&directory, &server, &Options { segment_mib: 1, settings, ..Options::default() });
    let promoted = Promoted::make(&original);
    let place = promoted.operator.place("copy");
    let recovery = promoted.operator.status("copy");
    // What kept the way back open is gone, and what the cluster had of it is back.
    let settings = || {
        sql(
            &recovery,
            "select current_setting('checkpoint_timeout') || ' ' || current_setting('bgwriter_lru_maxpages')",
        )
    };
    wait_until("settings of a server that takes writes", LIMIT, || (settings() == "7min 100").then_some(()));
    assert_eq!(sql(&recovery, "insert into kept values (3) returning n"), "3");
    sql(&recovery, "select pg_create_physical_replication_slot('nobody', true)");

    let items = promoted.items();
    let expected =
        ["statistics", "integrity", "slots", "subscriptions", "logging", "archiving", "base-backup", "network", "port"];
    assert_eq!(names(&items), expected, "the backup preloads nothing, and has no standbys");
    assert!(items.iter().all(|item| item["state"] == "open"), "{items:#?}");
    let archiving = promoted.item("archiving");
    let changes = archiving["changes"].as_array().unwrap();
    let mode = changes.iter().find(|change| change["name"] == "archive_mode").unwrap();
    assert_eq!((&mode["name"], &mode["now"], &mode["then"]), (&"archive_mode".into(), &"off".into(), &"on".into()));
    assert_is(mode, "from", "postgresql.conf");
    assert!(promoted.item("slots")["facts"][0].as_str().unwrap().ends_with("nobody"));

    // Without a confirmation nothing happens.
    let before = promoted.auto_conf();
    promoted.operator.about(&["checklist", "copy", "--do", "archiving"]).ended_with(5);
    assert_eq!(promoted.auto_conf(), before);

    // The original server still has the port: the copy does not start there, and everything is as before.
    let refused = promoted.operator.about(&["checklist", "copy", "--yes", "--do", "port"]).ended_with(1);
    assert!(refused.err.contains("lock file") && refused.err.contains("the server runs again"), "{}", refused.shown);
    assert_eq!(promoted.auto_conf(), before);
    assert_is(&promoted.item("port"), "state", "failed");
    let recovery = promoted.operator.status("copy");
    assert_eq!(sql(&recovery, "select count(*) from kept"), "2", "it runs again");
    original.stop(Stop::Fast);

    let recovery = promoted.does(&["--do", "slots", "--do", "archiving", "--do", "port", "--skip", "integrity"]);
    assert_is(&recovery, "checklist/port", "done");
    assert_is(&recovery, "checklist/integrity", "skipped");
    assert!(recovery["connection"].as_str().unwrap().contains(&format!("port={}", original.port)), "{recovery:#}");
    assert_eq!(sql(&recovery, "select count(*) from pg_replication_slots"), "0");
    assert_eq!(sql(&recovery, "show archive_mode"), "on");
    assert_eq!(sql(&recovery, "show log_min_messages"), "warning", "what was not asked for stays");
    // The history of the new timeline was written while nothing was archived.
    wait_until("the archived history", LIMIT, || original.archive.join("00000002.history").is_file().then_some(()));
    sql(&recovery, "select pg_switch_wal()");
    let segment = |name: &str| name.len() == 24 && name.starts_with("00000002");
    wait_until("an archived segment", LIMIT, || archived(&original.archive).iter().any(|n| segment(n)).then_some(()));

    let again = promoted.operator.about(&["checklist", "copy", "--yes", "--do", "archiving"]).ended_with(1);
    assert_eq!(again.json()["error"]["code"], "nothing-to-do");
    let recovery = promoted.does(&["--do", "logging", "--do", "network", "--do", "subscriptions"]);
    assert_eq!(sql(&recovery, "show log_min_messages"), "notice");
    assert_eq!(sql(&recovery, "show hba_file"), place.join("pg_hba.conf").display().to_string());
    assert!(!promoted.auto_conf().contains(".walback"), "nothing is left that leads to what is Walback's");
    let open = ["statistics", "base-backup"];
    let left: Vec<Value> = promoted.items().into_iter().filter(|item| item["state"] == "open").collect();
    assert_eq!(names(&left), open);

    // Whoever has a server that takes writes does not lose it by a slip.
    let refused = promoted.operator.about(&["discard", "copy", "--yes"]).ended_with(1);
    assert_eq!(refused.json()["error"]["code"], "in-use");
    promoted.operator.about(&["stop", "copy"]).ended_with(0);
    promoted.operator.discards("copy");
}

fn archived(archive: &Path) -> Vec<String> {
    fs::read_dir(archive).unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok()).collect()
}

#[test]
fn isolation_is_lifted_on_13() {
    isolation_is_lifted(13);
}

#[test]
fn isolation_is_lifted_on_15() {
    isolation_is_lifted(15);
}

#[test]
fn isolation_is_lifted_on_18() {
    isolation_is_lifted(18);
}

/// With the client programs: the new base backup is one that leads on.
#[test]
fn what_is_written_after_it_can_be_recovered_again() {
    let directory = Directory::new();
    let original = Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    let promoted = Promoted::make(&original);
    original.stop(Stop::Fast);
    let into = directory.path().join("backups/after");
    let missing = promoted.operator.about(&["checklist", "copy", "--yes", "--do", "base-backup"]).ended_with(2);
    assert_eq!(missing.json()["error"]["code"], "no-directory");
    let words = ["--do", "statistics", "--do", "integrity", "--do", "archiving", "--do", "base-backup", "--into"];
    let recovery = promoted.does(&[words.as_slice(), &[into.to_str().unwrap()]].concat());
    assert_eq!(
        sql(&recovery, "select count(*) from pg_stat_user_tables where relname = 'kept' and last_analyze is not null"),
        "1"
    );
    assert_eq!(sql(&recovery, "select count(*) from pg_extension where extname = 'amcheck'"), "1");
    assert!(into.join("base.tar.gz").is_file() && into.join("backup_manifest").is_file());
    sql(&recovery, "insert into kept values (4)");
    let segment = sql(&recovery, "select pg_walfile_name(pg_switch_wal())");
    wait_until("the archived segment", LIMIT, || original.archive.join(&segment).is_file().then_some(()));

    let operator = Operator { backups: into, ..promoted.operator };
    operator.recovers("later", &["--latest"], "1,4");
    operator.discards("later");
    operator.about(&["stop", "copy"]).ended_with(0);
    operator.discards("copy");
}

/// Debian keeps `pg_hba.conf` outside of the data directory: without it nobody could connect.
#[test]
fn without_rules_for_who_may_connect_the_network_stays_closed() {
    let directory = Directory::new();
    let original = Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    let promoted = Promoted::make(&original);
    let place = promoted.operator.place("copy");
    let rules = fs::read(place.join("pg_hba.conf")).unwrap();
    fs::remove_file(place.join("pg_hba.conf")).unwrap();
    let refused = promoted.operator.about(&["checklist", "copy", "--yes", "--do", "network"]).ended_with(1);
    assert_eq!(refused.json()["error"]["code"], "no-access-file");
    assert_is(&promoted.item("network"), "state", "open");
    // What the operator puts there is taken.
    fs::write(place.join("pg_hba.conf"), rules).unwrap();
    promoted.does(&["--do", "network"]);
}

/// Killed between the stop of the server and its start, an item leaves it down: that is said, and it is gone on with.
#[test]
fn an_item_that_is_killed_while_the_server_is_down_is_gone_on_with() {
    let directory = Directory::new();
    let original = Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    let promoted = Promoted::make(&original);
    original.stop(Stop::Fast);
    let (operator, file) = (&promoted.operator, promoted.operator.place("copy").join("postgresql.auto.conf"));
    let before = promoted.auto_conf();
    let (mut down, mut up) = (0, 0);
    // Up to where the server is started, and from there to where the end is journalled.
    let moments = (0..15).step_by(3).map(|act| Moment { line: 1, act });
    for moment in moments.chain([0, 1].map(|act| Moment { line: 2, act })) {
        // As if it had not been done.
        fs::write(&file, &before).unwrap();
        promoted.is_killed_doing("archiving", moment);

        let item = promoted.item("archiving");
        assert_is(&item, "state", "begun");
        let interrupted = item["interrupted"].as_str().unwrap();
        *(if interrupted.contains("does not run") { &mut down } else { &mut up }) += 1;
        let told = ask(walback(&directory).args(["checklist", "copy"])).ended_with(0);
        assert!(told.out.contains("it was interrupted") && told.out.contains("resume copy"), "{}", told.out);
        assert!(operator.status("copy")["interrupted"].as_str().unwrap().contains("being restarted for"));
        for words in [["--do", "logging"], ["--skip", "archiving"]] {
            let refused = operator.about(&[&["checklist", "copy", "--yes"][..], &words].concat()).ended_with(1);
            assert_is(&refused.json(), "error/code", "item-interrupted");
        }
        let recovery = if moment.act % 2 == 0 {
            operator.about(&["resume", "copy"]).ended_with(0).recovery()
        } else {
            promoted.does(&["--do", "archiving"])
        };
        assert_is(&recovery, "state", "promoted");
        assert_is(&recovery, "checklist/archiving", "done");
        assert_eq!(sql(&recovery, "show archive_mode"), "on");
        assert!(!promoted.before_item().exists());
        assert_is(&operator.status("copy"), "interrupted", Value::Null);
    }
    assert!(down > 0 && up > 0, "{down} times it was down, {up} times it ran");
    fs::write(&file, &before).unwrap();
    what_an_item_leaves_is_not_taken_for_anothers(&promoted);
    what_nothing_is_left_of_is_ended(&promoted);

    // One that the server does not start with, gone on with: everything is as before it was begun.
    original.start();
    let before = promoted.auto_conf();
    for moment in [Moment { line: 1, act: 9 }, Moment { line: 2, act: 0 }] {
        promoted.is_killed_doing("port", moment);
        let refused = operator.about(&["resume", "copy"]).ended_with(1);
        assert!(refused.err.contains("the server runs again"), "{}", refused.shown);
        assert_eq!(promoted.auto_conf(), before);
        assert_is(&promoted.item("port"), "state", "failed");
        assert_eq!(sql(&operator.status("copy"), "select count(*) from kept"), "1");
        assert!(!promoted.before_item().exists());
    }
    // Stopped by the operator, it is not started for an item.
    operator.about(&["stop", "copy"]).ended_with(0);
    operator.discards("copy");
}

/// Killed when the end of one item is journalled, and then at the beginning of the next.
#[track_caller]
fn what_an_item_leaves_is_not_taken_for_anothers(promoted: &Promoted<'_>) {
    let operator = &promoted.operator;
    promoted.is_killed_doing("archiving", Moment { line: 3, act: 0 });
    assert_is(&promoted.item("archiving"), "state", "done");
    assert_is(&operator.status("copy"), "interrupted", Value::Null);
    assert!(promoted.before_item().exists(), "it is removed after that");
    promoted.is_killed_doing("logging", Moment { line: 1, act: 0 });
    let recovery = operator.about(&["resume", "copy"]).ended_with(0).recovery();
    assert_is(&recovery, "checklist/logging", "done");
    assert_eq!(sql(&recovery, "show archive_mode"), "on", "the isolation does not come back");
    assert!(!promoted.before_item().exists());
}

/// Interrupted, and its settings are there already: it comes to its end with a server that runs, started where it has to be.
#[track_caller]
fn what_nothing_is_left_of_is_ended(promoted: &Promoted<'_>) {
    let (operator, file) = (&promoted.operator, promoted.operator.place("copy").join("postgresql.auto.conf"));
    let isolated = promoted.auto_conf();
    promoted.does(&["--do", "subscriptions"]);
    let given_back = promoted.auto_conf();
    assert_ne!(given_back, isolated);
    for (moment, is_down) in [(Moment { line: 1, act: 9 }, true), (Moment { line: 2, act: 1 }, false)] {
        fs::write(&file, &isolated).unwrap();
        promoted.is_killed_doing("subscriptions", moment);
        let told = promoted.item("subscriptions")["interrupted"].as_str().unwrap().contains("does not run");
        assert_eq!(told, is_down);
        fs::remove_file(promoted.before_item()).unwrap();
        fs::write(&file, &given_back).unwrap();
        let recovery = operator.about(&["resume", "copy"]).ended_with(0).recovery();
        assert_is(&recovery, "checklist/subscriptions", "done");
        assert_eq!(sql(&recovery, "show max_logical_replication_workers"), "4");
    }
}

/// What fails when the server is stopped already does not leave it down; where nothing starts it, that is gone on with.
#[test]
fn an_item_that_fails_leaves_no_server_down() {
    let directory = Directory::new();
    let original = Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    let promoted = Promoted::make(&original);
    original.stop(Stop::Fast);
    let (operator, place) = (&promoted.operator, promoted.operator.place("copy"));
    let before = promoted.auto_conf();

    // The settings cannot be written.
    let in_the_way = place.join("postgresql.auto.conf.walback-new");
    fs::create_dir(&in_the_way).unwrap();
    let refused = operator.about(&["checklist", "copy", "--yes", "--do", "logging"]).ended_with(1);
    assert!(refused.err.contains("the server runs again"), "{}", refused.shown);
    assert_is(&promoted.item("logging"), "state", "failed");
    assert_is(&promoted.item("logging"), "interrupted", Value::Null);
    assert_eq!(promoted.auto_conf(), before);
    assert_eq!(sql(&operator.status("copy"), "select count(*) from kept"), "1");
    assert!(!promoted.before_item().exists());
    fs::remove_dir(&in_the_way).unwrap();

    // It does not start with the settings of before either.
    let rules = place.join(".walback/pg_hba.conf");
    let aside = directory.path().join("rules");
    fs::rename(&rules, &aside).unwrap();
    for words in [&["checklist", "copy", "--yes", "--do", "logging"][..], &["resume", "copy"]] {
        let refused = operator.about(words).ended_with(1);
        assert!(refused.err.contains("walback resume copy"), "{}", refused.shown);
        let item = promoted.item("logging");
        assert_is(&item, "state", "failed");
        assert!(item["interrupted"].as_str().unwrap().contains("does not run"), "{item:#}");
        assert!(operator.status("copy")["interrupted"].as_str().unwrap().contains("being restarted for"));
        assert_eq!(promoted.auto_conf(), before);
    }
    fs::rename(&aside, &rules).unwrap();
    let recovery = operator.about(&["resume", "copy"]).ended_with(0).recovery();
    assert_is(&recovery, "checklist/logging", "done");
    assert_eq!(sql(&recovery, "select count(*) from kept"), "1");
    assert_is(&operator.status("copy"), "interrupted", Value::Null);
    assert!(!promoted.before_item().exists());
    operator.about(&["stop", "copy"]).ended_with(0);
    operator.discards("copy");
}
