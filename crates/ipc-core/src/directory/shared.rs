//! Directories that several runs share: a run makes what is missing, and removes only what it has made and
//! no other run stores in.
//!
//! A file without a name does not keep its directory from being removed. So every run holds a lock on each
//! directory that it stores in: a read lock on a byte of it. A run that is to remove a directory locks another
//! byte of it and then looks whether the first is locked; a run that stores there locks the first and then
//! looks at the other. So at least one of them sees the other, and it is the remover that gives way. (Only a
//! read lock can be had on a directory. `flock` has exclusive ones, but is what scripts use for their own
//! purposes: they would have to wait for the copy, or it for them.)
//!
//! A run that has locked its directory too late finds that it is gone, and makes it anew. Where locks are
//! refused, or the directory may not be read, copies are stored all the same, and the directory stays.
#![allow(unsafe_code, reason = "rustix has no locks of open file descriptions, so libc's are used")]

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::Directory;
use crate::Error;
use crate::io::now;

/// How often a directory may vanish while it is opened or made. Each time takes another run that ends.
const TRIES: u32 = 1000;

/// How long a run waits for another one that is just removing its directory, which takes one `rmdir`.
const LONGEST_REMOVAL: Duration = Duration::from_secs(2);

/// How long it sleeps before it looks again.
const PAUSE: Duration = Duration::from_millis(1);

impl Directory {
    /// Opens `path`, which must be a directory, to store in it: no other run removes it while it is open
    /// in any process.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub(crate) fn hold(path: &Path) -> Result<Self, Error> {
        let mut tries = 0;
        loop {
            let fd = open_readable(CWD, path).map_err(Error::at("open directory", path))?;
            let directory = Self { fd, path: path.to_owned(), made: Vec::new() };
            directory.lock();
            tries += 1;
            // What no longer matters by then: this file system may not tell.
            if directory.is_at_its_path() || tries == TRIES {
                return Ok(directory);
            }
        }
    }

    /// Opens `path`; makes it, and what is missing above it, if it does not exist.
    ///
    /// No other run removes it while it is open in any process.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn open_or_create(path: &Path) -> Result<Self, Error> {
        for stage in stages(path) {
            Self::open_or_create_stage(&stage)?;
        }
        Self::open_or_create_stage(path)
    }

    /// The same for a path that has no `..` below what exists, see [`stages`].
    pub(crate) fn open_or_create_stage(path: &Path) -> Result<Self, Error> {
        let mut tries = 0;
        loop {
            let missing = match Self::hold(path) {
                Err(error) if is_not_found(&error) => error,
                result => return result,
            };
            if let Some(directory) = Self::make(path)? {
                return Ok(directory);
            }
            tries += 1;
            if tries == TRIES {
                return Err(missing);
            }
        }
    }

    /// Makes what is missing of `path`; `None` if something of it came or went meanwhile.
    fn make(path: &Path) -> Result<Option<Self>, Error> {
        let failed = |errno| Error::at("make directory", path)(errno);
        let mut at = Self::open_nearest(path)?;
        // A relative path begins in `.`, which it need not say.
        let missing = path.strip_prefix(&at.path).unwrap_or(path).to_owned();
        if missing.as_os_str().is_empty() {
            return Ok(None);
        }
        for part in missing.components() {
            match at.enter_or_make(part.as_os_str()) {
                Ok(true) => {}
                Ok(false) => {
                    at.remove_made(Duration::ZERO);
                    return Ok(None);
                }
                Err(errno) => {
                    at.remove_made(Duration::ZERO);
                    return Err(failed(errno));
                }
            }
        }
        at.path = path.to_owned();
        at.lock();
        if at.is_at_its_path() {
            return Ok(Some(at));
        }
        at.remove_made(Duration::ZERO);
        Ok(None)
    }

    /// Goes on to `name` in it, which is made if it is missing; says whether that was to be had.
    fn enter_or_make(&mut self, name: &OsStr) -> rustix::io::Result<bool> {
        let is_made = match retry_on_intr(|| rustix::fs::mkdirat(&self.fd, name, Mode::from(0o777)))
        {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            // It is no longer linked itself.
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(errno),
        };
        match open_readable(&self.fd, Path::new(name)) {
            Ok(fd) => self.fd = fd,
            Err(Errno::NOENT) if !self.is_link(name) => return Ok(false),
            Err(errno) => return Err(errno),
        }
        self.path.push(name);
        self.made.iter_mut().for_each(|depth| *depth += 1);
        self.made.extend(is_made.then_some(0));
        Ok(true)
    }

    fn is_link(&self, name: &OsStr) -> bool {
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink())
    }

    /// Which of it and those above it were made for it, by their distance from it.
    pub(crate) fn made(&self) -> &[u32] {
        &self.made
    }

    /// Takes these to have been made for it, by another process.
    pub(crate) fn set_made(&mut self, made: Vec<u32>) {
        self.made = made;
    }

    /// Removes what was made for it, unless something is in there or another run stores in there.
    ///
    /// Locks that this run has on any of it must have been given up ([`Directory::unlock`]), or will be until
    /// this time.
    pub(crate) fn remove_made(&self, until: Duration) {
        let Some(&highest) = self.made.iter().max() else { return };
        let Ok(mut at) = rustix::io::dup(&self.fd) else { return };
        for (depth, name) in (0..=highest).zip(self.path.components().rev()) {
            let Ok(above) = open_readable(&at, Path::new("..")) else { return };
            if self.made.contains(&depth) {
                // What cannot be removed stays: there is nobody to tell.
                let _ = remove_unused(&at, &above, name.as_os_str(), until);
            }
            at = above;
        }
    }

    /// It and those above it that got a new name for it: what is to be synced for a name in it to be on the
    /// disk.
    pub(super) fn open_all_to_sync(&self) -> rustix::io::Result<Vec<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |at: &OwnedFd, name| {
            retry_on_intr(|| rustix::fs::openat(at, name, flags, Mode::empty()))
        };
        // A descriptor of a path alone, as its own may be, cannot be synced.
        let mut opened = vec![open(&self.fd, ".")?];
        let mut at = None;
        for depth in 0..self.made.iter().max().map_or(0, |highest| highest + 1) {
            let above = open_path(at.as_ref().unwrap_or(&self.fd), Path::new(".."))?;
            if self.made.contains(&depth) {
                opened.push(open(&above, ".")?);
            }
            at = Some(above);
        }
        Ok(opened)
    }

    /// Keeps other runs from removing it, if that can be had.
    fn lock(&self) {
        let until = now().saturating_add(LONGEST_REMOVAL);
        while Mark::InUse.set(&self.fd).is_ok() {
            let is_being_removed = Mark::Removing.is_set_elsewhere(&self.fd);
            if !is_being_removed.unwrap_or(false) || now() >= until {
                return;
            }
            Mark::InUse.clear(&self.fd);
            std::thread::sleep(PAUSE);
        }
    }

    /// Lets other runs remove it, in all processes that have this descriptor.
    pub(crate) fn unlock(&self) {
        Mark::InUse.clear(&self.fd);
    }

    /// Whether its path leads to it, and not elsewhere or nowhere. Where neither is told it is taken to.
    fn is_at_its_path(&self) -> bool {
        let found = retry_on_intr(|| rustix::fs::stat(&self.path));
        match (found, rustix::fs::fstat(&self.fd)) {
            (Ok(found), Ok(own)) => is_same(&found, &own),
            (Err(Errno::NOENT | Errno::NOTDIR), _) => false,
            _ => true,
        }
    }
}

