//! File systems without hard links, without renames that replace nothing, or without either: copies get their
//! names there too, and with `--no-clobber` a name that is taken is kept.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use common::fuse::{Fault, Fuse, Op};
use common::mounts::{taken_out_of, with_mounts_checked};
use common::paths::{numbered, paths_of};
use common::run::assert_same;
use common::{BLOCK, Sandbox, both, contents, private_mounts, skip, succeeds};
use rustix::io::Errno;

const SIZE: usize = 5 * BLOCK + 7;

/// What real file systems answer: exFAT by FUSE, rclone, FAT, CIFS, and old kernels.
const ERRORS: [Errno; 7] = [
    Errno::PERM,
    Errno::IO,
    Errno::OPNOTSUPP,
    Errno::INVAL,
    Errno::NOSYS,
    Errno::MLINK,
    Errno::ACCESS,
];

fn path(peer: usize) -> String {
    format!("received-files/{peer}")
}

/// Checks runs of three peers on a file system where these operations fail: names that are free are given,
/// and one that is taken is kept or replaced.
fn name_without(sandbox: &Sandbox, missing: &[Op]) {
    let Some(disk) = Fuse::mount(sandbox, "received-files", &[]) else { return };
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    for errno in ERRORS {
        let faults: Vec<_> = missing.iter().map(|&op| Fault::Fails(op, errno)).collect();
        for options in [&[][..], &["--no-clobber"], &["--sync", "--no-clobber"]] {
            disk.set(&faults);
            let args = [options, &["--name={peer}", "3", "data"]].concat();
            sandbox.run(&args).stores(&numbered(0..3), contents);

            fs::remove_file(disk.path().join("0")).unwrap();
            fs::remove_file(disk.path().join("2")).unwrap();
            fs::write(disk.path().join("1"), "older").unwrap();
            if options.is_empty() {
                sandbox.run(&args).stores(&numbered(0..3), contents);
            } else {
                let why = r#"cannot store "received-files/1": File exists"#;
                sandbox.run(&args).loses(&[(1, why)], &paths_of([0, 2], path), contents);
                assert_same(&disk.path().join("1"), b"older");
            }
            (0..3).for_each(|peer| fs::remove_file(disk.path().join(peer.to_string())).unwrap());
        }
    }
}

both!(a_file_system_without_hard_links, |sandbox| {
    name_without(sandbox, &[Op::Link]);
});

both!(a_file_system_without_renames_that_replace_nothing, |sandbox| {
    name_without(sandbox, &[Op::RenameNoReplace]);
});

both!(a_file_system_with_plain_renames_only, |sandbox| {
    name_without(sandbox, &[Op::Link, Op::RenameNoReplace]);
});

both!(a_name_that_is_free_is_linked_where_nothing_can_be_renamed, |sandbox| {
    let faults = [Op::Rename, Op::RenameNoReplace].map(|op| Fault::Fails(op, Errno::PERM));
    let Some(disk) = Fuse::mount(sandbox, "received-files", &faults) else { return };
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    for options in [&[][..], &["--no-clobber"]] {
        sandbox
            .run([options, &["--name={peer}", "3", "data"]].concat())
            .stores(&numbered(0..3), contents);
        fs::remove_file(disk.path().join("0")).unwrap();
        fs::remove_file(disk.path().join("2")).unwrap();
        fs::write(disk.path().join("1"), "older").unwrap();
        let why = if options.is_empty() { "Operation not permitted" } else { "File exists" };
        let run = sandbox.run([options, &["--name={peer}", "3", "data"]].concat());
        run.loses(&[(1, why)], &paths_of([0, 2], path), contents);
        assert_same(&disk.path().join("1"), b"older");
        (0..3).for_each(|peer| fs::remove_file(disk.path().join(peer.to_string())).unwrap());
    }
});

both!(a_file_that_can_get_no_name_leaves_none, |sandbox| {
    let faults = [Op::Rename, Op::RenameNoReplace, Op::Link].map(|op| Fault::Fails(op, Errno::IO));
    let Some(disk) = Fuse::mount(sandbox, "received-files", &faults) else { return };
    sandbox.file("data", contents(SIZE));
    for options in [&[][..], &["--no-clobber"]] {
        let run = sandbox.run([options, &["--name={peer}", "3", "data"]].concat());
        run.loses(&[0, 1, 2].map(|peer| (peer, "Input/output error")), &[], &[]);
        assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
    }
});

/// exFAT by FUSE: no links, no `RENAME_NOREPLACE`, no files without a name.
const EXFAT: &str = "truncate -s 32M /dev/shm/image && mkfs.exfat /dev/shm/image &&
    disk=$(losetup --find --show /dev/shm/image) && mount.exfat-fuse $disk received-files &&
    losetup --detach $disk && rm /dev/shm/image";

/// A directory as a file system in user space has it, which may refuse to rename.
const BOUND: &str = r#"mount -t tmpfs tmpfs "$TMPDIR" &&
    bindfs --hide-hard-links "$TMPDIR" received-files"#;
const NO_RENAMES: &str = r#"mount -t tmpfs tmpfs "$TMPDIR" &&
    bindfs --rename-deny "$TMPDIR" received-files"#;

/// Checks runs on a real file system that `setup` mounts, with or without a file that is there before.
fn name_on(sandbox: &Sandbox, setup: &str, can_replace: bool) {
    let Some(command) = private_mounts() else {
        skip("other mounts", "this user may not make any");
        return;
    };
    let probe = format!(
        r#"cd "$1" && mkdir received-files tmp && TMPDIR=$PWD/tmp && mount -t tmpfs tmpfs /dev/shm &&
        {{ {setup}; }} >/dev/null 2>&1
        status=$?; umount -l received-files 2>&-; exit $status"#
    );
    let sh = ["sh", "-c", &probe, "sh"];
    let directory = tempfile::tempdir().unwrap();
    if !succeeds(&[command, &sh].concat(), directory.path()) {
        skip(setup, "it cannot be mounted here");
        return;
    }
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    let check =
        format!("ls -A received-files | grep -v '^[0-2]$' >&2; {}", taken_out_of("received-files"));
    for options in [&[][..], &["--no-clobber"]] {
        for is_taken in [false, true] {
            let _ = fs::remove_dir_all(sandbox.path("received-files"));
            sandbox.directory("received-files");
            let old = if is_taken { "&& echo older >received-files/1" } else { "" };
            let setup = format!("{{ {{ {setup}; }} >/dev/null 2>&1 {old}; }}");
            let args = [options, &["--name={peer}", "3", "data"]].concat();
            let Some(run) = with_mounts_checked(sandbox, &setup, &check, &args) else { return };
            if !is_taken || (options.is_empty() && can_replace) {
                run.stores(&numbered(0..3), contents);
                continue;
            }
            let why = if options.is_empty() { "Operation not permitted" } else { "File exists" };
            let run = run.leaving_also("received-files/1");
            run.loses(&[(1, why)], &paths_of([0, 2], path), contents);
            assert_same(&sandbox.path(path(1)), b"older\n");
        }
    }
}

both!(exfat_in_user_space, |sandbox| {
    name_on(sandbox, EXFAT, true);
});

both!(a_bound_directory, |sandbox| {
    name_on(sandbox, BOUND, true);
});

both!(a_bound_directory_in_which_nothing_is_renamed, |sandbox| {
    name_on(sandbox, NO_RENAMES, false);
});
