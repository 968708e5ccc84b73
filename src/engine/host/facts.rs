//! Gathers what preflight wants to know about this machine. Looks, and changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::catalog::compression::archived;
use crate::catalog::{Backup, Folder};
use crate::config::RestoreConfig;
use crate::core::{PgMajor, PlacedCommand, SegmentName};
use crate::engine::occupant;
use crate::plan::PlacedTablespace;
use crate::plan::make_way::Occupant;
use crate::plan::preflight::{BackupFacts, DirectoryFacts, HostFacts, OwnProgram, PlaceFacts};
use crate::plan::pristine::PristineFacts;

use super::{Account, account, clusters, combining, command_as, current_account, system};

/// The first port that is tried where none was asked for: not a server's usual one.
const FIRST_PORT: u16 = 5499;
/// The programs that a recovery needs.
const PROGRAMS: [&str; 2] = ["postgres", "pg_ctl"];

/// What was asked for.
pub struct Wanted<'a> {
    /// The new data directory, absolute.
    pub directory: &'a Path,
    /// The base backup.
    pub backup: &'a Backup,
    /// It with all that it builds upon; empty for a full one.
    pub chain: &'a [&'a Backup],
    /// What its own files say.
    pub backup_facts: &'a BackupFacts,
    /// The newest segment of the archives on the timeline that is recovered, where all of it is.
    pub newest: Option<SegmentName>,
    /// Where its tablespaces go.
    pub tablespaces: &'a [PlacedTablespace],
    /// The version of the server.
    pub major: PgMajor,
    /// The port.
    pub port: u16,
    /// Whether the port was asked for, and not chosen.
    pub restore: &'a RestoreConfig,
    /// Whether a data directory that is there shall make way.
    pub make_way: bool,
    /// The source's directories, which are never written to.
    pub sources: &'a [PathBuf],
    /// Where the recoveries' journals are.
    pub journals: &'a Path,
    /// The archives that the server will read.
    pub archives: &'a [PathBuf],
    /// The commands that it will run to get WAL.
    pub commands: &'a [PlacedCommand],
    /// Whether the server shall get WAL by this program.
    pub fetches: bool,
    /// The programs that unpack what is in them.
    pub decompressors: Vec<&'static str>,
}

/// Looks at this machine.
#[must_use]
pub fn gather(wanted: &Wanted<'_>) -> HostFacts {
    let run_as = server_account(wanted.restore.run_as.as_deref());
    let (bin_dir, searched, wrong_version) = find_programs(wanted.major, wanted.restore.bin_dir.as_deref());
    let account = run_as.as_ref().ok();
    let libraries =
        bin_dir.as_deref().map(|bin_dir| system::missing_libraries(wanted.restore.settings.iter(), bin_dir));
    let refused = bin_dir.as_deref().map(|bin_dir| system::refused_settings(wanted.restore.settings.iter(), bin_dir));
    let newest = wanted.newest;
    let control = || wanted.backup_facts.files.control().map(|control| control.system_identifier);
    let cluster = wanted.backup.system_identifier.or_else(control);
    let sources = with_origins(wanted);
    let there = directory(wanted.directory, account, &sources);
    let is_data = matches!(there, DirectoryFacts::NotEmpty { data_directory: true, .. });
    let needed: Vec<PathBuf> = bin_dir.iter().cloned().chain([wanted.journals.to_path_buf()]).collect();
    let occupant = is_data.then(|| occupant::look(wanted.directory, &sources, &needed));
    let there = match &occupant {
        Some(Occupant::Stopped(_)) if wanted.make_way => new_in_parent(wanted.directory, account),
        _ => there,
    };
    HostFacts {
        occupant,
        pristine: pristine(wanted.directory),
        missing_locales: system::missing_locales(wanted.backup_facts.needed_locales()),
        glibc: system::glibc(),
        missing_libraries: libraries.unwrap_or_default(),
        refused_settings: refused.unwrap_or_default(),
        running_sources: clusters::running(wanted.archives),
        unarchived: newest.and_then(|newest| clusters::unarchived(cluster, newest, wanted.archives)),
        occupied: system::occupied(&wanted.backup.tablespaces),
        directory: there,
        free_bytes: free_bytes(wanted.directory),
        tablespace_places: tablespace_places(wanted, account),
        // One that was chosen was free a moment ago; another Walback that looks for one may be holding it just now.
        port_taken_by: wanted.restore.port.and_then(port_taken_by),
        combine: combining::look(wanted.chain, bin_dir.as_deref(), wanted.major, account),
        bin_dir,
        searched,
        wrong_version,
        unreadable_archives: account.map(|account| unreadable(wanted.archives, account)).unwrap_or_default(),
        unrunnable_commands: unrunnable(wanted.commands, account),
        own_program: wanted.fetches.then(|| own_program(account, wanted.directory)),
        missing_programs: missing(&wanted.decompressors),
        run_as: run_as.map(|account| account.name),
    }
}

