//! Archives as PostgreSQL's tools and the usual scripts leave them: whatever form they have, they are read and recovered
//! from as the plain one is. What single forms need besides is in `compressed.rs`, `fetch.rs` and `fetched.rs`.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use nix::sys::stat::Mode;
use serde_json::Value;
use support::{
    Cluster, Directory, Format, History, LIMIT, Operator, Options, ROWS, Server, Stop, as_operator, as_server, ask,
    assert_paused, run, server_user, sql, tree_digest, wait_until, walback,
};
use walback::config::SourceConfig;
use walback::core::SegmentName;
use walback::source::{Cancel, LocalSource, Source};

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

/// The programs that scripts pack with, and what they add to a file's name.
const PROGRAMS: [(&str, &str); 5] =
    [("gzip", ".gz"), ("lz4", ".lz4"), ("zstd", ".zst"), ("xz", ".xz"), ("bzip2", ".bz2")];

/// The names of an archive's files, in order.
fn names(archive: &Path) -> Vec<String> {
    let names = fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Packs a file by the system's program, under another name.
fn pack(program: &str, from: &Path, to: &Path) {
    let (input, output) = (File::open(from).unwrap(), File::create(to).unwrap());
    assert!(Command::new(program).args(["-1", "-c"]).stdin(input).stdout(output).status().unwrap().success());
    fs::remove_file(from).unwrap();
}

/// Every file packed, with an ending or without: one in each form, and one of six as it is.
fn packed(archive: &Path, marked: bool) {
    for (name, form) in names(archive).iter().zip(PROGRAMS.iter().map(Some).chain([None]).cycle()) {
        let Some((program, ending)) = form else { continue };
        let (file, aside) = (archive.join(name), archive.join("aside"));
        fs::rename(&file, &aside).unwrap();
        pack(program, &aside, &archive.join(format!("{name}{}", if marked { ending } else { "" })));
    }
}

/// Into folders of this many digits, but for history files.
fn sorted(archive: &Path, digits: usize) {
    for name in names(archive).into_iter().filter(|name| name.len() > digits && !name.contains(".history")) {
        let folder = archive.join(&name[..digits]);
        fs::create_dir_all(&folder).unwrap();
        fs::rename(archive.join(&name), folder.join(&name)).unwrap();
    }
}

/// What somebody did to an archive who stores it in another form.
type Form = fn(&Path);

/// Each form, by name, but for those with one packing alone.
const FORMS: [(&str, Form); 6] = [
    ("every packing in one directory", |archive| packed(archive, true)),
    ("folders as Barman has them", |archive| sorted(archive, 16)),
    ("folders as Barman has them, packed and called as if not", |archive| {
        packed(archive, false);
        sorted(archive, 16);
    }),
    ("a folder for each timeline, with its history file, packed", |archive| {
        packed(archive, true);
        sorted(archive, 8);
        for name in names(archive).into_iter().filter(|name| name.contains(".history")) {
            let folder = archive.join(&name[..8]);
            fs::create_dir_all(&folder).unwrap();
            fs::rename(archive.join(&name), folder.join(&name)).unwrap();
        }
    }),
    ("packed and called as if not", |archive| packed(archive, false)),
    ("all at once", |archive| {
        let aside = archive.join("aside");
        fs::create_dir(&aside).unwrap();
        for name in names(archive).into_iter().filter(|name| name != "aside").step_by(3) {
            fs::rename(archive.join(&name), aside.join(&name)).unwrap();
        }
        packed(&aside, true);
        sorted(&aside, 8);
        run(Command::new("sh").args(["-c", "cd \"$1\" && cp -a aside/. . && rm -r aside", "sh"]).arg(archive));
        for name in names(archive).into_iter().filter(|name| name.len() == 24).step_by(2) {
            let folder = archive.join(&name[..16]);
            fs::create_dir_all(&folder).unwrap();
            fs::rename(archive.join(&name), folder.join(&name)).unwrap();
        }
    }),
];

#[test]
fn every_form_says_what_the_plain_one_says() {
    let plain_directory = Directory::new();
    let plain = Operator::of(&plain_directory, &HISTORY, "");
    for (name, arrange) in FORMS {
        let directory = Directory::new();
        let operator = Operator::of_copies(&directory, &HISTORY, "");
        arrange(&operator.archive);
        let before = tree_digest(&operator.archive);
        for words in [&["points"][..], &["timelines"], &["backups"], &["locate", "--name", "on the branch"]] {
            let told = ask(&mut operator.command(words)).ended_with(0);
            let expected = ask(&mut plain.command(words)).ended_with(0);
            let backups = |text: &str| text.replace("the-backup", "backups").replace(directory_of(&operator), "");
            assert_eq!(
                backups(&told.out),
                backups(&expected.out.replace(HISTORY.directory.path().to_str().unwrap(), "")),
                "{name}: {words:?}"
            );
        }
        let (told, expected) = (findings(&operator), findings(&plain));
        assert_eq!(told, expected, "{name}");
        tree_digest(&operator.archive).assert_same_as(&before);
    }
}

fn directory_of<'a>(operator: &'a Operator<'_>) -> &'a str {
    operator.directory.path().to_str().unwrap()
}

/// What `check` finds, by code and file.
fn findings(operator: &Operator<'_>) -> Vec<(String, String)> {
    let report = ask(&mut operator.command(&["check"])).ended_with(0).json();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let found = report["findings"].as_array().unwrap().iter();
    found.map(|finding| (text(&finding["code"]), text(&finding["file"]))).collect()
}

#[test]
fn every_form_is_recovered_from() {
    let (accident, branch) = (HISTORY.transaction("accident"), &HISTORY.restore_points["on the branch"]);
    for (number, (name, arrange)) in FORMS.into_iter().enumerate() {
        let directory = Directory::new();
        let operator = Operator::of_copies(&directory, &HISTORY, "tar-none");
        arrange(&operator.archive);
        let before = tree_digest(&operator.archive);
        // Along one timeline and over a fork in turn.
        let (words, rows) = match number % 2 {
            0 => (&["--xid", &accident.xid, "--exclusive", "--timeline", "1"][..], &accident.before),
            _ => (&["--name", "on the branch"][..], branch),
        };
        let recovery = ask(&mut operator.restore("copy", words)).ended_with(0).recovery();
        assert_paused(&recovery, rows);
        let log = fs::read_to_string(operator.place("copy").join(".walback/server.log")).unwrap();
        assert!(!log.contains("warning: ") && !log.contains("error: "), "{name}: {log}");
        operator.discards("copy");
        tree_digest(&operator.archive).assert_same_as(&before);
    }
}

/// The runbook's shell alone finds what Walback finds.
#[test]
fn the_shell_gets_every_file_of_every_form() {
    for (name, arrange) in FORMS {
        let directory = Directory::new();
        let operator = Operator::of_copies(&directory, &HISTORY, "tar-none");
        let plain: Vec<String> =
            names(&operator.archive).into_iter().filter(|name| !name.contains(".backup")).collect();
        arrange(&operator.archive);
        let into = operator.place("never").display().to_string();
        let plan =
            ask(&mut operator.command(&["plan", "--name", "on the branch", "--into", &into])).ended_with(0).json();
        let by_hand = plan["plan"]["fetch"]["by_hand"].as_str().unwrap().to_owned();
        let data = directory.create("data");
        fs::create_dir(data.join("pg_wal")).unwrap();
        let get = |file: &str| {
            let to: PathBuf = data.join("pg_wal/RECOVERYXLOG");
            let command = by_hand.replace("%f", file).replace("%p", to.to_str().unwrap()).replace("%%", "%");
            let status = Command::new("sh").arg("-c").arg(command).current_dir(&data).stdout(Stdio::null()).status();
            (status.unwrap().code(), fs::read(&to).unwrap_or_default())
        };
        for file in plain {
            let expected = fs::read(HISTORY.archive.join(&file)).unwrap();
            assert!(get(&file) == (Some(0), expected), "{name}: {file}");
        }
        assert_eq!(get("0000000100000000000000FF").0, Some(1), "{name}");
        assert_eq!(get("00000009.history").0, Some(1), "{name}");
    }
}

/// One of everything that lies in archives and is no WAL. What it is is said, by name, and nothing of it is in the way.
#[test]
fn rubbish_is_named_and_in_nobodys_way() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "");
    let archive = &operator.archive;
    let segments: Vec<String> = names(archive).into_iter().filter(|name| name.len() == 24).collect();
    let (one, last) = (&segments[3], segments.iter().rfind(|name| name.starts_with("00000001")).unwrap());
    let behind = format!("{}F0", &last[..22]);
    let file = |name: &str| fs::write(archive.join(name), b"").unwrap();
    for name in [&format!(".{one}.swp"), &format!("{one}~"), &format!("{one}.tmp"), &format!(".{one}.Xy12")] {
        file(name);
    }
    for name in [&format!("{one}.bak"), "README", &format!("{one}.gz.old")] {
        file(name);
    }
    fs::create_dir(archive.join(&behind)).unwrap();
    fs::create_dir(archive.join(format!("{one}.gz"))).unwrap();
    fs::create_dir(archive.join("2019")).unwrap();
    nix::unistd::mkfifo(&archive.join(format!("{behind}.lz4")), Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(archive.join(format!("{behind}.xz"))).unwrap();
    symlink("/nowhere/at/all", archive.join("00000009.history")).unwrap();
    symlink("/nowhere/at/all", archive.join(format!("{one}.zst"))).unwrap();
    file("00000001000000000000000a");
    file("0000000a.history.gz");
    file("0000000100000000FFFFFFFF");
    fs::create_dir(archive.join("0000000100000007")).unwrap();
    fs::copy(archive.join(one), archive.join("0000000100000007").join(one)).unwrap();
    // A whole segment is beside each of these.
    file(&format!("{one}.bz2"));

    let plain_directory = Directory::new();
    let plain = Operator::of(&plain_directory, &HISTORY, "");
    for words in [&["points"][..], &["locate", "--name", "on the branch"]] {
        let told = ask(&mut operator.command(words)).ended_with(0);
        assert_eq!(told.out, ask(&mut plain.command(words)).ended_with(0).out, "{words:?}");
    }
    let report = ask(&mut operator.command(&["check"])).ended_with(0).json();
    let found = report["findings"].as_array().unwrap();
    let says = |code: &str, what: &[&str]| {
        let is_it = |finding: &&Value| {
            let message = finding["message"].as_str().unwrap();
            finding["code"] == code && what.iter().all(|what| message.contains(what))
        };
        assert!(found.iter().any(|finding| is_it(&finding)), "{code} {what:?}: {found:#?}");
    };
    says("temporary-files", &["4 files", ".swp", "~", ".tmp", ".Xy12"]);
    says("unknown-files", &["3 files", ".bak", "README", ".gz.old"]);
    for (name, why) in [
        (&*behind, "a directory with a file's name"),
        (&format!("{one}.gz"), "a directory with a file's name"),
        ("2019", "a directory, which is not looked into"),
        (&format!("{behind}.lz4"), "a FIFO"),
        (&format!("{behind}.xz"), "a socket"),
        ("00000009.history", "a link to nothing"),
        ("00000001000000000000000a", "small letters"),
        ("0000000a.history.gz", "small letters"),
        ("0000000100000000FFFFFFFF", "no cluster with segments of 1048576 bytes"),
        (&format!("0000000100000007/{one}"), "a folder that is not that of its name"),
    ] {
        says("odd-files", &[why, &archive.join(name).display().to_string()]);
    }
    says("segment-unusable", &[&format!("{one}.zst"), "a link to nothing", "there is a good copy"]);
    says("segment-unusable", &[&format!("{one}.bz2"), "it is empty", "there is a good copy"]);
    assert!(found.iter().all(|finding| finding["severity"] != "error"), "{found:#?}");

    let rows = &HISTORY.restore_points["on the branch"];
    let recovery = ask(&mut operator.restore("copy", &["--name", "on the branch"])).ended_with(0).recovery();
    assert_paused(&recovery, rows);
    operator.discards("copy");
}

