//! What a recovery does is announced here: into its journal, synced, and then to whoever watches.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::event::{Event, EventBuffer, Failure, Recovery, RecoveryState, What, journal};
use crate::plan::StepId;

use super::host::{Host, now};
use super::mark::Mark;

const JOURNAL: &str = "journal.jsonl";
/// Where drills are kept, in the state directory.
pub const DRILLS: &str = "drills";

/// Whoever watches a recovery.
pub type Watch<'a> = &'a (dyn Fn(&Event) + 'a);

/// The recoveries that this machine knows, each a directory with its journal.
#[derive(Debug, Clone)]
pub struct Recoveries {
    directory: PathBuf,
}

impl Recoveries {
    /// Those whose journals are below a state directory.
    #[must_use]
    pub fn below(state_directory: &Path) -> Recoveries {
        Recoveries { directory: state_directory.join("recoveries") }
    }

    /// Where they are: a directory for each, with its journal.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether a recovery of this name is known: one that was interrupted before its journal had a whole line has done
    /// nothing, and takes no name.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        match fs::read(self.journal(id)) {
            Ok(journal) => journal.contains(&b'\n'),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Whether a recovery is, or was, a drill's: drills are kept beside recoveries, under the same names.
    #[must_use]
    pub fn is_drill(&self, id: &str) -> bool {
        self.directory.with_file_name(DRILLS).join(id).is_dir()
    }

    /// Every known recovery, the newest first; the journals that cannot be read are errors among them.
    ///
    /// # Errors
    /// When the state directory cannot be read. That there is none yet is no error.
    pub fn all(&self) -> Result<Vec<(String, Result<EventBuffer>)>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(
                    Error::failed("unreadable", format!("cannot read {}", self.directory.display())).caused_by(&error)
                );
            }
        };
        let ids = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut all: Vec<_> = ids.map(|id| (id.clone(), self.load(&id))).collect();
        let started = |buffer: &Result<EventBuffer>| buffer.as_ref().ok().and_then(|buffer| buffer.started_at);
        all.sort_by(|(a_id, a), (b_id, b)| started(b).cmp(&started(a)).then_with(|| a_id.cmp(b_id)));
        Ok(all)
    }

    /// What the journals of the recoveries that were last at work fold to, the newest first, at most so many; those that
    /// cannot be read are left out.
    #[must_use]
    pub fn newest(&self, number: usize) -> Vec<EventBuffer> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut known: Vec<_> =
            ids.filter_map(|id| Some((fs::metadata(self.journal(&id)).ok()?.modified().ok()?, id))).collect();
        known.sort_by(|a, b| b.cmp(a));
        known.into_iter().take(number).filter_map(|(_, id)| self.load(&id).ok()).collect()
    }

    /// What a recovery's journal folds to.
    ///
    /// # Errors
    /// When it cannot be read, or a line in it is broken.
    pub fn load(&self, id: &str) -> Result<EventBuffer> {
        let mut buffer = EventBuffer::default();
        for event in self.events(id)? {
            buffer.fold(&event);
        }
        Ok(buffer)
    }

    /// The events of a recovery's journal.
    ///
    /// # Errors
    /// When it cannot be read, or a line in it is broken.
    pub fn events(&self, id: &str) -> Result<Vec<Event>> {
        let path = self.journal(id);
        let text = fs::read_to_string(&path).map_err(|error| {
            Error::failed("journal-unreadable", format!("cannot read the journal: {}", path.display()))
                .caused_by(&error)
        })?;
        journal::decode(&text).map_err(|(line, error)| not_understood(&text, line, &path).caused_by(&error))
    }

    /// The recovery that an operator means: by its id, its directory, or a unique beginning of its id; left out where
    /// there is just one that is not discarded. One that is discarded is meant last.
    ///
    /// # Errors
    /// When none or several fit.
    pub fn find(&self, wanted: Option<&str>) -> Result<Recovery> {
        let mut known: Vec<Recovery> = Vec::new();
        for (id, buffer) in self.all()? {
            match buffer {
                Ok(buffer) => known.extend(buffer.recovery()),
                Err(error) if wanted == Some(&*id) => return Err(error),
                Err(_) => {}
            }
        }
        let names = |some: &[&Recovery]| some.iter().map(|r| r.id.as_str()).collect::<Vec<_>>().join(", ");
        let Some(wanted) = wanted else {
            let open = known.iter().filter(|r| r.state != RecoveryState::Discarded);
            // A drill's is meant by its name only: it comes and goes by itself.
            let (drills, open): (Vec<&Recovery>, Vec<&Recovery>) = open.partition(|r| self.is_drill(&r.id));
            return match open.as_slice() {
                [] if drills.is_empty() => Err(Error::usage("no-recovery", "there is no recovery on this machine")
                    .hint("“walback restore” makes one")),
                [] => Err(Error::usage("no-recovery", "there is no recovery on this machine but those of drills")
                    .hint(format!("name one of these: {}", names(&drills)))),
                [one] => Ok((*one).clone()),
                several => Err(Error::usage("which-recovery", "there are several recoveries, and none was named")
                    .hint(format!("name one: {}", names(several)))),
            };
        };
        let named = || known.iter().find(|recovery| recovery.id == wanted);
        let exact = named()
            .filter(|recovery| recovery.state != RecoveryState::Discarded)
            .or_else(|| in_directory(&known, Path::new(wanted)))
            .or_else(named);
        let fitting: Vec<&Recovery> = match exact {
            Some(exact) => vec![exact],
            None => known.iter().filter(|r| r.id.starts_with(wanted)).collect(),
        };
        match fitting.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(Error::usage("unknown-recovery", format!("there is no recovery of this name: {wanted}")).hint(
                if known.is_empty() {
                    "“walback restore” makes one".to_owned()
                } else {
                    format!("known are: {}", names(&known.iter().collect::<Vec<_>>()))
                },
            )),
            several => Err(Error::usage("which-recovery", format!("several recoveries begin with “{wanted}”"))
                .hint(format!("name one: {}", names(several)))),
        }
    }

    pub(super) fn journal(&self, id: &str) -> PathBuf {
        self.directory.join(id).join(JOURNAL)
    }
}

