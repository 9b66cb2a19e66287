//! Sleeping on a word of shared memory, and waking those who do.

use ipc_core::io::{SLICE, timespec};
use rustix::thread::futex::{Flags, wait, wake};

use crate::sync::AtomicU32;

/// Sleeps while `word` is `seen`, until somebody wakes the sleepers, a [`SLICE`] at most.
///
/// Why it woke is not told: whatever it was (a wake-up, a signal, the time, a changed word), the
/// caller looks at the word again.
pub(crate) fn sleep_while(word: &AtomicU32, seen: u32) {
    // Not FUTEX_PRIVATE: the sleepers are other processes.
    let _ = wait(word, Flags::empty(), seen, Some(&timespec(SLICE)));
}

/// Wakes all who sleep on `word`.
pub(crate) fn wake_all(word: &AtomicU32) {
    // The only error is a bad address, which a reference is not.
    let _ = wake(word, Flags::empty(), i32::MAX.cast_unsigned());
}
