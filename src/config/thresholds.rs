//! `thresholds` in the configuration: two numbers each, the warning first.

use serde::{Deserialize, Deserializer};

use crate::core::thresholds::BadLimits;
use crate::core::{Limits, Thresholds};

/// What stands in the file. What is left out stays as it is by default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileThresholds {
    #[serde(deserialize_with = "amounts")]
    archive_lag_segments: Option<Limits>,
    #[serde(deserialize_with = "amounts")]
    archive_lag_minutes: Option<Limits>,
    #[serde(deserialize_with = "percent")]
    free_space_percent: Option<Limits>,
    #[serde(deserialize_with = "hours")]
    backup_age: Option<Limits>,
}

/// Reads `thresholds`.
///
/// # Errors
/// When a key is not known, or the numbers make no sense.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Thresholds, D::Error> {
    let file = FileThresholds::deserialize(deserializer)?;
    let usual = Thresholds::default();
    Ok(Thresholds {
        archive_lag_segments: file.archive_lag_segments.unwrap_or(usual.archive_lag_segments),
        archive_lag_minutes: file.archive_lag_minutes.unwrap_or(usual.archive_lag_minutes),
        free_space_percent: file.free_space_percent.unwrap_or(usual.free_space_percent),
        backup_age_hours: file.backup_age,
    })
}

/// What to do about limits that were refused, by the parser's message.
pub(super) fn hint(message: &str) -> Option<&'static str> {
    let all = [BadLimits::Negative, BadLimits::MoreThanAll, BadLimits::WarningIsHigher, BadLimits::WarningIsLower];
    let said = all.iter().any(|bad| message.contains(&bad.to_string())) || message.contains(NO_AGE);
    said.then_some(
        "like “archive_lag_segments: [10, 50]”, “free_space_percent: [20, 5]”, “backup_age: [25h, 49h]”: the warning, then \
         the critical one",
    )
}

const NO_AGE: &str = "an age is a number and min, h or d, like 25h";

fn amounts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Limits>, D::Error> {
    let [warning, critical] = <[f64; 2]>::deserialize(deserializer)?;
    Limits::rising(warning, critical).map(Some).map_err(serde::de::Error::custom)
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Limits>, D::Error> {
    let [warning, critical] = <[f64; 2]>::deserialize(deserializer)?;
    Limits::falling(warning, critical).map(Some).map_err(serde::de::Error::custom)
}

fn hours<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Limits>, D::Error> {
    let ages = <[String; 2]>::deserialize(deserializer)?;
    let [Some(warning), Some(critical)] = ages.map(|age| hours_in(&age)) else {
        return Err(serde::de::Error::custom(NO_AGE));
    };
    Limits::rising(warning, critical).map(Some).map_err(serde::de::Error::custom)
}

/// `25h`, `90 min`, `2d`
fn hours_in(age: &str) -> Option<f64> {
    let age = age.trim();
    let unit = age.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'))?;
    let (number, unit) = age.split_at(unit);
    let number: f64 = number.parse().ok()?;
    let hours = match unit.trim() {
        "min" => 1.0 / 60.0,
        "h" => 1.0,
        "d" => 24.0,
        _ => return None,
    };
    Some(number * hours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_units() {
        assert_eq!(["25h", "90 min", "2d", "1.5 h"].map(hours_in), [Some(25.0), Some(1.5), Some(48.0), Some(1.5)]);
        assert_eq!(["25", "h", "2 weeks", "", "1..2h"].map(hours_in), [None; 5]);
        assert_eq!(hours_in("-1h"), Some(-1.0), "it is refused with the reason");
    }
}
