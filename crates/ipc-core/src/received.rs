//! A received file: without a name until it is whole, then given its final name in one step.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::PollFlags;
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{SpliceFlags, splice};

use crate::digest::Hasher;
use crate::io::{read, read_at, retry, write_all};
use crate::memory::SharedBytes;
use crate::progress::Counter;
use crate::{DataMap, Digest, Directory, Error, FileHeader, FileName, Run, file_system};

/// Bytes that are stored with one write, beginning at a multiple of this.
///
/// The kernel takes a write into folios as large as its length and place allow. Small ones cost more
/// for each byte; for very large ones (2 MiB) it must find, and may have to make, as much memory in one
/// piece, which often takes longer than the copying does. See `docs/performance.md`.
const PIECE: usize = 512 * 1024;

/// What happens where the final name exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// It is replaced, in one step.
    #[default]
    Replace,
    /// It stays, and the peer fails.
    Keep,
}

/// What tells a file from all others as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    /// The number of the file system.
    pub(crate) device: u64,
    /// Its number there.
    pub(crate) inode: u64,
}

impl FileId {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// A peer's copy while it is being received.
///
/// It is a file without a name (`O_TMPFILE`): if the process dies, the kernel takes the space
/// back. On file systems that have no such files, and for an instant while it replaces an existing file,
/// it has a hidden name, which whoever learns of the process's death must remove
/// ([`Directory::remove`] by the same name).
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
/// file.finish()?;
/// file.commit(&name, Existing::Replace)?;
/// assert_eq!(std::fs::read(root.path().join("greeting"))?, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ReceivedFile<'d> {
    directory: &'d Directory,
    fd: OwnedFd,
    /// A name to use where a file must have one before it may have its final one.
    hidden: FileName,
    /// Whether it stands under its hidden name now.
    has_hidden_name: bool,
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
        let failed = || Error::at("create a file in", directory.path());
        let mode = Mode::from_raw_mode(header.mode() & 0o777);
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let nameless = retry(directory, PollFlags::empty(), || {
            rustix::fs::openat(directory, ".", flags | OFlags::TMPFILE, mode)
        });
        let (fd, has_hidden_name) = match nameless {
            Ok(fd) => (fd, false),
            Err(error) if is_unsupported(&error) => {
                let flags = flags | OFlags::CREATE | OFlags::EXCL;
                let fd = retry(directory, PollFlags::empty(), || {
                    rustix::fs::openat(directory, hidden.as_bytes(), flags, mode)
                });
                (fd.map_err(failed())?, true)
            }
            Err(error) => return Err(failed()(error)),
        };
        let (length, offset, size, counter) = (0, 0, 0, None);
        let mut file =
            Self { directory, fd, hidden, has_hidden_name, map, length, offset, size, counter };
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
        if !file_system::gains_by_reserving(&self.fd) {
            return Ok(());
        }
        // To reserve nothing is an error.
        for Run { offset, length } in self.map.runs().filter(|run| run.length > 0) {
            let reserved = retry_on_intr(|| {
                rustix::fs::fallocate(&self.fd, FallocateFlags::empty(), offset, length)
            });
            match reserved {
                Ok(()) => self.size = offset + length,
                Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                    return Err(self.failed("reserve space in")(errno.into()));
                }
                Err(_) => {
                    // A part of it may have been reserved.
                    let stat = retry_on_intr(|| rustix::fs::fstat(&self.fd));
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
            retry_on_intr(|| rustix::fs::seek(&self.fd, SeekFrom::Start(offset)))
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
        write: impl Fn(&OwnedFd, Range<usize>) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        let mut written = 0;
        while written < length {
            let piece = self.piece().min(length - written);
            self.go_to(self.place().offset)?;
            write(&self.fd, written..written + piece).map_err(self.failed("write to a file in"))?;
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
            let moved = retry(&self.fd, PollFlags::OUT, || {
                splice(&pipe, None, &self.fd, None, most, SpliceFlags::MOVE)
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
            bytes => write_all(&self.fd, buffer.get(..bytes).unwrap_or_default()).map(|()| bytes),
        }
    }

    /// Which file it is.
    pub(crate) fn id(&self) -> Result<FileId, Error> {
        let stat = retry_on_intr(|| rustix::fs::fstat(&self.fd));
        stat.map(|stat| FileId::of(&stat))
            .map_err(|errno| self.failed("examine a file in")(errno.into()))
    }

    /// Whether it stands under its hidden name, so that its process must not be killed carelessly.
    pub(crate) fn is_under_hidden_name(&self) -> bool {
        self.has_hidden_name
    }

    /// Takes back all but the first `length` bytes of data, which is no more than are stored.
    pub fn take_back(&mut self, length: u64) {
        // What comes next goes over it.
        self.length = length;
    }

    /// Bytes of data stored so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Ends the file after the last byte stored, or after the hole that follows it: gives back what was
    /// allocated beyond.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn finish(&mut self) -> Result<(), Error> {
        let size = self.map.size_at(self.length);
        if self.size != size {
            retry(&self.fd, PollFlags::OUT, || rustix::fs::ftruncate(&self.fd, size))
                .map_err(self.failed("set the size of a file in"))?;
            self.size = size;
        }
        Ok(())
    }

    /// Gives the finished file the permissions and the modification time in `header`.
    ///
    /// Who may read, write and execute it, and no more: a program that runs as its owner would run as
    /// another one's copy.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn preserve(&self, header: &FileHeader) -> Result<(), Error> {
        let mode = Mode::from_raw_mode(header.mode() & 0o777);
        retry_on_intr(|| rustix::fs::fchmod(&self.fd, mode))
            .map_err(|errno| self.failed("set the mode of a file in")(errno.into()))?;
        let (seconds, nanoseconds) = header.modified();
        let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let modified = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
        let times = Timestamps { last_access: omitted, last_modification: modified };
        retry_on_intr(|| rustix::fs::futimens(&self.fd, &times))
            .map_err(|errno| self.failed("set the time of a file in")(errno.into()))
    }

    /// Waits until the bytes are on the disk.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn sync(&self) -> Result<(), Error> {
        retry_on_intr(|| rustix::fs::fsync(&self.fd))
            .map_err(|errno| self.failed("sync a file in")(errno.into()))
    }

