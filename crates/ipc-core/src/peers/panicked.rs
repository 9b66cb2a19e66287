//! A peer's panic, as its outcome.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook};

use crate::Failure;

/// Runs `run` in a peer. A panic becomes a failure that says where it was: the peer has no standard error.
pub(super) fn catch(run: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    set_hook(Box::new(|info| LAST.set(Some(describe(info)))));
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        // To drop it could panic again.
        std::mem::forget(payload);
        let message = LAST.take().unwrap_or_else(|| "it panicked".to_owned());
        Err(Failure { message, errno: None })
    })
}

thread_local! {
    /// What the last panic said. It may have been caught since.
    static LAST: Cell<Option<String>> = const { Cell::new(None) };
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let mut text = "it panicked".to_owned();
    if let Some(location) = info.location() {
        text.push_str(&format!(" at {location}"));
    }
    if let Some(message) = info.payload_as_str() {
        text.push_str(&format!(": {message}"));
    }
    text
}
