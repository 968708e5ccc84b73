//! The terminal is lent to another program: psql, a pager, an editor, or the shell.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Loop, Next, Perform, Signals, Terminal};
use crate::app::editor::Edit;
use crate::app::{Msg, guide};
use crate::error::{Error, Result};
use crate::tui::text::clean;

/// What the terminal is lent for.
#[derive(Debug)]
pub(in crate::tui) enum Errand {
    /// psql on the server of this recovery.
    Look(String),
    /// A pager with its log.
    Page(String),
    /// A pager with this file.
    Read(PathBuf),
    /// An editor with a text.
    Edit(Edit),
    /// The shell, until it says to go on.
    Suspend,
}

/// For so long after a program has ended, a Ctrl-C was meant for it.
const SETTLE: Duration = Duration::from_millis(50);

/// What somebody's program did with the terminal.
pub(in crate::tui) type Outcome = std::io::Result<ExitStatus>;

impl<P: Perform> Loop<P> {
    /// Lends the terminal and waits until it is given back. What happens meanwhile waits in the channel.
    pub(super) async fn lend(&mut self, terminal: &mut Terminal, errand: Errand) -> std::io::Result<Next> {
        match errand {
            Errand::Look(recovery) => self.look(terminal, &recovery).await,
            Errand::Page(recovery) => self.page(terminal, &recovery).await,
            Errand::Read(file) => self.read(terminal, &file, "report").await,
            Errand::Edit(edit) => self.edit(terminal, edit).await,
            Errand::Suspend => self.suspend(terminal).await,
        }
    }

    async fn look(&mut self, terminal: &mut Terminal, recovery: &str) -> std::io::Result<Next> {
        let Some((mut command, database)) = self.perform.look_command(recovery) else {
            self.take(Msg::Note("there is no server to look at".to_owned()));
            return Ok(Next::Go);
        };
        let before = guide::look(&self.state, &clean(recovery), &clean(&database));
        // Whoever comes back sees first how it stands.
        self.state.scroll = 0;
        match self.run_in_terminal(terminal, &mut command, &before).await? {
            None => return Ok(Next::Leave),
            Some(Ok(status)) if status.success() => {}
            Some(Ok(status)) => _ = self.take(Msg::Note(format!("psql ended with {status}"))),
            Some(Err(error)) => {
                let error = cannot_start("psql", &command, &error)
                    .hint("install PostgreSQL's client, or connect from elsewhere as the screen says");
                self.take(Msg::Failed(error));
            }
        }
        Ok(Next::Go)
    }

    async fn page(&mut self, terminal: &mut Terminal, recovery: &str) -> std::io::Result<Next> {
        let Some(log) = self.perform.log_of(recovery) else {
            self.take(Msg::Note("there is no log to look at".to_owned()));
            return Ok(Next::Go);
        };
        self.read(terminal, &log, "log").await
    }

    /// Lends the terminal to a pager with a file.
    async fn read(&mut self, terminal: &mut Terminal, file: &Path, what: &str) -> std::io::Result<Next> {
        let hint = || format!("set PAGER to a program that shows files; the {what} is {}", file.display());
        // A pager would show an error of its own, and be gone before it is read.
        if let Err(error) = std::fs::File::open(file) {
            let error = Error::failed("pager", format!("cannot read the {what}: {}", file.display())).caused_by(&error);
            self.take(Msg::Failed(error.hint("is it there, and may you read it?")));
            return Ok(Next::Go);
        }
        let mut command = match program_of(&["PAGER"], "less") {
            Ok(command) => command,
            Err(why) => {
                self.take(Msg::Failed(Error::failed("pager", why).hint(hint())));
                return Ok(Next::Go);
            }
        };
        command.arg(file);
        match self.run_in_terminal(terminal, &mut command, "").await? {
            None => return Ok(Next::Leave),
            Some(Ok(status)) if status.success() => {}
            Some(Ok(status)) => _ = self.take(Msg::Note(format!("the pager ended with {status}"))),
            Some(Err(error)) => _ = self.take(Msg::Failed(cannot_start("pager", &command, &error).hint(hint()))),
        }
        Ok(Next::Go)
    }

