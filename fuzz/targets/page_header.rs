//! Any bytes as the beginning of a segment.

#![no_main]

#[path = "../properties.rs"]
#[allow(dead_code)]
mod properties;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| properties::page_headers(data));
