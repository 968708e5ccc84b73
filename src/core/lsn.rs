//! Log sequence numbers: byte positions in the WAL of one cluster.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A byte position in WAL. Printed as PostgreSQL 13–18 print it (`%X/%X`, `src/include/access/xlogdefs.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The position that PostgreSQL calls invalid and uses for "none".
    pub const INVALID: Lsn = Lsn(0);

    /// The position `bytes` further on, stopping at the end of the address space.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Lsn {
        Lsn(self.0.saturating_add(bytes))
    }

    /// Bytes of WAL from `earlier` to here; 0 where `earlier` is not earlier.
    #[must_use]
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `None` for the invalid position, which stands for "not set" in PostgreSQL's files.
    #[must_use]
    pub fn valid(self) -> Option<Lsn> {
        (self != Lsn::INVALID).then_some(self)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF))
    }
}

/// Why a text is not an LSN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "“{0}” is not an LSN: it is two hexadecimal numbers of at most eight digits with a slash between, like 0/3000148"
)]
pub struct BadLsn(pub String);

impl FromStr for Lsn {
    type Err = BadLsn;

    /// As `pg_lsn_in` does it (`src/backend/utils/adt/pg_lsn.c`): one to eight hexadecimal digits on both sides.
    fn from_str(text: &str) -> Result<Self, BadLsn> {
        let bad = || BadLsn(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(bad)?;
        let part = |digits: &str| {
            let well_formed = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            if well_formed { u64::from_str_radix(digits, 16).map_err(|_| bad()) } else { Err(bad()) }
        };
        Ok(Lsn(part(high)? << 32 | part(low)?))
    }
}

impl Serialize for Lsn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Lsn);
        }
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_as_the_server_does() {
        assert_eq!(Lsn(0x1_AB12_33F8).to_string(), "1/AB1233F8");
        assert_eq!(Lsn(0x300_0148).to_string(), "0/3000148");
        assert_eq!(format!("{:>12}", Lsn(0x300_0148)), "   0/3000148");
    }

    #[test]
    fn refuses_what_the_server_refuses() {
        for bad in ["", "/", "1", "1/", "/1", "123456789/0", "0/123456789", "+1/0", "0/-1", "0x1/0", "1/2/3", " 0/1"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad:?} was taken for an LSN");
        }
    }

    proptest! {
        #[test]
        fn reads_back_what_it_printed(value: u64) {
            prop_assert_eq!(Lsn(value).to_string().parse::<Lsn>(), Ok(Lsn(value)));
        }
    }
}