    async fn edit(&mut self, terminal: &mut Terminal, edit: Edit) -> std::io::Result<Next> {
        let (draft, mut command) = match Draft::for_editor(&edit.text) {
            Ok(started) => started,
            Err(error) => {
                self.take(Msg::Edited { edit, answer: Err(error) });
                return Ok(Next::Go);
            }
        };
        match self.run_in_terminal(terminal, &mut command, "").await? {
            None => return Ok(Next::Leave),
            Some(Ok(status)) if status.success() => {
                let answer = draft.read();
                self.take(Msg::Edited { edit, answer });
            }
            Some(Ok(status)) => {
                self.take(Msg::Note(format!("the editor ended with {status}; nothing was changed")));
            }
            Some(Err(error)) => {
                let error = cannot_start("editor", &command, &error).hint(NO_EDITOR);
                self.take(Msg::Edited { edit, answer: Err(error) });
            }
        }
        Ok(Next::Go)
    }

    /// Stops the whole group of processes, as Ctrl-Z does where nobody reads it as a key, until the shell says to go on.
    /// Servers have sessions of their own, which this does not reach. Where there is no shell to go back to, the kernel
    /// does not stop anything (`signal(7)`: SIGTSTP to an orphaned process group), and nothing happens.
    async fn suspend(&mut self, terminal: &mut Terminal) -> std::io::Result<Next> {
        terminal.suspend();
        // This is the process's main thread, which takes the signal before it comes back from here.
        let stopped = kill(Pid::from_raw(0), Signal::SIGTSTP);
        self.resume(terminal)?;
        let went_on = self.signals.settle().await;
        match stopped {
            Err(error) => _ = self.take(Msg::Note(format!("it cannot be stopped: {error}"))),
            Ok(()) if !went_on => _ = self.take(Msg::Note("not stopped: no shell would bring it back".to_owned())),
            Ok(()) => {}
        }
        Ok(Next::Go)
    }

    /// Runs a program that has the terminal; `None` where this one has to leave before that ends.
    async fn run_in_terminal(
        &mut self,
        terminal: &mut Terminal,
        command: &mut Command,
        before: &str,
    ) -> std::io::Result<Option<Outcome>> {
        terminal.suspend();
        if !before.is_empty() {
            let _ = writeln!(std::io::stdout(), "{before}");
        }
        let outcome = match command.spawn() {
            Err(error) => Some(Err(error)),
            Ok(child) => self.signals.wait_for(child).await,
        };
        if outcome.is_some() {
            self.resume(terminal)?;
        }
        Ok(outcome)
    }
}

impl Signals {
    /// Waits for a program that has the terminal; `None` where this one has to leave before that ends. Ctrl-C is the
    /// program's own while it runs.
    pub(in crate::tui) async fn wait_for(&mut self, mut child: Child) -> Option<Outcome> {
        let (ended, mut end) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || ended.send(child.wait()));
        loop {
            tokio::select! {
                outcome = &mut end => {
                    let _ = self.settle().await;
                    return Some(outcome.unwrap_or_else(|_| Err(std::io::Error::other("nobody waited for it"))));
                }
                _ = self.terminate.recv() => return None,
                _ = self.hangup.recv() => return None,
                _ = self.interrupt.recv() => {}
            }
        }
    }

    /// Lets pass what was meant for whoever had the terminal: a Ctrl-C that ended it came to this program too, and may
    /// still be on its way; and so may the signal to go on, which has nothing to bring back any more. Returns whether
    /// that came.
    async fn settle(&mut self) -> bool {
        let mut went_on = false;
        let theirs = async {
            loop {
                tokio::select! {
                    _ = self.interrupt.recv() => {}
                    _ = self.go_on.recv() => went_on = true,
                }
            }
        };
        let _ = tokio::time::timeout(SETTLE, theirs).await;
        went_on
    }
}

pub(in crate::tui) fn cannot_start(code: &'static str, command: &Command, error: &std::io::Error) -> Error {
    let program = command.get_program().to_string_lossy();
    Error::failed(code, format!("cannot start {program}")).caused_by(error)
}

/// The program that the first of these variables names that is set and not empty, with the arguments that it has there.
pub(in crate::tui) fn program_of(variables: &[&str], otherwise: &str) -> std::result::Result<Command, String> {
    let set = variables.iter().find_map(|name| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
        Some((name, value))
    });
    match set {
        None => Ok(Command::new(otherwise)),
        Some((name, value)) => split(&value).map_err(|why| format!("${name} is no command: {why}")),
    }
}

