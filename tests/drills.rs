//! Drills of a real cluster: each ends with a report that says what happened, and leaves nothing behind.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{
    Answer, Cluster, Directory, Format, Gate, LIMIT, Options, Running, Server, Stop, Tmux, ask, is_worked_in,
    postmaster, press, run, sql, wait_until, walback,
};

/// What is drilled: a base backup and the WAL behind it, of a cluster that is gone.
struct Source {
    backups: PathBuf,
    archive: PathBuf,
    /// The segment in the middle of the WAL.
    middle: String,
    bin_dir: String,
}

/// Made once, and changed by nobody.
fn source() -> &'static Source {
    static SOURCE: OnceLock<Source> = OnceLock::new();
    SOURCE.get_or_init(|| {
        let (directory, server) = (Directory::lasting(), Server::v15());
        let options = Options { segment_mib: 1, checksums: true, ..Options::default() };
        let cluster = Cluster::create(directory, &server, &options);
        cluster.psql("create extension amcheck; create table kept (n int primary key)");
        cluster.base_backup(Format::Tar, "monday");
        cluster.psql("insert into kept select generate_series(1, 100)");
        let middle = cluster.switch_and_wait_archived();
        cluster.psql("insert into kept select generate_series(101, 110)");
        // What was rolled back is no loss, however new it is.
        cluster.psql("begin; insert into kept values (0); rollback");
        cluster.switch_and_wait_archived();
        cluster.stop(Stop::Fast);
        Source {
            backups: directory.path().join("backups"),
            archive: cluster.archive.clone(),
            middle,
            bin_dir: server.bin_dir.display().to_string(),
        }
    })
}

/// Somebody who drills, with a place for that.
struct Driller {
    directory: Directory,
    archive: PathBuf,
}

impl Driller {
    fn new() -> Driller {
        let directory = Directory::in_memory();
        directory.create("scratch");
        Driller { directory, archive: source().archive.clone() }
    }

    fn scratch(&self) -> PathBuf {
        self.directory.path().join("scratch")
    }

    /// The program, configured to drill like this; `drill` and `checks` are YAML.
    fn command(&self, drill: &str, checks: &str, words: &[&str]) -> Command {
        let (backups, archive, scratch) = (source().backups.display(), self.archive.display(), self.scratch());
        let configuration = format!(
            "sources:\n  shop:\n    backups: [{{path: {backups}}}]\n    wal: [{{path: {archive}}}]\n    checks: [{checks}]\n    \
             restore: {{bin_dir: {}, settings: {{archive_mode: on, archive_command: touch {}/%f}}}}\n    \
             drill: {{scratch: {}, {drill}}}\n",
            source().bin_dir,
            scratch.display(),
            scratch.display()
        );
        let file = self.directory.write("drills.yaml", configuration);
        let mut command = walback(&self.directory);
        command.args(["--json", "--config"]).arg(file).args(words);
        command
    }

    /// Makes a drill with this configuration.
    fn drill(&self, drill: &str, checks: &str, words: &[&str]) -> Answer {
        let words: Vec<&str> = std::iter::once(&"drill").chain(words).copied().collect();
        ask(&mut self.command(drill, checks, &words))
    }

    /// What `walback drills` says, with its status.
    #[track_caller]
    fn listed(&self, status: i32) -> Value {
        ask(&mut self.command("", "", &["drills", "--verify"])).ended_with(status).json()
    }

    /// Panics where anything of a drill is left: a file, a process, a recovery that is not discarded.
    #[track_caller]
    fn assert_nothing_left(&self) {
        let left: Vec<_> = fs::read_dir(self.scratch()).unwrap().flatten().map(|entry| entry.path()).collect();
        assert_eq!(left, Vec::<PathBuf>::new());
        assert!(!is_worked_in(&self.scratch()));
        let recoveries = ask(&mut self.command("", "", &["recoveries"])).ended_with(0).json();
        for recovery in recoveries["recoveries"].as_array().unwrap() {
            assert_eq!(recovery["state"], "discarded", "{recovery:#}");
        }
    }

