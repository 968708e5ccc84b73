//! Runs a fetch command once: with a limit of time, nothing to read from, and what it says kept.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::{self, PipeReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::core::archive::Verdict;
use crate::core::progress::Seconds;
use crate::core::{ArchiveFile, FetchCommand};
use crate::error::{Error, Result};
use crate::source::Cancel;

/// The code of the error about a command that could not do its work.
pub const COMMAND_BROKEN: &str = "command-broken";
/// So many bytes of what a command says are kept: the first and the last of them.
const KEPT: usize = 1024;
/// How often it is looked whether it has ended, at first and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// So long is waited for what it has said once it has ended: a process that it left behind may keep the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// So long a command may take to end itself when it is told to.
const GRACE: Duration = Duration::from_secs(2);

/// The process groups of the commands that are at work.
static AT_WORK: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Ends all commands that are at work, for a program that ends and does not wait for those who asked for them.
pub fn end_all() {
    for group in std::mem::take(&mut *AT_WORK.lock().unwrap_or_else(PoisonError::into_inner)) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGTERM);
    }
}

/// A command that is at work, for as long as this lives.
struct AtWork(i32);

impl AtWork {
    fn note(process: Pid) -> AtWork {
        AT_WORK.lock().unwrap_or_else(PoisonError::into_inner).insert(process.as_raw());
        AtWork(process.as_raw())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        AT_WORK.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// One call of a command.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The command.
    pub command: &'a FetchCommand,
    /// The file that is asked for.
    pub file: ArchiveFile,
    /// The directory that it runs in.
    pub directory: &'a Path,
    /// Where the file shall go, as the command is told.
    pub to: &'a str,
    /// Whether it gets a process group of its own: Ctrl-C does not reach it there. Below a server it stays in the group of
    /// whoever asks, which a server ends as a whole.
    pub own_group: bool,
}

/// What came of a call that was not broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// There is a file where it should go. What it holds was not looked at.
    File,
    /// It is not there.
    Missing(Missing),
}

/// How a command said that a file is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Whether it cannot mean anything else.
    pub certain: bool,
    /// The status, and what it said, in words.
    pub words: String,
}

impl Call<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// Where it could not do its work (`command-broken`), as far as its status tells, and where it was cancelled.
    pub fn run(&self, cancel: &Cancel) -> Result<Came> {
        cancel.check()?;
        let started = Instant::now();
        let (mut child, said) =
            self.start().map_err(|error| self.broken("the shell cannot be started", &error.to_string()))?;
        let at_work = self.own_group.then(|| AtWork::note(process(&child)));
        let ended = wait(process(&child), started, Duration::from_secs(self.command.timeout_s), cancel);
        match ended {
            // What it started and left behind has nobody any more to write for.
            Ok(true) if self.own_group => {
                let _ = killpg(process(&child), Signal::SIGTERM);
            }
            Ok(true) => {}
            Ok(false) | Err(_) => self.end(process(&child)),
        }
        // Nobody may send anything to its group from here on: its number may become another's.
        drop(at_work);
        let reaped = child.wait();
        let ended = match ended {
            Ok(true) => reaped,
            Ok(false) => {
                cancel.check()?;
                let limit = Seconds(self.command.timeout_s as f64);
                return Err(self
                    .broken(&format!("it took longer than {limit}, and was ended"), &said.words())
                    .hint("see why it hangs: run it by hand; “timeout” in the configuration gives it longer"));
            }
            Err(error) => Err(error),
        };
        let status = ended.map_err(|error| self.broken("it cannot be waited for", &error.to_string()))?;
        let came = fs::metadata(self.directory.join(self.to)).is_ok_and(|file| file.is_file() && file.len() > 0);
        match self.command.verdict(status.code(), came) {
            Verdict::There => Ok(Came::File),
            Verdict::Missing { certain } => {
                let words = in_words(status, came, &said.words());
                Ok(Came::Missing(Missing { certain, words }))
            }
            Verdict::Broken => Err(self.broken(&status_in_words(status), &said.words()).hint(what_to_do(status))),
        }
    }

    fn start(&self) -> io::Result<(Child, Said)> {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(self.command.filled(self.file, self.to, None)).current_dir(self.directory);
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        if self.own_group {
            command.process_group(0);
        }
        let child = command.spawn()?;
        drop(command);
        Ok((child, Said::listen(reader)))
    }

    /// Ends it with all that it started. It is not reaped: until then its number, and that of its group, is nobody else's.
    fn end(&self, shell: Pid) {
        let mut others = BTreeSet::new();
        let mut send = |signal| {
            if self.own_group {
                let _ = killpg(shell, signal);
                return;
            }
            // Those that it has started meanwhile, too; what lost its parent is only known from before.
            descendants(shell, &mut others);
            for other in others.clone().into_iter().filter(Started::is_there) {
                descendants(other.process, &mut others);
            }
            let _ = kill(shell, signal);
            send_to_each(&others, signal);
        };
        send(Signal::SIGTERM);
        let told = Instant::now();
        while told.elapsed() < GRACE && matches!(has_ended(shell), Ok(false)) {
            std::thread::sleep(LOOK.1);
        }
        send(Signal::SIGKILL);
    }

    fn broken(&self, what: &str, said: &str) -> Error {
        let error = broken(format!("{} cannot fetch {}: {what}", self.command.named(), self.file));
        if said.is_empty() { error } else { error.because(said.to_owned()) }
    }
}

