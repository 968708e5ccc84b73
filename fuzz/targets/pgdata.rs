//! Any bytes as the other files of PostgreSQL; the first one says which.

#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code)]
mod properties;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((format, bytes)) = data.split_first() {
        properties::pgdata(*format, bytes);
    }
});