/// What is where the directories for tablespaces shall be. Where the tablespaces were counts as a source.
fn tablespace_places(wanted: &Wanted<'_>, account: Option<&Account>) -> Vec<PlaceFacts> {
    let mut roots: Vec<&Path> = wanted.tablespaces.iter().map(|tablespace| tablespace.root.as_path()).collect();
    roots.sort_unstable();
    roots.dedup();
    // Nothing goes where the one that makes way has its own.
    let formers = if wanted.make_way { occupant::links_of(wanted.directory) } else { Vec::new() };
    let sources: Vec<PathBuf> = with_origins(wanted).into_iter().chain(formers).collect();
    let here = file_system(wanted.directory);
    let look = |root: &Path| {
        let there = file_system(root);
        PlaceFacts {
            root: root.to_path_buf(),
            directory: directory(root, account, &sources),
            free_bytes: free_bytes(root),
            file_system: if there == here { 0 } else { there.unwrap_or_default() },
        }
    };
    roots.into_iter().map(look).collect()
}

/// The source's directories, and those where the backup's tablespaces were.
fn with_origins(wanted: &Wanted<'_>) -> Vec<PathBuf> {
    let origins = wanted.tablespaces.iter().filter(|tablespace| !tablespace.from.is_empty());
    let origins = origins.map(|tablespace| PathBuf::from(&tablespace.from));
    wanted.sources.iter().cloned().chain(origins).collect()
}

/// The number of the file system on which `path` is, or will be.
fn file_system(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    Some(fs::metadata(existing).ok()?.dev())
}

/// Whether the server's user can run this very program, or a copy of it in the new data directory. It is tried.
fn own_program(account: Option<&Account>, directory: &Path) -> OwnProgram {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return OwnProgram::Unusable(format!("this program does not find itself: {error}")),
    };
    // Who there is not is another finding.
    let Some(account) = account else { return OwnProgram::Runs(program) };
    let mut command = command_as(account, &program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    if command.status().is_ok_and(|status| status.success()) {
        return OwnProgram::Runs(program);
    }
    let above = directory.ancestors().find(|ancestor| ancestor.exists());
    let flags = above.and_then(|above| statvfs(above).ok()).map(|stat| stat.flags());
    if flags.is_some_and(|flags| flags.contains(FsFlags::ST_NOEXEC)) {
        let why = format!("{} is mounted so that no program can be run from it", directory.display());
        return OwnProgram::Unusable(why);
    }
    let why = match program.parent().and_then(|parent| closed_to(account, parent)) {
        Some(closed) => format!("{} is closed to it", closed.display()),
        None => "it was tried".to_owned(),
    };
    OwnProgram::Closed { program, why }
}

/// Those of the programs that are in none of the directories in which a shell looks.
fn missing(programs: &[&str]) -> Vec<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let absent =
        programs.iter().filter(|program| !directories.iter().any(|directory| directory.join(program).is_file()));
    absent.map(ToString::to_string).collect()
}

