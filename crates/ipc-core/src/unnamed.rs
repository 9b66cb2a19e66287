//! An open file in a directory that has no final name yet, and how it gets one.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use crate::{Directory, Error, FileName};

/// What happens where the final name exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// A regular file or a symbolic link is replaced, in one step. Anything else stays, and the peer fails.
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

/// A file without a name (`O_TMPFILE`), or, where there are no such files, with a hidden one.
#[derive(Debug)]
pub(crate) struct UnnamedFile<'d> {
    /// Closed before the hidden name goes: many a file system gives an open file yet another name then.
    fd: OwnedFd,
    hidden: HiddenName<'d>,
}

/// A name to use where a file must have one before it may have its final one.
#[derive(Debug)]
struct HiddenName<'d> {
    directory: &'d Directory,
    name: FileName,
    /// Whether the file has it now.
    is_used: bool,
}

impl<'d> UnnamedFile<'d> {
    /// Creates an empty file in `directory`, with the permissions in `mode` less the umask.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub(crate) fn create(
        directory: &'d Directory,
        mode: u32,
        hidden: FileName,
    ) -> Result<Self, Error> {
        let mode = Mode::from_raw_mode(mode & 0o777);
        let open = |name, flags| {
            let flags = OFlags::RDWR | OFlags::CLOEXEC | flags;
            retry_on_intr(|| rustix::fs::openat(directory, name, flags, mode))
        };
        let (fd, is_used) = match open(&b"."[..], OFlags::TMPFILE) {
            // A filter of system calls may refuse `linkat`, and without `/proc` an ordinary user has no way to
            // name such a file before Linux 6.10.
            Ok(fd) if directory.can_link(&fd) => (fd, false),
            // File systems without such files, and what stands before them, have many errors for that. What
            // is wrong with the directory itself, the other way finds as well.
            _ => {
                let fd = open(hidden.as_bytes(), OFlags::CREATE | OFlags::EXCL)
                    .map_err(Error::at("create a file in", directory.path()))?;
                (fd, true)
            }
        };
        Ok(Self { fd, hidden: HiddenName { directory, name: hidden, is_used } })
    }

    /// Whether it has its hidden name, so that its process must not be killed carelessly.
    pub(crate) fn is_under_hidden_name(&self) -> bool {
        self.hidden.is_used
    }

    /// Which file it is.
    pub(crate) fn id(&self) -> Result<FileId, Error> {
        let stat = retry_on_intr(|| rustix::fs::fstat(&self.fd));
        stat.map(|stat| FileId::of(&stat)).map_err(self.failed("examine a file in"))
    }

    /// Leaves it to the end of the process, which frees its room: for a large file that takes a while. A
    /// hidden name goes at once.
    pub(crate) fn abandon(self) {
        if !self.hidden.is_used {
            std::mem::forget(self);
        }
    }

    /// Gives it its final name.
    ///
    /// # Errors
    /// [`Error::NotReplaced`]; [`Error::Path`], with [`std::io::ErrorKind::AlreadyExists`] under
    /// [`Existing::Keep`].
    pub(crate) fn give_name(mut self, name: &FileName, existing: Existing) -> Result<(), Error> {
        if existing == Existing::Replace {
            check_replaceable(self.hidden.directory, name)?;
        }
        match self.try_to_name(name, existing) {
            // A file system may have lost no more than its answer.
            Err(errno) if !self.is_at(name) => {
                Err(Error::at("store", self.hidden.directory.path().join(name))(errno))
            }
            _ => Ok(()),
        }
    }

    fn try_to_name(&mut self, name: &FileName, existing: Existing) -> rustix::io::Result<()> {
        if !self.hidden.is_used {
            match self.hidden.directory.try_link(&self.fd, name) {
                Err(Errno::EXIST) if existing == Existing::Replace => {
                    // linkat cannot replace; rename can, but wants a name to begin with.
                    self.hidden.directory.try_link(&self.fd, &self.hidden.name)?;
                    self.hidden.is_used = true;
                }
                result => return result,
            }
        }
        match existing {
            Existing::Replace => self.replace(name),
            Existing::Keep => self.take_free(name),
        }
    }

    /// Renames it to `name` from its hidden one, whatever file has that.
    fn replace(&mut self, name: &FileName) -> rustix::io::Result<()> {
        // Where files may be linked and not renamed, a name that is free can be had all the same.
        self.rename(name, RenameFlags::empty())
            .or_else(|refused| self.link_hidden(name).map_err(|_| refused))
    }

    /// Gives it `name` in place of its hidden one if nothing has that.
    ///
    /// File systems without links know the first way (exFAT), others only the second (NFS). Where there is
    /// neither, what takes the name between the look and the rename is replaced.
    fn take_free(&mut self, name: &FileName) -> rustix::io::Result<()> {
        let is_settled = |result| matches!(result, Ok(()) | Err(Errno::EXIST));
        let renamed = self.rename(name, RenameFlags::NOREPLACE);
        if is_settled(renamed) {
            return renamed;
        }
        let linked = self.link_hidden(name);
        if is_settled(linked) {
            return linked;
        }
        match self.hidden.directory.examine(name) {
            Ok(None) => self.rename(name, RenameFlags::empty()),
            Ok(Some(_)) => Err(Errno::EXIST),
            Err(_) => linked,
        }
    }

    fn rename(&mut self, name: &FileName, flags: RenameFlags) -> rustix::io::Result<()> {
        let (from, to) = (self.hidden.name.as_bytes(), name.as_bytes());
        let directory = self.hidden.directory;
        retry_on_intr(|| match flags.is_empty() {
            // Not every kernel and file system knows the other call, flags or not.
            true => rustix::fs::renameat(directory, from, directory, to),
            false => rustix::fs::renameat_with(directory, from, directory, to, flags),
        })?;
        self.hidden.is_used = false;
        Ok(())
    }

    /// A second name; the hidden one goes when this is dropped.
    fn link_hidden(&self, name: &FileName) -> rustix::io::Result<()> {
        let (from, to) = (self.hidden.name.as_bytes(), name.as_bytes());
        let flags = AtFlags::empty();
        retry_on_intr(|| {
            rustix::fs::linkat(self.hidden.directory, from, self.hidden.directory, to, flags)
        })
    }

    /// Whether `name` is this file's. Not every file system has numbers for its files that differ, so it must
    /// look the same too.
    fn is_at(&self, name: &FileName) -> bool {
        let look = |stat: Stat| {
            (FileId::of(&stat), stat.st_size, stat.st_mode, stat.st_mtime, stat.st_mtime_nsec)
        };
        let own = retry_on_intr(|| rustix::fs::fstat(&self.fd)).map(look);
        let named = self.hidden.directory.examine(name).ok().flatten().map(look);
        own.is_ok_and(|own| named == Some(own))
    }

    /// Wraps the reason why `operation` on it failed; made for `map_err`.
    pub(crate) fn failed<E: Into<std::io::Error>>(
        &self,
        operation: &'static str,
    ) -> impl FnOnce(E) -> Error {
        Error::at(operation, self.hidden.directory.path())
    }
}

