//! `walback fetch` as a server runs it: what its exit status says, what it serves, and what it makes ready.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

#[path = "support/made_up.rs"]
mod made_up;
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use made_up::{SYSTEM, Writer};
use serde_json::{Value, json};
use support::{FORMS, LIMIT, bzip2, gzip, lz4, wait_until, xz, zstd};
use walback::core::{Lsn, SegmentSize, TimelineId};

/// Of made-up segments, in bytes.
const SIZE: u64 = 1 << 20;
/// Replay is predicted to stop in this segment.
const STOP: u64 = 30;

fn name(number: u64) -> String {
    format!("0000000100000000{number:08X}")
}

fn segment(number: u64) -> Vec<u8> {
    of(SYSTEM, TimelineId(1), number)
}

fn of(system: u64, timeline: TimelineId, number: u64) -> Vec<u8> {
    let size = SegmentSize::new(SIZE as u32).unwrap();
    let mut writer = Writer::new(timeline, number, size, Lsn(8)).of_system(system);
    writer.other(100 + number as usize);
    writer.switch();
    writer.fill();
    writer.bytes
}

/// A data directory with instructions, and two archives beside it.
struct Place {
    directory: tempfile::TempDir,
    instructions: Value,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        for made in ["data/.walback", "data/pg_wal", "first", "second/archive_status"] {
            fs::create_dir_all(directory.path().join(made)).unwrap();
        }
        let instructions = json!({
            "format": 1, "recovery": "restore", "segment_size": SIZE, "system_identifier": SYSTEM.to_string(), "major": 15,
            "archives": [directory.path().join("first"), directory.path().join("second")],
            "way": [{"timeline": 1, "begin": "0/0", "end": null}], "stop": Lsn(STOP * SIZE + 500).to_string(),
            "older_files": {}, "partials": [],
        });
        let place = Place { directory, instructions };
        place.instruct(&place.instructions);
        place
    }

    fn instruct(&self, instructions: &Value) {
        fs::write(self.at("data/.walback/fetch.json"), instructions.to_string()).unwrap();
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.at(path), bytes).unwrap();
    }

    /// Runs it as the server does, and gives the exit status and what it said.
    #[track_caller]
    fn fetch(&self, file: &str) -> (i32, String) {
        self.fetch_to(file, "pg_wal/RECOVERYXLOG")
    }

    #[track_caller]
    fn fetch_to(&self, file: &str, to: &str) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_walback"));
        command.args(["fetch", "--recovery", "restore", file, to]).current_dir(self.at("data"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    #[track_caller]
    fn serves(&self, number: u64) {
        let (status, said) = self.fetch(&name(number));
        assert_eq!(status, 0, "{said}");
        assert!(self.served() == segment(number), "segment {number}");
    }

    fn served(&self) -> Vec<u8> {
        fs::read(self.at("data/pg_wal/RECOVERYXLOG")).unwrap()
    }

    #[track_caller]
    fn refuses(&self, number: u64, why: &str) {
        let _ = fs::remove_file(self.at("data/pg_wal/RECOVERYXLOG"));
        let (status, said) = self.fetch(&name(number));
        assert_eq!(status, 126, "{why}: {said}");
        assert!(said.contains(why) && said.contains("hint: "), "{why}: {said}");
        assert_eq!(fs::read_dir(self.at("data/pg_wal")).unwrap().count(), 0, "{why}");
    }

    /// The segments that are ready, in order.
    fn ready(&self) -> Vec<String> {
        let entries = fs::read_dir(self.at("data/.walback/spool")).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut ready: Vec<String> = names.filter_map(|name| Some(name.split_once('.')?.0.to_owned())).collect();
        ready.retain(|name| name.len() == 24);
        ready.sort();
        ready
    }

    #[track_caller]
    fn wait_ready(&self, numbers: std::ops::RangeInclusive<u64>) {
        let expected: Vec<String> = numbers.map(name).collect();
        wait_until(&format!("spool with {expected:?}"), LIMIT, || (self.ready() == expected).then_some(()));
        // Whoever made them is gone before anything else is done.
        let lock = fs::File::options().write(true).open(self.at("data/.walback/spool/lock")).unwrap();
        lock.lock().unwrap();
    }
}

#[test]
fn every_form_is_served_whole() {
    let place = Place::new();
    place.put(&format!("first/{}", name(2)), segment(2));
    place.put(&format!("first/{}.gz", name(3)), gzip(&segment(3)));
    place.put(&format!("first/{}.lz4", name(4)), lz4(&segment(4)));
    place.put(&format!("second/{}.zst", name(5)), zstd(&segment(5)));
    place.put(&format!("second/{}.xz", name(6)), xz(&segment(6)));
    place.put(&format!("second/{}.bz2", name(7)), bzip2(&segment(7)));
    for number in 2..=7 {
        place.serves(number);
    }
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    place.serves(2);
    assert_ne!(inode(&place.at("data/pg_wal/RECOVERYXLOG")), inode(&place.at(&format!("first/{}", name(2)))));
    let history = "1\t0/500000\tno recovery target specified\n";
    place.put("first/00000002.history", history);
    place.put("first/00000003.history.gz", gzip(history.as_bytes()));
    place.put("first/00000004.history.xz", xz(history.as_bytes()));
    place.put("first/00000005.history.bz2", bzip2(history.as_bytes()));
    for file in ["00000002.history", "00000003.history", "00000004.history", "00000005.history"] {
        assert_eq!(place.fetch_to(file, "pg_wal/RECOVERYHISTORY"), (0, String::new()));
        assert_eq!(fs::read_to_string(place.at("data/pg_wal/RECOVERYHISTORY")).unwrap(), history);
    }
}

/// The last segment, however it is packed. What `pg_receivewal` packs lacks the zeros behind what was received, and may
/// break off.
#[test]
fn a_packed_partial_is_served_as_a_plain_one() {
    let place = Place::new();
    let mut instructions = place.instructions.clone();
    instructions["partials"] = json!([name(7)]);
    place.instruct(&instructions);
    let mut half = segment(7);
    half[SIZE as usize / 2..].fill(0);
    for (ending, pack) in FORMS {
        let (packed, received) = (pack(&half), pack(&half[..SIZE as usize / 2]));
        let cases = [
            (format!(".partial.{ending}"), packed.clone()),
            (format!(".{ending}.partial"), packed.clone()),
            (format!(".{ending}.partial"), received.clone()),
        ];
        for (name_ends, bytes) in cases {
            let file = place.at(&format!("first/{}{name_ends}", name(7)));
            fs::write(&file, &bytes).unwrap();
            assert_eq!(place.fetch(&name(7)), (0, String::new()), "{name_ends}");
            assert!(place.served() == half, "{name_ends}");
            fs::remove_file(file).unwrap();
        }
        for (name_ends, bytes, why) in [
            (format!(".partial.{ending}"), &packed[..packed.len() - 3], "cannot be unpacked"),
            (format!(".partial.{ending}"), &received[..], "holds 524288 bytes"),
            (format!(".{ending}.partial"), &b"\0\0\0\0\0\0\0\0damaged"[..], "cannot be unpacked"),
            (format!(".{ending}.partial"), &pack(&[segment(7), vec![1]].concat())[..], "cannot be unpacked"),
        ] {
            let file = format!("first/{}{name_ends}", name(7));
            place.put(&file, bytes);
            place.refuses(7, why);
            fs::remove_file(place.at(&file)).unwrap();
        }
    }
}

#[test]
fn what_no_archive_has_is_not_there_and_nothing_else_is() {
    let place = Place::new();
    assert_eq!(place.fetch(&name(7)), (1, String::new()));
    assert_eq!(place.fetch("00000002.history"), (1, String::new()));
    // A server's pg_wal has files that wait to be written, under later names.
    place.put(&format!("second/{}", name(7)), segment(3));
    assert_eq!(place.fetch(&name(7)).0, 1);
    place.put(&format!("second/{}", name(7)), vec![0; SIZE as usize]);
    assert_eq!(place.fetch(&name(7)).0, 1);
    place.put(&format!("first/{}.partial", name(7)), segment(7));
    assert_eq!(place.fetch(&name(7)).0, 1, "nobody said that this one is needed");
    let mut instructions = place.instructions.clone();
    instructions["partials"] = json!([name(7)]);
    place.instruct(&instructions);
    place.serves(7);
    // An archive that is gone, or is something else.
    fs::remove_dir_all(place.at("second")).unwrap();
    place.refuses(8, "No such file");
    place.put("second", "");
    place.refuses(8, "Not a directory");
    let (status, _) = place.fetch("00000009.history");
    assert_eq!(status, 126);
}

#[test]
fn what_is_damaged_stops_recovery_and_another_copy_saves_it() {
    let place = Place::new();
    let file = format!("first/{}", name(7));
    let packed = gzip(&segment(7));
    let mut broken = packed.clone();
    // In its checksum.
    broken[packed.len() - 6] ^= 0x10;
    let mut unmarked = segment(7);
    unmarked[0] ^= 1;
    let short = &segment(7)[..SIZE as usize - 1];
    let [packed_xz, packed_bz2] = [xz(&segment(7)), bzip2(&segment(7))];
    let flipped = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        bytes
    };
    let cases: [(&str, Vec<u8>, &str); 21] = [
        ("", short.to_vec(), "has 1048575 bytes"),
        ("", Vec::new(), "has 0 bytes"),
        ("", [segment(7), vec![0]].concat(), "has 1048577 bytes"),
        ("", segment(6), "its first page is that of 0/600000"),
        ("", of(SYSTEM + 1, TimelineId(1), 7), "another cluster"),
        ("", of(SYSTEM, TimelineId(2), 7), "timeline 2"),
        ("", unmarked, "page magic"),
        (".gz", broken, "cannot be unpacked"),
        (".gz", packed[..packed.len() - 4].to_vec(), "cannot be unpacked"),
        (".gz", gzip(short), "holds 1048575 bytes"),
        (".zst", zstd(&[segment(7), vec![0]].concat()), "cannot be unpacked"),
        (".xz", flipped(&packed_xz), "it is damaged"),
        (".xz", packed_xz[..packed_xz.len() - 4].to_vec(), "it is cut off"),
        (".xz", [&packed_xz[..], b"more"].concat(), "cannot be unpacked"),
        (".xz", xz(&[segment(7), vec![0]].concat()), "longer than a segment"),
        (".xz", packed_bz2.clone(), "packed with bzip2"),
        (".bz2", flipped(&packed_bz2), "it is damaged"),
        (".bz2", packed_bz2[..packed_bz2.len() - 4].to_vec(), "it is cut off"),
        (".bz2", [&packed_bz2[..], b"more"].concat(), "cannot be unpacked"),
        (".bz2", bzip2(short), "holds 1048575 bytes"),
        // Packed under a plain name, as Barman does it: whole, it is served (`archives.rs`).
        ("", packed_xz[..packed_xz.len() - 4].to_vec(), "it is cut off"),
    ];
    for (ending, bytes, why) in cases {
        let path = format!("{file}{ending}");
        place.put(&path, &bytes);
        place.refuses(7, why);
        place.put(&format!("second/{}.zst", name(7)), zstd(&segment(7)));
        let (status, said) = place.fetch(&name(7));
        assert_eq!(status, 0, "{said}");
        assert!(said.starts_with("warning: ") && said.contains(why), "{said}");
        assert!(place.served() == segment(7));
        fs::remove_file(place.at(&format!("second/{}.zst", name(7)))).unwrap();
        fs::remove_file(place.at(&path)).unwrap();
    }
    nix::unistd::mkfifo(&place.at(&file), nix::sys::stat::Mode::S_IRWXU).unwrap();
    place.refuses(7, "not a plain file");
    fs::remove_file(place.at(&file)).unwrap();
    for history in ["", "1\t0/5", "2\t0/500000\tx\n"] {
        place.put("first/00000002.history", &history[..history.len().saturating_sub(1)]);
        assert_eq!(place.fetch_to("00000002.history", "pg_wal/RECOVERYHISTORY").0, 126, "{history:?}");
    }
    // What lies behind the stop is nobody's need.
    place.put(&format!("first/{}", name(STOP + 1)), short);
    let (status, said) = place.fetch(&name(STOP + 1));
    assert_eq!(status, 1, "{said}");
    place.put(&format!("first/{}", name(STOP)), short);
    place.refuses(STOP, "has 1048575 bytes");
}

