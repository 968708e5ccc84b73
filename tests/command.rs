//! WAL by commands: whatever can be a `restore_command`, and whatever goes wrong with it.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{
    Answer, Directory, History, LIMIT, Operator, ask, assert_paused, gzip, is_running, run, sql, wait_until, walback,
};

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

/// Stands for `aws s3 cp`, which ends with 1 whatever goes wrong: copies from a hidden place, and notes each call.
const S3: &str = r#"#!/bin/sh
cd "${0%/*}" || exit 127
if test -f goes-down && test "$1" = "$(cat goes-down)"; then : > down; fi
if test -f down; then
    echo "$1 unreachable" >> calls
    printf 'Could not connect to the endpoint URL:\033[31m "https://bucket"\n' >&2
    exit 1
fi
if ! test -f "hidden/$1"; then
    echo "$1 missing" >> calls
    echo 'An error occurred (404) when calling the HeadObject operation: Not Found' >&2
    exit 1
fi
echo "$1 given" >> calls
cat "hidden/$1" > "$2"
"#;

/// An archive of which nobody has a list, and somebody who works with it.
struct Bucket {
    directory: Directory,
    /// The backups that are looked at.
    backups: PathBuf,
}

impl Bucket {
    /// With the history's archive, and one of its backups.
    fn of(backup: &str) -> Bucket {
        let bucket = Bucket { directory: Directory::new(), backups: HISTORY.backups.join(backup) };
        run(Command::new("cp").arg("-a").arg(&HISTORY.archive).arg(bucket.path("hidden")));
        let script = bucket.directory.write("s3", S3);
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).unwrap();
        // The server's user notes its calls too.
        let calls = bucket.directory.write("calls", "");
        fs::set_permissions(calls, fs::Permissions::from_mode(0o666)).unwrap();
        bucket
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn hidden(&self, name: &str) -> PathBuf {
        self.path("hidden").join(name)
    }

    fn s3(&self) -> String {
        format!("{} %f %p", self.path("s3").display())
    }

    /// The program, with the script as the only source of WAL.
    fn command(&self, words: &[&str]) -> Command {
        self.by(&self.s3(), words)
    }

    /// The same with another command.
    fn by(&self, command: &str, words: &[&str]) -> Command {
        let mut program = walback(&self.directory);
        program.arg("--json").arg("--backups").arg(&self.backups).args(["--wal-command", command]).args(words);
        program
    }

    /// With a configuration whose `wal` and `cache` are these.
    fn configured(&self, wal: &str, cache: &str, words: &[&str]) -> Command {
        let yaml = format!(
            "cache: {{{cache}}}\nsources:\n  it:\n    backups: [{{path: {}}}]\n    wal: [{wal}]\n",
            self.backups.display()
        );
        let file = self.directory.write("walback.yaml", yaml);
        let mut program = walback(&self.directory);
        program.arg("--json").arg("--config").arg(file).args(words);
        program
    }

    fn asks(&self, words: &[&str]) -> Answer {
        ask(&mut self.command(words))
    }

    fn operator(&self) -> Operator<'_> {
        Operator { directory: &self.directory, backups: self.backups.clone(), archive: self.path("nowhere") }
    }

    /// The calls since the last time that this was asked.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap();
        fs::write(self.path("calls"), "").unwrap();
        calls.lines().map(str::to_owned).collect()
    }

    /// The files that were given since then.
    fn given(&self) -> Vec<String> {
        self.calls().iter().filter_map(|call| call.strip_suffix(" given")).map(str::to_owned).collect()
    }

    /// The segments of a timeline, in order.
    fn segments(&self, timeline: u32) -> Vec<String> {
        let names = fs::read_dir(self.path("hidden")).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.to_str().unwrap().to_owned());
        let mine = |name: &String| name.len() == 24 && name.starts_with(&format!("{timeline:08X}"));
        let mut segments: Vec<String> = names.filter(mine).collect();
        segments.sort();
        segments
    }

    /// What is kept of segments below the cache directory.
    fn kept(&self) -> Vec<PathBuf> {
        let fetched = self.path("home/.cache/walback/fetched");
        let files = fs::read_dir(fetched).into_iter().flatten().flatten().flat_map(|entry| fs::read_dir(entry.path()));
        let files = files.flatten().flatten().map(|entry| entry.path());
        files.filter(|path| path.file_name().unwrap().len() == 24).collect()
    }
}

