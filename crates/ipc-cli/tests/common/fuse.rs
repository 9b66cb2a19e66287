//! A file system that misbehaves on demand: the faults that no real disk has when a test needs them.
//!
//! It keeps its files in memory and is served, by FUSE, by threads of the test's own process. Without faults it
//! is as simple as FUSE allows: no `O_TMPFILE`, no `fallocate`, no holes; hard links and `RENAME_NOREPLACE` work.
//!
//! ```ignore
//! let Some(disk) = Fuse::mount(sandbox, "disk", &[Fault::Fails(Op::Link, Errno::PERM)]) else { return };
//! sandbox.run(["--dir", "disk", "3", "data"]).stores(...);
//! ```
//!
//! Faults can come and go while a run is under way ([`Fuse::set`]). A hanging operation keeps its process in
//! uninterruptible sleep until the fault is gone; so do a few things that a test does itself in that directory.
//! When a run is to be looked at that ended in spite of that, [`Running::finish_abandoning`] is what ends it.
//!
//! [`Running::finish_abandoning`]: super::running::Running::finish_abandoning

mod server;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use self::server::Server;
use self::tree::Tree;
use super::{Sandbox, skip};

/// What the file system does wrong. Of several faults that fit an operation, hanging comes first.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Every such operation fails. (The kernel makes EOPNOTSUPP or success of some ENOSYS, as it does for
    /// real file systems.)
    Fails(Op, Errno),
    /// Reads or writes of this byte of any file fail. Those of what stands before it succeed, and so do writes
    /// of what stands there up to it.
    FailsAt(Op, u64, Errno),
    /// No such operation is answered until the fault is gone.
    Hangs(Op),
    /// No read or write of this byte of any file is answered until the fault is gone.
    HangsAt(Op, u64),
    /// Nothing at all is answered, as by a daemon that was stopped.
    HangsAltogether,
    /// Reads or writes move so many bytes a second, of all files together.
    Slow(Op, u64),
    /// Every regular file claims to be of this size, whatever is in it. It takes effect on files that are
    /// opened afterwards, whose reads bypass the page cache.
    StandInSize(u64),
    /// Times are rounded down to a multiple of this.
    CoarseTimes(Duration),
}

/// What a file system is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// Finding a name in a directory.
    Lookup,
    /// `stat`, and what the kernel asks by itself.
    GetAttr,
    /// `chmod`, `chown`, `utimensat`, `ftruncate`.
    SetAttr,
    /// `open` with `O_CREAT` of a file that is not there.
    Create,
    /// `open` of a file that is there.
    Open,
    Read,
    Write,
    /// Sent at every `close` of a file. With ENOSYS the file system is one without it.
    Flush,
    /// Of files and of directories.
    Fsync,
    Link,
    /// `rename` without flags.
    Rename,
    /// `renameat2` with `RENAME_NOREPLACE`.
    RenameNoReplace,
    Unlink,
    Mkdir,
    Rmdir,
    ReadDir,
    StatFs,
    /// EOPNOTSUPP to the caller unless there is another error for it.
    Fallocate,
}

/// A file system that is mounted as long as this lives.
#[derive(Debug)]
pub(crate) struct Fuse {
    mountpoint: PathBuf,
    shared: Arc<Shared>,
    _session: BackgroundSession,
}

/// What the threads that serve it share with the test.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    faults: Vec<Fault>,
    tree: Tree,
    /// The operations that are not being answered just now.
    hanging: Vec<Op>,
    /// When the bytes that were moved so far have had their time, for [`Fault::Slow`].
    busy_until: Option<std::time::Instant>,
    /// It is about to be unmounted.
    is_over: bool,
}

/// So many operations can hang at once while others are still answered.
const THREADS: usize = 16;

impl Fuse {
    /// Mounts an empty one on a directory of the sandbox, which it makes. Where that is not allowed, `None`,
    /// which it says.
    pub(crate) fn mount(sandbox: &Sandbox, path: &str, faults: &[Fault]) -> Option<Self> {
        let mountpoint = sandbox.directory(path);
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        let tree = Tree::new(uid.as_raw(), gid.as_raw());
        let (hanging, faults) = (Vec::new(), faults.to_vec());
        let state = State { faults, tree, hanging, busy_until: None, is_over: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });

        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName("misbehaving".to_owned()), MountOption::DefaultPermissions];
        // Only root may let other users in.
        config.acl = if uid.is_root() { SessionACL::All } else { SessionACL::Owner };
        config.n_threads = Some(THREADS);
        match fuser::spawn_mount(Server::new(&shared), &mountpoint, &config) {
            Ok(session) => {
                sandbox.note_file_system(&shared);
                Some(Self { mountpoint, shared, _session: session })
            }
            Err(error) => {
                skip("a file system that misbehaves", &format!("no FUSE here: {error}"));
                None
            }
        }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.mountpoint
    }

    /// Takes these faults in place of those before. What hung and is in none of them any more goes on.
    pub(crate) fn set(&self, faults: &[Fault]) {
        self.shared.set(faults);
    }

    /// Waits until such an operation hangs.
    pub(crate) fn await_hanging(&self, op: Op) {
        self.await_that(|state| state.hanging.contains(&op));
    }

    /// Waits until so many bytes of a file in its uppermost directory have been read since it was mounted.
    pub(crate) fn await_read(&self, name: &str, bytes: u64) {
        self.await_that(|state| state.tree.moved(name).0 >= bytes);
    }

    /// Waits until so many bytes have been written to its files, whether they have names or not.
    pub(crate) fn await_written(&self, bytes: u64) {
        self.await_that(|state| state.tree.written() >= bytes);
    }

    /// How many bytes of a file in its uppermost directory have been read from it, which the page cache keeps.
    pub(crate) fn bytes_read(&self, name: &str) -> u64 {
        self.shared.lock().tree.moved(name).0
    }

    /// How many bytes have been written to all of its files.
    pub(crate) fn all_written(&self) -> u64 {
        self.shared.lock().tree.written()
    }

    /// How many bytes have been written to a file in its uppermost directory.
    pub(crate) fn bytes_written(&self, name: &str) -> u64 {
        self.shared.lock().tree.moved(name).1
    }

    fn await_that(&self, holds: impl Fn(&State) -> bool) {
        let lacks_it = |state: &mut State| !holds(state);
        drop(self.shared.changed.wait_while(self.shared.lock(), lacks_it).unwrap());
    }
}

/// Lets every process go that it holds, then unmounts it, whatever is still open there.
impl Drop for Fuse {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
        // Of root's, it aborts what has been asked and not been answered. Everybody else's is unmounted by the
        // session's end.
        let _ = unmount(&self.mountpoint, UnmountFlags::FORCE | UnmountFlags::DETACH);
    }
}

impl Shared {
    fn set(&self, faults: &[Fault]) {
        self.lock().faults = faults.to_vec();
        self.changed.notify_all();
    }

    /// Lets it answer everything.
    pub(super) fn calm(&self) {
        self.set(&[]);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}