    /// Reads back the whole finished file, holes included; what it comes to. If it `is_synced`, then from the disk.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn read_back(&self, is_synced: bool) -> Result<Digest, Error> {
        if is_synced {
            // What is on the disk may go from memory. If it does not, that is no failure.
            let _ = rustix::fs::fadvise(&self.fd, 0, None, rustix::fs::Advice::DontNeed);
        }
        let (mut hasher, mut offset) = (Hasher::default(), 0);
        let mut buffer = vec![0; PIECE];
        while offset < self.size {
            let left = usize::try_from(self.size - offset).unwrap_or(usize::MAX);
            let piece = buffer.get_mut(..left.min(PIECE)).unwrap_or_default();
            let bytes = read_at(&self.fd, piece, offset)
                .and_then(|bytes| match bytes {
                    0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
                    bytes => Ok(bytes),
                })
                .map_err(self.failed("read back a file in"))?;
            hasher.update(piece.get(..bytes).unwrap_or_default());
            offset += bytes as u64;
            self.count(bytes);
        }
        Ok(hasher.digest())
    }

    /// Gives the file its final name.
    ///
    /// # Errors
    /// [`Error::Path`], with [`std::io::ErrorKind::AlreadyExists`] under [`Existing::Keep`].
    pub fn commit(mut self, name: &FileName, existing: Existing) -> Result<(), Error> {
        let failed = |error| Error::at("store", self.directory.path().join(name))(error);
        if !self.has_hidden_name {
            match self.directory.try_link(&self.fd, name) {
                Err(Errno::EXIST) if existing == Existing::Replace => {
                    // linkat cannot replace; rename can, but wants a name to begin with.
                    self.directory.try_link(&self.fd, &self.hidden).map_err(failed)?;
                    self.has_hidden_name = true;
                }
                result => return result.map_err(failed),
            }
        }
        let renamed = match existing {
            Existing::Replace => {
                let (from, to) = (self.hidden.as_bytes(), name.as_bytes());
                retry_on_intr(|| rustix::fs::renameat(self.directory, from, self.directory, to))
            }
            // Unlike RENAME_NOREPLACE, a second link is known to every file system with links.
            Existing::Keep => self.directory.try_link(&self.fd, name),
        };
        renamed.map_err(failed)?;
        self.has_hidden_name = existing == Existing::Keep;
        Ok(())
    }

    fn failed(&self, operation: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        Error::at(operation, self.directory.path())
    }
}

