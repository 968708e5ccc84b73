//! What the program answers.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chown};
use serde_json::Value;

use super::describe;
use super::server::server_user;

/// What the program said and how it ended.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its exit status.
    pub status: i32,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
    /// All of that with the command, for the message of a failed test.
    pub shown: String,
}

/// Runs the program to its end, without a terminal.
#[track_caller]
pub fn ask(command: &mut Command) -> Answer {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let status = output.status.code().unwrap_or_else(|| panic!("{}", describe(command, &output)));
    Answer { status, out: text(&output.stdout), err: text(&output.stderr), shown: describe(command, &output) }
}

impl Answer {
    /// Panics where it did not end with that exit status.
    #[track_caller]
    pub fn ended_with(self, status: i32) -> Answer {
        assert_eq!(self.status, status, "{}", self.shown);
        self
    }

    /// Its standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("this is not JSON: {error}\n{}", self.shown))
    }

    /// Its standard output as JSON lines.
    #[track_caller]
    pub fn lines(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out.lines().map(parse).collect()
    }

    /// The recovery that it printed, as a document or as the last of its lines.
    #[track_caller]
    pub fn recovery(&self) -> Value {
        let whole = serde_json::from_str(&self.out).ok();
        let value: Value = whole.unwrap_or_else(|| self.lines().pop().unwrap_or_default());
        assert!(value["recovery"].is_object(), "there is no recovery in it\n{}", self.shown);
        value["recovery"].clone()
    }
}

/// The program at work, printing JSON lines. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Every line that was read.
    pub lines: Vec<Value>,
}

impl Running {
    /// Starts it.
    #[track_caller]
    pub fn start(command: &mut Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output = BufReader::new(child.stdout.take().unwrap());
        Running { child, output, lines: Vec::new() }
    }

    /// Reads lines until one is as wanted, and gives it.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        while let Some(line) = self.read_line() {
            if wanted(&line) {
                return line;
            }
        }
        let mut error = String::new();
        let _ = self.child.stderr.take().unwrap().read_to_string(&mut error);
        panic!("it ended without {what}\n{error}\n{:#?}", self.lines);
    }

    #[track_caller]
    fn read_line(&mut self) -> Option<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.lines.push(value.clone());
        Some(value)
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Reads on to its end, and gives its exit status, `None` where a signal ended it, and its standard error.
    #[track_caller]
    pub fn wait(mut self) -> (Option<i32>, String, Vec<Value>) {
        while self.read_line().is_some() {}
        let mut error = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        (self.child.wait().unwrap().code(), error, std::mem::take(&mut self.lines))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same command run by the servers' user and not by root, with its home given to that user.
pub fn as_operator(command: &Command) -> Command {
    let Some(user) = server_user() else { panic!("only root can run it as another user") };
    let mut operator = Command::new("setpriv");
    operator.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]);
    operator.arg("--init-groups").arg("--").arg(command.get_program()).args(command.get_args()).env_clear();
    operator.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let home = command.get_envs().find(|(name, _)| *name == "HOME").and_then(|(_, value)| value).unwrap();
    chown(Path::new(home), Some(user.uid), Some(user.gid)).unwrap();
    operator.current_dir(command.get_current_dir().unwrap());
    operator
}
