//! Forward and back with real servers: when a copy can go to another target as it is, and when it must not.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use support::{
    Cluster, Directory, Format, LIMIT, Operator, Options, Server, Stop, Tmux, assert_is, assert_paused, rows, run, sql,
    walback,
};
use walback::core::Lsn;

/// A cluster whose servers write nothing of themselves, and the places in its past.
struct Past<'a> {
    directory: &'a Directory,
    cluster: Cluster<'a>,
}

impl<'a> Past<'a> {
    #[track_caller]
    fn begin(directory: &'a Directory, server: &Server) -> Past<'a> {
        let settings = [
            ("autovacuum", "off"),
            // What a paused copy writes of itself is for the server to decide; here nothing is to be left to chance.
            ("bgwriter_lru_maxpages", "0"),
            ("checkpoint_timeout", "1d"),
            ("max_prepared_transactions", "4"),
        ];
        let settings = settings.map(|(name, value)| (name, value.to_owned())).to_vec();
        let cluster = Cluster::create(directory, server, &Options { segment_mib: 1, settings, ..Options::default() });
        cluster.psql("create table kept (n int); insert into kept values (0)");
        cluster.base_backup(Format::TarGz, "monday");
        Past { directory, cluster }
    }

    /// A commit, and the rows behind it.
    #[track_caller]
    fn insert(&self, n: u32) -> String {
        self.cluster.psql(&format!("insert into kept values ({n})"));
        rows(&self.cluster)
    }

    #[track_caller]
    fn end(self) -> Operator<'a> {
        self.cluster.switch_and_wait_archived();
        let archive = self.cluster.archive.clone();
        self.cluster.stop(Stop::Fast);
        Operator { directory: self.directory, backups: self.directory.path().join("backups"), archive }
    }
}

/// Restores with the programs of that server.
#[track_caller]
fn restore(operator: &Operator<'_>, server: &Server, words: &[&str], expected: &str) -> Value {
    let bin_dir = server.bin_dir.to_str().unwrap();
    operator.recovers("copy", &[words, &["--bin-dir", bin_dir]].concat(), expected)
}

#[track_caller]
fn retarget(operator: &Operator<'_>, words: &[&str], strategy: &str, expected: &str) -> Value {
    let recovery = operator.about(&[&["retarget", "copy", "--yes"], words].concat()).ended_with(0).recovery();
    assert_paused(&recovery, expected);
    assert_is(&recovery, "strategy", strategy);
    recovery
}

/// What it would do: the way, and why not a shorter one.
#[track_caller]
fn approach(operator: &Operator<'_>, words: &[&str]) -> (String, String) {
    let planned = operator.about(&[&["retarget", "copy", "--dry-run"], words].concat()).ended_with(0).json();
    let word = |name: &str| planned["approach"][name].as_str().unwrap().to_owned();
    (word("strategy"), word("why"))
}

/// Each commit forward and back in place, as often as wanted; and anew once the copy has written what it replayed.
#[track_caller]
fn to_and_fro(major: u16) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::new();
    let past = Past::begin(&directory, &server);
    let all: Vec<String> = (1..=4).map(|n| past.insert(n)).collect();
    past.cluster.restore_point("fourth");
    let operator = past.end();
    let third = all[2].as_str();
    restore(&operator, &server, &["--name", "fourth"], &all[3]);
    for _ in 0..2 {
        retarget(&operator, &["--previous"], "in-place", third);
        retarget(&operator, &["--previous"], "in-place", &all[1]);
        retarget(&operator, &["--next"], "in-place", third);
        retarget(&operator, &["--next"], "in-place", &all[3]);
    }
    // A stopped one goes back as well: it was stopped so that it can.
    operator.about(&["stop", "copy"]).ended_with(0);
    let recovery = retarget(&operator, &["--previous"], "in-place", third);
    // A restartpoint, or what comes as near to one as it can where there was no new checkpoint.
    sql(&recovery, "checkpoint");
    let (strategy, why) = approach(&operator, &["--previous"]);
    assert!(strategy == "unpack" && why.contains("the copy's files have changes up to"), "{strategy}: {why}");
    retarget(&operator, &["--next"], "in-place", &all[3]);
    retarget(&operator, &["--previous"], "in-place", third);
    retarget(&operator, &["--previous"], "unpack", &all[1]);
    assert_eq!(operator.about(&["retarget", "copy", "--next", "--previous"]).status, 2);
    let none = operator.about(&["retarget", "copy", "--yes", "--immediate"]).ended_with(0).recovery();
    assert_is(&none, "state", "paused");
    let refused = operator.about(&["retarget", "copy", "--previous"]).ended_with(4);
    assert_eq!(refused.json()["error"]["code"], "no-commit", "{}", refused.shown);
    operator.discards("copy");
}

