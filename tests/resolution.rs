//! Where real servers stop for targets that are not what they seem: what Walback tells them, and what it says of that.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::{
    Answer, Cluster, Directory, Format, Operator, Options, Server, Session, Stop, ask, assert_is, assert_paused,
    client, rows, sql,
};

/// A cluster with small segments, and what its operator does.
struct Scene<'a> {
    cluster: Cluster<'a>,
    operator: Operator<'a>,
}

impl<'a> Scene<'a> {
    #[track_caller]
    fn new(directory: &'a Directory, server: &Server) -> Scene<'a> {
        let options = Options {
            segment_mib: 1,
            settings: vec![("max_prepared_transactions", "5".to_owned())],
            ..Options::default()
        };
        let cluster = Cluster::create(directory, server, &options);
        cluster.psql("create table kept (n int); create table other (n int); insert into other values (7)");
        let (backups, archive) = (directory.path().join("backups"), cluster.archive.clone());
        Scene { cluster, operator: Operator { directory, backups, archive } }
    }

    /// Nothing more comes.
    #[track_caller]
    fn close(&self) {
        self.cluster.switch_and_wait_archived();
        self.cluster.stop(Stop::Fast);
    }

    #[track_caller]
    fn insert(&self, number: u32) {
        self.cluster.psql(&format!("insert into kept values ({number})"));
    }

    #[track_caller]
    fn restore(&self, words: &[&str]) -> Answer {
        let mut restore = self.operator.restore("copy", words);
        ask(restore.arg("--bin-dir").arg(&self.cluster.server.bin_dir))
    }

    /// Restores, and checks that it is paused where it was predicted to be, with these rows.
    #[track_caller]
    fn recovers(&self, words: &[&str], expected: &str) -> Value {
        let recovery = self.restore(words).ended_with(0).recovery();
        assert_paused(&recovery, expected);
        recovery
    }

    #[track_caller]
    fn plan(&self, words: &[&str]) -> Value {
        let mut plan = self.operator.command(&["plan"]);
        plan.args(words).arg("--into").arg(self.operator.place("copy"));
        let plan = ask(plan.arg("--bin-dir").arg(&self.cluster.server.bin_dir)).ended_with(0).json()["plan"].clone();
        let located = ask(self.operator.command(&["locate"]).args(words)).ended_with(0).json()["resolved"].clone();
        for field in ["lsn", "stop", "replay_end", "told", "is_readable", "before", "last_kept", "first_lost"] {
            assert_eq!(plan["resolved"][field], located[field], "{field}, by plan and by locate");
        }
        plan
    }

    #[track_caller]
    fn discards(&self) {
        self.operator.about(&["stop", "copy"]).ended_with(0);
        self.operator.discards("copy");
    }
}

/// The finding of this code in a plan.
#[track_caller]
fn finding<'p>(plan: &'p Value, code: &str) -> &'p Value {
    let findings = plan["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["code"] == code).unwrap_or_else(|| panic!("no {code} in {findings:#?}"))
}

fn codes(plan: &Value) -> Vec<&str> {
    plan["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

/// The options that a choice is reached by.
fn options(choice: &Value) -> Vec<&str> {
    choice["target"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

/// Begins a transaction, and gives its number.
#[track_caller]
fn begin(session: &mut Session) -> String {
    session.query("begin; select txid_current();")
}

/// Whether reading this waits for a lock.
#[track_caller]
fn waits(recovery: &Value, query: &str) -> bool {
    let mut psql = client("psql");
    psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &support::connection_to(recovery, "postgres")]);
    let output = psql.args(["-c", "set statement_timeout = '1s'", "-c", query]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || error.contains("statement timeout"), "{error}");
    !output.status.success()
}

/// A transaction with more subtransactions than WAL lists runs when the backup begins: a server that recovers from it
/// would promote instead of pausing, until that transaction has ended.
#[track_caller]
fn nobody_can_connect_yet(major: u16) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::new();
    let scene = Scene::new(&directory, &server);
    let mut long = scene.cluster.session();
    let mut many = "begin;".to_owned();
    for i in 0..100 {
        let _ = write!(many, "savepoint s{i}; insert into other values ({i});");
    }
    long.query(&many);
    scene.cluster.base_backup(Format::Tar, "base");
    scene.insert(1);
    scene.cluster.restore_point("early");
    long.query("commit;");
    scene.cluster.psql("checkpoint");
    scene.insert(2);
    scene.cluster.restore_point("late");
    scene.insert(3);
    scene.close();

    let plan = scene.plan(&["--name", "early"]);
    assert_is(&plan, "resolved/is_readable", false);
    assert_is(&plan, "resolved/told/action", "shutdown");
    assert_is(&plan, "settings/recovery_target_action", "shutdown");
    let from = plan["resolved"]["readable_from"].as_str().unwrap();
    let said = finding(&plan, "pause-impossible");
    assert!(said["hint"].as_str().unwrap().contains(&format!("--lsn {from}")), "{said:#}");
    // By hand, too.
    let script = directory.path().join("by hand.sh");
    let mut plan = scene.operator.command(&["plan", "--name", "early", "--into"]);
    plan.arg(scene.operator.place("by hand")).arg("--bin-dir").arg(&server.bin_dir).arg("--script").arg(&script);
    ask(&mut plan).ended_with(0);
    let output = Command::new("sh").arg(&script).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("start it: "), "{output:?}");
    assert!(!scene.operator.place("by hand").join("postmaster.pid").exists(), "it is shut down");
    let down = scene.restore(&["--name", "early"]).ended_with(0).recovery();
    assert_is(&down, "state", "shut-down");
    assert_is(&down, "matches_prediction", true);
    scene.discards();
    // Just before the place that is told it cannot pause, and there it can.
    let before = scene.restore(&["--lsn", from, "--exclusive"]).ended_with(0).recovery();
    assert_is(&before, "state", "shut-down");
    assert_is(&before, "matches_prediction", true);
    scene.discards();
    let paused = scene.recovers(&["--lsn", from], "1");
    assert_is(&paused, "resolved/is_readable", true);
    scene.discards();
    scene.recovers(&["--name", "late"], "1,2");
    scene.discards();
    let up = scene.restore(&["--name", "early", "--action", "promote"]).ended_with(0).recovery();
    assert_is(&up, "state", "promoted");
    assert_is(&up, "matches_prediction", true);
}

#[test]
fn nobody_can_connect_yet_to_13() {
    nobody_can_connect_yet(13);
}

#[test]
fn nobody_can_connect_yet_to_15() {
    nobody_can_connect_yet(15);
}

#[test]
fn nobody_can_connect_yet_to_17() {
    nobody_can_connect_yet(17);
}

#[test]
fn nobody_can_connect_yet_to_18() {
    nobody_can_connect_yet(18);
}

/// What a transaction locked before its commit can be read where recovery stops before the lock.
#[track_caller]
fn before_the_transaction(major: u16) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::new();
    let scene = Scene::new(&directory, &server);
    scene.cluster.psql("create table second (n int); insert into second values (8)");
    scene.cluster.psql("create database doomed");
    scene.cluster.base_backup(Format::Tar, "base");
    scene.insert(1);
    // Nothing commits between its lock and its commit.
    let alone = scene.cluster.psql("begin; select txid_current(); drop table other; create table new (n int); commit");
    scene.insert(2);
    // Something does; and it is a subtransaction that locks.
    let mut session = scene.cluster.session();
    let slow = begin(&mut session);
    session.query("savepoint s; truncate second; release s;");
    scene.insert(3);
    session.query("commit;");
    let mut prepared = scene.cluster.session();
    let half = begin(&mut prepared);
    prepared.query("lock table second in access exclusive mode; prepare transaction 'half';");
    scene.insert(4);
    scene.cluster.restore_point("while prepared");
    scene.cluster.psql("rollback prepared 'half'");
    // DROP DATABASE cannot be in a transaction block: who drops is asked afterwards.
    scene.cluster.psql("drop database doomed");
    scene.insert(5);
    scene.close();

    let plan = scene.plan(&["--xid", &alone, "--exclusive"]);
    assert_eq!(codes(&plan), ["stops-before-lock"]);
    assert_is(&plan, "resolved/told/kind", "lsn");
    assert_is(&plan, "resolved/locked", Vec::<Value>::new());
    assert_is(&plan, "resolved/first_lost/xid", alone.parse::<u64>().unwrap());
    assert_is(&plan, "resolved/commits_lost", 7);
    let readable = scene.recovers(&["--xid", &alone, "--exclusive"], "1");
    assert_eq!(sql(&readable, "select n from other"), "7");
    scene.discards();
    let at_commit = options(&plan["resolved"]["before"][1]);
    let plan = scene.plan(&at_commit);
    assert_is(&plan, "resolved/locked/0/relations", 1);
    let locked = scene.recovers(&at_commit, "1");
    assert!(waits(&locked, "select n from other"));
    scene.discards();

    let plan = scene.plan(&["--xid", &slow, "--exclusive"]);
    let [first_lock, commit] = plan["resolved"]["before"].as_array().unwrap().as_slice() else { panic!("{plan:#}") };
    assert_is(first_lock, "what", "first-lock");
    assert_is(first_lock, "commits_lost", 1);
    assert_is(first_lock, "is_readable", true);
    assert_is(commit, "chosen", true);
    assert_is(commit, "is_readable", false);
    assert_is(&plan, "resolved/told", Value::Null);
    assert_is(&plan, "resolved/locked/0/xid", slow.parse::<u64>().unwrap());
    let said = finding(&plan, "relations-locked")["hint"].as_str().unwrap();
    assert!(said.contains(&options(first_lock).join(" ")) && said.contains("1 more commit"), "{said}");
    let locked = scene.recovers(&["--xid", &slow, "--exclusive"], "1,2,3");
    assert!(waits(&locked, "select n from second"));
    scene.discards();
    let readable = scene.recovers(&options(first_lock), "1,2");
    assert_eq!(sql(&readable, "select n from second"), "8");
    scene.discards();

    let plan = scene.plan(&["--name", "while prepared"]);
    assert_is(&plan, "resolved/locked/0/xid", half.parse::<u64>().unwrap());
    assert_is(&plan, "resolved/locked/0/prepared", true);
    let said = finding(&plan, "relations-locked");
    assert!(!said["hint"].as_str().unwrap().contains("promote"), "promotion does not end it: {said:#}");
    let locked = scene.recovers(&["--name", "while prepared"], "1,2,3,4");
    assert!(waits(&locked, "select n from second") && !waits(&locked, "select n from kept"));
    scene.discards();

    database(&scene);
}

