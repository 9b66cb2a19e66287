//! The templates of `--name` and `--dir`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ipc_core::fuzzing::templates(data));
