//! A received file while its bytes arrive: where each of them goes, and how it is stored.

use std::ops::Range;
use std::os::fd::AsFd;

use rustix::event::PollFlags;
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{SpliceFlags, splice};

use crate::finished::FinishedFile;
use crate::flush::flush;
use crate::io::{read, retry, write_all};
use crate::memory::SharedBytes;
use crate::progress::Counter;
use crate::unnamed::UnnamedFile;
use crate::{DataMap, Directory, Error, FileHeader, FileName, Run, file_system};

/// Bytes that are stored with one write, beginning at a multiple of this.
///
/// The kernel takes a write into folios as large as its length and place allow. Small ones cost more
/// for each byte; for very large ones (2 MiB) it must find, and may have to make, as much memory in one
/// piece, which often takes longer than the copying does. See `docs/performance.md`.
pub(crate) const PIECE: usize = 512 * 1024;

/// A peer's copy while it is being received.
///
/// It is a file without a name (`O_TMPFILE`): if the process dies, the kernel takes the space
/// back. On file systems that have no such files, and for an instant while it replaces an existing file,
/// it has a hidden name, which must be removed by another process if this one dies
/// ([`Directory::remove`] by the same name).
///
/// Only a finished file ([`ReceivedFile::finish`]) can be committed, as one that is being received may be longer
/// than what is stored in it.
///
/// ```
/// use ipc_core::{Directory, Existing, FileHeader, FileName, ReceivedFile};
///
/// let root = tempfile::tempdir()?;
/// let directory = Directory::open(root.path())?;
/// let name = FileName::new(b"greeting")?;
/// let header = FileHeader::new(name.clone(), Some(5), 0o644, (0, 0))?;
///
/// let mut file = ReceivedFile::create(&directory, &header, FileName::new(b".hidden")?)?;
/// file.write_all(b"hello")?;
/// assert_eq!(std::fs::read_dir(root.path())?.count(), 0, "no name yet");
///
/// file.finish()?.commit(&name, Existing::Replace)?;
/// assert_eq!(std::fs::read(root.path().join("greeting"))?, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ReceivedFile<'d> {
    file: UnnamedFile<'d>,
    /// Where the source holds data, and so this.
    map: DataMap,
    /// Bytes of data stored.
    length: u64,
    /// Where the next byte would go that the kernel is given.
    offset: u64,
    /// Size of the file as it is, in bytes.
    size: u64,
    /// Where the peer counts what it has done.
    counter: Option<Counter<'d>>,
}

impl<'d> ReceivedFile<'d> {
    /// Creates an empty file in `directory`, with the permissions of the source less the umask,
    /// and allocates the source's size if it is known.
    ///
    /// # Errors
    /// [`Error::Path`], for want of space too.
    pub fn create(
        directory: &'d Directory,
        header: &FileHeader,
        hidden: FileName,
    ) -> Result<Self, Error> {
        Self::create_with_holes(directory, header, DataMap::dense(header.size()), hidden)
    }

    /// The same for a file that has data only where `map` says so: what it is given to store is
    /// that data, extent after extent.
    ///
    /// # Errors
    /// As [`ReceivedFile::create`].
    pub fn create_with_holes(
        directory: &'d Directory,
        header: &FileHeader,
        map: DataMap,
        hidden: FileName,
    ) -> Result<Self, Error> {
        let file = UnnamedFile::create(directory, header.mode(), hidden)?;
        let (length, offset, size, counter) = (0, 0, 0, None);
        let mut file = Self { file, map, length, offset, size, counter };
        if file.map.length().is_some() {
            file.allocate()?;
        }
        Ok(file)
    }

    /// Counts from now on what it stores or reads back.
    pub(crate) fn count_with(&mut self, counter: Counter<'d>) {
        self.counter = Some(counter);
    }

    fn count(&self, bytes: usize) {
        if let Some(counter) = self.counter {
            counter.add(bytes);
        }
    }