/// What stands before each `..` of `path`: it must exist before what follows the `..` can be made.
pub(crate) fn stages(path: &Path) -> Vec<PathBuf> {
    let (mut stages, mut before) = (Vec::new(), PathBuf::new());
    for part in path.components() {
        if part == Component::ParentDir && !before.as_os_str().is_empty() {
            stages.push(before.clone());
        }
        before.push(part);
    }
    stages
}

/// Removes the directory `name` from `above`, if it is `directory`, empty, and no other run stores there.
fn remove_unused(
    directory: &OwnedFd,
    above: &OwnedFd,
    name: &OsStr,
    until: Duration,
) -> rustix::io::Result<()> {
    let (own, found) = (
        rustix::fs::fstat(directory)?,
        rustix::fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW)?,
    );
    // Whoever may store there but may not read it has no lock on it.
    let (writers, readers) = ((own.st_mode & 0o222) >> 1, (own.st_mode & 0o444) >> 2);
    if !is_same(&own, &found) || writers & !readers != 0 {
        return Ok(());
    }
    loop {
        Mark::Removing.set(directory)?;
        let removed = Mark::InUse.is_set_elsewhere(directory).and_then(|is_in_use| {
            let is_removed = !is_in_use;
            if is_removed {
                retry_on_intr(|| rustix::fs::unlinkat(above, name, AtFlags::REMOVEDIR))?;
            }
            Ok(is_removed)
        });
        Mark::Removing.clear(directory);
        if removed? || now() >= until {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}

/// What runs tell each other of a directory, each by a lock on a byte of its own. A lock belongs to the open
/// file description, and so lasts until the last process that has it ends.
#[derive(Debug, Clone, Copy)]
enum Mark {
    /// It is about to be removed.
    Removing = 0,
    /// A run stores there.
    InUse = 1,
}

impl Mark {
    fn set(self, directory: &OwnedFd) -> rustix::io::Result<()> {
        self.control(directory, libc::F_OFD_SETLK, libc::F_RDLCK).map(drop)
    }

    fn clear(self, directory: &OwnedFd) {
        // Where it could not be set, that is as good.
        let _ = self.control(directory, libc::F_OFD_SETLK, libc::F_UNLCK);
    }

    /// Whether it is set by way of another open file description.
    fn is_set_elsewhere(self, directory: &OwnedFd) -> rustix::io::Result<bool> {
        // A write lock, which is not asked for in earnest, would be in conflict with any other.
        let found = self.control(directory, libc::F_OFD_GETLK, libc::F_WRLCK)?;
        Ok(found != libc::F_UNLCK)
    }

    /// Does this with a lock of this type; the type of the lock that the kernel answers with.
    fn control(
        self,
        directory: &OwnedFd,
        command: libc::c_int,
        kind: libc::c_int,
    ) -> rustix::io::Result<libc::c_int> {
        let narrow = |number| libc::c_short::try_from(number).map_err(|_| Errno::INVAL);
        // SAFETY: All of its fields are numbers, for which zero is as good as any.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        (lock.l_type, lock.l_whence) = (narrow(kind)?, narrow(libc::SEEK_SET)?);
        (lock.l_start, lock.l_len) = (libc::off_t::from(self as u8), 1);
        retry_on_intr(|| {
            // SAFETY: The descriptor is open, and both commands take a pointer to such a lock.
            match unsafe { libc::fcntl(directory.as_raw_fd(), command, &raw mut lock) } {
                -1 => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)),
                _ => Ok(lock.l_type.into()),
            }
        })
    }
}

