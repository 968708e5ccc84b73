//! Backups that are made up, in every form in which they come.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use proptest::prelude::*;
use tar::{EntryType, Header};

use super::*;
use crate::engine::host::current_account;
use crate::engine::record::Recoveries;
use crate::event::Event;
use crate::pgdata::{ChecksumAlgorithm, RunningChecksum};
use crate::plan::example;

/// The ways in which a backup may be kept.
const FORMS: [Form; 10] = [
    Form::Directory,
    Form::Followed,
    Form::OneTar(Compression::None),
    Form::OneTar(Compression::Zstd),
    Form::Tar(Compression::None),
    Form::Tar(Compression::Gzip),
    Form::Tar(Compression::Zstd),
    Form::Tar(Compression::Lz4),
    Form::Tar(Compression::Xz),
    Form::Tar(Compression::Bzip2),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Directory,
    /// A directory in which the tablespace lies in the place of its link.
    Followed,
    Tar(Compression),
    /// One tar with a directory in front of all names, something beside it, and the tablespace in the place of its link.
    OneTar(Compression),
}

impl Form {
    fn is_directory(self) -> bool {
        matches!(self, Form::Directory | Form::Followed)
    }
}

/// A place with a backup in it, and room for what is unpacked.
struct Stage {
    place: tempfile::TempDir,
    plan: Plan,
    files: BTreeMap<String, Vec<u8>>,
    form: Form,
}

const OID: u32 = 16385;

/// In memory, where there is such a place: everything is synced, and others may be writing to the disks.
fn room() -> std::io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

/// Bytes that compress badly, as those of a file in the middle of a database.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

impl Stage {
    /// With a backup of some files, one of them in a tablespace.
    fn new(form: Form) -> Stage {
        let mut files = BTreeMap::new();
        for (name, length) in [
            ("backup_label", 200),
            ("PG_VERSION", 3),
            ("base/1/1", 1 << 20),
            ("base/1/2", 0),
            ("base/1/3", 700_001),
            ("base/5/16384", 600_000),
            ("postgresql.auto.conf", 88),
            ("global/pg_control", 8192),
            ("pg_tblspc/16385/PG_15/5/16390", 300_000),
            ("pg_tblspc/16385/PG_15/5/16391", 8192),
        ] {
            files.insert(name.to_owned(), bytes(files.len() as u64, length));
        }
        Stage::of(form, files)
    }

    fn of(form: Form, files: BTreeMap<String, Vec<u8>>) -> Stage {
        let place = room().unwrap();
        let mut plan = example();
        plan.directory = place.path().join("new");
        plan.backup.location = place.path().join("backup");
        plan.backup.kind = if form.is_directory() { BackupKind::Directory } else { BackupKind::Tar };
        fs::create_dir(&plan.backup.location).unwrap();
        let root = place.path().join("new.tablespaces");
        let to = root.join(OID.to_string());
        plan.tablespaces = vec![PlacedTablespace { oid: OID, from: "/srv/origin".to_owned(), to, root }];
        let mut stage = Stage { place, plan, files, form };
        stage.write_backup();
        stage.write_manifest(ChecksumAlgorithm::Crc32c);
        stage
    }

    /// The name of a file in its part, and whether that is the tablespace's.
    fn split(name: &str) -> (String, bool) {
        match name.strip_prefix("pg_tblspc/16385/") {
            Some(inside) => (inside.to_owned(), true),
            None => (name.to_owned(), false),
        }
    }

