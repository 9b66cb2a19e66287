//! Calls that are refused: by real seccomp filters, which answer to what they do not know with `EPERM` or
//! `ENOSYS`, and by a file system. No copy depends on a call that only makes it better, faster, or surer.
//! (`cargo xtask sweep optional` has all such calls, one at a time, and all errors.)
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

use common::filtered::{Refused, all, with};
use common::fuse::{Fault, Fuse, Op};
use common::paths::{PID, default_paths, numbered, paths_of};
use common::{RING, both, contents, private_mounts, skip};
use rustix::io::Errno;

const SIZE: usize = RING + 1;

/// What a filter of an older engine or of a strict service can refuse, one row for each filter.
const FILTERS: &[&[Refused]] = &[
    // Younger than many filters.
    &[all(libc::SYS_close_range)],
    &[all(libc::SYS_faccessat2), all(libc::SYS_openat2)],
    &[all(libc::SYS_statx)],
    &[all(libc::SYS_renameat2)],
    &[all(libc::SYS_clone3)],
    &[all(libc::SYS_pidfd_open), all(libc::SYS_pidfd_send_signal)],
    &[all(libc::SYS_copy_file_range)],
    &[all(libc::SYS_memfd_create)],
    // Old ones.
    &[all(libc::SYS_faccessat2), all(libc::SYS_faccessat)],
    &[all(libc::SYS_fallocate)],
    &[all(libc::SYS_fstatfs), all(libc::SYS_statfs)],
    &[all(libc::SYS_fadvise64)],
    &[all(libc::SYS_sendfile)],
    &[all(libc::SYS_splice)],
    &[all(libc::SYS_pipe2)],
    &[with(libc::SYS_fcntl, 1, libc::F_SETPIPE_SZ)],
    &[with(libc::SYS_fcntl, 1, libc::F_SETPIPE_SZ), with(libc::SYS_fcntl, 1, libc::F_GETPIPE_SZ)],
    &[with(libc::SYS_setsockopt, 2, libc::SO_SNDBUF)],
    &[with(libc::SYS_lseek, 2, libc::SEEK_DATA), with(libc::SYS_lseek, 2, libc::SEEK_HOLE)],
    &[with(libc::SYS_fcntl, 1, libc::F_SETLEASE)],
    &[with(libc::SYS_linkat, 4, libc::AT_EMPTY_PATH)],
    &[all(libc::SYS_linkat)],
    &[all(libc::SYS_prlimit64)],
    &[all(libc::SYS_capget)],
    &[all(libc::SYS_readlinkat), all(libc::SYS_dup)],
    &[all(libc::SYS_setpgid)],
    &[all(libc::SYS_rt_sigprocmask)],
    &[with(libc::SYS_prctl, 0, libc::PR_SET_PDEATHSIG)],
    &[all(libc::SYS_dup3)],
    &[all(libc::SYS_waitid)],
    &[all(libc::SYS_fremovexattr), all(libc::SYS_fgetxattr), all(libc::SYS_flistxattr)],
    // PR_GET_AUXV
    &[with(libc::SYS_prctl, 0, 0x4155_5856)],
    &[with(libc::SYS_epoll_ctl, 1, libc::EPOLL_CTL_DEL)],
    &[all(libc::SYS_ioctl)],
];

const ERRORS: [Errno; 2] = [Errno::PERM, Errno::NOSYS];

/// All filters, and one that refuses all of it at once.
fn filters() -> impl Iterator<Item = (Vec<Refused>, Errno)> {
    let every = FILTERS.concat();
    let filters = FILTERS.iter().map(|calls| calls.to_vec()).chain([every]);
    filters.flat_map(|calls| ERRORS.map(|errno| (calls.clone(), errno)))
}

both!(a_file_is_copied_without_what_a_filter_refuses, |sandbox| {
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    for (calls, errno) in filters() {
        let run = sandbox.with(["2", "data"]).refused(&calls, errno).run();
        run.stores(&default_paths(2, "data"), contents);
    }
});

both!(a_stream_is_copied_without_what_a_filter_refuses, |sandbox| {
    let contents = contents(SIZE);
    for (calls, errno) in filters() {
        let stream = sandbox.with(["2", "-"]).stdin(Stdio::piped()).refused(&calls, errno);
        stream.start().feed_stdin(contents).finish().stores(&default_paths(2, "stdin"), contents);
    }
});

both!(every_option_does_without_what_a_filter_refuses, |sandbox| {
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    let options =
        ["--sync", "--verify", "--preserve", "--no-clobber", "--dir=new/{peer}", "2", "data"];
    for (calls, errno) in filters() {
        let run = sandbox.with(options).refused(&calls, errno).run();
        run.stores(&paths_of(0..2, |peer| format!("new/{peer}/pid-{PID}_data")), contents);
        std::fs::remove_dir_all(sandbox.path("new")).unwrap();
    }
});

both!(holes_are_copied_without_what_a_filter_refuses, |sandbox| {
    let file = File::create(sandbox.path("data")).unwrap();
    file.set_len(3 << 20).unwrap();
    file.write_all_at(b"an extent", 1 << 20).unwrap();
    let contents = std::fs::read(sandbox.path("data")).unwrap();
    for (calls, errno) in filters() {
        let run = sandbox.with(["2", "data"]).refused(&calls, errno).run();
        run.stores(&default_paths(2, "data"), &contents);
    }
});

both!(a_file_is_copied_without_what_a_file_system_refuses, |sandbox| {
    let Some(disk) = Fuse::mount(sandbox, "received-files", &[]) else { return };
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    let errors = [
        Errno::PERM,
        Errno::NOSYS,
        Errno::INVAL,
        Errno::OPNOTSUPP,
        Errno::ACCESS,
        Errno::IO,
        Errno::NOMEM,
        Errno::NOTTY,
    ];
    for errno in errors {
        let faults = [Op::StatFs, Op::Fallocate].map(|op| Fault::Fails(op, errno));
        for faults in [&faults[..1], &faults[1..], &faults] {
            disk.set(faults);
            let run = sandbox.run(["--name={peer}", "2", "data"]);
            run.stores(&numbered(0..2), contents);
            disk.set(&[]);
            (0..2).for_each(|peer| {
                std::fs::remove_file(sandbox.path(format!("received-files/{peer}"))).unwrap();
            });
        }
    }
});

both!(a_file_is_copied_without_proc, |sandbox| {
    let Some(command) = private_mounts() else {
        return skip("a system without /proc", "this user may not make mounts");
    };
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    for calls in [&[][..], &[all(libc::SYS_close_range)]] {
        let hidden = sandbox.with(["2", "data"]).in_shell(r#"mount -t tmpfs tmpfs /proc && "$@""#);
        let run = hidden.through(command).refused(calls, Errno::NOSYS).run();
        run.stores(&default_paths(2, "data"), contents);
    }
});