/// A file that failed under its hidden name takes the name along.
impl Drop for ReceivedFile<'_> {
    fn drop(&mut self) {
        if self.has_hidden_name {
            // Nothing is left to do about a failure: whoever made the peer tries once more.
            let _ = self.directory.remove(&self.hidden);
        }
    }
}

/// Whether the file system does not know the operation at all.
///
/// `O_TMPFILE` on a kernel or file system without it opens the directory itself: `EISDIR`.
fn is_unsupported(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOSYS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn name(text: &str) -> FileName {
        FileName::new(text.as_bytes()).unwrap()
    }

    fn header(size: Option<u64>) -> FileHeader {
        FileHeader::new(name("data"), size, 0o644, (0, 0)).unwrap()
    }

    fn receive<'d>(directory: &'d Directory, size: Option<u64>, bytes: &[u8]) -> ReceivedFile<'d> {
        let mut file = ReceivedFile::create(directory, &header(size), name(".hidden")).unwrap();
        file.write_all(bytes).unwrap();
        file.finish().unwrap();
        file
    }

    /// The same file as a file system without `O_TMPFILE` has it.
    fn under_hidden_name(mut file: ReceivedFile<'_>) -> ReceivedFile<'_> {
        file.directory.try_link(&file.fd, &file.hidden).unwrap();
        file.has_hidden_name = true;
        file
    }

    #[test]
    fn an_existing_name_is_replaced_or_kept_and_nothing_else_stays() {
        for hidden_first in [false, true] {
            for (existing, expected) in [(Existing::Replace, "new"), (Existing::Keep, "old")] {
                let root = tempfile::tempdir().unwrap();
                let directory = Directory::open(root.path()).unwrap();
                fs::write(root.path().join("final"), "old").unwrap();
                let mut file = receive(&directory, Some(3), b"new");
                if hidden_first {
                    file = under_hidden_name(file);
                }
                let committed = file.commit(&name("final"), existing);
                assert_eq!(committed.is_ok(), existing == Existing::Replace);
                assert_eq!(fs::read_to_string(root.path().join("final")).unwrap(), expected);
                assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "only the final name");
            }
        }
    }

    #[test]
    fn a_new_name_is_given_from_either_kind_of_file() {
        for hidden_first in [false, true] {
            for existing in [Existing::Replace, Existing::Keep] {
                let root = tempfile::tempdir().unwrap();
                let directory = Directory::open(root.path()).unwrap();
                let mut file = receive(&directory, None, b"new");
                if hidden_first {
                    file = under_hidden_name(file);
                }
                file.commit(&name("final"), existing).unwrap();
                let names: Vec<_> = fs::read_dir(root.path())
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name())
                    .collect();
                assert_eq!(names, ["final"]);
            }
        }
    }

    #[test]
    fn a_dropped_file_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        drop(receive(&directory, Some(3), b"new"));
        drop(under_hidden_name(receive(&directory, Some(3), b"new")));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_taken_back_is_stored_anew() {
        for announced in [None, Some(3), Some(8)] {
            let root = tempfile::tempdir().unwrap();
            let directory = Directory::open(root.path()).unwrap();
            let mut file =
                ReceivedFile::create(&directory, &header(announced), name(".hidden")).unwrap();
            file.write_all(b"newtorn").unwrap();
            file.take_back(2);
            assert_eq!(file.length(), 2);
            file.write_all(b"w").unwrap();
            file.finish().unwrap();
            file.commit(&name("final"), Existing::Keep).unwrap();
            assert_eq!(fs::read(root.path().join("final")).unwrap(), b"new", "{announced:?}");
        }
    }

    #[test]
    fn the_size_is_what_was_written_whatever_was_announced() {
        for announced in [None, Some(0), Some(1), Some(3), Some(1 << 20)] {
            let root = tempfile::tempdir().unwrap();
            let directory = Directory::open(root.path()).unwrap();
            receive(&directory, announced, b"new").commit(&name("final"), Existing::Keep).unwrap();
            let metadata = fs::metadata(root.path().join("final")).unwrap();
            assert_eq!(metadata.len(), 3, "{announced:?}");
            assert!(std::os::unix::fs::MetadataExt::blocks(&metadata) <= 16, "{announced:?}");
        }
    }
}
