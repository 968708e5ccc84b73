//! A data directory that makes way: renamed with all that is in it, never removed, and only where no server runs.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use nix::unistd::geteuid;
use serde_json::Value;
use support::{
    Cluster, Directory, Format, History, LIMIT, Moment, Operator, Options, Server, Stop, Tmux, as_server, ask,
    assert_is, assert_paused, run, run_and_kill, sql, tree_digest, walback,
};

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

const FIRST: [&str; 4] = ["--name", "first", "--timeline", "1"];

/// A directory that a server worked in, at the place where recoveries go.
fn occupied<'a>(directory: &'a Directory) -> Cluster<'a> {
    let cluster = Cluster::create(directory, &Server::v15(), &Options::default());
    cluster.psql("create table old (n int); insert into old values (7)");
    cluster
}

fn number(directory: &Path) -> u64 {
    fs::metadata(directory).unwrap().ino()
}

fn restore(operator: &Operator<'_>, into: &Path, words: &[&str]) -> Command {
    let mut command = operator.command(&["restore", "--yes", "--make-way"]);
    command.args(FIRST).args(words).arg("--into").arg(into);
    command
}

fn former(recovery: &Value) -> PathBuf {
    PathBuf::from(recovery["made_way"].as_str().unwrap_or_else(|| panic!("{recovery:#}")))
}

/// The plan, which says what would be done and does nothing.
#[track_caller]
fn plan(operator: &Operator<'_>, into: &Path, words: &[&str]) -> Value {
    let mut command = operator.command(&["plan"]);
    let answer = ask(command.args(FIRST).args(words).arg("--into").arg(into));
    answer.json()["plan"].clone()
}

fn finding<'a>(plan: &'a Value, code: &str) -> Option<&'a Value> {
    plan["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == code)
}

