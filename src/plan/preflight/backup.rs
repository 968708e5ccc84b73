//! What the base backup's own files ask for, and what of them is set aside while the copy is isolated.

use std::collections::BTreeSet;

use crate::catalog::BackupFiles;
use crate::core::PgMajor;
use crate::pgdata::Configuration;
use crate::pgdata::system_rows::DatabaseLocale;
use crate::plan::Finding;
use crate::plan::settings::RECOVERY_SETTINGS;

use super::HostFacts;

/// Libraries that are loaded into a server or its sessions.
const PRELOADED: [&str; 3] = ["shared_preload_libraries", "session_preload_libraries", "local_preload_libraries"];
/// Settings that name a locale, and keep a server from starting where it does not exist. `lc_messages` is Walback's own.
pub const LOCALE_SETTINGS: [&str; 3] = ["lc_monetary", "lc_numeric", "lc_time"];
/// Files that `ssl = on` needs, with what they are where they are not set.
const TLS_FILES: [(&str, &str); 2] = [("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key")];
/// Locales that every machine has, and that never change.
const EVERYWHERE: [&str; 3] = ["", "C", "POSIX"];
/// How ICU and the server itself are marked among those who compare texts.
const C_LIBRARY: char = 'c';

/// What a base backup's files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFacts {
    /// The files.
    pub files: BackupFiles,
    /// What the configuration sets; `None` where that is not known before unpacking.
    pub configuration: Option<Configuration>,
    /// The locales of its databases; empty where they are not known.
    pub locales: Vec<DatabaseLocale>,
}

impl BackupFacts {
    /// Draws them from files.
    #[must_use]
    pub fn of(files: BackupFiles, major: PgMajor) -> BackupFacts {
        BackupFacts { configuration: files.configuration(), locales: files.locales(major), files }
    }

    /// The locales that this machine has to have.
    #[must_use]
    pub fn needed_locales(&self) -> BTreeSet<String> {
        let databases = self.locales.iter().flat_map(|database| [&database.collate, &database.ctype]);
        let settings = LOCALE_SETTINGS.iter().filter_map(|name| self.setting(name));
        let all = databases.map(String::as_str).chain(settings).map(str::to_owned);
        all.filter(|locale| !EVERYWHERE.contains(&locale.as_str())).collect()
    }

    /// A setting of the backup's own configuration.
    fn setting(&self, name: &str) -> Option<&str> {
        self.configuration.as_ref()?.get(name).filter(|value| !value.is_empty())
    }

    fn is_on(&self, name: &str) -> bool {
        // Whatever begins "on", "yes", "true" or is 1 (`parse_bool`, `src/backend/utils/adt/bool.c`).
        let begins = |value: &str| {
            let value = value.to_ascii_lowercase();
            value == "1" || value == "on" || ["yes", "true"].iter().any(|yes| yes.starts_with(&value))
        };
        self.setting(name).is_some_and(begins)
    }

    /// Settings of the backup that would keep a server from starting here, and what they become.
    #[must_use]
    pub fn adapted(&self, missing_locales: &BTreeSet<String>) -> Vec<(&'static str, &'static str)> {
        let mut adapted = Vec::new();
        let locales = LOCALE_SETTINGS.into_iter().filter(|name| {
            let value = self.setting(name);
            value.is_some_and(|locale| missing_locales.contains(locale))
        });
        adapted.extend(locales.map(|name| (name, "C")));
        if self.is_on("huge_pages") {
            adapted.push(("huge_pages", "try"));
        }
        // A server with room for standbys, which recovery asks for, does not start with less.
        if self.setting("wal_level") == Some("minimal") {
            adapted.push(("wal_level", "replica"));
        }
        adapted
    }
}