/// The user that will run the server: the one asked for, ourselves, or `postgres` where we are root.
///
/// # Errors
/// In words, when there is no such user, or we could not become it.
pub fn server_account(asked: Option<&str>) -> Result<Account, String> {
    let current = current_account();
    match (asked, current.uid == 0) {
        (Some(name), true) => account(name),
        (Some(name), false) if name != current.name => {
            Err(format!("only root can run the server as another user ({name}); this is {}", current.name))
        }
        (_, false) => Ok(current),
        (None, true) => account("postgres").map_err(|why| format!("Walback runs as root, and {why}")),
    }
}

/// The port to use: the one asked for, else the first free one.
#[must_use]
pub fn choose_port(asked: Option<u16>) -> u16 {
    asked.unwrap_or_else(|| {
        (FIRST_PORT..FIRST_PORT + 200).find(|port| port_taken_by(*port).is_none()).unwrap_or(FIRST_PORT)
    })
}

/// Who has a port, in words. The recovered server listens on no TCP port while it is isolated, but it shall be able
/// to afterwards.
fn port_taken_by(port: u16) -> Option<String> {
    let taken =
        |bound: std::io::Result<TcpListener>| bound.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse);
    if taken(TcpListener::bind((Ipv4Addr::LOCALHOST, port))) || taken(TcpListener::bind((Ipv6Addr::LOCALHOST, port))) {
        return Some("a program listens on it".to_owned());
    }
    let sockets = ["/tmp", "/var/run/postgresql"].map(|directory| format!("{directory}/.s.PGSQL.{port}"));
    sockets
        .into_iter()
        .find(|socket| {
            // A socket that nobody listens on any more was left behind.
            somebody_answers(Path::new(socket))
                || fs::symlink_metadata(socket).is_ok_and(|_| {
                    fs::read_to_string(format!("{socket}.lock"))
                        .ok()
                        .and_then(|lock| lock.lines().next()?.trim().parse().ok())
                        .is_some_and(crate::engine::server::is_alive)
                })
        })
        .map(|socket| format!("a PostgreSQL server has the socket {socket}"))
}

/// Whether somebody takes connections on a socket.
#[must_use]
pub fn somebody_answers(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

/// The source inside which this path lies, links resolved. Nothing is ever written there.
#[must_use]
pub fn source_of<'s>(path: &Path, sources: &'s [PathBuf]) -> Option<&'s PathBuf> {
    sources.iter().find(|source| is_inside(path, source))
}

fn directory(path: &Path, account: Option<&Account>, sources: &[PathBuf]) -> DirectoryFacts {
    if let Some(source) = source_of(path, sources) {
        return DirectoryFacts::InsideSource(source.clone());
    }
    // A link could lead anywhere by the time it is followed.
    if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
        return DirectoryFacts::NotADirectory;
    }
    let resolved = resolved(path);
    let mut above = path.ancestors().skip(1).chain(resolved.ancestors().skip(1));
    if let Some(above) = above.find(|above| above.join("PG_VERSION").exists()) {
        return DirectoryFacts::InsideDataDirectory(above.to_path_buf());
    }
    let exists = match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() => return DirectoryFacts::NotADirectory,
        Ok(_) => true,
        Err(_) => false,
    };
    if !exists {
        return new_in_parent(path, account);
    }
    if let Some(full) = contents(path) {
        return full;
    }
    if let Some(closed) = closed_for_writing(path) {
        return closed;
    }
    if let (Some(account), Ok(metadata)) = (account, fs::metadata(path))
        && !super::is_root()
        && metadata.uid() != account.uid
    {
        let owner = nix::unistd::User::from_uid(metadata.uid().into()).ok().flatten();
        let owner = owner.map_or_else(|| format!("user {}", metadata.uid()), |user| user.name);
        return DirectoryFacts::Foreign { owner, user: account.name.clone() };
    }
    unreachable_for(account, path).unwrap_or(DirectoryFacts::Empty)
}

