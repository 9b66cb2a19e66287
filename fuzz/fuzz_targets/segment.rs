//! The shared memory, as a peer of `sharedmem` reads it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ipc_shm::fuzzing::segment(data));