/// What is found in the backup's files. `own` are the operator's settings.
pub(super) fn findings(
    facts: &BackupFacts,
    host: &HostFacts,
    major: PgMajor,
    own: &[(String, String)],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(read_later(facts));
    findings.extend(elsewhere(facts, major));
    findings.extend(includes(facts));
    findings.extend(adapted(facts, host, own));
    findings.extend(left_behind(facts));
    findings.extend(libraries(facts, own));
    findings.extend(missing_libraries(host));
    findings.extend(refused_settings(host));
    findings.extend(tls(facts, own));
    findings.extend(locales(facts, host));
    findings.extend(collations(facts, host));
    findings
}

fn read_later(facts: &BackupFacts) -> Option<Finding> {
    let finding = Finding::note(
        "backup-read-later",
        "the backup is compressed and too large to look into: its configuration and what its databases need are known only once it is unpacked",
    );
    (!facts.files.is_complete).then(|| {
        finding.hint("nothing; settings that recovery needs to be higher are raised before the server is started")
    })
}

fn elsewhere(facts: &BackupFacts, major: PgMajor) -> Option<Finding> {
    let finding = Finding::note(
        "configuration-elsewhere",
        "the backup has no postgresql.conf: the server starts with one that Walback writes, and with defaults",
    );
    let debian = format!("/etc/postgresql/{major}/main");
    let hint = format!(
        "Debian keeps it in a place like {debian}; give what this server needs, like shared_buffers, with --set"
    );
    (facts.files.has_configuration() == Some(false)).then(|| finding.hint(hint))
}

fn includes(facts: &BackupFacts) -> Option<Finding> {
    let not_followed = &facts.configuration.as_ref()?.not_followed;
    let named: Vec<String> = not_followed
        .iter()
        .map(|include| {
            let why = if include.leads_out { "leads out of the data directory" } else { "is not in the backup" };
            format!("{} ({}, line {}: it {why})", include.path, include.file, include.line)
        })
        .collect();
    let message = format!("the backup's configuration includes files that do not come with it: {}", named.join(", "));
    let finding = Finding::warning("includes-set-aside", message);
    let hint = "these lines are made comments; give what is needed of those files with --set";
    (!named.is_empty()).then(|| finding.hint(hint))
}

fn adapted(facts: &BackupFacts, host: &HostFacts, own: &[(String, String)]) -> Option<Finding> {
    let named: Vec<String> = facts
        .adapted(&host.missing_locales)
        .into_iter()
        .filter(|(name, _)| !is_set(own, name))
        .map(|(name, value)| format!("{name} from {} to {value}", facts.setting(name).unwrap_or_default()))
        .collect();
    let message = format!("settings with which the server may not start here are changed: {}", named.join(", "));
    let hint = "nothing; or give others with --set";
    (!named.is_empty()).then(|| Finding::note("settings-adapted", message).hint(hint))
}

fn left_behind(facts: &BackupFacts) -> Option<Finding> {
    let settings =
        RECOVERY_SETTINGS.iter().filter(|name| facts.setting(name).is_some() && **name != "recovery_prefetch");
    let named: Vec<&str> = facts.files.left_behind().into_iter().chain(settings.copied()).collect();
    let message = format!("the backup has files or settings of an earlier recovery: {}", named.join(", "));
    let hint = "nothing: they are set aside, and the plan's own hold";
    (!named.is_empty()).then(|| Finding::note("recovery-leftovers", message).hint(hint))
}

fn libraries(facts: &BackupFacts, own: &[(String, String)]) -> Option<Finding> {
    let set = PRELOADED.iter().filter(|name| !is_set(own, name));
    let named: Vec<String> = set.filter_map(|name| Some(format!("{name} = '{}'", facts.setting(name)?))).collect();
    let message = format!("the backup's server loads libraries, and the copy does not: {}", named.join(", "));
    let hint = "nothing, unless something in the database needs them to be read: give those with --set";
    (!named.is_empty()).then(|| Finding::note("libraries-set-aside", message).hint(hint))
}

