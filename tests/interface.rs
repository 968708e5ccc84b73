//! The interface in a real terminal, on real clusters: from the first screen to a promoted server, and out again.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use walback::app::{Effect, Setup, State};
use walback::core::{Timestamp, Zone};
use walback::tui::{MsgSender, Perform, Theme};

use support::{
    Cluster, Directory, Format, Options, Server, Stop, Tmux, as_server, client, press, run, tree_digest, wait_until,
    walback,
};

/// How long anything may take; far more than it should, for busy machines.
const LIMIT: Duration = Duration::from_secs(60);

/// A shop: its orders are in a base backup, a deployment goes wrong, and everything of that is in the archive.
struct Shop<'a> {
    directory: &'a Directory,
    /// The transaction that dropped the customers.
    dropped: String,
    /// The transaction that deleted the orders.
    deleted: String,
    /// The segment with the restore point, which no recovery from the backup reaches its consistency in.
    late_segment: String,
}

impl<'a> Shop<'a> {
    /// Makes the cluster and stops it: its backups and its archive stay.
    fn make(directory: &'a Directory) -> Shop<'a> {
        let options = Options { segment_mib: 1, ..Options::default() };
        let cluster = Cluster::create(directory, &Server::v15(), &options);
        cluster.psql("create table orders (n int); insert into orders select generate_series(1, 2000)");
        cluster.base_backup(Format::TarGz, "nightly");
        cluster.psql("create table customers (n int); insert into customers select generate_series(1, 10)");
        cluster.switch_and_wait_archived();
        order(&cluster, 2001..=2010);
        cluster.restore_point("before_deploy");
        order(&cluster, 2011..=2015);
        let dropped = cluster.psql("begin; drop table customers; select pg_current_xact_id(); commit");
        // What goes on in between: a plan that keeps the drop as its last transaction would warn of it.
        cluster.psql("create table deliveries (n int)");
        // With a subtransaction, whose number follows.
        let deleted = cluster.psql(
            "begin; delete from orders; select pg_current_xact_id(); savepoint s; insert into orders values (0); commit",
        );
        order(&cluster, 1..=3);
        let late_segment = cluster.switch_and_wait_archived();
        cluster.stop(Stop::Fast);
        Shop { directory, dropped, deleted, late_segment }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program on this shop's backups and archive.
    fn walback(&self, arguments: &[&str]) -> Command {
        let mut command = walback(self.directory);
        command.arg("--backups").arg(self.path("backups")).arg("--wal").arg(self.path("archive")).args(arguments);
        command
    }

    /// The program with a source named `shop`, whose recoveries go to `restored`; `more` is of its `restore:`.
    fn configured(&self, arguments: &[&str], more: &str) -> Command {
        let here = self.directory.path().display();
        let configuration = format!(
            "sources:\n  shop:\n    backups: [{{path: {here}/backups}}]\n    wal: [{{path: {here}/archive}}]\n    \
             restore: {{directory: {here}/restored{more}}}\n"
        );
        let file = self.directory.write("walback.yaml", configuration);
        let mut command = walback(self.directory);
        command.arg("--config").arg(file).args(arguments);
        command
    }

    /// The only recovery, as the headless commands tell of it.
    fn recovery(&self) -> Value {
        let text = run(walback(self.directory).args(["status", "--json"]));
        serde_json::from_str::<Value>(&text).unwrap()["recovery"].take()
    }

    /// What SQL gives on the recovered server.
    fn sql(&self, sql: &str) -> String {
        let connection = self.recovery()["connection"].as_str().unwrap().to_owned();
        let connection = format!("{connection} options='-c statement_timeout=20s'");
        run(client("psql").args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &connection, "-c", sql]))
    }

    /// The process of the recovered server, if it runs.
    fn server(&self) -> Option<u32> {
        let file = fs::read_to_string(self.path("restored/postmaster.pid")).ok()?;
        let pid = file.lines().next()?.trim().parse().ok()?;
        Path::new("/proc").join(format!("{pid}/cwd")).exists().then_some(pid)
    }
}

fn order(cluster: &Cluster<'_>, numbers: std::ops::RangeInclusive<u32>) {
    let inserts: Vec<String> = numbers.map(|n| format!("insert into orders values ({n});")).collect();
    // Each in a transaction of its own.
    cluster.session().query(&inserts.concat());
}

/// The command in a shell that notes the terminal's modes before and after it, and says how it ended.
fn in_shell(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    // A Ctrl-C reaches everything in the terminal, and shall not end the shell.
    let script =
        "trap : INT; stty -a > before; \"$@\"; echo \"left with $?\"; stty -a > after; echo noted; read -r line";
    shell.args(["-c", script, "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(command.get_current_dir().unwrap());
    shell
}

/// The command in a shell that has jobs: one that is stopped waits for Enter and is brought back.
fn in_job_shell(command: &Command) -> Command {
    let mut shell = in_shell(command);
    // 148 is SIGTSTP, 147 SIGSTOP; each stop has a number, since the screen keeps what was said of those before. A job
    // that is stopped ends bash's loops, but not its functions.
    let script = "set -m; n=0; stty -a > before
        came() {
            status=$?
            if test $status = 148 || test $status = 147; then
                n=$((n+1)); stty -a > stopped; echo \"this is stop $n\"; read -r line; fg > fg; came
            fi
        }
        \"$@\"; came
        test $status = 137 && { reset; tput rmcup; }
        echo \"left with $status\"; stty -a > after; echo noted; read -r line";
    let arguments: Vec<_> = shell.get_args().skip(2).map(ToOwned::to_owned).collect();
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script]).args(arguments);
    bash.envs(shell.get_envs().filter_map(|(name, value)| Some((name, value?))));
    bash.current_dir(shell.get_current_dir().unwrap());
    shell = bash;
    shell
}

