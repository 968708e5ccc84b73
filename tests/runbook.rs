//! The runbook: what `plan --script` writes, carried out by a shell, without Walback.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::{Answer, Cluster, Directory, Format, Options, ROWS, Server, as_server, ask, client, run, walback};

/// A cluster with three rows, of which the restore point has two.
struct Past<'a> {
    directory: &'a Directory,
    archive: PathBuf,
    backups: PathBuf,
    bin_dir: PathBuf,
}

/// What nobody would call a restore point, or a directory, in their right mind.
const POINT: &str = "it's \"the\" $(touch no) `point`";

impl<'a> Past<'a> {
    /// `place`: below which the archive and the backup lie.
    fn make(directory: &'a Directory, server: &Server, options: &Options, format: Format, place: &str) -> Past<'a> {
        let cluster = Cluster::create(directory, server, options);
        cluster.psql("create table kept (n int); insert into kept values (1)");
        cluster.base_backup(format, "base");
        cluster.psql("insert into kept values (2)");
        let quoted = POINT.replace('\'', "''");
        cluster.psql(&format!("select pg_create_restore_point('{quoted}')"));
        cluster.psql("insert into kept values (3)");
        cluster.switch_and_wait_archived();
        let place = directory.create(place);
        let moved = |what: &str| {
            fs::rename(directory.path().join(what), place.join(what)).unwrap();
            place.join(what)
        };
        let (archive, backups) = (moved("archive"), moved("backups"));
        Past { directory, archive, backups, bin_dir: server.bin_dir.clone() }
    }

    fn command(&self, command: &str, into: &Path) -> Command {
        let mut walback = walback(self.directory);
        walback.arg("--json").arg("--backups").arg(&self.backups).arg("--wal").arg(&self.archive);
        walback.args([command, "--name", POINT, "--into"]).arg(into).arg("--bin-dir").arg(&self.bin_dir);
        walback
    }

    /// The plan for `into`, written to `script`.
    #[track_caller]
    fn plan(&self, into: &Path, script: &Path) -> Value {
        ask(self.command("plan", into).arg("--script").arg(script)).ended_with(0).json()["plan"].clone()
    }
}

/// Without ours, and with nothing on its input.
fn carried_out(mut shell: Command, script: &Path) -> Output {
    shell.arg(script).stdin(std::process::Stdio::null()).output().unwrap()
}

#[track_caller]
fn assert_clean(script: &Path) {
    let checked = Command::new("shellcheck").arg(script).output();
    // It is not everywhere.
    let Ok(checked) = checked else { return };
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// Asks the server that the plan describes.
#[track_caller]
fn sql(plan: &Value, query: &str) -> String {
    let server = &plan["server"];
    let mut psql = client("psql");
    psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-h"]);
    psql.arg(server["socket_directory"].as_str().unwrap()).args(["-p", &server["port"].to_string(), "-c", query]);
    run(&mut psql)
}

#[track_caller]
fn assert_paused_as_planned(plan: &Value) {
    assert_eq!(sql(plan, "select pg_is_in_recovery(), pg_is_wal_replay_paused()"), "t|t");
    assert_eq!(plan["resolved"]["replay_end"], sql(plan, "select pg_last_wal_replay_lsn()"));
    assert_eq!(sql(plan, ROWS), "1,2");
}

fn a_runbook_recovers(major: u16, options: &Options, format: Format, place: &str, shell: fn() -> Command) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::new();
    let past = Past::make(&directory, &server, options, format, place);
    the_runbook_recovers(&directory, &past, place, shell);
}

/// The script comes to where the plan says, run by `shell`; `restore` writes the same settings.
fn the_runbook_recovers(directory: &Directory, past: &Past<'_>, place: &str, shell: fn() -> Command) {
    // The server's user makes its directory here.
    let here = directory.create(place);
    let (into, script) = (here.join("by hand"), here.join("the runbook.sh"));
    let plan = past.plan(&into, &script);
    assert_clean(&script);
    assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o777, 0o755);
    let document = fs::read_to_string(here.join("the runbook.md")).unwrap();
    assert!(document.contains("## 2. Unpack the base backup") && document.contains("unpack "), "{document}");
    assert!(!into.exists(), "a plan changes nothing");

