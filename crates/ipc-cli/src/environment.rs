//! What a process inherits that would spoil the run, set right before anything else is done.
#![allow(unsafe_code, reason = "signals are set by libc, and code runs before the runtime's own")]

use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};

use ipc_core::process::{Limit, descriptor_limit};
use rustix::process::{Resource, Rlimit, setrlimit};

/// Takes the process as it is when `main` begins. Called before anything else.
pub(crate) fn begin() {
    // Rust's runtime handles these to tell of a stack overflow, and swallows the first that another process
    // sends.
    reset_handler(libc::SIGSEGV);
    reset_handler(libc::SIGBUS);
    // SAFETY: No thread that is there now is this program's, so none holds a lock of its or uses its data.
    unsafe { ipc_core::process::ignore_present_threads() };
}

/// Makes signals and limits what the libraries rely on, whatever the caller left behind. Best effort: mostly
/// they are so already.
pub(crate) fn prepare() {
    // A caller that ignores SIGCHLD hands that down, and then no peer can be waited for.
    set_disposition(libc::SIGCHLD, libc::SIG_DFL);
    // The file size limit then is an error of the write that exceeds it, and not a death.
    set_disposition(libc::SIGXFSZ, libc::SIG_IGN);
    // Writing to a peer or a reader that is gone is to be an error too; `sendfile` has no MSG_NOSIGNAL.
    set_disposition(libc::SIGPIPE, libc::SIG_IGN);
    unblock_all_signals();
    raise_descriptor_limit();
}

/// Lets the calling process write to a terminal that is not its own, which may be set to stop it for that.
pub(crate) fn write_from_background() {
    // Where that fails it is stopped, if the terminal is set so.
    set_disposition(libc::SIGTTOU, libc::SIG_IGN);
}

/// Lets a signal be ignored or have its default effect; gives what it had before.
fn set_disposition(signal: libc::c_int, disposition: libc::sighandler_t) -> libc::sighandler_t {
    debug_assert!(matches!(disposition, libc::SIG_DFL | libc::SIG_IGN));
    // SAFETY: Neither disposition runs code of ours.
    unsafe { libc::signal(signal, disposition) }
}

/// Gives a signal its default effect, unless it is ignored.
fn reset_handler(signal: libc::c_int) {
    if set_disposition(signal, libc::SIG_DFL) == libc::SIG_IGN {
        set_disposition(signal, libc::SIG_IGN);
    }
}

fn unblock_all_signals() {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: The pointer is to a set, which this call fills.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: The set is filled; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
}

/// As far as it may be raised. If that is not enough, `Job::check` says so.
fn raise_descriptor_limit() {
    if let Some(Limit { maximum, .. }) = descriptor_limit() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
}

/// Checks that the caller has not closed standard input.
pub(crate) fn check_stdin() -> io::Result<()> {
    check_open(&STDIN_WAS_CLOSED)
}

/// Checks that the caller has not closed standard output.
pub(crate) fn check_stdout() -> io::Result<()> {
    check_open(&STDOUT_WAS_CLOSED)
}

fn check_open(was_closed: &AtomicBool) -> io::Result<()> {
    match was_closed.load(Ordering::Relaxed) {
        true => Err(rustix::io::Errno::BADF.into()),
        false => Ok(()),
    }
}

static STDIN_WAS_CLOSED: AtomicBool = AtomicBool::new(false);
static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Run by the loader. Rust's runtime opens `/dev/null` in place of closed standard descriptors
/// before `main`, and then empty copies are made of it, or paths are lost in it, without an error.
// SAFETY: The loader calls what stands in this section as C functions; this one needs no runtime, as
// it makes system calls and stores atomics only.
#[used]
#[unsafe(link_section = ".init_array")]
static NOTE_CLOSED: extern "C" fn() = {
    extern "C" fn note() {
        for (fd, was_closed) in [(0, &STDIN_WAS_CLOSED), (1, &STDOUT_WAS_CLOSED)] {
            // SAFETY: The call only asks, and may ask for any number.
            let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
            was_closed.store(flags == -1, Ordering::Relaxed);
        }
    }
    note
};
