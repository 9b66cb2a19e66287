//! Which system calls can fail with which errors, and what is to become of a run in which one does.
//!
//! What stands here are errors that the kernel, a file system or a sandbox gives while the call itself
//! does nothing. So some calls are missing: `close` always closes, whatever it returns, and `munmap`,
//! `kill` and a futex's wake-up do what they are asked for. Made to fail they would not do it, and a run
//! would be judged by what no kernel does. At those, processes are only killed.

use rustix::io::Errno;

/// Errors of one system call.
#[derive(Debug)]
pub(crate) struct Faults {
    /// As strace calls it.
    pub(crate) call: &'static str,
    /// A part of how strace prints the calls that are meant: not every use of a call fails alike.
    pub(crate) part: &'static str,
    /// After these the run may fail, and says why.
    pub(crate) fatal: &'static [&'static str],
    /// From these it recovers: all copies are made.
    pub(crate) harmless: &'static [&'static str],
}

const fn faults(
    call: &'static str,
    part: &'static str,
    fatal: &'static [&'static str],
    harmless: &'static [&'static str],
) -> Faults {
    Faults { call, part, fatal, harmless }
}

/// All errors that are tried.
pub(crate) const ALL: &[Faults] = &[
    // Bytes.
    faults("read", "", &["EIO"], &["EINTR", "EAGAIN"]),
    faults("pread64", "", &["EIO"], &["EINTR", "EAGAIN"]),
    faults("write", "", &["EIO", "ENOSPC", "EDQUOT", "EFBIG"], &["EINTR", "EAGAIN"]),
    faults("sendfile", "", &["EIO", "ENOMEM"], &["EINTR", "EAGAIN"]),
    faults("splice", "", &["EIO", "ENOSPC", "EDQUOT", "ENOMEM"], &["EINTR", "EAGAIN", "EINVAL"]),
    faults("sendto", "", &["ENOBUFS", "ENOMEM"], &["EINTR", "EAGAIN"]),
    faults("recvfrom", "", &["ENOMEM"], &["EINTR", "EAGAIN"]),
    // Files.
    faults(
        "openat",
        "",
        &["EMFILE", "ENFILE", "ENOMEM", "EACCES", "EIO", "ENOSPC", "EDQUOT"],
        &["EINTR"],
    ),
    faults("openat", "O_TMPFILE", &["EOPNOTSUPP"], &[]),
    faults(
        "open",
        "",
        &["EMFILE", "ENFILE", "ENOMEM", "EACCES", "EIO", "ENOSPC", "EDQUOT"],
        &["EINTR"],
    ),
    faults("open", "O_TMPFILE", &["EOPNOTSUPP"], &[]),
    faults("fallocate", "", &["ENOSPC", "EDQUOT", "EIO", "EFBIG", "EOPNOTSUPP"], &["EINTR"]),
    faults("ftruncate", "", &["EIO", "EFBIG"], &["EINTR"]),
    faults("fchmod", "", &["EIO", "EPERM", "EROFS"], &["EINTR"]),
    faults("utimensat", "", &["EIO", "EPERM", "EROFS"], &["EINTR"]),
    faults("fsync", "", &["EIO", "ENOSPC", "EDQUOT"], &["EINTR"]),
    faults("linkat", "", &["ENOSPC", "EDQUOT", "EIO", "EACCES", "EPERM", "EMLINK", "EEXIST"], &[]),
    faults("linkat", "AT_EMPTY_PATH", &[], &["ENOENT"]),
    faults("renameat", "", &["ENOSPC", "EDQUOT", "EIO", "EACCES"], &[]),
    faults("renameat2", "", &["ENOSPC", "EDQUOT", "EIO", "EACCES"], &[]),
    faults("unlinkat", "", &["EIO", "EACCES", "EROFS"], &[]),
    faults("mkdir", "", &["ENOSPC", "EDQUOT", "EACCES", "EROFS", "EIO", "EMLINK"], &[]),
    faults("statx", "", &["EIO", "ENOMEM", "EACCES"], &[]),
    faults("newfstatat", "", &["EIO", "ENOMEM", "EACCES"], &[]),
    faults("fstat", "", &["EIO", "ENOMEM"], &[]),
    faults("fstatfs", "", &["EIO", "ENOSYS"], &["EINTR"]),
    faults("lseek", "", &["EIO"], &[]),
    faults("faccessat2", "", &["EACCES", "EROFS", "EIO"], &[]),
    // Descriptors.
    faults("dup", "", &["EMFILE"], &[]),
    faults("fcntl", "F_DUPFD", &["EMFILE"], &[]),
    faults("fcntl", "F_SETPIPE_SZ", &[], &["EPERM", "EBUSY", "ENOMEM"]),
    faults("pipe2", "", &["EMFILE", "ENFILE"], &[]),
    faults("close_range", "", &["ENOSYS", "ENOMEM"], &[]),
    faults("epoll_create1", "", &["EMFILE", "ENFILE", "ENOMEM"], &[]),
    faults("epoll_ctl", "EPOLL_CTL_ADD", &["ENOMEM", "ENOSPC"], &[]),
    faults("epoll_ctl", "EPOLL_CTL_MOD", &["ENOMEM"], &[]),
    faults("epoll_pwait", "", &[], &["EINTR"]),
    faults("ppoll", "", &["ENOMEM"], &["EINTR"]),
    faults("poll", "", &["ENOMEM"], &["EINTR"]),
    // Sockets.
    faults("socket", "", &["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EACCES"], &[]),
    faults("socketpair", "", &["EMFILE", "ENFILE", "ENOMEM"], &[]),
    faults("bind", "", &["ENOMEM", "EACCES", "EADDRINUSE"], &[]),
    faults("listen", "", &["ENOBUFS"], &[]),
    faults("getsockname", "", &["ENOBUFS"], &[]),
    faults("setsockopt", "SO_SNDBUF", &[], &["ENOMEM", "ENOBUFS"]),
    faults("connect", "", &["ENOMEM"], &["EINTR", "EAGAIN"]),
    faults(
        "accept4",
        "",
        &[],
        &["EINTR", "EAGAIN", "ECONNABORTED", "EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"],
    ),
    // Memory and processes.
    faults("mmap", "", &["ENOMEM", "EAGAIN"], &[]),
    faults("mprotect", "", &["ENOMEM", "EACCES"], &[]),
    faults("futex", "FUTEX_WAIT", &[], &["EINTR", "EAGAIN"]),
    faults("clone", "", &["EAGAIN", "ENOMEM"], &[]),
    faults("wait4", "", &[], &["EINTR"]),
    faults("prctl", "PR_SET_PDEATHSIG", &["EPERM"], &[]),
    faults("setpgid", "", &["EPERM"], &[]),
    faults("prlimit64", "}, NULL)", &[], &["EPERM"]),
    faults("getrandom", "", &["ENOSYS"], &["EINTR"]),
];

