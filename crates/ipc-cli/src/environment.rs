//! What a process inherits that would spoil the run, set right before anything else is done.
#![allow(unsafe_code, reason = "signal dispositions are set by libc calls")]

use std::io;
use std::mem::MaybeUninit;

use rustix::process::{Resource, getrlimit, setrlimit};

/// Makes signals and limits what the libraries rely on, whatever the caller left behind.
pub(crate) fn prepare() -> io::Result<()> {
    // A caller that ignores SIGCHLD hands that down, and then no peer can be waited for.
    set_disposition(libc::SIGCHLD, libc::SIG_DFL)?;
    // The file size limit then is an error of the write that exceeds it, and not a death.
    set_disposition(libc::SIGXFSZ, libc::SIG_IGN)?;
    // A reader of our output that has gone is an error of the write, too.
    set_disposition(libc::SIGPIPE, libc::SIG_IGN)?;
    unblock_all_signals()?;
    raise_descriptor_limit();
    Ok(())
}

fn set_disposition(signal: libc::c_int, disposition: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: Neither disposition runs code of ours.
    match unsafe { libc::signal(signal, disposition) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn unblock_all_signals() -> io::Result<()> {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: The pointer is to a set, which this call fills.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: The set is filled; the old mask is not asked for.
    match unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// As far as it may be raised. A failure shows, by name, once there are too few.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