    let output = carried_out(shell(), &script);
    assert!(output.status.success(), "{}", said(&output));
    let end = plan["resolved"]["replay_end"].as_str().unwrap();
    assert!(said(&output).contains(&format!("replayed up to {end}, as predicted")), "{}", said(&output));
    assert_paused_as_planned(&plan);
    let again = carried_out(shell(), &script);
    assert!(!again.status.success() && said(&again).contains("is not empty"), "{}", said(&again));
    assert_paused_as_planned(&plan);
    assert!(!here.join("no").exists() && !directory.path().join("no").exists(), "something was expanded");

    // The engine writes the same, but for the place and the port; and packed WAL it fetches itself.
    let by_us = here.join("by us");
    ask(past.command("restore", &by_us).arg("--yes")).ended_with(0);
    let is_fetched = !plan["fetch"].is_null();
    let settings = |of: &Path| {
        let text = fs::read_to_string(of.join("postgresql.auto.conf")).unwrap();
        let name = of.file_name().unwrap().to_str().unwrap();
        let differs = ["port =", "unix_socket_dir", if is_fetched { "restore_command =" } else { "port =" }];
        let lines = text.lines().filter(|line| !differs.iter().any(|setting| line.starts_with(setting)));
        lines.map(|line| line.replace(name, "PLACE")).collect::<Vec<_>>()
    };
    assert_eq!(settings(&into), settings(&by_us));
    for name in [".walback/pg_hba.conf", ".walback/pg_ident.conf"] {
        assert_eq!(fs::read(into.join(name)).unwrap(), fs::read(by_us.join(name)).unwrap(), "{name}");
    }
}

fn by_ourselves() -> Command {
    Command::new("sh")
}

fn by_the_servers_user() -> Command {
    as_server("sh")
}

#[test]
fn the_runbook_of_a_plain_tar_of_13_recovers() {
    a_runbook_recovers(13, &Options::default(), Format::Tar, "-rf 'here' \"$HOME\"", by_ourselves);
}

#[test]
fn the_runbook_of_a_packed_tar_of_15_recovers() {
    let options = Options { gzip: true, segment_mib: 1, ..Options::default() };
    a_runbook_recovers(15, &options, Format::TarGz, "a `b`; c %f & d\\", by_the_servers_user);
}

/// Packed by the programs themselves, as archive commands call them.
#[test]
fn the_runbook_of_a_tar_in_xz_with_wal_in_bzip2_recovers() {
    let directory = Directory::new();
    let options = Options { segment_mib: 1, ..Options::default() };
    let place = "x z";
    let past = Past::make(&directory, &Server::v15(), &options, Format::Tar, place);
    let script = "
        set -e; xz -9 -T2 base.tar; for part in *.tar; do test ! -f \"$part\" || xz -0 \"$part\"; done
        cd \"$1\"; bzip2 *";
    run(Command::new("sh").args(["-c", script, "sh"]).arg(&past.archive).current_dir(past.backups.join("base")));
    the_runbook_recovers(&directory, &past, place, by_the_servers_user);
}