/// The error that strace calls `name`.
pub(crate) fn errno(name: &str) -> Option<Errno> {
    NAMED.iter().find(|(known, _)| *known == name).map(|&(_, errno)| errno)
}

const NAMED: &[(&str, Errno)] = &[
    ("EACCES", Errno::ACCESS),
    ("EADDRINUSE", Errno::ADDRINUSE),
    ("EAGAIN", Errno::AGAIN),
    ("EBUSY", Errno::BUSY),
    ("ECONNABORTED", Errno::CONNABORTED),
    ("EDQUOT", Errno::DQUOT),
    ("EEXIST", Errno::EXIST),
    ("EFBIG", Errno::FBIG),
    ("EINTR", Errno::INTR),
    ("EINVAL", Errno::INVAL),
    ("EIO", Errno::IO),
    ("EMFILE", Errno::MFILE),
    ("EMLINK", Errno::MLINK),
    ("ENFILE", Errno::NFILE),
    ("ENOBUFS", Errno::NOBUFS),
    ("ENOENT", Errno::NOENT),
    ("ENOMEM", Errno::NOMEM),
    ("ENOSPC", Errno::NOSPC),
    ("ENOSYS", Errno::NOSYS),
    ("EOPNOTSUPP", Errno::OPNOTSUPP),
    ("EPERM", Errno::PERM),
    ("EROFS", Errno::ROFS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_known_by_its_name() {
        for faults in ALL {
            for name in faults.fatal.iter().chain(faults.harmless) {
                assert!(errno(name).is_some(), "{}: {name}", faults.call);
            }
        }
    }
}
