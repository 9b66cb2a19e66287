//! What the reader of an error can do about it, where the library cannot know.

use std::fmt;
use std::io::ErrorKind;

use ipc_core::{Failure, describe, errno};
use ipc_shm::Error;

/// An error of shared memory with advice behind it.
#[derive(Debug)]
struct Advised {
    error: Error,
    advice: &'static str,
}

/// Adds what to do instead.
pub(crate) fn with_advice(error: Error) -> anyhow::Error {
    let advice = match &error {
        Error::Segment { source, .. } if source.kind() == ErrorKind::StorageFull => {
            "use a smaller --blocks or --block-size, or the program socket"
        }
        Error::Segment { .. } | Error::Semaphore { .. } => {
            "use the program socket, which needs no /dev/shm"
        }
        _ => return error.into(),
    };
    Advised { error, advice }.into()
}

/// The error in the form that reports have.
pub(crate) fn failure(error: &anyhow::Error) -> Failure {
    let errno = match error.downcast_ref() {
        Some(Advised { error, .. }) => errno(error),
        None => errno(error.as_ref()),
    };
    Failure { message: describe(error.as_ref()), errno }
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", describe(&self.error), self.advice)
    }
}

// The reason is in the text already, with the advice behind it, so there is no source.
impl std::error::Error for Advised {}
