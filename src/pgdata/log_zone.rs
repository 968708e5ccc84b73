//! The zone in which a server writes the times of its log.

use crate::core::{Timestamp, Zone};

use super::moment;

/// A server's `log_timezone`, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogZone {
    /// By its name in the server's configuration, or the zone that has the abbreviation of its label.
    Named(Zone),
    /// By an abbreviation that tells an offset, and not the rules of daylight saving.
    Fixed {
        /// What the server writes behind its times.
        abbreviation: String,
        /// Seconds east of UTC.
        offset_s: i32,
    },
}

/// Abbreviations that change over the year, with a zone that has both. A log that was begun in winter says CET, and
/// CEST in summer.
const WITH_SUMMER: [(&str, &str, &str); 5] = [
    ("CET", "CEST", "CET"),
    ("EET", "EEST", "EET"),
    ("WET", "WEST", "WET"),
    ("EST", "EDT", "America/New_York"),
    ("GMT", "BST", "Europe/London"),
];

impl LogZone {
    /// From `log_timezone` (`Europe/Berlin`) or an abbreviation (`CEST`, `+0330`). `None` where it has several meanings
    /// or none.
    #[must_use]
    pub fn parse(text: &str) -> Option<LogZone> {
        // GMT is London's in winter only, and Greenwich's always: what has no summer is taken as it is.
        let by_summer =
            WITH_SUMMER.iter().find(|(winter, summer, _)| text == *summer || (text == *winter && text != "GMT"));
        let name = by_summer.map_or(text, |(_, _, zone)| *zone);
        if let Ok(zone) = name.parse() {
            return Some(LogZone::Named(zone));
        }
        Some(LogZone::Fixed { abbreviation: text.to_owned(), offset_s: moment::offset_s(text)? })
    }

    /// A moment as the server's log has it with `%m` in `log_line_prefix`: `2024-10-02 14:30:05.123 CEST`.
    #[must_use]
    pub fn in_log(&self, at: Timestamp) -> String {
        match self {
            Self::Named(zone) => at.in_log(*zone),
            Self::Fixed { abbreviation, offset_s } => {
                let local = at.plus_micros(i64::from(*offset_s) * 1_000_000).in_log(Zone::UTC);
                local.replace("UTC", abbreviation)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_log_has_them() {
        let winter = Timestamp::from_unix_micros(1_700_000_000_123_456).unwrap();
        let summer = Timestamp::from_unix_micros(1_720_000_000_123_999).unwrap();
        let in_log = |zone: &str, at| LogZone::parse(zone).map(|zone| zone.in_log(at));
        for (zone, winter_says, summer_says) in [
            ("UTC", "2023-11-14 22:13:20.123 UTC", "2024-07-03 09:46:40.123 UTC"),
            ("GMT", "2023-11-14 22:13:20.123 GMT", "2024-07-03 09:46:40.123 GMT"),
            ("Europe/Berlin", "2023-11-14 23:13:20.123 CET", "2024-07-03 11:46:40.123 CEST"),
            ("CET", "2023-11-14 23:13:20.123 CET", "2024-07-03 11:46:40.123 CEST"),
            ("CEST", "2023-11-14 23:13:20.123 CET", "2024-07-03 11:46:40.123 CEST"),
            ("EDT", "2023-11-14 17:13:20.123 EST", "2024-07-03 05:46:40.123 EDT"),
            ("JST", "2023-11-15 07:13:20.123 JST", "2024-07-03 18:46:40.123 JST"),
            ("+0330", "2023-11-15 01:43:20.123 +0330", "2024-07-03 13:16:40.123 +0330"),
        ] {
            assert_eq!(in_log(zone, winter).as_deref(), Some(winter_says), "{zone}");
            assert_eq!(in_log(zone, summer).as_deref(), Some(summer_says), "{zone}");
        }
        for several in ["CST", "IST", "PST", "", "half past"] {
            assert_eq!(in_log(several, winter), None, "{several}");
        }
    }
}
