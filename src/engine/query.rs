//! Questions of an operator to a recovered server: SQL that can change nothing, and checks.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::core::{Check, Checked, Rows, Zone};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Recovery;
use crate::plan::{DATABASE, Plan};
use crate::source::Cancel;

use super::mark::Mark;

/// How long setting up a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How often it is looked whether a question was given up.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The databases of a recovered server that can be connected to, in alphabetical order.
///
/// # Errors
/// When the server cannot be asked.
pub fn databases(recovery: &Recovery, plan: &Plan) -> Result<Vec<String>> {
    let query = "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1";
    let list = |database: &str| ask(recovery, plan, (database, None), query, usize::MAX, &Cancel::default());
    // “postgres” may be dropped, by those who need none.
    let rows = list(DATABASE).or_else(|error| list("template1").map_err(|_| error))?;
    Ok(rows.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// Asks a database of a recovered server one query, in a transaction that can only read, for at most so many rows. Its
/// times are read and shown in the zone, or else as the server's configuration has it.
///
/// # Errors
/// When the server cannot be asked, the query is none or not one, or it was given up.
pub fn ask(
    recovery: &Recovery,
    plan: &Plan,
    (database, zone): (&str, Option<Zone>),
    query: &str,
    most: usize,
    cancel: &Cancel,
) -> Result<Rows> {
    Mark::check(&recovery.directory, &recovery.id)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::failed("no-runtime", "cannot set up connections").caused_by(&error))?;
    let mut config: tokio_postgres::Config = recovery.connection.parse().map_err(|error: tokio_postgres::Error| {
        Error::failed("not-asked", format!("the connection string cannot be read: {}", recovery.connection))
            .caused_by(&error)
    })?;
    config.dbname(database).application_name("walback").connect_timeout(CONNECT);
    if let Some(zone) = zone {
        config.options(format!("-c TimeZone={zone}"));
    }
    runtime.block_on(async {
        let connected = config.connect(NoTls).await;
        let (client, connection) = connected.map_err(|error| not_asked(&error, database, plan))?;
        // An error of the connection shows at the next query.
        tokio::spawn(async move { drop(connection.await) });
        let mut asked = pin!(read(&client, query, most));
        loop {
            tokio::select! {
                answer = &mut asked => return answer.map_err(|error| refused(&error)),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if cancel.is_cancelled() {
                // Where it cannot be told so, the server finds out when the connection goes.
                let _ = client.cancel_token().cancel_query(NoTls).await;
                return Err(Error::new(ErrorKind::Interrupted, "cancelled", "the query was given up"));
            }
        }
    })
}

/// `serializable` by default would refuse every query in recovery.
const BEGIN: &str = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";

async fn read(client: &Client, query: &str, most: usize) -> std::result::Result<Rows, tokio_postgres::Error> {
    client.batch_execute(BEGIN).await?;
    // Several statements in one cannot be prepared: none can end the transaction and change something behind it.
    client.prepare(query).await?;
    let mut answer = pin!(client.simple_query_raw(query).await?);
    let mut found = Rows::default();
    while let Some(message) = answer.next().await {
        match message? {
            SimpleQueryMessage::RowDescription(columns) => {
                found.columns = columns.iter().map(|column| column.name().to_owned()).collect();
            }
            SimpleQueryMessage::Row(_) if found.rows.len() == most => {
                found.more = true;
                let _ = client.cancel_token().cancel_query(NoTls).await;
                return Ok(found);
            }
            SimpleQueryMessage::Row(row) => {
                found.rows.push((0..row.len()).map(|place| row.get(place).map(str::to_owned)).collect());
            }
            _ => {}
        }
    }
    client.batch_execute("ROLLBACK").await?;
    Ok(found)
}

fn not_asked(error: &tokio_postgres::Error, database: &str, plan: &Plan) -> Error {
    match error.as_db_error() {
        Some(refusal) => {
            Error::failed("query-refused", format!("the server refused database “{database}”: {}", refusal.message()))
        }
        None => Error::failed("not-asked", "the server cannot be asked")
            .caused_by(error)
            .hint(format!("does it run? “walback status {}” says so", plan.recovery)),
    }
}

fn refused(error: &tokio_postgres::Error) -> Error {
    let Some(refusal) = error.as_db_error() else {
        return Error::failed("not-asked", "the server gave no answer").caused_by(error);
    };
    let refused = Error::failed("query-refused", format!("the server says: {}", refusal.message()));
    let refused = refusal.detail().into_iter().fold(refused, Error::because);
    match refusal.hint() {
        Some(hint) => refused.hint(hint),
        None => refused,
    }
}

/// What the value of a check was the last time, by the check's name.
pub type Last<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Carries checks out, one after the other; one that fails does not keep the others.
///
/// # Errors
/// When they were given up.
pub fn check(
    recovery: &Recovery,
    plan: &Plan,
    checks: &[Check],
    last: Last<'_>,
    cancel: &Cancel,
) -> Result<Vec<Checked>> {
    checks.iter().map(|check| check_one(recovery, plan, check, last(&check.name).as_deref(), cancel)).collect()
}

/// Carries one check out; `last` is what its value was the last time.
///
/// # Errors
/// When it was given up.
pub fn check_one(
    recovery: &Recovery,
    plan: &Plan,
    check: &Check,
    last: Option<&str>,
    cancel: &Cancel,
) -> Result<Checked> {
    let answer = ask(recovery, plan, (&check.database, None), &check.sql, 1, cancel);
    let (value, error) = match answer {
        Ok(found) => (found.rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()), None),
        Err(error) if error.report().kind == ErrorKind::Interrupted => return Err(error),
        Err(error) => (None, Some(error.report().message.clone())),
    };
    let passed = check.expect.holds(value.as_deref(), last);
    Ok(Checked { name: check.name.clone(), passed, value, expected: check.expect.in_words(last), error })
}
