//! What can be copied, which is asked before it is opened.

use std::fmt;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::retry_on_intr;

use crate::Error;
use crate::version::examine;

/// Why a source is refused: what there is instead of a file or a FIFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotCopyable {
    /// A directory.
    Directory,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A socket.
    Socket,
    /// Nothing that the kernel has a word for, such as an event counter in `/proc/self/fd`.
    Other,
}

impl fmt::Display for NotCopyable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "a directory",
            Self::CharacterDevice => "a character device",
            Self::BlockDevice => "a block device",
            Self::Socket => "a socket",
            Self::Other => "not a file",
        })
    }
}

/// Asks what there is at `path` and opens that very thing, if it is a file or a FIFO.
pub(crate) fn open_unless_device(path: &Path) -> Result<OwnedFd, Error> {
    let open = |path: &Path, flags| {
        retry_on_intr(|| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()))
    };
    // This opens nothing: a device does not notice.
    let found = open(path, OFlags::PATH).map_err(Error::at("open", path))?;
    copyable(&examine(&found, path)?, path)?;
    let link = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    let flags = OFlags::RDONLY | OFlags::NOCTTY;
    // Without /proc it is looked up again.
    open(&link, flags).or_else(|_| open(path, flags)).map_err(Error::at("open", path))
}

/// The kind of a file or FIFO; anything else is an error.
pub(crate) fn copyable(stat: &Stat, path: &Path) -> Result<FileType, Error> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        file @ (FileType::RegularFile | FileType::Fifo) => return Ok(file),
        FileType::Directory => NotCopyable::Directory,
        FileType::CharacterDevice => NotCopyable::CharacterDevice,
        FileType::BlockDevice => NotCopyable::BlockDevice,
        FileType::Socket => NotCopyable::Socket,
        _ => NotCopyable::Other,
    };
    Err(Error::NotCopyable { path: path.to_owned(), kind })
}

/// Whether a FIFO is a pipe of two processes, which has a path only in `/proc` (`/dev/stdin`, `<(...)`) and
/// permissions that were not given by anybody.
pub(crate) fn is_nameless_pipe(fd: &OwnedFd) -> bool {
    const PIPEFS_MAGIC: i64 = 0x5049_5045;
    retry_on_intr(|| rustix::fs::fstatfs(fd)).is_ok_and(|fs| fs.f_type == PIPEFS_MAGIC)
}
