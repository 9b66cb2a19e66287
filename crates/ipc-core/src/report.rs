//! What came of a run: one outcome for every peer.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Digest, Error, describe, errno};

/// A peer's number within its run, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u32);

impl PeerId {
    /// The number as an index.
    #[must_use]
    pub fn index(self) -> usize {
        // No Linux has pointers of less than 32 bits.
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Length of the source in bytes, unless it is a stream whose end was never seen.
    pub bytes: Option<u64>,
    /// BLAKE3 digest of the source, if it was verified, once it is known.
    pub digest: Option<Digest>,
    /// Why the run as a whole was given up, if it was.
    pub aborted: Option<Failure>,
    /// All peers, in the order of their numbers.
    pub peers: Vec<PeerReport>,
}

/// What became of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReport {
    /// Its number.
    pub id: PeerId,
    /// Its process id.
    pub pid: u32,
    /// What became of it.
    pub outcome: Outcome,
    /// Length of its received file in bytes; of one that has none, how many bytes of data it had stored, by
    /// its own word.
    pub bytes: u64,
    /// BLAKE3 digest of its copy as it read it back, if it did.
    pub digest: Option<Digest>,
    /// Whether it held the others up, and had to read the rest of the source by itself.
    pub is_detached: bool,
    /// Whether its process, which has been killed, had not ended when the run did: it waits in the kernel, for
    /// a file system that does not answer, say.
    pub is_left_behind: bool,
    /// How long it took, from just before the first fork until it had ended.
    pub elapsed: Duration,
}

/// What became of a peer's copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is whole and has its final name.
    Stored {
        /// The received file.
        path: PathBuf,
    },
    /// It is whole and has its final name, but the peer failed after that: with [`Job::sync`](crate::Job::sync)
    /// the name is not known to be on the disk.
    Unconfirmed {
        /// The received file.
        path: PathBuf,
        /// Why the peer failed, and that the file is there all the same.
        failure: Failure,
    },
    /// There is none.
    Failed(Failure),
}

/// Why something failed, in a form that can cross from one process to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One line: what was being done, to what, and why it failed.
    pub message: String,
    /// The kernel's error number, if a system call was refused.
    pub errno: Option<i32>,
}

impl Report {
    /// Whether every peer has stored its copy.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.aborted.is_none() && self.stored().count() == self.peers.len()
    }

    /// The received files, in the order of the peers' numbers.
    pub fn stored(&self) -> impl Iterator<Item = &PathBuf> {
        self.peers.iter().filter_map(|peer| match &peer.outcome {
            Outcome::Stored { path } => Some(path),
            Outcome::Unconfirmed { .. } | Outcome::Failed(_) => None,
        })
    }

    /// The peers that were detached.
    pub fn detached(&self) -> impl Iterator<Item = &PeerReport> {
        self.peers.iter().filter(|peer| peer.is_detached)
    }

    /// The peers that failed, and why.
    pub fn failed(&self) -> impl Iterator<Item = (&PeerReport, &Failure)> {
        self.peers.iter().filter_map(|peer| match &peer.outcome {
            Outcome::Stored { .. } => None,
            Outcome::Unconfirmed { failure, .. } | Outcome::Failed(failure) => {
                Some((peer, failure))
            }
        })
    }
}

impl Failure {
    /// `error` and its sources.
    #[must_use]
    pub fn new(error: &(dyn std::error::Error + 'static)) -> Self {
        Self { message: describe(error), errno: errno(error) }
    }

    /// Why a peer was taken out of the run under [`OnSlow::Drop`](crate::OnSlow::Drop).
    #[must_use]
    pub fn slow() -> Self {
        Self {
            message: "it was dropped, because it held the other peers up".to_owned(),
            errno: None,
        }
    }

    /// Why a peer was killed that did nothing for as long as [`Job::timeout`](crate::Job::timeout).
    pub(crate) fn timed_out(timeout: Duration) -> Self {
        let message = format!("it was killed, because it did nothing for {timeout:?}");
        Self { message, errno: None }
    }

    /// The same failure, of a peer whose received file is at `path` by then.
    pub(crate) fn after_commit(self, path: &Path, sync: bool) -> Self {
        let state = match sync {
            true => "not known to be on the disk",
            false => "its peer failed after that",
        };
        Self { message: format!("{path:?} is stored, but {state}: {self}"), errno: self.errno }
    }

    /// The same failure, of a peer whose received file may be at `path`, or get there yet.
    pub(crate) fn in_commit(self, path: &Path) -> Self {
        let message = format!("{self}; whether {path:?} is stored is not known");
        Self { message, errno: self.errno }
    }

    /// Why a copy gets no name.
    pub(crate) fn differs(stored: Option<Digest>, source: Digest) -> Self {
        let stored = stored.map_or_else(|| "nothing".to_owned(), |digest| digest.to_string());
        let message =
            format!("its copy reads back as BLAKE3 {stored}, and the source was read as {source}");
        Self { message, errno: None }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(&error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message.fmt(f)
    }
}
