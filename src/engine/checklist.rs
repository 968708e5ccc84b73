//! What is left to do after promotion: looks what there is, and does it, item by item.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::data_directory::{InDirectory, control_file};
use super::host::facts::client_program;
use super::host::lock;
use super::host::{Account, Host};
use super::mark::Mark;
use super::record::{Recorder, Recoveries, Watch};
use super::remains::settle;
use super::run::{Engine, finished, owner_of};
use super::server::{LogTail, Sql, is_alive, last_lines, postmaster_pid, running};
use super::steps::{start, stop};
use crate::core::ArchiveFile;
use crate::error::{Error, Result};
use crate::event::{EventBuffer, Recovery, What};
use crate::pgdata::auto_conf::AutoConf;
use crate::pgdata::configuration::{AUTO, Configuration, ConfigurationFiles};
use crate::pgdata::postmaster_pid::ServerStatus;
use crate::plan::build::OWN_DIRECTORY;
use crate::plan::checklist::{Change, Configured, Item, ItemId, ItemState, changed, changes};
use crate::plan::settings::shell_quote;
use crate::plan::{Plan, ServerPlan, files};
use crate::source::Cancel;

/// How long a server may take to come back from a restart.
const PATIENCE: Duration = Duration::from_secs(300);
/// Lines of what a program said that are kept.
const SAID: usize = 20;

/// `postgresql.auto.conf` from before an item changed it, in Walback's own directory, until that item has come to its end.
const BEFORE: &str = "auto.conf.before-item";

/// What is left to do after the promotion of a recovery, and what became of it. Changes nothing.
///
/// # Errors
/// When its journal cannot be read, when it was not promoted, or was discarded.
pub fn list(recoveries: &Recoveries, id: &str) -> Result<Vec<Item>> {
    let mut items = items(&recoveries.load(id)?)?;
    if lock::holder(&recoveries.journal(id)).is_some() {
        // Somebody works on it.
        items.iter_mut().for_each(|item| item.interrupted = None);
    }
    Ok(items)
}

fn items(buffer: &EventBuffer) -> Result<Vec<Item>> {
    let plan = promoted(buffer)?;
    let now = Now::look(plan, buffer);
    Ok(ItemId::ALL.into_iter().filter_map(|item| now.item(buffer, plan, item)).collect())
}

/// The plan of a recovery that was promoted.
fn promoted(buffer: &EventBuffer) -> Result<&Plan> {
    use crate::event::RecoveryState::Discarded;
    match &buffer.plan {
        Some(plan) if buffer.promoted_to.is_some() && buffer.state != Some(Discarded) => Ok(plan),
        Some(plan) => {
            let state = buffer.state.map_or("unknown", |state| state.word());
            Err(Error::failed(
                "not-promoted",
                format!("the recovery {} was not promoted: it is {state}", plan.recovery),
            )
            .hint("there is a checklist for what is left to do after “walback promote”"))
        }
        None => Err(Error::failed("journal-empty", "the journal has no plan")),
    }
}

/// The server and its configuration, as they are now.
struct Now {
    /// How it is reached; `None` where it does not run.
    server: Option<ServerPlan>,
    auto_conf: AutoConf,
    copied: AutoConf,
    main: Configuration,
    /// Replication slots that nobody uses; why they are not known.
    slots: Result<Vec<String>, String>,
    /// Subscriptions that are enabled.
    subscriptions: Result<Vec<String>, String>,
}