/// One tar with a directory in front of its names and something beside that, which `tar` itself has to be told.
#[test]
fn the_runbook_of_one_tar_with_a_leading_directory_recovers() {
    for (place, name, words) in [
        ("it's in (one) tar", "./it's * here", &["./it's * here", "beside"][..]),
        ("absolute", "main", &["-P", "$PWD/main", "$PWD/beside"]),
    ] {
        let directory = Directory::new();
        let options = Options { segment_mib: 1, ..Options::default() };
        let past = Past::make(&directory, &Server::v15(), &options, Format::Plain, place);
        let words: Vec<String> =
            words.iter().map(|word| word.replace("$PWD", past.backups.to_str().unwrap())).collect();
        let script = "
            set -e; mv base \"$1\"; touch beside; rm \"$1/backup_manifest\"; echo 1 >\"$1/pg_stat_tmp/stale\"
            name=$1; shift; tar -cf monday.tgz -z \"$@\"; rm -r \"$name\" beside";
        let mut shell = Command::new("sh");
        run(shell.args(["-c", script, "sh", name]).args(words).current_dir(&past.backups));
        the_runbook_recovers(&directory, &past, place, by_ourselves);
        assert!(!directory.path().join(place).join("by hand/pg_stat_tmp/stale").exists());
    }
}

#[test]
fn the_runbook_of_a_directory_of_15_recovers() {
    let options = Options { segment_mib: 1, ..Options::default() };
    a_runbook_recovers(15, &options, Format::Plain, "[x]* ä ~ #", by_ourselves);
}

#[test]
fn the_runbook_of_a_packed_tar_of_18_recovers() {
    a_runbook_recovers(18, &Options::default(), Format::TarGz, "eighteen", by_ourselves);
}

#[test]
fn the_runbook_of_a_directory_of_18_recovers() {
    a_runbook_recovers(18, &Options::default(), Format::Plain, "END_OF_FILE", by_the_servers_user);
}

/// A script is kept, and things change meanwhile: it says what, and goes no further.
#[test]
fn a_runbook_stops_at_what_is_not_as_it_was() {
    let directory = Directory::new();
    let options = Options { segment_mib: 1, ..Options::default() };
    let past = Past::make(&directory, &Server::v15(), &options, Format::TarGz, "here");
    let here = directory.create("here");
    let script = here.join("run");
    let into = here.join("new");
    past.plan(&into, &script);
    assert!(here.join("run.md").exists());
    let stops = |says: &str| {
        let output = carried_out(by_ourselves(), &script);
        assert!(!output.status.success() && said(&output).contains(says), "{says:?} is not said\n{}", said(&output));
    };
    let away = here.join("away");
    fs::rename(&past.archive, &away).unwrap();
    stops("cannot read the archive");
    fs::rename(&away, &past.archive).unwrap();
    assert!(!into.exists(), "nothing is made before everything was looked at");

    std::os::unix::fs::symlink("/nowhere", &into).unwrap();
    stops("this is a link");
    fs::remove_file(&into).unwrap();

    // The tar itself is whole, and what gzip says of it at the end is not.
    let base = past.backups.join("base/base.tar.gz");
    let whole = fs::read(&base).unwrap();
    let mut wrong = whole.clone();
    let at = wrong.len() - 6;
    wrong[at] ^= 1;
    fs::write(&base, &wrong).unwrap();
    stops("cannot be read to its end");
    fs::remove_dir_all(&into).unwrap();
    fs::remove_file(&base).unwrap();
    stops("base backup cannot be read");
    fs::write(&base, &whole).unwrap();

    // A server that does not start is quoted.
    let text = fs::read_to_string(&script).unwrap();
    fs::write(&script, text.replace("archive_mode = 'off'", "archive_mode = 'sometimes'")).unwrap();
    stops("sometimes");
    stops("is not empty");
}