fn lines(answer: &Answer) -> BTreeSet<String> {
    answer.clone().ended_with(0).lines().iter().map(ToString::to_string).collect()
}

/// What went wrong, whole.
#[track_caller]
fn wrong(answer: &Answer, code: &str) -> String {
    let error = &answer.json()["error"];
    assert_eq!(error["code"], code, "{}", answer.shown);
    format!("{} {}", error["message"].as_str().unwrap(), error["hint"])
}

fn findings(answer: &Answer) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found = answer.json()["findings"].as_array().unwrap().clone();
    found.iter().map(|finding| (text(&finding["code"]), text(&finding["message"]))).collect()
}

#[test]
fn an_archive_without_a_list_is_known_as_one_with_it() {
    let bucket = Bucket::of("by-sql");
    let by_list = |words: &[&str]| ask(&mut Operator::of(&bucket.directory, &HISTORY, "by-sql").command(words));
    let points = bucket.asks(&["points", "--kind", "restore-point"]);
    assert!(points.lines().len() >= 5, "{}", points.shown);
    assert_eq!(lines(&points), lines(&by_list(&["points", "--kind", "restore-point"])));
    let given = bucket.given();
    let start = ask(&mut Operator::of(&bucket.directory, &HISTORY, "by-sql").command(&["backups"]));
    let start = start.json()["backups"][0]["start_wal"].as_str().unwrap().to_owned();
    let of_use = bucket.segments(1).into_iter().filter(|name| *name >= start).count() + bucket.segments(2).len();
    let once: BTreeSet<&String> = given.iter().filter(|name| name.len() == 24).collect();
    assert_eq!(once.len(), of_use, "{given:?}");
    assert!(given.len() <= of_use + 3, "none is fetched twice, but for one small file that proves: {given:?}");
    // The second time everything is known.
    assert_eq!(lines(&bucket.asks(&["points", "--kind", "restore-point"])), lines(&points));
    assert_eq!(bucket.given(), [] as [String; 0]);
    let (timelines, listed) = (bucket.asks(&["timelines"]).json(), by_list(&["timelines"]).json());
    for number in [0, 1] {
        for field in ["id", "parent", "forked_at_lsn", "last_segment", "end_lsn", "last_commit_at", "gaps", "damaged"] {
            let both = [&timelines, &listed].map(|all| &all["timelines"][number][field]);
            assert_eq!(both[0], both[1], "{field} of {timelines:#}");
        }
    }
    let checked = bucket.asks(&["check"]).ended_with(0);
    let said = findings(&checked).into_iter().filter(|(code, _)| code == "asked-one-by-one").map(|(_, said)| said);
    let said: Vec<String> = said.collect();
    assert_eq!(said.len(), 2, "{}", checked.shown);
    assert!(said.iter().all(|said| said.contains("which is not there, nor is any of 15 behind it")), "{said:?}");
    assert_eq!(bucket.given(), [] as [String; 0]);
    // What a transaction did is known without the archive, too: nothing of it is asked for but what may have come.
    assert!(!bucket.asks(&["suspects", "--rows", "1"]).ended_with(0).json()["suspects"].as_array().unwrap().is_empty());
    assert_eq!(bucket.given(), [] as [String; 0]);
}