/// Whether a directory can be made that is not there, or will not be there any more.
fn new_in_parent(path: &Path, account: Option<&Account>) -> DirectoryFacts {
    let Some(parent) = path.parent() else { return DirectoryFacts::NotADirectory };
    if !parent.is_dir() {
        return DirectoryFacts::NoParent(parent.to_path_buf());
    }
    let closed = closed_for_writing(parent).or_else(|| unreachable_for(account, parent));
    closed.unwrap_or(DirectoryFacts::Absent)
}

fn closed_for_writing(path: &Path) -> Option<DirectoryFacts> {
    let asked = nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK;
    let error = nix::unistd::access(path, asked).err()?;
    Some(DirectoryFacts::NotWritable { path: path.to_path_buf(), why: error.desc().to_owned() })
}

fn unreachable_for(account: Option<&Account>, path: &Path) -> Option<DirectoryFacts> {
    let account = account?;
    Some(DirectoryFacts::Unreachable { path: closed_to(account, path)?, user: account.name.clone() })
}

fn contents(path: &Path) -> Option<DirectoryFacts> {
    let mut sample: Vec<String> = match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect(),
        Err(error) => {
            return Some(DirectoryFacts::NotWritable { path: path.to_path_buf(), why: error.to_string() });
        }
    };
    if sample.is_empty() {
        return None;
    }
    sample.sort();
    let data_directory = sample.iter().any(|name| name == "PG_VERSION");
    sample.truncate(3);
    Some(DirectoryFacts::NotEmpty { sample, data_directory })
}

/// Whether `path` is `directory` or below it, links resolved as far as the path exists.
fn is_inside(path: &Path, directory: &Path) -> bool {
    let Ok(directory) = directory.canonicalize() else { return false };
    // A link on the way may lead to any place inside.
    resolved(path).starts_with(&directory)
        || path.ancestors().any(|ancestor| ancestor.canonicalize().is_ok_and(|ancestor| ancestor == directory))
}

/// Where a path leads that need not be there yet, links resolved.
fn resolved(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)));
    match there.and_then(|(ancestor, resolved)| Some(resolved.join(path.strip_prefix(ancestor).ok()?))) {
        Some(resolved) => resolved,
        None => path.to_path_buf(),
    }
}

/// The first directory on the way to `path` that `account` may not enter, asked of the system as that user.
pub(crate) fn closed_to(account: &Account, path: &Path) -> Option<PathBuf> {
    if !super::is_root() || account.uid == 0 {
        return None;
    }
    let path = path.canonicalize().ok()?;
    let mut way: Vec<&Path> = path.ancestors().collect();
    way.reverse();
    way.into_iter().find(|directory| !passes_test(account, "-x", directory)).map(Path::to_path_buf)
}

/// So many files of an archive are asked for.
const SAMPLE: usize = 3;

/// What in a directory has a name like this.
fn entries<'a>(directory: &Path, is_it: &'a dyn Fn(&str) -> bool) -> impl Iterator<Item = PathBuf> + use<'a> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| is_it(&entry.file_name().to_string_lossy())).map(|entry| entry.path())
}

fn unreadable(archives: &[PathBuf], account: &Account) -> Vec<(PathBuf, String)> {
    let why = |archive: &PathBuf| {
        if let Some(closed) = closed_to(account, archive) {
            return Some(format!("{} is closed to it", closed.display()));
        }
        if !passes_test(account, "-r", archive) {
            return Some("the directory cannot be listed".to_owned());
        }
        let folder = entries(archive, &|name| Folder::parse(name).is_some()).next();
        if let Some(closed) = folder.as_deref().filter(|folder| !passes_test(account, "-x", folder)) {
            return Some(format!("{} is closed to it", closed.display()));
        }
        let of_folder = folder.as_deref().and_then(|path| Folder::parse(path.file_name()?.to_str()?));
        let is_inside = |name: &str| archived(name).zip(of_folder).is_some_and(|((file, _), of)| of.is_of(file));
        let inside = folder.iter().flat_map(|folder| entries(folder, &is_inside).take(SAMPLE));
        // A few stand for all. One that is closed among others is that one's fault.
        let files: Vec<PathBuf> =
            entries(archive, &|name| archived(name).is_some()).take(SAMPLE).chain(inside).collect();
        let is_open = files.iter().any(|file| passes_test(account, "-r", file));
        let closed = files.first().filter(|_| !is_open)?;
        Some(format!("{} is closed to it", closed.display()))
    };
    archives.iter().filter_map(|archive| Some((archive.clone(), why(archive)?))).collect()
}

