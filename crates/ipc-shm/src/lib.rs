//! One file to many forked peers over a ring of blocks in POSIX shared memory.
//!
//! The server reads the source into the blocks of a ring and raises a *sequence number*; each peer
//! stores the blocks that are new to it and raises its *number of reads*. A block is filled anew once
//! every peer that lives, and is not detached, has read it. With one block this is lockstep; with
//! more the server reads ahead, and a peer stores all that is ready with one `write`.
//!
//! | in the segment | written by | meaning |
//! | --- | --- | --- |
//! | file header | server, once | name, size or "unknown", mode, times |
//! | sequence number | server | blocks published; a futex that peers sleep on |
//! | awaited | server | which peer it sleeps for, and until which number of reads |
//! | block length, one per block | server | bytes in it; 0 ends the file |
//! | detached, one per peer | server | not 0 once it waits for this peer no more |
//! | ring | server | the blocks' bytes |
//! | number of reads, one per peer | this peer | blocks it has stored |
//! | idle since, one per peer | this peer | since when it has had nothing to do |
//!
//! A peer may write its own words and nothing else in the segment, by the protection of its mapping.
//! The server, when the ring is full, sleeps on a named semaphore; the peer whose read frees the next
//! blocks posts it, and has the right to write it for only that long. Nobody spins, and every sleep
//! ends after a slice of time with a look whether the other side lives. The bytes cross no lock, so
//! nobody can die holding one.
//!
//! # Example
//!
//! ```standalone_crate
//! use ipc_core::*;
//! use ipc_shm::{Options, SharedMemory};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let root = tempfile::tempdir()?;
//! let path = root.path().join("greeting");
//! std::fs::write(&path, "hello")?;
//!
//! let job = Job {
//!     source: Source::open(&path)?,
//!     peers: PeerCount::new(3).ok_or("not a number of peers")?,
//!     directories: root.path().join("received").into(),
//!     name: "{peer}-{name}".parse()?,
//!     existing: Existing::Replace,
//!     sync: false,
//!     preserve: false,
//!     timeout: None,
//! };
//! let job = job.check::<SharedMemory>()?;
//! let transport = SharedMemory::create(&job.source, job.peers, Options::default())?;
//! let report = copy(&job, &transport)?;
//! assert!(report.is_success(), "{report:?}");
//! assert_eq!(std::fs::read(root.path().join("received/2-greeting"))?, b"hello");
//! # Ok(())
//! # }
//! ```

// Under loom only the ring is built, on loom's memory.
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod futex;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(not(loom))]
mod layout;
#[cfg(all(test, loom))]
#[allow(unsafe_code, reason = "reads and writes loom's cells")]
mod model;
#[cfg(not(loom))]
mod peer;
mod ring;
#[cfg(not(loom))]
mod segment;
#[cfg(not(loom))]
mod semaphore;
#[cfg(not(loom))]
mod server;
mod sync;
#[cfg(not(loom))]
mod transport;

#[cfg(not(loom))]
pub use error::Error;
#[cfg(not(loom))]
pub use layout::{BlockCount, BlockSize};
#[cfg(not(loom))]
pub use peer::Attached;
#[cfg(not(loom))]
use transport::Memory;
#[cfg(not(loom))]
pub use transport::{Options, SharedMemory};