/// A program of the operator's own in `bin`: it says what it was called with, and goes on as `script` says.
fn program(directory: &Directory, name: &str, script: &str) -> PathBuf {
    directory.create("bin");
    let file = directory.write(&format!("bin/{name}"), format!("#!/bin/sh\n{script}\n"));
    run(Command::new("chmod").arg("755").arg(&file));
    file
}

/// It is stopped for the `number`th time, and the shell has the terminal as it was, to bring it back with Enter.
#[track_caller]
fn assert_stopped(directory: &Directory, tmux: &Tmux, number: u32) {
    tmux.wait_for(&format!("this is stop {number}"), LIMIT);
    assert_eq!(modes(directory, "stopped"), modes(directory, "before"));
    assert_given_back(tmux);
}

/// The program that runs in a shell of [`in_shell`].
fn program_in(tmux: &Tmux) -> Pid {
    let shell = tmux.pid();
    let children = format!("/proc/{shell}/task/{shell}/children");
    let child = wait_until("program in the shell", LIMIT, || {
        fs::read_to_string(&children).unwrap().split_whitespace().next().map(str::to_owned)
    });
    Pid::from_raw(child.parse().unwrap())
}

/// The terminal's modes as they were noted, whatever its size.
fn modes(directory: &Directory, name: &str) -> String {
    let noted = fs::read_to_string(directory.path().join(name)).unwrap();
    let of_size = |word: &str| word.starts_with(" rows ") || word.starts_with(" columns ");
    noted.split(';').filter(|word| !of_size(word)).collect::<Vec<_>>().join(";")
}

/// The program has ended like this, and the terminal is what it was before it.
#[track_caller]
fn assert_left_clean(directory: &Directory, tmux: &Tmux, status: i32) -> String {
    let screen = tmux.wait_for("noted", LIMIT);
    assert!(screen.contains(&format!("left with {status}")), "{screen}");
    assert_eq!(modes(directory, "after"), modes(directory, "before"));
    assert_given_back(tmux);
    screen
}

/// Nothing of what a program on the whole screen does to a terminal is left.
#[track_caller]
fn assert_given_back(tmux: &Tmux) {
    let flags = ["alternate_on", "cursor_flag", "mouse_any_flag", "keypad_cursor_flag"].map(|name| tmux.knows(name));
    assert_eq!(flags, ["0", "1", "0", "0"], "alternate screen, cursor, mouse, keypad");
}

/// Types a name where it is asked for, and waits for what that brings.
#[track_caller]
fn confirm(tmux: &Tmux, name: &str, brings: &str) -> String {
    tmux.wait_for(&format!("To do it, type {name}"), LIMIT);
    tmux.type_text(name);
    tmux.wait_for("Enter does it.", LIMIT);
    press(tmux, "Enter", brings)
}