/// One that nobody may read is one segment less, and all others are there.
#[test]
fn a_segment_without_permission_is_named_and_the_rest_is_there() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "");
    let segments: Vec<String> = names(&operator.archive).into_iter().filter(|name| name.len() == 24).collect();
    // Behind all base backups.
    let closed = operator.archive.join(segments.iter().rfind(|name| name.starts_with("00000001")).unwrap());
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let command = |words: &[&str]| match server_user() {
        Some(_) => as_operator(&operator.command(words)),
        None => operator.command(words),
    };
    let told = ask(&mut command(&["points"]));
    assert!(told.lines().len() > 10, "{}", told.shown);
    assert!(told.err.contains(closed.file_name().unwrap().to_str().unwrap()), "{}", told.err);
    let report = ask(&mut command(&["check"])).ended_with(3).json();
    let errors: Vec<&Value> =
        report["findings"].as_array().unwrap().iter().filter(|finding| finding["severity"] == "error").collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    let message = errors[0]["message"].as_str().unwrap();
    assert!(message.contains(&closed.display().to_string()) && message.contains("Permission denied"), "{message}");
    // Another archive has a copy of it, packed.
    let second = directory.create("second");
    let aside = second.join("aside");
    fs::copy(HISTORY.archive.join(closed.file_name().unwrap()), &aside).unwrap();
    pack("xz", &aside, &second.join(format!("{}.xz", closed.file_name().unwrap().to_str().unwrap())));
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(&second));
    let plain_directory = Directory::new();
    let expected = ask(&mut Operator::of(&plain_directory, &HISTORY, "").command(&["points"])).ended_with(0);
    assert_eq!(ask(&mut command(&["--wal", second.to_str().unwrap(), "points"])).ended_with(0).out, expected.out);
}

