//! The program: parse, dispatch, error → exit status.

use std::process::ExitCode;

use walback::cli::{self, Outcome};
use walback::demo::Guard;
use walback::engine::{fetch, launch};
use walback::source::command::run::end_all;

fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let rest = arguments.get(2..).unwrap_or_default();
    if arguments.get(1).is_some_and(|first| first == "fetch") && !cli::fetch::asks_for_help(rest) {
        return ExitCode::from(cli::fetch::run(rest));
    }
    let hidden = match arguments.get(1).and_then(|first| first.to_str()) {
        Some(launch::SUBCOMMAND) => Some(launch::launch(rest)),
        Some(launch::AS_USER) => Some(launch::become_user(rest)),
        Some(fetch::AHEAD) => {
            fetch::run_ahead(rest);
            Some(Ok(()))
        }
        _ => None,
    };
    if let Some(ended) = hidden {
        return match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let status = outcome(arguments);
    // Whoever asked for them may not have been waited for.
    end_all();
    status
}

fn outcome(arguments: Vec<std::ffi::OsString>) -> ExitCode {
    match cli::run(arguments) {
        Outcome::Done(status) => ExitCode::from(status),
        Outcome::Interface { config, guard } => {
            let colour = config.colour;
            let ended = walback::tui::perform::open(*config, guard.as_ref().is_some_and(Guard::removes));
            // The demonstration is there as long as the interface is.
            let cleared = guard.map_or(Ok(()), Guard::close);
            match ended.and_then(|status| cleared.map(|()| status)) {
                Ok(status) => ExitCode::from(status),
                Err(error) => ExitCode::from(cli::fail(&error, false, colour)),
            }
        }
    }
}
