//! Amounts, rates and remaining times, and how they are written for people.

use std::fmt;

/// A number of bytes, written as `pg_size_pretty` writes it: binary multiples called kB, MB, GB, so that a
/// default WAL segment is 16 MB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
        let mut unit = 0;
        let mut amount = self.0 as f64;
        while amount >= 999.5 && unit + 1 < UNITS.len() {
            amount /= 1024.0;
            unit += 1;
        }
        let digits = if unit == 0 || amount >= 99.95 || amount.fract() == 0.0 { 0 } else { 1 };
        f.pad(&format!("{amount:.digits$} {}", UNITS[unit]))
    }
}

/// A span of time in seconds, written as coarsely as it deserves: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 05 min`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Seconds(pub f64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.max(0.0);
        let whole = seconds.round() as u64;
        let text = match whole {
            _ if seconds < 9.95 => format!("{seconds:.1} s"),
            0..60 => format!("{whole} s"),
            60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
            3600..172_800 => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
            _ => format!("{} days {} h", whole / 86400, whole % 86400 / 3600),
        };
        f.pad(&text)
    }
}

/// A number with its thousands set apart: `1,234,567`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 segment`, `2 segments`: an amount with its word.
#[must_use]
pub fn counted(number: u64, word: &str) -> String {
    format!("{} {word}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// How fast work goes, smoothed, and how long the rest will take.
///
/// An exponential average over about ten seconds: long enough not to flicker, short enough to notice a stall.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pace {
    last: Option<(f64, u64)>,
    per_second: Option<f64>,
}

impl Pace {
    const SMOOTHING_S: f64 = 10.0;

    /// Tells that `done` units were done `at_s` seconds after any fixed start.
    pub fn observe(&mut self, at_s: f64, done: u64) {
        if let Some((before_s, before)) = self.last {
            let elapsed = at_s - before_s;
            if elapsed <= 0.0 {
                return;
            }
            let now = done.saturating_sub(before) as f64 / elapsed;
            let weight = 1.0 - (-elapsed / Self::SMOOTHING_S).exp();
            self.per_second = Some(self.per_second.map_or(now, |old| old + weight * (now - old)));
        }
        self.last = Some((at_s, done));
    }

    /// Units a second; `None` before there were two observations.
    #[must_use]
    pub fn per_second(&self) -> Option<f64> {
        self.per_second
    }

    /// Seconds until `total` is done; `None` where nothing moves or nothing is known.
    #[must_use]
    pub fn eta_s(&self, total: u64) -> Option<f64> {
        let (_, done) = self.last?;
        let rate = self.per_second.filter(|rate| *rate > 0.0)?;
        Some(total.saturating_sub(done) as f64 / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short_and_exact_where_they_can_be() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1024, "1 kB"),
            (16 << 20, "16 MB"),
            (1 << 30, "1 GB"),
            (44_238_479_360, "41.2 GB"),
            (1023 << 20, "1.0 GB"),
            (u64::MAX, "16384 PB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        for (seconds, text) in [
            (0.04, "0.0 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (200.0, "3 min 20 s"),
            (7500.0, "2 h 05 min"),
            (2e5, "2 days 7 h"),
        ] {
            assert_eq!(Seconds(seconds).to_string(), text);
        }
        assert_eq!((grouped(7), grouped(1_234_567)), ("7".to_owned(), "1,234,567".to_owned()));
        assert_eq!((counted(1, "segment"), counted(0, "segment")), ("1 segment".into(), "0 segments".into()));
    }

    #[test]
    fn a_steady_pace_gives_a_steady_estimate() {
        let mut pace = Pace::default();
        assert_eq!(pace.eta_s(100), None);
        for second in 0..5 {
            pace.observe(f64::from(second), u64::from(second as u32) * 10);
        }
        assert_eq!((pace.per_second(), pace.eta_s(100)), (Some(10.0), Some(6.0)));
    }

    #[test]
    fn a_stall_is_noticed_and_promises_nothing_false() {
        let mut pace = Pace::default();
        pace.observe(0.0, 0);
        pace.observe(1.0, 0);
        assert_eq!(pace.eta_s(100), None);
    }
}