#[test]
fn a_running_server_stays_and_a_stopped_one_is_renamed_whole() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let cluster = occupied(&directory);
    let place = cluster.data.clone();

    // While its server runs, by whatever way that is found out.
    let refused = plan(&operator, &place, &["--make-way"]);
    let why = finding(&refused, "cannot-make-way").unwrap()["message"].as_str().unwrap().to_owned();
    assert!(why.contains("a server runs in it: process"), "{why}");
    assert_is(&refused, "make_way", Value::Null);
    let pid_file = fs::read(place.join("postmaster.pid")).unwrap();
    fs::remove_file(place.join("postmaster.pid")).unwrap();
    let refused = plan(&operator, &place, &["--make-way"]);
    assert!(finding(&refused, "cannot-make-way").is_some(), "without its postmaster.pid it still runs");
    fs::write(place.join("postmaster.pid"), pid_file).unwrap();
    run(Command::new("chown").arg("--reference").arg(&place).arg(place.join("postmaster.pid")));
    ask(&mut restore(&operator, &place, &[])).ended_with(3);
    assert_eq!(cluster.psql("select n from old"), "7");

    // Stopped, and not asked for: it is refused, and the way out is named.
    cluster.stop(Stop::Fast);
    let (before, inode) = (tree_digest(&place), number(&place));
    let refused = plan(&operator, &place, &[]);
    let hint = finding(&refused, "directory-not-empty").unwrap()["hint"].as_str().unwrap();
    assert!(hint.contains("--make-way"), "{hint}");

    // The plan says the name, and changes nothing; the first to come has it.
    let planned = plan(&operator, &place, &["--make-way"]);
    let to = planned["make_way"]["to"].as_str().unwrap();
    assert!(to.starts_with(&format!("{}.before-walback-", place.display())), "{to}");
    assert_is(&planned, "steps/0/id", "make-way");
    assert!(planned["steps"][0]["commands"][0].as_str().unwrap().contains(to));
    assert!(finding(&planned, "makes-way").unwrap()["message"].as_str().unwrap().contains(to));
    assert!(place.exists() && !Path::new(to).exists());

    let recovery = ask(&mut restore(&operator, &place, &[])).ended_with(0).recovery();
    assert_paused(&recovery, &HISTORY.restore_points["first"]);
    let first = former(&recovery);
    tree_digest(&first).assert_same_as(&before);
    assert_eq!(number(&first), inode);
    assert_is(&recovery, "phases/0/step", "make-way");
    let id = recovery["id"].as_str().unwrap().to_owned();
    let told = ask(walback(&directory).args(["status", &id])).ended_with(0);
    assert!(told.out.contains(first.to_str().unwrap()), "{}", told.out);

    // A second time: what a recovery made makes way too, once its server is stopped, and nobody takes the first one's name.
    assert!(finding(&plan(&operator, &place, &["--make-way"]), "cannot-make-way").is_some(), "its server runs");
    operator.about(&["stop", &id]).ended_with(0);
    let planned = plan(&operator, &place, &["--make-way"]);
    assert!(finding(&planned, "makes-way-recovery").unwrap()["message"].as_str().unwrap().contains(&id));
    let again = ask(&mut restore(&operator, &place, &["--role", "postgres"])).ended_with(0).recovery();
    assert_paused(&again, &HISTORY.restore_points["first"]);
    let second = former(&again);
    assert_ne!(second, first);
    assert!(second.join(".walback/recovery.json").exists());

    // The one whose directory is gone is forgotten, and touches nothing of the other's.
    let forgotten = operator.about(&["discard", &id, "--yes"]).ended_with(0).recovery();
    assert_is(&forgotten, "state", "discarded");
    assert_eq!(sql(&again, support::ROWS), HISTORY.restore_points["first"]);
    assert!(second.exists());

    // Discarding says where it is, and how it comes back; that works.
    let id = again["id"].as_str().unwrap();
    let asked = ask(walback(&directory).args(["discard", id, "--yes", "--events"])).ended_with(0);
    let said = asked.lines().into_iter().find(|line| line["code"] == "former-directory").unwrap();
    assert!(!place.exists() && second.exists() && first.exists());
    let back = said["hint"].as_str().unwrap().strip_suffix(" brings it back").unwrap().to_owned();
    assert!(back.contains(second.to_str().unwrap()), "{back}");
    run(Command::new("mv").arg("-nT").arg(&first).arg(&place));
    tree_digest(&place).assert_same_as(&before);
    cluster.start();
    assert_eq!(cluster.psql("select n from old"), "7");
    cluster.stop(Stop::Fast);
    HISTORY.assert_untouched();
}

/// Two recoveries have the same place in their journals then, and only one is there.
#[test]
fn one_whose_directory_made_way_does_nothing_to_the_other() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let place = operator.place("copy");
    let expected = &HISTORY.restore_points["first"];
    operator.recovers("copy", &FIRST, expected);
    // Its server ends without Walback: it stays paused, as far as anybody was told.
    run(as_server(Server::v15().bin_dir.join("pg_ctl")).args(["stop", "-w", "-m", "immediate", "-D"]).arg(&place));
    let other = ask(&mut restore(&operator, &place, &[])).ended_with(0).recovery();
    let id = other["id"].as_str().unwrap().to_owned();
    assert_ne!(id, "copy");

    let untouched = |what: &[&str], status: i32| {
        let answer = operator.about(what).ended_with(status);
        if status != 0 {
            assert_is(&answer.json(), "error/code", "not-ours");
        }
    };
    let refuses_all = || {
        untouched(&["promote", "copy", "--yes"], 1);
        untouched(&["resume", "copy"], 1);
        untouched(&["stop", "copy"], 1);
        untouched(&["sql", "select 1", "copy"], 1);
        let status = operator.status("copy");
        assert_is(&status, "state", "paused");
        let interrupted = status["interrupted"].as_str().unwrap();
        assert!(
            interrupted.contains("cannot be gone on with") && interrupted.contains("no server runs"),
            "{interrupted}"
        );
    };
    refuses_all();
    assert_paused(&operator.status(&id), expected);

    operator.about(&["promote", &id, "--yes"]).ended_with(0);
    let settings = || fs::read(place.join("postgresql.auto.conf")).unwrap();
    let before = settings();
    refuses_all();
    assert!(settings() == before);
    // Nor is the other's promotion in the way of giving this one up, whatever became of the renamed directory.
    operator.about(&["stop", &id]).ended_with(0);
    fs::remove_dir_all(former(&other)).unwrap();
    let discarded = operator.about(&["discard", "copy", "--yes"]).ended_with(0).recovery();
    assert_is(&discarded, "state", "discarded");
    assert!(settings() == before);
    operator.about(&["discard", &id, "--yes"]).ended_with(0);
    assert!(!place.exists());
}

