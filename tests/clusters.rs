//! What the other tests stand on: real clusters, their archives and backups, the program, and a terminal.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::{Cluster, Directory, Format, Options, Server, Stop, Tmux, as_server, tree_digest, walback};

/// Archives, is backed up in three forms, and goes on on a second timeline from one of them.
fn a_cluster_lives(major: u16, options: &Options, restored: Format) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &server, options);
    assert!(cluster.psql("show server_version").starts_with(&major.to_string()));

    let backups = [(Format::Tar, "tar"), (Format::TarGz, "tar-gz"), (Format::Plain, "plain")];
    let backups = backups.map(|(format, name)| cluster.base_backup(format, name));
    for (backup, file) in backups.iter().zip(["base.tar", "base.tar.gz", "backup_label"]) {
        assert!(backup.path.join(file).is_file(), "{backup:?} has no {file}");
    }
    let first = fs::read(backups[0].path.join("base.tar")).unwrap();
    assert!(first.starts_with(b"backup_label\0"), "a backup's first member is its label");

    cluster.psql("create table kept (n int); insert into kept values (1)");
    let before = cluster.restore_point("before");
    assert!(before.parse::<walback::core::Lsn>().is_ok(), "{before}");
    cluster.psql("insert into kept values (2)");
    let segment = cluster.switch_and_wait_archived();
    assert_eq!(cluster.switch_and_wait_archived(), segment, "nothing was written in between");
    let kept = tree_digest(&directory.path().join("backups"));

    let backup = backups.iter().find(|backup| backup.format == restored).unwrap();
    let copy = cluster.promote_copy(backup, "copy", &[("recovery_target_name", "before")]);
    assert_eq!((copy.timeline(), copy.psql("select * from kept").as_str()), (2, "1"));
    copy.psql("insert into kept values (3)");
    assert!(copy.switch_and_wait_archived().starts_with("00000002"));
    copy.stop(Stop::Fast);
    tree_digest(&directory.path().join("backups")).assert_same_as(&kept);
    cluster.stop(Stop::Immediate);
}

#[test]
fn a_cluster_of_13_lives() {
    a_cluster_lives(13, &Options::default(), Format::Tar);
}

#[test]
fn a_cluster_of_14_lives() {
    a_cluster_lives(14, &Options { segment_mib: 1, ..Options::default() }, Format::TarGz);
}

#[test]
fn a_cluster_of_15_lives() {
    a_cluster_lives(15, &Options { gzip: true, ..Options::default() }, Format::TarGz);
}

#[test]
fn a_cluster_of_16_lives() {
    a_cluster_lives(16, &Options { checksums: true, ..Options::default() }, Format::Plain);
}

#[test]
fn a_cluster_of_17_lives() {
    a_cluster_lives(17, &Options { segment_mib: 1, gzip: true, ..Options::default() }, Format::Tar);
}

#[test]
fn a_cluster_of_18_lives() {
    let settings = vec![("log_line_prefix", "it's %m ".to_owned())];
    a_cluster_lives(18, &Options { settings, ..Options::default() }, Format::TarGz);
}

#[test]
fn a_held_session_keeps_its_transaction_open() {
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &Server::v15(), &Options::default());
    cluster.psql("create table kept (n int)");
    let mut session = cluster.session();
    assert_eq!(session.query("begin; insert into kept values (1), (2) returning n;"), "1\n2");
    assert_eq!(cluster.psql("select count(*) from kept"), "0");
    session.query("commit;");
    assert_eq!(cluster.psql("select count(*) from kept"), "2");
}

#[test]
fn nothing_survives_a_panic() {
    let mut path = None;
    let mut pid = String::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let directory = Directory::new();
        path = Some(directory.path().to_owned());
        let cluster = Cluster::create(&directory, &Server::v15(), &Options::default());
        pid = fs::read_to_string(cluster.data.join("postmaster.pid")).unwrap().lines().next().unwrap().to_owned();
        assert!(Path::new("/proc").join(&pid).exists());
        panic!("as a failed test does");
    }));
    assert!(outcome.is_err());
    assert!(path.is_some_and(|path| !path.exists()), "the directory is still there");
    let state = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    assert!(state.is_empty(), "the server still runs: {state}");
}

#[test]
fn a_digest_sees_every_change() {
    let directory = Directory::new();
    let tree = directory.create("tree");
    fs::write(tree.join("a file"), "one").unwrap();
    fs::create_dir(tree.join("folder")).unwrap();
    let time = fs::metadata(tree.join("a file")).unwrap().modified().unwrap();
    let before = tree_digest(&tree);
    assert_eq!((before.len(), tree_digest(&tree)), (3, before.clone()));

    fs::write(tree.join("a file"), "two").unwrap();
    fs::File::options().write(true).open(tree.join("a file")).unwrap().set_modified(time).unwrap();
    let changed = tree_digest(&tree);
    assert_eq!(changed.differences(&before).len(), 2, "the content alone has changed");
    fs::File::options().write(true).open(tree.join("a file")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_ne!(tree_digest(&tree), changed, "the time alone has changed");
    fs::rename(tree.join("folder"), tree.join("other")).unwrap();
    assert!(
        tree_digest(&tree).differences(&before).iter().any(|line| line.starts_with("+ ") && line.contains("/other: "))
    );
}

#[test]
fn the_program_runs_in_a_place_of_its_own() {
    let directory = Directory::new();
    let mut command = walback(&directory);
    let status = command.arg("--version").status().unwrap();
    assert!(status.success());
    let home = command.get_envs().find(|(name, _)| *name == "HOME").and_then(|(_, value)| value).unwrap();
    assert!(Path::new(home).starts_with(directory.path()));
    let status = as_server(command.get_program()).arg("--version").status().unwrap();
    assert!(status.success(), "a server cannot run {command:?} as its restore_command");
}

#[test]
fn a_terminal_shows_what_is_typed_and_how_it_ended() {
    let limit = Duration::from_secs(20);
    let directory = Directory::new();
    let mut command = Command::new("sh");
    command
        .args(["-c", "printf '%s\\n' \"$GREETING\"; stty size; read -r word; echo \"<$word>\"; read -r word; exit 3"]);
    command.env("GREETING", "it's ready;").env("PATH", "/usr/bin:/bin").current_dir(directory.path());
    let tmux = Tmux::start(&directory, &command, 60, 12);
    let screen = tmux.wait_for("12 60", limit);
    assert!(screen.starts_with("it's ready;\n"), "{screen}");
    tmux.type_text("größer -x;");
    tmux.send(&["Enter"]);
    tmux.wait_for("<größer -x;>", limit);
    tmux.send(&["Enter"]);
    assert_eq!(tmux.wait_for_exit(limit), 3);
    assert!(tmux.screen().contains("<größer -x;>"), "the screen stays when the program has ended");
}
