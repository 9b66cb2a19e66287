//! What cannot succeed is refused with status 1 and the reason, before a peer is forked or anything
//! is made.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::io::Errno;

use common::paths::{default_paths, paths_of};
use common::{both, contents, heeding_permissions, skip};

both!(a_source_that_is_no_file, |sandbox| {
    let _socket = UnixListener::bind(sandbox.path("socket")).unwrap();
    sandbox.file("file", b"contents");
    symlink("loop", sandbox.path("loop")).unwrap();
    symlink("nowhere", sandbox.path("dangling")).unwrap();
    let no_name = "it does not end in the name of a file";
    for (source, why) in [
        ("missing", "cannot open \"missing\": No such file or directory"),
        ("missing/data", "No such file or directory"),
        ("dangling", "No such file or directory"),
        ("file/data", "Not a directory"),
        ("file/", "Not a directory"),
        (".", no_name),
        ("loop", "Too many levels of symbolic links"),
        ("..", no_name),
        ("/", no_name),
        ("../work", "it is a directory: copy its files, or a tar of it through standard input"),
        ("/dev/zero", "it is a character device: redirect it to standard input"),
        ("socket", "it is a socket: redirect it to standard input"),
    ] {
        sandbox.run(["2", source]).refuses(1, why);
    }
});

both!(a_device_is_refused_without_being_opened, |sandbox| {
    let nodes = [
        ("zero", FileType::CharacterDevice, makedev(1, 5), "a character device"),
        ("ptmx", FileType::CharacterDevice, makedev(5, 2), "a character device"),
        ("loop", FileType::BlockDevice, makedev(7, 0), "a block device"),
    ];
    for (name, kind, device, _) in nodes {
        let mode = Mode::RUSR | Mode::WUSR;
        if mknodat(CWD, sandbox.path(name), kind, mode, device).is_err() {
            return skip("devices", "this user may not make any");
        }
    }
    symlink("ptmx", sandbox.path("link")).unwrap();
    let (_, _, _, character) = nodes[0];
    for (name, _, _, kind) in nodes.into_iter().chain([("link", nodes[1].1, 0, character)]) {
        let watch = inotify::init(CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watch, sandbox.path(name), WatchFlags::OPEN).unwrap();
        let why = format!("cannot copy \"{name}\": it is {kind}: redirect it to standard input");
        sandbox.run(["2", name]).refuses(1, &why);
        let opened = rustix::io::read(&watch, &mut [0; 4096]);
        assert_eq!(opened, Err(Errno::AGAIN), "{name} was opened");
    }
});

both!(a_source_that_may_not_be_read, |sandbox| {
    let Some(command) = heeding_permissions() else {
        return skip("an unreadable source", "root may read everything here");
    };
    let source = sandbox.file("data", b"contents");
    fs::set_permissions(source, PermissionsExt::from_mode(0o000)).unwrap();
    let run = sandbox.with(["2", "data"]).through(command).run();
    run.refuses(1, "cannot open \"data\": Permission denied");
});

both!(a_name_that_gets_too_long, |sandbox| {
    let name = "x".repeat(244);
    sandbox.file(&name, b"contents");
    sandbox.run(["2", &name]).refuses(1, "name would be 256 bytes long, 255 are allowed");

    let longest = "y".repeat(255);
    sandbox.file(&longest, b"contents");
    sandbox.run(["2", &longest]).refuses(1, "name would be 267 bytes long, 255 are allowed");
    sandbox.run(["--name", "{name}{peer}", "2", &longest]).refuses(1, "256 bytes long");
    sandbox
        .run(["--dir", "{peer}", "--name", "{name}", "2", &longest])
        .stores(&paths_of(0..2, |peer| format!("{peer}/{longest}")), b"contents");
    sandbox
        .run(["--file-name", "short", "2", &longest])
        .stores(&default_paths(2, "short"), b"contents");
});

both!(more_peers_than_descriptors, |sandbox| {
    sandbox.file("data", b"contents");
    let run = sandbox.with(["5", "data"]).in_shell(r#"ulimit -n 8; exec "$@""#).run();
    run.refuses(1, "the limit is 8: raise the hard limit (ulimit -Hn) or use fewer peers");
    let run = sandbox.with(["10000", "data"]).in_shell(r#"ulimit -n 64; exec "$@""#).run();
    run.refuses(1, "10000 peers need");
});

both!(a_soft_descriptor_limit_is_raised, |sandbox| {
    sandbox.file("data", b"contents");
    let run = sandbox.with(["5", "data"]).in_shell(r#"ulimit -S -n 8; exec "$@""#).run();
    run.stores(&default_paths(5, "data"), b"contents");
});

both!(just_enough_descriptors_are_enough, |sandbox| {
    let contents = contents(common::RING);
    sandbox.file("data", contents);
    let mut refused = 0;
    for limit in 8.. {
        let script = format!(r#"ulimit -n {limit}; exec "$@""#);
        let run = sandbox.with(["5", "data"]).in_shell(&script).run();
        if run.is_success() {
            run.stores(&default_paths(5, "data"), contents);
            break;
        }
        run.refuses(1, &format!("the limit is {limit}"));
        refused += 1;
    }
    assert!(refused > 0);
});

both!(a_destination_that_is_something_else, |sandbox| {
    sandbox.file("data", b"contents");
    sandbox.file("file", b"mine");
    symlink("nowhere", sandbox.path("dangling")).unwrap();
    symlink("loop", sandbox.path("loop")).unwrap();
    for (directory, why) in [
        ("file", "\"file\": Not a directory"),
        ("file/below", "\"file/below\": Not a directory"),
        ("dangling", "\"dangling\": No such file or directory"),
        ("dangling/below", "\"dangling\": No such file or directory"),
        ("loop", "Too many levels of symbolic links"),
        ("/proc/version", "Not a directory"),
    ] {
        sandbox.run(["--dir", directory, "2", "data"]).refuses(1, why);
    }
    symlink("file", sandbox.path("received-files")).unwrap();
    sandbox.run(["2", "data"]).refuses(1, "\"received-files\": Not a directory");
    let long = OsStr::from_bytes(&[b'x'; 256]);
    let args = [OsStr::new("--dir"), long, OsStr::new("2"), OsStr::new("data")];
    sandbox.run(args).refuses(1, "File name too long");
});

both!(a_destination_that_may_not_be_written_to, |sandbox| {
    let Some(command) = heeding_permissions() else {
        return skip("a read-only destination", "root may write everywhere here");
    };
    sandbox.file("data", b"contents");
    for (mode, directory) in
        [(0o555, "read-only"), (0o555, "read-only/new"), (0o000, "locked"), (0o000, "locked/new")]
    {
        let path = sandbox.directory(directory.split('/').next().unwrap());
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let run = sandbox.with(["--dir", directory, "2", "data"]).through(command).run();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        run.refuses(1, "Permission denied");
    }
});

both!(a_copy_that_would_replace_its_source, |sandbox| {
    sandbox.file("data", b"contents");
    let is_source = "is the source itself: choose another directory or name";
    sandbox.run(["--dir", ".", "--name", "{name}", "1", "data"]).refuses(1, is_source);

    sandbox.directory("received-files");
    fs::hard_link(sandbox.path("data"), sandbox.path("received-files/2")).unwrap();
    sandbox.run(["--name", "{peer}", "3", "data"]).refuses(1, is_source);

    sandbox.directory("to-1");
    fs::hard_link(sandbox.path("data"), sandbox.path("to-1/data")).unwrap();
    sandbox.run(["--dir=to-{peer}", "--name={name}", "3", "data"]).refuses(1, is_source);
});