    /// Reserves room for all data where that makes the writes cheaper. It also makes a full disk known early;
    /// any other error is no reason not to write.
    fn allocate(&mut self) -> Result<(), Error> {
        if !file_system::gains_by_reserving(&self.file) {
            return Ok(());
        }
        // To reserve nothing is an error.
        for Run { offset, length } in self.map.runs().filter(|run| run.length > 0) {
            let reserved = retry_on_intr(|| {
                rustix::fs::fallocate(&self.file, FallocateFlags::empty(), offset, length)
            });
            match reserved {
                Ok(()) => self.size = offset + length,
                Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                    return Err(self.failed("reserve space in")(errno.into()));
                }
                Err(_) => {
                    // A part of it may have been reserved.
                    let stat = retry_on_intr(|| rustix::fs::fstat(&self.file));
                    let stat =
                        stat.map_err(|errno| self.failed("examine a file in")(errno.into()))?;
                    self.size = u64::try_from(stat.st_size).unwrap_or(0);
                    break;
                }
            }
        }
        Ok(())
    }

    /// The place of the next byte of data, and how many can follow it there.
    fn place(&self) -> Run {
        // What is more than was announced goes behind the end.
        let behind = || Run { offset: self.map.size_at(self.length), length: u64::MAX };
        self.map.find(self.length).unwrap_or_else(behind)
    }

    /// Lets the kernel go on at `offset`.
    fn go_to(&mut self, offset: u64) -> Result<(), Error> {
        if self.offset != offset {
            retry_on_intr(|| rustix::fs::seek(&self.file, SeekFrom::Start(offset)))
                .map_err(|errno| self.failed("seek in a file in")(errno.into()))?;
            self.offset = offset;
        }
        Ok(())
    }

    /// Notes that so many bytes of data have been stored.
    fn note_stored(&mut self, bytes: usize) {
        self.length += bytes as u64;
        self.offset += bytes as u64;
        self.size = self.size.max(self.offset);
        self.count(bytes);
    }

    /// Bytes that are best stored with one call, from where the file ends now: up to a multiple of
    /// 512 KiB, or to the next hole.
    #[must_use]
    pub fn piece(&self) -> usize {
        let Run { offset, length } = self.place();
        let aligned = PIECE - usize::try_from(offset % PIECE as u64).unwrap_or(0);
        aligned.min(usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// Appends `bytes`, in the best pieces.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write_pieces(bytes.len(), |fd, piece| write_all(fd, &bytes[piece]))
    }

    /// Appends memory that other processes share, as [`ReceivedFile::write_all`] does a buffer.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn write_all_shared(&mut self, bytes: SharedBytes<'_>) -> Result<(), Error> {
        self.write_pieces(bytes.len(), |fd, piece| bytes.part(piece).write_all(fd))
    }

    /// Appends `length` bytes, of which `write` is given one piece after the other.
    fn write_pieces(
        &mut self,
        length: usize,
        write: impl Fn(&UnnamedFile<'_>, Range<usize>) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        let mut written = 0;
        while written < length {
            let piece = self.piece().min(length - written);
            self.go_to(self.place().offset)?;
            write(&self.file, written..written + piece)
                .map_err(self.failed("write to a file in"))?;
            self.note_stored(piece);
            written += piece;
        }
        Ok(())
    }

    /// Appends `length` bytes that `pipe` holds, without a copy through this process's memory.
    ///
    /// # Errors
    /// [`Error::Path`]; [`std::io::ErrorKind::UnexpectedEof`] in it if the pipe holds less and
    /// nobody writes to it.
    pub fn splice_all(&mut self, pipe: impl AsFd, length: usize) -> Result<(), Error> {
        let mut left = length;
        while left > 0 {
            let Run { offset, length } = self.place();
            let most = left.min(usize::try_from(length).unwrap_or(usize::MAX));
            self.go_to(offset)?;
            let moved = retry(&self.file, PollFlags::OUT, || {
                splice(&pipe, None, &self.file, None, most, SpliceFlags::MOVE)
            });
            let bytes = match moved {
                Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
                // Not every file system can. By the other way the bytes are stored, or it tells why not.
                Err(_) => self.copy_from(&pipe, most),
                moved => moved,
            };
            let bytes = bytes.map_err(self.failed("write to a file in"))?;
            self.note_stored(bytes);
            left = left.saturating_sub(bytes);
        }
        Ok(())
    }

    /// Moves some bytes from `pipe`, `most` at most, by way of memory.
    fn copy_from(&self, pipe: impl AsFd, most: usize) -> std::io::Result<usize> {
        let mut buffer = vec![0; most.min(1 << 16)];
        match read(pipe, &mut buffer)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            bytes => write_all(&self.file, buffer.get(..bytes).unwrap_or_default()).map(|()| bytes),
        }
    }

    /// Whether it has its hidden name, so that its process must not be killed carelessly.
    pub(crate) fn is_under_hidden_name(&self) -> bool {
        self.file.is_under_hidden_name()
    }

    /// Leaves it to the end of the process to free its room, which may take a while.
    pub(crate) fn abandon(self) {
        self.file.abandon();
    }

    /// Takes back all but the first `length` bytes of data.
    ///
    /// # Panics
    /// If fewer are stored.
    pub fn take_back(&mut self, length: u64) {
        assert!(
            length <= self.length,
            "{length} bytes of {} are not to be taken back",
            self.length
        );
        // What comes next goes over it.
        self.length = length;
    }

    /// Bytes of data stored so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Ends the file after the last byte stored, or after the hole that follows it: gives back what was
    /// allocated beyond. Errors that the file system would tell at its close are told here.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn finish(self) -> Result<FinishedFile<'d>, Error> {
        let size = self.map.size_at(self.length);
        if self.size != size {
            retry(&self.file, PollFlags::OUT, || rustix::fs::ftruncate(&self.file, size))
                .map_err(self.failed("set the size of a file in"))?;
        }
        flush(&self.file).map_err(self.failed("write to a file in"))?;
        Ok(FinishedFile::new(self.file, self.length, size, self.counter))
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        self.file.failed(operation)
    }
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::Existing;
    use std::fs;

    fn name(text: &str) -> FileName {
        FileName::new(text.as_bytes()).unwrap()
    }

    fn create(directory: &Directory, size: Option<u64>) -> ReceivedFile<'_> {
        let header = FileHeader::new(name("data"), size, 0o644, (0, 0)).unwrap();
        ReceivedFile::create(directory, &header, name(".hidden")).unwrap()
    }

    #[test]
    fn a_dropped_file_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        let mut file = create(&directory, Some(3));
        file.write_all(b"new").unwrap();
        drop(file);
        drop(create(&directory, Some(3)).finish().unwrap());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_taken_back_is_stored_anew() {
        for announced in [None, Some(3), Some(8)] {
            let root = tempfile::tempdir().unwrap();
            let directory = Directory::open(root.path()).unwrap();
            let mut file = create(&directory, announced);
            file.write_all(b"newtorn").unwrap();
            file.take_back(2);
            assert_eq!(file.length(), 2);
            file.write_all(b"w").unwrap();
            file.finish().unwrap().commit(&name("final"), Existing::Keep).unwrap();
            assert_eq!(fs::read(root.path().join("final")).unwrap(), b"new", "{announced:?}");
        }
    }

    #[test]
    #[should_panic(expected = "4096 bytes of 5")]
    fn more_than_is_stored_cannot_be_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        let mut file = create(&directory, Some(1 << 20));
        file.write_all(b"hello").unwrap();
        file.take_back(4096);
    }

    #[test]
    fn the_size_is_what_was_written_whatever_was_announced() {
        for announced in [None, Some(0), Some(1), Some(3), Some(1 << 20)] {
            let root = tempfile::tempdir().unwrap();
            let directory = Directory::open(root.path()).unwrap();
            let mut file = create(&directory, announced);
            file.write_all(b"new").unwrap();
            file.finish().unwrap().commit(&name("final"), Existing::Keep).unwrap();
            let metadata = fs::metadata(root.path().join("final")).unwrap();
            assert_eq!(metadata.len(), 3, "{announced:?}");
            assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) <= 16, "{announced:?}");
        }
    }
}