/// Whether a shell finds a program. Not every `command -v` looks whether it may be run.
const FINDS: &str = r#"case $1 in /*) test -f "$1" && test -x "$1";; *) command -v "$1";; esac"#;

/// The programs of commands that the server's user does not find. What a shell would have to take apart first is not
/// looked for.
fn unrunnable(commands: &[PlacedCommand], account: Option<&Account>) -> Vec<String> {
    // From a whole path, or by the PATH: another one begins in a directory that is not there yet.
    let is_plain = |word: &&str| {
        !word.is_empty()
            && (word.starts_with('/') || !word.contains('/'))
            && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+'))
    };
    let words: BTreeSet<&str> = commands.iter().map(|command| command.fetch.program_word()).filter(is_plain).collect();
    let is_found = |word: &&str| {
        let mut command = match account {
            Some(account) => command_as(account, Path::new("/bin/sh")),
            None => Command::new("/bin/sh"),
        };
        command.args(["-c", FINDS, "sh", word]).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Where that cannot be asked, nothing is said.
        command.status().map_or(true, |status| status.success())
    };
    words.into_iter().filter(|word| !is_found(word)).map(str::to_owned).collect()
}

/// Asks `test` as that user: who may do what is for the system to say, not for a look at modes.
pub(super) fn passes_test(account: &Account, flag: &str, path: &Path) -> bool {
    let mut command = command_as(account, Path::new("test"));
    command.arg(flag).arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    command.status().is_ok_and(|status| status.success())
}

/// What is beside a data directory, where a copy of it would be kept, and whether files can share their blocks there.
fn pristine(directory: &Path) -> PristineFacts {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(".pristine");
    if fs::symlink_metadata(directory.with_file_name(name)).is_ok() {
        return PristineFacts::Taken;
    }
    let Some(parent) = directory.parent() else { return PristineFacts::Elsewhere };
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    if device(directory).is_some_and(|device_of_data| device(parent) != Some(device_of_data)) {
        return PristineFacts::Elsewhere;
    }
    match nix::sys::statfs::statfs(parent).ok().and_then(|kind| shares_nothing(kind.filesystem_type().0)) {
        Some(kind) => PristineFacts::SharesNothing(kind.to_owned()),
        None => PristineFacts::Shares,
    }
}

/// The kind of a file system on which no files share blocks, by its magic number (`statfs(2)`). Of the others it is tried
/// before anything is unpacked.
fn shares_nothing(magic: i64) -> Option<&'static str> {
    match magic {
        0xEF53 => Some("ext2, ext3 or ext4"),
        0x0102_1994 => Some("tmpfs"),
        _ => None,
    }
}

/// Bytes that lie below a directory, as far as this user may look; links are not followed.
pub(crate) fn used_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => used_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks().saturating_mul(512),
        Err(_) => 0,
    };
    entries.map(of).fold(0, u64::saturating_add)
}

pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    let stat = statvfs(existing).ok()?;
    #[allow(clippy::useless_conversion, reason = "the types differ between systems")]
    Some(u64::from(stat.blocks_available()).saturating_mul(u64::from(stat.fragment_size())))
}

