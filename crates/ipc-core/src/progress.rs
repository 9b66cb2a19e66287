//! How much each peer has done, in memory that the server shares with all of them.
#![allow(unsafe_code, reason = "maps memory and points into it")]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags};

use crate::{Error, PeerCount, PeerId};

/// One word for each peer: bytes that it has stored or read back. It only grows.
///
/// A peer could write another one's too, so nothing that must be right rests on it: it decides how long
/// a peer is waited for, and is shown to people.
#[derive(Debug)]
pub(crate) struct Progress {
    words: NonNull<AtomicU64>,
    count: usize,
}

impl Progress {
    /// Zeros, which the peers must be forked after.
    pub(crate) fn new(peers: PeerCount) -> Result<Self, Error> {
        let count = PeerId(peers.get()).index();
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: The kernel chooses the address, so nothing that is mapped is replaced.
        let mapped = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), length(count), protection, flags)
        };
        let words = mapped.map_err(Error::system("map memory"))?;
        let words = NonNull::new(words.cast()).ok_or_else(|| {
            Error::system("map memory")(std::io::Error::from(std::io::ErrorKind::OutOfMemory))
        })?;
        Ok(Self { words, count })
    }

    /// One peer's word; that of no peer is of no use.
    pub(crate) fn of(&self, peer: PeerId) -> Counter<'_> {
        let index = peer.index().min(self.count.saturating_sub(1));
        // SAFETY: There are more words than that.
        let word = unsafe { self.words.add(index) };
        // SAFETY: They are aligned, as the page is, and any bytes are valid for an atomic.
        Counter(unsafe { word.as_ref() })
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

fn length(count: usize) -> usize {
    count.saturating_mul(size_of::<AtomicU64>())
}

impl Drop for Progress {
    fn drop(&mut self) {
        let words = self.words.as_ptr().cast();
        // SAFETY: It was mapped by `new`, and every counter borrows `self`. There is nothing to be done
        // about an error.
        let _ = unsafe { rustix::mm::munmap(words, length(self.count)) };
    }
}