/// Something is written to a file, a little at a time, until it is let be.
fn written_to<T>(path: &Path, bytes: &[u8], watch: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let write = || {
            let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
            for some in bytes.chunks(4) {
                file.write_all(some).unwrap();
                if over.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_micros(500));
            }
        };
        let writer = scope.spawn(write);
        let _over = Over(&over);
        let watched = watch();
        over.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        watched
    })
}

/// Ends the writing also where watching it fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// `cp` and `gzip` write a segment under its final name: it is not damaged, and not there before it is whole.
#[test]
fn what_is_being_written_is_not_called_damaged() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "");
    let mut all = names(&operator.archive).into_iter();
    let last = all.rfind(|name| name.len() == 24 && name.starts_with("00000001")).unwrap();
    let (path, aside) = (operator.archive.join(&last), directory.path().join("aside"));
    fs::rename(&path, &aside).unwrap();
    let before = ask(&mut operator.command(&["locate", "--latest", "--timeline", "1"])).ended_with(0).out;
    let plain = fs::read(&aside).unwrap();
    pack("gzip", &aside, &directory.path().join("packed"));
    let packed = fs::read(directory.path().join("packed")).unwrap();
    let found = |code: &'static str| {
        let report = ask(&mut operator.command(&["check"])).json();
        let of_it = |finding: &&Value| finding["code"] == code && finding["file"] == last.as_str();
        report["findings"].as_array().unwrap().iter().find(of_it).cloned()
    };
    for (name, bytes) in [(last.clone(), &plain), (format!("{last}.gz"), &packed)] {
        let path = operator.archive.join(&name);
        let half = bytes.len() / 4;
        fs::write(&path, &bytes[..half]).unwrap();
        let growing = written_to(&path, &bytes[half..], || {
            // Where the machine is so busy that nothing is written for a while, it looks as if nobody wrote.
            wait_until("file that is still written", LIMIT, || found("segment-growing"))
        });
        assert_eq!(growing["severity"], "note", "{name}: {growing}");
        // Nobody goes on with it.
        let left = File::options().write(true).open(&path).unwrap();
        left.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        let code = if name.len() == 24 { "segment-unusable" } else { "wal-damaged" };
        let flaw = found(code).unwrap_or_else(|| panic!("{name} is cut off"));
        assert!(flaw["message"].as_str().unwrap().contains("cut off"), "{flaw}");
        fs::write(&path, bytes).unwrap();
        let after = ask(&mut operator.command(&["locate", "--latest", "--timeline", "1"])).ended_with(0).out;
        assert_ne!(after, before, "now it is whole");
        assert_eq!(found("segment-growing"), None);
        fs::remove_file(&path).unwrap();
    }
}

