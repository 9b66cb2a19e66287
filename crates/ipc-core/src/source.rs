//! The file being copied: opened once, and watched for changes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use crate::io::read_at;
use crate::kind::{NotCopyable, copyable, is_nameless_pipe, open_unless_device};
use crate::reader::SourceReader;
use crate::version::{Version, at_rest, examine, modified};
use crate::{DataMap, Error, FileHeader, FileName};

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

impl Source {
    /// Opens `path` for copying: a regular file, or a FIFO, whose opening waits for a writer. Anything
    /// else is refused without being opened, as to open a device can have effects.
    ///
    /// A `write` to a regular file that is under way is waited for, and so is the clock, until every later
    /// one moves the modification time.
    ///
    /// # Errors
    /// [`Error::NoFileName`], [`Error::Path`] if it cannot be opened, [`Error::NotCopyable`] for
    /// directories, devices and sockets, [`Error::SourceChanged`] if it is written to all the time.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let name = FileName::of_path(path)?;
        let fd = open_unless_device(path)?;
        let stat = examine(&fd, path)?;
        match copyable(&stat, path)? {
            FileType::RegularFile => {
                let (stat, size) = at_rest(fd.as_fd(), path, |stat| {
                    honest_size(&fd, stat).map_err(Error::at("read", path))
                })?;
                // To look for holes can take as long as the file has pages.
                let holes = size.filter(|&size| occupied(&stat) < size);
                let map = holes.map(|size| DataMap::of(&fd, size));
                let source = Self::new(fd, path, name, size, &stat)?;
                Ok(match map {
                    Some(map) => Self { map, ..source },
                    None => source,
                })
            }
            _ if is_nameless_pipe(&fd) => Self::from_fd(fd, name),
            _ => Self::new(fd, path, name, None, &stat),
        }
    }

    /// Takes an open descriptor, standard input say, as a source under `name`.
    ///
    /// It is read from where it stands to its end, whatever its kind. Unless it is a regular file, the
    /// permissions are those of a new file: those of a pipe are its own.
    ///
    /// # Errors
    /// [`Error::Path`] if it cannot be examined, [`Error::NotCopyable`] for a directory,
    /// [`Error::SourceChanged`] for a regular file that is written to all the time.
    pub fn from_fd(fd: OwnedFd, name: FileName) -> Result<Self, Error> {
        let path: &Path = name.as_ref();
        let path = path.to_owned();
        let stat = examine(&fd, &path)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Err(Error::NotCopyable { path, kind: NotCopyable::Directory }),
            FileType::RegularFile => {
                let (stat, ()) = at_rest(fd.as_fd(), &path, |_| Ok(()))?;
                Self::new(fd, &path, name, None, &stat)
            }
            _ => {
                let mut source = Self::new(fd, &path, name, None, &stat)?;
                // That of a pipe says nothing of what comes through it.
                source.header = source.header.with_mode(0o666)?;
                Ok(source)
            }
        }
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
        self.version.as_ref().is_some_and(|version| version.is_of(stat))
    }

    /// The size that a regular file had when it was opened, in bytes, whether or not that is the length of
    /// its contents.
    pub(crate) fn opened_size(&self) -> Option<u64> {
        self.version.map(|version| version.size)
    }

    /// Checks that a regular file is still what it was when it was opened: size and modification
    /// time. A stream always is, as each of its bytes is read only once.
    ///
    /// # Errors
    /// [`Error::SourceChanged`], or [`Error::Path`] if it cannot be examined.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        match &self.version {
            Some(opened) if !opened.is_current(&self.fd, &self.path)? => {
                Err(Error::SourceChanged(self.path.clone()))
            }
            _ => Ok(()),
        }
    }

    /// A reader of all data. A stream can be read through once only.
    #[must_use]
    pub fn reader(&self) -> SourceReader<'_> {
        self.reader_from(0)
    }

    /// A reader that does not rely on what was a hole once.
    pub(crate) fn reader_of_holes_too(&self) -> SourceReader<'_> {
        SourceReader::new(self, &self.dense, 0)
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
        SourceReader::new(self, &self.map, position)
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The size of a regular file, in bytes, if it is that of its contents.
///
/// Files in `/proc` have a size of 0 whatever they hold, files in `/sys` that of a page, and others that are
/// made when they are read any other: such a file does not end where its size says.
fn honest_size(fd: &OwnedFd, stat: &Stat) -> std::io::Result<Option<u64>> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let Some(last) = size.checked_sub(1) else { return Ok(None) };
    Ok((read_at(fd, &mut [0; 2], last)? == 1).then_some(size))
}

/// Bytes that the file takes on its disk.
fn occupied(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

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
    fn only_files_and_fifos_are_copied_by_name() {
        for path in ["/", "/tmp", "/dev/zero", "/nonexistent", ".."] {
            assert!(Source::open(path.as_ref()).is_err(), "{path}");
        }
    }
}
