//! Processes: forking a child that can do no harm to its parent, and learning how it ended.
//!
//! Here are the calls that rustix does not offer: `fork`, `_exit`, `signal` and `close_range`.
#![allow(unsafe_code, reason = "fork, _exit, signal and close_range are unsafe libc calls")]

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::Error;

/// What the death of its parent means to a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifeline {
    /// The kernel kills the child with the parent, even while it is stopped.
    DiesWithParent,
    /// The child goes on; it has something to clean up.
    Outlives,
}

/// A forked child that has not been waited for.
///
/// Dropping it neither ends nor reaps the process: what owns it decides that.
#[derive(Debug)]
#[must_use = "a child that nobody waits for stays a zombie"]
pub struct Child(Pid);

/// Forks a child that runs `child`, ends with its result as exit status, and never returns.
///
/// In the child: all descriptors but 0 to 2 and `keep` are closed, so that none of the parent's
/// hides an end of file from another process; it has a process group of its own, so that a signal
/// to the parent's group reaches it only through its parent's death; and no destructor of the
/// parent's values runs, so that nothing is cleaned up twice. `child` is told if any of this failed.
/// A panic in it ends the process with status [`PANICKED`].
///
/// # Safety
/// `child` neither uses nor drops a descriptor that was opened before the call, but those in `keep`:
/// in the new process they are closed, and their numbers may come to mean something else.
///
/// # Errors
/// [`Error::NotSingleThreaded`], as a lock held by another thread would stay locked in the child
/// for ever; [`Error::System`] if the kernel has no room for another process.
pub unsafe fn fork(
    lifeline: Lifeline,
    keep: &[BorrowedFd<'_>],
    child: impl FnOnce(Result<(), Error>) -> u8,
) -> Result<Child, Error> {
    check_single_threaded()?;
    let parent = rustix::process::getpid();
    // SAFETY: The process has one thread, so the child inherits no lock that another holds, and
    // may do whatever the parent may.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        let status = catch_unwind(AssertUnwindSafe(|| {
            child(enter_child(parent, lifeline, keep).map_err(Error::system("become a process")))
        }));
        // SAFETY: `_exit` has no precondition; it skips the parent's exit handlers and buffers.
        unsafe { libc::_exit(status.unwrap_or(PANICKED).into()) }
    }
    // The only number that is neither 0 nor a process id is -1, and no id is ever negative.
    let pid = u32::try_from(forked).ok().and_then(|_| Pid::from_raw(forked));
    if let Some(pid) = pid {
        // The child does the same; whoever is first, it has its group when this returns. An error
        // says that it has ended.
        let _ = rustix::process::setpgid(Some(pid), Some(pid));
    }
    pid.map(Child).ok_or_else(|| Error::system("fork a process")(io::Error::last_os_error()))
}

/// Exit status of a child that panicked: the one that Rust programs have.
pub const PANICKED: u8 = 101;

impl Child {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.as_raw_pid().cast_unsigned()
    }

    /// Kills it.
    pub fn kill(&self) {
        // It has not been waited for, so it exists; and after EPERM there is nothing left to try.
        let _ = rustix::process::kill_process(self.0, Signal::KILL);
    }

    /// Waits for it to end.
    ///
    /// # Errors
    /// [`Error::System`], with `ECHILD` where somebody else reaps this process's children.
    pub fn wait(self) -> Result<Exit, Error> {
        let options = WaitOptions::empty();
        let reaped = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(self.0), options))
            .map_err(Error::system("wait for a process"))?;
        let status = reaped.map(|(_, status)| status);
        Ok(match status.and_then(|status| status.terminating_signal()) {
            Some(signal) => Exit::Signal(signal),
            None => Exit::Status(status.and_then(|status| status.exit_status()).unwrap_or(0)),
        })
    }
}

/// Lets the calling child live on when its parent dies, to finish something that must not be left
/// half done.
///
/// A group whose last tie to its session ends with the parent, and which has a stopped process in it, is
/// sent `SIGHUP` by the kernel: that is ignored from now on.
///
/// # Errors
/// [`Error::System`]
pub fn outlive_parent() -> Result<(), Error> {
    set_hangup(libc::SIG_IGN).map_err(Error::system("outlive the server"))?;
    rustix::process::set_parent_process_death_signal(None)
        .map_err(Error::system("outlive the server"))
}

