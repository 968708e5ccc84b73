//! The program: parse, dispatch, error → exit status.

use std::process::ExitCode;

use walback::cli::{self, Outcome};
use walback::demo::Guard;
use walback::engine::launch;

fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|first| first == launch::SUBCOMMAND) {
        let rest: Vec<String> = arguments.iter().skip(2).map(|word| word.to_string_lossy().into_owned()).collect();
        return match launch::launch(&rest) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    match cli::run(arguments) {
        Outcome::Done(status) => ExitCode::from(status),
        Outcome::Interface { config, guard } => {
            let ended = walback::tui::perform::open(*config);
            // The demonstration is there as long as the interface is.
            let cleared = guard.map_or(Ok(()), Guard::close);
            match ended.and(cleared) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => ExitCode::from(cli::fail(&error, false)),
            }
        }
    }
}
