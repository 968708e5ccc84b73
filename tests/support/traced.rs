//! The program, killed at an exact moment: it is traced, and what it does to the world is counted.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// When the program is killed: before the act of this number since the line of this number was written to the journal, or
/// before the first act after the next line, where there are fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Lines that it wrote to the journal, before.
    pub line: usize,
    /// Acts since then.
    pub act: usize,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// Its exit status; `None` where it was killed.
    pub status: Option<i32>,
    /// Where it was killed: lines and acts, and the act that it was about to do.
    pub killed: Option<(Moment, &'static str)>,
    /// What it printed.
    pub said: String,
}

/// Runs the program and kills it with SIGKILL, all its threads at once, before it does what it is about to do.
#[track_caller]
pub fn run_and_kill(command: &Command, journal: &Path, moment: Moment, output: &Path) -> Traced {
    let leader = start_stopped(command, output);
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    ptrace::seize(leader, options).unwrap();
    kill(leader, Signal::SIGCONT).unwrap();
    let mut tracing =
        Tracing { leader, journal, moment, now: Moment { line: 0, act: 0 }, inside: HashSet::new(), killed: None };
    let status = tracing.follow();
    Traced { status, killed: tracing.killed, said: fs::read_to_string(output).unwrap() }
}

/// A shell that stops itself, and becomes the program when it goes on: nothing of it is missed.
fn start_stopped(command: &Command, output: &Path) -> Pid {
    let output = File::create(output).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    // It is waited for by whoever traces it.
    #[allow(clippy::zombie_processes)]
    let child = shell.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
    let leader = Pid::from_raw(child.id().cast_signed());
    let stopped = waitpid(leader, Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert_eq!(stopped, WaitStatus::Stopped(leader, Signal::SIGSTOP));
    leader
}

struct Tracing<'a> {
    leader: Pid,
    journal: &'a Path,
    moment: Moment,
    now: Moment,
    /// Threads that are in a system call.
    inside: HashSet<Pid>,
    killed: Option<(Moment, &'static str)>,
}

impl Tracing<'_> {
    /// To the end, which is told of the leader when no other thread is left; gives the exit status, `None` where a signal
    /// ended it.
    fn follow(&mut self) -> Option<i32> {
        loop {
            // Only what this thread traces: other tests have children too.
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::PtraceSyscall(thread)) => self.system_call(thread),
                Ok(WaitStatus::PtraceEvent(thread, ..)) => go_on(thread, None),
                Ok(WaitStatus::Stopped(thread, signal)) => go_on(thread, Some(signal)),
                Ok(WaitStatus::Exited(thread, status)) if thread == self.leader => return Some(status),
                Ok(WaitStatus::Signaled(thread, ..)) if thread == self.leader => return None,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => panic!("waitpid: {error}"),
            }
        }
    }

    fn system_call(&mut self, thread: Pid) {
        if !self.inside.insert(thread) {
            self.inside.remove(&thread);
            return go_on(thread, None);
        }
        let Some((act, journalled)) = self.act(thread) else { return go_on(thread, None) };
        let due = self.now.line > self.moment.line || self.now == self.moment;
        if due && self.killed.is_none() {
            self.killed = Some((self.now, act));
            kill(self.leader, Signal::SIGKILL).unwrap();
            return;
        }
        self.now.act += 1;
        if journalled {
            self.now = Moment { line: self.now.line + 1, act: 0 };
        }
        go_on(thread, None);
    }

    /// What a thread is about to do to the world, if that is anything, and whether it is a line of the journal.
    fn act(&self, thread: Pid) -> Option<(&'static str, bool)> {
        const CREATE: u64 = 0o100;
        let registers = ptrace::getregs(thread).ok()?;
        // By number, of x86-64.
        let act = match registers.orig_rax {
            1 => {
                let file = fs::read_link(format!("/proc/{thread}/fd/{}", registers.rdi)).ok()?;
                return match file {
                    file if file == self.journal => Some(("write a line of the journal", true)),
                    file if file.is_absolute() && file.starts_with(self.journal.parent()?) => Some(("write", false)),
                    _ => None,
                };
            }
            257 if registers.rdx & CREATE != 0 => "make a file",
            83 | 258 => "make a directory",
            82 | 264 | 316 => "rename",
            84 | 87 | 263 => "remove",
            74 | 75 | 306 => "sync",
            90 | 91 | 268 => "set a mode",
            92..=94 | 260 => "set an owner",
            76 | 77 => "cut a file",
            58 => "run a program",
            56 | 435 if registers.rdi & 0x4000 != 0 || registers.orig_rax == 435 => "run a program or a thread",
            62 => "send a signal",
            42 => "connect",
            _ => return None,
        };
        Some((act, false))
    }
}

fn go_on(thread: Pid, signal: Option<Signal>) {
    // It may be gone: another thread may have ended the process.
    let _ = ptrace::syscall(thread, signal.filter(|signal| *signal != Signal::SIGTRAP));
}
