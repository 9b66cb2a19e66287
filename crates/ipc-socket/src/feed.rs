//! How the source's bytes get to a connection: one of two ways, behind one set of questions.
//!
//! Neither waits for a peer or a writer. The server decides when to read and whom to send to; this is all that it
//! knows of the bytes. Which way it is, the kernel decides: whatever `sendfile` takes goes directly.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use ipc_core::{Digest, PeerId, Source};
use rustix::io::Errno;

use crate::buffered::Buffered;
use crate::direct::Direct;
use crate::{Error, Options};

/// The source on its way to all connections.
#[derive(Debug)]
pub(crate) enum Feed<'s> {
    /// From the page cache, to each connection at its own pace.
    Direct(Direct<'s>),
    /// Through a bounded window in memory.
    Buffered(Buffered<'s>),
}

/// How far a connection got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// As much as is fair; more can go once others had their turn.
    EnoughForNow,
    /// Its buffer is full; more can go once the peer has read.
    UntilFull,
    /// It has all there is; more can go once the source has been read further.
    AllSoFar,
    /// It has everything, the end included.
    Everything,
}

impl<'s> Feed<'s> {
    /// A feed for `peers` peers.
    pub(crate) fn new(source: &'s Source, options: Options, peers: usize) -> Result<Self, Error> {
        if options.zero_copy
            && let Some(direct) = Direct::new(source, peers)?
        {
            return Ok(Self::Direct(direct));
        }
        Ok(Self::Buffered(Buffered::new(source, options, peers)))
    }

    /// Lets `epoll` report under `token` that a source that had nothing to read has something.
    pub(crate) fn watch(&self, epoll: BorrowedFd<'_>, token: u64) -> Result<(), Error> {
        match self {
            Self::Direct(_) => Ok(()),
            Self::Buffered(buffered) => buffered.watch(epoll, token),
        }
    }

    /// Length of the source in bytes, if it is known before it is read.
    pub(crate) fn length(&self) -> Option<u64> {
        match self {
            Self::Direct(direct) => Some(direct.length()),
            Self::Buffered(_) => None,
        }
    }

    /// Whether [`Feed::read`] would get somewhere now.
    pub(crate) fn can_read(&self) -> Result<bool, Error> {
        match self {
            Self::Direct(_) => Ok(false),
            Self::Buffered(buffered) => buffered.can_read(),
        }
    }

    /// Reads the next piece of the source; its length once it has ended there.
    pub(crate) fn read(&mut self) -> Result<Option<(u64, Option<Digest>)>, Error> {
        match self {
            Self::Direct(_) => Ok(None),
            Self::Buffered(buffered) => buffered.read(),
        }
    }

    /// Sends a peer on as much as its `socket` takes.
    pub(crate) fn send(&mut self, peer: PeerId, socket: &OwnedFd) -> Result<Sent, SendError> {
        match self {
            Self::Direct(direct) => direct.send(peer, socket),
            Self::Buffered(buffered) => Ok(buffered.send(peer, socket)?),
        }
    }

    /// Who holds the others up, and since when at least half of them wait for it.
    pub(crate) fn held_up(&self) -> Option<(PeerId, Duration)> {
        match self {
            Self::Direct(_) => None,
            Self::Buffered(buffered) => buffered.held_up(),
        }
    }

    /// Waits no longer for a peer.
    pub(crate) fn leave(&mut self, peer: PeerId) {
        match self {
            Self::Direct(_) => {}
            Self::Buffered(buffered) => buffered.leave(peer),
        }
    }
}

/// Whom a failure to send concerns.
#[derive(Debug)]
pub(crate) enum SendError {
    /// This peer only.
    Connection(Errno),
    /// All: the source is not what it was.
    Source(Error),
}

impl From<Errno> for SendError {
    fn from(errno: Errno) -> Self {
        Self::Connection(errno)
    }
}