fn set_hangup(disposition: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: Neither to ignore a signal nor to die of it runs code of ours.
    match unsafe { libc::signal(libc::SIGHUP, disposition) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Runs `work`, which may leave something half done, with the parent's death put off; afterwards the
/// child dies with it again, unless `work` says that it must not.
pub(crate) fn shielded<T>(
    work: impl FnOnce() -> Result<T, Error>,
    must_outlive: impl FnOnce(&T) -> bool,
) -> Result<T, Error> {
    let parent = rustix::process::getppid();
    outlive_parent()?;
    let done = work()?;
    if let (false, Some(parent)) = (must_outlive(&done), parent) {
        die_with_parent(parent).map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => Error::ServerGone,
            _ => Error::system("die with the server")(error),
        })?;
        set_hangup(libc::SIG_DFL).map_err(Error::system("die with the server"))?;
    }
    Ok(done)
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Status(status) if status == i32::from(PANICKED) => write!(f, "panicked"),
            Self::Status(status) => write!(f, "exited with status {status}"),
            Self::Signal(number) => match Signal::from_named_raw(number) {
                // rustix calls it "Signal::KILL", and some by names of its own.
                Some(signal) => {
                    let name = format!("{signal:?}");
                    let name = name.trim_matches('"').trim_start_matches("Signal::");
                    let name = match name {
                        "ABORT" => "ABRT",
                        "ALARM" => "ALRM",
                        "CHILD" => "CHLD",
                        "POWER" => "PWR",
                        "VTALARM" => "VTALRM",
                        name => name,
                    };
                    write!(f, "killed by SIG{name}")
                }
                None => write!(f, "killed by signal {number}"),
            },
        }
    }
}

/// Counts the threads: `/proc/self/task` has one directory for each, and so one link from it.
fn check_single_threaded() -> Result<(), Error> {
    let tasks = "/proc/self/task";
    let stat = rustix::fs::stat(tasks).map_err(Error::at("count the threads in", tasks))?;
    #[allow(clippy::useless_conversion, reason = "a count of links has 32 bits elsewhere")]
    let links = u64::from(stat.st_nlink);
    // `.` and `..` are the other two.
    match links.saturating_sub(2) {
        1 => Ok(()),
        threads => Err(Error::NotSingleThreaded(threads)),
    }
}

/// How many descriptors a process may have open; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The limit now.
    pub current: Option<u64>,
    /// What it may be raised to.
    pub maximum: Option<u64>,
}

/// The limit of this process; `None` where the kernel does not tell it.
#[must_use]
pub fn descriptor_limit() -> Option<Limit> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // rustix's `getrlimit` takes it for granted that the call succeeds.
    // SAFETY: The pointer is to a limit, which this call fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: The call has filled it.
    let libc::rlimit { rlim_cur, rlim_max } = unsafe { limit.assume_init() };
    let told = |limit| (limit != libc::RLIM_INFINITY).then_some(limit);
    Some(Limit { current: told(rlim_cur), maximum: told(rlim_max) })
}

/// Checks that children get process ids that mean the same to them and to their parent.
pub(crate) fn check_namespace() -> Result<(), Error> {
    let (own, childrens) = ("/proc/self/ns/pid", "/proc/self/ns/pid_for_children");
    // Where that is not told it is as ever. A namespace that is still without a process has no name.
    let is_told = std::fs::symlink_metadata(childrens).is_ok();
    let is_other = match (std::fs::read_link(own), std::fs::read_link(childrens)) {
        (Ok(own), Ok(childrens)) => own != childrens,
        (Ok(_), Err(error)) => is_told && error.kind() == io::ErrorKind::NotFound,
        _ => false,
    };
    if is_other { Err(Error::OtherNamespace) } else { Ok(()) }
}

/// Ties the child to its parent's life, if so wanted, and cuts all other ties.
fn enter_child(parent: Pid, lifeline: Lifeline, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    if lifeline == Lifeline::DiesWithParent {
        die_with_parent(parent)?;
    }
    rustix::process::setpgid(None, None)?;
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().filter(|&fd| fd >= 3) {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd.saturating_add(1);
    }
    close_range(first, u32::MAX)
}

/// Lets the kernel kill the calling child when its parent dies.
fn die_with_parent(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The signal is not sent for a parent that died before the call.
    match rustix::process::getppid() == Some(parent) {
        true => Ok(()),
        false => Err(Errno::SRCH.into()),
    }
}

/// Closes the descriptors from `first` to `last`.
fn close_range(first: u32, last: u32) -> io::Result<()> {
    // Through `syscall`, as only some C libraries have a function for it (Linux has it since 5.9).
    // SAFETY: The child's copies of the parent's descriptors have no user left: that is the condition
    // of `fork`, and no destructor of the parent's values runs before `_exit`.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_named() {
        for (exit, text) in [
            (Exit::Status(3), "exited with status 3"),
            (Exit::Status(101), "panicked"),
            (Exit::Signal(9), "killed by SIGKILL"),
            (Exit::Signal(6), "killed by SIGABRT"),
            (Exit::Signal(14), "killed by SIGALRM"),
            (Exit::Signal(15), "killed by SIGTERM"),
            (Exit::Signal(40), "killed by signal 40"),
        ] {
            assert_eq!(exit.to_string(), text);
        }
    }

    #[test]
    fn a_process_with_threads_is_refused() {
        // The test harness runs this on a thread beside its main one.
        // SAFETY: The child uses no descriptor.
        let forked = unsafe { fork(Lifeline::DiesWithParent, &[], |_| 0) };
        assert!(matches!(forked, Err(Error::NotSingleThreaded(2..))));
    }
}
