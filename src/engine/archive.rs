//! Looks at an archive, at the room for it, and at the primary that fills it. Changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::host::space::{device_of, room_on};
use crate::core::Timestamp;
use crate::error::{Error, Result};
use crate::plan::archiving::{Archiver, Space};

/// How long the primary may take for everything.
const ANSWER: Duration = Duration::from_secs(10);

/// `pg_stat_archiver` (13 to 18 have the same columns) and what goes with it, in a transaction that can only read.
const BEGIN: &str = "BEGIN TRANSACTION READ ONLY; SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '1s'";
const QUESTION: &str = "SELECT current_setting('archive_mode'), pg_is_in_recovery(), \
     (SELECT system_identifier FROM pg_control_system()), \
     CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_walfile_name(pg_current_wal_lsn()) END, \
     archived_count, last_archived_wal, (extract(epoch FROM last_archived_time) * 1000000)::bigint, \
     failed_count, last_failed_wal, (extract(epoch FROM last_failed_time) * 1000000)::bigint, \
     (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM pg_stat_archiver";

/// The room on the file systems of these directories, each file system once.
#[must_use]
pub fn space<'a>(directories: impl Iterator<Item = &'a PathBuf>) -> Vec<Space> {
    let mut found: Vec<Space> = Vec::new();
    let mut places: BTreeMap<u64, usize> = BTreeMap::new();
    for directory in directories {
        let known = device_of(directory).and_then(|device| places.get(&device).copied());
        match known.and_then(|place| found.get_mut(place)) {
            Some(space) => space.directories.push(directory.clone()),
            None => {
                places.extend(device_of(directory).map(|device| (device, found.len())));
                found.push(Space { directories: vec![directory.clone()], bytes: room(directory) });
            }
        }
    }
    found
}

fn room(directory: &Path) -> std::result::Result<(u64, u64), String> {
    room_on(directory).map_err(|error| error.to_string())
}

/// What a primary says of its archiving. `connection` is a connection string as libpq takes it.
///
/// # Errors
/// When it cannot be read, or when the server does not answer or refuses.
pub fn archiver(connection: &str) -> Result<Archiver> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::failed("no-runtime", "cannot set up connections").caused_by(&error))?;
    // What it is may hold a password: it is never shown.
    let mut config: tokio_postgres::Config = connection.parse().map_err(|error: tokio_postgres::Error| {
        Error::failed("primary-silent", "the configured connection string of the primary cannot be read")
            .caused_by(&error)
            .hint("mend “primary” in the configuration")
    })?;
    config.application_name("walback").connect_timeout(ANSWER);
    let asked = runtime.block_on(async { tokio::time::timeout(ANSWER, ask(&config)).await });
    let answer = match asked {
        Ok(answer) => answer.map_err(|error| silent(&error))?,
        Err(_) => {
            return Err(Error::failed("primary-silent", "the primary does not answer")
                .because(format!("no answer within {} s", ANSWER.as_secs())));
        }
    };
    Ok(read(answer))
}

async fn ask(config: &tokio_postgres::Config) -> std::result::Result<Vec<Option<String>>, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    // An error of the connection shows at the next query.
    tokio::spawn(async move { drop(connection.await) });
    client.batch_execute(BEGIN).await?;
    let answer = client.simple_query(QUESTION).await?;
    let row = answer.into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|place| row.get(place).map(str::to_owned)).collect()),
        _ => None,
    });
    Ok(row.unwrap_or_default())
}

fn silent(error: &tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(refusal) => Error::failed("primary-silent", format!("the primary refuses: {}", refusal.message())),
        None => Error::failed("primary-silent", "the primary does not answer").caused_by(error),
    }
}

fn read(row: Vec<Option<String>>) -> Archiver {
    let mut row = row.into_iter();
    let mut next = || row.next().flatten();
    let moment =
        |text: Option<String>| text.and_then(|micros| micros.parse().ok()).and_then(Timestamp::from_unix_micros);
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
    Archiver {
        mode: next().unwrap_or_default(),
        in_recovery: next().is_some_and(|yes| yes == "t"),
        // It is printed as the signed number that the server's bigint is.
        system_identifier: next().and_then(|text| text.parse::<i64>().ok()).map(i64::cast_unsigned),
        current_wal: next(),
        archived: number(next()).unwrap_or(0),
        last_wal: next(),
        last_at: moment(next()),
        failed: number(next()).unwrap_or(0),
        last_failed_wal: next(),
        last_failed_at: moment(next()),
        now: moment(next()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_one_file_system_are_one() {
        let directory = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&two).unwrap();
        let found = space([&one, &two].into_iter());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].directories, [one, two]);
        assert!(matches!(found[0].bytes, Ok((free, all)) if free <= all && all > 0));
        let gone = space([&directory.path().join("gone")].into_iter());
        assert!(gone[0].bytes.is_err(), "{gone:?}");
    }

    #[test]
    fn a_connection_string_is_never_shown() {
        let error = archiver("host=/nowhere password=secret nonsense=1").unwrap_err();
        assert_eq!(error.report().code, "primary-silent");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}
