//! Errors that a file system keeps for the close of a file.
#![allow(unsafe_code, reason = "closes a descriptor by libc, to learn what came of it")]

use std::io;
use std::os::fd::{AsFd, IntoRawFd};

/// Waits for bytes that a file system has accepted and not yet stored, where it does so at each close of a
/// file, and gives the error that it tells only there: NFS and much of FUSE find a full disk so late. Other
/// file systems have nothing to do.
pub(crate) fn flush(file: impl AsFd) -> io::Result<()> {
    loop {
        // Without a descriptor to close, the error stays unknown.
        let Ok(copy) = rustix::io::fcntl_dupfd_cloexec(&file, 0) else { return Ok(()) };
        // SAFETY: It is the only user of this descriptor, which is closed whatever the call returns.
        let closed = unsafe { libc::close(copy.into_raw_fd()) };
        match io::Error::last_os_error() {
            _ if closed == 0 => return Ok(()),
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}