/// What was listed and is gone, or has another name, when it is opened.
#[test]
fn files_may_vanish_and_be_renamed_between_listing_and_reading() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "");
    let archive = &operator.archive;
    sorted(archive, 16);
    let folder = archive.join("0000000100000000");
    let all = names(&folder);
    let segments: Vec<&String> = all.iter().filter(|name| name.len() == 24).collect();
    let (gone, last) = (segments[1], segments[segments.len() - 1]);
    let partial = folder.join(format!("{last}.gz.partial"));
    pack("gzip", &folder.join(last), &partial);
    let config = SourceConfig { wal: vec![archive.clone()], ..SourceConfig::default() };
    let source = LocalSource::new(&config);
    let catalog = source.list(&Cancel::default()).unwrap();
    let name = |name: &str| SegmentName::parse(name).unwrap();
    assert!(catalog.partials.contains(&name(last)) && catalog.segments.contains(&name(gone)));
    assert!(source.open_segment(name(last), None).unwrap().is_some());
    fs::rename(&partial, folder.join(format!("{last}.gz"))).unwrap();
    assert!(source.open_segment(name(last), None).unwrap().is_some());
    fs::remove_file(folder.join(gone)).unwrap();
    assert!(source.open_segment(name(gone), None).unwrap().is_none(), "no error, and none");
    assert!(source.identities(&[name(gone), name(last)])[1].is_some());
    // Gone together with its folder, and in a layout that the archive did not have.
    fs::rename(&folder, archive.join("elsewhere")).unwrap();
    assert!(source.open_segment(name(last), None).unwrap().is_none());
}

