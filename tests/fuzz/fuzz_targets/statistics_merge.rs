#![no_main]

#[path = "../properties/merging.rs"]
mod merging;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| merging::holds(bytes));