    fn write_backup(&mut self) {
        let location = self.plan.backup.location.clone();
        let mut parts = Vec::new();
        if let Form::OneTar(compression) = self.form {
            let mut builder = tar::Builder::new(Vec::new());
            let mut add = |name: &str, bytes: &[u8]| {
                builder.append_data(&mut header(EntryType::Regular, bytes.len()), name, bytes).unwrap();
            };
            add("beside/PG_VERSION", b"99");
            self.files.iter().for_each(|(name, bytes)| add(&format!("main/{name}"), bytes));
            add("mainly/x", b"beside, too");
            let path = location.join(format!("monday.tar{}", compression.ending()));
            fs::write(path, packed(&builder.into_inner().unwrap(), compression)).unwrap();
        }
        for (of_tablespace, holds) in [(false, PartContents::Data), (true, PartContents::Tablespace(OID))] {
            let files = self.files.iter().map(|(name, bytes)| (Stage::split(name), bytes));
            let files = files.filter(|((_, tablespace), _)| *tablespace == of_tablespace);
            let files: Vec<_> = files.map(|((name, _), bytes)| (name, bytes)).collect();
            let mut inside = PathBuf::new();
            let (path, compression) = match self.form {
                Form::OneTar(compression) => {
                    inside = PathBuf::from(if of_tablespace { "./main/pg_tblspc/16385" } else { "./main" });
                    (location.join(format!("monday.tar{}", compression.ending())), compression)
                }
                Form::Directory | Form::Followed => {
                    let path = match (of_tablespace, self.form) {
                        (false, _) => location.clone(),
                        (true, Form::Followed) => location.join(format!("pg_tblspc/{OID}")),
                        (true, _) => self.place.path().join("copy of ts"),
                    };
                    for (name, bytes) in files {
                        let file = path.join(name);
                        fs::create_dir_all(file.parent().unwrap()).unwrap();
                        fs::write(file, bytes).unwrap();
                    }
                    if !of_tablespace && self.form == Form::Directory {
                        fs::create_dir_all(path.join("pg_tblspc")).unwrap();
                        let link = path.join(format!("pg_tblspc/{OID}"));
                        std::os::unix::fs::symlink(self.place.path().join("copy of ts"), link).unwrap();
                    }
                    (path, Compression::None)
                }
                Form::Tar(compression) => {
                    let stem = if of_tablespace { OID.to_string() } else { "base".to_owned() };
                    let path = location.join(format!("{stem}.tar{}", compression.ending()));
                    let mut builder = tar::Builder::new(Vec::new());
                    for (name, bytes) in files {
                        builder
                            .append_data(&mut header(EntryType::Regular, bytes.len()), name, bytes.as_slice())
                            .unwrap();
                    }
                    fs::write(&path, packed(&builder.into_inner().unwrap(), compression)).unwrap();
                    (path, compression)
                }
            };
            let size_bytes = match self.form {
                Form::Directory | Form::Followed => {
                    let of_part = self.files.iter().filter(|(name, _)| Stage::split(name).1 == of_tablespace);
                    of_part.map(|(_, bytes)| bytes.len() as u64).sum()
                }
                Form::Tar(_) | Form::OneTar(_) => fs::metadata(&path).unwrap().len(),
            };
            parts.push(Part { path, holds, compression, size_bytes, inside });
        }
        self.plan.backup.parts = parts;
    }

    fn write_manifest(&mut self, algorithm: ChecksumAlgorithm) {
        let word = format!("{algorithm:?}").to_uppercase();
        let files = self.files.iter().filter(|(name, _)| !name.starts_with("pg_wal"));
        let lines: Vec<String> = files
            .map(|(name, bytes)| {
                let mut checksum = RunningChecksum::new(Some(algorithm));
                checksum.update(bytes);
                let hex = hex(&checksum.finish().unwrap().bytes);
                format!(
                    "{{ \"Path\": {name:?}, \"Size\": {}, \"Checksum-Algorithm\": \"{word}\", \"Checksum\": \"{hex}\" }}",
                    bytes.len()
                )
            })
            .collect();
        self.sign(&lines);
    }

    fn sign(&mut self, lines: &[String]) {
        let body = format!(
            "{{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n{}\n],\n\"WAL-Ranges\": [],\n",
            lines.join(",\n")
        );
        let text = format!("{body}\"Manifest-Checksum\": \"{}\"}}\n", hex(&Sha256::digest(&body)));
        fs::write(self.plan.backup.location.join("backup_manifest"), &text).unwrap();
        if self.form.is_directory() {
            let files = self.files.iter().filter(|(name, _)| !Stage::split(name).1);
            let bytes: usize = files.map(|(_, bytes)| bytes.len()).sum();
            self.plan.backup.parts[0].size_bytes = (bytes + text.len()) as u64;
        }
    }