/// A command as it is written for a shell, without one: no name of a file is ever read as anything else.
fn split(value: &OsString) -> std::result::Result<Command, String> {
    let text = value.to_str().ok_or("it is not UTF-8")?;
    let words = shell_words::split(text).map_err(|error| error.to_string())?;
    let (program, arguments) = words.split_first().ok_or("it is empty")?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

/// A text in a file that nobody else can read, in a directory that nobody else can enter: what an editor puts beside it
/// goes with it.
pub(in crate::tui) struct Draft {
    directory: PathBuf,
}

/// No list of settings is longer.
const LONGEST: u64 = 1 << 20;

/// What to do where no editor starts.
pub(in crate::tui) const NO_EDITOR: &str = "set VISUAL or EDITOR to your editor, or type settings one by one";

impl Draft {
    /// A text in a file, and the operator's editor with that file.
    pub(in crate::tui) fn for_editor(text: &str) -> Result<(Draft, Command)> {
        let draft = Draft::write(text).map_err(|error| error.hint(NO_EDITOR))?;
        let command = program_of(&["VISUAL", "EDITOR"], "vi");
        let mut command = command.map_err(|why| Error::failed("editor", why).hint(NO_EDITOR))?;
        command.arg(draft.file());
        Ok((draft, command))
    }

    fn write(text: &str) -> Result<Draft> {
        let cannot =
            |error: std::io::Error| Error::failed("editor", "cannot write a file to be edited").caused_by(&error);
        let draft = Draft { directory: private_directory().map_err(cannot)? };
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft.file()).map_err(cannot)?;
        file.write_all(text.as_bytes()).map_err(cannot)?;
        Ok(draft)
    }

    pub(in crate::tui) fn file(&self) -> PathBuf {
        self.directory.join("settings.conf")
    }

    pub(in crate::tui) fn read(&self) -> Result<String> {
        let cannot = |error: std::io::Error| {
            Error::failed("editor", "cannot read what was edited").caused_by(&error).hint("nothing was changed")
        };
        let mut text = String::new();
        let file = std::fs::File::open(self.file()).map_err(cannot)?;
        file.take(LONGEST).read_to_string(&mut text).map_err(cannot)?;
        Ok(text)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A new directory for this program alone.
fn private_directory() -> std::io::Result<PathBuf> {
    let base = std::env::temp_dir();
    let of_number = |number: u32| base.join(format!("walback-edit-{}-{number}", std::process::id()));
    for number in 0..1000 {
        let directory = of_number(number);
        match std::fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| directory),
        }
    }
    Err(std::io::Error::other(format!("every name is taken: {}", of_number(0).display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_command_has_its_arguments_and_no_shell() {
        let words = |text: &str| {
            let command = split(&OsString::from(text)).unwrap();
            let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
            std::iter::once(command.get_program().to_string_lossy().into_owned()).chain(arguments).collect::<Vec<_>>()
        };
        assert_eq!(words("less -R"), ["less", "-R"]);
        assert_eq!(words("'/opt/my editor/bin/e' --wait \"a b\""), ["/opt/my editor/bin/e", "--wait", "a b"]);
        assert_eq!(words("vi; rm x"), ["vi;", "rm", "x"], "nothing but words");
        assert!(split(&OsString::from("less 'x")).is_err() && split(&OsString::from("  ")).is_err());
    }

    #[test]
    fn what_is_edited_is_private_and_goes_away() {
        let draft = Draft::write("work_mem = 4MB\n").unwrap();
        let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&draft.directory), mode(&draft.file())), (0o700, 0o600));
        // An editor writes it anew, and leaves something beside it.
        std::fs::write(draft.directory.join("settings.conf~"), "old").unwrap();
        std::fs::write(draft.directory.join("new"), "jit = off\n").unwrap();
        std::fs::rename(draft.directory.join("new"), draft.file()).unwrap();
        assert_eq!(draft.read().unwrap(), "jit = off\n");
        let directory = draft.directory.clone();
        drop(draft);
        assert!(!directory.exists());
    }
}