/// Opens a directory so that it can be locked and synced; if it may not be read, only to store in it.
fn open_readable(at: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(&at, path, flags, Mode::empty()))
        .or_else(|_| open_path(at, path))
}

/// Opens a directory to reach what is in it, for which it need not be readable.
pub(super) fn open_path(at: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(&at, path, flags, Mode::empty()))
}

fn is_same(one: &rustix::fs::Stat, other: &rustix::fs::Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::Path { source, .. } if source.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn entries(path: &Path) -> usize {
        fs::read_dir(path).unwrap().count()
    }

    #[test]
    fn missing_parents_are_made_and_go_again() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let directory = Directory::open_or_create(&path).unwrap();
        assert_eq!(directory.made, [1, 0]);
        directory.open_to_sync().unwrap().sync().unwrap();
        assert!(path.is_dir());
        directory.remove_made(Duration::ZERO);
        assert_eq!(entries(root.path()), 0);
    }

    #[test]
    fn what_was_there_stays() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        for path in ["a", "a/b/c"] {
            let directory = Directory::open_or_create(&root.path().join(path)).unwrap();
            directory.remove_made(Duration::ZERO);
            assert_eq!(entries(&root.path().join("a")), 0);
        }
    }

    #[test]
    fn what_is_in_use_stays() {
        let root = tempfile::tempdir().unwrap();
        for (used, left) in [("a/b", "a/b"), ("a", "a"), ("a/other", "a/other")] {
            let directory = Directory::open_or_create(&root.path().join("a/b")).unwrap();
            let user = Directory::open_or_create(&root.path().join(used)).unwrap();
            directory.remove_made(Duration::ZERO);
            assert!(root.path().join(left).is_dir(), "{used}");
            drop(user);
            fs::remove_dir_all(root.path().join("a")).unwrap();
        }
    }

    #[test]
    fn what_is_not_empty_stays() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open_or_create(&root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/file"), "").unwrap();
        directory.remove_made(Duration::ZERO);
        assert_eq!(entries(&root.path().join("a")), 1);
    }

    #[test]
    fn what_has_been_renamed_or_replaced_stays() {
        let root = tempfile::tempdir().unwrap();
        let (old, new) = (root.path().join("a"), root.path().join("z"));
        let directory = Directory::open_or_create(&old).unwrap();
        fs::rename(&old, &new).unwrap();
        fs::create_dir(&old).unwrap();
        directory.remove_made(Duration::ZERO);
        assert!(old.is_dir() && new.is_dir());
    }

    #[test]
    fn what_above_it_has_moved_is_found() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("disk")).unwrap();
        let directory = Directory::open_or_create(&root.path().join("disk/a/b")).unwrap();
        fs::rename(root.path().join("disk"), root.path().join("moved")).unwrap();
        directory.remove_made(Duration::ZERO);
        assert_eq!(entries(&root.path().join("moved")), 0);
    }

    #[test]
    fn what_others_may_not_read_stays() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a");
        let directory = Directory::open_or_create(&path).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o733)).unwrap();
        directory.remove_made(Duration::ZERO);
        assert!(path.is_dir());
    }

    #[test]
    fn dots_in_a_path_lead_to_what_they_say() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open_or_create(&root.path().join("./a/./b/../c/")).unwrap();
        assert_eq!(directory.made, [0]);
        assert_eq!(entries(&root.path().join("a")), 2);
        let stages = |path: &str| stages(path.as_ref());
        assert_eq!(stages("a/../b/c/../../d"), ["a", "a/../b/c", "a/../b/c/.."].map(PathBuf::from));
        assert_eq!(stages("../a"), [] as [PathBuf; 0]);
    }

    #[test]
    fn a_directory_that_another_keeps_removing_is_made() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let directory = Directory::open_or_create(&path).unwrap();
                        assert!(directory.is_at_its_path());
                        directory.unlock();
                        directory.remove_made(Duration::ZERO);
                    }
                });
            }
        });
    }
}
