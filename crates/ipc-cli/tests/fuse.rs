//! File systems that fail, refuse or lack what others do, by a real one that misbehaves on demand: one peer's
//! disk fails and the others have their copies, and what a file system lacks is done in another way.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use common::fuse::{Fault, Fuse, Op};
use common::paths::{numbered, paths_of};
use common::{Sandbox, both, contents};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

const SIZE: usize = 4_000_001;

/// What peers need that have disks of their own; that of peer 1 misbehaves.
const OWN: [&str; 4] = ["--dir", "to-{peer}", "--name", "{name}"];

/// Checks runs of three peers, of which peer 1 has a disk with these faults, by a file and by a stream.
fn fails_peer_1(sandbox: &Sandbox, options: &[&str], faults: &[Fault], why: Errno) {
    let Some(_disk) = Fuse::mount(sandbox, "to-1", faults) else { return };
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    let why = std::io::Error::from(why).to_string();
    let why = why.split(" (os").next().unwrap();
    for (source, name) in [("data", "data"), ("-", "stdin")] {
        let args = [&OWN, options, &["3", source]].concat();
        let stdin = std::fs::File::open(sandbox.path("data")).unwrap();
        let paths = paths_of([0, 2], |peer| format!("to-{peer}/{name}"));
        sandbox.with(args).stdin(stdin).run().loses(&[(1, why)], &paths, contents);
    }
}

both!(a_disk_that_fails_fails_its_peer_only, |sandbox| {
    for byte in [0, 1, 4096, 3_000_000, SIZE as u64 - 1] {
        fails_peer_1(sandbox, &[], &[Fault::FailsAt(Op::Write, byte, Errno::IO)], Errno::IO);
    }
});

both!(a_disk_that_gets_full_fails_its_peer_only, |sandbox| {
    for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
        fails_peer_1(sandbox, &[], &[Fault::FailsAt(Op::Write, 3_000_000, errno)], errno);
    }
});

both!(a_copy_that_does_not_get_to_the_disk_fails_its_peer_only, |sandbox| {
    for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT] {
        fails_peer_1(sandbox, &["--sync"], &[Fault::Fails(Op::Fsync, errno)], errno);
    }
});

// As NFS does, which accepts bytes before it knows whether there is room.
both!(a_disk_that_tells_only_at_the_close_fails_its_peer_only, |sandbox| {
    for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT] {
        fails_peer_1(sandbox, &[], &[Fault::Fails(Op::Flush, errno)], errno);
    }
});

// Without --sync the page cache has all of it.
both!(a_copy_that_cannot_be_read_back_fails_its_peer_only, |sandbox| {
    let fault = Fault::FailsAt(Op::Read, 2_000_000, Errno::IO);
    fails_peer_1(sandbox, &["--sync", "--verify"], &[fault], Errno::IO);
});

both!(a_file_that_cannot_get_its_name_fails_its_peer_only, |sandbox| {
    for errno in [Errno::IO, Errno::ACCESS] {
        let faults = [Op::Rename, Op::RenameNoReplace, Op::Link].map(|op| Fault::Fails(op, errno));
        for options in [&[][..], &["--no-clobber"]] {
            fails_peer_1(sandbox, options, &faults, errno);
            for peer in [0, 2] {
                std::fs::remove_dir_all(sandbox.path(format!("to-{peer}"))).unwrap();
            }
        }
    }
});

// It has no O_TMPFILE, so there are hidden names.
both!(a_file_system_of_the_simplest_kind_gets_whole_copies, |sandbox| {
    let Some(disk) = Fuse::mount(sandbox, "received-files", &[]) else { return };
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    for options in [&[][..], &["--sync", "--verify"], &["--preserve"], &["--no-clobber"]] {
        let args = [options, &["--name", "{peer}", "3", "data"]].concat();
        sandbox.run(args).stores(&numbered(0..3), contents);
        for peer in ["0", "1", "2"] {
            assert!(disk.bytes_written(peer) >= SIZE as u64);
            std::fs::remove_file(disk.path().join(peer)).unwrap();
        }
    }
});

both!(a_source_that_cannot_be_read_to_its_end_gives_no_copy, |sandbox| {
    let Some(disk) = Fuse::mount(sandbox, "disk", &[]) else { return };
    sandbox.file("disk/data", contents(SIZE));
    sandbox.directory("received-files");
    for byte in [0, 1 << 20, 3_000_000] {
        disk.set(&[Fault::FailsAt(Op::Read, byte, Errno::IO)]);
        sandbox.run(["3", "disk/data"]).gives_up(3, "Input/output error");
    }
});

both!(a_source_is_read_once_for_all_peers, |sandbox| {
    let Some(disk) = Fuse::mount(sandbox, "disk", &[]) else { return };
    let contents = contents(SIZE);
    sandbox.file("disk/data", contents);
    sandbox.run(["--name", "{peer}", "5", "disk/data"]).stores(&numbered(0..5), contents);
    assert_eq!(disk.bytes_read("data"), SIZE as u64);
});

both!(a_disk_that_hangs_delays_its_peer_and_no_other, |sandbox| {
    let faults = [Fault::HangsAt(Op::Write, 1 << 20)];
    let Some(disk) = Fuse::mount(sandbox, "to-1", &faults) else { return };
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    let running = sandbox.with([&OWN[..], &["3", "data"]].concat()).start();
    disk.await_hanging(Op::Write);
    disk.set(&[]);
    running.finish().stores(&paths_of(0..3, |peer| format!("to-{peer}/data")), contents);
});

// What the tests rely on: that it misbehaves as it is told, and else does not.
both!(the_file_system_does_what_it_is_told_to, |sandbox| {
    let Some(disk) = Fuse::mount(sandbox, "disk", &[]) else { return };
    let (one, two) = (sandbox.file("disk/one", b"1"), disk.path().join("two"));
    std::fs::hard_link(&one, &two).unwrap();
    assert_eq!(rename_without_replacing(&two, &one), Err(Errno::EXIST));
    std::fs::remove_file(&one).unwrap();
    assert_eq!(rename_without_replacing(&two, &one), Ok(()));

    disk.set(&[Fault::Fails(Op::StatFs, Errno::NOSYS), Fault::Fails(Op::Link, Errno::PERM)]);
    assert_eq!(rustix::fs::statvfs(&one).err(), Some(Errno::NOSYS));
    let refused = std::fs::hard_link(&one, &two).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::PERM.raw_os_error()));

    disk.set(&[Fault::StandInSize(5)]);
    std::fs::write(&one, b"as long as ever").unwrap();
    assert_eq!(std::fs::metadata(&one).unwrap().len(), 5);
    assert_eq!(std::fs::read(&one).unwrap(), b"as long as ever");

    let granule = Duration::from_secs(2);
    disk.set(&[Fault::CoarseTimes(granule), Fault::Slow(Op::Write, 10)]);
    let began = Instant::now();
    std::fs::write(&one, b"five!").unwrap();
    assert!(began.elapsed() >= Duration::from_millis(500));
    let modified = std::fs::metadata(&one).unwrap().modified().unwrap();
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(since.as_nanos() % granule.as_nanos(), 0);
});

fn rename_without_replacing(from: &Path, to: &Path) -> Result<(), Errno> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
}
