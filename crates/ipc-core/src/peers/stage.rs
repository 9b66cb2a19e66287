//! How far a peer has come, from its fork to its outcome.

use crate::Failure;

/// How far a peer has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Bytes flow to it.
    Receiving,
    /// It says that it has stored this many bytes, and waits to be told to commit.
    Consumed(u64),
    /// It has been told to commit.
    Committing,
    /// It says that its file has the final name.
    Stored,
    /// There will be no received file.
    Failed(Failure),
    /// It ended without a word; its exit status will tell why.
    Gone,
}
