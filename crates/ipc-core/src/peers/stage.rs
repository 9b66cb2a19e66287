//! How far a peer has come, from its fork to its outcome.

use crate::Failure;
use crate::unnamed::FileId;

/// How far a peer has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Bytes flow to it.
    Receiving,
    /// It says that it has stored this many bytes, and waits for the server to tell it to commit.
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

impl Stage {
    /// Whether it is the peer that waits for the server: what passes then is not the peer's time.
    pub(super) fn waits_for_server(&self) -> bool {
        matches!(self, Self::Consumed(_))
    }
}

/// What is known of a peer's final name, whatever else becomes of the peer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Naming {
    /// It was not told to give its file the name.
    NotBegun,
    /// It was told to give the name to this file. If it ends now, only the directory tells whether it has.
    Begun(FileId),
    /// It says that its file has the name.
    Done,
}