/// `pg_receivewal` with its compressions, and without; while it runs, and after its server and it have died.
#[test]
fn what_pg_receivewal_writes_is_read_while_it_does_and_recovered_from() {
    let directory = Directory::new();
    let server = Server::v15();
    // The base backup's checkpoint removes no segment that a receiver has yet to read: they have no slots.
    let settings = vec![("wal_keep_size", "64MB".to_owned())];
    let cluster = Cluster::create(&directory, &server, &Options { segment_mib: 1, settings, ..Options::default() });
    let mut receivers = Receivers(Vec::new());
    for how in ["none", "gzip:1", "lz4"] {
        let received = directory.create(&format!("received-{}", &how[..3]));
        let mut receive = as_server(server.bin_dir.join("pg_receivewal"));
        // Without its server it ends.
        receive.args(["--synchronous", "--no-loop", "-d", &cluster.connection(), "--compress", how]).arg("-D");
        receivers.0.push((received.clone(), receive.arg(received).stderr(Stdio::null()).spawn().unwrap()));
    }
    cluster.psql("create table kept (n int)");
    cluster.wait_received("receivers of WAL", 3);
    cluster.base_backup_without_wal(Format::Tar, "base");
    for n in 1..=3 {
        cluster.psql(&format!("insert into kept select {n} from generate_series(1, 100); select pg_switch_wal()"));
    }
    cluster.restore_point("here");
    let rows_here = cluster.psql(ROWS);
    cluster.psql("insert into kept values (4)");
    cluster.wait_received("last record at the receivers", 3);
    let operators: Vec<Operator<'_>> = receivers
        .0
        .iter()
        .map(|(received, _)| Operator {
            directory: &directory,
            backups: directory.path().join("backups"),
            archive: received.clone(),
        })
        .collect();
    let points: Vec<String> = operators
        .iter()
        .map(|operator| {
            let kept =
                ask(&mut operator.command(&["points", "--kind", "commit", "--kind", "restore-point"])).ended_with(0);
            assert!(kept.out.contains("\"here\""), "{}", kept.shown);
            kept.out
        })
        .collect();
    assert!(points.iter().all(|told| *told == points[0]), "{points:#?}");
    // Segments are completed, renamed and begun while a server recovers from them.
    for (number, operator) in operators.iter().enumerate() {
        let name = format!("running-{number}");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _over = Over(&over);
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    cluster.psql("insert into kept values (5); select pg_switch_wal()");
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
            operator.recovers(&name, &["--name", "here"], &rows_here);
        });
        operator.discards(&name);
    }
    cluster.psql("insert into kept values (6)");
    cluster.wait_received("last record at the receivers", 3);
    let rows = cluster.psql(ROWS);
    drop(receivers);
    cluster.stop(Stop::Immediate);
    for (number, operator) in operators.iter().enumerate().filter(|(number, _)| *number != 1) {
        // gzip is in `fetched.rs`.
        let before = tree_digest(&operator.archive);
        let name = format!("dead-{number}");
        operator.recovers(&name, &["--latest"], &rows);
        operator.discards(&name);
        tree_digest(&operator.archive).assert_same_as(&before);
    }
    // Several at once: what is received, an archive that was packed into folders, and the dead server's own.
    sorted(&cluster.archive, 16);
    let folder = names(&cluster.archive).into_iter().find(|name| name.len() == 16).unwrap();
    packed(&cluster.archive.join(folder), false);
    let pg_wal = cluster.data.join("pg_wal");
    let archives = [&pg_wal, &cluster.archive, &operators[2].archive];
    for (number, order) in [[0, 1, 2], [2, 0, 1]].into_iter().enumerate() {
        let mut command = walback(&directory);
        command.arg("--json").arg("--backups").arg(&operators[0].backups);
        for archive in order {
            command.arg("--wal").arg(archives[archive]);
        }
        let name = format!("several-{number}");
        command.args(["restore", "--yes", "--latest", "--into"]).arg(operators[0].place(&name));
        let recovery = ask(&mut command).ended_with(0).recovery();
        assert_paused(&recovery, &rows);
        assert!(sql(&recovery, "show restore_command").contains(" fetch "));
        operators[0].discards(&name);
    }
    // One that cannot be read may have what the others lack: it is not gone on without a word.
    let gone = directory.path().join("gone");
    let told = ask(operators[0].command(&["--wal"]).arg(&gone).arg("points")).ended_with(1);
    assert!(told.err.contains(gone.to_str().unwrap()), "{}", told.err);
}