/// What `DROP DATABASE` removed is gone before its commit.
#[track_caller]
fn database(scene: &Scene<'_>) {
    let suspects = ask(&mut scene.operator.command(&["suspects"])).ended_with(0).json();
    let drop = suspects["suspects"].as_array().unwrap().iter().find(|suspect| suspect["kind"] == "drop-database");
    let drop = drop.unwrap();
    let xid = drop["xid"].to_string();
    let plan = scene.plan(&["--xid", &xid, "--exclusive"]);
    // What the transactions before it dropped is kept, and said.
    assert_eq!(codes(&plan), ["stops-before-drop", "suspect-kept"]);
    let saving = &plan["resolved"]["before"][0];
    assert_is(saving, "what", "database-drop");
    assert_is(saving, "saves", true);
    let suspect: Vec<&str> = drop["stop_before"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    assert_eq!(&suspect[..3], options(saving), "the list of suspects says the same");
    let recovery = scene.recovers(&["--xid", &xid, "--exclusive"], "1,2,3,4");
    let doomed = support::connection_to(&recovery, "doomed");
    assert_eq!(support::run(client("psql").args(["-XAtq", "-d", &doomed, "-c", "select 1"])), "1");
    scene.discards();
    let commit = options(&plan["resolved"]["before"][1]);
    let plan = scene.plan(&commit);
    assert!(codes(&plan).contains(&"database-dropped-before"), "{plan:#}");
    let gone = scene.recovers(&commit, "1,2,3,4");
    let doomed = support::connection_to(&gone, "doomed");
    assert!(!client("psql").args(["-XAtq", "-d", &doomed, "-c", "select 1"]).output().unwrap().status.success());
    scene.discards();
}

#[test]
fn before_a_transaction_of_13() {
    before_the_transaction(13);
}

#[test]
fn before_a_transaction_of_15() {
    before_the_transaction(15);
}

#[test]
fn before_a_transaction_of_17() {
    before_the_transaction(17);
}

#[test]
fn before_a_transaction_of_18() {
    before_the_transaction(18);
}

/// Names that are there twice, parts of transactions, settings that were changed, and how much is lost.
#[track_caller]
fn what_is_on_the_way(major: u16) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::new();
    let scene = Scene::new(&directory, &server);
    scene.cluster.base_backup(Format::Tar, "base");
    scene.insert(1);
    scene.cluster.restore_point("twice");
    scene.insert(2);
    scene.cluster.switch_and_wait_archived();
    scene.cluster.restore_point("twice");
    let mut session = scene.cluster.session();
    let top = begin(&mut session);
    session.query("insert into kept values (3); savepoint s; insert into kept values (4); commit;");
    let part = scene.cluster.psql("select xmin from kept where n = 4");
    scene.cluster.stop(Stop::Fast);
    scene.cluster.configure(&[("max_connections", "250"), ("max_worker_processes", "20")]);
    scene.cluster.start();
    scene.insert(5);
    let last = rows(&scene.cluster);
    scene.close();

    let plan = scene.plan(&["--name", "twice"]);
    let again = &plan["resolved"]["named_again"];
    assert_eq!(again.as_array().unwrap().len(), 1);
    let second = again[0]["lsn"].as_str().unwrap();
    let said = finding(&plan, "restore-point-twice")["hint"].as_str().unwrap();
    assert!(said.contains(&format!("--lsn {second}")), "{said}");
    assert_is(&plan, "resolved/commits_lost", 3);
    assert_is(&plan, "resolved/requires", Value::Null);
    scene.recovers(&["--name", "twice"], "1");
    scene.discards();
    let recovery = scene.recovers(&["--lsn", second], "1,2");
    assert_is(&recovery, "resolved/name", "twice");
    scene.discards();

    for (words, expected) in [(&["--xid", &part][..], "1,2,3,4"), (&["--xid", &part, "--exclusive"], "1,2")] {
        let plan = scene.plan(words);
        assert_is(&plan, "resolved/told/value", top.parse::<u64>().unwrap());
        let said = finding(&plan, "subtransaction");
        assert!(said["message"].as_str().unwrap().contains(&top), "{said:#}");
        scene.recovers(words, expected);
        scene.discards();
    }
    let plan = scene.plan(&["--latest"]);
    assert_is(&plan, "resolved/requires/max_connections", 250);
    assert_is(&plan, "resolved/requires/max_worker_processes", 20);
    assert_is(&plan, "resolved/commits_lost", 0);
    assert_eq!(plan["resolved"]["told"]["value"], plan["resolved"]["lsn"]);
    assert_eq!(last, "1,2,3,4,5");
}

#[test]
fn what_is_on_the_way_of_13() {
    what_is_on_the_way(13);
}

#[test]
fn what_is_on_the_way_of_15() {
    what_is_on_the_way(15);
}

#[test]
fn what_is_on_the_way_of_18() {
    what_is_on_the_way(18);
}
