//! A received file that has all of its bytes: made like the source, on the disk, and under its final name.

use rustix::fs::{Mode, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::retry_on_intr;

use crate::digest::Hasher;
use crate::io::read_at;
use crate::progress::Counter;
use crate::received::PIECE;
use crate::unnamed::{FileId, UnnamedFile};
use crate::{Digest, Error, Existing, FileHeader, FileName};

/// A received file that ends where it is to end, and has no final name yet.
///
/// See [`ReceivedFile`](crate::ReceivedFile) for an example.
#[derive(Debug)]
pub struct FinishedFile<'d> {
    file: UnnamedFile<'d>,
    /// Bytes of data in it.
    length: u64,
    /// Its size in bytes, holes included.
    size: u64,
    /// Where the peer counts what it has done.
    counter: Option<Counter<'d>>,
}

impl<'d> FinishedFile<'d> {
    pub(crate) fn new(
        file: UnnamedFile<'d>,
        length: u64,
        size: u64,
        counter: Option<Counter<'d>>,
    ) -> Self {
        Self { file, length, size, counter }
    }

    /// Bytes of data in it.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Which file it is.
    pub(crate) fn id(&self) -> Result<FileId, Error> {
        self.file.id()
    }

    /// Leaves it to the end of the process to free its room, which may take a while.
    pub(crate) fn abandon(self) {
        self.file.abandon();
    }

    /// Gives it the permissions and the modification time in `header`.
    ///
    /// Who may read, write and execute it, and no more: a program that runs as its owner would run as
    /// another one's copy.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn preserve(&self, header: &FileHeader) -> Result<(), Error> {
        let mode = Mode::from_raw_mode(header.mode() & 0o777);
        retry_on_intr(|| rustix::fs::fchmod(&self.file, mode))
            .map_err(self.file.failed("set the mode of a file in"))?;
        let (seconds, nanoseconds) = header.modified();
        let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let modified = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
        let times = Timestamps { last_access: omitted, last_modification: modified };
        retry_on_intr(|| rustix::fs::futimens(&self.file, &times))
            .map_err(self.file.failed("set the time of a file in"))
    }

    /// Waits until the bytes are on the disk.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn sync(&self) -> Result<(), Error> {
        retry_on_intr(|| rustix::fs::fsync(&self.file)).map_err(self.file.failed("sync a file in"))
    }

    /// Reads back the whole file, holes included; what it comes to. If it `is_synced`, then from the disk.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn read_back(&self, is_synced: bool) -> Result<Digest, Error> {
        if is_synced {
            // What is on the disk may go from memory. If it does not, that is no failure.
            let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
        }
        let (mut hasher, mut offset) = (Hasher::default(), 0);
        let mut buffer = vec![0; PIECE];
        while offset < self.size {
            let left = usize::try_from(self.size - offset).unwrap_or(usize::MAX);
            let piece = buffer.get_mut(..left.min(PIECE)).unwrap_or_default();
            let bytes = read_at(&self.file, piece, offset)
                .and_then(|bytes| match bytes {
                    0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
                    bytes => Ok(bytes),
                })
                .map_err(self.file.failed("read back a file in"))?;
            hasher.update(piece.get(..bytes).unwrap_or_default());
            offset += bytes as u64;
            if let Some(counter) = self.counter {
                counter.add(bytes);
            }
        }
        Ok(hasher.digest())
    }

    /// Gives it its final name.
    ///
    /// # Errors
    /// [`Error::NotReplaced`]; [`Error::Path`], with [`std::io::ErrorKind::AlreadyExists`] under
    /// [`Existing::Keep`].
    pub fn commit(self, name: &FileName, existing: Existing) -> Result<(), Error> {
        self.file.give_name(name, existing)
    }
}
