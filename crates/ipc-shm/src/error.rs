//! What can go wrong on the way through shared memory.

use std::io;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What both transports share went wrong.
    #[error(transparent)]
    Core(#[from] ipc_core::Error),
    /// There is no room for the segment, or no place for it.
    #[error("cannot reserve {} of shared memory in /dev/shm", bytesize::ByteSize(*size))]
    Segment {
        /// Size of the segment, in bytes.
        size: u64,
        /// Why not.
        source: io::Error,
    },
    /// The named semaphore could not be made.
    #[error("cannot create a named semaphore in /dev/shm")]
    Semaphore {
        /// Why not.
        source: io::Error,
    },
    /// Memory could not be mapped.
    #[error("cannot map the shared memory")]
    Memory {
        /// Why it failed.
        source: io::Error,
    },
    /// The machine's pages are larger than the layout assumes.
    #[error("pages of {0} bytes are not supported, only of 4096")]
    PageSize(usize),
    /// The transport was made for another source or number of peers, or this process has used it
    /// before.
    #[error("the shared memory was not made for this copy")]
    NotForThis,
    /// The segment holds numbers that no server writes.
    #[error("the shared memory holds impossible numbers")]
    Corrupt,
}
