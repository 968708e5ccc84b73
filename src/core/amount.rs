//! Spans of time and amounts of bytes as they are written in a configuration: `30min`, `1h 30min`, `200GB`.

use std::time::Duration;

/// PostgreSQL's units of time (`guc.c`, `time_unit_conversion_table`), in microseconds.
const TIMES: [(&str, f64); 6] = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("min", 60e6), ("h", 3600e6), ("d", 86_400e6)];
/// PostgreSQL's units of memory (`guc.c`, `memory_unit_conversion_table`): binary multiples.
const SIZES: [(&str, f64); 6] = [
    ("B", 1.0),
    ("kB", 1024.0),
    ("MB", 1_048_576.0),
    ("GB", 1_073_741_824.0),
    ("TB", 1_099_511_627_776.0),
    ("PB", 1_125_899_906_842_624.0),
];

/// Why a text is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAmount {
    /// Of time.
    #[error("“{0}” is no span of time: write a number and one of us, ms, s, min, h and d, like 30min")]
    Time(String),
    /// Of bytes.
    #[error("“{0}” is no amount of bytes: write a number and one of B, kB, MB, GB, TB and PB, like 200GB")]
    Size(String),
}

/// Reads a span of time: `90s`, `1.5h`, `1h 30min`. A number alone counts seconds.
///
/// # Errors
/// When it is none.
pub fn parse_duration(text: &str) -> Result<Duration, BadAmount> {
    let micros = sum(text, &TIMES, 1e6).filter(|micros| *micros < 1e18);
    micros.map(|micros| Duration::from_micros(micros.round() as u64)).ok_or_else(|| BadAmount::Time(text.to_owned()))
}

/// Reads an amount of bytes: `200GB`, `1.5 TB`. A number alone counts bytes.
///
/// # Errors
/// When it is none.
pub fn parse_size(text: &str) -> Result<u64, BadAmount> {
    let bytes = sum(text, &SIZES, 1.0).filter(|bytes| *bytes < 1e19);
    bytes.map(|bytes| bytes.round() as u64).ok_or_else(|| BadAmount::Size(text.to_owned()))
}

/// The sum of numbers with their units; of a number alone in the unit that is taken then.
fn sum(text: &str, units: &[(&str, f64)], alone: f64) -> Option<f64> {
    let mut rest = text.trim();
    if let Some(number) = number(rest) {
        return Some(number * alone);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (digits, behind) = rest.split_at(end);
        let behind = behind.trim_start();
        let end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let (_, size) = units.iter().find(|(name, _)| *name == unit)?;
        total += number(digits)? * size;
        rest = behind.trim_start();
    }
    (!text.trim().is_empty()).then_some(total)
}

/// Digits with a point among them at most: no sign, no exponent.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && text.bytes().any(|b| b != b'.');
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spans_and_amounts_are_read_with_postgresqls_units() {
        for (text, seconds) in [
            ("30min", 1800.0),
            ("1h 30min", 5400.0),
            ("1.5 h", 5400.0),
            ("90", 90.0),
            ("250ms", 0.25),
            ("2d", 172_800.0),
        ] {
            assert!((parse_duration(text).unwrap().as_secs_f64() - seconds).abs() < 1e-9, "{text}");
        }
        for (text, bytes) in [("200GB", 200 << 30), ("1 kB", 1024), ("1.5MB", 1_572_864), ("7", 7)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in ["", " ", "min", "5 minutes", "-1h", "1e3", "1..5h", ".", "5h foo", "9999999999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert!(parse_size("5min").is_err() && parse_size("5gb").is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,12}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
