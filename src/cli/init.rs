//! `walback init`

use std::path::{Path, PathBuf};

use crate::catalog::found::{Found, FoundSource};
use crate::config::template::{Filled, render, written};
use crate::core::progress::counted;
use crate::engine::host::Host;
use crate::error::{Error, Result};
use crate::plan::settings::shell_quote;

use super::args::InitArgs;
use super::table::plain;
use super::{Context, discovery, note, print};

/// Where base backups and archives are often put. Looked at where no directory is named, and each is said.
const CUSTOMARY: [&str; 12] = [
    "/backups",
    "/backup",
    "/var/backups",
    "/srv/backups",
    "/srv/backup",
    "/mnt/backups",
    "/mnt/backup",
    "/var/lib/postgresql",
    "/var/lib/pgsql",
    "/var/lib/postgres",
    "/var/lib/pgbackrest",
    "/var/lib/barman",
];

/// The mode of the file: somebody may write a password into it later.
const MODE: u32 = 0o640;

/// Finds what there is, says what it took for what and why, and writes that as a configuration file.
///
/// # Errors
/// When nothing was found, when the file is there already, or when it cannot be written.
pub fn run(context: &Context, below: &[PathBuf], init: &InitArgs) -> Result<u8> {
    let to_output = init.output.as_os_str() == "-";
    if to_output && context.json {
        return Err(Error::usage("usage", "--output - and --json both want standard output")
            .hint("leave one of them out; --json has what was found"));
    }
    let file = std::path::absolute(&init.output).unwrap_or_else(|_| init.output.clone());
    if !to_output {
        refuse_to_replace(context, &file, init.force)?;
    }
    let named: Vec<PathBuf> = init.paths.iter().chain(below).cloned().collect();
    let say = |text: &str| {
        if to_output {
            note(text);
            Ok(())
        } else if context.json {
            Ok(())
        } else {
            print(text)
        }
    };
    let paths = if named.is_empty() { customary(&say)? } else { named };
    let found = discovery::find(&paths, context.config.cache_directory.as_deref(), &context.cancel)?;
    if found.sources.is_empty() {
        return Err(discovery::nothing(&found));
    }
    say(&discovery::in_words(&found, context.config.zone))?;
    let text = render(&head(&paths), &filled(&found));
    if to_output {
        print(text.trim_end())?;
        return Ok(0);
    }
    write(context, &file, &text, init.force)?;
    if context.json {
        let document = serde_json::json!({ "found": found, "written": file });
        print(&serde_json::to_string_pretty(&document).unwrap_or_default())?;
        return Ok(0);
    }
    print(&format!("\nwritten: {}\n\n{}", plain(&file.display().to_string()), next(&file, &found)))?;
    Ok(0)
}

fn refuse_to_replace(context: &Context, file: &Path, force: bool) -> Result<()> {
    if context.config.read_only {
        return Err(Error::usage("read-only", "--read-only forbids to write a configuration file")
            .hint("leave it out, or give --output -, which prints it"));
    }
    if force || file.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(there_already(file))
}

fn there_already(file: &Path) -> Error {
    Error::usage("configuration-exists", format!("there is a configuration file already: {}", file.display()))
        .hint("--force replaces it, --output FILE writes another one, and --output - prints it")
}

/// The customary places that are there; each is said.
fn customary(say: &dyn Fn(&str) -> Result<()>) -> Result<Vec<PathBuf>> {
    let all = CUSTOMARY.map(PathBuf::from);
    let (there, absent): (Vec<PathBuf>, Vec<PathBuf>) = all.into_iter().partition(|path| path.is_dir());
    let (readable, closed): (Vec<PathBuf>, Vec<PathBuf>) =
        there.into_iter().partition(|path| std::fs::read_dir(path).is_ok());
    say("no directory was named: these are the customary places")?;
    for (paths, what) in [(&closed, "may not be read by this user"), (&absent, "not there")] {
        if !paths.is_empty() {
            say(&format!("{what}: {}", discovery::listed(paths)))?;
        }
    }
    if readable.is_empty() {
        return Err(Error::failed("nothing-found", "none of the customary places is there")
            .hint("name the directories: walback init /where/the/backups/are"));
    }
    Ok(readable)
}

