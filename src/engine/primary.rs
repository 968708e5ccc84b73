//! Asks a primary how its archiving goes, and what goes with it. Reads only, and shows no password.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::core::Timestamp;
use crate::error::{Error, Result};
use crate::pgdata::password_file::{self, Wanted};
use crate::plan::archiving::Archiver;
use crate::plan::primary::{Command, Details, Ready, Slot, Written};

/// How long it may take to connect and to answer the first question; and as long again for all others.
const ANSWER: Duration = Duration::from_secs(10);
/// Where libpq's own socket is: a password file calls it `localhost`.
const SOCKETS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Each question is a transaction that can only read.
const BEGIN: &str = "BEGIN TRANSACTION READ ONLY; SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '1s'";
const END: &str = "ROLLBACK";
/// `pg_stat_archiver` (13 to 18 have the same columns) and what goes with it. Just behind a segment `pg_walfile_name` gives
/// that one until 16, and the next one from 17 on: the name is made of the position.
const ARCHIVER: &str = "SELECT current_setting('archive_mode'), pg_is_in_recovery(), \
     (SELECT system_identifier FROM pg_control_system()), \
     CASE WHEN pg_is_in_recovery() THEN NULL ELSE \
     (SELECT left(pg_walfile_name(lsn), 8) || lpad(upper(to_hex(n / per_log)), 8, '0') || lpad(upper(to_hex(n % per_log)), 8, '0') \
     FROM (SELECT lsn, floor((lsn - '0/0'::pg_lsn) / bytes)::bigint AS n, 4294967296 / bytes AS per_log \
     FROM (SELECT pg_current_wal_lsn() AS lsn, setting::bigint AS bytes FROM pg_settings WHERE name = 'wal_segment_size') a) b) END, \
     archived_count, last_archived_wal, (extract(epoch FROM last_archived_time) * 1000000)::bigint, \
     failed_count, last_failed_wal, (extract(epoch FROM last_failed_time) * 1000000)::bigint, \
     (extract(epoch FROM stats_reset) * 1000000)::bigint, \
     (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM pg_stat_archiver";
/// Those of them that its major has.
const SETTINGS: &str = "SELECT name, current_setting(name) FROM pg_settings WHERE name IN ('archive_mode', \
     'archive_timeout', 'wal_level', 'max_wal_size', 'full_page_writes', 'wal_keep_size', 'summarize_wal', \
     'max_slot_wal_keep_size')";
/// The command may hold secrets: only what it comes to leaves the server. Those that succeed and do nothing are known.
const COMMAND: &str = "SELECT CASE WHEN coalesce(library, '') <> '' THEN 'set' \
     WHEN command IN ('', '(disabled)') THEN 'missing' \
     WHEN command ~ '^\\s*((/usr)?/bin/true|true|:|/bin/:|exit 0|cd|cd \\.)\\s*;?\\s*(#.*)?$' THEN 'discards' ELSE 'set' END \
     FROM (SELECT current_setting('archive_command') AS command, current_setting('archive_library', true) AS library) s";
const WRITTEN: &str = "SELECT wal_bytes::bigint, (extract(epoch FROM stats_reset) * 1000000)::bigint FROM pg_stat_wal";
const READY: &str = "SELECT count(*), (extract(epoch FROM min(modification)) * 1000000)::bigint \
     FROM pg_ls_archive_statusdir() WHERE name ~ '^[0-9A-F]{24}[.]ready$'";
/// Where no transaction with an id is going on, the id behind the last one. A server in recovery answers the same of what it has
/// replayed (`GetSnapshotData`, `src/backend/storage/ipc/procarray.c`, 13 to 18: those that go on are known there, too).
pub const ALL_OVER: &str = "SELECT CASE WHEN pg_snapshot_xmin(s) = pg_snapshot_xmax(s) THEN pg_snapshot_xmax(s)::text END \
     FROM pg_current_snapshot() s";
/// `inactive_since` came with 17.
const SLOTS: &str = "SELECT slot_name, slot_type, active, temporary, wal_status, safe_wal_size, \
     CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint END, \
     (extract(epoch FROM (to_jsonb(s) ->> 'inactive_since')::timestamptz) * 1000000)::bigint \
     FROM pg_replication_slots s ORDER BY slot_name";
const RECEIVERS: &str = "SELECT count(*) FROM pg_stat_replication WHERE application_name ILIKE '%receive%wal%'";

/// Rows of texts, as the simple protocol gives them.
type Rows = Vec<Vec<Option<String>>>;

