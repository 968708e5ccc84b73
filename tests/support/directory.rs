//! A temporary directory in which servers can live, and from which none survives.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::unistd::{Pid, chown};
use tempfile::TempDir;

use super::server::{as_server, server_user};

/// The longest path of a directory for sockets: `sun_path` holds 107 bytes, and `/.s.PGSQL.65535.lock` is added to it.
const LONGEST: usize = 80;

/// The bytes that have to be free in memory for it to be used; a test needs some hundred megabytes.
const ROOM: u64 = 4 << 30;

/// Waits until its standard input ends, which it does with the test program, stops the servers in the directory, and
/// removes it. An interrupt at the terminal is for the program, not for it.
const GUARD: &str = "trap '' INT TERM HUP; cat >/dev/null
for file in \"$1\"/*/postmaster.pid; do [ -f \"$file\" ] && kill -QUIT \"$(head -n 1 \"$file\")\"; done
rm -rf \"$1\"";

/// A temporary directory that belongs to the servers' user, with a short and harmless path.
#[derive(Debug)]
pub struct Directory(TempDir);

impl Directory {
    /// A new one in `$TMPDIR`, or in `/tmp` where the servers could not use that.
    pub fn new() -> Directory {
        Directory::below(&std::env::temp_dir())
    }

    /// A new one in memory, where there is room: clusters are made of a thousand files each, and that takes time on disks.
    pub fn in_memory() -> Directory {
        let memory = Path::new("/dev/shm");
        let room = statvfs(memory).map(|fs| fs.blocks_available() * fs.fragment_size());
        if room.is_ok_and(|bytes| bytes >= ROOM) { Directory::below(memory) } else { Directory::new() }
    }

    fn below(wanted: &Path) -> Directory {
        let base = if is_usable(wanted) { wanted } else { Path::new("/tmp") };
        let directory = tempfile::Builder::new().prefix("walback-").tempdir_in(base).unwrap();
        give(directory.path(), 0o700);
        Directory(directory)
    }

    /// A new one that lasts until the test program ends, however it does: for what many tests read and none changes.
    pub fn lasting() -> &'static Directory {
        let directory = Directory::new();
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(directory.path());
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Nothing is ever written to it: it is closed when there is no program any more.
        std::mem::forget(guard.spawn().unwrap().stdin);
        Box::leak(Box::new(directory))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A new directory in it that belongs to the servers' user; only that user may enter it, as PostgreSQL demands of
    /// data directories.
    pub fn create(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(&path).unwrap();
        give(&path, 0o700);
        path
    }

    /// Writes a file in it that belongs to the servers' user, like `primary/recovery.signal`.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, contents).unwrap();
        give(&path, 0o600);
        path
    }
}

impl Drop for Directory {
    /// Stops every server below it, whoever started it.
    fn drop(&mut self) {
        let servers: Vec<Pid> = pid_files(self.path(), 4).iter().filter_map(|file| running_server(file)).collect();
        for server in &servers {
            let _ = kill(*server, Signal::SIGQUIT);
        }
        let start = Instant::now();
        while servers.iter().any(|server| is_running(*server)) && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Makes it the servers' user's own, with that mode.
fn give(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if let Some(user) = server_user() {
        chown(path, Some(user.uid), Some(user.gid)).unwrap();
    }
}

/// Whether the servers' user can enter `base`, and its path needs no quoting and leaves room for a socket's name.
fn is_usable(base: &Path) -> bool {
    let Some(path) = base.to_str() else { return false };
    path.len() + "/walback-123456/name".len() <= LONGEST
        && path.starts_with('/')
        && path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
        && as_server("test").arg("-x").arg(base).status().is_ok_and(|status| status.success())
}

/// The files `postmaster.pid` in `directory` and so many levels below it.
fn pid_files(directory: &Path, levels: u32) -> Vec<PathBuf> {
    let own = Some(directory.join("postmaster.pid")).filter(|file| file.exists());
    let below = fs::read_dir(directory).into_iter().flatten().flatten().filter(|_| levels > 0);
    let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    own.into_iter().chain(below.flat_map(|entry| pid_files(&entry.path(), levels - 1))).collect()
}

/// The server that wrote a `postmaster.pid`, if it still runs in that directory.
fn running_server(file: &Path) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(file).ok()?.lines().next()?.trim().parse().ok()?;
    let works_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    (pid > 1 && works_in == file.parent()?.canonicalize().ok()?).then_some(Pid::from_raw(pid))
}

/// Whether the process is there, and not only waits for its parent to ask for its exit status.
fn is_running(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}
