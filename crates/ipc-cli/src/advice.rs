//! What the reader of an error can do about it, where the library cannot know.

use std::fmt;
use std::io::ErrorKind;

use ipc_core::{Failure, NotCopyable, describe, errno};

/// An error with advice behind it.
#[derive(Debug)]
struct Advised {
    error: anyhow::Error,
    advice: &'static str,
}

/// Adds what to do instead, where there is something.
pub(crate) fn with_advice(error: anyhow::Error) -> anyhow::Error {
    match advice(&error) {
        Some(advice) => Advised { error, advice }.into(),
        None => error,
    }
}

fn advice(error: &anyhow::Error) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref() {
        return match error {
            ipc_core::Error::Fork { .. } => {
                Some("use fewer peers, or raise the limit of processes (ulimit -u)")
            }
            ipc_core::Error::NotCopyable { kind: NotCopyable::Directory, .. } => {
                Some("copy its files, or a tar of it through standard input")
            }
            ipc_core::Error::NotCopyable { .. } => {
                Some("redirect it to standard input and give - as FILE")
            }
            _ => None,
        };
    }
    match error.downcast_ref()? {
        ipc_shm::Error::Segment { source, .. } => Some(match source.kind() {
            ErrorKind::StorageFull => {
                "use a smaller --blocks or --block-size, or the program socket"
            }
            ErrorKind::FileTooLarge => "raise the limit of file sizes (ulimit -f)",
            _ => "use the program socket, which needs no /dev/shm",
        }),
        ipc_shm::Error::Semaphore { .. } => Some("use the program socket, which needs no /dev/shm"),
        _ => None,
    }
}

/// The error in the form that reports have.
pub(crate) fn failure(error: &anyhow::Error) -> Failure {
    let errno = match error.downcast_ref() {
        Some(Advised { error, .. }) => errno(error.as_ref()),
        None => errno(error.as_ref()),
    };
    Failure { message: describe(error.as_ref()), errno }
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", describe(self.error.as_ref()), self.advice)
    }
}

// The reason is in the text already, with the advice behind it, so there is no source.
impl std::error::Error for Advised {}