#[test]
fn from_a_restore_point_to_a_promoted_server_and_out() {
    let directory = Directory::new();
    let shop = Shop::make(&directory);
    let evidence = ["backups", "archive", "primary"].map(|name| (name, tree_digest(&shop.path(name))));
    let tmux = Tmux::start(&directory, &in_shell(&shop.walback(&[])), 80, 24);

    // What there is.
    let screen = tmux.wait_for("2 suspects", LIMIT);
    for words in ["tar.gz", "TLI 1", "Activity", "deletes 2,015 rows", "Did this do the damage?"] {
        assert!(screen.contains(words), "{words}:\n{screen}");
    }
    assert!(screen.contains(&format!("Transaction {} committed", shop.deleted)), "{screen}");
    assert_eq!((tmux.knows("alternate_on"), tmux.knows("cursor_flag")), ("1".to_owned(), "0".to_owned()));

    // The plan, for a directory of our own.
    press(&tmux, "r", "Restore point “before_deploy” at");
    press(&tmux, "b", "Nothing speaks against it.");
    press(&tmux, "d", "Recover into which directory?");
    tmux.send(&["C-u"]);
    tmux.type_text(&shop.path("restored").display().to_string());
    let screen = press(&tmux, "Enter", "Plan of recovery restored");
    assert!(screen.contains("at restore point “before_deploy”"), "{screen}");
    // As a script, too.
    press(&tmux, "w", "Write the runbook to which file?");
    tmux.send(&["C-u"]);
    tmux.type_text(&shop.path("by hand.sh").display().to_string());
    press(&tmux, "Enter", "written: ");
    let script = shop.path("by hand.sh");
    assert!(fs::read_to_string(&script).unwrap().starts_with("#!/bin/sh") && script.with_extension("md").exists());
    press(&tmux, "w", "Write the runbook to which file?");
    tmux.send(&["C-u"]);
    tmux.type_text(&script.display().to_string());
    press(&tmux, "Enter", "Write over it?");
    press(&tmux, "Escape", "Enter start");
    assert!(!shop.path("restored").exists(), "a plan changes nothing");

    // To the restore point.
    let screen = press(&tmux, "Enter", "PAUSED AT THE TARGET");
    assert!(screen.contains("PostgreSQL did what was predicted."), "{screen}");
    assert_eq!(shop.sql("select count(*), (select count(*) from customers) from orders"), "2010|10");
    assert_eq!(shop.sql("select pg_is_in_recovery(), pg_get_wal_replay_pause_state()"), "t|paused");

    // A look, from which Ctrl-C does not lead out, and back. The recovery has told its last by now.
    let screen = tmux.screen();
    press(&tmux, "i", "postgres=#");
    tmux.send(&["C-c"]);
    tmux.wait_for_screen("second prompt", LIMIT, |screen| screen.matches("postgres=#").count() == 2);
    tmux.type_text("select 'there are ' || count(*) from orders;");
    press(&tmux, "Enter", "there are 2010");
    tmux.type_text("\\q");
    tmux.send(&["Enter"]);
    tmux.wait_for_screen("screen as it was before the look", LIMIT, |now| now == screen);

    // A commit on and back again, with one key and the plan between.
    for (key, stopped) in [("]", "after commit of"), ("[", "before commit of")] {
        press(&tmux, key, "It goes there in place (");
        tmux.send(&["Enter"]);
        let paused = |screen: &str| screen.contains("PAUSED AT THE TARGET") && screen.contains(stopped);
        tmux.wait_for_screen("pause beside it", LIMIT, paused);
        assert_eq!(shop.recovery()["strategy"], "in-place");
    }
    assert_eq!(shop.sql("select count(*), (select count(*) from customers) from orders"), "2010|10");

    // Forward: to just before the customers were dropped, where the server stands. Nobody commits between the drop's
    // lock and its commit, so that it stops where they can be read still.
    press(&tmux, "r", "Stop where instead?");
    press(&tmux, "p", "Where shall restored stop instead?");
    press(&tmux, "w", &format!("Transaction {} committed", shop.dropped));
    press(&tmux, "b", "It goes there in place (");
    tmux.send(&["Enter"]);
    let screen = tmux.wait_for("PAUSED AT THE TARGET", LIMIT);
    assert!(screen.contains(&format!("before first lock of {}", shop.dropped)), "{screen}");
    assert_eq!(shop.sql("select count(*), (select count(*) from customers) from orders"), "2015|10");
    assert!(!screen.contains("locked"), "{screen}");
    assert_eq!(shop.recovery()["strategy"], "in-place");

    // And back, which a copy cannot that has written what it replayed: the name has to be typed, the right one.
    shop.sql("checkpoint");
    press(&tmux, "r", "Stop where instead?");
    press(&tmux, "n", "Stop at a restore point");
    tmux.type_text("before");
    press(&tmux, "Down", "> before_deploy");
    press(&tmux, "Enter", "It unpacks the base backup again (");
    press(&tmux, "Enter", "Unpack again?");
    tmux.type_text("restore");
    press(&tmux, "Enter", "type restored to confirm");
    tmux.send(&["C-u"]);
    let screen = confirm(&tmux, "restored", "PAUSED AT THE TARGET");
    assert!(screen.contains("at restore point “before_deploy”"), "{screen}");
    assert_eq!(shop.sql("select count(*), (select count(*) from customers) from orders"), "2010|10");
    assert_eq!(shop.recovery()["strategy"], "unpack");

    // The end of recovery.
    press(&tmux, "p", "Promote: end recovery for good?");
    confirm(&tmux, "restored", "PROMOTED TO TIMELINE 2");
    assert_eq!(shop.sql("insert into orders values (1) returning pg_is_in_recovery()"), "f");
    let settings = "select count(*) from pg_file_settings where name ~ '^recovery_|^restore_command'";
    assert_eq!(shop.sql(settings), "0");
    assert!(!shop.path("restored/recovery.signal").exists());
    let settings = fs::read_to_string(shop.path("restored/postgresql.auto.conf")).unwrap();
    assert!(!settings.contains("recovery_target") && !settings.contains("restore_command"), "{settings}");

    // Nothing of it stays, but what there was before.
    press(&tmux, "d", "stop its server first, with x");
    press(&tmux, "x", "THE SERVER IS STOPPED");
    assert_eq!(shop.server(), None);
    press(&tmux, "d", "whatever was written to it since is LOST");
    confirm(&tmux, "restored", "DISCARDED");
    assert!(!shop.path("restored").exists());
    for (name, before) in evidence {
        tree_digest(&shop.path(name)).assert_same_as(&before);
    }
    press(&tmux, "Escape", "2 suspects");
    tmux.send(&["q"]);
    assert_left_clean(&directory, &tmux, 0);
}