impl Now {
    fn look(plan: &Plan, buffer: &EventBuffer) -> Now {
        let directory = InDirectory { directory: &plan.directory, host: None };
        let server = reached(plan, buffer);
        let mut sql = server.as_ref().map(Sql::new);
        let mut ask = |query: &str| match &mut sql {
            None => Err("the server does not run".to_owned()),
            Some(Err(error)) => Err(error.report().message.clone()),
            Some(Ok(sql)) => match sql.query(query) {
                Ok(rows) => Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()),
                Err(why) => Err(why.to_string()),
            },
        };
        // Half done, an item may have changed the file already.
        let before = buffer.restarting.and_then(|_| directory.text(&format!("{OWN_DIRECTORY}/{BEFORE}")));
        let auto_conf = before.or_else(|| directory.text(AUTO));
        Now {
            slots: ask(SLOTS),
            subscriptions: ask(SUBSCRIPTIONS),
            server,
            auto_conf: AutoConf::parse(&auto_conf.unwrap_or_default()),
            copied: AutoConf::parse(
                &directory.text(&format!("{OWN_DIRECTORY}/{}", files::COPIED_AUTO_CONF)).unwrap_or_default(),
            ),
            main: Configuration::read_main(&directory),
        }
    }

    fn changes(&self, plan: &Plan, item: ItemId) -> Vec<Change> {
        let main = |name: &str| self.main.get(name).map(str::to_owned);
        changes(plan, item, &Configured { auto_conf: &self.auto_conf, copied: &self.copied, main: &main })
    }

    /// An item, where there is anything to it.
    fn item(&self, buffer: &EventBuffer, plan: &Plan, item: ItemId) -> Option<Item> {
        let (state, said) = buffer.checklist.get(&item).cloned().unwrap_or((ItemState::Open, Vec::new()));
        let changes = self.changes(plan, item);
        let program = Program::of(item, plan, self.server.as_ref(), None);
        let facts = self.facts(item, &changes);
        let is_settings = !item.settings().is_empty();
        let nothing = if is_settings {
            !changes.iter().any(Change::matters)
        } else {
            item == ItemId::Slots && self.slots == Ok(Vec::new())
        };
        if nothing && state == ItemState::Open {
            return None;
        }
        let cannot = match &program {
            _ if is_settings => None,
            _ if self.server.is_none() => Some("the server does not run".to_owned()),
            Some(program) => program.cannot(),
            None => self.slots.clone().err(),
        };
        let commands = match program {
            Some(program) => vec![program.shown()],
            None if item == ItemId::Slots => vec![DROP_SLOTS.to_owned()],
            None => Vec::new(),
        };
        let restarts = is_settings && self.server.is_some();
        let (title, meaning) = (item.title(), item.meaning());
        let is_left = state == ItemState::Begun || buffer.restarting == Some(item);
        let interrupted = is_left.then(|| self.interrupted(buffer, plan, item, state));
        Some(Item { item, state, title, meaning, changes, commands, restarts, facts, interrupted, cannot, said })
    }

    /// Where an item stands that nobody has brought to its end.
    fn interrupted(&self, buffer: &EventBuffer, plan: &Plan, item: ItemId, state: ItemState) -> String {
        let id = &plan.recovery;
        match (buffer.restarting == Some(item), self.server.is_some()) {
            (true, _) if state == ItemState::Failed => format!(
                "it failed, and the server that was stopped for it does not run as before: “walback resume {id}” tries it \
                 again and starts the server"
            ),
            (true, false) => format!(
                "it was interrupted while the server was restarted for it, and the server does not run: “walback resume {id}” \
                 goes on with it and starts the server"
            ),
            (true, true) => format!(
                "it was interrupted while the server was restarted for it: “walback resume {id}” brings it to its end"
            ),
            _ => "it was interrupted; doing it again does all of it".to_owned(),
        }
    }

    fn facts(&self, item: ItemId, changes: &[Change]) -> Vec<String> {
        let listed = |what: &str, found: &Result<Vec<String>, String>| match found {
            Ok(names) if names.is_empty() => Vec::new(),
            Ok(names) => vec![format!("{what}: {}", names.join(", "))],
            Err(why) => vec![format!("{what}: not known, {why}")],
        };
        match item {
            ItemId::Slots => listed("slots that nobody uses", &self.slots),
            ItemId::Subscriptions => listed("enabled subscriptions in this cluster", &self.subscriptions),
            ItemId::Preload if changes.iter().any(|c| c.then.as_deref().is_some_and(|then| then.contains("cron"))) => {
                vec!["with pg_cron every job runs again by itself".to_owned()]
            }
            _ => Vec::new(),
        }
    }
}

