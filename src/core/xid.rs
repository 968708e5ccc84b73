//! Transaction ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A transaction id of 32 bits, as WAL and `recovery_target_xid` carry it (without an epoch).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Xid(pub u32);

impl Xid {
    /// The first id that an ordinary transaction can have (`FirstNormalTransactionId`, `src/include/access/transam.h`).
    pub const FIRST_NORMAL: Xid = Xid(3);

    /// Whether this one was given out before `other`. Ids come round again after 2³²: of two, the one that is less
    /// than half of that behind the other is the earlier (`TransactionIdPrecedes`,
    /// `src/backend/access/transam/transam.c`).
    #[must_use]
    pub fn precedes(self, other: Xid) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is not a transaction id that recovery could stop at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadXid {
    /// Not a plain decimal number. The server would read its leading digits, or 0, without a word.
    #[error("“{0}” is not a transaction id: it is a decimal number, like 1234567")]
    NotANumber(String),
    /// 0, 1 and 2 are reserved and never commit.
    #[error("transaction id {0} is reserved by PostgreSQL and never commits; the first ordinary one is 3")]
    Reserved(u64),
    /// It has 64 bits, as `pg_current_xact_id()` gives it. The server would drop the upper half without a word.
    #[error(
        "{full} is a transaction id with its epoch, as pg_current_xact_id() gives it; recovery targets and WAL have the lower 32 bits of it only: {xid}, in epoch {epoch}"
    )]
    WithEpoch {
        /// All 64 bits.
        full: u64,
        /// The upper half.
        epoch: u32,
        /// The lower half.
        xid: Xid,
    },
}

impl FromStr for Xid {
    type Err = BadXid;

    /// A 64-bit id with its epoch (`pg_current_xact_id()`) is refused: WAL does not tell epochs, and an id of another
    /// one is another transaction's.
    fn from_str(text: &str) -> Result<Self, BadXid> {
        let not_a_number = || BadXid::NotANumber(text.to_owned());
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(not_a_number());
        }
        let full: u64 = text.parse().map_err(|_| not_a_number())?;
        let (epoch, xid) = ((full >> 32) as u32, Xid((full & 0xFFFF_FFFF) as u32));
        match epoch {
            _ if xid < Xid::FIRST_NORMAL => Err(BadXid::Reserved(full)),
            0 => Ok(xid),
            epoch => Err(BadXid::WithEpoch { full, epoch, xid }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_32_bits_and_says_what_the_lower_half_of_more_is() {
        assert_eq!("735".parse(), Ok(Xid(735)));
        assert_eq!("4294967295".parse(), Ok(Xid(u32::MAX)));
        let with_epoch = BadXid::WithEpoch { full: 8_589_935_327, epoch: 2, xid: Xid(735) };
        assert_eq!("8589935327".parse::<Xid>(), Err(with_epoch), "the server would drop the epoch without a word");
    }

    #[test]
    fn refuses_what_the_server_would_quietly_misread() {
        for bad in ["", "abc", "12abc", "0x10", "-5", "+5", " 7", "99999999999999999999"] {
            assert!(matches!(bad.parse::<Xid>(), Err(BadXid::NotANumber(_))), "{bad:?}");
        }
        for reserved in ["0", "1", "2", "4294967296"] {
            assert!(matches!(reserved.parse::<Xid>(), Err(BadXid::Reserved(_))), "{reserved:?}");
        }
    }
}
