//! The terminal is lent to psql, a pager or an editor. Nothing has to be given back: lines leave it as it is.

use std::path::Path;
use std::process::{Command, ExitStatus};

use super::Loop;
use super::session::Next;
use crate::app::editor::Edit;
use crate::app::{Msg, guide};
use crate::error::Error;
use crate::tui::run::Perform;
use crate::tui::run::lend::{Draft, Errand, NO_EDITOR, cannot_start, program_of};
use crate::tui::text::clean;

impl<P: Perform> Loop<P> {
    /// Lends the terminal and waits until it is given back. What happens meanwhile waits in the channel.
    pub(super) async fn lend(&mut self, errand: Errand) -> Next {
        match errand {
            Errand::Look(recovery) => self.look(&recovery).await,
            Errand::Page(recovery) => self.page(&recovery).await,
            Errand::Read(file) => self.read(&file, "report").await,
            Errand::Edit(edit) => self.edit(edit).await,
            Errand::Suspend => Next::Go,
        }
    }

    async fn look(&mut self, recovery: &str) -> Next {
        let Some((mut command, database)) = self.perform.look_command(recovery) else {
            return self.session.take(Msg::Note("there is no server to look at".to_owned()));
        };
        for line in guide::look(&self.session.state, &clean(recovery), &clean(&database)).lines() {
            self.out.line(line);
        }
        match self.run_program("psql", &mut command).await {
            Ok(None) => Next::Leave,
            Ok(Some(status)) => self.ended("psql", status),
            Err(error) => self.failed(error.hint("install PostgreSQL's client, or connect from elsewhere")),
        }
    }

    async fn page(&mut self, recovery: &str) -> Next {
        let Some(log) = self.perform.log_of(recovery) else {
            return self.session.take(Msg::Note("there is no log to look at".to_owned()));
        };
        self.read(&log, "log").await
    }

    async fn read(&mut self, file: &Path, what: &str) -> Next {
        let hint = format!("set PAGER to a program that shows files; the {what} is {}", file.display());
        let mut command = match program_of(&["PAGER"], "less") {
            Ok(command) => command,
            Err(why) => return self.failed(Error::failed("pager", why).hint(hint)),
        };
        command.arg(file);
        match self.run_program("pager", &mut command).await {
            Ok(None) => Next::Leave,
            Ok(Some(status)) => self.ended("the pager", status),
            Err(error) => self.failed(error.hint(hint)),
        }
    }

    async fn edit(&mut self, edit: Edit) -> Next {
        let (draft, mut command) = match Draft::for_editor(&edit.text) {
            Ok(started) => started,
            Err(error) => return self.failed(error),
        };
        match self.run_program("editor", &mut command).await {
            Ok(None) => Next::Leave,
            Ok(Some(status)) if status.success() => {
                let answer = draft.read();
                self.session.take(Msg::Edited { edit, answer })
            }
            Ok(Some(status)) => self.ended("the editor", status),
            Err(error) => self.failed(error.hint(NO_EDITOR)),
        }
    }

    fn ended(&mut self, program: &str, status: ExitStatus) -> Next {
        if status.success() {
            return Next::Go;
        }
        self.session.take(Msg::Note(format!("{program} ended with {status}")))
    }

    fn failed(&mut self, error: Error) -> Next {
        self.session.take(Msg::Failed(error))
    }

    /// Runs a program that has the terminal; `None` where this one has to leave before that ends.
    async fn run_program(&mut self, code: &'static str, command: &mut Command) -> Result<Option<ExitStatus>, Error> {
        let outcome = match command.spawn() {
            Ok(child) => self.signals.wait_for(child).await,
            Err(error) => Some(Err(error)),
        };
        outcome.transpose().map_err(|error| cannot_start(code, command, &error))
    }
}
