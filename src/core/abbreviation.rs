//! Abbreviations of time zones that mean one offset.

/// Zone abbreviations that have meant one offset, in minutes east of UTC, and no other anywhere in the world in
/// the years of PostgreSQL 13 and later. CST, IST and PST are left out: they mean different offsets in different
/// places, and a time that is an hour or half a day off is worse than none.
const ZONES: [(&str, i32); 17] = [
    ("UTC", 0),
    ("GMT", 0),
    ("UCT", 0),
    ("Z", 0),
    ("WET", 0),
    ("WEST", 60),
    ("BST", 60),
    ("CET", 60),
    ("CEST", 120),
    ("EET", 120),
    ("EEST", 180),
    ("MSK", 180),
    ("EST", -300),
    ("EDT", -240),
    ("JST", 540),
    ("AEST", 600),
    ("AEDT", 660),
];

/// Seconds east of UTC that an abbreviation means everywhere; `None` where it means several or nothing.
#[must_use]
pub fn offset_s(abbreviation: &str) -> Option<i32> {
    ZONES.iter().find(|(name, _)| *name == abbreviation).map(|(_, minutes)| minutes * 60)
}

/// Whether it looks like one: capitals only, and few.
#[must_use]
pub fn looks_like_one(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks the whole time zone database, twice a year from 2020 to 2035.
    #[test]
    fn every_abbreviation_means_one_offset_and_those_left_out_mean_several() {
        use chrono::{DateTime, Offset, TimeZone, Utc};
        let offsets_of = |wanted: &str| {
            let mut offsets = std::collections::BTreeSet::new();
            for half_year in 0..30 {
                let at: DateTime<Utc> = DateTime::from_timestamp(1_579_000_000 + half_year * 15_778_800, 0).unwrap();
                for zone in chrono_tz::TZ_VARIANTS {
                    let offset = zone.offset_from_utc_datetime(&at.naive_utc());
                    if offset.to_string() == wanted {
                        offsets.insert(offset.fix().local_minus_utc());
                    }
                }
            }
            offsets.into_iter().collect::<Vec<_>>()
        };
        for (name, minutes) in ZONES.iter().filter(|(name, _)| !["Z", "UCT"].contains(name)) {
            assert_eq!(offsets_of(name), [minutes * 60], "{name}");
        }
        for ambiguous in ["CST", "IST", "PST"] {
            assert!(offsets_of(ambiguous).len() > 1, "{ambiguous} became unambiguous");
        }
    }
}
