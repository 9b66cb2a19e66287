//! The file being copied: opened once, and watched for changes.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::{FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::retry_on_intr;

use crate::digest::Hasher;
use crate::io::{SLICE, at_most, read_at, wait_ready};
use crate::memory::{Room, SharedBytes};
use crate::{DataMap, Digest, Error, FileHeader, FileName, Run};

/// The file being copied, or a stream, of which only its end tells the length.
///
/// ```
/// use ipc_core::Source;
///
/// let source = Source::open("/proc/version".as_ref())?;
/// assert_eq!(source.header().size(), None, "/proc does not tell sizes");
///
/// let mut buffer = [0; 65536];
/// let mut reader = source.reader();
/// let bytes = reader.fill(&mut buffer, || true)?;
/// assert!(buffer[..bytes].starts_with(b"Linux"));
/// assert!(reader.at_end());
/// # Ok::<(), ipc_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Source {
    fd: OwnedFd,
    path: PathBuf,
    header: FileHeader,
    /// Where it holds data, as far as that is to be told from holes.
    map: DataMap,
    /// The same, with all holes taken for data.
    dense: DataMap,
    /// What identifies a regular file and its contents; `None` for pipes, terminals and the like.
    version: Option<Version>,
    /// Whether what is read of it is to be compared with what peers have stored.
    is_verified: bool,
}

/// A regular file as it was at one moment.
///
/// The change time is left out on purpose: it also moves on `chmod` and on a new hard link, which
/// leave the contents alone.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, u32),
}

