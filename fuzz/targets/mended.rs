//! Any bytes as WAL in which every checksum is right.

#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code)]
mod properties;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut wal = data.to_vec();
    properties::mend_checksums(&mut wal);
    properties::decoder(&wal, 0, 8192, 7);
});