fn missing_libraries(host: &HostFacts) -> Option<Finding> {
    let named = host.missing_libraries.join(", ");
    let message = format!("libraries that are to be loaded are not where the server's others are: {named}");
    let hint = "install the packages that have them, or leave them out of the settings";
    (!named.is_empty()).then(|| Finding::error("library-missing", message).hint(hint))
}

fn refused_settings(host: &HostFacts) -> Option<Finding> {
    let named: Vec<String> = host.refused_settings.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    let message = format!("the server would not start with these settings: {}", named.join("; "));
    let hint = "mend them, or leave them out; a setting of an extension has a dot in its name";
    (!named.is_empty()).then(|| Finding::error("setting-wrong", message).hint(hint))
}

fn tls(facts: &BackupFacts, own: &[(String, String)]) -> Option<Finding> {
    if !facts.is_on("ssl") || is_set(own, "ssl") {
        return None;
    }
    let missing = TLS_FILES.into_iter().filter_map(|(name, default)| {
        let file = facts.setting(name).unwrap_or(default);
        (!facts.files.files.contains_key(file)).then_some(file)
    });
    let missing: Vec<&str> = missing.collect();
    let lacks = match missing.as_slice() {
        [] => String::new(),
        files => format!("; the backup does not have {}", files.join(" and ")),
    };
    let message =
        format!("the backup's server encrypts connections, and the copy does not while it is isolated{lacks}");
    Some(Finding::note("tls-set-aside", message).hint("bring the key files along before clients connect to the copy"))
}

fn locales(facts: &BackupFacts, host: &HostFacts) -> Option<Finding> {
    let lacks = |database: &&DatabaseLocale| {
        host.missing_locales.contains(&database.collate) || host.missing_locales.contains(&database.ctype)
    };
    let databases: Vec<&DatabaseLocale> = facts.locales.iter().filter(lacks).collect();
    let names = databases.iter().map(|database| database.name.as_str()).collect::<Vec<_>>().join(", ");
    let wanted: BTreeSet<&str> = databases
        .iter()
        .flat_map(|database| [database.collate.as_str(), database.ctype.as_str()])
        .filter(|locale| host.missing_locales.contains(*locale))
        .collect();
    let wanted = wanted.into_iter().collect::<Vec<_>>().join(", ");
    let message = format!(
        "locales that databases need are not on this machine, and nobody could connect to them: {wanted} ({names})"
    );
    let hint =
        "make them: on Debian and Ubuntu name them in /etc/locale.gen and run locale-gen, or install locales-all";
    (!databases.is_empty()).then(|| Finding::error("locale-missing", message).hint(hint))
}

/// The C library's version is that of its collations (`get_collation_actual_version`, `src/backend/utils/adt/pg_locale.c`).
fn collations(facts: &BackupFacts, host: &HostFacts) -> Option<Finding> {
    let here = host.glibc.as_deref()?;
    let changed = |database: &&DatabaseLocale| {
        database.provider == C_LIBRARY && database.collation_version.as_deref().is_some_and(|version| version != here)
    };
    let databases: Vec<&DatabaseLocale> = facts.locales.iter().filter(changed).collect();
    let named = databases
        .iter()
        .map(|database| format!("{} ({})", database.name, database.collation_version.as_deref().unwrap_or_default()));
    let named = named.collect::<Vec<_>>().join(", ");
    let message = format!(
        "texts may be sorted in another way here, with glibc {here}, than where these databases were made: {named}"
    );
    let hint = "after promotion: REINDEX DATABASE, then ALTER DATABASE … REFRESH COLLATION VERSION; until then indexes on texts may miss rows";
    (!databases.is_empty()).then(|| Finding::warning("collation-changed", message).hint(hint))
}

fn is_set(own: &[(String, String)], name: &str) -> bool {
    own.iter().any(|(set, _)| set.eq_ignore_ascii_case(name))
}