#[test]
fn whatever_is_wrong_with_the_call_is_never_the_end_of_wal() {
    let place = Place::new();
    place.put(&format!("first/{}", name(7)), segment(7));
    assert!(place.fetch_to(&name(7), "nowhere/RECOVERYXLOG").0 >= 126);
    assert!(place.fetch("../../etc/passwd").0 >= 126);
    let all: [&[&str]; 8] = [
        &["fetch"],
        &["fetch", "--recovery"],
        &["fetch", "--recovery", "other", &name(7), "x"],
        &["fetch", "--recovery", "restore", &name(7), "x", "y"],
        &["fetch", "--frobnicate"],
        &["--color", "never", "fetch", "--frobnicate"],
        &["--json", "fetch"],
        &["--config", "/nowhere", "fetch", "--recovery", "other", &name(7), "x"],
    ];
    for words in all {
        let mut command = Command::new(env!("CARGO_BIN_EXE_walback"));
        let output = command.args(words).current_dir(place.at("data")).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.code().unwrap() >= 126, "{words:?}: {output:?}");
    }
    let instructions = place.at("data/.walback/fetch.json");
    let is_refused = |what: &str| {
        let (status, said) = place.fetch(&name(7));
        assert!(status >= 126, "{what}: {said}");
    };
    fs::write(&instructions, "{").unwrap();
    is_refused("half of them");
    fs::remove_file(&instructions).unwrap();
    is_refused("none");
    place.put("theirs", place.instructions.to_string());
    symlink(place.at("theirs"), &instructions).unwrap();
    is_refused("a link");
    fs::remove_file(&instructions).unwrap();
    place.instruct(&place.instructions);
    place.serves(7);
    // What is in the way is replaced, not followed.
    place.put("elsewhere", "mine");
    for link in ["data/pg_wal/RECOVERYXLOG", "data/pg_wal/xlogtemp.walback"] {
        let _ = fs::remove_file(place.at(link));
        symlink(place.at("elsewhere"), place.at(link)).unwrap();
    }
    place.serves(7);
    assert_eq!(fs::read_to_string(place.at("elsewhere")).unwrap(), "mine");
    assert!(fs::symlink_metadata(place.at("data/pg_wal/RECOVERYXLOG")).unwrap().is_file());
}