/// An error about a command that could not do its work.
pub(super) fn broken(message: String) -> Error {
    Error::failed(COMMAND_BROKEN, message)
}

fn what_to_do(status: ExitStatus) -> String {
    match status.code() {
        Some(126 | 127) => "check that the program is there, and in the PATH of whoever runs this".to_owned(),
        Some(status @ 1..=125) => format!(
            "run it by hand; where {status} means that the file is not there, say so in the configuration: missing: [{status}]"
        ),
        _ => "run it by hand to see why".to_owned(),
    }
}

fn in_words(status: ExitStatus, came: bool, said: &str) -> String {
    let status = match (status.code(), came) {
        (Some(0), _) => "exit status 0, and no file".to_owned(),
        _ => status_in_words(status),
    };
    if said.is_empty() { status } else { format!("{status}: {said}") }
}

fn status_in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(126), _) => "it cannot be run (exit status 126)".to_owned(),
        (Some(127), _) => "it was not found (exit status 127)".to_owned(),
        (Some(code @ 129..=192), _) => format!("it was killed by signal {} (exit status {code})", code - 128),
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("it was killed by signal {signal}"),
        (None, None) => "it did not end".to_owned(),
    }
}

fn process(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

/// Waits until it has ended, and does not reap it; `false` where it took too long, or was not wanted any more.
fn wait(process: Pid, started: Instant, limit: Duration, cancel: &Cancel) -> io::Result<bool> {
    let mut pause = LOOK.0;
    while !has_ended(process)? {
        if cancel.is_cancelled() || started.elapsed() >= limit {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK.1);
    }
    Ok(true)
}

/// Whether a child of ours has ended. It keeps its number until it is reaped.
///
/// # Errors
/// When it is none of ours.
pub(crate) fn has_ended(process: Pid) -> io::Result<bool> {
    match waitid(Id::Pid(process), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT) {
        Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => Ok(false),
        // `nix` has no name for the signal that ended it, where that is one of the real-time signals.
        Ok(_) | Err(Errno::EINVAL) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// A process, and when it was started: another one that gets its number later is told from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Started {
    process: Pid,
    /// In ticks of the clock since the machine was started.
    at: u64,
}

impl Started {
    /// The process of this number; `None` where there is none.
    pub(crate) fn of(process: Pid) -> Option<Started> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The twenty-second field of `proc(5)`; the second one, in parentheses, may hold anything.
        let (_, behind) = stat.rsplit_once(')')?;
        Some(Started { process, at: behind.split_whitespace().nth(19)?.parse().ok()? })
    }

    /// Whether it is still there.
    pub(crate) fn is_there(&self) -> bool {
        Started::of(self.process) == Some(*self)
    }
}

/// Whoever has ended already is not missed.
fn send_to_each(processes: &BTreeSet<Started>, signal: Signal) {
    for started in processes.iter().filter(|started| started.is_there()) {
        let _ = kill(started.process, signal);
    }
}

/// The processes that this one has started, and those that they have.
fn descendants(process: Pid, found: &mut BTreeSet<Started>) {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok()).map(Pid::from_raw);
    for child in children.filter_map(Started::of) {
        if found.insert(child) {
            descendants(child.process, found);
        }
    }
}

