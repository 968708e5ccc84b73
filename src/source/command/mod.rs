//! Commands as archives: whatever can serve as a `restore_command` is asked for one file at a time.
//!
//! There is no list of what they have. `listing.rs` finds it out by asking, `walk.rs` says for what; `run.rs` runs a
//! command once, and `store.rs` keeps what it gave.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::catalog::Compression;
use crate::config::{SourceConfig, cache_of_environment};
use crate::core::{ArchiveFile, FetchCommand, PlacedCommand, SegmentName};
use crate::error::{Error, Result};
use crate::pgdata::history::History;
use crate::wal::SegmentHeader;

use super::local::{SEGMENT_DAMAGED, segment_damaged};
use super::{Cancel, Identity};

mod listing;
pub mod run;
mod store;
pub mod walk;

use run::{Call, Came, Missing};
use store::{Known, Store};

/// So long a file that is not there is not asked for again.
const LATELY: Duration = Duration::from_secs(30);
/// To prove that it works, a command is asked for so many files again at most.
const PROOFS: usize = 4;
/// Bytes of a history or `.backup` file at most; real ones have a few hundred.
const SMALL_FILE: u64 = 1 << 20;

/// The commands of a source.
#[derive(Debug, Default)]
pub struct Commands {
    placed: Vec<PlacedCommand>,
    fetchers: Vec<Fetcher>,
    /// Ends what is at work.
    cancel: Mutex<Cancel>,
    /// The segments that they have, once they have been listed.
    listed: Mutex<Option<BTreeSet<SegmentName>>>,
}

/// How much was fetched so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fetched {
    /// Files that were asked for.
    pub asked: u64,
    /// Files that were given.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// One of the commands.
#[derive(Debug)]
struct Fetcher {
    command: FetchCommand,
    /// Stands for it as a directory's number does for that.
    place: u64,
    cache: Option<PathBuf>,
    bound: u64,
    store: OnceLock<Result<Store>>,
    /// Whose WAL it should be.
    cluster: OnceLock<u64>,
    /// Files that are being fetched: whoever wants one of them too waits.
    gates: Mutex<BTreeMap<ArchiveFile, Arc<Mutex<()>>>>,
    /// What was not there lately, and when it was asked for.
    missing: Mutex<BTreeMap<ArchiveFile, (Instant, Missing)>>,
    /// When it gave a file the last time.
    gave: Mutex<Option<Instant>>,
    asked: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
}

/// A file, or why there is none.
enum Got {
    File(File),
    Missing(Missing),
}

