//! What Walback works with: defaults, then the configuration file, then the environment, then the command line.

pub mod drill;
pub mod effective;
pub mod fetching;
pub mod interface;
pub mod keys;
pub mod template;
mod thresholds;
mod trust;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::core::{Check, Expectation, PlacedCommand, Thresholds, Zone};
use crate::error::{Error, Result};
use drill::{DrillConfig, FileDrill};
use fetching::{FileCache, FileWal};
use interface::Interface;

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colour {
    /// Whether to use it where the output goes to a terminal, or does not.
    #[must_use]
    pub fn on(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()),
        }
    }
}

/// The name of a source that no configuration has.
pub const FROM_COMMAND_LINE: &str = "command line";

/// What the command line says, before the configuration is read.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--config`: this file instead of looking for one.
    pub file: Option<PathBuf>,
    /// `--source`: which of the configured sources.
    pub source: Option<String>,
    /// `--backups`: a source without a configuration file.
    pub backups: Vec<PathBuf>,
    /// `--wal`: the same.
    pub wal: Vec<PathBuf>,
    /// `--wal-command`: the same, asked after the directories.
    pub wal_commands: Vec<String>,
    /// `--time-zone`.
    pub time_zone: Option<String>,
    /// `--read-only`.
    pub read_only: bool,
    /// `--color`.
    pub colour: Colour,
    /// `--plain`.
    pub plain: bool,
}

/// The effective configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The zone in which local times are read and shown.
    pub zone: Zone,
    /// The configured sources by name.
    pub sources: BTreeMap<String, SourceConfig>,
    /// Nothing may be changed.
    pub read_only: bool,
    /// When to use colour.
    pub colour: Colour,
    /// The interface is lines, not a screen.
    pub plain: bool,
    /// How the interactive program looks.
    pub interface: Interface,
    /// Deletes and updates of at least so many rows are suspects. Unset: of a thousand.
    pub suspect_rows: Option<u64>,
    /// Where recoveries keep their journals.
    pub state_directory: PathBuf,
    /// Where what was read of WAL is kept, so that it need not be read again; `None` where there is no place for it.
    pub cache_directory: Option<PathBuf>,
    /// The configuration file that was read.
    pub file: Option<PathBuf>,
    /// From where on what `check` and the Archive screen measure is a warning, and critical.
    pub thresholds: Thresholds,
    /// Keys of the interface's commands, by the commands' names; as they were written.
    pub keys: BTreeMap<String, Vec<String>>,
    /// The options of a command line that would be answered from the same sources, as separate words.
    pub invocation: Vec<String>,
    /// The directories below which the sources were found, where no file and no option says them.
    pub found_below: Vec<PathBuf>,
    /// What is known of each source that was found, in words.
    pub about: BTreeMap<String, String>,
    /// The configuration file, where it was looked for and not named.
    looked_for: Option<PathBuf>,
    /// Whether the archives are those of the command line.
    archives_named: bool,
    chosen: Option<String>,
}

/// One cluster's backups and WAL archives, and how recoveries of it are made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceConfig {
    /// Its name.
    pub name: String,
    /// Directories with base backups, absolute.
    pub backups: Vec<PathBuf>,
    /// Directories with WAL, absolute, in the order in which they are asked.
    pub wal: Vec<PathBuf>,
    /// Commands that WAL is asked of too, each with its place among the directories.
    pub commands: Vec<PlacedCommand>,
    /// So many bytes of what they fetch are kept. Unset: 2 GB.
    pub fetched_bytes: Option<u64>,
    /// How recoveries are made.
    pub restore: RestoreConfig,
    /// What a recovered cluster is asked, to see whether it is good.
    pub checks: Vec<Check>,
    /// How the primary is reached that fills the archives, as a connection string of libpq's. It may hold a password.
    pub primary: Option<String>,
    /// How drills are made.
    pub drill: DrillConfig,
}

