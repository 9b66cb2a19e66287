//! What a peer of `socket` receives.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ipc_socket::fuzzing::wire(data));
