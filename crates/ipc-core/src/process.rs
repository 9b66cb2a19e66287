//! Processes: forking a child that can do no harm to its parent, and learning how it ended.
//!
//! Here and in what is below are the calls that rustix does not offer: `fork`, `_exit`, `signal`, `sigaction` and
//! `close_range`.
#![allow(unsafe_code, reason = "fork, _exit, signals and close_range are unsafe libc calls")]

mod enter;

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, take_hook};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use crate::Error;
use crate::io::{now, wait_ready};

use self::enter::{die_with_parent, enter_apart, enter_child};

/// What the death of its parent means to a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifeline {
    /// The kernel kills the child with the parent, even while it is stopped.
    DiesWithParent,
    /// The child goes on; it has something to clean up.
    Outlives,
}

/// A forked child.
///
/// Dropping it neither ends nor reaps the process: what owns it decides that.
#[derive(Debug)]
#[must_use = "a child that is not waited for stays a zombie"]
pub struct Child {
    pid: Pid,
    /// Whether the kernel may have given its process id to another process.
    is_reaped: bool,
}

/// Forks a child that runs `child`, ends with its result as exit status, and never returns.
///
/// In the child all descriptors but `keep` are closed, so that none of the parent's hides an end of file from
/// another process; in place of standard streams that are not kept stand descriptors that can be neither
/// read nor written. It has a process group of its own, so that a signal to the parent's group reaches it
/// only through its parent's death. Signals that the parent handles have their default effect. The parent's
/// panic hook is gone, and no destructor of the parent's values runs. `child` is told if the parent is dead.
/// A panic in it ends the process with status [`PANICKED`].
///
/// # Safety
/// `child` neither uses nor drops a descriptor that was opened before the call, but those in `keep`:
/// in the new process they are closed, and their numbers may come to mean something else. That goes for what
/// it calls as well: a memory allocator, functions registered by `pthread_atfork`.
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
    // SAFETY: The process has one thread, and others only that it takes for none of its own
    // ([`ignore_present_threads`]). So the child inherits no lock that another holds, and may do whatever the
    // parent may.
    let forked = unsafe { libc::fork() };
    if forked == 0 {
        let status = run_child(|| {
            child(enter_child(parent, lifeline, keep).map_err(Error::system("become a process")))
        });
        // SAFETY: `_exit` has no precondition; it skips the parent's exit handlers and buffers.
        unsafe { libc::_exit(status.into()) }
    }
    // The only number that is neither 0 nor a process id is -1, and no id is ever negative.
    let pid = u32::try_from(forked).ok().and_then(|_| Pid::from_raw(forked));
    let pid = pid.ok_or_else(|| Error::system("fork a process")(io::Error::last_os_error()))?;
    // The child does the same; whichever is first, it has its group when this returns. An error
    // says that it has ended, or that it must do without.
    let _ = rustix::process::setpgid(Some(pid), Some(pid));
    Ok(Child { pid, is_reaped: false })
}

/// Runs `child` without the parent's panic hook, which may own descriptors that are closed here. It is not
/// dropped either, as that would close their numbers.
fn run_child(child: impl FnOnce() -> u8) -> u8 {
    if thread::panicking() {
        // The hook cannot be taken now.
        return PANICKED;
    }
    std::mem::forget(take_hook());
    catch_unwind(AssertUnwindSafe(child)).unwrap_or_else(|payload| {
        std::mem::forget(payload);
        PANICKED
    })
}