#[test]
fn it_is_recovered_from_on_both_timelines_and_retargeted() {
    let bucket = Bucket::of("tar-none");
    let operator = bucket.operator();
    let place = operator.place("copy").display().to_string();
    let recovery = |words: &[&str]| {
        let all = [&["restore", "--yes", "--into", &place], words].concat();
        bucket.asks(&all).ended_with(0).recovery()
    };
    let on_branch = recovery(&["--name", "on the branch"]);
    assert_paused(&on_branch, &HISTORY.restore_points["on the branch"]);
    assert!(sql(&on_branch, "show restore_command").contains(" fetch --recovery copy "));
    operator.discards("copy");
    bucket.calls();
    let first = recovery(&["--name", "first", "--timeline", "1"]);
    assert_paused(&first, &HISTORY.restore_points["first"]);
    assert!(bucket.given().len() >= 2, "the server's own calls");
    // The journal knows how to go on, without a configuration.
    let trunk = operator.about(&["retarget", "copy", "--name", "trunk", "--yes"]).ended_with(0).recovery();
    assert_paused(&trunk, &HISTORY.restore_points["trunk"]);
    assert!(bucket.given().len() >= 4, "the server's own calls again");
    let plan =
        bucket.asks(&["plan", "--latest", "--timeline", "1", "--into", &operator.place("x").display().to_string()]);
    assert_eq!(plan.ended_with(0).json()["plan"]["commands"][0]["command"], bucket.s3());
    operator.discards("copy");
}