#[test]
fn a_signal_ends_it_and_leaves_the_terminal_as_it_was() {
    let directory = Directory::new();
    let shop = Shop::make(&directory);
    let tmux = Tmux::start(&directory, &in_shell(&shop.configured(&[], "")), 160, 48);
    let screen = tmux.wait_for("2 suspects", LIMIT);
    assert!(screen.contains(" walback  shop ") && screen.lines().count() == 48, "{screen}");

    // The menu, from the suspect on which the cursor stands.
    press(&tmux, "Enter", "this transaction is undone");
    press(&tmux, "b", "Nothing speaks against it.");
    let screen = press(&tmux, "Enter", "PAUSED AT THE TARGET");
    assert!(screen.contains(&format!("before commit of {}", shop.deleted)), "{screen}");
    kill(program_in(&tmux), Signal::SIGTERM).unwrap();
    let screen = assert_left_clean(&directory, &tmux, 0);
    assert!(screen.contains("recovery restored stays paused at its target"), "{screen}");
    assert_eq!(shop.sql("select count(*) from orders"), "2015");
}

#[test]
fn the_server_outlives_the_terminal_and_is_found_again() {
    let directory = Directory::new();
    let shop = Shop::make(&directory);
    // An archive whose last segment is a long time coming: the server copies with this `cp`.
    let hold = shop.path("hold");
    let bin = directory.create("bin");
    let copy = format!(
        "#!/bin/sh\ncase $1 in */{}) while test -e '{}'; do sleep 0.05; done ;; esac\nPATH=/usr/bin:/bin exec cp \"$@\"\n",
        shop.late_segment,
        hold.display()
    );
    let script = directory.write("bin/cp", copy);
    run(Command::new("chmod").arg("755").arg(&script));
    fs::write(&hold, "").unwrap();
    let mut command = shop.configured(&[], "");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    command.env("PATH", path);

    // The line is lost while it replays.
    let tmux = Tmux::start(&directory, &in_shell(&command), 80, 24);
    tmux.wait_for("2 suspects", LIMIT);
    press(&tmux, "r", "Restore point “before_deploy” at");
    press(&tmux, "b", "Nothing speaks against it.");
    press(&tmux, "Enter", "restored: replaying");
    tmux.wait_for(&format!("waiting for {}", shop.late_segment), LIMIT);
    let program = program_in(&tmux);
    let server = shop.server().unwrap();
    drop(tmux);
    wait_until("end of the program", LIMIT, || kill(program, None).is_err().then_some(()));
    assert_eq!(shop.server(), Some(server));
    assert_eq!(shop.recovery()["state"], "replaying");

    // Another one follows it to its pause, and is lost there.
    let tmux = Tmux::start(&directory, &in_shell(&command), 80, 24);
    let screen = tmux.wait_for("One is not finished.", LIMIT);
    assert!(screen.contains("restored  replaying"), "{screen}");
    press(&tmux, "Enter", "restored: replaying");
    fs::remove_file(&hold).unwrap();
    tmux.wait_for("PAUSED AT THE TARGET", LIMIT);
    kill(program_in(&tmux), Signal::SIGHUP).unwrap();
    assert_left_clean(&directory, &tmux, 0);
    drop(tmux);
    assert_eq!(shop.server(), Some(server));

    // Killed, it cannot clean up; the recovery is as it was.
    let tmux = Tmux::start(&directory, &in_shell(&command), 80, 24);
    tmux.wait_for("restored  paused", LIMIT);
    kill(program_in(&tmux), Signal::SIGKILL).unwrap();
    tmux.wait_for("left with 137", LIMIT);
    drop(tmux);
    let tmux = Tmux::start(&directory, &in_shell(&command), 80, 24);
    tmux.wait_for("restored  paused", LIMIT);
    let screen = press(&tmux, "Enter", "PAUSED AT THE TARGET");
    assert!(screen.contains("PostgreSQL did what was predicted."), "{screen}");
    assert_eq!(shop.sql("select count(*), (select count(*) from customers) from orders"), "2010|10");

    // What is stopped from elsewhere can be discarded here.
    press(&tmux, "d", "Discard: remove what the recovery made?");
    confirm(&tmux, "restored", "DISCARDED");
    assert!(!shop.path("restored").exists());
    assert_eq!(shop.server(), None);
    tmux.send(&["q"]);
    assert_left_clean(&directory, &tmux, 0);
}

