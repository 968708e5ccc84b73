//! The headless face: commands in, plain lines or JSON out, from the same engine and events as the interface.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Parser;

use crate::catalog::Catalog;
use crate::config::{Colour, Config};
use crate::demo::Guard;
use crate::engine::Recoveries;
use crate::error::{Error, ErrorKind, Result};
use crate::source::{Cancel, LocalSource};

pub mod act;
pub mod archive;
pub mod args;
pub mod ask;
pub mod backups;
pub mod check;
pub mod checklist;
pub mod config;
pub mod demo;
pub mod discovery;
pub mod drill;
pub mod drills;
pub mod fetch;
pub mod init;
pub mod interrupt;
pub mod locate;
pub mod paths;
pub mod plan;
pub mod points;
pub mod query;
pub mod recoveries;
pub mod restore;
pub mod suspects;
pub mod table;
pub mod timelines;
pub mod watch;

use args::{Cli, Command, Global};

/// What a command line comes to.
#[derive(Debug)]
pub enum Outcome {
    /// It is done; the process ends with this status.
    Done(u8),
    /// The interface is asked for.
    Interface {
        /// What it works with.
        config: Box<Config>,
        /// What clears the demonstration away, to be dropped when the interface has ended.
        guard: Option<Guard>,
    },
}

/// What every command gets.
pub struct Context {
    /// The effective configuration.
    pub config: Config,
    /// Whether JSON is asked for.
    pub json: bool,
    /// Ctrl-C asks for this.
    pub cancel: Cancel,
}

impl Context {
    fn new(global: &Global) -> Result<Context> {
        let config = Config::load(&global.overrides(), &|name| std::env::var_os(name))?;
        Ok(Context { config, json: global.json, cancel: Cancel::default() })
    }

    /// Finds the sources below the directories that the command line names, where it does.
    fn find_sources(&mut self, global: &Global) -> Result<()> {
        if global.below.is_empty() {
            return Ok(());
        }
        if !global.backups.is_empty() || !global.wal.is_empty() || !global.wal_command.is_empty() {
            return Err(Error::usage("usage", "--in and a PATH do not go with --backups, --wal and --wal-command")
                .hint("give all directories with --in, or all with --backups and --wal"));
        }
        let found = discovery::find(&global.below, self.config.cache_directory.as_deref(), &self.cancel)?;
        if found.sources.is_empty() {
            return Err(discovery::nothing(&found));
        }
        let sources = crate::source::discover::configured(&found);
        self.config = self.config.clone().with_found(&found.paths, sources, &global.overrides());
        if let Ok(chosen) = self.config.source() {
            discovery::note_briefly(&found, &chosen.name);
        }
        Ok(())
    }

    /// The source to work on.
    ///
    /// # Errors
    /// When there is none, or several.
    pub fn source(&self) -> Result<LocalSource> {
        let source = self.config.source().map(LocalSource::new)?;
        Ok(source.remembering(self.config.cache_directory.as_deref()))
    }

    /// The source, and what it has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn catalog(&self) -> Result<(LocalSource, Catalog)> {
        let source = self.source()?;
        let catalog = archive::list(self, &source)?;
        for problem in &catalog.problems {
            note(&format!("warning: {}", table::plain(problem)));
        }
        Ok((source, catalog))
    }

    /// The recoveries that this machine knows.
    #[must_use]
    pub fn recoveries(&self) -> Recoveries {
        Recoveries::below(&self.config.state_directory)
    }

    /// Prints a result as one JSON document: an object with this one name.
    ///
    /// # Errors
    /// When it cannot be serialised, or standard output cannot be written.
    pub fn print_json(&self, name: &str, value: &impl serde::Serialize) -> Result<()> {
        self.print_document(&std::collections::BTreeMap::from([(name, value)]))
    }

    /// Prints a result that has several names.
    ///
    /// # Errors
    /// As [`Context::print_json`].
    pub fn print_document(&self, document: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(document).map_err(|error| {
            Error::failed("no-json", "the result cannot be written as JSON")
                .caused_by(&error)
                .hint("a path that is not UTF-8 cannot; the lines without --json show it")
        })?;
        print(&text)
    }
}