    /// The report that lies in the state directory, whose chain is whole.
    #[track_caller]
    fn kept_report(&self, drill: &Value) -> Value {
        let listed = self.listed(0);
        assert_eq!(listed["chain"]["problems"], json!([]));
        assert_eq!(listed["chain"]["head"], drill["hash"]);
        let file = Path::new(drill["report"].as_str().unwrap()).with_file_name("report.json");
        let kept: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        for field in ["id", "result", "failures", "checks", "rto_s", "notes"] {
            assert_eq!(kept[field], drill[field], "{field}");
        }
        kept
    }
}

/// A check of the configuration.
const ROWS: &str = "{name: rows, sql: SELECT count(*) FROM kept, expect: = 110}";

/// The drill in an answer.
#[track_caller]
fn drill_in(answer: &Answer) -> Value {
    let whole: Value = serde_json::from_str(answer.out.lines().last().unwrap()).unwrap_or_else(|_| answer.json());
    assert!(whole["drill"].is_object(), "{}", answer.shown);
    whole["drill"].clone()
}

/// A check of a report.
#[track_caller]
fn check<'a>(drill: &'a Value, name: &str) -> &'a Value {
    let mut checks = drill["checks"].as_array().unwrap().iter();
    checks.find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {drill:#}"))
}

/// Opens a report in a browser that cannot find any other machine, where there is one.
#[track_caller]
fn assert_drawn(driller: &Driller, page: &Path) {
    let mut chromium = Command::new("chromium");
    chromium.args([
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]);
    chromium.arg(format!("--user-data-dir={}", driller.directory.path().join("browser").display()));
    chromium.arg("--dump-dom").arg(format!("file://{}", page.display()));
    let Ok(output) = chromium.output() else {
        return eprintln!("SKIPPED: a report is not opened in Chromium, which is not installed");
    };
    let drawn = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(drawn.contains("<svg viewBox=") && drawn.contains("<rect class=\"bar\""), "{drawn}");
    assert!(drawn.trim_end().ends_with("</html>") && drawn.contains("The chain of reports"), "{drawn}");
}

