//! Tells somebody of a drill that failed, or could not be made.

use std::path::Path;
use std::time::{Duration, Instant};

use super::run::{Drill, Heard};
use crate::core::progress::Seconds;
use crate::engine::host::current_account;
use crate::engine::host::programs::Program;
use crate::event::drill::{DrillResult, document};

/// How long the command for failures may take.
const ALARM: Duration = Duration::from_secs(60);

impl Drill<'_> {
    /// Has the configured command tell somebody of a failure. `directory`: where the report and its documents are.
    pub(super) fn raise_alarm(&self, id: &str, summary: &str, directory: Option<&Path>) {
        let Some(command) = &self.source.drill.on_failure else { return };
        let place = |name: &str| directory.map(|place| place.join(name).display().to_string()).unwrap_or_default();
        let environment = [
            ("WALBACK_SUMMARY", summary.to_owned()),
            ("WALBACK_RESULT", DrillResult::Failed.word().to_owned()),
            ("WALBACK_DRILL", id.to_owned()),
            ("WALBACK_SOURCE", self.source.name.clone()),
            ("WALBACK_REPORT", place(document::HTML)),
            ("WALBACK_REPORT_JSON", place(document::JSON)),
            ("WALBACK_REPORT_MARKDOWN", place(document::MARKDOWN)),
        ];
        let arguments = ["-c".to_owned(), command.clone()];
        let program = Program {
            path: Path::new("/bin/sh"),
            arguments: &arguments,
            environment: &environment,
            output_to_nowhere: false,
            of_the_copy: false,
        };
        let started = Instant::now();
        let ran = self.host.run_while(&current_account(), &program, &|| started.elapsed() < ALARM);
        let why = match ran {
            Ok(ran) if ran.succeeded() => return,
            Ok(ran) if ran.cut_short => format!("it was given up after {}", Seconds(ALARM.as_secs_f64())),
            Ok(ran) => ran.said.lines().last().unwrap_or("it failed").to_owned(),
            Err(error) => error.report().message.clone(),
        };
        (self.listen)(id, Heard::Note(&format!("“on_failure” did not succeed: {why}")));
    }
}