const SLOTS: &str = "SELECT slot_name FROM pg_replication_slots WHERE NOT active ORDER BY 1";
const DROP_SLOTS: &str = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active";
const SUBSCRIPTIONS: &str = "SELECT subname FROM pg_subscription WHERE subenabled ORDER BY 1";

/// How the server that runs now is reached: where the port was given back, elsewhere than planned; and as which role,
/// where it has none of the planned name.
fn reached(plan: &Plan, buffer: &EventBuffer) -> Option<ServerPlan> {
    running(&plan.directory)?;
    let pid = postmaster_pid(&plan.directory)?;
    let port = pid.port.unwrap_or(plan.server.port);
    let socket_directory = pid.socket_directory.map_or_else(|| plan.server.socket_directory.clone(), PathBuf::from);
    let role = buffer.role.clone().unwrap_or_else(|| plan.server.role.clone());
    Some(ServerPlan { port, socket_directory, role, ..plan.server.clone() })
}

/// A program of PostgreSQL that does an item.
struct Program {
    path: PathBuf,
    arguments: Vec<String>,
}

impl Program {
    fn of(item: ItemId, plan: &Plan, server: Option<&ServerPlan>, into: Option<&Path>) -> Option<Program> {
        let (name, more): (&str, Vec<String>) = match item {
            ItemId::Statistics => ("vacuumdb", vec!["--all".into(), "--analyze-only".into(), jobs()]),
            ItemId::Integrity => ("pg_amcheck", vec!["--all".into(), "--install-missing".into(), jobs()]),
            ItemId::BaseBackup => {
                let into = into.map_or_else(|| "DIRECTORY".to_owned(), |into| into.display().to_string());
                let how = ["--format=tar", "--gzip", "--wal-method=stream", "--checkpoint=fast"];
                ("pg_basebackup", how.into_iter().map(str::to_owned).chain([format!("--pgdata={into}")]).collect())
            }
            _ => return None,
        };
        let server = server.unwrap_or(&plan.server);
        let mut arguments = vec![
            format!("--host={}", server.socket_directory.display()),
            format!("--port={}", server.port),
            format!("--username={}", server.role),
        ];
        arguments.extend(more);
        let path = client_program(name, &plan.server.bin_dir, plan.server.major);
        Some(Program { path, arguments })
    }

    fn cannot(&self) -> Option<String> {
        let is_there = self.path.is_file();
        (!is_there).then(|| format!("{} is not there: install PostgreSQL's client programs", self.path.display()))
    }

    fn shown(&self) -> String {
        let words = std::iter::once(self.path.display().to_string()).chain(self.arguments.iter().cloned());
        words.map(|word| shell_quote(&word)).collect::<Vec<_>>().join(" ")
    }

    fn run(&self, host: &Host, owner: &Account, cancel: &Cancel) -> Result<Vec<String>> {
        let (succeeded, said) = host.run_watched(owner, &self.path, &self.arguments, &|| !cancel.is_cancelled())?;
        let lines: Vec<String> = said.lines().map(str::to_owned).collect();
        let last = lines.get(lines.len().saturating_sub(SAID)..).unwrap_or_default().to_vec();
        if succeeded {
            return Ok(last);
        }
        let failed = Error::failed("program-failed", format!("this failed: {}", self.shown()));
        Err(last.into_iter().fold(failed, Error::because))
    }
}

/// As many as there are processors.
fn jobs() -> String {
    format!("--jobs={}", std::thread::available_parallelism().map_or(1, usize::from))
}

