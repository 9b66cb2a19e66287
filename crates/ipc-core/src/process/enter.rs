//! What a forked child does before anything else: it cuts its ties to all of its parent but its life.
//!
//! All of this but the look at the parent is best effort: a kernel, or a filter of system calls, that refuses
//! one call makes a child use another one or go on without.

use std::fs::read_dir;
use std::io;
use std::mem::MaybeUninit;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::{Lifeline, descriptor_limit};

/// Ties the child to its parent's life, if so wanted, and cuts all other ties. The first call is the one that
/// lets the kernel kill it with its parent.
pub(super) fn enter_child(
    parent: Pid,
    lifeline: Lifeline,
    keep: &[BorrowedFd<'_>],
) -> io::Result<()> {
    if lifeline == Lifeline::DiesWithParent {
        die_with_parent(parent)?;
    }
    // Without a group of its own it gets the signals of its parent's group as well.
    let _ = rustix::process::setpgid(None, None);
    // Before descriptors are closed: a handler may write to one.
    reset_handlers();
    close_all_but(keep);
    Ok(())
}

/// Cuts all ties of a child that outlives its parent, in a session of its own.
pub(super) fn enter_apart(keep: &[BorrowedFd<'_>]) {
    reset_handlers();
    close_all_but(keep);
}

/// Lets the kernel kill the calling child when its parent dies.
///
/// Where that is refused, the child learns of the death by its channel to the parent.
pub(super) fn die_with_parent(parent: Pid) -> io::Result<()> {
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    // The signal is not sent for a parent that died before the call.
    match rustix::process::getppid() == Some(parent) {
        true => Ok(()),
        false => Err(Errno::SRCH.into()),
    }
}

/// Gives signals with a handler their default effect: a handler is the parent's code, and uses what the child
/// does not have. What is ignored stays ignored.
fn reset_handlers() {
    for signal in 1..=libc::SIGRTMAX() {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: Without a new action the call only fills in the present one.
        if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } != 0 {
            // The C library keeps some numbers for itself.
            continue;
        }
        // SAFETY: The call has filled it in.
        let handler = unsafe { action.assume_init() }.sa_sigaction;
        if handler != libc::SIG_DFL && handler != libc::SIG_IGN {
            // SAFETY: The default effect runs no code of this process.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

/// Closes all descriptors but `keep`. The numbers 0 to 2 stay taken: what is written to them is refused.
fn close_all_but(keep: &[BorrowedFd<'_>]) {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    kept.sort_unstable();
    refuse_standard_streams(&kept);
    let mut unkept = Vec::new();
    let mut first = 3;
    for fd in kept.into_iter().filter(|&fd| fd >= 3) {
        if fd > first {
            unkept.push(first..=fd - 1);
        }
        first = fd.saturating_add(1);
    }
    unkept.push(first..=u32::MAX);
    if !unkept.iter().all(close_range) {
        close_one_by_one(&unkept);
    }
}

/// Takes the standard streams that are not `kept` away from the child. Whoever reads the parent's output shall
/// see its end though a child cannot be ended.
///
/// In their place comes a descriptor that can be neither read nor written. With the numbers free, what is
/// printed would go to the file that happens to get one.
fn refuse_standard_streams(kept: &[u32]) {
    let Ok(nothing) = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else {
        return;
    };
    type Replace<'f> = fn(BorrowedFd<'f>) -> rustix::io::Result<()>;
    let replace: [Replace<'_>; 3] =
        [rustix::stdio::dup2_stdin, rustix::stdio::dup2_stdout, rustix::stdio::dup2_stderr];
    for (number, replace) in (0..).zip(replace) {
        if !kept.contains(&number) {
            let _ = replace(std::os::fd::AsFd::as_fd(&nothing));
        }
    }
}

/// Closes these descriptors with one call; says no if that is refused.
fn close_range(fds: &RangeInclusive<u32>) -> bool {
    // Through `syscall`, as only some C libraries have a function for it (Linux has it since 5.9).
    // SAFETY: The child's copies of the parent's descriptors have no user left: that is the condition of
    // `fork`, and no destructor of the parent's values runs before `_exit`.
    unsafe { libc::syscall(libc::SYS_close_range, *fds.start(), *fds.end(), 0) == 0 }
}

/// Closes those of these descriptors that are open. Without `/proc` it cannot be known which are.
fn close_one_by_one(fds: &[RangeInclusive<u32>]) {
    let number = |name: &std::ffi::OsStr| name.to_str()?.parse().ok();
    let open: Option<Vec<u32>> = read_dir("/proc/self/fd")
        .ok()
        .map(|entries| entries.flatten().filter_map(|entry| number(&entry.file_name())).collect());
    let open = open.unwrap_or_else(|| {
        let limit = descriptor_limit().and_then(|limit| limit.current).map(u32::try_from);
        (3..limit.and_then(Result::ok).unwrap_or(MOST_NUMBERS).min(MOST_NUMBERS)).collect()
    });
    for fd in open.into_iter().filter(|fd| fds.iter().any(|unkept| unkept.contains(fd))) {
        // SAFETY: As in `close_range`. Whatever the list was made with is closed already.
        unsafe { libc::close(fd.cast_signed()) };
    }
}

/// The numbers that are tried where it is not known which are in use, whatever the limit is.
const MOST_NUMBERS: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// The status of a process that runs `child` without any of what the test harness has beside it.
    fn in_child(child: impl FnOnce()) -> i32 {
        // SAFETY: The child makes system calls and allocates, for which the C library cares in `fork`. Like
        // the tests of other programs that fork it relies on no lock of another thread's.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            child();
            // SAFETY: It has no precondition.
            unsafe { libc::_exit(0) };
        }
        let mut status = -1;
        // SAFETY: The child is this process's, and the status outlives the call.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        status
    }

    fn check(holds: bool, status: i32) {
        if !holds {
            // SAFETY: It has no precondition.
            unsafe { libc::_exit(status) };
        }
    }

    #[test]
    fn one_by_one_closes_what_is_not_kept_and_nothing_else() {
        let (kept, other) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let is_open = |fd: i32| {
            // SAFETY: It only asks.
            unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
        };
        let (kept, other) = (kept.as_raw_fd(), other.as_raw_fd());
        let number = kept.cast_unsigned();
        let status = in_child(|| {
            close_one_by_one(&[3..=number - 1, number + 1..=u32::MAX]);
            check(is_open(kept), 1);
            check(!is_open(other), 2);
            check((0..3).all(is_open), 3);
        });
        assert_eq!(status, 0);
    }

    #[test]
    fn standard_streams_that_are_not_kept_refuse_everything() {
        let status = in_child(|| {
            close_all_but(&[std::io::stderr().as_fd()]);
            let write = |fd: i32| {
                // SAFETY: There is nothing in the buffer to be read.
                unsafe { libc::write(fd, ptr::null(), 0) }
            };
            check(write(1) == -1, 1);
            check(write(2) == 0, 2);
            let file = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty());
            check(file.is_ok_and(|file| file.as_raw_fd() == 3), 3);
        });
        assert_eq!(status, 0);
    }
}