#[test]
fn commits_forward_and_back_on_13() {
    to_and_fro(13);
}

#[test]
fn commits_forward_and_back_on_15() {
    to_and_fro(15);
}

#[test]
fn commits_forward_and_back_on_17() {
    to_and_fro(17);
}

#[test]
fn commits_forward_and_back_on_18() {
    to_and_fro(18);
}

/// Small buffers: the pages had to be written while they were replayed.
#[test]
fn a_copy_that_had_to_write_does_not_go_back_in_place() {
    let directory = Directory::new();
    let past = Past::begin(&directory, &Server::v15());
    let before = past.insert(1);
    past.cluster.restore_point("before");
    past.cluster.psql("create table large as select n, repeat('x', 500) from generate_series(1, 40000) n");
    past.insert(2);
    past.cluster.restore_point("behind");
    let operator = past.end();
    let words = ["--name", "behind", "--set", "shared_buffers=1MB"];
    restore(&operator, &Server::v15(), &words, "0,1,2");
    let (strategy, why) = approach(&operator, &["--name", "before"]);
    assert!(strategy == "unpack" && why.contains("changes up to"), "{strategy}: {why}");
    let recovery = retarget(&operator, &["--name", "before"], "unpack", &before);
    assert_eq!(sql(&recovery, "select to_regclass('large') is null"), "t");
}

/// What replay does to files at once does not go back, whatever `pg_control` says: the accident would stay.
#[test]
fn a_copy_that_dropped_something_does_not_go_back_in_place() {
    let directory = Directory::new();
    let past = Past::begin(&directory, &Server::v15());
    past.cluster.psql("create database shop");
    past.cluster.psql("create table orders as select generate_series(1, 100) n");
    past.cluster.restore_point("whole");
    past.cluster.psql("begin; insert into kept values (5); prepare transaction 'half'");
    past.cluster.restore_point("prepared");
    past.cluster.psql("commit prepared 'half'");
    past.cluster.restore_point("committed");
    past.cluster.psql("drop database shop");
    let until: Lsn = past.cluster.restore_point("dropped").parse().unwrap();
    past.cluster.psql("drop table orders");
    past.cluster.restore_point("gone");
    let operator = past.end();

    let points = support::ask(&mut operator.command(&["points", "--kind", "commit"])).ended_with(0).lines();
    let commits = points.iter().map(|point| point["lsn"].as_str().unwrap().parse().unwrap());
    let drop_of_shop: Lsn = commits.filter(|lsn| *lsn < until).max().unwrap();

    restore(&operator, &Server::v15(), &["--name", "committed"], "0,5");
    let (strategy, why) = approach(&operator, &["--name", "prepared"]);
    assert!(strategy == "unpack" && why.contains("a prepared transaction ended"), "{strategy}: {why}");
    retarget(&operator, &["--name", "prepared"], "unpack", "0");
    // Its commit is noted, but its files go before that.
    let commit = drop_of_shop.to_string();
    let words = ["retarget", "copy", "--yes", "--lsn", &commit, "--exclusive"];
    let between = operator.about(&words).ended_with(0).recovery();
    assert_is(&between, "matches_prediction", true);
    assert_is(&between, "strategy", "in-place");
    let (strategy, why) = approach(&operator, &["--name", "committed"]);
    assert!(strategy == "unpack" && why.contains("a database was dropped"), "{strategy}: {why}");
    let back = retarget(&operator, &["--name", "committed"], "unpack", "0,5");
    let shop = support::connection_to(&back, "shop");
    assert_eq!(run(support::client("psql").args(["-XAtq", "-d", &shop, "-c", "select 1"])), "1");
    retarget(&operator, &["--name", "gone"], "in-place", "0,5");
    let (strategy, why) = approach(&operator, &["--name", "dropped"]);
    assert!(strategy == "unpack" && why.contains("changes up to"), "{strategy}: {why}");
    let back = retarget(&operator, &["--name", "dropped"], "unpack", "0,5");
    assert_eq!(sql(&back, "select count(*) from orders"), "100");
}