#[test]
fn read_only_shows_everything_and_refuses_the_rest_at_every_size() {
    let directory = Directory::new();
    let shop = Shop::make(&directory);
    let mut command = shop.configured(&["--read-only"], "");
    // The one place that is written to: what was read of the archive is kept there.
    command.env("XDG_CACHE_HOME", directory.create("cache"));
    let command = in_shell(&command);
    let before = directory.path().read_dir().unwrap().count();
    let home = tree_digest(&shop.path("home"));
    let tmux = Tmux::start(&directory, &command, 80, 24);
    let screen = tmux.wait_for("2 suspects", LIMIT);
    assert!(screen.contains("shop  read-only"), "{screen}");
    press(&tmux, "o", "no recovery was begun on this machine");

    // Smaller than it can be, and as small as it can be, with the transaction and the way to all keys in view.
    tmux.resize(30, 8);
    tmux.wait_for("Walback needs 40x10; this is", LIMIT);
    tmux.resize(40, 10);
    let fits = |screen: &str| screen.contains(&shop.deleted) && screen.contains("? help");
    tmux.wait_for_screen("transaction and the key for help", LIMIT, fits);
    // A dialog and the plan there.
    press(&tmux, "?", "Keys of this screen");
    tmux.send(&["Escape"]);
    tmux.wait_for_screen("the list", LIMIT, |screen| screen.contains(&shop.deleted));
    press(&tmux, "b", "Nothing speaks");
    press(&tmux, "Enter", "--read-only was given");
    tmux.resize(80, 24);
    let screen = tmux.wait_for("First lost", LIMIT);
    assert!(screen.contains(&format!("before the commit of transaction {}", shop.deleted)), "{screen}");
    press(&tmux, "Enter", "--read-only was given: nothing is changed");
    press(&tmux, "Escape", "2 suspects");
    tmux.send(&["q"]);
    assert_left_clean(&directory, &tmux, 0);

    tree_digest(&shop.path("home")).assert_same_as(&home);
    // The terminal's socket and what the shell noted.
    assert_eq!(directory.path().read_dir().unwrap().count(), before + 3);
}

#[test]
fn what_does_not_work_is_said_with_its_remedy_and_can_be_left() {
    let directory = Directory::new();
    let shop = Shop::make(&directory);

    // A source that is not there.
    let gone = shop.path("gone");
    let mut command = walback(&directory);
    command.arg("--backups").arg(&gone).arg("--wal").arg(shop.path("archive"));
    let tmux = Tmux::start(&directory, &in_shell(&command), 80, 24);
    let screen = tmux.wait_for("It did not work", LIMIT);
    for words in ["cannot read the backups", "No such file or directory", "is the file system mounted?"] {
        assert!(screen.contains(words), "{words}:\n{screen}");
    }
    press(&tmux, "Escape", "F5 tries again");
    press(&tmux, "t", "could not be listed");
    // It is mounted now.
    as_server("cp").arg("-a").arg(shop.path("backups")).arg(&gone).status().unwrap();
    press(&tmux, "F5", "2 suspects");
    tmux.send(&["q"]);
    assert_left_clean(&directory, &tmux, 0);
    drop(tmux);

    // A target that no backup leads to, and a restore point that nobody made.
    let tmux = Tmux::start(&directory, &in_shell(&shop.configured(&[], "")), 80, 24);
    tmux.wait_for("2 suspects", LIMIT);
    press(&tmux, "L", "Stop at an LSN");
    tmux.type_text("0/28");
    let screen = press(&tmux, "Enter", "no plan:");
    assert!(screen.contains("to do:"), "{screen}");
    assert!(screen.contains("t: stop at "), "{screen}");
    press(&tmux, "Enter", "the reason stands above");
    press(&tmux, "t", "Plan of recovery restored");
    press(&tmux, "Escape", "2 suspects");
    press(&tmux, "n", "Stop at a restore point");
    tmux.type_text("nobody_made");
    tmux.wait_for("? there is no restore point of this name", LIMIT);
    let screen = press(&tmux, "Enter", "no plan:");
    assert!(screen.contains("nobody_made"), "{screen}");
    press(&tmux, "Escape", "2 suspects");

    // A directory that is filled between the plan and its start.
    press(&tmux, "b", "Nothing speaks against it.");
    directory.create("restored");
    let theirs = directory.write("restored/theirs", "not ours to remove");
    let screen = press(&tmux, "Enter", "THE RECOVERY HAS FAILED");
    assert!(screen.contains("the directory is not empty"), "{screen}");
    // What the recovery did not make it does not remove either.
    press(&tmux, "r", "Stop where instead?");
    press(&tmux, "n", "Stop at a restore point");
    tmux.type_text("before_deploy");
    press(&tmux, "Enter", "It unpacks the base backup again (");
    press(&tmux, "Enter", "Unpack again?");
    confirm(&tmux, "restored", "It did not work");
    press(&tmux, "Escape", "THE RECOVERY HAS FAILED");
    press(&tmux, "d", "Discard: remove what the recovery made?");
    confirm(&tmux, "restored", "DISCARDED");
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "not ours to remove");
    press(&tmux, "Escape", "2 suspects");
    // Another directory is proposed than the one that was asked for before.
    press(&tmux, "b", "restored-2");
    press(&tmux, "d", "Enter");
    tmux.send(&["BSpace", "BSpace"]);
    let screen = press(&tmux, "Enter", "It cannot be started: 1 error.");
    assert!(screen.contains("not empty"), "{screen}");
    assert!(screen.contains("Choose another directory with d."), "{screen}");
    press(&tmux, "Enter", "forbidden:");
    press(&tmux, "Escape", "2 suspects");
    fs::remove_dir_all(shop.path("restored")).unwrap();
    tmux.send(&["q"]);
    assert_left_clean(&directory, &tmux, 0);
    drop(tmux);

    // A server that does not start shows its last words; what was made can be discarded.
    let command = shop.configured(&[], ", settings: {shared_buffers: 4TB}");
    let tmux = Tmux::start(&directory, &in_shell(&command), 80, 24);
    tmux.wait_for("2 suspects", LIMIT);
    press(&tmux, "b", "Nothing speaks against it.");
    let screen = press(&tmux, "Enter", "THE RECOVERY HAS FAILED");
    assert!(screen.contains("shared memory"), "{screen}");
    press(&tmux, "d", "Discard: remove what the recovery made?");
    confirm(&tmux, "restored-2", "DISCARDED");
    assert!(!shop.path("restored").exists());
    tmux.send(&["q"]);
    assert_left_clean(&directory, &tmux, 0);
}