#[test]
fn a_drill_that_passes_proves_it_and_goes() {
    let driller = Driller::new();
    let script = driller.directory.write(
        "check.sh",
        "#!/bin/sh\ntest \"$(psql -XAtc 'select count(*) from kept')\" = 110 && test -d \"$WALBACK_DIRECTORY\"\n",
    );
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let checks = format!("{ROWS}, {{name: near, sql: SELECT count(*) FROM kept, expect: within 5% of last}}");
    let all = format!("rto: 1h, rpo: 1h, dump: true, script: {}", script.display());
    let copies = driller.directory.create("reports");
    let answer = driller.drill(&all, &checks, &["--report", copies.to_str().unwrap()]).ended_with(0);
    let drill = drill_in(&answer);
    assert_eq!(drill["result"], "passed");
    assert_eq!(answer.json()["recovery"]["state"], "discarded");
    assert_eq!((&drill["failures"], &drill["removed"], &drill["kept"]), (&json!([]), &json!(true), &json!(false)));
    for name in [
        "recovery stopped where it was predicted to",
        "database postgres opens, and its catalogs are read",
        "rows",
        "near",
        "pg_amcheck",
        "pg_dumpall",
        "check.sh",
        "pg_checksums",
    ] {
        assert_eq!(check(&drill, name)["passed"], true, "{:#}", check(&drill, name));
    }
    assert_eq!((&drill["matches_prediction"], &drill["backup"]["id"]), (&json!(true), &json!("monday")));
    let phases: Vec<&str> =
        drill["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert_eq!(phases, ["plan", "unpack", "configure", "start", "replay", "checks", "verify", "teardown"]);
    let counted = drill["phases"].as_array().unwrap().iter().filter(|phase| phase["counts"] == true);
    let sum: f64 = counted.map(|phase| phase["seconds"].as_f64().unwrap()).sum();
    assert!((drill["rto_s"].as_f64().unwrap() - sum).abs() < 1e-6);
    assert_eq!(drill["rpo_s"], 0.0, "nothing is newer than what can be recovered");
    let forecast = &drill["forecast"];
    assert!(forecast["predicted_s"].as_f64().unwrap() > 0.0 && forecast["actual_s"].as_f64().unwrap() > 0.0);
    let kept = driller.kept_report(&drill);
    assert_eq!(kept["by"]["walback"], env!("CARGO_PKG_VERSION"));
    driller.assert_nothing_left();

    // The documents are where they were asked for, too.
    let copy = |ending: &str| fs::read_to_string(copies.join(format!("{}.{ending}", drill["id"].as_str().unwrap())));
    let page = copy("html").unwrap();
    assert!(page.contains("passed") && page.matches("<svg").count() >= 2 && !page.contains("<script"));
    assert_drawn(&driller, &copies.join(format!("{}.html", drill["id"].as_str().unwrap())));
    assert!(copy("md").unwrap().contains("| rows | passed | 110 |") && copy("json").is_ok());

    // The next one knows this one's values, and so do plans.
    let drill = drill_in(&driller.drill("", &checks, &["--latest"]).ended_with(0));
    assert_eq!(check(&drill, "near")["expected"], "within 5% of last, which was 110");
    assert_eq!(drill["number"], 2);
    let into = driller.directory.path().join("plan").display().to_string();
    let plan = ask(&mut driller.command("", "", &["plan", "--latest", "--into", &into])).ended_with(0).json();
    let basis = plan["plan"]["estimate"]["basis"].as_str().unwrap();
    assert!(basis.contains("measured here in 2 drills"), "{basis}");

    // What is changed afterwards shows.
    let first = driller.directory.path().join("home/state/drills").join(kept["id"].as_str().unwrap());
    let text = fs::read_to_string(first.join("report.json")).unwrap();
    fs::write(first.join("report.json"), text.replace("\"value\": \"110\"", "\"value\": \"111\"")).unwrap();
    let problems = driller.listed(3)["chain"]["problems"].to_string();
    assert!(problems.contains("its report was changed"), "{problems}");
}

#[test]
fn a_drill_fails_where_a_segment_is_missing() {
    let mut driller = Driller::new();
    let archive = driller.directory.path().join("archive");
    run(Command::new("cp").arg("-a").arg(&driller.archive).arg(&archive));
    fs::remove_file(archive.join(&source().middle)).unwrap();
    driller.archive = archive;
    let alarm = driller.directory.path().join("alarm");
    let on_failure = format!("on_failure: 'echo \"$WALBACK_RESULT $WALBACK_SUMMARY\" > {}'", alarm.display());
    let answer = driller.drill(&on_failure, ROWS, &[]).ended_with(3);
    let drill = drill_in(&answer);
    assert_eq!(drill["result"], "failed");
    assert!(drill["failures"][0].as_str().unwrap().contains(&source().middle), "{drill:#}");
    assert!(drill["failure"]["hint"].as_str().unwrap().contains("--lsn"), "{drill:#}");
    assert_eq!((&drill["rto_s"], &drill["checks"]), (&json!(null), &json!([])));
    let summary = drill["summary"].as_str().unwrap();
    assert_eq!(answer.err.lines().last(), Some(summary));
    assert_eq!(fs::read_to_string(alarm).unwrap().trim_end(), format!("failed {summary}"));
    driller.kept_report(&drill);
    driller.assert_nothing_left();
}

#[test]
fn a_drill_fails_where_a_check_or_a_limit_does() {
    let driller = Driller::new();
    let checks = format!("{ROWS}, {{name: more, sql: SELECT count(*) FROM kept, expect: '> 110'}}");
    let drill = drill_in(&driller.drill("checksums: false", &checks, &[]).ended_with(3));
    assert_eq!(drill["failures"], json!(["more: 110, expected > 110"]));
    assert_eq!((&check(&drill, "rows")["passed"], &check(&drill, "more")["passed"]), (&json!(true), &json!(false)));
    driller.kept_report(&drill);
    driller.assert_nothing_left();

    // Nothing is restored in a millisecond.
    let words = ["--backup", "random", "--random-point"];
    let drill = drill_in(&driller.drill("rto: 1ms, checksums: false, amcheck: false", "", &words).ended_with(3));
    assert_eq!((&drill["result"], drill["failures"].as_array().unwrap().len()), (&json!("failed"), 1));
    assert!(drill["failures"][0].as_str().unwrap().contains("RTO of 0.0 s"), "{drill:#}");
    assert!(drill["checks"].as_array().unwrap().iter().all(|check| check["passed"] == true));
    driller.kept_report(&drill);

    // What would be too large is not begun, what takes too long is given up.
    let drill = drill_in(&driller.drill("max_bytes: 1MB", "", &[]).ended_with(3));
    assert_eq!(drill["failure"]["code"], "drill-too-large");
    let drill = drill_in(&driller.drill("timeout: 1ms", "", &[]).ended_with(3));
    assert_eq!(drill["result"], "failed");
    assert!(drill["failures"][0].as_str().unwrap().contains("given up"), "{drill:#}");
    let slow = "{name: slow, sql: SELECT pg_sleep(600), expect: '> 0'}";
    let words = ["--immediate", "--backup", "oldest"];
    let drill =
        drill_in(&driller.drill("check_timeout: 50ms, amcheck: false, checksums: false", slow, &words).ended_with(3));
    assert!(check(&drill, "slow")["said"][0].as_str().unwrap().contains("given up"), "{drill:#}");
    assert_eq!(driller.listed(0)["drills"].as_array().unwrap().len(), 5);
    driller.assert_nothing_left();
    let said = ask(walback(&driller.directory).arg("recoveries")).ended_with(0).out;
    assert_eq!(
        said,
        "no recoveries on this machine but those that drills made and removed: “walback drills” lists them\n"
    );
}

/// A drill whose server waits in the middle of replay.
fn waiting(driller: &Driller) -> (Running, Gate, PathBuf) {
    let gate = Gate::before(&driller.directory, &source().middle);
    let mut command = driller.command("", ROWS, &["drill", "--events"]);
    gate.stands_before(&mut command);
    let mut running = Running::start(&mut command);
    let id = running.wait_for("replay", |line| line["state"] == "replaying")["recovery"].clone();
    gate.wait_reached();
    let directory = driller.scratch().join(id.as_str().unwrap());
    assert!(postmaster(&directory) > 0);
    (running, gate, directory)
}

#[test]
fn a_drill_that_is_interrupted_says_so_and_goes() {
    let driller = Driller::new();
    let (running, _gate, _) = waiting(&driller);
    let listed = ask(&mut driller.command("", "", &["drills"])).ended_with(0).json();
    assert_eq!(listed["drills"][0]["result"], "running");
    running.signal(Signal::SIGINT);
    let (status, _, lines) = running.wait();
    assert_eq!(status, Some(130));
    let drill = &lines.last().unwrap()["drill"];
    assert_eq!(
        (&drill["result"], &drill["failures"]),
        (&json!("interrupted"), &json!(["it was given up before its end"]))
    );
    assert_eq!(drill["removed"], true);
    driller.kept_report(drill);
    driller.assert_nothing_left();
}

#[test]
fn what_a_drill_leaves_that_is_killed_is_removed_by_the_next_one() {
    let driller = Driller::new();
    let (running, gate, directory) = waiting(&driller);
    running.signal(Signal::SIGKILL);
    assert_eq!(running.wait().0, None);
    // Its server goes on.
    assert!(is_worked_in(&directory));
    let killed = directory.file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(driller.listed(0)["drills"][0]["result"], "killed");
    gate.open();

    let drill = drill_in(&driller.drill("", ROWS, &[]).ended_with(0));
    let notes = drill["notes"].to_string();
    assert!(notes.contains(&format!("the drill {killed} was killed; what it had made was removed")), "{notes}");
    driller.assert_nothing_left();
    assert_eq!(drill["number"], 2);
    driller.kept_report(&drill);
    let first = &driller.listed(0)["drills"][0];
    assert_eq!((&first["id"], &first["result"]), (&json!(killed), &json!("interrupted")));
    assert_eq!(first["rpo_s"], json!(null), "nothing was proved");
    let summary = first["summary"].as_str().unwrap();
    assert!(summary.contains("its walback was killed"), "{summary}");
}

#[test]
fn what_is_kept_can_be_looked_at_and_discarded() {
    let driller = Driller::new();
    let drill = driller.drill("promote: true, amcheck: true, checksums: false", ROWS, &["--keep"]).ended_with(0);
    let recovery = drill.recovery();
    assert_eq!(recovery["state"], "promoted");
    assert_eq!(sql(&recovery, "select count(*) from kept"), "110");
    let id = recovery["id"].as_str().unwrap();
    // Its checksums are read from the stopped copy, and it runs again afterwards.
    let paused = driller.drill("amcheck: false", ROWS, &["--keep"]).ended_with(0);
    assert_eq!(check(&drill_in(&paused), "pg_checksums")["passed"], true);
    let paused = paused.recovery();
    assert_eq!((&paused["state"], sql(&paused, "select count(*) from kept").as_str()), (&json!("paused"), "110"));
    ask(walback(&driller.directory).args(["--json", "discard", paused["id"].as_str().unwrap(), "--yes"])).ended_with(0);
    // The next one leaves it alone.
    drill_in(&driller.drill("amcheck: false, checksums: false", "", &["--immediate"]).ended_with(0));
    assert_eq!(sql(&recovery, "select count(*) from kept"), "110");
    ask(walback(&driller.directory).args(["--json", "stop", id])).ended_with(0);
    ask(walback(&driller.directory).args(["--json", "discard", id, "--yes"])).ended_with(0);
    wait_until("the end of its server", LIMIT, || (!is_worked_in(&driller.scratch())).then_some(()));
    driller.assert_nothing_left();
}

#[test]
fn what_cannot_be_begun_leaves_no_report() {
    let driller = Driller::new();
    let refused = |words: &[&str], status: i32, code: &str| {
        let answer = driller.drill("", "", words).ended_with(status);
        assert_eq!(answer.json()["error"]["code"], code, "{}", answer.shown);
    };
    refused(&["--action", "promote"], 2, "drill-action");
    refused(&["--report", "report.txt"], 2, "report-form");
    refused(&["--report", "/nowhere/x.md"], 2, "bad-path");
    driller.directory.write("there.html", "");
    refused(&["--report", "there.html"], 5, "file-exists");
    refused(&["--report", source().archive.join("x.md").to_str().unwrap()], 2, "inside-source");
    refused(&["--read-only"], 2, "read-only");
    refused(&["--backup", "tuesday"], 2, "unknown-backup");
    let link = driller.directory.path().join("link");
    std::os::unix::fs::symlink(source().backups.join("monday"), &link).unwrap();
    refused(&["--scratch", link.to_str().unwrap()], 2, "inside-source");
    let without = ask(walback(&driller.directory).args(["--json", "--wal", "/nowhere", "drill"])).ended_with(2);
    assert_eq!(without.json()["error"]["code"], "no-scratch");
    assert_eq!(driller.listed(0)["drills"], json!([]));

    // That no drill can be made any more is not to go unnoticed.
    let drills = driller.directory.create("home/state/drills");
    fs::write(drills.join("chain.jsonl"), "{}\n").unwrap();
    let alarm = driller.directory.path().join("alarm");
    let on_failure = format!("on_failure: 'echo \"$WALBACK_SUMMARY\" > {}'", alarm.display());
    let answer = driller.drill(&on_failure, "", &[]).ended_with(1);
    assert_eq!(answer.json()["error"]["code"], "chain-broken");
    assert!(fs::read_to_string(alarm).unwrap().starts_with("no drill of shop: the chain of reports is broken"));
}

#[test]
fn the_screen_makes_a_drill_and_gives_up_what_is_left_unfinished() {
    let driller = Driller::new();
    // A check that ends when the file is there, or with the drill.
    let go_on = driller.directory.path().join("go-on");
    let script = driller
        .directory
        .write("wait.sh", format!("#!/bin/sh\nuntil test -e {}; do sleep 0.05; done\n", go_on.display()));
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let drill = format!("rto: 1h, checksums: false, amcheck: false, script: {}", script.display());
    fs::write(&go_on, "").unwrap();
    let mut command = driller.command(&drill, ROWS, &[]);
    command.env("PAGER", "cat");
    let tmux = Tmux::start(&driller.directory, &command, 100, 32);
    tmux.wait_for("archive ✓ healthy", LIMIT);
    // What an accident would cost is there to be seen before there was any drill.
    tmux.wait_for("restore ~", LIMIT);
    press(&tmux, "d", "No drill of this cluster");
    press(&tmux, "Enter", "Make which drill?");
    tmux.send(&["y"]);
    let screen = tmux.wait_for_screen("the drill's end", LIMIT, |screen| {
        screen.contains("passed") && screen.contains("monday (the newest base backup") && !screen.contains("running")
    });
    for words in ["every report is as it was written", "RTO, up to", "at most 1 h", "5/5", "wait.sh: status 0"] {
        assert!(screen.contains(words), "{words}:\n{screen}");
    }
    driller.assert_nothing_left();

    // Leaving the program gives up what it makes; what that made is removed before the program ends.
    fs::remove_file(&go_on).unwrap();
    press(&tmux, "Enter", "Make which drill?");
    tmux.send(&["y"]);
    tmux.wait_for("reading everything", LIMIT);
    assert!(is_worked_in(&driller.scratch()));
    press(&tmux, "q", "Leave now?");
    tmux.send(&["y"]);
    assert_eq!(tmux.wait_for_exit(LIMIT), 0);
    driller.assert_nothing_left();
    let listed = driller.listed(0);
    let results: Vec<&Value> = listed["drills"].as_array().unwrap().iter().map(|drill| &drill["result"]).collect();
    assert_eq!(results, ["passed", "interrupted"]);
}

/// What was not archived is lost; on a primary on which nothing is done, nothing is.
#[test]
fn the_rpo_is_what_a_primary_has_and_the_archives_have_not() {
    let (directory, server) = (Directory::in_memory(), Server::v15());
    let cluster = Cluster::create(&directory, &server, &Options { segment_mib: 1, ..Options::default() });
    // Nobody else shall make transactions.
    cluster.psql("alter system set autovacuum = off");
    cluster.psql("select pg_reload_conf()");
    cluster.psql("create table kept (n int)");
    cluster.base_backup(Format::Tar, "monday");
    cluster.psql("insert into kept values (1)");
    cluster.switch_and_wait_archived();
    let here = directory.path().display();
    directory.create("scratch");
    let drilled = |more: &str, words: &[&str], status: i32| {
        let configuration = format!(
            "sources:\n  shop:\n    backups: [{{path: {here}/backups}}]\n    wal: [{{path: {here}/archive}}]\n    \
             primary: \"{}\"\n    restore: {{bin_dir: {}}}\n    \
             drill: {{scratch: {here}/scratch, {more}, amcheck: false, checksums: false}}\n",
            cluster.connection(),
            server.bin_dir.display()
        );
        let file = directory.write("drills.yaml", configuration);
        ask(walback(&directory).args(["--json", "--config"]).arg(file).arg("drill").args(words)).ended_with(status)
    };
    let drill = |rpo: &str, status: i32| drill_in(&drilled(&format!("rpo: {rpo}"), &[], status));
    let idle = drill("1ms", 0);
    assert_eq!((&idle["rpo_s"], &idle["result"]), (&json!(0.0), &json!("passed")));
    assert_eq!(idle["rpo_against"], "the primary, all of whose transactions are there");

    // A copy that was promoted makes as many transactions as the primary, and its WAL comes into the archive: it is another
    // timeline's.
    let copy = drilled("promote: true", &["--keep"], 0).recovery();
    sql(&copy, "insert into kept values (3)");
    let written = sql(&copy, "select pg_walfile_name(pg_current_wal_lsn())");
    sql(&copy, "select pg_switch_wal()");
    for file in ["00000002.history", &written] {
        let archived = cluster.archive.join(file);
        fs::copy(Path::new(copy["directory"].as_str().unwrap()).join("pg_wal").join(file), &archived).unwrap();
        fs::set_permissions(&archived, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let id = copy["id"].as_str().unwrap();
    ask(walback(&directory).args(["--json", "stop", id])).ended_with(0);
    ask(walback(&directory).args(["--json", "discard", id, "--yes"])).ended_with(0);

    cluster.psql("insert into kept values (2)");
    let lost = drill("1ms", 3);
    assert!(lost["rpo_s"].as_f64().unwrap() > 0.0, "{lost:#}");
    assert!(lost["failures"][0].as_str().unwrap().contains("older than the primary's clock"), "{lost:#}");

    // That it was kept nobody can say, where nobody answers.
    cluster.stop(Stop::Fast);
    let silent = drill("1h", 3);
    assert!(silent["failures"][0].as_str().unwrap().starts_with("the RPO cannot be told"), "{silent:#}");
    assert_eq!(silent["rpo_s"], json!(null));
}