/// What holds when it is asked for need not hold when the server is stopped: the operator agreed to that.
#[test]
fn what_the_copy_does_meanwhile_is_found_once_it_is_stopped() {
    let directory = Directory::new();
    let past = Past::begin(&directory, &Server::v15());
    let first = past.insert(1);
    let second = past.insert(2);
    past.cluster.restore_point("here");
    let operator = past.end();
    let begun = restore(&operator, &Server::v15(), &["--name", "here"], &second);
    let mut ask = walback(&directory);
    ask.args(["retarget", "copy", "--previous"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$@\"; echo \"left with $?\"; read -r line", "sh"]).arg(ask.get_program()).args(ask.get_args());
    shell.envs(ask.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let tmux = Tmux::start(&directory, &shell, 160, 40);
    let screen = tmux.wait_for("Type copy to go on", LIMIT);
    assert!(
        screen.contains("It goes there in place (") && screen.contains("else it unpacks the base backup"),
        "{screen}"
    );
    sql(&begun, "checkpoint");
    tmux.type_text("copy");
    tmux.send(&["Enter"]);
    let screen = tmux.wait_for("left with 0", LIMIT);
    assert!(screen.contains("the way is unpack, because the copy's files have changes up to"), "{screen}");
    let recovery = operator.status("copy");
    assert_paused(&recovery, &first);
    assert_is(&recovery, "strategy", "unpack");
    let journal = fs::read_to_string(operator.journal("copy")).unwrap();
    let said = journal.lines().find(|line| line.contains("\"event\":\"approach\"")).unwrap();
    let said: Value = serde_json::from_str(said).unwrap();
    assert_is(&said, "strategy", "unpack");
    assert!(said["why"].as_str().unwrap().contains("changes up to"), "{said:#}");
}

/// A copy that is kept serves to go back to, as often as wanted, and goes when the recovery goes.
#[test]
fn a_kept_copy_is_gone_back_to_instead_of_unpacking() {
    let directory = Directory::new();
    let past = Past::begin(&directory, &Server::v15());
    let before = past.insert(1);
    past.cluster.restore_point("before");
    past.cluster.psql("create table gone (n int); drop table gone");
    past.cluster.restore_point("behind");
    let operator = past.end();
    let kept = operator.place("copy.pristine");
    let words = ["--name", "behind", "--keep-pristine=copy"];
    let planned = support::ask(operator.command(&["plan"]).args(words).arg("--into").arg(operator.place("copy")));
    let plan = &planned.ended_with(0).json()["plan"];
    let steps: Vec<&str> = plan["steps"].as_array().unwrap().iter().map(|step| step["id"].as_str().unwrap()).collect();
    assert_eq!(steps, ["unpack", "snapshot", "configure", "start", "replay"]);
    let recovery = restore(&operator, &Server::v15(), &words, "0,1");
    assert!(recovery["phases"].as_array().unwrap().iter().any(|phase| phase["step"] == "snapshot"), "{recovery:#}");
    assert!(!kept.join("recovery.signal").exists() && !kept.join("postmaster.pid").exists());
    // Nothing is unpacked any more: the backup may be gone, but for what says that it is one.
    let base = operator.backups.join("monday/base.tar.gz");
    let bytes = fs::metadata(&base).unwrap().len();
    fs::write(&base, vec![0; usize::try_from(bytes).unwrap()]).unwrap();
    for _ in 0..2 {
        let back = retarget(&operator, &["--name", "before"], "snapshot", &before);
        let steps: Vec<&str> =
            back["phases"].as_array().unwrap().iter().map(|phase| phase["step"].as_str().unwrap()).collect();
        assert_eq!(steps, ["stop", "discard", "snapshot", "configure", "start", "replay"]);
        retarget(&operator, &["--name", "behind"], "in-place", "0,1");
    }
    // Half a copy is none, and without the backup there is no other way.
    fs::remove_file(kept.join(".walback/whole")).unwrap();
    let refused = operator.about(&["retarget", "copy", "--yes", "--name", "before"]).ended_with(1);
    assert_eq!(refused.json()["error"]["code"], "backup-gone", "{}", refused.shown);
    assert_paused(&operator.status("copy"), "0,1");
    operator.discards("copy");
    assert!(!kept.exists());
}

#[test]
fn a_kept_copy_goes_with_promotion_and_is_never_put_over_anything() {
    let directory = Directory::new();
    let past = Past::begin(&directory, &Server::v15());
    past.cluster.restore_point("here");
    let operator = past.end();
    let kept = operator.place("copy.pristine");
    let words = ["--name", "here", "--keep-pristine=copy"];
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("mine"), "").unwrap();
    let refused = support::ask(&mut operator.restore("copy", &words)).ended_with(3);
    assert!(refused.shown.contains("where the kept copy goes, there is something"), "{}", refused.shown);
    assert!(kept.join("mine").exists() && !operator.place("copy").exists());
    fs::remove_dir_all(&kept).unwrap();
    restore(&operator, &Server::v15(), &words, "0");
    assert!(kept.join("PG_VERSION").exists());
    operator.about(&["promote", "copy", "--yes"]).ended_with(0);
    assert!(!kept.exists(), "there is no way back any more");
    operator.about(&["stop", "copy"]).ended_with(0);
    operator.discards("copy");
    // What cannot be removed is said to be left, and the promotion holds.
    let again = restore(&operator, &Server::v15(), &words, "0");
    let version = kept.join("PG_VERSION");
    let immutable = |how: &str| {
        let done = Command::new("chattr").arg(how).arg(&version).output();
        done.is_ok_and(|output| output.status.success())
    };
    if !immutable("+i") {
        let _ = std::io::stderr().write_all(b"no file can be made immutable here: not tested\n");
        return;
    }
    let promoted = operator.about(&["promote", again["id"].as_str().unwrap(), "--yes", "--events"]);
    assert!(immutable("-i"));
    let lines = promoted.ended_with(0).lines();
    let left = lines.iter().find(|line| line["code"] == "pristine-left").unwrap();
    assert_eq!(left["severity"], "warning", "{left:#}");
}