#[test]
fn killed_around_the_renaming_it_is_gone_on_with_or_given_up() {
    let directory = Directory::in_memory();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let cluster = occupied(&directory);
    cluster.stop(Stop::Fast);
    let place = cluster.data.clone();
    let before = tree_digest(&place);
    let id = place.file_name().unwrap().to_str().unwrap().to_owned();
    // The journal's lines: planned, the step begins; then it is renamed, synced, and the step is done.
    let (mut renamed, mut not) = (0, 0);
    for (number, act) in (0..7).enumerate() {
        let name = if number == 0 { id.clone() } else { format!("{id}-{}", number + 1) };
        let moment = Moment { line: 2, act };
        let killed = run_and_kill(
            &restore(&operator, &place, &[]),
            &operator.journal(&name),
            moment,
            &directory.path().join("said"),
        );
        assert!(killed.killed.is_some(), "{}", killed.said);
        let status = operator.status(&name);
        let to = former(&status);
        let is_there = to.exists();
        *(if is_there { &mut renamed } else { &mut not }) += 1;
        tree_digest(if is_there { &to } else { &place }).assert_same_as(&before);
        assert!(status["interrupted"].is_string(), "{status:#}");
        if act % 2 == 0 {
            let resumed = operator.about(&["resume", &name]).ended_with(0).recovery();
            assert_paused(&resumed, &HISTORY.restore_points["first"]);
            tree_digest(&to).assert_same_as(&before);
        }
        let discarded = operator.about(&["discard", &name, "--yes"]).ended_with(0).recovery();
        assert_is(&discarded, "state", "discarded");
        if to.exists() {
            assert!(!place.exists());
            run(Command::new("mv").arg("-nT").arg(&to).arg(&place));
        }
        tree_digest(&place).assert_same_as(&before);
    }
    assert!(renamed > 0 && not > 0, "{renamed} and {not}");
    HISTORY.assert_untouched();
}