#[test]
fn a_disk_that_is_full_is_not_the_end_of_wal() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    place.put(&format!("first/{}.gz", name(7)), gzip(&segment(7)));
    let script = "mount -t tmpfs -o size=600k none data/pg_wal && cd data && \"$0\" fetch --recovery restore \"$1\" pg_wal/RECOVERYXLOG";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_walback"), &name(7)]);
    let output = command.current_dir(place.at("")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().unwrap() >= 126 && said.contains("cannot write"), "{said}");
}

#[test]
fn the_next_segments_are_made_ready_and_handed_over() {
    let place = Place::new();
    place.put("data/postmaster.pid", "");
    for number in 2..=STOP + 5 {
        place.put(&format!("first/{}.gz", name(number)), gzip(&segment(number)));
    }
    // What was changed a moment ago may change again unseen, and is left alone.
    std::thread::sleep(std::time::Duration::from_millis(120));
    place.serves(2);
    place.wait_ready(3..=10);
    let spool = place.at("data/.walback/spool");
    let ready = |number: u64| {
        let mut entries = fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().path());
        entries.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&name(number))).unwrap()
    };
    assert!(fs::read(ready(3)).unwrap() == segment(3));
    let inode = fs::metadata(ready(3)).unwrap().ino();
    place.serves(3);
    assert_eq!(fs::metadata(place.at("data/pg_wal/RECOVERYXLOG")).unwrap().ino(), inode, "renamed");
    assert_eq!(place.ready().len(), 7, "enough is ready");

    // Changed in the archive since: the archive's is served.
    let mut other = segment(4);
    other[9000] ^= 1;
    place.put(&format!("first/{}.gz", name(4)), gzip(&other));
    assert_eq!(place.fetch(&name(4)).0, 0);
    assert!(place.served() == other);
    // And an archive that cannot be asked is not answered for.
    fs::rename(place.at("first"), place.at("gone")).unwrap();
    place.refuses(5, "No such file");
    fs::rename(place.at("gone"), place.at("first")).unwrap();

    // Somebody died in the middle of it.
    fs::write(spool.join(format!("making-{}", name(5))), "half").unwrap();
    fs::remove_file(ready(5)).unwrap();
    for number in 5..=8 {
        place.serves(number);
    }
    // How far it got beyond that is a matter of who was faster.
    wait_until("next segments", LIMIT, || {
        let ready = place.ready();
        (9..=12).all(|number| ready.contains(&name(number))).then_some(())
    });
    assert!(!spool.join(format!("making-{}", name(5))).exists());
    // Never beyond what the way needs.
    place.serves(STOP - 2);
    place.wait_ready(STOP - 1..=STOP + 1);
    place.serves(STOP + 1);
    // Behind the end, there is nothing to do, and nobody is needed who would clear up.
    assert!(place.ready().len() <= 3);
}

