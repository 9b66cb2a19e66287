//! The command lines of both programs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ipc_cli::fuzzing::arguments(data));
