//! How much each peer has done, in memory that the server shares with all of them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::Mapping;
use crate::{Error, PeerCount, PeerId};

/// One word for each peer: bytes that it has stored or read back. It only grows.
///
/// A peer could write another one's too, so nothing that must be right rests on it: it decides how long
/// a peer is waited for, and is shown to people.
#[derive(Debug)]
pub(crate) struct Progress(Mapping);

/// Length of a word, in bytes.
const WORD: u64 = size_of::<AtomicU64>() as u64;

impl Progress {
    /// Zeros, which the peers must be forked after.
    pub(crate) fn new(peers: PeerCount) -> Result<Self, Error> {
        let mapping = Mapping::anonymous(u64::from(peers.get()) * WORD);
        Ok(Self(mapping.map_err(Error::system("map memory"))?))
    }

    /// One peer's word.
    pub(crate) fn of(&self, peer: PeerId) -> Counter<'_> {
        Counter(self.0.u64_at(u64::from(peer.0) * WORD))
    }
}

/// What one peer has done, counted by it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counter<'p>(&'p AtomicU64);

impl Counter<'_> {
    /// Peer: so many bytes more.
    pub(crate) fn add(self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