impl SourceConfig {
    /// So many bytes of what commands fetch are kept.
    #[must_use]
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.unwrap_or(fetching::KEPT_BYTES)
    }

    /// Whether it says where the server's programs are, or has settings, with which a server can be had to run any program.
    fn names_programs(&self) -> bool {
        self.restore.bin_dir.is_some() || !self.restore.settings.is_empty()
    }

    /// Whether it says what a drill runs besides: programs, shell text, and SQL with which a superuser can have the server
    /// run any program.
    fn runs_in_drills(&self) -> bool {
        self.drill.on_failure.is_some() || self.drill.script.is_some() || !self.checks.is_empty()
    }
}

/// How recoveries of a source are made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoreConfig {
    /// Where recoveries go unless `--into` says otherwise, absolute.
    pub directory: Option<PathBuf>,
    /// The port of the recovered server. Unset: the first free one from 5499 on.
    pub port: Option<u16>,
    /// Where the server's programs are. Unset: they are looked for.
    pub bin_dir: Option<PathBuf>,
    /// The operating system's user that runs the server where Walback runs as root. Unset: `postgres`.
    pub run_as: Option<String>,
    /// The database role that Walback connects as. Unset: `postgres`.
    pub role: Option<String>,
    /// More settings for the recovered server.
    pub settings: BTreeMap<String, String>,
    /// Where tablespaces go: where one was, or its OID, and its new directory, absolute. Unset: beside the data directory.
    pub tablespaces: Vec<(String, PathBuf)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileConfig {
    time_zone: Option<String>,
    suspects: FileSuspects,
    interface: Interface,
    #[serde(deserialize_with = "thresholds::read")]
    thresholds: Thresholds,
    keys: BTreeMap<String, FileKeys>,
    cache: FileCache,
    sources: BTreeMap<String, FileSource>,
}

/// One key, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum FileKeys {
    One(Scalar),
    Several(Vec<Scalar>),
}