impl Engine {
    /// Does an item of the checklist; a base backup goes `into` a new directory.
    ///
    /// # Errors
    /// When there is nothing to do, or it cannot be done. Settings that a server does not start with are taken back.
    pub fn do_item(
        &self,
        id: &str,
        item: ItemId,
        into: Option<&Path>,
        watch: Watch<'_>,
        cancel: &Cancel,
    ) -> Result<Recovery> {
        let (recorder, plan) = self.open(id, watch)?;
        if let Some(other) = recorder.buffer().restarting.filter(|other| *other != item) {
            return Err(Error::failed("item-interrupted", format!("“{other}” was interrupted, and comes first"))
                .because("the server was being restarted for it".to_owned())
                .hint(format!("“walback resume {id}” goes on with it")));
        }
        self.carry_out_item(&plan, item, into, &recorder, cancel)?;
        finished(&recorder)
    }

    /// Goes on with the item that the server was being restarted for.
    pub(super) fn go_on_with_item(&self, plan: &Plan, recorder: &Recorder<'_>, cancel: &Cancel) -> Result<()> {
        match recorder.buffer().restarting {
            Some(item) => self.carry_out_item(plan, item, None, recorder, cancel),
            None => Ok(()),
        }
    }

    fn carry_out_item(
        &self,
        plan: &Plan,
        item: ItemId,
        into: Option<&Path>,
        recorder: &Recorder<'_>,
        cancel: &Cancel,
    ) -> Result<()> {
        let id = &plan.recovery;
        let goes_on = recorder.buffer().restarting == Some(item);
        let there = items(&recorder.buffer())?.into_iter().find(|there| there.item == item);
        Mark::check(&plan.directory, id)?;
        // What was given back already is in the list for what became of it; what was interrupted needs its end all the same.
        let there = there.filter(|there| goes_on || item.settings().is_empty() || matters(there));
        let there = there.ok_or_else(|| {
            Error::failed("nothing-to-do", format!("there is nothing to do for “{item}”"))
                .hint(format!("“walback checklist {id}” lists what is left"))
        })?;
        if let Some(why) = &there.cannot {
            return Err(Error::failed("item-impossible", format!("“{item}” cannot be done now: {why}"))
                .hint(format!("do it by hand, and say so with “walback checklist {id} --skip {item}”")));
        }
        let owner = owner_of(plan)?;
        let work = Work { host: &self.host, plan, owner: &owner, recorder, cancel, goes_on };
        let restarts = goes_on || there.restarts;
        if !goes_on {
            // A server that is down already says by itself what it lacks, and gets the settings of before.
            work.check(&there, into)?;
            // One that another item has left would be taken for this one's.
            work.forget_before()?;
        }
        let said = Vec::new();
        recorder.emit(What::Item { item, state: ItemState::Begun, said, connection: None, restarts })?;
        work.end(item, restarts, work.carry_out(&there, into))
    }

    /// Notes that an item is not wanted, or was done by hand.
    ///
    /// # Errors
    /// When the recovery was not promoted.
    pub fn skip_item(&self, id: &str, item: ItemId, watch: Watch<'_>) -> Result<Recovery> {
        let (recorder, _) = self.open(id, watch)?;
        promoted(&recorder.buffer())?;
        if recorder.buffer().restarting == Some(item) {
            return Err(Error::failed("item-interrupted", format!("“{item}” was begun, and is half done"))
                .because("the server was being restarted for it".to_owned())
                .hint(format!("“walback resume {id}” goes on with it")));
        }
        let (state, said) = (ItemState::Skipped, Vec::new());
        recorder.emit(What::Item { item, state, said, connection: None, restarts: false })?;
        finished(&recorder)
    }
}

fn matters(there: &Item) -> bool {
    there.changes.iter().any(Change::matters)
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none())
}

/// Whether a server runs that takes connections: not one that is still starting, or about to end.
fn is_up(directory: &Path) -> bool {
    running(directory).is_some()
        && postmaster_pid(directory).is_some_and(|there| there.status == Some(ServerStatus::Ready))
}

/// How the server is reached now.
fn connection(buffer: &EventBuffer, plan: &Plan) -> Option<String> {
    Some(reached(plan, buffer)?.connection(None))
}

