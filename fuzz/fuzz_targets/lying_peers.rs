//! The shared memory, as the server of `sharedmem` reads it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ipc_shm::fuzzing::lying_peers(data));
