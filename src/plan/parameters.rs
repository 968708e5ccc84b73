//! The settings of which a server in recovery must not have less than the server that wrote the WAL.
//!
//! With less 13 ends, and later majors refuse to start; or, where a record on the way asks for more, they pause there as
//! if it were the target (`CheckRequiredParameterValues`, `xlogrecovery.c`). So they are always written.

use crate::pgdata::{Configuration, ControlFile};
use crate::resolve::Requirements;

use super::Finding;

/// What holds where nothing is set (`src/backend/utils/misc/guc_tables.c`, 13 to 18).
const DEFAULTS: Requirements = Requirements {
    max_connections: 100,
    max_worker_processes: 8,
    max_wal_senders: 10,
    max_prepared_transactions: 0,
    max_locks_per_transaction: 64,
};

/// What `pg_control` asks for.
#[must_use]
pub fn of_control(control: &ControlFile) -> Requirements {
    Requirements {
        max_connections: control.max_connections,
        max_worker_processes: control.max_worker_processes,
        max_wal_senders: control.max_wal_senders,
        max_prepared_transactions: control.max_prepared_xacts,
        max_locks_per_transaction: control.max_locks_per_xact,
    }
}

/// What a configuration sets, or leaves as it is by default.
#[must_use]
pub fn of_configuration(configuration: &Configuration) -> Requirements {
    let value = |name: &str, default| configuration.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    Requirements {
        max_connections: value("max_connections", DEFAULTS.max_connections),
        max_worker_processes: value("max_worker_processes", DEFAULTS.max_worker_processes),
        max_wal_senders: value("max_wal_senders", DEFAULTS.max_wal_senders),
        max_prepared_transactions: value("max_prepared_transactions", DEFAULTS.max_prepared_transactions),
        max_locks_per_transaction: value("max_locks_per_transaction", DEFAULTS.max_locks_per_transaction),
    }
}

/// Sets what is not set, and what is set too low; says which.
pub fn raise(settings: &mut Vec<(String, String)>, needed: Requirements) -> Vec<&'static str> {
    let mut raised = Vec::new();
    for (name, value) in needed.settings() {
        let set = settings.iter_mut().find(|(set, _)| set.eq_ignore_ascii_case(name));
        match set {
            Some((_, set)) if set.parse().is_ok_and(|set: u32| set < value) => *set = value.to_string(),
            Some(_) => continue,
            None => settings.push((name.to_owned(), value.to_string())),
        }
        raised.push(name);
    }
    raised
}

/// The operator's own settings that are too low.
#[must_use]
pub fn too_low(own: &[(String, String)], needed: Requirements) -> Vec<Finding> {
    let judge = |(name, value): &(String, String)| {
        let (name, needed) = needed.settings().into_iter().find(|(needed, _)| needed.eq_ignore_ascii_case(name))?;
        let set: u32 = value.parse().ok().filter(|set| *set < needed)?;
        let message = format!(
            "{name} = {set} is too low: the server that wrote the WAL had {needed}, and recovery needs as much"
        );
        Some(
            Finding::error("setting-too-low", message).hint(format!("set {name} to {needed} or more, or leave it out")),
        )
    };
    own.iter().filter_map(judge).collect()
}

/// What is set higher than the backup's own configuration has it.
#[must_use]
pub fn raised(configured: Requirements, needed: Requirements, own: &[(String, String)]) -> Option<Finding> {
    let set_by_operator = |name: &str| own.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    let pairs = configured.settings().into_iter().zip(needed.settings());
    let raised = pairs.filter(|((name, configured), (_, needed))| needed > configured && !set_by_operator(name));
    let named: Vec<String> =
        raised.map(|((name, had), (_, needed))| format!("{name} from {had} to {needed}")).collect();
    let message = format!("recovery needs more than the backup's configuration sets: raised {}", named.join(", "));
    let hint = "nothing; they stay in postgresql.auto.conf after promotion";
    (!named.is_empty()).then(|| Finding::note("parameters-raised", message).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn nothing_is_lowered_and_what_cannot_be_read_is_left_alone() {
        let mut settings = set(&[("Max_Connections", "50"), ("max_wal_senders", "20"), ("max_worker_processes", "x")]);
        let raised = raise(&mut settings, DEFAULTS);
        assert_eq!(raised, ["max_connections", "max_prepared_transactions", "max_locks_per_transaction"]);
        let expected = [
            ("Max_Connections", "100"),
            ("max_wal_senders", "20"),
            ("max_worker_processes", "x"),
            ("max_prepared_transactions", "0"),
            ("max_locks_per_transaction", "64"),
        ];
        assert_eq!(settings, set(&expected));
        assert_eq!(raise(&mut settings, DEFAULTS), [] as [&str; 0]);
    }

    #[test]
    fn what_is_too_low_or_raised_is_named_with_its_values() {
        let needed = Requirements { max_connections: 300, ..DEFAULTS };
        let codes = |found: Vec<Finding>| found.into_iter().map(|found| found.message).collect::<Vec<_>>().join("\n");
        let low = codes(too_low(&set(&[("max_connections", "299"), ("max_wal_senders", "10")]), needed));
        assert!(low.contains("max_connections = 299") && low.contains("300") && !low.contains("senders"), "{low}");
        assert_eq!(too_low(&set(&[("max_connections", "300")]), needed), []);
        let note = raised(DEFAULTS, needed, &[]).unwrap();
        assert!(note.message.ends_with("raised max_connections from 100 to 300"), "{}", note.message);
        assert_eq!(raised(DEFAULTS, needed, &set(&[("max_connections", "400")])), None);
        assert_eq!(raised(needed, DEFAULTS, &[]), None, "less is needed than there is");
    }
}