fn head(paths: &[PathBuf]) -> String {
    let paths = paths.iter().map(|path| shell_quote(&path.display().to_string())).collect::<Vec<_>>().join(" ");
    format!(
        "Walback's configuration, written by “walback init {}”.\nA “#” with no space behind it takes a key away that has \
         its default there, or an example: remove it, and those before the keys that it lies below.\ndocs/configuration.md \
         says more of every key; “walback config show” says what is in effect.",
        plain(&paths)
    )
}

fn filled(found: &Found) -> Vec<Filled> {
    let source = |source: &FoundSource| {
        let identifier = source.system_identifier.map(|id| format!(", system identifier {id}")).unwrap_or_default();
        Filled {
            name: source.name.clone(),
            comment: plain(&format!("{}{identifier}", source.version_in_words())),
            backups: source
                .backup_directories
                .iter()
                .filter_map(|directory| Some((written(directory)?, plain(&backups_at(source, directory)))))
                .collect(),
            wal: source
                .wal
                .iter()
                .filter_map(|archive| {
                    let why = format!("{}; {}", archive.in_words(), archive.why);
                    Some((written(&archive.path)?, plain(&why)))
                })
                .collect(),
        }
    };
    found.sources.iter().map(source).collect()
}

/// `3 base backups: tar, gzip; directory`
fn backups_at(source: &FoundSource, directory: &Path) -> String {
    let here: Vec<_> = source.backups.iter().filter(|backup| backup.path.starts_with(directory)).collect();
    let mut kinds: Vec<String> = here.iter().map(|backup| backup.kind_in_words()).collect();
    kinds.sort();
    kinds.dedup();
    format!("{}: {}", counted(here.len() as u64, "base backup"), kinds.join("; "))
}

/// Written beside, synced, and given its name: one that appeared meanwhile is not replaced.
fn write(context: &Context, file: &Path, text: &str, force: bool) -> Result<()> {
    let host = Host::new(context.config.read_only)?;
    if force {
        return host.write_document(file, text, MODE, true);
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let beside = file.with_file_name(format!(".{name}.walback-init"));
    host.write_document(&beside, text, MODE, true)?;
    let moved = host.move_aside(&beside, file);
    let Err(error) = moved else { return Ok(()) };
    let _ = host.remove_file(&beside);
    if file.symlink_metadata().is_ok() {
        return Err(there_already(file));
    }
    // Not every file system can rename without replacing; making a new file, all can.
    host.write_document(file, text, MODE, false).map_err(|_| error)
}

/// The commands to try next.
fn next(file: &Path, found: &Found) -> String {
    let is_default = std::path::absolute("walback.yaml").is_ok_and(|default| default == *file);
    let config =
        if is_default { String::new() } else { format!(" --config {}", shell_quote(&file.display().to_string())) };
    let source = match found.sources.as_slice() {
        [first, _, ..] => format!(" --source {}", shell_quote(&first.name)),
        _ => String::new(),
    };
    let program = format!("walback{config}{source}");
    let rows = [
        (format!("{program} backups"), "what there is to recover from"),
        (format!("{program} check --quick"), "whether anything is missing"),
        (program.clone(), "the interface"),
    ];
    let width = rows.iter().map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    let rows = rows.iter().map(|(command, does)| format!("  {}  {does}", format_args!("{:width$}", plain(command))));
    let many = if found.sources.len() > 1 {
        let others = found.sources.iter().map(|source| plain(&source.name)).collect::<Vec<_>>().join(", ");
        format!("\nthe other sources the same way: {others}")
    } else {
        String::new()
    };
    format!("to try next:\n{}{many}", rows.collect::<Vec<_>>().join("\n"))
}