    fn unpack_watched(&self, cancel: &Cancel, watch: &dyn Fn(&Event)) -> Result<u64> {
        let host = Host::new(false).unwrap();
        let recoveries = Recoveries::below(&self.place.path().join("state"));
        let recorder = Recorder::open(&host, &recoveries, &self.plan.recovery, watch).unwrap();
        unpack(&host, &self.plan, &current_account(), &recorder, cancel)
    }

    fn unpack(&self) -> Result<u64> {
        self.unpack_watched(&Cancel::default(), &|_| {})
    }

    /// What was unpacked: contents by the names that the manifest has, of files that are not Walback's own.
    fn unpacked(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let roots = [
            (self.plan.directory.clone(), String::new()),
            (self.plan.tablespaces[0].to.clone(), "pg_tblspc/16385/".to_owned()),
        ];
        for (root, prefix) in roots {
            let mut left = vec![root.clone()];
            while let Some(path) = left.pop() {
                for entry in fs::read_dir(&path).unwrap().map(|entry| entry.unwrap()) {
                    let name = entry.path().strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                    match entry.file_type().unwrap() {
                        // A directory's lies among its files.
                        _ if name == ".walback" || name == "backup_manifest" => {}
                        kind if kind.is_dir() => left.push(entry.path()),
                        kind if kind.is_file() => {
                            drop(found.insert(format!("{prefix}{name}"), fs::read(entry.path()).unwrap()))
                        }
                        _ => drop(found.insert(
                            format!("{prefix}{name}"),
                            fs::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes(),
                        )),
                    }
                }
            }
        }
        found
    }