impl Commands {
    /// Those of a configured source.
    #[must_use]
    pub fn new(config: &SourceConfig) -> Commands {
        let cache = cache_of_environment();
        let fetcher = |placed: &PlacedCommand| Fetcher::new(&placed.fetch, cache.clone(), config.fetched_bytes());
        Commands {
            placed: config.commands.clone(),
            fetchers: config.commands.iter().map(fetcher).collect(),
            cancel: Mutex::default(),
            listed: Mutex::default(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fetchers.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fetchers.len()
    }

    /// As they are configured.
    #[must_use]
    pub fn placed(&self) -> &[PlacedCommand] {
        &self.placed
    }

    /// How much was fetched so far.
    #[must_use]
    pub fn fetched(&self) -> Fetched {
        self.fetchers.iter().fold(Fetched::default(), |sum, fetcher| Fetched {
            asked: sum.asked + fetcher.asked.load(Ordering::Relaxed),
            files: sum.files + fetcher.files.load(Ordering::Relaxed),
            bytes: sum.bytes + fetcher.bytes.load(Ordering::Relaxed),
        })
    }

    /// From now on this ends what is at work.
    pub fn cancelled_by(&self, cancel: &Cancel) {
        *lock(&self.cancel) = cancel.clone();
    }

    fn cancel(&self) -> Cancel {
        lock(&self.cancel).clone()
    }

    /// A segment, fetched where it is not kept; with `partial` its `.partial`, where it is not there itself. `None` where
    /// no command has it.
    ///
    /// # Errors
    /// Where a command is broken, gives something else, or was cancelled.
    pub fn open(&self, name: SegmentName, partial: bool) -> Result<Option<File>> {
        let is_listed = lock(&self.listed).as_ref().map(|listed| listed.contains(&name));
        if is_listed == Some(false) {
            return Ok(None);
        }
        let cancel = self.cancel();
        let partial = partial.then_some(ArchiveFile::Partial(name));
        let mut failed = None;
        for file in [Some(ArchiveFile::Segment(name)), partial].into_iter().flatten() {
            for fetcher in &self.fetchers {
                match fetcher.get(file, &cancel) {
                    Ok(Got::File(file)) => return Ok(Some(file)),
                    Ok(Got::Missing(missing)) => fetcher.believe(file, &missing, &cancel)?,
                    // Another one may have it whole.
                    Err(error) if error.report().code == SEGMENT_DAMAGED => failed = Some(error),
                    Err(error) => return Err(error),
                }
            }
        }
        // What is wrong with it is said by the listing, which is still to come.
        failed.filter(|_| is_listed.is_some()).map_or(Ok(None), Err)
    }

    /// What tells whether a command's segment is still the one that was read. They do not change, so that this is known
    /// before one is fetched; where one was fetched again and was another, it is another from then on.
    #[must_use]
    pub fn identity(&self, name: SegmentName) -> Option<Identity> {
        let is_listed = lock(&self.listed).as_ref().is_some_and(|listed| listed.contains(&name));
        let fetcher = self.fetchers.first().filter(|_| is_listed)?;
        let owner = self.fetchers.iter().find(|fetcher| fetcher.has_given(name)).unwrap_or(fetcher);
        // Which of them will give it, is not known before.
        Some(Identity { place: fetcher.place, ..owner.identity(name) })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fetcher {
    fn new(command: &FetchCommand, cache: Option<PathBuf>, bound: u64) -> Fetcher {
        let digest = Sha256::digest(format!("command {}", command.command));
        Fetcher {
            command: command.clone(),
            place: digest.first_chunk().map_or(0, |first| u64::from_le_bytes(*first)),
            cache,
            bound,
            store: OnceLock::new(),
            cluster: OnceLock::new(),
            gates: Mutex::default(),
            missing: Mutex::default(),
            gave: Mutex::default(),
            asked: AtomicU64::new(0),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    fn store(&self) -> Result<&Store> {
        let open = || match &self.cache {
            Some(cache) => Store::open(cache, &self.command, self.bound),
            None => Err(Error::usage("no-cache-directory", "there is no place to keep what a command fetches")
                .hint("set WALBACK_CACHE_DIR to a directory of your own")),
        };
        self.store.get_or_init(open).as_ref().map_err(Clone::clone)
    }

    /// Whether it has given this segment before.
    fn has_given(&self, name: SegmentName) -> bool {
        let known = self.store().ok().and_then(|store| store.known_of(ArchiveFile::Segment(name)));
        known.is_some_and(|known| known.contents.is_some())
    }

    fn identity(&self, name: SegmentName) -> Identity {
        let store = self.store().ok();
        let known = |file| store.and_then(|store| store.known_of(file));
        let partial = known(ArchiveFile::Partial(name)).and_then(|known| known.contents);
        let segment = known(ArchiveFile::Segment(name));
        // What is only there as a partial is known by what it held the last time.
        let (bytes, sum) = partial.filter(|_| !self.has_given(name)).unwrap_or_default();
        Identity {
            place: self.place,
            device: sum,
            inode: u64::from(name.log) << 32 | u64::from(name.seg),
            bytes,
            modified_ns: i64::from(segment.map_or(0, |known| known.generation)),
            changed_ns: 0,
        }
    }

    /// A file, fetched where it is not kept.
    fn get(&self, file: ArchiveFile, cancel: &Cancel) -> Result<Got> {
        let store = self.store()?;
        if let Some(kept) = store.kept(file) {
            return Ok(Got::File(kept));
        }
        let gate = Arc::clone(lock(&self.gates).entry(file).or_default());
        let got = {
            let _alone = lock(&gate);
            match (store.kept(file), self.was_missing(file)) {
                (Some(kept), _) => Ok(Got::File(kept)),
                (None, Some(missing)) => Ok(Got::Missing(missing)),
                (None, None) => self.ask(file, cancel),
            }
        };
        lock(&self.gates).remove(&file);
        got
    }

    fn was_missing(&self, file: ArchiveFile) -> Option<Missing> {
        let missing = lock(&self.missing);
        missing.get(&file).filter(|(at, _)| at.elapsed() < LATELY).map(|(_, missing)| missing.clone())
    }

    /// Asks the command.
    fn ask(&self, file: ArchiveFile, cancel: &Cancel) -> Result<Got> {
        let store = self.store()?;
        let work = store.work()?;
        self.asked.fetch_add(1, Ordering::Relaxed);
        let call = Call { command: &self.command, file, directory: work.path(), to: &work.told(), own_group: true };
        match call.run(cancel)? {
            Came::Missing(missing) => {
                lock(&self.missing).insert(file, (Instant::now(), missing.clone()));
                Ok(Got::Missing(missing))
            }
            Came::File => {
                self.check(file, &work.place())?;
                let taken = store.take(&work, file)?;
                *lock(&self.gave) = Some(Instant::now());
                self.files.fetch_add(1, Ordering::Relaxed);
                self.bytes.fetch_add(taken.metadata().map_or(0, |metadata| metadata.len()), Ordering::Relaxed);
                Ok(Got::File(taken))
            }
        }
    }

    /// Whether what was fetched is the file that was asked for, as far as its size and its header tell.
    fn check(&self, file: ArchiveFile, path: &std::path::Path) -> Result<()> {
        let wrong =
            |why: String| segment_damaged(format!("what {} gave for {file} is not that: {why}", self.command.shown()));
        let unreadable = |error: std::io::Error| super::unreadable("what a command fetched", path, &error);
        let mut fetched = super::open_unlinked(path).map_err(unreadable)?;
        let bytes = fetched.metadata().map_err(unreadable)?.len();
        let mut front = Vec::new();
        fetched.by_ref().take(SMALL_FILE + 1).read_to_end(&mut front).map_err(unreadable)?;
        match file {
            ArchiveFile::Segment(name) | ArchiveFile::Partial(name) => {
                flaw_of_segment(name, bytes, &front, self.cluster.get().copied())
                    .map_or(Ok(()), |flaw| Err(wrong(flaw)))
            }
            _ if bytes > SMALL_FILE => Err(wrong(format!("it has {bytes} bytes"))),
            // The server ends each line (`writeTimeLineHistory`, `timeline.c` of 13 to 18).
            ArchiveFile::History(_) if front.last().is_some_and(|last| *last != b'\n') => {
                Err(wrong("it breaks off within a line".to_owned()))
            }
            ArchiveFile::History(timeline) => match History::parse(timeline, &String::from_utf8_lossy(&front)) {
                Ok(history) if history.entries.is_empty() => Err(wrong("it names no timeline".to_owned())),
                Ok(_) => Ok(()),
                Err(bad) => Err(wrong(bad.to_string())),
            },
            ArchiveFile::BackupHistory(..) => Ok(()),
        }
    }

    /// That a file is not there is a serious thing to say. Where the status could mean anything, the command has to prove
    /// that it works, by giving again what it gave before.
    fn believe(&self, file: ArchiveFile, missing: &Missing, cancel: &Cancel) -> Result<()> {
        let store = self.store()?;
        if !missing.certain {
            let at = lock(&self.missing).get(&file).map(|(at, _)| *at);
            self.prove(at, missing, cancel)?;
        }
        let is_news = store.known_of(file).is_none_or(|known| known.contents.is_some());
        if is_news && matches!(file, ArchiveFile::Segment(_)) { store.note_absent(file) } else { Ok(()) }
    }

    /// Has the command give something again that it gave before, unless it gave anything since `at`. Where nothing was ever
    /// given, nothing can be proven. One file that is gone may have been removed from the archive; the command is broken
    /// where several are, the latest among them.
    fn prove(&self, at: Option<Instant>, missing: &Missing, cancel: &Cancel) -> Result<()> {
        if lock(&self.gave).zip(at).is_some_and(|(gave, at)| gave > at) {
            return Ok(());
        }
        let store = self.store()?;
        let mut gone = Vec::new();
        for file in proofs(&store.all_known()) {
            match self.ask(file, cancel) {
                Ok(Got::Missing(now)) => gone.push((file, now)),
                Err(error) => return Err(error),
                Ok(Got::File(_)) => {
                    for (file, _) in gone {
                        store.note_absent(file)?;
                    }
                    return Ok(());
                }
            }
        }
        let Some((_, now)) = gone.first() else { return Ok(()) };
        let names: Vec<String> = gone.iter().map(|(file, _)| file.to_string()).collect();
        Err(run::broken(format!(
            "{} cannot be trusted: it says that files are not there ({})",
            self.command.named(),
            missing.words
        ))
        .because(format!("of {}, which it has given before, it says so too: {}", names.join(", "), now.words))
        .hint(format!(
            "run it by hand; nothing is taken for the end of WAL until it works; if its archive was replaced by another, remove {}",
            self.cache.as_deref().unwrap_or(std::path::Path::new("")).join("fetched").display()
        )))
    }
}

/// What a command is asked for again to prove that it works: the smallest file that it has given, of those the latest, then
/// the latest segments, which are removed from an archive the last, then the smallest ones that are left.
fn proofs(known: &[(ArchiveFile, Known)]) -> Vec<ArchiveFile> {
    let given = known.iter().filter_map(|(file, known)| Some((known.contents?.0, *known, *file)));
    let mut smallest: Vec<_> = given.filter(|(.., file)| !matches!(file, ArchiveFile::Partial(_))).collect();
    smallest.sort_by_key(|(bytes, known, _)| (*bytes, std::cmp::Reverse(known.at)));
    let mut latest: Vec<_> = smallest.iter().filter(|(.., file)| file.whole_segment().is_some()).collect();
    latest.sort_by_key(|(_, known, file)| std::cmp::Reverse((known.at, *file)));
    let mut chosen: Vec<ArchiveFile> = Vec::new();
    let in_turn = smallest.first().into_iter().chain(latest.into_iter().take(2)).chain(&smallest);
    for (.., file) in in_turn {
        if chosen.len() < PROOFS && !chosen.contains(file) {
            chosen.push(*file);
        }
    }
    chosen
}

/// What is wrong with a segment's file, as far as its size and header tell.
fn flaw_of_segment(name: SegmentName, bytes: u64, front: &[u8], cluster: Option<u64>) -> Option<String> {
    if let Err(why) = Compression::None.check_contents(front) {
        return Some(format!("{why}; the command has to unpack it"));
    }
    let header = match SegmentHeader::parse(front) {
        Ok(header) => header,
        Err(bad) => return Some(bad.to_string()),
    };
    let size = header.segment_size;
    if bytes != size.bytes() {
        return Some(format!("it has {bytes} bytes instead of {}", size.bytes()));
    }
    if let Some(ours) = cluster.filter(|ours| *ours != header.system_identifier) {
        let theirs = header.system_identifier;
        return Some(format!("it is of another cluster: its system identifier is {theirs} instead of {ours}"));
    }
    if header.pageaddr != name.start(size) {
        return Some(format!("its first page is that of {} instead of {}", header.pageaddr, name.start(size)));
    }
    (header.timeline > name.timeline).then(|| format!("its first page is of timeline {}", header.timeline))
}