/// What a primary says of its archiving. `connection` is a connection string as libpq takes it; a password that it does not
/// have is that of `PGPASSWORD`, or of the password file.
///
/// # Errors
/// When it cannot be read, or when the server does not answer or refuses. What its role may not ask is in
/// [`Details::unasked`].
pub fn archiver(connection: &str) -> Result<Archiver> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::failed("no-runtime", "cannot set up connections").caused_by(&error))?;
    // What it is may hold a password: it is never shown.
    let mut config: tokio_postgres::Config = connection.parse().map_err(|error: tokio_postgres::Error| {
        Error::failed("primary-silent", "the connection string of the primary cannot be read")
            .caused_by(&error)
            .hint("mend “primary” in the configuration, or --primary")
    })?;
    config.application_name("walback");
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(ANSWER);
    }
    let spoilt = take_password(&mut config, &|name| std::env::var_os(name));
    let answer = runtime.block_on(async {
        let first = tokio::time::timeout(ANSWER, connect(&config)).await;
        let (client, rows) = match first {
            Ok(first) => first.map_err(|error| silent(&error, spoilt.as_deref()))?,
            Err(_) => return Err(late()),
        };
        let mut archiver = read_archiver(rows);
        archiver.details = Box::new(details(&client).await);
        Ok(archiver)
    })?;
    Ok(answer)
}

async fn connect(config: &tokio_postgres::Config) -> std::result::Result<(Client, Rows), tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    // An error of the connection shows at the next query.
    tokio::spawn(async move { drop(connection.await) });
    let rows = ask(&client, ARCHIVER).await?;
    Ok((client, rows))
}

async fn ask(client: &Client, question: &str) -> std::result::Result<Rows, tokio_postgres::Error> {
    client.batch_execute(BEGIN).await?;
    let answer = client.simple_query(question).await;
    client.batch_execute(END).await?;
    let rows = answer?.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|place| row.get(place).map(str::to_owned)).collect()),
        _ => None,
    });
    Ok(rows.collect())
}

/// Everything else, as far as it is answered in time.
async fn details(client: &Client) -> Details {
    let mut found = Details::default();
    let until = tokio::time::Instant::now() + ANSWER;
    for (name, question) in [
        ("its settings", SETTINGS),
        ("what archives", COMMAND),
        ("pg_current_snapshot()", ALL_OVER),
        ("pg_stat_wal", WRITTEN),
        ("pg_ls_archive_statusdir()", READY),
        ("pg_replication_slots", SLOTS),
        ("pg_stat_replication", RECEIVERS),
    ] {
        let why = match tokio::time::timeout_at(until, ask(client, question)).await {
            Ok(Ok(rows)) => {
                take(&mut found, question, rows);
                continue;
            }
            Ok(Err(error)) => why_not(&error),
            Err(_) => "it took too long".to_owned(),
        };
        found.unasked.push(format!("{name}: {why}"));
    }
    found
}

fn why_not(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(refusal) if *refusal.code() == SqlState::INSUFFICIENT_PRIVILEGE => {
            "the role may not; pg_monitor is enough".to_owned()
        }
        Some(refusal) if *refusal.code() == SqlState::UNDEFINED_TABLE => "this version has no such thing".to_owned(),
        Some(refusal) => refusal.message().to_owned(),
        None => error.to_string(),
    }
}

fn take(details: &mut Details, question: &str, rows: Rows) {
    if question == SETTINGS {
        let pairs = rows.into_iter().filter_map(|mut row| Some((row.first_mut()?.take()?, row.get_mut(1)?.take()?)));
        details.settings = pairs.collect::<BTreeMap<_, _>>();
        return;
    }
    if question == SLOTS {
        details.slots = rows.into_iter().map(|row| slot(Row::new(row))).collect();
        return;
    }
    let mut row = Row::new(rows.into_iter().next().unwrap_or_default());
    match question {
        COMMAND => {
            details.command = match row.text().as_deref() {
                Some("missing") => Some(Command::Missing),
                Some("discards") => Some(Command::Discards),
                Some(_) => Some(Command::Set),
                None => None,
            };
        }
        ALL_OVER => details.next_xid = row.number(),
        WRITTEN => {
            let bytes = row.number();
            details.written = bytes.zip(row.moment()).map(|(bytes, since)| Written { bytes, since });
        }
        READY => {
            details.ready = row.number().map(|segments| Ready { segments, oldest_at: row.moment() });
        }
        _ => details.receivers = row.number().unwrap_or(0),
    }
}

/// A row of texts that is read from left to right.
struct Row(std::vec::IntoIter<Option<String>>);

impl Row {
    fn new(row: Vec<Option<String>>) -> Row {
        Row(row.into_iter())
    }

    fn text(&mut self) -> Option<String> {
        self.0.next().flatten()
    }

    fn yes(&mut self) -> bool {
        self.text().is_some_and(|yes| yes == "t")
    }