#[test]
fn the_archive_is_looked_through_with_list_search_and_chart() {
    let directory = Directory::new();
    let shop = Shop::make(&directory);
    let tmux = Tmux::start(&directory, &in_shell(&shop.walback(&["--read-only"])), 120, 40);
    tmux.wait_for("2 suspects", LIMIT);

    // The worst is the drop; the deletion comes after it.
    let screen = press(&tmux, "s", "2 suspects, the worst first");
    let row = |kind: &str| screen.lines().position(|line| line.contains(kind)).unwrap();
    assert!(row(" drop  ") < row(" delete  "), "{screen}");
    tmux.send(&["g"]);
    press(&tmux, "Enter", &format!("Transaction {} committed", shop.dropped));

    // By name, by relation and by id; what is not at hand is looked for in the archive.
    press(&tmux, "/", "Enter goes there, Esc leaves");
    tmux.type_text("before_");
    tmux.wait_for("1 match (1 restore point)", LIMIT);
    press(&tmux, "Enter", "Restore point “before_deploy”");
    press(&tmux, "/", "Enter goes there, Esc leaves");
    tmux.type_text("orders");
    tmux.wait_for("“orders”: 1 match (1 suspect)", LIMIT);
    press(&tmux, "Enter", &format!("Transaction {} committed", shop.deleted));
    press(&tmux, "/", "Enter goes there, Esc leaves");
    let earlier = (shop.dropped.parse::<u32>().unwrap() - 1).to_string();
    tmux.type_text(&earlier);
    press(&tmux, "Enter", &format!("Transaction {earlier} committed"));
    press(&tmux, "/", "Enter goes there, Esc leaves");
    tmux.type_text("4000000000");
    press(&tmux, "Enter", "“4000000000”: nothing like it");

    // An id that no transaction ended under.
    press(&tmux, "x", "Stop at a transaction id");
    let deleted = shop.deleted.parse::<u32>().unwrap();
    tmux.type_text(&(deleted + 1).to_string());
    tmux.wait_for(&format!("{} is a subtransaction of {deleted}", deleted + 1), LIMIT);
    press(&tmux, "Escape", "? help");

    // The chart, down to a single transaction, and along it. It began where recovery can lead.
    tmux.send(&["0"]);
    let all = press(&tmux, "w", &format!("Transaction {} committed", shop.dropped));
    let title = |screen: &str| screen.lines().find(|line| line.contains("Activity")).unwrap().to_owned();
    for _ in 0..25 {
        tmux.send(&["+"]);
    }
    let screen = tmux.wait_for_screen("a single transaction", LIMIT, |screen| title(screen).contains("  1 commit "));
    assert_ne!(title(&screen), title(&all));
    tmux.send(&["0"]);
    tmux.wait_for_screen("everything again", LIMIT, |screen| title(screen) == title(&all));
    press(&tmux, "BTab", "2 suspects   ◆ 1 restore point");
    press(&tmux, "Home", "1 of ");
    press(&tmux, "Enter", "Transaction ");
    tmux.send(&["q"]);
    assert_left_clean(&directory, &tmux, 0);
}

