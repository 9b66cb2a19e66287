//! Which system calls can fail with which errors, and what is to become of a run in which one does.
//!
//! What stands here are errors that the kernel, a file system or a sandbox gives while the call itself
//! does nothing. So some calls are missing: `close` always closes, whatever it returns, and `munmap`,
//! `kill` and a futex's wake-up do what they are asked for. Made to fail they would not do it, and a run
//! would be judged by what no kernel does. At those, processes are only killed.
//!
//! There are three classes of errors. A *fatal* one may end the run, with its reason. From a *harmless* one
//! the call is made again, or the kernel has said by it that there is another way. And some calls are
//! *optional*: they only make a copy better, faster, or surer beforehand. A kernel, a file system or a
//! seccomp filter may refuse them with whatever error, and the copies are right all the same.

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

/// A call that no right copy depends on.
#[derive(Debug)]
pub(crate) struct Optional {
    /// As in [`Faults`].
    pub(crate) call: &'static str,
    /// As in [`Faults`].
    pub(crate) part: &'static str,
    /// What a run does when the call is refused.
    pub(crate) without: &'static str,
}

const fn optional(call: &'static str, part: &'static str, without: &'static str) -> Optional {
    Optional { call, part, without }
}

/// What an optional call is refused with. The first one is that of seccomp filters which do not know the
/// call; these are the errors of a kernel, a file system, a driver or a policy without it, and of those
/// that fail to do it.
pub(crate) const REFUSALS: &[&str] =
    &["EPERM", "ENOSYS", "EINVAL", "EOPNOTSUPP", "EACCES", "EIO", "ENOMEM", "ENOTTY"];

/// All optional calls.
#[rustfmt::skip]
pub(crate) const OPTIONAL: &[Optional] = &[
    // What a process inherits.
    optional("rt_sigaction", "", "the signal keeps the disposition that was inherited"),
    optional("rt_sigprocmask", "", "signals stay blocked that the caller has blocked"),
    optional("prlimit64", "RLIMIT_NOFILE", "the descriptor limit stays as it is, and is met when it is reached"),
    optional("ioctl", "", "standard error is taken for no terminal, or for one of 80 columns"),
    optional("getrandom", "", "random numbers come from elsewhere"),
    // Looks at what will fail later, and less clearly, if it is to fail.
    optional("dup", "", "descriptors are not counted"),
    optional("faccessat2", "", "faccessat is asked; a file that cannot be created is its peer's failure"),
    optional("fstatfs", "", "room is not counted; a full disk is the error of a write"),
    optional("capget", "", "what is reserved for root is not counted as room"),
    optional("statx", "/proc/self/ns/", "the PID namespaces are taken for one"),
    optional("readlink", "/proc/self/ns/", "the PID namespaces are taken for one"),
    optional("newfstatat", "/proc/self/task", "the process is taken for one with a single thread"),
    // The source.
    optional("open", "/proc/self/fd/", "the source is looked up again by its path"),
    optional("statx", "AT_STATX_FORCE_SYNC", "a network file system may answer from its cache"),
    optional("fremovexattr", "", "a write with O_DIRECT is not waited for"),
    optional("lseek", "SEEK_DATA", "no write is waited for; holes are copied as zeros"),
    optional("lseek", "SEEK_HOLE", "holes are copied as zeros"),
    optional("sendfile", "", "bytes go through the server's memory"),
    // The received file.
    // The source's mode is that of what the sweep writes; files in /dev/shm are for their owner only.
    optional("openat", "O_TMPFILE, 0644", "the file has a hidden name until it is whole"),
    optional("fcntl", "F_DUPFD_CLOEXEC", "what a file system tells only at the close is not heard"),
    optional("fallocate", "", "no space is reserved; the segment's is, by writing zeros to it"),
    optional("pipe2", "", "bytes go through memory"),
    optional("fcntl", "F_SETPIPE_SZ", "the pipe keeps its size"),
    optional("fcntl", "F_GETPIPE_SZ", "bytes go through memory"),
    optional("splice", "", "bytes go through the peer's memory"),
    optional("linkat", "AT_EMPTY_PATH", "the file is linked by its path in /proc/self/fd"),
    optional("fadvise64", "", "the copy may be read back from memory"),
    // Processes.
    optional("prctl", "PR_SET_PDEATHSIG", "a peer learns of the server's death by its channel"),
    optional("setpgid", "", "a signal to the server's group reaches its children too"),
    optional("close_range", "", "descriptors are closed one by one"),
    optional("dup3", "", "a child keeps the standard streams"),
    optional("dup2", "", "a child keeps the standard streams"),
    optional("open", "(\"/\", ", "a child keeps the standard streams"),
    optional("pidfd_open", "", "the end of a process is looked for again and again"),
    optional("mprotect", "", "a peer that runs wild could spoil the segment"),
    optional("epoll_ctl", "EPOLL_CTL_DEL", "a closed channel leaves the set with its last holder"),
    // The connection.
    optional("setsockopt", "SO_SNDBUF", "the queue keeps its size"),
];

/// All other errors that are tried.
pub(crate) const ALL: &[Faults] = &[
    // Bytes.
    faults("read", "", &["EIO"], &["EINTR", "EAGAIN"]),
    faults("pread64", "", &["EIO"], &["EINTR", "EAGAIN"]),
    faults("write", "", &["EIO", "ENOSPC", "EDQUOT", "EFBIG"], &["EINTR", "EAGAIN"]),
    faults("sendfile", "", &[], &["EINTR", "EAGAIN"]),
    faults("splice", "", &[], &["EINTR", "EAGAIN", "ENOSPC", "EDQUOT"]),
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
    faults("fallocate", "", &["ENOSPC", "EDQUOT", "EFBIG"], &["EINTR"]),
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
    faults("fstatfs", "", &[], &["EINTR"]),
    faults("lseek", "SEEK_SET", &["EIO"], &[]),
    faults("faccessat2", "", &[], &["EROFS"]),
    // Descriptors.
    faults("dup", "", &["EMFILE"], &["ENFILE"]),
    faults("fcntl", "F_SETPIPE_SZ", &[], &["EBUSY"]),
    faults("pipe2", "", &[], &["EMFILE", "ENFILE"]),
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
    faults("setsockopt", "SO_SNDBUF", &[], &["ENOBUFS"]),
    faults("connect", "", &["ENOMEM"], &["EINTR", "EAGAIN"]),
    faults(
        "accept4",
        "",
        &[],
        &["EINTR", "EAGAIN", "ECONNABORTED", "EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"],
    ),
    // Memory and processes.
    faults("mmap", "", &["ENOMEM", "EAGAIN"], &[]),
    faults("futex", "FUTEX_WAIT", &[], &["EINTR", "EAGAIN"]),
    faults("clone", "", &["EAGAIN", "ENOMEM"], &[]),
    faults("wait4", "", &[], &["EINTR"]),
    faults("getrandom", "", &[], &["EINTR", "EAGAIN"]),
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
    ("ENOTTY", Errno::NOTTY),
    ("EOPNOTSUPP", Errno::OPNOTSUPP),
    ("EPERM", Errno::PERM),
    ("EROFS", Errno::ROFS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_known_by_its_name() {
        let named = ALL.iter().flat_map(|faults| faults.fatal.iter().chain(faults.harmless));
        for name in named.chain(REFUSALS) {
            assert!(errno(name).is_some(), "{name}");
        }
    }
}