/// Runs a command line, and tells what it comes to. Errors are printed here.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> Outcome {
    // Even an error in the command line itself is answered in JSON where that was asked for.
    let json = arguments.iter().any(|argument| argument == "--json");
    let nagios = is_for_nagios(&arguments);
    let cli = match parse(&arguments) {
        Ok(cli) => cli,
        // Nagios takes our status for a wrong command line for its own “critical”.
        Err(error) if error.use_stderr() && nagios => {
            let _ = usage(&error, false);
            print_quietly(&check::nagios::failed(&usage_error(&error.to_string())));
            return Outcome::Done(check::nagios::UNKNOWN);
        }
        // To a server, the status for a wrong command line would be “not in the archive”.
        Err(error) if error.use_stderr() && is_fetch(&arguments) => {
            let _ = usage(&error, json);
            return Outcome::Done(crate::engine::fetch::NOT_ABLE);
        }
        Err(error) => return Outcome::Done(usage(&error, json)),
    };
    let colour = cli.global.color.into();
    match dispatch(cli) {
        Ok(outcome) => outcome,
        Err(error) if nagios => {
            fail(&error, false, colour);
            print_quietly(&check::nagios::failed(&error));
            Outcome::Done(check::nagios::UNKNOWN)
        }
        Err(error) => Outcome::Done(fail(&error, json, colour)),
    }
}

/// Whether the command line is one of `check` that answers as a plugin of Nagios, as far as that shows before it is
/// understood.
fn is_for_nagios(arguments: &[OsString]) -> bool {
    let is = |word: &str| arguments.iter().any(|argument| argument == word);
    let asked =
        arguments.windows(2).any(|words| matches!(words, [option, form] if option == "--format" && form == "nagios"));
    is("check") && (asked || is("--format=nagios"))
}

/// Whether the first of the words that is a command is `fetch`.
fn is_fetch(arguments: &[OsString]) -> bool {
    let program = <Cli as clap::CommandFactory>::command();
    let is_command = |word: &&OsString| program.get_subcommands().any(|command| command.get_name() == word.as_os_str());
    arguments.iter().skip(1).find(is_command).is_some_and(|word| word == "fetch")
}

/// Understands a command line. Directories may be given before and behind the command: `clap` takes those behind it alone.
fn parse(arguments: &[OsString]) -> std::result::Result<Cli, clap::Error> {
    let arguments = paths::spelled_out(arguments.to_vec());
    let mut cli = Cli::try_parse_from(&arguments)?;
    let global = &mut cli.global;
    for (option, understood) in
        [("--backups", &mut global.backups), ("--wal", &mut global.wal), ("--in", &mut global.below)]
    {
        let all = values_of(&arguments, option);
        if all.len() > understood.len() {
            *understood = all;
        }
    }
    let commands = values_of(&arguments, "--wal-command");
    if commands.len() > global.wal_command.len() {
        let texts = commands.into_iter().map(|command| command.into_os_string().into_string());
        global.wal_command = texts.filter_map(std::result::Result::ok).collect();
    }
    Ok(cli)
}

/// The values of an option, wherever it stands.
fn values_of(arguments: &[OsString], option: &str) -> Vec<PathBuf> {
    let mut values = Vec::new();
    let mut rest = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(argument) = rest.next() {
        if argument == option {
            values.extend(rest.next().map(PathBuf::from));
        } else if let Some(value) =
            argument.as_bytes().strip_prefix(option.as_bytes()).and_then(|value| value.strip_prefix(b"="))
        {
            values.push(PathBuf::from(OsStr::from_bytes(value)));
        }
    }
    values
}

fn dispatch(cli: Cli) -> Result<Outcome> {
    let Some(command) = cli.command else {
        let mut context = Context::new(&cli.global)?;
        if !cli.global.below.is_empty() {
            interrupt::on_interrupt(&context.cancel)?;
            context.find_sources(&cli.global)?;
        }
        return Ok(Outcome::Interface { config: Box::new(context.config), guard: None });
    };
    match &command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut <Cli as clap::CommandFactory>::command(), "walback", &mut script);
            return print(String::from_utf8_lossy(&script).trim_end()).map(|()| Outcome::Done(0));
        }
        Command::Man => {
            let mut page = Vec::new();
            clap_mangen::Man::new(<Cli as clap::CommandFactory>::command())
                .render(&mut page)
                .map_err(|error| Error::failed("no-manual", "the manual page cannot be made").caused_by(&error))?;
            return print(String::from_utf8_lossy(&page).trim_end()).map(|()| Outcome::Done(0));
        }
        Command::Fetch { recovery, file, to } => {
            return Ok(Outcome::Done(fetch::understood(recovery, file, to)));
        }
        _ => {}
    }
    let mut context = Context::new(&cli.global)?;
    interrupt::on_interrupt(&context.cancel)?;
    if !matches!(command, Command::Init(_)) {
        context.find_sources(&cli.global)?;
    }
    let status = match command {
        Command::Demo { into, auto, bin_dir } => return demo::run(&context, into.as_deref(), auto, bin_dir.as_deref()),
        Command::Backups => backups::run(&context),
        Command::Timelines => timelines::run(&context),
        Command::Points { window, kind } => points::run(&context, &window, &kind),
        Command::Suspects { window, rows } => suspects::run(&context, &window, rows),
        Command::Locate { target, backup } => {
            locate::run(&context, &target, backup).map_err(|error| target.with_offer(error, context.config.zone))
        }
        Command::Check(args) => check::run(&context, &args),
        Command::Plan { target, restore, script } => plan::run(&context, &target, &restore, &script)
            .map_err(|error| target.with_offer(error, context.config.zone)),
        Command::Restore { target, restore, act } => restore::run(&context, &target, &restore, act)
            .map_err(|error| target.with_offer(error, context.config.zone)),
        Command::Recoveries => recoveries::list(&context),
        Command::Status { recovery, events } => recoveries::status(&context, recovery.as_deref(), events),
        Command::Resume { recovery, events } => act::resume(&context, recovery.as_deref(), events),
        Command::Retarget { recovery, target, step, dry_run, act } => {
            let to = act::Retarget { target: &target, step: step.step(), dry_run, act };
            act::retarget(&context, recovery.as_deref(), &to)
                .map_err(|error| target.with_offer(error, context.config.zone))
        }
        Command::Promote { recovery, act } => act::promote(&context, recovery.as_deref(), act),
        Command::Checks { recovery } => query::checks(&context, recovery.as_deref()),
        Command::Sql(args) => query::sql(&context, &args),
        Command::Checklist { recovery, checklist, act } => {
            checklist::run(&context, recovery.as_deref(), &checklist, act)
        }
        Command::Init(args) => init::run(&context, &cli.global.below, &args),
        Command::Config { what } => config::run(&context, &cli.global, &what),
        Command::Stop { recovery } => act::stop(&context, recovery.as_deref()),
        Command::Discard { recovery, act } => act::discard(&context, recovery.as_deref(), act),
        Command::Drill { target, drill } => drill::run(&context, &target, &drill),
        Command::Drills { verify, head } => drills::run(&context, verify, head.as_deref()),
        Command::Fetch { .. } | Command::Completions { .. } | Command::Man => Ok(0),
    };
    status.map(Outcome::Done)
}