/// What a command says, the beginning and the end of it.
struct Said {
    heard: Arc<Mutex<Heard>>,
    ended: std::sync::mpsc::Receiver<()>,
}

#[derive(Default)]
struct Heard {
    first: Vec<u8>,
    last: VecDeque<u8>,
    left_out: bool,
}

impl Heard {
    fn take(&mut self, mut bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.first.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.first.extend(first);
        bytes = rest;
        self.last.extend(bytes);
        let many = self.last.len().saturating_sub(KEPT);
        self.left_out |= many > 0;
        self.last.drain(..many);
    }
}

impl Said {
    fn listen(mut from: PipeReader) -> Said {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (sender, ended) = std::sync::mpsc::channel();
        let taken = Arc::clone(&heard);
        // It ends with the pipe; nobody waits for it.
        std::thread::spawn(move || {
            let mut block = [0; 4096];
            while let Ok(bytes) = from.read(&mut block) {
                if bytes == 0 {
                    break;
                }
                let mut heard = taken.lock().unwrap_or_else(PoisonError::into_inner);
                heard.take(block.get(..bytes).unwrap_or_default());
            }
            drop(sender);
        });
        Said { heard, ended }
    }

    /// On one line, without control characters.
    fn words(&self) -> String {
        let _ = self.ended.recv_timeout(LAST_WORDS);
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = heard.first.clone();
        if heard.left_out {
            bytes.extend(" … ".as_bytes());
        }
        bytes.extend(&heard.last);
        let text: String =
            String::from_utf8_lossy(&bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(command: &FetchCommand, cancel: &Cancel) -> (Result<Came>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let file = ArchiveFile::parse("000000010000000000000007").unwrap();
        (Call { command, file, directory: directory.path(), to: "got", own_group: true }.run(cancel), directory)
    }

    fn ended(command: &str) -> Result<Came> {
        call(&FetchCommand::new(command), &Cancel::default()).0
    }

    #[test]
    fn each_way_of_ending_is_told_apart() {
        let missing = |command: &str| match ended(command) {
            Ok(Came::Missing(missing)) => missing.words,
            other => panic!("{command}: {other:?}"),
        };
        assert_eq!(ended("printf %f > %p").unwrap(), Came::File);
        assert_eq!(missing("true %f %p"), "exit status 0, and no file");
        assert_eq!(missing("echo nothing; : %f > %p"), "exit status 0, and no file: nothing");
        assert_eq!(missing("echo a\t$(printf '\\033[1m')b >&2; echo half > %p; exit 1 # %f"), "exit status 1: a [1mb");
        let broken = |command: &str| match ended(command) {
            Err(error) if error.report().code == COMMAND_BROKEN => error.to_string(),
            other => panic!("{command}: {other:?}"),
        };
        assert!(broken("/nowhere/at/all %f %p").contains("exit status 127"));
        assert!(broken("exit 7; %f %p").contains("missing: [7]"));
        assert!(broken("kill -KILL $$; %f %p").contains("killed by signal 9"));
        assert!(broken("sh -c 'kill -TERM $$'; exit $?; %f %p").contains("killed by signal 15"));
    }

    #[test]
    fn much_that_is_said_is_cut_short() {
        let error = ended("seq 1 100000; exit 9 # %f %p").unwrap_err();
        let said = error.report().causes.first().unwrap();
        assert!(said.starts_with("1 2 3 ") && said.ends_with(" 99999 100000") && said.contains(" … "), "{said}");
        assert!(said.len() < 2 * KEPT + 10);
    }

    #[test]
    fn what_hangs_is_ended_with_all_that_it_started() {
        let command = FetchCommand { timeout_s: 0, ..FetchCommand::new("sleep 1000 & echo $! > pid; wait # %f %p") };
        let (ended, directory) = call(&command, &Cancel::default());
        assert!(ended.unwrap_err().to_string().contains("took longer than"));
        // Where the shell was ended before it got that far, there is nothing to look at.
        if let Some(pid) = fs::read_to_string(directory.path().join("pid")).ok().and_then(|pid| pid.trim().parse().ok())
        {
            let started = Instant::now();
            while nix::sys::signal::kill(Pid::from_raw(pid), None).is_ok() && !is_dead(pid) {
                assert!(started.elapsed() < Duration::from_secs(30), "{pid} is still there");
                std::thread::sleep(LOOK.1);
            }
        }
        let cancel = Cancel::default();
        cancel.cancel();
        assert_eq!(call(&command, &cancel).0.unwrap_err().report().code, "cancelled");
    }

    fn running(script: &str) -> Child {
        Command::new("/bin/sh").args(["-c", script]).process_group(0).spawn().unwrap()
    }

    fn until(what: &str, is_so: &dyn Fn() -> bool) {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(LOOK.1);
        }
    }

    #[test]
    fn what_has_ended_keeps_its_number_until_nothing_is_sent_to_it_any_more() {
        for (script, code) in [("exit 3", Some(3)), ("kill -KILL $$", None), ("kill -40 $$", None)] {
            let mut child = running(script);
            let process = process(&child);
            let long = Duration::from_secs(60);
            assert!(wait(process, Instant::now(), long, &Cancel::default()).unwrap(), "{script}");
            assert!(is_dead(process.as_raw()), "{script}: it is not reaped");
            assert_eq!(killpg(process, None), Ok(()), "{script}: its group is there");
            assert_eq!(child.wait().unwrap().code(), code, "{script}");
            assert_eq!(killpg(process, None), Err(Errno::ESRCH), "{script}");
            assert!(wait(process, Instant::now(), long, &Cancel::default()).is_err(), "{script}: nobody's child");
        }
    }

    #[test]
    fn what_is_started_when_it_is_to_end_is_ended_too() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        // It does not end when it is told to, but starts something that does not either.
        let script = "trap 'sh -c \"trap : TERM; echo \\$\\$ > new; mv new pid; while :; do sleep 1; done\" & ' TERM; \
                      : > ready; while :; do sleep 0.05; done";
        let child = Command::new("/bin/sh").args(["-c", script]).current_dir(&directory).spawn();
        let mut child = child.unwrap();
        until("it is ready", &|| directory.path().join("ready").exists());
        let command = FetchCommand::new("%f %p");
        let file = ArchiveFile::parse("000000010000000000000007").unwrap();
        let call = Call { command: &command, file, directory: directory.path(), to: "got", own_group: false };
        call.end(process(&child));
        child.wait().unwrap();
        // Where it was ended before it got that far, there is nothing to look at.
        if let Some(late) = fs::read_to_string(pid).ok().and_then(|pid| pid.trim().parse().ok()) {
            until("what it started last is gone", &|| kill(Pid::from_raw(late), None).is_err() || is_dead(late));
        }
    }

    #[test]
    fn a_number_that_became_anothers_is_not_the_same_process() {
        let ours = Started::of(nix::unistd::getpid()).unwrap();
        assert!(ours.is_there());
        assert!(!Started { at: ours.at + 1, ..ours }.is_there());
    }

    /// It may be that nobody asks how it ended.
    fn is_dead(pid: i32) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    }
}
