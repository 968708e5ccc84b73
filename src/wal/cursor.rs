//! Taking little-endian fields off a run of bytes, without ever reaching behind its end.

use crate::core::{Lsn, TimelineId, Timestamp};

/// The bytes that have not been taken yet. Every method is `None` where there are too few, and takes nothing then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl<'a> Cursor<'a> {
    #[inline]
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_le_bytes)
    }

    #[inline]
    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    #[inline]
    pub(super) fn lsn(&mut self) -> Option<Lsn> {
        self.u64().map(Lsn)
    }

    pub(super) fn timeline(&mut self) -> Option<TimelineId> {
        self.u32().map(TimelineId)
    }

    /// A `TimestampTz`.
    pub(super) fn timestamp(&mut self) -> Option<Timestamp> {
        Timestamp::from_postgres(self.i64()?)
    }

    /// An array as WAL carries it: a count of 32 bits, then so many items of `size` bytes.
    pub(super) fn counted(&mut self, size: usize) -> Option<&'a [u8]> {
        let count = usize::try_from(self.i32()?).ok()?;
        self.bytes(count.checked_mul(size)?)
    }
}