/// Where a timeline forks off, the server asks for the newest one's file first, and what is ready may be the one before's.
#[test]
fn what_the_server_asks_for_next_is_not_removed() {
    let place = Place::new();
    let mut instructions = place.instructions.clone();
    let fork = Lsn(5 * SIZE + 500).to_string();
    instructions["way"] = json!([
        {"timeline": 1, "begin": "0/0", "end": fork}, {"timeline": 2, "begin": fork, "end": null},
    ]);
    place.instruct(&instructions);
    place.put("data/postmaster.pid", "");
    for number in 2..=5 {
        place.put(&format!("first/{}.gz", name(number)), gzip(&segment(number)));
    }
    std::thread::sleep(std::time::Duration::from_millis(120));
    place.serves(2);
    place.wait_ready(3..=5);
    place.serves(3);
    place.serves(4);
    place.wait_ready(5..=5);
    // Nobody has it. Whoever makes segments ready sees that it was asked for, and goes through what is of use.
    assert_eq!(place.fetch(&name(5).replace("00000001", "00000002")).0, 1);
    let mut ahead = Command::new(env!("CARGO_BIN_EXE_walback"));
    assert!(ahead.args(["__fetch-ahead", "."]).current_dir(place.at("data")).status().unwrap().success());
    assert_eq!(place.ready(), [name(5)]);
    place.serves(5);
}

#[test]
fn a_recovery_that_is_over_has_nothing_made_ready() {
    let place = Place::new();
    for number in 2..=20 {
        place.put(&format!("first/{}.gz", name(number)), gzip(&segment(number)));
    }
    std::thread::sleep(std::time::Duration::from_millis(120));
    place.put("data/postmaster.pid", "");
    // Another one is at it.
    fs::create_dir(place.at("data/.walback/spool")).unwrap();
    let lock = fs::File::create(place.at("data/.walback/spool/lock")).unwrap();
    lock.lock().unwrap();
    place.serves(2);
    assert!(place.ready().is_empty());
    drop(lock);
    fs::remove_file(place.at("data/postmaster.pid")).unwrap();
    let mut ahead = Command::new(env!("CARGO_BIN_EXE_walback"));
    assert!(ahead.args(["__fetch-ahead", "."]).current_dir(place.at("data")).status().unwrap().success());
    assert!(place.ready().is_empty());
    place.put("data/postmaster.pid", "");
    assert!(ahead.status().unwrap().success());
    assert_eq!(place.ready().len(), 8);
}
