#![no_main]

#[path = "../properties/decoding.rs"]
mod decoding;

libfuzzer_sys::fuzz_target!(|body: &[u8]| decoding::holds(body));