#[test]
fn the_terminal_is_resized_lent_taken_away_and_comes_back() {
    let directory = Directory::new();
    let shop = Shop::make(&directory);
    let pager =
        program(&directory, "my pager", "echo \"paged with $1: $(grep -c 'recovery stopping' \"$2\")\"; read -r line");
    // The first time it writes what cannot be taken, and the second time what can.
    let editor = program(
        &directory,
        "my editor",
        "test \"$1\" = --wait || exit 3
        if grep -q '^port' \"$2\"; then sed -i '/^port/d' \"$2\"; else echo 'port = 1' >> \"$2\"; echo 'work_mem = 8MB' >> \"$2\"; fi",
    );
    let mut command = shop.configured(&[], "");
    command.env("PAGER", format!("'{}' -R", pager.display()));
    command.env("VISUAL", format!("'{}' --wait", editor.display()));
    command.env("TMPDIR", directory.create("tmp"));
    let tmux = Tmux::start(&directory, &in_job_shell(&command), 100, 30);
    // Everything has been read, and what is seen of it has come.
    let is_whole = |screen: &str| {
        screen.contains("2 suspects  ") && screen.contains("  commit\u{20}") && screen.contains("✓ healthy")
    };
    // The bars become exact in their own time.
    let but_bars = |screen: &str| -> Vec<String> {
        let is_bar = |c| ('▁'..='█').contains(&c);
        screen.lines().filter(|line| !line.contains(is_bar)).map(str::to_owned).collect()
    };
    let screen = tmux.wait_for_screen("the transactions", LIMIT, is_whole);

    // Many sizes, faster than they can be drawn, down to a single cell.
    let mut seed = 7_u32;
    for number in 0..80 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (width, height) = (1 + (seed >> 16) % 200, 1 + (seed >> 24) % 60);
        if number % 8 == 0 { tmux.resize(1, 1) } else { tmux.resize(width as u16, height as u16) }
    }
    tmux.resize(100, 30);
    tmux.wait_for_screen("screen as it was", LIMIT, |now| but_bars(now) == but_bars(&screen));

    // To the shell and back, into another size; from a form, too, which stays.
    tmux.send(&["C-z"]);
    tmux.resize(80, 24);
    assert_stopped(&directory, &tmux, 1);
    press(&tmux, "Enter", "2 suspects");
    assert_eq!((tmux.knows("alternate_on"), tmux.knows("cursor_flag")), ("1".to_owned(), "0".to_owned()));
    press(&tmux, "t", "Stop at a time");
    tmux.type_text("20 min");
    tmux.wait_for("> 20 min", LIMIT);
    tmux.send(&["C-z"]);
    assert_stopped(&directory, &tmux, 2);
    press(&tmux, "Enter", "> 20 min");
    press(&tmux, "Escape", "2 suspects");
    // Stopped by somebody else, who leaves the terminal as it is.
    kill(program_in(&tmux), Signal::SIGSTOP).unwrap();
    tmux.wait_for("this is stop 3", LIMIT);
    press(&tmux, "Enter", "2 suspects");
    press(&tmux, "?", "Keys of this screen");
    press(&tmux, "Escape", "2 suspects");

    // The mouse is given away and taken back.
    assert_eq!(tmux.knows("mouse_any_flag"), "1");
    press(&tmux, "F2", "the mouse is the terminal's");
    assert_eq!(tmux.knows("mouse_any_flag"), "0");
    press(&tmux, "F2", "the mouse is walback's again");
    assert_eq!(tmux.knows("mouse_any_flag"), "1");

    // Copied.
    tmux.allow_clipboard();
    press(&tmux, "y", "Copy what?");
    press(&tmux, "x", "sent to the terminal's clipboard: transaction id");
    wait_until("clipboard", LIMIT, || tmux.clipboard().filter(|text| *text == shop.deleted));

    // Edited, with an error between; found by the palette.
    press(&tmux, "b", "Nothing speaks against it.");
    press(&tmux, ":", "Do what?");
    tmux.type_text("edset");
    tmux.wait_for("edit-settings", LIMIT);
    let screen = press(&tmux, "Enter", "These settings cannot be taken");
    assert!(screen.contains("port is set by Walback itself"), "{screen}");
    press(&tmux, "Enter", "Nothing speaks against it.");
    press(&tmux, "y", "--set work_mem=8MB");
    press(&tmux, "Escape", "Enter start");
    assert_eq!(shop.path("tmp").read_dir().unwrap().count(), 0, "the file is gone");

    // While it is stopped, the server goes on.
    press(&tmux, "Enter", "PAUSED AT THE TARGET");
    assert_eq!(shop.sql("show work_mem"), "8MB");
    let screen = tmux.screen();
    tmux.send(&["C-z"]);
    assert_stopped(&directory, &tmux, 4);
    assert_eq!(shop.sql("select count(*) from orders"), "2015");
    tmux.send(&["Enter"]);
    tmux.wait_for_screen("screen as it was before", LIMIT, |now| now == screen);

    // The log; Ctrl-C is the pager's.
    press(&tmux, "P", "paged with -R: 1");
    // Both are stopped by Ctrl-Z there, and brought back.
    tmux.send(&["C-z"]);
    assert_stopped(&directory, &tmux, 5);
    tmux.send(&["Enter", "Enter"]);
    tmux.wait_for_screen("screen as it was before the log", LIMIT, |now| now == screen);
    press(&tmux, "P", "paged with -R: 1");
    tmux.send(&["C-c"]);
    tmux.wait_for("the pager ended with", LIMIT);
    fs::remove_file(&pager).unwrap();
    let screen = press(&tmux, "P", "It did not work");
    assert!(screen.contains("cannot start") && screen.contains("set PAGER"), "{screen}");
    press(&tmux, "Escape", "PAUSED AT THE TARGET");

    // Killed, it leaves the terminal to `reset`, and nothing running but the server.
    let (program, server) = (program_in(&tmux), shop.server().unwrap());
    kill(program, Signal::SIGKILL).unwrap();
    tmux.wait_for("noted", LIMIT);
    tmux.wait_for("left with 137", LIMIT);
    assert!(modes(&directory, "after").contains("isig icanon iexten echo "), "{}", modes(&directory, "after"));
    assert_given_back(&tmux);
    assert_eq!(group_of(program.as_raw()), Vec::<i32>::new());
    assert_eq!(shop.server(), Some(server));
    drop(tmux);

    // Told to end, it leaves it clean itself.
    let tmux = Tmux::start(&directory, &in_job_shell(&command), 80, 24);
    tmux.wait_for("restored  paused", LIMIT);
    press(&tmux, "Enter", "PAUSED AT THE TARGET");
    kill(program_in(&tmux), Signal::SIGTERM).unwrap();
    assert_left_clean(&directory, &tmux, 0);
    assert_eq!(shop.server(), Some(server));
}