impl FileKeys {
    fn into_texts(self) -> Vec<String> {
        match self {
            Self::One(key) => vec![key.into_text()],
            Self::Several(keys) => keys.into_iter().map(Scalar::into_text).collect(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileSuspects {
    rows: Option<NonZeroU64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileSource {
    backups: Vec<Place>,
    wal: Vec<FileWal>,
    restore: FileRestore,
    checks: Vec<FileCheck>,
    primary: Option<String>,
    drill: FileDrill,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCheck {
    name: String,
    #[serde(default)]
    database: Option<String>,
    sql: String,
    #[serde(deserialize_with = "expectation")]
    expect: Expectation,
}

fn expectation<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Expectation, D::Error> {
    Scalar::deserialize(deserializer)?.into_text().parse().map_err(serde::de::Error::custom)
}

impl From<FileCheck> for Check {
    fn from(check: FileCheck) -> Check {
        let database = check.database.unwrap_or_else(|| "postgres".to_owned());
        Check { name: check.name, database, sql: check.sql, expect: check.expect }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    path: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileRestore {
    directory: Option<PathBuf>,
    port: Option<u16>,
    bin_dir: Option<PathBuf>,
    run_as: Option<String>,
    role: Option<String>,
    settings: BTreeMap<String, Scalar>,
    tablespaces: BTreeMap<String, PathBuf>,
}

/// A setting's value as YAML has it: `on` and `4` need no quotes.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Bool(true) => "on".to_owned(),
            Self::Bool(false) => "off".to_owned(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

impl Config {
    /// Reads the configuration. `environment` looks up a variable.
    ///
    /// # Errors
    /// When a file that was named cannot be read, when one that was found does not parse or has an unknown key, when
    /// a zone is not known, or when there is no home directory to keep state in.
    pub fn load(overrides: &Overrides, environment: &dyn Fn(&str) -> Option<OsString>) -> Result<Config> {
        let file = find_file(overrides, environment);
        let parsed = match &file {
            Some(path) => read_file(path)?,
            None => FileConfig::default(),
        };
        let base = match &file {
            Some(path) => absolute(path)?.parent().map(Path::to_path_buf).unwrap_or_default(),
            None => PathBuf::new(),
        };
        let fetched_bytes = parsed.cache.fetched_bytes()?;
        let mut sources = BTreeMap::new();
        for (name, source) in parsed.sources {
            sources.insert(name.clone(), source.resolve(name, &base)?);
        }
        let mut chosen = overrides.source.clone();
        let names_wal = !overrides.wal.is_empty() || !overrides.wal_commands.is_empty();
        if !overrides.backups.is_empty() || names_wal {
            let name = chosen.get_or_insert_with(|| FROM_COMMAND_LINE.to_owned());
            let mut source = sources.remove(name).unwrap_or_default();
            source.name.clone_from(name);
            if !overrides.backups.is_empty() {
                source.backups = overrides.backups.iter().map(|path| absolute(path)).collect::<Result<_>>()?;
            }
            if names_wal {
                source.wal = overrides.wal.iter().map(|path| absolute(path)).collect::<Result<_>>()?;
                source.commands = fetching::of_command_line(&overrides.wal_commands, source.wal.len())?;
            }
            sources.insert(name.clone(), source);
        }
        sources.values_mut().for_each(|source: &mut SourceConfig| source.fetched_bytes = fetched_bytes);
        let is_named = overrides.file.is_some() || environment("WALBACK_CONFIG").is_some();
        let looked_for = file.clone().filter(|_| !is_named);
        let zone = overrides.time_zone.clone().or(parsed.time_zone);
        Ok(Config {
            zone: zone.map_or_else(|| Ok(system_zone(environment)), |name| parse_zone(&name))?,
            sources,
            read_only: overrides.read_only,
            colour: overrides.colour,
            plain: overrides.plain,
            interface: parsed.interface,
            thresholds: parsed.thresholds,
            suspect_rows: parsed.suspects.rows.map(NonZeroU64::get),
            state_directory: state_directory(environment)?,
            cache_directory: cache_directory(environment),
            keys: parsed.keys.into_iter().map(|(name, keys)| (name, keys.into_texts())).collect(),
            invocation: invocation(file.as_deref(), overrides),
            file,
            found_below: Vec::new(),
            about: BTreeMap::new(),
            looked_for,
            archives_named: names_wal,
            chosen,
        })
    }

    /// Takes sources that were found below directories, each with what is known of it in words. They take the place of
    /// those of the file.
    #[must_use]
    pub fn with_found(
        mut self,
        below: &[PathBuf],
        found: Vec<(SourceConfig, String)>,
        overrides: &Overrides,
    ) -> Config {
        self.found_below = below.to_vec();
        self.about = found.iter().map(|(source, about)| (source.name.clone(), about.clone())).collect();
        self.sources = found.into_iter().map(|(source, _)| (source.name.clone(), source)).collect();
        // What was found is said as it is: looking for it once more could find something else.
        let named = match self.source() {
            Ok(source) => {
                let (backups, wal) = (source.backups.clone(), source.wal.clone());
                Overrides { backups, wal, ..Overrides::default() }
            }
            Err(_) => Overrides { source: overrides.source.clone(), ..Overrides::default() },
        };
        self.invocation = invocation(self.file.as_deref(), &named);
        self
    }

    /// The source to work on: the one that was named, or the only one.
    ///
    /// # Errors
    /// When there is none, when the named one does not exist, when there are several and none was named, or when it has
    /// commands from a file that was not named, and that may be somebody else's.
    pub fn source(&self) -> Result<&SourceConfig> {
        let source = self.named_or_only()?;
        // What the command line says instead of the file is the operator's.
        if !source.commands.is_empty() && !self.archives_named {
            self.check_trust()?;
        }
        Ok(source)
    }

    /// The same source, to plan recoveries of: the server's programs are asked for their version.
    ///
    /// # Errors
    /// As [`Config::source`]; and when the source names these programs, or settings that can, in a file that was not named and
    /// may be somebody else's.
    pub fn source_to_restore(&self) -> Result<&SourceConfig> {
        let source = self.source()?;
        if source.names_programs() {
            self.check_trust()?;
        }
        Ok(source)
    }

    /// The source of the configuration that was named; `None` where none was, or where archives were.
    #[must_use]
    pub fn named_source(&self) -> Option<&str> {
        self.chosen.as_deref().filter(|name| *name != FROM_COMMAND_LINE)
    }

    /// The same source, to make drills of: these run what the file says, without a question.
    ///
    /// # Errors
    /// As [`Config::source`]; and when the source has anything that a drill runs, from a file that was not named and may be
    /// somebody else's.
    pub fn source_to_drill(&self) -> Result<&SourceConfig> {
        let source = self.source()?;
        if source.names_programs() || source.runs_in_drills() {
            self.check_trust()?;
        }
        Ok(source)
    }

    fn check_trust(&self) -> Result<()> {
        self.looked_for.as_deref().map_or(Ok(()), trust::check)
    }

    fn named_or_only(&self) -> Result<&SourceConfig> {
        let names = || self.sources.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        match (&self.chosen, self.sources.len()) {
            (Some(name), _) => self.sources.get(name).ok_or_else(|| {
                let what = if self.found_below.is_empty() {
                    "there is no source of this name in the configuration"
                } else {
                    "no source of this name was found"
                };
                Error::usage("unknown-source", format!("{what}: {name}")).hint(if self.sources.is_empty() {
                    NO_SOURCE_HINT.to_owned()
                } else {
                    if self.found_below.is_empty() {
                        format!("configured are: {}", names())
                    } else {
                        format!("found were: {}", names())
                    }
                })
            }),
            (None, 1) => self.sources.values().next().ok_or_else(no_source),
            (None, 0) => Err(no_source()),
            (None, _) => Err(self.which_source()),
        }
    }

    fn which_source(&self) -> Error {
        let what = if self.found_below.is_empty() {
            "several sources are configured and none was named"
        } else {
            "several clusters were found and none was named"
        };
        let which = self
            .about
            .iter()
            .fold(Error::usage("which-source", what), |error, (name, about)| error.because(format!("{name}: {about}")));
        let names = self.sources.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        which.hint(format!("name one with --source: {names}"))
    }
}

const NO_SOURCE_HINT: &str = "give a directory that has them, as in “walback /backups” (with a command: “walback --in /backups backups”), or each with --backups DIR and --wal DIR; or name a configuration file with --config FILE; “walback recoveries” lists what was begun here, and “walback demo” shows everything on a cluster of its own";

fn no_source() -> Error {
    Error::usage("no-source", "it is not said where the base backups and the WAL archive are").hint(NO_SOURCE_HINT)
}

impl FileSource {
    fn resolve(self, name: String, base: &Path) -> Result<SourceConfig> {
        let paths = |places: Vec<Place>| places.into_iter().map(|place| base.join(place.path)).collect();
        let (wal, commands) = fetching::resolve(self.wal, &name, base)?;
        Ok(SourceConfig {
            name,
            backups: paths(self.backups),
            wal,
            commands,
            fetched_bytes: None,
            restore: RestoreConfig {
                directory: self.restore.directory.map(|path| base.join(path)),
                port: self.restore.port,
                bin_dir: self.restore.bin_dir.map(|path| base.join(path)),
                run_as: self.restore.run_as,
                role: self.restore.role,
                settings: self.restore.settings.into_iter().map(|(name, value)| (name, value.into_text())).collect(),
                tablespaces: self.restore.tablespaces.into_iter().map(|(from, to)| (from, base.join(to))).collect(),
            },
            checks: self.checks.into_iter().map(Check::from).collect(),
            primary: self.primary,
            drill: self.drill.resolve(base),
        })
    }
}

/// The options that name the same sources again, from wherever they are given. A path that is not UTF-8 is left out: it
/// could not be typed either.
fn invocation(file: Option<&Path>, overrides: &Overrides) -> Vec<String> {
    let mut words = Vec::new();
    let mut path = |option: &str, path: &Path| {
        let path = absolute(path).ok().and_then(|path| path.to_str().map(str::to_owned));
        words.extend(path.into_iter().flat_map(|path| [option.to_owned(), path]));
    };
    file.into_iter().for_each(|file| path("--config", file));
    overrides.backups.iter().for_each(|directory| path("--backups", directory));
    overrides.wal.iter().for_each(|directory| path("--wal", directory));
    words.extend(overrides.wal_commands.iter().flat_map(|command| ["--wal-command".to_owned(), command.clone()]));
    words.extend(overrides.source.iter().flat_map(|name| ["--source".to_owned(), name.clone()]));
    words
}

/// The file that was named, or the first that exists where one is looked for.
fn find_file(overrides: &Overrides, environment: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if let Some(named) = overrides.file.clone().or_else(|| environment("WALBACK_CONFIG").map(PathBuf::from)) {
        return Some(named);
    }
    let user = environment("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| environment("HOME").map(|home| Path::new(&home).join(".config")))
        .map(|directory| directory.join("walback/walback.yaml"));
    let places = [Some(PathBuf::from("walback.yaml")), user, Some(PathBuf::from("/etc/walback/walback.yaml"))];
    places.into_iter().flatten().find(|path| path.is_file())
}

fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        Error::usage("configuration-unreadable", format!("cannot read the configuration: {}", path.display()))
            .caused_by(&error)
            .hint("check --config and $WALBACK_CONFIG")
    })
}

fn read_file(path: &Path) -> Result<FileConfig> {
    let text = read_text(path)?;
    if text.trim().is_empty() {
        return Ok(FileConfig::default());
    }
    serde_yaml::from_str(&text).map_err(|error| {
        let message = error.to_string();
        let wrong = Error::usage("configuration-wrong", format!("the configuration is wrong: {}", path.display()))
            .because(message.clone());
        if let Some(hint) = thresholds::hint(&message) {
            return wrong.hint(hint);
        }
        match nearest_key(&message) {
            Some(key) => wrong.hint(format!("did you mean “{key}”? docs/configuration.md lists every key")),
            None => wrong.hint("docs/configuration.md lists every key"),
        }
    })
}

/// The known key most like the unknown one that serde's message names.
fn nearest_key(message: &str) -> Option<String> {
    let mut quoted = message.split("unknown field ").nth(1)?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    quoted
        .map(|known| (strsim::jaro_winkler(unknown, known), known))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known.to_owned())
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        Error::usage("bad-path", format!("this path cannot be made absolute: {}", path.display())).caused_by(&error)
    })
}

fn parse_zone(name: &str) -> Result<Zone> {
    name.parse().map_err(|error: crate::core::time::UnknownZone| {
        Error::usage("unknown-zone", error.to_string()).hint("give an IANA name like Europe/Berlin, or UTC")
    })
}

/// `$TZ` where it names a zone, else the system's, or UTC where the system does not say.
fn system_zone(environment: &dyn Fn(&str) -> Option<OsString>) -> Zone {
    let named = environment("TZ").and_then(|name| name.to_string_lossy().trim_start_matches(':').parse().ok());
    if let Some(zone) = named {
        return zone;
    }
    iana_time_zone::get_timezone().ok().and_then(|name| name.parse().ok()).unwrap_or(Zone::UTC)
}

fn state_directory(environment: &dyn Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let xdg =
        || environment("XDG_STATE_HOME").filter(|home| !home.is_empty()).map(|home| Path::new(&home).join("walback"));
    let home = || environment("HOME").filter(|home| !home.is_empty());
    environment("WALBACK_STATE_DIR")
        .filter(|directory| !directory.is_empty())
        .map(PathBuf::from)
        .or_else(xdg)
        .or_else(|| home().map(|home| Path::new(&home).join(".local/state/walback")))
        .ok_or_else(|| {
            Error::usage(
                "no-state-directory",
                "there is no place to keep the journals: neither $WALBACK_STATE_DIR, $XDG_STATE_HOME nor $HOME is set",
            )
            .hint("set WALBACK_STATE_DIR to a directory of your own")
        })
        .and_then(|directory| absolute(&directory))
}

/// A cache is a convenience: where there is no place for it, there is none.
fn cache_directory(environment: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("WALBACK_CACHE_DIR")
        .or_else(|| set("XDG_CACHE_HOME").map(|home| home.join("walback")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/walback")))
        .and_then(|directory| absolute(&directory).ok())
}

/// The cache directory that the environment names, for whoever has no configuration at hand.
#[must_use]
pub fn cache_of_environment() -> Option<PathBuf> {
    cache_directory(&|name| std::env::var_os(name))
}

/// Whether the locale shows UTF-8, by the first of `LC_ALL`, `LC_CTYPE` and `LANG` that is set, as `setlocale(3)`
/// has it.
#[must_use]
pub fn is_utf8_locale(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| variable(name).filter(|v| !v.is_empty()));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.ends_with("utf-8") || locale.ends_with("utf8") || locale.contains("utf-8@") || locale.contains("utf8@")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn load(yaml: &str, overrides: Overrides) -> Result<Config> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("walback.yaml");
        std::fs::write(&file, yaml).unwrap();
        Config::load(&Overrides { file: Some(file), ..overrides }, &|name| {
            (name == "HOME").then(|| OsString::from("/home/op"))
        })
    }

    const SHOP: &str = "
time_zone: Europe/Berlin
suspects: {rows: 50}
sources:
  shop:
    backups: [{path: /backups/base}]
    wal: [{path: wal}, {path: /srv/old/pg_wal}]
    restore: {port: 5499, settings: {shared_buffers: 1GB, jit: false, work_mem: 64}}
";

    #[test]
    fn a_named_source_is_read_and_paths_are_relative_to_the_file() {
        let config = load(SHOP, Overrides::default()).unwrap();
        let shop = config.source().unwrap();
        assert_eq!((shop.name.as_str(), config.zone.to_string().as_str()), ("shop", "Europe/Berlin"));
        assert!(shop.wal[0].is_absolute() && shop.wal[0].ends_with("wal") && shop.wal[1].ends_with("old/pg_wal"));
        assert_eq!(shop.restore.settings["jit"], "off");
        assert_eq!(shop.restore.settings["work_mem"], "64");
        assert_eq!(config.suspect_rows, Some(50));
        assert!(load("suspects: {rows: 0}", Overrides::default()).is_err(), "everything would be one");
        assert_eq!(config.state_directory, Path::new("/home/op/.local/state/walback"));
        assert_eq!(config.cache_directory.as_deref(), Some(Path::new("/home/op/.cache/walback")));
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line_and_the_nearest_known_one() {
        let error = load("sources:\n  shop:\n    bakups: []\n", Overrides::default()).unwrap_err().to_string();
        for part in ["walback.yaml", "bakups", "line 3", "did you mean “backups”?"] {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    }

    #[test]
    fn directories_on_the_command_line_stand_for_a_source() {
        let flags = Overrides { backups: vec!["/b".into()], wal: vec!["/w".into()], ..Overrides::default() };
        let config = load("", flags).unwrap();
        assert_eq!(config.source().unwrap().backups, [PathBuf::from("/b")]);
    }

    #[test]
    fn keys_are_one_or_several_as_they_were_written() {
        let keys = |yaml: &str| load(yaml, Overrides::default()).map(|config| config.keys);
        let all = keys("keys: {quit: Ctrl-q, stop-before: [B, F3], zoom-all: 0, copy: y, zoom-out: \"-\", mouse: []}")
            .unwrap();
        let of = |name: &str| all[name].join(" ");
        assert_eq!(["quit", "stop-before", "zoom-all", "copy", "zoom-out"].map(of), ["Ctrl-q", "B F3", "0", "y", "-"]);
        assert!(all["mouse"].is_empty());
        assert!(keys("keys: {quit: {a: b}}").is_err() && keys("keys: [q]").is_err());
    }

    #[test]
    fn drills_are_bounded_by_spans_and_amounts() {
        let drill = |yaml: &str| {
            let yaml = format!("sources: {{shop: {{drill: {{{yaml}}}}}}}");
            load(&yaml, Overrides::default()).map(|config| config.source().unwrap().drill.clone())
        };
        let shop =
            drill("rto: 30min, rpo: 300, max_bytes: 200GB, scratch: drills, timeout: 6h, amcheck: false").unwrap();
        assert_eq!((shop.rto, shop.rpo), (Some(Duration::from_secs(1800)), Some(Duration::from_secs(300))));
        assert_eq!((shop.max_bytes, shop.timeout), (Some(200 << 30), Duration::from_secs(6 * 3600)));
        assert!(shop.scratch.is_some_and(|scratch| scratch.is_absolute() && scratch.ends_with("drills")));
        assert_eq!((shop.amcheck, shop.checksums, shop.keep), (Some(false), None, false));
        assert_eq!(drill("").unwrap(), DrillConfig::default());
        let error = drill("rto: soon").unwrap_err();
        assert!(error.report().causes.join(" ").contains("“soon” is no span of time"), "{error}");
        assert!(drill("rpo: 5MB").is_err() && drill("max_bytes: 5min").is_err() && drill("nobody: 1").is_err());
    }

    /// A drill runs shell text, programs and SQL that nobody is asked about; archives of the command line do not change that.
    #[test]
    fn what_drills_run_is_taken_from_a_file_of_ones_own_only() {
        use std::os::unix::fs::PermissionsExt;
        let refused = |yaml: &str, mode: u32, overrides: Overrides| {
            let home = tempfile::tempdir().unwrap();
            let file = home.path().join("walback/walback.yaml");
            std::fs::create_dir(home.path().join("walback")).unwrap();
            std::fs::write(&file, format!("sources: {{shop: {{{yaml}}}}}")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let environment =
                |name: &str| ["HOME", "XDG_CONFIG_HOME"].contains(&name).then(|| home.path().as_os_str().to_owned());
            let config = Config::load(&overrides, &environment).unwrap();
            assert!(config.source().is_ok(), "nothing of it is run");
            let restores = yaml.starts_with("restore") && mode == 0o666;
            assert_eq!(config.source_to_restore().is_err(), restores, "{yaml}");
            config.source_to_drill().err().map(|error| error.report().code)
        };
        let archive = || Overrides { wal: vec!["/w".into()], source: Some("shop".to_owned()), ..Overrides::default() };
        for yaml in [
            "drill: {on_failure: id}",
            "drill: {script: /bin/true}",
            "restore: {bin_dir: /tmp}",
            "restore: {settings: {work_mem: 4MB}}",
            "checks: [{name: a, sql: SELECT 1, expect: 1}]",
        ] {
            for overrides in [Overrides::default(), archive()] {
                assert_eq!(refused(yaml, 0o666, overrides), Some("configuration-untrusted"), "{yaml}");
            }
            assert_eq!(refused(yaml, 0o600, Overrides::default()), None, "{yaml}");
        }
        assert_eq!(refused("drill: {rto: 5min, scratch: /srv/drills}", 0o666, Overrides::default()), None);
    }

    #[test]
    fn an_invocation_names_the_same_sources_from_anywhere() {
        let flags = Overrides { wal: vec!["/w".into()], source: Some("shop".into()), ..Overrides::default() };
        let words = load(SHOP, flags).unwrap().invocation;
        assert_eq!(
            (words[0].as_str(), &words[2..]),
            ("--config", &["--wal", "/w", "--source", "shop"].map(str::to_owned)[..])
        );
        assert!(words[1].starts_with('/') && words[1].ends_with("/walback.yaml"), "{words:?}");
    }

    #[test]
    fn which_source_is_never_guessed() {
        assert_eq!(load("", Overrides::default()).unwrap().source().unwrap_err().report().code, "no-source");
        let two = "sources: {a: {}, b: {}}";
        assert_eq!(load(two, Overrides::default()).unwrap().source().unwrap_err().report().code, "which-source");
        let named = Overrides { source: Some("c".into()), ..Overrides::default() };
        let error = load(two, named).unwrap().source().unwrap_err();
        assert_eq!(
            (error.report().code, error.report().hint.as_deref()),
            ("unknown-source", Some("configured are: a, b"))
        );
    }

    #[test]
    fn the_zone_is_that_of_the_environment_where_it_names_one() {
        let zone = |tz: &str| {
            let tz = OsString::from(tz);
            Config::load(&Overrides::default(), &|name| match name {
                "HOME" => Some(OsString::from("/nowhere")),
                "TZ" => Some(tz.clone()),
                _ => None,
            })
            .map(|config| config.zone.to_string())
            .unwrap()
        };
        assert_eq!(zone(":America/New_York"), "America/New_York");
        assert_eq!(zone("XYZ3"), system_zone(&|_| None).to_string(), "a rule of its own is no name");
    }

    #[test]
    fn the_cache_is_where_the_environment_says() {
        let place = |set: &[(&str, &str)]| {
            cache_directory(&|name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
        };
        let all = [("WALBACK_CACHE_DIR", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c")];
        assert_eq!(place(&all), Some("/a".into()));
        assert_eq!(place(&all[1..]), Some("/b/walback".into()));
        assert_eq!(place(&all[2..]), Some("/c/.cache/walback".into()));
        assert_eq!(place(&[("HOME", "")]), None);
    }

    #[test]
    fn an_unknown_zone_is_refused() {
        let flags = Overrides { time_zone: Some("Europe/Berlim".into()), ..Overrides::default() };
        let error = load("", flags).unwrap_err();
        assert!(error.to_string().contains("did you mean Europe/Berlin?"), "{error}");
    }

    #[test]
    fn the_interface_is_configured_by_words() {
        let yaml = "interface: {colours: 256, theme: light, glyphs: auto, chart: braille}";
        let interface = load(yaml, Overrides::default()).unwrap().interface;
        let expected = Interface {
            colours: Some(interface::Colours::Many),
            theme: Some(interface::Background::Light),
            glyphs: None,
            chart: Some(interface::Bars::Braille),
        };
        assert_eq!(interface, expected);
        assert_eq!(load("", Overrides::default()).unwrap().interface, Interface::default());
        let error = load("interface: {chart: blokcs}", Overrides::default()).unwrap_err();
        let causes = error.report().causes.join(" ");
        assert!(causes.contains("“blokcs” is none of auto, braille, blocks, ascii"), "{causes}");
    }

    #[test]
    fn thresholds_are_those_of_the_field_unless_others_are_written() {
        assert_eq!(load("", Overrides::default()).unwrap().thresholds, Thresholds::default());
        let yaml = "thresholds: {archive_lag_segments: [2, 3], backup_age: [25h, 2d]}";
        let thresholds = load(yaml, Overrides::default()).unwrap().thresholds;
        assert_eq!(thresholds.archive_lag_segments.warning, 2.0);
        assert_eq!(thresholds.backup_age_hours.map(|limits| limits.critical), Some(48.0));
        assert_eq!(thresholds.free_space_percent, Thresholds::default().free_space_percent);
        for (line, says) in [
            ("archive_lag_segments: [50, 10]", "more is worse"),
            ("archive_lag_minutes: [-5, 10]", "not negative"),
            ("free_space_percent: [5, 20]", "less is worse"),
            ("free_space_percent: [500, 20]", "at most 100"),
            ("backup_age: [25, 49]", "25h"),
            ("archive_lag_segments: 10", ""),
            ("archive_lag: [1, 2]", "archive_lag_segments"),
        ] {
            let error = load(&format!("time_zone: UTC\nthresholds:\n  {line}\n"), Overrides::default()).unwrap_err();
            assert_eq!((error.report().code, error.report().kind.exit_status()), ("configuration-wrong", 2));
            let causes = error.report().causes.join(" ");
            assert!(causes.contains(says) && causes.contains("line 3"), "{line}: {causes}");
            assert!(error.report().hint.is_some());
        }
    }

    #[test]
    fn the_locale_says_whether_utf_8_is_shown() {
        let is_utf8 = |set: &[(&str, &str)]| {
            is_utf8_locale(|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(is_utf8(&[("LANG", "C.UTF-8")]) && is_utf8(&[("LC_CTYPE", "de_DE.utf8@euro")]));
        assert!(is_utf8(&[("LC_ALL", ""), ("LANG", "en_GB.UTF-8")]));
        assert!(!is_utf8(&[("LC_ALL", "C"), ("LANG", "C.UTF-8")]) && !is_utf8(&[]) && !is_utf8(&[("LANG", "de_DE")]));
    }
}