/// Programs that receive WAL, and are killed when this is dropped.
struct Receivers(Vec<(PathBuf, Child)>);

impl Drop for Receivers {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Barman's folders with packed files, and a mixture, by the oldest and the newest server.
fn forms_are_recovered_from(major: u16) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &server, &Options { segment_mib: 1, ..Options::default() });
    cluster.psql("create table kept (n int)");
    cluster.base_backup_without_wal(Format::Tar, "base");
    for n in 1..=8 {
        cluster.psql(&format!("insert into kept values ({n})"));
        cluster.switch_and_wait_archived();
    }
    cluster.restore_point("here");
    let rows = cluster.psql(ROWS);
    cluster.psql("insert into kept values (9)");
    cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    for (number, (_, arrange)) in FORMS.into_iter().enumerate().filter(|(number, _)| [2, 5].contains(number)) {
        let archive = directory.path().join(format!("archive-{number}"));
        run(Command::new("cp").arg("-a").arg(&cluster.archive).arg(&archive));
        arrange(&archive);
        let operator = Operator { directory: &directory, backups: directory.path().join("backups"), archive };
        let (name, bin_dir) = (format!("from-{number}"), server.bin_dir.display().to_string());
        operator.recovers(&name, &["--name", "here", "--bin-dir", &bin_dir], &rows);
        operator.discards(&name);
    }
}

#[test]
fn forms_are_recovered_from_by_13() {
    forms_are_recovered_from(13);
}

#[test]
fn forms_are_recovered_from_by_18() {
    forms_are_recovered_from(18);
}

/// Base backups and WAL in one directory: each a directory of its own, or its files between the segments.
#[test]
fn backups_beside_wal_are_no_rubbish() {
    for (backup, from, file) in [("", "", "by-sql/base.tar"), ("gz", ".", "base.tar.gz")] {
        let directory = Directory::new();
        let operator = Operator::of_copies(&directory, &HISTORY, backup);
        let from = operator.backups.join(from);
        run(Command::new("sh").args(["-c", "mv \"$1\"/* \"$2\"", "sh"]).arg(from).arg(&operator.archive));
        assert!(operator.archive.join(file).exists());
        let both = Operator { backups: operator.archive.clone(), ..operator };
        let report = ask(&mut both.command(&["check"])).ended_with(0).json();
        let findings = report["findings"].as_array().unwrap();
        let strange = ["unknown-files", "odd-files", "temporary-files", "segment-unusable"];
        let odd: Vec<&Value> =
            findings.iter().filter(|finding| strange.iter().any(|code| finding["code"] == *code)).collect();
        assert_eq!(odd, Vec::<&Value>::new());
        assert!(findings.iter().any(|finding| finding["code"] == "backup-reach"), "{findings:#?}");
        assert_eq!(both.listed().len(), if backup.is_empty() { 6 } else { 1 });
    }
}