impl Source {
    /// Opens `path` for copying: a regular file, or a FIFO, whose opening waits for a writer.
    ///
    /// # Errors
    /// [`Error::NoFileName`], [`Error::Path`] if it cannot be opened, [`Error::NotCopyable`] for
    /// directories, devices and sockets.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let name = FileName::of_path(path)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))
            .map_err(Error::at("open", path))?;
        await_write(&fd);
        let stat = retry_on_intr(|| rustix::fs::fstat(&fd))
            .map_err(Error::at("read the size of", path))?;
        let not_copyable =
            |kind, advice| Err(Error::NotCopyable { path: path.to_owned(), kind, advice });
        let by_stdin = "; redirect it to standard input and give - as FILE";
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let size = honest_size(&fd, &stat).map_err(Error::at("read", path))?;
                // To look for holes can take as long as the file has pages.
                let holes = size.filter(|&size| occupied(&stat) < size);
                let map = holes.map(|size| DataMap::of(&fd, size));
                let source = Self::new(fd, path, name, size, &stat)?;
                Ok(match map {
                    Some(map) => Self { map, ..source },
                    None => source,
                })
            }
            FileType::Fifo => Self::new(fd, path, name, None, &stat),
            FileType::Directory => not_copyable(
                "a directory",
                "; copy its files, or a tar of it through standard input",
            ),
            FileType::CharacterDevice => not_copyable("a character device", by_stdin),
            FileType::BlockDevice => not_copyable("a block device", by_stdin),
            _ => not_copyable("not a file", ""),
        }
    }

    /// Takes an open descriptor, standard input say, as a source under `name`.
    ///
    /// It is read from where it stands to its end, whatever its kind. Unless it is a regular file, the
    /// permissions are those of a new file: those of a pipe are its own.
    ///
    /// # Errors
    /// [`Error::Path`] if it cannot be examined, [`Error::NotCopyable`] for a directory.
    pub fn from_fd(fd: OwnedFd, name: FileName) -> Result<Self, Error> {
        let path: &Path = name.as_ref();
        await_write(&fd);
        let stat = retry_on_intr(|| rustix::fs::fstat(&fd)).map_err(Error::at("examine", path))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(Error::NotCopyable {
                path: path.to_owned(),
                kind: "a directory",
                advice: "",
            });
        }
        let path = path.to_owned();
        let mut source = Self::new(fd, &path, name, None, &stat)?;
        if !source.is_regular() {
            // That of a pipe says nothing of what comes through it.
            source.header = source.header.with_mode(0o666)?;
        }
        Ok(source)
    }

    fn new(
        fd: OwnedFd,
        path: &Path,
        name: FileName,
        size: Option<u64>,
        stat: &Stat,
    ) -> Result<Self, Error> {
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let version = regular.then(|| Version::of(stat));
        let header = FileHeader::new(name, size, stat.st_mode & 0o7777, modified(stat))?;
        let (path, map) = (path.to_owned(), DataMap::dense(size));
        Ok(Self { fd, path, header, dense: map.clone(), map, version, is_verified: false })
    }

    /// The same source under another name: what received files are called is the caller's choice.
    #[must_use]
    pub fn with_name(mut self, name: FileName) -> Self {
        self.header = self.header.with_name(name);
        self
    }

    /// The same source, of which every reader from the start makes a digest.
    #[must_use]
    pub fn with_digest(mut self) -> Self {
        self.is_verified = true;
        self
    }

    /// The same source, of which holes are copied as the zeros that they read as.
    #[must_use]
    pub fn with_holes_as_data(self) -> Self {
        Self { map: self.dense.clone(), ..self }
    }

    /// Where it holds data. Only that is read, travels, and is stored.
    #[must_use]
    pub fn map(&self) -> &DataMap {
        &self.map
    }

    /// Whether readers make a digest.
    pub(crate) fn is_verified(&self) -> bool {
        self.is_verified
    }

    /// What the peers are told of it.
    #[must_use]
    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    /// The path it was opened by; for [`Source::from_fd`] the name that was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `stat` is of this very file.
    pub(crate) fn is(&self, stat: &Stat) -> bool {
        self.version
            .as_ref()
            .is_some_and(|version| (version.device, version.inode) == (stat.st_dev, stat.st_ino))
    }

    /// Checks that a regular file is still what it was when it was opened: size and modification
    /// time. A stream always is, as each of its bytes is read only once.
    ///
    /// # Errors
    /// [`Error::SourceChanged`], or [`Error::Path`] if it cannot be examined.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        let Some(opened) = &self.version else { return Ok(()) };
        let stat = retry_on_intr(|| rustix::fs::fstat(&self.fd))
            .map_err(Error::at("examine", &self.path))?;
        if Version::of(&stat) == *opened {
            Ok(())
        } else {
            Err(Error::SourceChanged(self.path.clone()))
        }
    }

    /// A reader of all data. A stream can be read through once only.
    #[must_use]
    pub fn reader(&self) -> SourceReader<'_> {
        self.reader_from(0)
    }

    /// A reader that does not rely on what was a hole once.
    pub(crate) fn reader_of_holes_too(&self) -> SourceReader<'_> {
        SourceReader { map: &self.dense, ..self.reader() }
    }

    /// Whether every process that holds it can read it at its own pace: a file, by its size, and no
    /// stream.
    #[must_use]
    pub fn can_be_shared(&self) -> bool {
        self.header.size().is_some()
    }

    /// Whether it is a regular file, whatever its size says, and so not a stream that can be read only once.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        self.version.is_some()
    }

    /// A reader that begins at this position in the data of a source that can be shared.
    pub(crate) fn reader_from(&self, position: u64) -> SourceReader<'_> {
        let hasher = (self.is_verified && position == 0).then(Hasher::default);
        SourceReader { source: self, map: &self.map, position, ended: false, hasher, hashed: 0 }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Version {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: modified(stat),
        }
    }
}

/// Waits for the end of a `write` that is under way.
///
/// It has set the modification time at its start already and would go on changing bytes without a
/// trace. To look for data takes the lock that it holds (seen on ext4 and tmpfs); whoever writes later
/// moves the time. What cannot seek has nothing to wait for.
fn await_write(fd: &OwnedFd) {
    if let Ok(position) = rustix::fs::tell(fd) {
        let _ = retry_on_intr(|| rustix::fs::seek(fd, SeekFrom::Data(position)));
        let _ = retry_on_intr(|| rustix::fs::seek(fd, SeekFrom::Start(position)));
    }
}

/// The size of a regular file, in bytes, if it is that of its contents.
///
/// Files in `/proc` have a size of 0 whatever they hold, and files in `/sys` that of a page: such a file
/// has no last byte where its size says.
fn honest_size(fd: &OwnedFd, stat: &Stat) -> std::io::Result<Option<u64>> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let Some(last) = size.checked_sub(1) else { return Ok(None) };
    Ok((read_at(fd, &mut [0], last)? == 1).then_some(size))
}

/// Bytes that the file takes on its disk.
fn occupied(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
}

fn modified(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

/// Reads the data of a [`Source`] in order, in pieces of the caller's size.
#[derive(Debug)]
pub struct SourceReader<'s> {
    source: &'s Source,
    map: &'s DataMap,
    /// Bytes of data read so far.
    position: u64,
    ended: bool,
    hasher: Option<Hasher>,
    /// Bytes of the file that are in the digest, holes included.
    hashed: u64,
}