#[test]
fn what_must_not_be_renamed_stays() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "plain-stream");
    let cluster = occupied(&directory);
    cluster.stop(Stop::Fast);
    let place = cluster.data.clone();
    let stays = |into: &Path, words: &[&str], why: &str| {
        let made = plan(&operator, into, &[&["--make-way"], words].concat());
        let found = finding(&made, "cannot-make-way").unwrap_or_else(|| panic!("{made:#}"));
        assert!(found["message"].as_str().unwrap().contains(why), "{found}");
    };
    // A source inside of it: its own pg_wal, given as an archive.
    let own_wal = place.join("pg_wal").display().to_string();
    stays(&place, &["--wal", &own_wal], "a source");
    // Walback's own journals, through a link too, and where there are none yet; and PostgreSQL's programs.
    std::os::unix::fs::symlink(&place, directory.path().join("way")).unwrap();
    for state in [place.join("state"), directory.path().join("way/later/state")] {
        let mut command = operator.command(&["plan", "--make-way"]);
        let answer = ask(command.args(FIRST).arg("--into").arg(&place).env("WALBACK_STATE_DIR", &state)).ended_with(3);
        let found = finding(&answer.json()["plan"], "cannot-make-way").unwrap()["message"].to_string();
        assert!(found.contains("needs what lies inside of it") && found.contains("state"), "{found}");
        assert!(!state.exists());
    }
    std::os::unix::fs::symlink(&cluster.server.bin_dir, place.join("bin")).unwrap();
    stays(&place, &["--bin-dir", place.join("bin").to_str().unwrap()], "needs what lies inside of it");
    fs::remove_file(place.join("bin")).unwrap();
    let full = directory.create("full");
    fs::write(full.join("notes"), "").unwrap();
    stays(&full, &[], "no data directory");
    // A link, whatever it leads to.
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&place, &link).unwrap();
    assert!(finding(&plan(&operator, &link, &["--make-way"]), "not-a-directory").is_some());
    // The base backup itself is one, and a source.
    assert!(finding(&plan(&operator, &operator.backups, &["--make-way"]), "inside-source").is_some());
    if geteuid().is_root() {
        let bound = directory.create("bound");
        if Command::new("mount").arg("--bind").arg(&place).arg(&bound).status().is_ok_and(|status| status.success()) {
            let made = plan(&operator, &bound, &["--make-way"]);
            let _ = Command::new("umount").arg("-l").arg(&bound).status();
            let found = finding(&made, "cannot-make-way").unwrap_or_else(|| panic!("{made:#}"));
            assert!(found["message"].as_str().unwrap().contains("mount point"), "{found}");
        }
    }
    // Changed between the plan and the act: another directory has its name.
    let gone = directory.path().join("gone");
    let id = place.file_name().unwrap().to_str().unwrap();
    let command = restore(&operator, &place, &[]);
    let killed =
        run_and_kill(&command, &operator.journal(id), Moment { line: 1, act: 1 }, &directory.path().join("said"));
    assert!(killed.killed.is_some(), "{}", killed.said);
    fs::rename(&place, &gone).unwrap();
    fs::create_dir(&place).unwrap();
    let refused = operator.about(&["resume", id]).ended_with(1);
    assert_is(&refused.json(), "error/code", "occupant-changed");
    operator.about(&["discard", id, "--yes"]).ended_with(0);
    assert!(place.exists() && gone.join("PG_VERSION").exists());
}

#[test]
fn tablespaces_stay_where_they_are_and_are_never_written_to() {
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    let fast = directory.create("fast");
    run(Command::new("chown").arg("--reference").arg(&cluster.data).arg(&fast));
    cluster.psql(&format!("create tablespace fast location '{}'", fast.display()));
    cluster.psql("create table kept (n int) tablespace fast; insert into kept values (1)");
    cluster.base_backup(Format::Tar, "monday");
    cluster.restore_point("first");
    cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    let backups = directory.path().join("backups/monday");
    let operator = Operator { directory: &directory, backups, archive: cluster.archive.clone() };
    let place = cluster.data.clone();
    let (data, tablespace) = (tree_digest(&place), tree_digest(&fast));

    let made = plan(&operator, &place, &["--make-way"]);
    let told = finding(&made, "makes-way-links").unwrap()["message"].as_str().unwrap();
    assert!(told.contains(fast.to_str().unwrap()), "{told}");
    for inside in [fast.join("new"), fast.clone()] {
        let words = format!("{}={}", fast.display(), inside.display());
        let made = plan(&operator, &place, &["--make-way", "--tablespace", &words]);
        assert!(made["findings"].as_array().unwrap().iter().any(|found| found["severity"] == "error"), "{made:#}");
    }
    let recovery = ask(&mut restore(&operator, &place, &[])).ended_with(0).recovery();
    assert_paused(&recovery, "1");
    tree_digest(&former(&recovery)).assert_same_as(&data);
    tree_digest(&fast).assert_same_as(&tablespace);
    let used = sql(&recovery, "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'fast'");
    assert!(used.starts_with(&format!("{}.tablespaces/", place.display())), "{used}");

    // The second time the first recovery's own are in the way, and are not taken.
    operator.about(&["stop", recovery["id"].as_str().unwrap()]).ended_with(0);
    let made = plan(&operator, &place, &["--make-way"]);
    assert!(finding(&made, "directory-not-empty").is_some(), "{made:#}");
    operator.about(&["discard", recovery["id"].as_str().unwrap(), "--yes"]).ended_with(0);
    run(Command::new("mv").arg("-nT").arg(former(&recovery)).arg(&place));
    cluster.start();
    assert_eq!(cluster.psql("select n from kept"), "1");
    cluster.stop(Stop::Fast);
}