#[test]
fn pipelines_and_directories_go_together() {
    let bucket = Bucket::of("tar-none");
    for entry in fs::read_dir(bucket.path("hidden")).unwrap() {
        let path = entry.unwrap().path();
        let packed = bucket.path(&format!("hidden/{}.gz", path.file_name().unwrap().display()));
        fs::write(&packed, gzip(&fs::read(&path).unwrap())).unwrap();
        fs::set_permissions(packed, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let all = bucket.segments(1);
    let (first, last) = all.split_at(all.len() / 2);
    let near = bucket.directory.create("near");
    for name in first {
        run(Command::new("cp").arg("-a").arg(bucket.hidden(name)).arg(&near));
    }
    let hidden = bucket.path("hidden").display().to_string();
    // The shell cannot open what is not there; a pipeline's last command has nothing to unpack; and one ends with 0.
    for (number, command) in [
        format!("gzip -dc < {hidden}/%f.gz > \\\"%p\\\""),
        format!("cat {hidden}/%f.gz | gzip -dc > %p"),
        format!("test ! -f {hidden}/%f.gz || gzip -dc {hidden}/%f.gz > %p"),
    ]
    .iter()
    .enumerate()
    {
        let wal = format!("{{path: {}}}, {{command: \"{command}\"}}", near.display());
        let (operator, name) = (bucket.operator(), format!("copy{number}"));
        let place = operator.place(&name).display().to_string();
        let target = ["--into", &place, "--name", "trunk", "--timeline", "1"];
        if number == 0 {
            let words = [&["restore", "--yes"], &target[..]].concat();
            let recovery = ask(&mut bucket.configured(&wal, "", &words)).ended_with(0).recovery();
            assert_paused(&recovery, &HISTORY.restore_points["trunk"]);
            operator.discards(&name);
        }
        let words = [&["plan"], &target[..]].concat();
        ask(&mut bucket.configured(&wal, "", &words)).ended_with(0);
        let timelines = ask(&mut bucket.configured(&wal, "", &["timelines"])).ended_with(0).json();
        assert_eq!(timelines["timelines"][0]["last_segment"], last.last().unwrap().as_str(), "{command}");
    }
}

#[test]
fn a_broken_command_is_never_the_end_of_wal() {
    let bucket = Bucket::of("tar-none");
    let broken = |command: &str| wrong(&ask(&mut bucket.by(command, &["timelines"])).ended_with(1), "command-broken");
    assert!(broken("/nowhere/at/all %f %p").contains("exit status 127"));
    assert!(broken("exit 9 # %f %p").contains("missing: [9]"));
    assert!(broken("kill -KILL $$ # %f %p").contains("killed by signal 9"));
    let hangs = "{command: 'sleep 1000 # %f %p', timeout: 1s}";
    let hung = ask(&mut bucket.configured(hangs, "", &["timelines"])).ended_with(1);
    assert!(wrong(&hung, "command-broken").contains("it took longer than 1.0 s"), "{}", hung.shown);
    // An operator may know what 9 means.
    let told = format!("{{command: '{} || exit 9', missing: [9]}}", bucket.s3());
    ask(&mut bucket.configured(&told, "", &["timelines"])).ended_with(0);
    for bad in ["cp /x %p", "cp /x/%f /y", "cp /x/%f %p %q"] {
        wrong(&ask(&mut bucket.by(bad, &["timelines"])).ended_with(2), "bad-command");
    }
}

/// Where even the first segment is not there, that is said with what the command said.
#[test]
fn a_command_that_gives_nothing_may_be_broken() {
    let bucket = Bucket::of("tar-none");
    fs::write(bucket.path("down"), "").unwrap();
    let listed = bucket.asks(&["backups"]).ended_with(0);
    assert!(listed.err.contains("the command does not work"), "{}", listed.shown);
    assert!(listed.err.contains("Could not connect to the endpoint URL: [31m"), "{}", listed.shown);
    let nothing = ask(&mut bucket.by("true %f %p", &["backups"])).ended_with(0);
    assert!(nothing.err.contains("exit status 0, and no file"), "{}", nothing.shown);
}

/// What a program says that ends with 1 for everything is believed only while it still gives what it gave before.
#[test]
fn a_network_that_fails_in_the_middle_is_not_the_end_of_wal() {
    let bucket = Bucket::of("tar-none");
    let all = bucket.segments(1);
    fs::write(bucket.path("goes-down"), &all[all.len() - 3]).unwrap();
    let failed = bucket.asks(&["check"]).ended_with(1);
    let said = wrong(&failed, "command-broken");
    assert!(said.contains("cannot be trusted") && said.contains("which it has given before"), "{said}");
    fs::remove_file(bucket.path("goes-down")).unwrap();
    fs::remove_file(bucket.path("down")).unwrap();
    bucket.asks(&["check"]).ended_with(0);
    let timelines = bucket.asks(&["timelines"]).ended_with(0).json();
    assert_eq!(timelines["timelines"][0]["last_segment"], all.last().unwrap().as_str());
    assert_eq!(timelines["timelines"][0]["gaps"], serde_json::json!([]));
}

#[test]
fn a_gap_is_found_and_may_be_filled() {
    let bucket = Bucket::of("tar-none");
    let all = bucket.segments(1);
    let lost = &all[all.len() - 4];
    fs::rename(bucket.hidden(lost), bucket.path("lost")).unwrap();
    let checked = bucket.asks(&["check"]).ended_with(3);
    assert!(
        findings(&checked).iter().any(|(code, said)| code == "wal-missing" && said.contains(lost)),
        "{}",
        checked.shown
    );
    let gaps = bucket.asks(&["timelines"]).ended_with(0).json()["timelines"][0]["gaps"].clone();
    assert_eq!((&gaps[0]["first"], &gaps[0]["last"]), (&Value::from(lost.as_str()), &Value::from(lost.as_str())));
    fs::rename(bucket.path("lost"), bucket.hidden(lost)).unwrap();
    bucket.asks(&["check"]).ended_with(0);
}

#[test]
fn what_is_given_and_wrong_is_damage() {
    let bucket = Bucket::of("tar-none");
    let all = bucket.segments(1);
    let [short, other] = [2, 4].map(|behind| all[all.len() - behind].clone());
    let bytes = fs::read(bucket.hidden(&short)).unwrap();
    fs::write(bucket.hidden(&short), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(bucket.hidden(&other), bytes).unwrap();
    let checked = bucket.asks(&["check"]).ended_with(3);
    let said: Vec<String> = findings(&checked).into_iter().map(|(_, said)| said).collect();
    let tells = |name: &str, what: &str| said.iter().any(|said| said.contains(name) && said.contains(what));
    assert!(tells(&short, "it has 524288 bytes instead of 1048576"), "{}", checked.shown);
    assert!(tells(&other, "its first page is that of"), "{}", checked.shown);
    let place = bucket.path("copy").display().to_string();
    bucket.asks(&["restore", "--latest", "--timeline", "1", "--into", &place, "--yes"]).ended_with(4);
    assert!(!bucket.path("copy").exists());
}

/// The plan knows a segment that is not there any more when the server comes to it: recovery stops, and nothing is
/// promoted.
#[test]
fn a_segment_that_is_gone_before_the_stop_stops_recovery() {
    let bucket = Bucket::of("tar-none");
    bucket.asks(&["check"]).ended_with(0);
    let all = bucket.segments(1);
    let lost = &all[all.len() - 4];
    fs::rename(bucket.hidden(lost), bucket.path("lost")).unwrap();
    let operator = bucket.operator();
    let place = operator.place("copy").display().to_string();
    let words = ["restore", "--name", "trunk", "--timeline", "1", "--action", "promote", "--into", &place, "--yes"];
    let failed = bucket.asks(&words).ended_with(1);
    let log = fs::read_to_string(operator.place("copy").join(".walback/server.log")).unwrap();
    let says = format!("cannot get {lost} from the archive");
    assert!(log.contains(&says) && log.contains("it lies before the predicted stop"), "{log}\n{}", failed.shown);
    assert!(log.contains("An error occurred (404)"), "{log}");
    assert_eq!(operator.status("copy")["state"], "failed");
    assert!(!operator.place("copy").join("pg_wal/00000003.history").exists(), "nothing was promoted");
    assert!(operator.place("copy").join("recovery.signal").exists());
    fs::rename(bucket.path("lost"), bucket.hidden(lost)).unwrap();
    let resumed = operator.about(&["resume", "copy"]).ended_with(0).recovery();
    assert_eq!(resumed["state"], "promoted", "{resumed:#}");
    operator.about(&["stop", "copy"]).ended_with(0);
    operator.discards("copy");
}

#[test]
fn no_more_is_kept_than_is_allowed_and_two_at_once_are_no_trouble() {
    let bucket = Bucket::of("tar-none");
    let wal = format!("{{command: '{}'}}", bucket.s3());
    let words = ["points", "--kind", "restore-point"];
    // Both before either runs: each writes the configuration that both read.
    let [mut one, mut other] = [(); 2].map(|()| bucket.configured(&wal, "fetched: 5MB", &words));
    let other = other.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let one = ask(&mut one);
    let other = other.wait_with_output().unwrap();
    assert!(other.status.success(), "{}", String::from_utf8_lossy(&other.stderr));
    assert_eq!(String::from_utf8_lossy(&other.stdout), one.out);
    let kept = bucket.kept();
    assert!(!kept.is_empty() && kept.len() <= 5 && bucket.segments(1).len() > 6, "{kept:?}");
    for path in kept {
        assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20, "{path:?}");
        assert_eq!(
            fs::read(&path).unwrap(),
            fs::read(bucket.hidden(path.file_name().unwrap().to_str().unwrap())).unwrap()
        );
    }
    assert_eq!(lines(&one), lines(&bucket.asks(&words)));
}

#[test]
fn an_interrupt_ends_the_command() {
    let bucket = Bucket::of("tar-none");
    let pid = bucket.path("pid");
    let hangs = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait # %f %p", pid.display());
    let mut program = bucket.by(&hangs, &["timelines"]);
    let mut program = program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let sleeps = wait_until("command at work", LIMIT, || fs::read_to_string(&pid).ok()?.trim().parse::<u32>().ok());
    kill(Pid::from_raw(i32::try_from(program.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(program.wait().unwrap().code(), Some(130));
    wait_until("end of the command", LIMIT, || (!is_running(sleeps)).then_some(()));
}

#[test]
fn a_password_in_a_command_is_in_the_plan_and_nowhere_else() {
    let bucket = Bucket::of("tar-none");
    let secret = "hunter2hunter2";
    let command = format!("TOKEN={secret} {}", bucket.s3());
    for words in [&["check"][..], &["timelines"], &["points"]] {
        let answer = ask(&mut bucket.by(&command, words)).ended_with(0);
        assert!(!answer.out.contains(secret) && !answer.err.contains(secret), "{}", answer.shown);
    }
    fs::write(bucket.path("goes-down"), bucket.segments(1).last().unwrap()).unwrap();
    let failed = ask(&mut bucket.by(&format!("TOKEN={secret} /nowhere/at/all %f %p"), &["check"])).ended_with(1);
    assert!(!failed.out.contains(secret) && !failed.err.contains(secret), "{}", failed.shown);
    let kept = Command::new("grep").args(["-r", secret]).arg(bucket.path("home/.cache")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "");
    fs::remove_file(bucket.path("goes-down")).unwrap();
    let place = bucket.path("copy").display().to_string();
    let plan = ask(&mut bucket.by(&command, &["plan", "--latest", "--into", &place])).ended_with(0);
    assert!(plan.out.contains(secret), "the operator sees what will run");
}

/// The runbook has the operator's own command; a server does by hand what it does by Walback.
#[test]
fn a_program_that_the_server_s_user_has_not_is_found_before() {
    let bucket = Bucket::of("tar-none");
    let place = bucket.path("copy").display().to_string();
    let script = bucket.path("book.sh");
    let words = ["plan", "--latest", "--timeline", "1", "--into", &place, "--script", script.to_str().unwrap()];
    bucket.asks(&words).ended_with(0);
    let book = fs::read_to_string(&script).unwrap();
    assert!(book.contains(&format!("restore_command = '{}'", bucket.s3())), "{book}");
    if support::server_user().is_none() {
        return;
    }
    // Nobody but us may run it.
    std::os::unix::fs::chown(bucket.path("s3"), Some(0), Some(0)).unwrap();
    fs::set_permissions(bucket.path("s3"), fs::Permissions::from_mode(0o700)).unwrap();
    let refused = bucket.asks(&["plan", "--latest", "--timeline", "1", "--into", &place]).ended_with(3);
    let found = refused.json()["plan"]["findings"].to_string();
    assert!(found.contains(r#""command-not-runnable""#), "{found}");
}

#[test]
fn what_is_fetched_belongs_to_nobody_else() {
    let bucket = Bucket::of("tar-none");
    bucket.asks(&["--read-only", "timelines"]).ended_with(0);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o077;
    let kept = bucket.kept();
    assert!(!kept.is_empty());
    assert!(kept.iter().all(|path| mode(path.parent().unwrap()) == 0), "{kept:?}");
    let left = fs::read_dir(kept[0].parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<String> = left.map(|name| name.to_str().unwrap().to_owned()).collect();
    assert!(left.iter().all(|name| !name.starts_with("work-")), "{left:?}");
}

fn last_of_the_first(answer: &Answer) -> String {
    let timelines = answer.clone().ended_with(0).json();
    let last = &timelines["timelines"][0]["last_segment"];
    last.as_str().unwrap_or_else(|| panic!("{timelines:#}")).to_owned()
}

/// The one behind it, of segments of 1 MB.
fn following(name: &str) -> String {
    let number = u64::from_str_radix(&name[16..], 16).unwrap();
    format!("{}{:08X}", &name[..16], number + 1)
}

#[test]
fn an_archive_that_grows_is_known_to_its_end_at_once() {
    let bucket = Bucket::of("tar-none");
    let all = bucket.segments(1);
    let (before, after) = all.split_at(all.len() - 5);
    let aside = bucket.directory.create("aside");
    for name in after {
        fs::rename(bucket.hidden(name), aside.join(name)).unwrap();
    }
    fs::remove_file(bucket.hidden("00000002.history")).unwrap();
    assert_eq!(&last_of_the_first(&bucket.asks(&["timelines"])), before.last().unwrap());
    for name in after {
        fs::rename(aside.join(name), bucket.hidden(name)).unwrap();
    }
    assert_eq!(&last_of_the_first(&bucket.asks(&["timelines"])), after.last().unwrap());
}

/// As `curl` without `--fail`, which gives the page that says that there is no such file.
#[test]
fn a_command_that_gives_something_for_every_name_is_broken() {
    let bucket = Bucket::of("tar-none");
    let hidden = bucket.path("hidden").display().to_string();
    let page = "echo '<html>404 Not Found</html>' > %p";
    for command in
        [format!("{page} # %f"), format!("if test -f {hidden}/%f; then cat {hidden}/%f > %p; else {page}; fi")]
    {
        let said = wrong(&ask(&mut bucket.by(&command, &["timelines"])).ended_with(1), "command-broken");
        assert!(said.contains("it gives something that is no WAL for every name") && said.contains("--fail"), "{said}");
    }
}

#[test]
fn a_page_for_a_few_names_is_damage_and_no_timeline() {
    let bucket = Bucket::of("tar-none");
    let last = bucket.segments(1).last().unwrap().clone();
    let next = following(&last);
    for name in ["00000003.history", &next] {
        fs::write(bucket.hidden(name), "<html>503</html>\n").unwrap();
        fs::set_permissions(bucket.hidden(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let timelines = bucket.asks(&["timelines"]).ended_with(0);
    assert_eq!(timelines.json()["timelines"].as_array().unwrap().len(), 2, "{}", timelines.shown);
    let checked = bucket.asks(&["check"]).ended_with(3);
    let said: Vec<String> = findings(&checked).into_iter().map(|(_, said)| said).collect();
    for name in ["00000003.history", &next] {
        assert!(said.iter().any(|said| said.contains(name) && said.contains("is not that")), "{}", checked.shown);
    }
}

#[test]
fn an_odd_name_in_a_directory_does_not_make_it_ask_for_ever() {
    let bucket = Bucket::of("tar-none");
    let near = bucket.directory.create("near");
    let first = bucket.segments(1)[0].clone();
    for name in ["0FFFFFFF0000000000000001", "000000010FFFFFFF00000001"] {
        fs::copy(bucket.hidden(&first), near.join(name)).unwrap();
    }
    let wal = format!("{{path: {}}}, {{command: '{}'}}", near.display(), bucket.s3());
    ask(&mut bucket.configured(&wal, "", &["timelines"])).ended_with(0);
    let calls = bucket.calls();
    let histories: Vec<&String> = calls.iter().filter(|call| call.contains(".history ")).collect();
    assert!(calls.iter().any(|call| call == "00000002.history given"), "{calls:?}");
    assert!(calls.iter().any(|call| call == "10000000.history missing"), "{calls:?}");
    assert!(histories.len() <= 12, "{histories:?}");
}

#[test]
fn a_proof_that_was_removed_does_not_make_the_command_broken() {
    let bucket = Bucket::of("tar-none");
    bucket.asks(&["timelines"]).ended_with(0);
    let all = bucket.segments(1);
    let kept: Vec<String> =
        bucket.kept().iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    fs::remove_file(bucket.hidden("00000002.history")).unwrap();
    let lost = all.iter().rev().find(|name| !kept.contains(name)).unwrap();
    fs::remove_file(bucket.hidden(lost)).unwrap();
    let checked = bucket.asks(&["check"]);
    assert!(!checked.out.contains("cannot be trusted"), "{}", checked.shown);
}

#[test]
fn a_history_that_breaks_off_is_refused() {
    let bucket = Bucket::of("tar-none");
    let history = bucket.hidden("00000002.history");
    let text = fs::read_to_string(&history).unwrap();
    fs::write(&history, text.trim_end()).unwrap();
    let checked = bucket.asks(&["check"]);
    let said = findings(&checked);
    assert!(said.iter().any(|(_, said)| said.contains("it breaks off within a line")), "{}", checked.shown);
}