/// The directory with the programs of a major version; where they were looked for; and, where a directory was set and
/// its programs are of another version, which.
fn find_programs(major: PgMajor, set: Option<&Path>) -> (Option<PathBuf>, Vec<PathBuf>, Option<(PathBuf, String)>) {
    if let Some(directory) = set {
        let version = version_of(directory);
        let wrong = version.as_ref().filter(|version| parse_version(version) != Some(major));
        let wrong = wrong.map(|version| (directory.to_path_buf(), version.clone()));
        let right = (wrong.is_none() && version.is_some()).then(|| directory.to_path_buf());
        return (right, vec![directory.to_path_buf()], wrong);
    }
    let searched = usual_places(major);
    let found = searched
        .iter()
        .find(|directory| version_of(directory).is_some_and(|version| parse_version(&version) == Some(major)));
    (found.cloned(), searched, None)
}

/// Every server of a major that Walback recovers, the newest first: in the directory that was set, or in `PATH` and
/// the usual places.
#[must_use]
pub fn installed_programs(set: Option<&Path>) -> Vec<(PathBuf, PgMajor)> {
    PgMajor::supported().rev().filter_map(|major| Some((find_programs(major, set).0?, major))).collect()
}

/// A client program like `vacuumdb`: beside the server's programs, where those really are if they are links, in the
/// usual places and in `PATH`. Where it is nowhere, the path that it should have.
#[must_use]
pub fn client_program(name: &str, bin_dir: &Path, major: PgMajor) -> PathBuf {
    let linked = bin_dir.join("postgres").canonicalize().ok();
    let linked = linked.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::iter::once(bin_dir.to_path_buf()).chain(linked).chain(usual_places(major));
    let mut programs = places.chain(std::env::split_paths(&path)).map(|place| place.join(name));
    programs.find(|program| program.is_file()).unwrap_or_else(|| bin_dir.join(name))
}

/// `PATH`, and where Debian, PGDG's RPMs, Homebrew, Postgres.app and builds from source put a major version.
fn usual_places(major: PgMajor) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).filter(|directory| directory.join("postgres").is_file());
    let usual = [
        format!("/usr/lib/postgresql/{major}/bin"),
        format!("/usr/pgsql-{major}/bin"),
        format!("/opt/homebrew/opt/postgresql@{major}/bin"),
        format!("/usr/local/opt/postgresql@{major}/bin"),
        format!("/home/linuxbrew/.linuxbrew/opt/postgresql@{major}/bin"),
        format!("/Applications/Postgres.app/Contents/Versions/{major}/bin"),
        "/usr/local/pgsql/bin".to_owned(),
    ];
    let mut places: Vec<PathBuf> = on_path.chain(usual.into_iter().map(PathBuf::from)).collect();
    let mut seen = std::collections::HashSet::new();
    places.retain(|place| seen.insert(place.clone()));
    places
}

/// What `postgres --version` in a directory says, where all the programs are there.
fn version_of(directory: &Path) -> Option<String> {
    let runnable = |name: &str| fs::metadata(directory.join(name)).is_ok_and(|file| file.mode() & 0o111 != 0);
    if !PROGRAMS.iter().all(|name| runnable(name)) {
        return None;
    }
    let output = Command::new(directory.join("postgres")).arg("--version").stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` → 15
pub(super) fn parse_version(text: &str) -> Option<PgMajor> {
    PgMajor::parse(text.split("(PostgreSQL)").nth(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_server_says() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(PgMajor(15)));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some(PgMajor(18)));
        assert_eq!(parse_version("something else 15"), None);
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_taken() {
        let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listener = listen();
        let port = listener.local_addr().unwrap().port();
        assert!(port_taken_by(port).is_some());
        // Somebody else may take a port as soon as it is free, but not every one.
        let free = || {
            let port = listen().local_addr().unwrap().port();
            port_taken_by(port).is_none().then_some(port)
        };
        assert!((0..100).find_map(|_| free()).is_some());
    }

    #[test]
    fn a_directory_inside_a_source_is_seen_through_links() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("backups");
        fs::create_dir(&source).unwrap();
        std::os::unix::fs::symlink(&source, directory.path().join("link")).unwrap();
        assert!(is_inside(&directory.path().join("link/new/data"), &source));
        assert!(!is_inside(&directory.path().join("data"), &source));
    }
}
