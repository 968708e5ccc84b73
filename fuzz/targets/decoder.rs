//! Any bytes as WAL, in any pieces, from any place on.

#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code)]
mod properties;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // The last bytes say how: so a real segment is a seed as it is.
    let (wal, how) = data.split_at(data.len().saturating_sub(5));
    let [piece, piece_high, start, start_high, most] = how.try_into().unwrap_or_default();
    let piece = usize::from(u16::from_le_bytes([piece, piece_high]));
    properties::decoder(wal, usize::from(u16::from_le_bytes([start, start_high])), piece, most.into());
});
