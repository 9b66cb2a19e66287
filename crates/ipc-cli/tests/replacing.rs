//! What a received file may replace: a regular file or a symbolic link. Devices, FIFOs, sockets and directories
//! keep their names, whenever they got them, and only the peer that would need such a name fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use common::paths::paths_of;
use common::paused::{Fifo, await_peers};
use common::run::assert_same;
use common::{BEYOND_ALL_BUFFERS, BLOCK, both, contents, skip};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

/// A path that is taken by something else than a file, and what that is.
type Taken = (&'static str, fn(&Path) -> bool);

const TAKEN: [Taken; 5] = [
    ("a FIFO", |path| make(path, FileType::Fifo, 0)),
    ("a socket", |path| UnixListener::bind(path).is_ok()),
    ("a directory", |path| fs::create_dir(path).is_ok()),
    // As /dev/null is.
    ("a character device", |path| make(path, FileType::CharacterDevice, makedev(1, 3))),
    ("a block device", |path| make(path, FileType::BlockDevice, makedev(7, 255))),
];

fn make(path: &Path, kind: FileType, device: u64) -> bool {
    mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, device).is_ok()
}

fn remove(path: &Path) {
    if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }.unwrap();
}

fn path(peer: usize) -> String {
    format!("received-files/{peer}")
}

both!(what_is_no_file_keeps_its_name, |sandbox| {
    let contents = contents(BLOCK);
    sandbox.file("data", contents);
    sandbox.directory("received-files");
    for (kind, take) in TAKEN {
        let taken = sandbox.path(path(1));
        if !take(&taken) {
            skip(kind, "this user may not make one");
            continue;
        }
        let before = taken.symlink_metadata().unwrap();
        for (options, why) in [
            (&[][..], format!("is {kind}, which is not replaced")),
            (&["--sync", "--verify"], format!("is {kind}, which is not replaced")),
            (&["--no-clobber"], "File exists".to_owned()),
        ] {
            let run = sandbox.run([options, &["--name={peer}", "3", "data"]].concat());
            let why = format!(
                r#""received-files/1"{}{why}"#,
                if why.starts_with("is") { " " } else { ": " }
            );
            run.loses(&[(1, &why)], &paths_of([0, 2], path), contents);
            let after = taken.symlink_metadata().unwrap();
            assert_eq!((after.ino(), after.rdev()), (before.ino(), before.rdev()), "{kind}");
            [0, 2].iter().for_each(|&peer| remove(&sandbox.path(path(peer))));
        }
        remove(&taken);
    }
});

both!(a_device_that_is_the_only_destination_stays, |sandbox| {
    sandbox.file("data", b"contents");
    let null = sandbox.directory("dev").join("null");
    if !make(&null, FileType::CharacterDevice, makedev(1, 3)) {
        skip("a device", "this user may not make one");
        return;
    }
    let why = r#""dev/null" is a character device, which is not replaced"#;
    sandbox.run(["1", "--dir=dev", "--name=null", "data"]).loses(&[(0, why)], &[], &[]);
    assert!(null.metadata().unwrap().file_type().is_char_device());
});

// Whoever has it open goes on with it.
both!(a_fifo_that_is_read_stays, |sandbox| {
    sandbox.file("data", b"contents");
    sandbox.directory("received-files");
    let mut fifo = Fifo::new(sandbox, "received-files/1");
    let why = r#""received-files/1" is a FIFO, which is not replaced"#;
    let run = sandbox.run(["--name={peer}", "2", "data"]);
    run.loses(&[(1, why)], &paths_of([0], path), b"contents");
    fifo.assert_passes(b"still the same");
});

both!(what_gets_the_name_in_mid_copy_keeps_it, |sandbox| {
    let contents = contents(BEYOND_ALL_BUFFERS);
    for (kind, take) in TAKEN {
        let _ = fs::remove_dir_all(sandbox.path("received-files"));
        let _ = fs::remove_file(sandbox.path("fifo"));
        sandbox.directory("received-files");
        let mut fifo = Fifo::new(sandbox, "fifo");
        let mut running = sandbox.with(["3", "fifo"]).start();
        fifo.feed(&running, contents);
        let peers = await_peers(&running, 3, |_| true).unwrap();
        let path = |peer: usize| format!("received-files/pid-{}_fifo", peers[peer].as_raw_pid());
        if !take(&sandbox.path(path(1))) {
            skip(kind, "this user may not make one");
        } else {
            running.accept_changes();
            drop(fifo);
            let why = format!("{:?} is {kind}, which is not replaced", path(1));
            running.finish().loses(&[(1, &why)], &paths_of([0, 2], path), contents);
        }
    }
});

both!(a_link_to_what_is_no_file_is_replaced_and_not_followed, |sandbox| {
    sandbox.file("data", b"contents");
    sandbox.directory("received-files");
    make(&sandbox.path("fifo"), FileType::Fifo, 0);
    std::os::unix::fs::symlink("../fifo", sandbox.path(path(0))).unwrap();
    std::os::unix::fs::symlink("/dev/null", sandbox.path(path(1))).unwrap();
    sandbox.run(["--name={peer}", "2", "data"]).stores_what(&paths_of(0..2, path), |path| {
        assert!(!path.is_symlink());
        assert_same(path, b"contents");
    });
    assert!(sandbox.path("fifo").metadata().unwrap().file_type().is_fifo());
});
