//! What peer and server say to each other over the control channel.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ipc_core::fuzzing::control(data));