/// A whole line that this program does not understand: a newer one's, where it is an event at all.
fn not_understood(text: &str, line: usize, path: &Path) -> Error {
    let text = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let is_event = serde_json::from_str::<serde_json::Value>(text)
        .is_ok_and(|value| ["at", "recovery", "event"].iter().all(|name| value[name].is_string()));
    if is_event {
        return Error::failed(
            "journal-newer",
            format!("the journal has an event that this Walback does not understand: {}, line {line}", path.display()),
        )
        .hint("a newer Walback has written it: use that one");
    }
    Error::failed("journal-broken", format!("the journal is broken: {}, line {line}", path.display()))
}

/// Announces what one recovery does.
pub struct Recorder<'a> {
    host: &'a Host,
    recovery: String,
    journal: RefCell<File>,
    buffer: RefCell<EventBuffer>,
    watch: Watch<'a>,
}

impl<'a> Recorder<'a> {
    /// For a recovery, known or new. What its journal holds is folded first, and not announced again.
    ///
    /// # Errors
    /// When the journal cannot be opened or read, or another Walback has it.
    pub fn open(host: &'a Host, recoveries: &Recoveries, id: &str, watch: Watch<'a>) -> Result<Recorder<'a>> {
        let path = recoveries.journal(id);
        let known = path.exists();
        host.make_state_directory(path.parent().unwrap_or(&path))?;
        let journal = host.open_journal(&path)?;
        let buffer = if known { recoveries.load(id)? } else { EventBuffer::default() };
        Ok(Recorder {
            host,
            recovery: id.to_owned(),
            journal: RefCell::new(journal),
            buffer: RefCell::new(buffer),
            watch,
        })
    }

    /// Announces something: journalled and synced first, where it belongs into the journal.
    ///
    /// # Errors
    /// When the journal cannot be written; then what was to be announced must not be done.
    pub fn emit(&self, what: What) -> Result<()> {
        let event = Event { at: now(), recovery: self.recovery.clone(), what };
        if event.what.is_journalled() {
            let line = journal::encode(&event).map_err(|error| {
                Error::failed("journal-unwritable", "this cannot be journalled")
                    .caused_by(&error)
                    .hint("paths have to be UTF-8")
            })?;
            self.host.append(&mut self.journal.borrow_mut(), &line)?;
        }
        self.buffer.borrow_mut().fold(&event);
        (self.watch)(&event);
        Ok(())
    }

    /// Announces another state.
    ///
    /// # Errors
    /// See [`Recorder::emit`].
    pub fn state(&self, state: RecoveryState) -> Result<()> {
        self.emit(What::State { state })
    }

    /// Does a step between its announcement and its end; `work` gives the bytes that it moved.
    ///
    /// # Errors
    /// What `work` fails with, after that was announced too.
    pub fn step(&self, step: StepId, work: impl FnOnce() -> Result<Option<u64>>) -> Result<()> {
        self.emit(What::StepStarted { step })?;
        let started = Instant::now();
        match work() {
            Ok(bytes) => self.emit(What::StepFinished { step, seconds: started.elapsed().as_secs_f64(), bytes }),
            // What cannot be journalled is told all the same: a full disk is the cause of both.
            Err(error) => match self.failed(Some(step), &error) {
                Ok(()) => Err(error),
                Err(_) => Err(error.because("and the journal cannot be written".to_owned())),
            },
        }
    }

    /// Announces a failure.
    ///
    /// # Errors
    /// See [`Recorder::emit`].
    pub fn failed(&self, step: Option<StepId>, error: &Error) -> Result<()> {
        let report = error.report();
        self.emit(What::Failed(Failure {
            step,
            code: report.code.into(),
            message: report.message.clone(),
            causes: report.causes.clone(),
            hint: report.hint.clone(),
        }))
    }

    /// What everything announced so far folds to.
    #[must_use]
    pub fn buffer(&self) -> EventBuffer {
        self.buffer.borrow().clone()
    }
}
/// The recovery in a directory. Where several were to go there, the directory carries the mark of the one that did.
fn in_directory<'a>(known: &'a [Recovery], directory: &Path) -> Option<&'a Recovery> {
    let directory = std::path::absolute(directory).ok()?;
    let there = || known.iter().filter(|recovery| recovery.directory == directory);
    there().find(|recovery| Mark::check(&directory, &recovery.id).is_ok()).or_else(|| there().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, example};

    /// Two recoveries were to go to one directory, which has the name of the first.
    #[test]
    fn a_name_is_a_recoverys_before_it_is_a_directorys() {
        let state = tempfile::tempdir().unwrap();
        let (host, recoveries) = (Host::new(false).unwrap(), Recoveries::below(state.path()));
        let directory = std::path::absolute("shop").unwrap();
        for id in ["shop", "shop-2"] {
            let plan = Plan { recovery: id.to_owned(), directory: directory.clone(), ..example() };
            let recorder = Recorder::open(&host, &recoveries, id, &|_| {}).unwrap();
            let hash = plan.hash().unwrap();
            recorder.emit(What::Planned { plan: Box::new(plan), hash, strategy: None }).unwrap();
        }
        let found = |wanted: &str| recoveries.find(Some(wanted)).map(|recovery| recovery.id);
        assert_eq!(found("shop").unwrap(), "shop");
        assert_eq!(found("shop-2").unwrap(), "shop-2");
        assert_eq!(found("shop-").unwrap(), "shop-2", "a unique beginning");
        assert!(found("./shop").is_ok(), "a directory");
        assert_eq!(found("other").unwrap_err().report().code, "unknown-recovery");
    }
}