    #[track_caller]
    fn assert_whole(&self) {
        let mut expected = self.files.clone();
        let to = self.plan.tablespaces[0].to.display().to_string();
        match self.form {
            Form::Directory | Form::Followed => expected.insert(format!("pg_tblspc/{OID}"), to.into_bytes()),
            Form::Tar(_) | Form::OneTar(_) => {
                expected.insert(TABLESPACE_MAP.to_owned(), format!("{OID} {to}\n").into_bytes())
            }
        };
        let found = self.unpacked();
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected));
        assert!(found == expected, "contents differ");
        assert!(!self.plan.directory.join(".walback/unpacked").exists(), "the notes are left");
    }

    #[track_caller]
    fn fails(&self, code: &str, says: &[&str]) {
        let error = self.unpack().unwrap_err();
        assert_eq!(error.report().code, code, "{error}");
        for says in says {
            assert!(error.to_string().contains(says), "“{says}” is not in {error}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header(kind: EntryType, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(0o6755);
    header
}

fn packed(bytes: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        // In two frames, as programs with several threads write them.
        Compression::Zstd => {
            let (front, rest) = bytes.split_at(bytes.len() / 3);
            [zstd::encode_all(front, 1).unwrap(), zstd::encode_all(rest, 1).unwrap()].concat()
        }
        Compression::Lz4 => {
            let (front, rest) = bytes.split_at(bytes.len() / 3);
            let frame = |bytes: &[u8]| {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            };
            [frame(front), frame(rest)].concat()
        }
        Compression::Xz => {
            let (front, rest) = bytes.split_at(bytes.len() / 3);
            let stream = |bytes: &[u8]| {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            };
            [stream(front), stream(rest)].concat()
        }
        Compression::Bzip2 => {
            let (front, rest) = bytes.split_at(bytes.len() / 3);
            let stream = |bytes: &[u8]| {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            };
            [stream(front), stream(rest)].concat()
        }
        Compression::None => bytes.to_vec(),
    }
}

#[test]
fn every_form_is_unpacked_and_counted_to_the_last_byte() {
    for form in FORMS {
        let stage = Stage::new(form);
        let told = Mutex::new(Vec::new());
        let watch = |event: &Event| {
            if let What::Progress(progress) = &event.what {
                told.lock().unwrap().push((progress.done, progress.total));
            }
        };
        let read = stage.unpack_watched(&Cancel::default(), &watch).unwrap();
        stage.assert_whole();
        let total: u64 = stage.plan.backup.parts.iter().map(|part| part.size_bytes).sum();
        let told = told.into_inner().unwrap();
        assert_eq!((read, told.last()), (total, Some(&(total, Some(total)))), "{form:?}");
        assert!(told.is_sorted(), "{form:?}: {told:?}");
        for (name, mode) in [("base", 0o700), ("base/1", 0o700), ("base/1/1", 0o640)] {
            let found = fs::metadata(stage.plan.directory.join(name)).unwrap().permissions().mode() & 0o7777;
            assert_eq!(found & !0o640 & !0o750, 0, "{form:?} {name}: {found:o}");
            assert_eq!(found & 0o600, mode & 0o600, "{form:?} {name}: {found:o}");
        }
        assert!(Mark::check(&stage.plan.tablespaces[0].root, &stage.plan.recovery).is_ok());
    }
}

#[test]
fn every_checksum_is_compared() {
    let algorithms = [
        ChecksumAlgorithm::Crc32c,
        ChecksumAlgorithm::Sha224,
        ChecksumAlgorithm::Sha256,
        ChecksumAlgorithm::Sha384,
        ChecksumAlgorithm::Sha512,
    ];
    for (form, algorithm) in FORMS.into_iter().zip(algorithms) {
        for damaged in ["base/5/16384", "pg_tblspc/16385/PG_15/5/16391"] {
            let mut stage = Stage::new(form);
            stage.write_manifest(algorithm);
            let middle = stage.files[damaged].len() / 2;
            stage.files.get_mut(damaged).unwrap()[middle] ^= 1;
            fs::remove_dir_all(stage.plan.backup.location.join("pg_tblspc")).ok();
            stage.write_backup();
            stage.fails("backup-damaged", &[damaged, "monday", "checksum", "walback backups"]);
        }
    }
}

#[test]
fn sizes_and_names_are_compared_and_what_is_missing_is_named() {
    for form in FORMS {
        let mut stage = Stage::new(form);
        let whole = stage.files.clone();
        let rewrite = |stage: &mut Stage| {
            for part in &stage.plan.backup.parts {
                let _ = if part.path.is_dir() { fs::remove_dir_all(&part.path) } else { fs::remove_file(&part.path) };
            }
            let manifest = fs::read(stage.plan.backup.location.join("backup_manifest")).ok();
            fs::create_dir_all(&stage.plan.backup.location).unwrap();
            stage.write_backup();
            if let Some(manifest) = manifest {
                fs::write(stage.plan.backup.location.join("backup_manifest"), manifest).unwrap();
            }
        };
        // The manifest knows them as they were; a directory's is written anew, for it lies among its files.
        let files = stage.files.clone();
        stage.files.get_mut("base/1/1").unwrap().pop();
        rewrite(&mut stage);
        Stage { files: files.clone(), place: room().unwrap(), plan: stage.plan.clone(), form }
            .write_manifest(ChecksumAlgorithm::Crc32c);
        stage.fails("backup-damaged", &["base/1/1", "1048575 bytes", "1048576"]);

        let mut stage = Stage::of(form, whole.clone());
        stage.files.remove("base/1/2");
        stage.files.remove("pg_tblspc/16385/PG_15/5/16391");
        rewrite(&mut stage);
        Stage { files, place: room().unwrap(), plan: stage.plan.clone(), form }
            .write_manifest(ChecksumAlgorithm::Crc32c);
        stage.fails("backup-damaged", &["2 files", "base/1/2", "pg_tblspc/16385/PG_15/5/16391"]);

        // What there is more is unpacked, and told.
        let mut stage = Stage::of(form, whole);
        stage.write_manifest(ChecksumAlgorithm::Crc32c);
        let manifest = fs::read(stage.plan.backup.location.join("backup_manifest")).unwrap();
        stage.files.insert("base/1/more".to_owned(), bytes(1, 10));
        stage.files.insert("pg_wal/000000010000000000000001".to_owned(), bytes(1, 10));
        fs::remove_dir_all(stage.plan.backup.location.join("pg_tblspc")).ok();
        stage.write_backup();
        fs::write(stage.plan.backup.location.join("backup_manifest"), manifest).unwrap();
        let told = Mutex::new(Vec::new());
        let watch = |event: &Event| {
            if let What::Finding(finding) = &event.what {
                told.lock().unwrap().push(finding.message.clone());
            }
        };
        stage.unpack_watched(&Cancel::default(), &watch).unwrap();
        stage.assert_whole();
        let told = told.into_inner().unwrap();
        assert!(matches!(told.as_slice(), [one] if one.ends_with("does not know: base/1/more")), "{form:?}: {told:?}");
    }
}

#[test]
fn a_manifest_that_lies_is_not_believed() {
    let mut stage = Stage::new(Form::Tar(Compression::Gzip));
    let path = stage.plan.backup.location.join("backup_manifest");
    let right = fs::read_to_string(&path).unwrap();
    let line = |path: &str, size: u64| format!("{{ \"Path\": {path:?}, \"Size\": {size} }}");
    for (change, says) in [
        (right.replace("1048576", "1048577"), "SHA-256"),
        (right[..right.len() / 2].to_owned(), "cut off"),
        (String::new(), "cut off"),
    ] {
        fs::write(&path, change).unwrap();
        stage.fails("manifest-broken", &[says, "backup_manifest"]);
    }
    stage.sign(&[line("../../etc/passwd", 1)]);
    stage.fails("manifest-broken", &["leads out"]);
    stage.sign(&[line("base/1/1", u64::MAX)]);
    stage.fails("backup-damaged", &["18446744073709551615"]);
    stage.sign(&[line("base/1/1", 1), line("base/1/1", 2)]);
    stage.fails("manifest-broken", &["base/1/1 twice"]);
    let many: Vec<String> = (0..1_000_000).map(|n| line(&format!("base/1/{n}"), 0)).collect();
    stage.sign(&many);
    stage.fails("backup-damaged", &["base/1/1"]);
}

#[test]
fn an_unknown_tablespace_is_never_put_where_it_was() {
    let mut stage = Stage::new(Form::Tar(Compression::None));
    let origin = stage.place.path().join("origin");
    fs::create_dir(&origin).unwrap();
    let map = format!("{OID} {0}\n777 {0}\n", origin.display());
    stage.files.insert(TABLESPACE_MAP.to_owned(), map.into_bytes());
    stage.write_backup();
    stage.write_manifest(ChecksumAlgorithm::Crc32c);
    stage.fails("tablespace-unplaced", &["777"]);
    assert!(!stage.plan.directory.join(TABLESPACE_MAP).exists());
    let map = format!("{OID} {}\n", origin.display());
    stage.files.insert(TABLESPACE_MAP.to_owned(), map.into_bytes());
    stage.write_backup();
    stage.write_manifest(ChecksumAlgorithm::Crc32c);
    stage.unpack().unwrap();
    stage.files.remove(TABLESPACE_MAP);
    stage.assert_whole();
    assert_eq!(fs::read_dir(origin).unwrap().count(), 0);
}

/// A tar with entries that no server writes.
fn odd(compression: Compression, add: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Stage {
    let mut stage = Stage::of(Form::Tar(compression), BTreeMap::new());
    stage.plan.backup.manifest = false;
    stage.plan.backup.parts.truncate(1);
    let mut builder = tar::Builder::new(Vec::new());
    add(&mut builder);
    let tar = packed(&builder.into_inner().unwrap(), compression);
    let part = &mut stage.plan.backup.parts[0];
    fs::write(&part.path, &tar).unwrap();
    part.size_bytes = tar.len() as u64;
    stage
}

/// An entry with a name and a link that the crate would refuse to write.
fn add(tar: &mut tar::Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, contents: &[u8]) {
    let mut header = header(kind, contents.len());
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    tar.append(&header, contents).unwrap();
}

#[test]
fn tars_that_mean_harm() {
    use EntryType as Of;
    type Entries<'a> = &'a [(Of, &'a str, &'a str)];
    let cases: [(Entries<'_>, &str); 20] = [
        (&[(Of::Regular, "../evil", "")], "leads out"),
        (&[(Of::Regular, "/tmp/evil", "")], "leads out"),
        (&[(Of::Regular, "base/../../evil", "")], "leads out"),
        (&[(Of::Directory, "../evil/", "")], "leads out"),
        (&[(Of::Symlink, "base/1", "/etc"), (Of::Regular, "base/1/passwd", "")], "symbolic link"),
        (&[(Of::Symlink, "base", "../.."), (Of::Directory, "base/evil", "")], "symbolic link"),
        (&[(Of::Link, "base/1", "/etc/passwd")], "leads out"),
        (&[(Of::Link, "base/1", "../../etc/passwd")], "leads out"),
        (&[(Of::Link, "base/1", ".walback/recovery.json")], "leads out"),
        (&[(Of::Link, "base/1", "base/none")], "did not come before"),
        (&[(Of::Directory, "base", ""), (Of::Link, "base/1", "base")], "did not come before"),
        (&[(Of::Char, "base/1", "")], "no entry of this kind"),
        (&[(Of::Block, "base/1", "")], "no entry of this kind"),
        (&[(Of::Fifo, "base/1", "")], "no entry of this kind"),
        (&[(Of::Regular, "base/1", ""), (Of::Regular, "base/1", "")], "twice"),
        (&[(Of::Regular, "base/1", ""), (Of::Regular, "./base//1", "")], "twice"),
        (&[(Of::Regular, "base/1", ""), (Of::Link, "base/1", "base/1")], "twice"),
        (&[(Of::Regular, "base", ""), (Of::Regular, "base/1", "")], "base/1"),
        (&[(Of::Regular, "pg_tblspc/16385/evil", "")], "comes by itself"),
        (&[(Of::Regular, "./", "")], "no file and has contents"),
    ];
    for compression in [Compression::None, Compression::Gzip] {
        for (entries, says) in cases {
            let stage = odd(compression, |tar| {
                for (kind, name, link) in entries {
                    let contents: &[u8] = if *kind == Of::Regular { b"evil" } else { b"" };
                    add(tar, *kind, name, link, contents);
                }
            });
            let before = fs::read_dir(stage.place.path()).unwrap().count();
            let error = stage.unpack().unwrap_err();
            assert!(error.to_string().contains(says), "{entries:?}: {error}");
            assert!(matches!(error.report().code, "backup-suspicious" | "not-as-left" | "backup-broken"), "{error}");
            // The new directories, and the state.
            assert_eq!(fs::read_dir(stage.place.path()).unwrap().count(), before + 3, "{entries:?}");
        }
    }
}

#[test]
fn what_is_left_out_is_not_written() {
    for compression in [Compression::None, Compression::Zstd] {
        let stage = odd(compression, |tar| {
            add(tar, EntryType::Regular, "base/1", "", b"data");
            add(tar, EntryType::Directory, ".walback/", "", b"");
            add(tar, EntryType::Regular, ".walback/recovery.json", "", b"evil");
            add(tar, EntryType::Symlink, "pg_wal", "/somewhere", b"");
            add(tar, EntryType::Symlink, "pg_tblspc/16385", "/somewhere", b"");
            add(tar, EntryType::Regular, "postmaster.pid", "", b"1");
            add(tar, EntryType::Regular, "recovery.signal", "", b"");
            add(tar, EntryType::Link, "base/2", "base/1", b"");
        });
        stage.unpack().unwrap();
        Mark::check(&stage.plan.directory, &stage.plan.recovery).unwrap();
        assert!(stage.plan.directory.join("pg_wal/archive_status").is_dir());
        let mut found = stage
            .plan
            .directory
            .join("base")
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect::<Vec<_>>();
        found.sort();
        assert_eq!(found, ["1", "2"]);
        assert_eq!(fs::read(stage.plan.directory.join("base/2")).unwrap(), b"data");
        for name in ["postmaster.pid", "recovery.signal"] {
            assert!(!stage.plan.directory.join(name).exists(), "{name}");
        }
    }
}

#[test]
fn a_million_empty_entries_are_unpacked_or_refused_and_never_kept() {
    const ENTRIES: usize = 1_000_000;
    let stage = odd(Compression::Gzip, |tar| {
        add(tar, EntryType::Regular, "base/1", "", b"");
        let mut header = header(EntryType::Directory, 0);
        header.set_path("base/").unwrap();
        header.set_cksum();
        for _ in 0..ENTRIES {
            tar.append(&header, &b""[..]).unwrap();
        }
    });
    stage.unpack().unwrap();
    assert!(stage.plan.directory.join("base/1").exists());
}

#[test]
fn tars_that_are_cut_off_or_have_wrong_sizes() {
    for form in FORMS.iter().filter(|form| !form.is_directory()) {
        let stage = Stage::new(*form);
        let path = &stage.plan.backup.parts[0].path;
        let whole = fs::read(path).unwrap();
        for cut in [1, 600, whole.len() / 2, whole.len() - 2000] {
            fs::write(path, &whole[..cut]).unwrap();
            stage.fails("backup-broken", &["cannot be read to its end"]);
        }
        let mut damaged = whole.clone();
        let middle = damaged.len() / 3;
        damaged[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(path, &damaged).unwrap();
        let error = stage.unpack().unwrap_err();
        assert!(matches!(error.report().code, "backup-broken" | "backup-damaged"), "{form:?}: {error}");
    }
    let stage = odd(Compression::None, |tar| {
        let mut header = header(EntryType::Regular, 0);
        header.set_path("base/1").unwrap();
        header.set_size(u64::MAX >> 2);
        header.set_cksum();
        tar.get_mut().extend_from_slice(header.as_bytes());
    });
    stage.fails("backup-broken", &["base/1"]);
}

#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::MetadataExt;
    for compression in [Compression::None, Compression::Lz4] {
        let stage = odd(compression, |tar| {
            let mut header = header(EntryType::GNUSparse, 512);
            header.set_path("base/1").unwrap();
            let gnu = header.as_gnu_mut().unwrap();
            gnu.set_real_size(64 << 20);
            gnu.sparse[0].set_offset(32 << 20);
            gnu.sparse[0].set_length(512);
            header.set_cksum();
            tar.append(&header, &[7; 512][..]).unwrap();
        });
        stage.unpack().unwrap();
        let file = stage.plan.directory.join("base/1");
        let metadata = fs::metadata(&file).unwrap();
        assert_eq!(metadata.len(), 64 << 20);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
        let bytes = fs::read(file).unwrap();
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == if at >> 9 == (32 << 20) >> 9 { 7 } else { 0 }));
    }
    let stage = Stage::new(Form::Directory);
    let path = stage.plan.backup.location.join("base/1/sparse");
    fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
    stage.unpack().unwrap();
    let metadata = fs::metadata(stage.plan.directory.join("base/1/sparse")).unwrap();
    assert!(metadata.len() == 64 << 20 && metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
}

/// The inodes of what was unpacked: a file that is written again has another one.
fn inodes(stage: &Stage) -> BTreeMap<String, u64> {
    let inode = |name: &String| {
        let (inside, of_tablespace) = Stage::split(name);
        let root = if of_tablespace { &stage.plan.tablespaces[0].to } else { &stage.plan.directory };
        fs::symlink_metadata(root.join(inside)).ok().map(|metadata| (name.clone(), metadata.ino()))
    };
    stage.files.keys().filter_map(inode).collect()
}

#[test]
fn what_is_complete_is_not_written_again() {
    // Both parts of one tar are in one file.
    for form in FORMS.into_iter().filter(|form| !matches!(form, Form::OneTar(_))) {
        let stage = Stage::new(form);
        // The last part cannot be unpacked at first.
        let (last, hidden) = (stage.plan.backup.parts[1].path.clone(), stage.place.path().join("hidden"));
        let write_front = |bytes: &[u8]| {
            let file = fs::OpenOptions::new().write(true).open(&last).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
            file.set_modified(modified).unwrap();
        };
        let is_directory = form.is_directory();
        if is_directory {
            fs::rename(&last, &hidden).unwrap();
            fs::create_dir(&last).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", last.join("PG_15")).unwrap();
        } else {
            fs::copy(&last, &hidden).unwrap();
            write_front(&[0xFF; 300]);
        }
        stage.unpack().unwrap_err();
        let before = inodes(&stage);
        assert!(before.len() >= 7, "{form:?}: {before:?}");
        // One is half written, another one was changed since.
        fs::write(stage.plan.directory.join("base/1/3"), b"half").unwrap();
        fs::write(stage.plan.directory.join("base/1/1"), bytes(99, stage.files["base/1/1"].len())).unwrap();
        if is_directory {
            fs::remove_dir_all(&last).unwrap();
            fs::rename(&hidden, &last).unwrap();
        } else {
            write_front(&fs::read(&hidden).unwrap());
        }
        let total: u64 = stage.plan.backup.parts.iter().map(|part| part.size_bytes).sum();
        assert_eq!(stage.unpack().unwrap(), total, "{form:?}");
        stage.assert_whole();
        let after = inodes(&stage);
        // Another directory in the place of the part's makes another backup of it.
        if !is_directory {
            for (name, inode) in before.iter().filter(|(name, _)| !["base/1/1", "base/1/3"].contains(&name.as_str())) {
                assert_eq!((after[name], name), (*inode, name), "{form:?}: it was written again");
            }
        }
    }
}

#[test]
fn what_was_cancelled_anywhere_goes_on_to_the_same_end() {
    for form in FORMS {
        let mut files: BTreeMap<String, Vec<u8>> =
            (0..300).map(|n| (format!("base/{}/{n}", n % 7), bytes(n, (n as usize % 9) * 20_000))).collect();
        files.insert("pg_tblspc/16385/PG_15/1".to_owned(), bytes(1, 1 << 20));
        let stage = Stage::of(form, files);
        for wanted in [1, 60, 200] {
            let cancel = Cancel::default();
            let count = || walk_count(&stage.plan.directory);
            thread::scope(|scope| {
                let unpacking = scope.spawn(|| stage.unpack_watched(&cancel, &|_| {}));
                while count() < wanted && !unpacking.is_finished() {
                    thread::yield_now();
                }
                cancel.cancel();
                if let Err(error) = unpacking.join().unwrap() {
                    assert_eq!(error.report().code, "cancelled", "{form:?}");
                }
            });
        }
        stage.unpack().unwrap();
        stage.assert_whole();
    }
}

fn walk_count(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { walk_count(&entry.path()) } else { 1 }).sum()
}

#[test]
fn what_nothing_is_known_of_is_begun_anew() {
    let stage = Stage::new(Form::Tar(Compression::None));
    let host = Host::new(false).unwrap();
    let recoveries = Recoveries::below(&stage.place.path().join("state"));
    let recorder = Recorder::open(&host, &recoveries, &stage.plan.recovery, &|_| {}).unwrap();
    prepare(&host, &stage.plan, &current_account(), &recorder).unwrap();
    drop(recorder);
    fs::create_dir(stage.plan.directory.join("base")).unwrap();
    fs::write(stage.plan.directory.join("base/left"), "of an earlier run").unwrap();
    fs::create_dir(&stage.plan.tablespaces[0].to).unwrap();
    fs::write(stage.plan.tablespaces[0].to.join("left"), "too").unwrap();
    stage.unpack().unwrap();
    stage.assert_whole();
    // Without the mark nothing is touched.
    let stage = Stage::new(Form::Tar(Compression::None));
    fs::create_dir(&stage.plan.tablespaces[0].root).unwrap();
    fs::write(stage.plan.tablespaces[0].root.join("somebody's"), "").unwrap();
    stage.fails("directory-not-empty", &["new.tablespaces"]);
    assert!(stage.plan.tablespaces[0].root.join("somebody's").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_files_there_are_every_form_gives_the_same(
        sizes in prop::collection::vec((0usize..9, 0usize..70_000), 0..25),
        which in 0..FORMS.len(),
    ) {
        let files: BTreeMap<String, Vec<u8>> = sizes
            .iter()
            .enumerate()
            .map(|(at, (directory, size))| {
                let place = if *directory == 0 { "pg_tblspc/16385/PG_15".to_owned() } else { format!("base/{directory}") };
                (format!("{place}/{at}"), bytes(at as u64, *size))
            })
            .chain([("pg_tblspc/16385/PG_15/x".to_owned(), Vec::new())])
            .collect();
        let stage = Stage::of(FORMS[which], files);
        stage.unpack().unwrap();
        stage.assert_whole();
    }
}
