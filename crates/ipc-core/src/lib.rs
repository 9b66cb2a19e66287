//! One file, many local processes: what every way of moving the bytes has in common.
//!
//! A *server* forks *n* *peers* and copies one file to all of them; every peer stores its own copy.
//! This crate has the processes, the naming and commit of received files, and the [`Transport`]
//! seam; `ipc-socket` and `ipc-shm` are two transports. Linux only (5.9 or newer).
//!
//! The way of a file, and where to read it:
//!
//! 1. [`Job`] (`job.rs`) is what is to be done; [`Job::check`] (`preflight.rs`) refuses what cannot succeed
//!    before anything is created. [`Source`] (`source.rs`) is the open file.
//! 2. [`copy()`] (`copy.rs`) opens the directories (`destinations.rs`), forks the [`Peers`] (`peers.rs`,
//!    `process.rs`), lets the [`Transport`] move the bytes, waits for the end of all, and has a [`Guard`]
//!    (`guard.rs`) remove what failed peers have left.
//! 3. Each peer (`peer.rs`) receives into a [`ReceivedFile`] (`received.rs`) that has no name yet.
//! 4. Over the control channel (`control.rs`) it says that it has everything; the server checks
//!    that the source is unchanged and tells it to commit; the file gets its final name.
//! 5. The [`Report`] (`report.rs`) says what became of each peer.
//!
//! # Promises
//!
//! A final name always is a whole copy of the source as it was when it was opened. A peer that
//! dies or fails harms no other. However a run ends, nothing else of it stays: see
//! [`ReceivedFile`] for the exceptions.
//!
//! The libraries never print, exit, start threads or touch signals; in the processes that they fork
//! ([`process::fork`]) no handler, panic hook or standard stream of the program is left. A program that uses them
//! should have `SIGCHLD` at its default (else no peer can be waited for) and ignore `SIGXFSZ` and `SIGPIPE`
//! (else the file size limit or a dead peer kills it where an error would do).
//!
//! # Example
//!
//! A transport that is no transport: every peer reads the source itself.
//!
//! ```standalone_crate
//! use ipc_core::*;
//!
//! struct Inherited { header: FileHeader, path: std::path::PathBuf }
//! struct Reading<'t>(&'t Inherited);
//!
//! // SAFETY: A peer opens the file that it reads, and uses no other descriptor.
//! unsafe impl Transport for Inherited {
//!     type Error = Error;
//!     type Connection<'t> = Reading<'t>;
//!     const DESCRIPTORS_PER_PEER: u64 = 0;
//!
//!     fn serve(&self, source: &Source, _: &mut Peers<'_>) -> Result<Served, Error> {
//!         Ok(Served::Everything { bytes: source.header().size().unwrap_or(0), digest: None })
//!     }
//!     fn connect<'t>(&'t self, _: PeerId, _: &'t ServerLink) -> Result<Reading<'t>, Error> {
//!         Ok(Reading(self))
//!     }
//! }
//!
//! impl Connection for Reading<'_> {
//!     type Error = Error;
//!
//!     fn header(&self) -> &FileHeader {
//!         &self.0.header
//!     }
//!     fn receive(self, file: &mut ReceivedFile<'_>) -> Result<Received, Error> {
//!         let path = &self.0.path;
//!         file.write_all(&std::fs::read(path).map_err(Error::at("read", path))?)?;
//!         Ok(Received::Everything)
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let root = tempfile::tempdir()?;
//! let path = root.path().join("greeting");
//! std::fs::write(&path, "hello")?;
//!
//! let source = Source::open(&path)?;
//! let transport = Inherited { header: source.header().clone(), path };
//! let job = Job {
//!     source,
//!     peers: PeerCount::new(2).ok_or("not a number of peers")?,
//!     directories: root.path().join("received").into(),
//!     name: "{peer}-{name}".parse()?,
//!     existing: Existing::Replace,
//!     sync: false,
//!     preserve: false,
//!     timeout: None,
//! };
//! let job = job.check::<Inherited>()?;
//! let report = copy(&job, &transport)?;
//! assert!(report.is_success(), "{report:?}");
//! assert_eq!(std::fs::read(root.path().join("received/1-greeting"))?, b"hello");
//! # Ok(())
//! # }
//! ```

mod asked;
mod control;
mod copy;
mod data_map;
mod destinations;
mod digest;
mod directories;
mod directory;
mod error;
mod file_name;
mod file_system;
mod finished;
mod flush;
#[cfg(fuzzing)]
pub mod fuzzing;
mod guard;
mod header;
pub mod io;
mod job;
mod kind;
pub mod memory;
mod peer;
mod peers;
mod preflight;
pub mod process;
mod progress;
mod reader;
mod received;
mod report;
mod size;
mod slow;
mod source;
mod template;
mod transport;
mod unnamed;
mod version;
mod watch;

pub use control::ServerLink;
pub use copy::{copy, copy_and_tell};
pub use data_map::{DataMap, Run};
pub use digest::Digest;
pub use directories::Directories;
pub use directory::Directory;
pub use error::{Error, describe, errno};
pub use file_name::FileName;
pub use finished::FinishedFile;
pub use guard::{CleanUp, Guard};
pub use header::FileHeader;
pub use job::{Job, PeerCount};
pub use kind::NotCopyable;
pub use peers::Peers;
pub use preflight::CheckedJob;
pub use reader::SourceReader;
pub use received::ReceivedFile;
pub use report::{Failure, Outcome, PeerId, PeerReport, Report};
pub use size::sizes;
pub use slow::{OnSlow, Patience};
pub use source::Source;
pub use template::{DirectoryTemplate, NameTemplate, TemplateError};
pub use transport::{Connection, Received, Served, Transport};
pub use unnamed::Existing;
pub use watch::{Activity, Event, PeerProgress};