/// A file system in a file, taken away when this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where this machine cannot make or mount one.
    fn xfs(directory: &Directory) -> Option<Mounted> {
        let (image, place) = (directory.path().join("xfs.img"), directory.path().join("xfs"));
        fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
        let done = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        if !done(Command::new("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&image)) {
            return None;
        }
        fs::create_dir(&place).unwrap();
        done(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&place)).then(|| {
            fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
            Mounted(place)
        })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_kept_copy_shares_its_blocks_where_the_file_system_can_do_that() {
    let directory = Directory::new();
    let Some(mounted) = Mounted::xfs(&directory) else {
        let _ = std::io::stderr()
            .write_all(b"SKIPPED: no xfs with reflinks can be made here, and no copy is kept that shares blocks\n");
        return;
    };
    let past = Past::begin(&directory, &Server::v15());
    let before = past.insert(1);
    past.cluster.restore_point("before");
    past.insert(2);
    past.cluster.restore_point("behind");
    let operator = past.end();
    let into = mounted.0.join("copy");
    let mut restore = operator.command(&["restore", "--yes", "--name", "behind", "--keep-pristine", "--into"]);
    let recovery = support::ask(restore.arg(&into)).ended_with(0).recovery();
    assert_paused(&recovery, "0,1,2");
    let kept = mounted.0.join("copy.pristine");
    assert!(kept.join("PG_VERSION").exists());
    // What nobody changed since has its blocks twice: both files are said to share them.
    let map = run(Command::new("xfs_io").args(["-r", "-c", "fiemap -v"]).arg(kept.join("global/pg_filenode.map")));
    let flags = map.lines().last().and_then(|line| line.split_whitespace().last()).unwrap();
    let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap();
    assert!(flags & 0x2000 != 0, "FIEMAP_EXTENT_SHARED is not among the flags: {map}");
    sql(&recovery, "checkpoint");
    retarget(&operator, &["--name", "before"], "snapshot", &before);
    operator.about(&["discard", "copy", "--yes"]).ended_with(0);
    assert!(!kept.exists() && !into.exists());
}