/// What `clap` has to say: help and version on standard output, errors on standard error.
fn usage(error: &clap::Error, json: bool) -> u8 {
    if !error.use_stderr() {
        // A pipe that was closed early is no news.
        let _ = error.print();
        return 0;
    }
    let _ = error.print();
    if json {
        print_quietly(&usage_error(&error.to_string()).to_json().to_string());
    }
    ErrorKind::Usage.exit_status()
}

/// What `clap` says, as one of our errors: the message is its first paragraph (what is missing follows on lines of its
/// own), the hint its tip.
fn usage_error(text: &str) -> Error {
    let paragraph: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let message = paragraph.join(" ");
    let tip = text.lines().find_map(|line| line.trim().strip_prefix("tip: "));
    Error::usage("usage", message.trim_start_matches("error: ")).hint(tip.unwrap_or("see --help"))
}

/// Prints an error where it belongs, and gives the exit status.
pub fn fail(error: &Error, json: bool, colour: Colour) -> u8 {
    let lines = table::plain_lines(&error.to_string());
    note(&if colour.on(std::io::stderr().is_terminal()) { table::painted(&lines) } else { lines });
    if json {
        print_quietly(&error.to_json().to_string());
    }
    error.report().kind.exit_status()
}

/// A line on standard error.
pub fn note(line: &str) {
    // There is nobody left to tell when standard error is gone.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Lines on standard output. A reader that went away is no error: the process just ends.
///
/// # Errors
/// When standard output cannot be written for another reason.
pub fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Error::failed("no-output", "cannot write to standard output").caused_by(&error)),
        Ok(()) => Ok(()),
    }
}

fn print_quietly(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_taken_before_and_behind_the_command() {
        let wal = |words: &str| {
            let arguments: Vec<OsString> = words.split(' ').map(OsString::from).collect();
            let wal = parse(&arguments).unwrap().global.wal;
            wal.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(wal("walback --wal /a backups"), "/a");
        assert_eq!(wal("walback backups --wal /a --wal=/b"), "/a /b");
        assert_eq!(wal("walback --wal=/a backups --wal /b"), "/a /b");
        assert_eq!(wal("walback --wal /a --wal /b locate --latest --wal /c"), "/a /b /c");
        assert_eq!(wal("walback backups"), "");
    }

    #[test]
    fn a_wrong_command_line_is_told_whole_in_json_too() {
        let told = |words: &[&str]| {
            let error = Cli::try_parse_from(words).unwrap_err();
            let report = usage_error(&error.to_string()).report().clone();
            (report.message, report.hint.unwrap_or_default())
        };
        let (missing, _) = told(&["walback", "restore", "--into", "/x"]);
        assert!(missing.starts_with("the following required arguments") && missing.contains("--time <T>"), "{missing}");
        let (unknown, tip) = told(&["walback", "restore", "--latest", "--intoo", "/x"]);
        assert!(unknown.contains("'--intoo'") && tip.contains("'--into'"), "{unknown} {tip}");
    }
}