/// Forks a process that runs `child` in a session of its own, and is no child of the caller, which need not
/// reap it and does not find it among the peers. Otherwise as [`fork`].
///
/// # Safety
/// As for [`fork`].
///
/// # Errors
/// As [`fork`].
pub(crate) unsafe fn fork_apart(
    keep: &[BorrowedFd<'_>],
    child: impl FnOnce() -> u8,
) -> Result<(), Error> {
    check_single_threaded()?;
    let failed = Error::system("fork a process");
    // SAFETY: As in `fork`.
    let between = unsafe { libc::fork() };
    if between == 0 {
        // It leads no process group yet, so this does not fail.
        let _ = rustix::process::setsid();
        // SAFETY: As in `fork`.
        let forked = unsafe { libc::fork() };
        let status = match forked {
            0 => run_child(|| {
                enter_apart(keep);
                child()
            }),
            // No error number is greater.
            -1 => io::Error::last_os_error()
                .raw_os_error()
                .and_then(|errno| u8::try_from(errno).ok())
                .unwrap_or(u8::MAX),
            _ => 0,
        };
        // SAFETY: `_exit` has no precondition; it skips the parent's exit handlers and buffers.
        unsafe { libc::_exit(status.into()) }
    }
    if between < 0 {
        return Err(failed(io::Error::last_os_error()));
    }
    let pid = Pid::from_raw(between).expect("0 is the child's side");
    match (Child { pid, is_reaped: false }).wait() {
        Ok(Exit::Status(errno)) if errno > 0 => Err(failed(io::Error::from_raw_os_error(errno))),
        // Where its status cannot be had, the process itself will tell.
        _ => Ok(()),
    }
}

/// Exit status of a child that panicked: the one that Rust programs have.
pub const PANICKED: u8 = 101;

impl Child {
    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid.as_raw_pid().cast_unsigned()
    }

    /// Kills it, unless it has been reaped.
    pub fn kill(&self) {
        if !self.is_reaped {
            // After EPERM there is nothing left to try.
            let _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
    }

    /// Waits for it to end.
    ///
    /// # Errors
    /// [`Error::System`], with `ECHILD` where something else reaps this process's children.
    pub fn wait(mut self) -> Result<Exit, Error> {
        match self.reap(WaitOptions::empty())? {
            Some(exit) => Ok(exit),
            // Without an option the call returns only once it has ended.
            None => Err(Error::system("wait for a process")(Errno::AGAIN)),
        }
    }

    /// Waits for it to end, until `deadline` by [`now`] at most; `None` if it has not ended by then.
    ///
    /// Even a process that was killed may not end: in a system call that waits for a file system without being
    /// interruptible it dies only when the file system answers.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn wait_until(&mut self, deadline: Duration) -> Result<Option<Exit>, Error> {
        let mut pidfd = None;
        loop {
            let exit = self.reap(WaitOptions::NOHANG);
            let left = deadline.saturating_sub(now());
            if self.is_reaped || left.is_zero() {
                return exit;
            }
            // Whatever the error was, the next call may succeed.
            let is_refused = exit.is_err();
            let pidfd = pidfd
                .get_or_insert_with(|| rustix::process::pidfd_open(self.pid, PidfdFlags::empty()));
            let has_waited = pidfd
                .as_ref()
                .is_ok_and(|pidfd| wait_ready(pidfd, PollFlags::IN, Some(left)).is_ok());
            if is_refused || !has_waited {
                thread::sleep(left.min(PAUSE));
            }
        }
    }

    fn reap(&mut self, options: WaitOptions) -> Result<Option<Exit>, Error> {
        let reaped =
            rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(self.pid), options));
        self.is_reaped |= matches!(reaped, Ok(Some(_)) | Err(Errno::CHILD));
        let status = reaped.map_err(Error::system("wait for a process"))?.map(|(_, status)| status);
        Ok(status.map(|status| match status.terminating_signal() {
            Some(signal) => Exit::Signal(signal),
            None => Exit::Status(status.exit_status().unwrap_or(0)),
        }))
    }
}

/// How often a process is looked at that cannot be waited for by a descriptor.
const PAUSE: Duration = Duration::from_millis(5);

/// Lets the calling child live on when its parent dies, to finish something that must not be left
/// half done.
///
/// A group whose last tie to its session ends with the parent, and which has a stopped process in it, is
/// sent `SIGHUP` by the kernel: that is ignored from now on.
///
/// Best effort: a child that may not outlive its parent does what it has to do all the same.
pub fn outlive_parent() {
    set_hangup(libc::SIG_IGN);
    let _ = rustix::process::set_parent_process_death_signal(None);
}

fn set_hangup(disposition: libc::sighandler_t) {
    // SAFETY: Neither to ignore a signal nor to die of it runs code of ours.
    unsafe { libc::signal(libc::SIGHUP, disposition) };
}

/// Runs `work`, which may leave something half done, with the parent's death put off; afterwards the
/// child dies with it again, unless `work` says that it must not.
pub(crate) fn shielded<T>(
    work: impl FnOnce() -> Result<T, Error>,
    must_outlive: impl FnOnce(&T) -> bool,
) -> Result<T, Error> {
    let parent = rustix::process::getppid();
    outlive_parent();
    let done = work()?;
    if let (false, Some(parent)) = (must_outlive(&done), parent) {
        die_with_parent(parent).map_err(|_| Error::ServerGone)?;
        set_hangup(libc::SIG_DFL);
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

/// How many threads beside the calling one [`fork`] ignores.
static IGNORED_THREADS: AtomicU64 = AtomicU64::new(0);

/// Lets [`fork`] ignore the threads that the process has now beside the calling one. A program calls this at the
/// very beginning of `main`: threads that are there before it has started any belong to an emulator or to a
/// preloaded library.
///
/// # Safety
/// Whatever these threads do at a fork, they then hold no lock and leave nothing half done that the child uses.
/// The C library sees to that for itself.
pub unsafe fn ignore_present_threads() {
    let others = count_threads().unwrap_or(1).saturating_sub(1);
    IGNORED_THREADS.store(others, Ordering::Relaxed);
}

fn check_single_threaded() -> Result<(), Error> {
    // Where they cannot be counted, that is no reason to refuse.
    let threads = count_threads().unwrap_or(1);
    if threads > 1 + IGNORED_THREADS.load(Ordering::Relaxed) {
        return Err(Error::NotSingleThreaded(threads));
    }
    Ok(())
}

/// Counts the threads: `/proc/self/task` has one directory for each, and so one link from it. `None` without
/// `/proc`.
fn count_threads() -> Option<u64> {
    let stat = rustix::io::retry_on_intr(|| rustix::fs::stat("/proc/self/task")).ok()?;
    #[allow(clippy::useless_conversion, reason = "a count of links has 32 bits elsewhere")]
    let links = u64::from(stat.st_nlink);
    // `.` and `..` are the other two.
    Some(links.saturating_sub(2))
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
    #[allow(clippy::useless_conversion, reason = "a limit has 32 bits elsewhere")]
    let told = |limit| (limit != libc::RLIM_INFINITY).then_some(u64::from(limit));
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
