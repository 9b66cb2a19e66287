//! The directory that received files go to: opened once, used by descriptor.

pub(crate) mod shared;

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, Stat};
use rustix::io::{Errno, retry_on_intr};

use crate::{Error, FileName, file_system};

/// An open directory and the path that messages call it by.
///
/// Everything in it is reached through the descriptor, so a directory that is renamed, replaced or
/// hidden by a mount while files are received stays the one that was meant.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    /// Which of it and the directories above it were made for it, by their distance from it.
    made: Vec<u32>,
}

impl Directory {
    /// Opens `path`, which must be a directory.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fd = shared::open_path(CWD, path).map_err(Error::at("open directory", path))?;
        Ok(Self { fd, path: path.to_owned(), made: Vec::new() })
    }

    /// Opens the directory `path`, or the nearest one above it that exists.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn open_nearest(path: &Path) -> Result<Self, Error> {
        let mut nearest = path;
        loop {
            let error = match Self::open(nearest) {
                Ok(directory) => return Ok(directory),
                Err(error) => error,
            };
            let not_found = matches!(&error, Error::Path { source, .. }
                if source.kind() == ErrorKind::NotFound);
            let absent = match nearest.symlink_metadata() {
                // Another run has made it in between.
                Ok(metadata) if not_found && !metadata.is_symlink() => continue,
                // A dangling symbolic link is "not found" as well, but it is in the way.
                Ok(_) => false,
                Err(_) => not_found,
            };
            nearest = match nearest.parent() {
                Some(parent) if absent && parent.as_os_str().is_empty() => Path::new("."),
                Some(parent) if absent => parent,
                _ => return Err(error),
            };
        }
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the process may make names in it: permission, and not a read-only file system. Where
    /// that cannot be told beforehand, making them tells.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn check_writable(&self) -> Result<(), Error> {
        let access = Access::WRITE_OK | Access::EXEC_OK;
        let refusal = |flags| {
            let allowed = retry_on_intr(|| rustix::fs::accessat(&self.fd, ".", access, flags));
            allowed.err().filter(|&errno| matches!(errno, Errno::ACCESS | Errno::ROFS))
        };
        // A filter may answer anything to the younger call, so the older one is to confirm it, though it goes
        // by the real user.
        let refused = refusal(AtFlags::EACCESS).and_then(|_| refusal(AtFlags::empty()));
        let failed = Error::at("write to directory", &self.path);
        refused.map_or(Ok(()), |errno| Err(failed(errno)))
    }

    /// Bytes that this user can store in it at most, as far as that is certain: `None` where the file system
    /// compresses or shares blocks, is not known to do neither, or does not say how much is free.
    #[must_use]
    pub fn available(&self) -> Option<u64> {
        file_system::room(&self.fd)
    }

    /// The numbers of the file system that it is on, and of itself there.
    pub(crate) fn identity(&self) -> Result<(u64, u64), Error> {
        let stat = retry_on_intr(|| rustix::fs::fstat(&self.fd))
            .map_err(Error::at("examine directory", &self.path))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Names the open file `fd`, made with `O_TMPFILE`, in it, where nothing may have this name yet.
    pub(crate) fn try_link(&self, fd: impl AsFd, name: &FileName) -> rustix::io::Result<()> {
        self.link_as(fd, name.as_bytes())
    }

    /// Whether a file that was made with `O_TMPFILE` can get a name in it, as far as the system calls go.
    pub(crate) fn can_link(&self, fd: impl AsFd) -> bool {
        // The kernel says that this name exists when it has nothing else against the call.
        self.link_as(fd, b".") == Err(Errno::EXIST)
    }

    /// `AT_EMPTY_PATH` is refused with `ENOENT` to callers without `CAP_DAC_READ_SEARCH` before Linux 6.10,
    /// and after it to those whose credentials are not those that opened the file, and by some sandboxes with
    /// other errors; the path through `/proc` has no such condition.
    fn link_as(&self, fd: impl AsFd, name: &[u8]) -> rustix::io::Result<()> {
        let empty = AtFlags::EMPTY_PATH;
        match retry_on_intr(|| rustix::fs::linkat(&fd, "", &self.fd, name, empty)) {
            Err(errno) if errno != Errno::EXIST => {
                let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
                let follow = AtFlags::SYMLINK_FOLLOW;
                match retry_on_intr(|| rustix::fs::linkat(CWD, &path, &self.fd, name, follow)) {
                    // There is no `/proc`, or no directory any more.
                    Err(Errno::NOENT) => Err(errno),
                    result => result,
                }
            }
            result => result,
        }
    }

    /// What `name` in it is, if it exists; a symbolic link is not followed.
    pub(crate) fn examine(&self, name: &FileName) -> Result<Option<Stat>, Error> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        match retry_on_intr(|| rustix::fs::statat(&self.fd, name.as_bytes(), flags)) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::at("examine", self.path.join(name))(errno)),
        }
    }

    /// What is to be synced for a name in it to be on the disk: it, and what it was made in.
    ///
    /// # Errors
    /// [`Error::Path`], for want of permission to read one of them, say.
    pub(crate) fn open_to_sync(&self) -> Result<DirectoriesToSync, Error> {
        let opened = self.open_all_to_sync();
        opened.map(DirectoriesToSync).map_err(Error::at("sync directory", &self.path))
    }

    /// Removes `name` from it, if it is there.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn remove(&self, name: &FileName) -> Result<(), Error> {
        match retry_on_intr(|| rustix::fs::unlinkat(&self.fd, name.as_bytes(), AtFlags::empty())) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::at("remove", self.path.join(name))(errno)),
        }
    }
}

/// A directory and those above it that got a new name when it was made.
#[derive(Debug)]
pub(crate) struct DirectoriesToSync(Vec<OwnedFd>);

impl DirectoriesToSync {
    /// Waits until the names in all of them are on the disk.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        let sync = |directory| retry_on_intr(|| rustix::fs::fsync(directory));
        Ok(self.0.iter().try_for_each(sync)?)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_existing_directory_is_found() {
        let root = tempfile::tempdir().unwrap();
        let nearest = Directory::open_nearest(&root.path().join("a/b/c")).unwrap();
        assert_eq!(nearest.path(), root.path());
        assert_eq!(Directory::open_nearest(Path::new("none/such")).unwrap().path(), Path::new("."));
    }

    #[test]
    fn what_stands_in_the_way_is_an_error_and_stays() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        for path in [&file, &link, &file.join("below")] {
            assert!(Directory::open_nearest(path).is_err(), "{path:?}");
            assert!(Directory::open_or_create(path).is_err(), "{path:?}");
        }
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
        assert!(link.is_symlink());
    }
}