/// The processes of a group that have not ended.
fn group_of(leader: i32) -> Vec<i32> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    let is_of = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which may have anything in it: state, parent, group.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields.get(2) == Some(&leader.to_string().as_str()) && fields.first() != Some(&"Z")
    };
    processes.filter(is_of).collect()
}

#[test]
fn keys_of_the_configuration_work_and_wrong_ones_are_named() {
    let directory = Directory::new();
    let shop = Shop::make(&directory);
    let with = |keys: &str| {
        let command = shop.configured(&["--read-only"], "");
        let file = shop.path("walback.yaml");
        fs::write(&file, format!("{keys}\n{}", fs::read_to_string(&file).unwrap())).unwrap();
        command
    };
    let tmux = Tmux::start(
        &directory,
        &in_shell(&with("keys: {stop-before: [B, F3], quit: Ctrl-q, zoom-all: [0, \"=\"], zoom-in: +}")),
        80,
        24,
    );
    let screen = tmux.wait_for("2 suspects", LIMIT);
    assert!(screen.contains("B stop before") && screen.contains("Ctrl-q quit"), "{screen}");
    assert!(screen.contains("B stops before it"), "{screen}");
    press(&tmux, "F3", "Nothing speaks against it.");
    press(&tmux, "Escape", "2 suspects");
    tmux.send(&["C-q"]);
    assert_left_clean(&directory, &tmux, 0);

    for (keys, what, hint) in [
        ("keys: {suspects: b}", "b would mean both stop-before and suspects", "give stop-before another key too"),
        ("keys: {stop-befor: B}", "a command that there is not: stop-befor", "did you mean “stop-before”?"),
        ("keys: {stop-before: Alt-b}", "the keys of stop-before: “Alt-b” is no key", "docs/keys.md"),
    ] {
        let output = with(keys).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        for words in [what, hint, "walback.yaml"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
}

/// What carries effects out, and falls over.
struct Broken {
    /// On a thread of its own, not on the one that has the terminal.
    elsewhere: bool,
}

impl Perform for Broken {
    fn perform(&mut self, effect: Effect, _: &MsgSender) {
        if effect == Effect::LoadCatalog {
            let fall = || panic!("the catalog fell over");
            if self.elsewhere { _ = std::thread::spawn(fall) } else { fall() }
        }
    }

    fn look_command(&self, _: &str) -> Option<(Command, String)> {
        None
    }

    fn leave(&mut self, _: &mut dyn FnMut(&str)) {}

    fn log_of(&self, _: &str) -> Option<PathBuf> {
        None
    }
}

/// Not a test but what the next one runs in a terminal: the interface, with something in it that falls over.
#[test]
#[ignore = "it needs a terminal, which the next test has"]
fn what_falls_over() {
    let state = State::new(Setup {
        source: "shop".to_owned(),
        zone: Zone::UTC,
        now: Timestamp::from_unix_seconds(1_727_880_000).unwrap(),
        read_only: true,
        unicode: true,
        directory: String::new(),
    });
    walback::tui::run(state, Broken { elsewhere: std::env::var_os("ELSEWHERE").is_some() }, Theme::new(false)).unwrap();
}

#[test]
fn after_a_panic_the_terminal_is_as_it_was_and_elsewhere_it_goes_on() {
    let directory = Directory::new();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "what_falls_over", "--nocapture"]).current_dir(directory.path());
    command.env("PATH", std::env::var_os("PATH").unwrap());
    let tmux = Tmux::start(&directory, &in_shell(&command), 80, 24);
    let screen = assert_left_clean(&directory, &tmux, 101);
    assert!(screen.contains("the catalog fell over"), "{screen}");
    drop(tmux);

    command.env("ELSEWHERE", "1");
    let tmux = Tmux::start(&directory, &in_shell(&command), 80, 24);
    tmux.wait_for("Listing the backups", LIMIT);
    let screen = press(&tmux, "?", "Keys of this screen");
    assert!(!screen.contains("fell over"), "nothing is printed over the screen: {screen}");
    press(&tmux, "Escape", "Listing the backups");
    // This shell has no jobs: nobody could bring it back.
    press(&tmux, "C-z", "not stopped: no shell would bring it back");
    tmux.send(&["q"]);
    let screen = assert_left_clean(&directory, &tmux, 0);
    assert!(screen.contains("the catalog fell over"), "it is said in the end: {screen}");
}