    fn number<T: std::str::FromStr>(&mut self) -> Option<T> {
        self.text()?.parse().ok()
    }

    fn moment(&mut self) -> Option<Timestamp> {
        self.number().and_then(Timestamp::from_unix_micros)
    }
}

fn read_archiver(rows: Rows) -> Archiver {
    let mut row = Row::new(rows.into_iter().next().unwrap_or_default());
    Archiver {
        mode: row.text().unwrap_or_default(),
        in_recovery: row.yes(),
        // It is printed as the signed number that the server's bigint is.
        system_identifier: row.number::<i64>().map(i64::cast_unsigned),
        current_wal: row.text(),
        archived: row.number().unwrap_or(0),
        last_wal: row.text(),
        last_at: row.moment(),
        failed: row.number().unwrap_or(0),
        last_failed_wal: row.text(),
        last_failed_at: row.moment(),
        since: row.moment(),
        now: row.moment(),
        details: Box::default(),
    }
}

fn slot(mut row: Row) -> Slot {
    Slot {
        name: row.text().unwrap_or_default(),
        kind: row.text().unwrap_or_default(),
        active: row.yes(),
        temporary: row.yes(),
        wal_status: row.text(),
        safe_wal_bytes: row.number(),
        held_bytes: row.number::<i64>().and_then(|bytes| u64::try_from(bytes).ok()),
        inactive_since: row.moment(),
    }
}

fn late() -> Error {
    Error::failed("primary-silent", "the primary does not answer")
        .because(format!("no answer within {} s", ANSWER.as_secs()))
        .hint(UNREACHED)
}

const UNREACHED: &str =
    "is it running, and can it be reached from here? “primary” in the configuration, or --primary, names it";

fn silent(error: &tokio_postgres::Error, spoilt: Option<&str>) -> Error {
    let silent = match error.as_db_error() {
        Some(refusal) => Error::failed("primary-silent", format!("the primary refuses: {}", refusal.message()))
            .hint("may this role connect from here (pg_hba.conf)? its password is that of PGPASSWORD or ~/.pgpass"),
        None => Error::failed("primary-silent", "the primary does not answer").caused_by(error).hint(UNREACHED),
    };
    match spoilt {
        Some(why) => silent.because(why),
        None => silent,
    }
}

/// Gives the connection its password, where it has none: from the environment, else from the password file. Returns why the
/// file was left aside, where it was.
fn take_password(
    config: &mut tokio_postgres::Config,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Option<String> {
    if config.get_password().is_some() {
        return None;
    }
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    if let Some(password) = set("PGPASSWORD") {
        config.password(std::os::unix::ffi::OsStringExt::into_vec(password));
        return None;
    }
    let file = set("PGPASSFILE").map(PathBuf::from).or_else(|| Some(Path::new(&set("HOME")?).join(".pgpass")))?;
    let metadata = std::fs::metadata(&file).ok().filter(std::fs::Metadata::is_file)?;
    if metadata.mode() & 0o077 != 0 {
        return Some(format!("{} is not used: others may read it (chmod 600)", file.display()));
    }
    let text = std::fs::read_to_string(&file).ok()?;
    let role = config.get_user()?.to_owned();
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) if SOCKETS.iter().any(|usual| path == Path::new(usual)) => "localhost".to_owned(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let wanted = Wanted { host: &host, port, database: config.get_dbname().unwrap_or(&role), role: &role };
    let password = password_file::find(&text, &wanted)?;
    config.password(password);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_is_never_shown() {
        let error = archiver("host=/nowhere password=secret nonsense=1").unwrap_err();
        assert_eq!(error.report().code, "primary-silent");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }

    #[test]
    fn the_password_is_that_of_the_string_then_the_environment_then_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(".pgpass");
        std::fs::write(&file, "db1:5433:shop:monitor:of the file\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let given = |string: &str, password: Option<&str>| {
            let mut config: tokio_postgres::Config = string.parse().unwrap();
            let spoilt = take_password(&mut config, &|name| match name {
                "PGPASSWORD" => password.map(OsString::from),
                "HOME" => Some(directory.path().into()),
                _ => None,
            });
            (config.get_password().map(|bytes| String::from_utf8_lossy(bytes).into_owned()), spoilt.is_some())
        };
        let plain = "host=db1 port=5433 user=monitor dbname=shop";
        let some = |text: &str| (Some(text.to_owned()), false);
        assert_eq!(given(&format!("{plain} password=own"), Some("of the environment")), some("own"));
        assert_eq!(given(plain, Some("of the environment")), some("of the environment"));
        assert_eq!(given(plain, None), some("of the file"));
        assert_eq!(given("host=db2 user=monitor", None), (None, false));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(given(plain, None), (None, true), "what others may read is not used, and that is said");
    }
}