/// Includes that lead nowhere.
#[test]
fn a_runbook_sets_aside_what_the_engine_sets_aside() {
    let directory = Directory::new();
    let options = Options { segment_mib: 1, ..Options::default() };
    let past = Past::make(&directory, &Server::v15(), &options, Format::Plain, "here");
    let configuration = past.backups.join("base/postgresql.conf");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, format!("include '/nowhere/at all.conf'\n{text}\ninclude_dir 'conf.d'\n")).unwrap();
    // It was changed, and the manifest would say so.
    fs::remove_file(past.backups.join("base/backup_manifest")).unwrap();
    let here = directory.create("here");
    let (into, script) = (here.join("new"), here.join("run.sh"));
    let plan = past.plan(&into, &script);
    assert_eq!(plan["set_aside"].as_array().unwrap().len(), 2);
    assert_clean(&script);
    let output = carried_out(by_ourselves(), &script);
    assert!(output.status.success(), "{}", said(&output));
    assert_paused_as_planned(&plan);
    let by_us = here.join("by us");
    ask(past.command("restore", &by_us).arg("--yes")).ended_with(0);
    let configured = |of: &Path| fs::read_to_string(of.join("postgresql.conf")).unwrap();
    assert_eq!(configured(&into), configured(&by_us));
    assert!(configured(&into).starts_with("# set aside by Walback: include '/nowhere"));
    assert_eq!(fs::read(into.join(".walback/postgresql.conf.from-backup")).unwrap(), fs::read(configuration).unwrap());
}

/// A backup that is too large to be looked into, and configured with less than recovery needs.
#[test]
fn a_runbook_raises_what_nobody_knew_before() {
    let directory = Directory::new();
    let options = Options { segment_mib: 1, ..Options::default() };
    let past = Past::make(&directory, &Server::v15(), &options, Format::TarGz, "here");
    // A relation of zeros comes in front of everything but the label.
    let script = "
        set -e; mkdir all; cd all; tar -xzf ../base.tar.gz; truncate -s 600M base/zeros
        echo max_connections = 20 >>postgresql.conf
        tar -cf ../base.tar.gz --use-compress-program='gzip -1' backup_label PG_VERSION base/zeros \
            $(ls -A | grep -v -e backup_label -e PG_VERSION)
        cd ..; rm -r all";
    run(Command::new("sh").args(["-c", script]).current_dir(past.backups.join("base")));
    let here = directory.create("here");
    let (into, script) = (here.join("new"), here.join("run.sh"));
    let plan = past.plan(&into, &script);
    assert!(plan["settings"]["max_connections"].is_null(), "{plan:#}");
    assert_clean(&script);
    let output = carried_out(by_ourselves(), &script);
    assert!(output.status.success(), "{}", said(&output));
    assert_paused_as_planned(&plan);
    assert_eq!(sql(&plan, "show max_connections"), "100");
}

#[test]
fn a_runbook_is_written_where_nothing_is_lost() {
    let directory = Directory::new();
    let options = Options { segment_mib: 1, ..Options::default() };
    let past = Past::make(&directory, &Server::v15(), &options, Format::Tar, "here");
    let here = directory.create("here");
    let into = here.join("new");
    let ask = |words: &[&str], script: &Path| -> Answer {
        ask(past.command("plan", &into).args(words).arg("--script").arg(script))
    };
    let code = |answer: &Answer| answer.lines().pop().unwrap()["error"]["code"].clone();
    let script = here.join("run.sh");
    fs::write(here.join("run.md"), "mine").unwrap();
    assert_eq!(code(&ask(&[], &script).ended_with(5)), "file-exists");
    assert!(!script.exists() && fs::read_to_string(here.join("run.md")).unwrap() == "mine");
    ask(&["--yes"], &script).ended_with(0);
    assert!(script.exists() && fs::read_to_string(here.join("run.md")).unwrap().starts_with("# Recovery new"));
    assert_eq!(code(&ask(&[], &script).ended_with(5)), "file-exists");
    assert_eq!(code(&ask(&["--read-only"], &here.join("other.sh")).ended_with(2)), "read-only");
    assert_eq!(code(&ask(&[], &past.archive.join("run.sh")).ended_with(2)), "inside-source");
    assert_eq!(code(&ask(&[], &past.backups.join("base/run.sh")).ended_with(2)), "inside-source");
    let forbidden = ask(&["--run-as", "nobody-of-this-name"], &here.join("other.sh"));
    assert!(forbidden.err.contains("no runbook was written"), "{}", forbidden.shown);
    assert!(!here.join("other.sh").exists());
}