impl SourceReader<'_> {
    /// Fills `buffer`; less than its length only at the source's end or when told to stop.
    ///
    /// Before it waits for a stream that has nothing to read, a [`SLICE`] at most, it asks
    /// `keep_waiting`; once that says no, what has been read so far is returned.
    ///
    /// # Errors
    /// [`Error::SourceChanged`] where the change shows by the size, [`Error::Path`] if reading fails.
    pub fn fill(
        &mut self,
        buffer: &mut [u8],
        keep_waiting: impl FnMut() -> bool,
    ) -> Result<usize, Error> {
        self.fill_room(buffer, keep_waiting)
    }

    /// Fills memory that other processes share, as [`SourceReader::fill`] does a buffer.
    ///
    /// # Errors
    /// As [`SourceReader::fill`].
    pub fn fill_shared(
        &mut self,
        bytes: SharedBytes<'_>,
        keep_waiting: impl FnMut() -> bool,
    ) -> Result<usize, Error> {
        self.fill_room(bytes, keep_waiting)
    }

    fn fill_room(
        &mut self,
        room: impl Room,
        keep_waiting: impl FnMut() -> bool,
    ) -> Result<usize, Error> {
        let bytes = match self.map.length() {
            _ if self.ended => 0,
            Some(length) => self.fill_from_file(room, length)?,
            None => self.fill_from_stream(room, keep_waiting)?,
        };
        if self.ended
            && let Some(size) = self.source.header.size()
        {
            self.hash_hole(size);
        }
        Ok(bytes)
    }

    /// Adds what was read at `offset` to the digest, and the hole before it.
    fn hash(&mut self, offset: u64, room: &impl Room, part: Range<usize>) {
        self.hash_hole(offset);
        if let Some(hasher) = &mut self.hasher {
            self.hashed += part.len() as u64;
            room.hash(part, hasher);
        }
    }

    /// Adds the hole that ends at `end` to the digest.
    fn hash_hole(&mut self, end: u64) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update_with_zeros(end.saturating_sub(self.hashed));
            self.hashed = end;
        }
    }

    /// What all that it has read comes to, at the source's end, if that was asked for
    /// ([`Source::with_digest`]).
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.hasher.as_ref().filter(|_| self.ended).map(Hasher::digest)
    }

    /// Whether the source is known to have been read to its end.
    #[must_use]
    pub fn at_end(&self) -> bool {
        self.ended
    }

    /// Bytes of data read so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// `pread` to the size at open and no further, so that a file that grows has an end.
    fn fill_from_file(&mut self, mut room: impl Room, length: u64) -> Result<usize, Error> {
        let mut filled = 0;
        while let Some(Run { offset, length }) = self.map.find(self.position)
            && filled < room.size()
        {
            let wanted = at_most(length, room.size() - filled);
            let bytes = room
                .read_at(filled..filled + wanted, self.source.as_fd(), offset)
                .map_err(Error::at("read", &self.source.path))?;
            if bytes < wanted {
                // It was shortened. (`read_at` returns less only at the end.)
                self.source.check_unchanged()?;
                self.ended = true;
            }
            self.position += bytes as u64;
            self.hash(offset, &room, filled..filled + bytes);
            filled += bytes;
            if self.ended {
                break;
            }
        }
        self.ended |= self.position >= length;
        Ok(filled)
    }

    fn fill_from_stream(
        &mut self,
        mut room: impl Room,
        mut keep_waiting: impl FnMut() -> bool,
    ) -> Result<usize, Error> {
        let fd = &self.source.fd;
        let failed = || Error::at("read", &self.source.path);
        let mut filled = 0;
        while filled < room.size() {
            if !wait_ready(fd, PollFlags::IN, Some(Duration::ZERO)).map_err(failed())? {
                if !keep_waiting() {
                    break;
                }
                wait_ready(fd, PollFlags::IN, Some(SLICE)).map_err(failed())?;
                continue;
            }
            match room.read(filled, fd.as_fd()).map_err(failed())? {
                0 => {
                    self.ended = true;
                    break;
                }
                bytes => {
                    self.hash(self.position, &room, filled..filled + bytes);
                    self.position += bytes as u64;
                    filled += bytes;
                }
            }
            // An empty file that somebody fills as fast as it is read would never end.
            self.source.check_unchanged()?;
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read_all(source: &Source, piece: usize) -> Result<Vec<u8>, Error> {
        let mut reader = source.reader();
        let mut all = Vec::new();
        let mut buffer = vec![0; piece];
        while !reader.at_end() {
            let bytes = reader.fill(&mut buffer, || true)?;
            all.extend_from_slice(&buffer[..bytes]);
        }
        Ok(all)
    }

    #[test]
    fn a_file_is_read_whole_in_any_piece() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let contents: Vec<u8> = (0..=255).collect();
        file.write_all(&contents).unwrap();
        let source = Source::open(file.path()).unwrap();
        assert_eq!(source.header().size(), Some(256));
        for piece in [1, 7, 255, 256, 257] {
            assert_eq!(read_all(&source, piece).unwrap(), contents, "{piece}");
        }
    }

    #[test]
    fn a_file_that_changes_is_noticed() {
        for change in ["grow", "shrink", "overwrite"] {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&[1; 1000]).unwrap();
            let source = Source::open(file.path()).unwrap();
            source.check_unchanged().unwrap();
            match change {
                "grow" => file.write_all(b"x").unwrap(),
                "shrink" => file.as_file().set_len(10).unwrap(),
                // As a write does, but also where the clock of files is coarse.
                _ => file.as_file().set_modified(std::time::UNIX_EPOCH).unwrap(),
            }
            let error = source.check_unchanged().unwrap_err();
            assert!(matches!(error, Error::SourceChanged(_)), "{change}: {error}");
        }
    }

    #[test]
    fn a_truncated_file_ends_in_an_error_and_not_in_zeros() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[1; 1000]).unwrap();
        let source = Source::open(file.path()).unwrap();
        file.as_file().set_len(500).unwrap();
        assert!(matches!(read_all(&source, 64), Err(Error::SourceChanged(_))));
    }

    #[test]
    fn holes_are_not_read_and_yet_in_the_digest() {
        use std::os::unix::fs::FileExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(3 << 20).unwrap();
        file.as_file().write_all_at(&[1; 5000], 1 << 20).unwrap();
        let whole = std::fs::read(file.path()).unwrap();
        let source = Source::open(file.path()).unwrap().with_digest();
        for piece in [1000, 4096, 1 << 20] {
            let mut reader = source.reader();
            let mut buffer = vec![0; piece];
            while !reader.at_end() {
                reader.fill(&mut buffer, || true).unwrap();
            }
            assert!(reader.position() < 1 << 20);
            assert_eq!(reader.digest().unwrap().as_bytes(), blake3::hash(&whole).as_bytes());
        }
        assert_eq!(read_all(&source.with_holes_as_data(), 1 << 20).unwrap(), whole);
    }

    #[test]
    fn what_was_a_hole_is_read_when_all_is_read_again() {
        use std::os::unix::fs::FileExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(3 << 20).unwrap();
        let source = Source::open(file.path()).unwrap().with_digest();
        let digest = |mut reader: SourceReader<'_>| {
            let mut buffer = vec![0; 1 << 20];
            while !reader.at_end() {
                reader.fill(&mut buffer, || true).unwrap();
            }
            reader.digest()
        };
        assert_eq!(digest(source.reader()), digest(source.reader_of_holes_too()));
        file.as_file().write_all_at(&[1], 1 << 20).unwrap();
        assert_ne!(digest(source.reader()), digest(source.reader_of_holes_too()));
    }

    #[test]
    fn an_empty_file_that_is_being_filled_is_noticed() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let source = Source::open(file.path()).unwrap();
        file.write_all(b"late").unwrap();
        assert!(matches!(read_all(&source, 64), Err(Error::SourceChanged(_))));
    }

    #[test]
    fn a_stream_without_data_asks_whether_to_go_on() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let source = Source::from_fd(reader, FileName::new(b"stdin").unwrap()).unwrap();
        let mut asked = 0;
        let mut reader = source.reader();
        let bytes = reader.fill(&mut [0; 10], || {
            asked += 1;
            asked < 2
        });
        assert_eq!((bytes.unwrap(), asked, reader.at_end()), (0, 2, false));
    }

    #[test]
    fn only_files_and_fifos_are_copied_by_name() {
        for path in ["/", "/tmp", "/dev/zero", "/nonexistent", ".."] {
            assert!(Source::open(path.as_ref()).is_err(), "{path}");
        }
    }
}