impl AsFd for UnnamedFile<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A file that failed under its hidden name takes the name along, and so does one that has both.
impl Drop for HiddenName<'_> {
    fn drop(&mut self) {
        if self.is_used {
            // Nothing is left to do about a failure: the server of a peer tries once more.
            let _ = self.directory.remove(&self.name);
        }
    }
}

/// Checks that a file may take the place of what has `name`, if anything has: a regular file or a symbolic
/// link, no device and nothing that another process may be using by that name.
pub(crate) fn check_replaceable(directory: &Directory, name: &FileName) -> Result<(), Error> {
    let kind = match directory.examine(name)? {
        None => return Ok(()),
        Some(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink => return Ok(()),
            FileType::Directory => "a directory",
            FileType::CharacterDevice => "a character device",
            FileType::BlockDevice => "a block device",
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            FileType::Unknown => "not a file",
        },
    };
    Err(Error::NotReplaced { path: directory.path().join(name), kind })
}
#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn name(text: &str) -> FileName {
        FileName::new(text.as_bytes()).unwrap()
    }

    /// A file that holds "new", as each kind of file system has it.
    fn create(directory: &Directory, is_hidden: bool) -> UnnamedFile<'_> {
        let mut file = UnnamedFile::create(directory, 0o644, name(".hidden")).unwrap();
        crate::io::write_all(&file, b"new").unwrap();
        if is_hidden {
            directory.try_link(&file.fd, &file.hidden.name).unwrap();
            file.hidden.is_used = true;
        }
        file
    }

    /// What is in a directory: each name, and its contents if it is a file.
    fn names(root: &std::path::Path) -> Vec<(String, Option<String>)> {
        let entries = fs::read_dir(root).unwrap().map(Result::unwrap);
        let entry = |entry: fs::DirEntry| {
            let is_file = entry.file_type().unwrap().is_file();
            let text = is_file.then(|| fs::read_to_string(entry.path()).unwrap());
            (entry.file_name().into_string().unwrap(), text)
        };
        entries.map(entry).collect()
    }

    const EACH: [(bool, Existing); 4] = [
        (false, Existing::Replace),
        (false, Existing::Keep),
        (true, Existing::Replace),
        (true, Existing::Keep),
    ];

    #[test]
    fn an_existing_name_is_replaced_or_kept_and_nothing_else_stays() {
        for (is_hidden, existing) in EACH {
            let root = tempfile::tempdir().unwrap();
            let directory = Directory::open(root.path()).unwrap();
            fs::write(root.path().join("final"), "old").unwrap();
            let named = create(&directory, is_hidden).give_name(&name("final"), existing);
            assert_eq!(named.is_ok(), existing == Existing::Replace);
            let text = if named.is_ok() { "new" } else { "old" };
            assert_eq!(names(root.path()), [("final".to_owned(), Some(text.to_owned()))]);
        }
    }

    #[test]
    fn a_new_name_is_given_from_either_kind_of_file() {
        for (is_hidden, existing) in EACH {
            let root = tempfile::tempdir().unwrap();
            let directory = Directory::open(root.path()).unwrap();
            create(&directory, is_hidden).give_name(&name("final"), existing).unwrap();
            assert_eq!(names(root.path()), [("final".to_owned(), Some("new".to_owned()))]);
        }
    }

    #[test]
    fn what_is_no_file_keeps_its_name() {
        for (is_hidden, existing) in EACH {
            let root = tempfile::tempdir().unwrap();
            let directory = Directory::open(root.path()).unwrap();
            let fifo = root.path().join("final");
            rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR).unwrap();
            let named = create(&directory, is_hidden).give_name(&name("final"), existing);
            assert!(matches!(
                (existing, named.unwrap_err()),
                (Existing::Replace, Error::NotReplaced { kind: "a FIFO", .. })
                    | (Existing::Keep, Error::Path { .. })
            ));
            assert_eq!(names(root.path()), [("final".to_owned(), None)]);
        }
    }

    #[test]
    fn a_file_that_is_dropped_under_its_hidden_name_takes_that_along() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        drop(create(&directory, true));
        create(&directory, true).abandon();
        assert_eq!(names(root.path()), []);
    }
}