#[test]
fn the_runbook_renames_it_too() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let cluster = occupied(&directory);
    cluster.stop(Stop::Fast);
    let place = cluster.data.clone();
    let script = directory.path().join("run.sh");
    let made = plan(&operator, &place, &["--make-way", "--script", script.to_str().unwrap()]);
    let to = PathBuf::from(made["make_way"]["to"].as_str().unwrap());
    fs::write(place.join("postmaster.pid"), "1\n").unwrap();
    let refused = Command::new("sh").arg(&script).output().unwrap();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("postmaster.pid"));
    fs::remove_file(place.join("postmaster.pid")).unwrap();
    let (before, inode) = (tree_digest(&place), number(&place));
    // Another one, which looks the same.
    let aside = directory.path().join("aside");
    fs::rename(&place, &aside).unwrap();
    run(Command::new("cp").arg("-a").arg(&aside).arg(&place));
    let refused = Command::new("sh").arg(&script).output().unwrap();
    assert!(
        !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("is not the directory that")
    );
    assert!(place.exists() && !to.exists());
    fs::remove_dir_all(&place).unwrap();
    fs::rename(&aside, &place).unwrap();
    run(Command::new("sh").arg(&script));
    tree_digest(&to).assert_same_as(&before);
    assert_eq!(number(&to), inode, "renamed, not copied");
    let connection = format!(
        "host={} port={} user=postgres dbname=postgres",
        place.join(".walback/socket").display(),
        made["server"]["port"]
    );
    let rows = run(support::client("psql").args(["-XAtq", "-d", &connection, "-c", support::ROWS]));
    assert_eq!(rows, HISTORY.restore_points["first"]);
    run(as_server(cluster.server.bin_dir.join("pg_ctl")).args(["stop", "-w", "-m", "immediate", "-D"]).arg(&place));
}

#[test]
fn the_interface_asks_for_the_name() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let cluster = occupied(&directory);
    cluster.stop(Stop::Fast);
    let (place, before) = (cluster.data.clone(), tree_digest(&cluster.data));
    let mut command = walback(&directory);
    command.arg("--backups").arg(&operator.backups).arg("--wal").arg(&operator.archive);
    let terminal = Tmux::start(&directory, &command, 120, 45);
    terminal.wait_for("choose", LIMIT);
    terminal.send(&["n"]);
    terminal.wait_for("Stop at a restore point", LIMIT);
    terminal.send(&["first", "Enter"]);
    terminal.wait_for("Enter starts", LIMIT);
    terminal.send(&["d"]);
    terminal.wait_for("Esc leaves", LIMIT);
    terminal.send(&["C-u", place.to_str().unwrap(), "Enter"]);
    terminal.wait_for("m renames what is there", LIMIT);
    terminal.send(&["m"]);
    terminal.wait_for("Enter asks for the name; then it renames", LIMIT);
    terminal.send(&["Enter"]);
    let screen = terminal.wait_for("Rename the data directory that is there?", LIMIT);
    assert!(screen.contains(".before-walback-"), "{screen}");
    let name = place.file_name().unwrap().to_str().unwrap();
    terminal.send(&["x", "Enter"]);
    terminal.wait_for("to confirm, or Esc", LIMIT);
    tree_digest(&place).assert_same_as(&before);
    terminal.send(&["C-u", name, "Enter"]);
    terminal.wait_for("PAUSED AT THE TARGET", LIMIT);
    let recovery = operator.status(name);
    assert_paused(&recovery, &HISTORY.restore_points["first"]);
    tree_digest(&former(&recovery)).assert_same_as(&before);
    terminal.send(&["q"]);
    terminal.wait_for_exit(LIMIT);
    operator.discards(name);
}