struct Work<'a> {
    host: &'a Host,
    plan: &'a Plan,
    owner: &'a Account,
    recorder: &'a Recorder<'a>,
    cancel: &'a Cancel,
    /// Whether it was begun before, and interrupted.
    goes_on: bool,
}

impl Work<'_> {
    /// Before anything is announced.
    fn check(&self, there: &Item, into: Option<&Path>) -> Result<()> {
        if there.item == ItemId::Network {
            return self.check_access(there);
        }
        match into {
            None if there.item == ItemId::BaseBackup => {
                Err(Error::usage("no-directory", "it is not said where the new base backup shall go")
                    .hint("give a new directory with --into DIR"))
            }
            Some(into) if into.exists() && !is_empty(into) => Err(Error::usage(
                "directory-not-empty",
                format!("the directory for the base backup is not empty: {}", into.display()),
            )
            .hint("give a new directory with --into DIR")),
            _ => Ok(()),
        }
    }

    /// Without the file that says who may connect the server would not start. Debian keeps it outside of the data
    /// directory, so that it does not come with a base backup.
    fn check_access(&self, there: &Item) -> Result<()> {
        let Some(change) = there.changes.iter().find(|change| change.name == "hba_file") else { return Ok(()) };
        let named = change.then.as_ref().map_or_else(|| PathBuf::from("pg_hba.conf"), PathBuf::from);
        let path = self.plan.directory.join(named);
        if path.is_file() {
            return Ok(());
        }
        Err(Error::failed("no-access-file", format!("there is no {}: nobody could connect", path.display())).hint(
            "it did not come with the base backup: copy the original server's pg_hba.conf and pg_ident.conf there",
        ))
    }

    fn carry_out(&self, there: &Item, into: Option<&Path>) -> Result<Vec<String>> {
        let server = reached(self.plan, &self.recorder.buffer());
        if let Some(program) = Program::of(there.item, self.plan, server.as_ref(), into) {
            if let (ItemId::BaseBackup, Some(into)) = (there.item, into) {
                self.make_room(into)?;
            }
            return program.run(self.host, self.owner, self.cancel);
        }
        if there.item == ItemId::Slots {
            return self.drop_slots(server.as_ref());
        }
        self.give_back(there)
    }

    /// Announces how an item ended, and only then removes what it would be gone on with: without that, nobody could tell
    /// what it had changed. One that failed has only come to its end where the server runs as before.
    fn end(&self, item: ItemId, restarts: bool, ended: Result<Vec<String>>) -> Result<()> {
        let connection = connection(&self.recorder.buffer(), self.plan);
        let error = match ended {
            Ok(said) => {
                self.recorder.emit(What::Item { item, state: ItemState::Done, said, connection, restarts })?;
                return self.forget_before();
            }
            Err(error) => error,
        };
        let restarts = restarts && !(is_up(&self.plan.directory) && self.is_as_before());
        let said = error.lines();
        // What cannot be journalled or removed is told beside what failed: a full disk is the cause of both.
        match self.recorder.emit(What::Item { item, state: ItemState::Failed, said, connection, restarts }) {
            Err(_) => Err(error.because("and the journal cannot be written".to_owned())),
            Ok(()) if restarts => {
                let id = &self.plan.recovery;
                Err(error.because(format!(
                    "the server does not run as before: “walback resume {id}” tries the item again, and starts it"
                )))
            }
            Ok(()) => match self.forget_before() {
                Ok(()) => Err(error),
                Err(again) => Err(error.because(again.report().message.clone())),
            },
        }
    }

    /// Whether the settings are those from before the item, where those are still kept.
    fn is_as_before(&self) -> bool {
        let host = self.host.acting_as(self.owner);
        match host.read_file(&self.plan.directory.join(OWN_DIRECTORY).join(BEFORE)) {
            Ok(before) => host.read_file(&self.plan.directory.join(AUTO)).is_ok_and(|now| now == before),
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }

    fn forget_before(&self) -> Result<()> {
        self.host.acting_as(self.owner).remove_file(&self.plan.directory.join(OWN_DIRECTORY).join(BEFORE))
    }

    /// What was written since the promotion, with the history of the new timeline, is marked for the archiver: a server
    /// that archives nothing marks nothing (`XLogArchiveNotify`, `src/backend/access/transam/xlogarchive.c`), and without
    /// the history nobody finds the way to that timeline. The segment of the last checkpoint is not among it: that one
    /// may still be written to.
    fn leave_to_archiver(&self, changes: &[Change]) -> Result<Vec<String>> {
        let then =
            changes.iter().find(|change| change.name == "archive_mode").and_then(|change| change.then.as_deref());
        let archives =
            then.is_some_and(|then| ["on", "always", "yes", "true", "1"].contains(&then.to_ascii_lowercase().as_str()));
        let (true, Some(timeline)) = (archives, self.recorder.buffer().promoted_to) else { return Ok(Vec::new()) };
        let size = self.plan.server.segment_size;
        let control = control_file(&self.plan.directory)
            .map_err(|why| Error::failed("unreadable", "the last checkpoint is not known").because(why))?;
        let is_complete = |name: &str| match ArchiveFile::parse(name) {
            Some(ArchiveFile::History(of)) => of == timeline,
            Some(ArchiveFile::Segment(segment)) => {
                segment.timeline == timeline && segment.number(size) < size.number_of(control.checkpoint)
            }
            _ => false,
        };
        let wal = self.plan.directory.join("pg_wal");
        let entries = fs::read_dir(&wal)
            .map_err(|error| Error::failed("unreadable", format!("cannot read {}", wal.display())).caused_by(&error))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| is_complete(name)).collect();
        names.sort_unstable();
        let mark = |name: &str, ending: &str| wal.join(format!("archive_status/{name}.{ending}"));
        names.retain(|name| !mark(name, "done").exists() && !mark(name, "ready").exists());
        let host = self.host.acting_as(self.owner);
        for name in &names {
            host.write_file(&mark(name, "ready"), b"", 0o600, self.owner)?;
        }
        Ok(if names.is_empty() { Vec::new() } else { vec![format!("left to the archiver: {}", names.join(", "))] })
    }

    fn make_room(&self, into: &Path) -> Result<()> {
        if into.exists() {
            self.host.take_directory(into, self.owner)
        } else {
            self.host.make_directory(into, self.owner)
        }
    }

    fn drop_slots(&self, server: Option<&ServerPlan>) -> Result<Vec<String>> {
        let failed = |why: String| Error::failed("slots-kept", "the slots could not be dropped").because(why);
        let server = server.ok_or_else(|| failed("the server does not run".to_owned()))?;
        match Sql::new(server)?.query(DROP_SLOTS) {
            Ok(rows) => Ok(vec![format!("{} dropped", rows.len())]),
            Err(why) => Err(failed(why.to_string())),
        }
    }

    /// Takes settings back, and restarts the server if it runs. If it does not start with them, they are as before.
    fn give_back(&self, there: &Item) -> Result<Vec<String>> {
        // The one who was interrupted may just have had it started.
        let running = if self.goes_on { settle(&self.plan.directory)? } else { running(&self.plan.directory) };
        if self.goes_on && !matters(there) {
            // The settings are there already, whoever wrote them.
            running.map_or_else(|| self.start(), |pid| self.wait_until_ready(pid, self.end_of_log()))?;
            return Ok(vec!["the server runs with these settings".to_owned()]);
        }
        let host = self.host.acting_as(self.owner);
        let own = self.plan.directory.join(OWN_DIRECTORY).join(BEFORE);
        let path = self.plan.directory.join(AUTO);
        let now = host.read_file(&path).map_err(|error| {
            Error::failed("unreadable", format!("cannot read {}", path.display())).caused_by(&error)
        })?;
        let kept = host.read_file(&own).ok().filter(|_| self.goes_on);
        let before = kept.as_ref().unwrap_or(&now);
        let text = changed(&AutoConf::parse(&String::from_utf8_lossy(before)), &there.changes).render();
        if running.is_none() && !self.goes_on {
            host.write_file(&path, text.as_bytes(), 0o600, self.owner)?;
            let said = vec!["the server does not run; it holds from its next start on".to_owned()];
            return Ok([said, self.archive_from_now_on(there)?].concat());
        }
        if kept.is_none() {
            host.write_file(&own, before, 0o600, self.owner)?;
        }
        // They are only written once the server is stopped: one that runs has been started with them.
        let restarted = match running.filter(|_| now == text.as_bytes()) {
            Some(pid) => self.wait_until_ready(pid, self.end_of_log()).map(|()| Vec::new()),
            None => self.restart_with(there, &path, &text),
        };
        match restarted {
            Ok(said) => Ok([vec!["the server was restarted".to_owned()], said].concat()),
            Err(error) => Err(error.because(self.take_back(&path, before))),
        }
    }

    fn archive_from_now_on(&self, there: &Item) -> Result<Vec<String>> {
        if there.item == ItemId::Archiving { self.leave_to_archiver(&there.changes) } else { Ok(Vec::new()) }
    }

    /// Stops the server, writes the settings, and starts it with them.
    fn restart_with(&self, there: &Item, path: &Path, text: &str) -> Result<Vec<String>> {
        stop::stop(self.host, &self.plan.directory)?;
        self.host.acting_as(self.owner).write_file(path, text.as_bytes(), 0o600, self.owner)?;
        let marked = self.archive_from_now_on(there)?;
        self.start().map(|()| marked)
    }

    /// Has the server run with the settings of before, wherever it was when something failed; gives what came of it.
    fn take_back(&self, path: &Path, before: &[u8]) -> String {
        let host = self.host.acting_as(self.owner);
        // What was never written need not be written back, which a full disk would not allow.
        let is_as_before = || host.read_file(path).is_ok_and(|now| now == before);
        let written = stop::stop(self.host, &self.plan.directory).and_then(|()| match is_as_before() {
            true => Ok(()),
            false => host.write_file(path, before, 0o600, self.owner),
        });
        match written.map(|()| self.start()) {
            Ok(Ok(())) => "the settings are as they were, and the server runs again".to_owned(),
            Ok(Err(again)) => format!("the settings are as they were, and yet: {}", again.report().message),
            Err(error) => format!("what was before could not be brought back: {}", error.report().message),
        }
    }

    fn end_of_log(&self) -> u64 {
        LogTail::end_of(&self.plan.server.log)
    }

    /// Starts the server, and waits until it takes connections.
    fn start(&self) -> Result<()> {
        let end = self.end_of_log();
        start::start(self.host, self.plan, self.owner, self.recorder)?;
        self.wait_until_ready(self.recorder.buffer().server_pid.unwrap_or_default(), end)
    }

    /// Waits until a server that was started takes connections; `end` is where its log ended before.
    fn wait_until_ready(&self, pid: u32, end: u64) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if !is_alive(pid) {
                let failed = Error::failed("server-refused", "the server does not start with these settings")
                    .hint(format!("its log says why: {}", self.plan.server.log.display()));
                let said = LogTail::new(&self.plan.server.log, end).lines();
                let grave: Vec<String> =
                    said.into_iter().filter(|line| line.contains("FATAL:") || line.contains("ERROR:")).collect();
                let said = if grave.is_empty() { last_lines(&self.plan.server.log, 3) } else { grave };
                return Err(said.into_iter().fold(failed, |error, line| error.because(format!("log: {line}"))));
            }
            let status =
                postmaster_pid(&self.plan.directory).filter(|there| there.pid == pid).and_then(|there| there.status);
            if status == Some(ServerStatus::Ready) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Error::failed("server-slow", format!("the server takes no connections after {} s", PATIENCE.as_secs())))
    }
}
