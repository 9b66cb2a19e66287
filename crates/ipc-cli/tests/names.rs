//! What received files are called, where they go, and what becomes of what is there already.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;

use common::paths::{PID, default_paths, paths_of};
use common::run::assert_same;
use common::{BLOCK, Sandbox, both, contents};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

both!(any_name_that_a_file_can_have, |sandbox| {
    let longest = "x".repeat(243);
    for name in [
        b"a name with spaces ".as_slice(),
        b"two\nlines\n",
        b"not utf-8: \xff\xfe",
        b"\x1b[31mred\x07",
        b"{name}{pid}}",
        b"...",
        "ä€𝄞".as_bytes(),
        "y".repeat(200).as_bytes(),
        longest.as_bytes(),
    ] {
        let name = OsStr::from_bytes(name);
        sandbox.file(name, b"contents");
        sandbox.run([OsStr::new("2"), name]).stores(&default_paths(2, name), b"contents");
    }
});

both!(a_name_with_a_leading_minus, |sandbox| {
    sandbox.file("-q", b"contents");
    sandbox.run(["2", "./-q"]).stores(&default_paths(2, "-q"), b"contents");
    sandbox.run(["--", "2", "-q"]).stores(&default_paths(2, "-q"), b"contents");
});

both!(a_source_in_another_directory, |sandbox| {
    sandbox.directory("some/where");
    let source = sandbox.file("some/where/data", b"contents");
    for path in [OsStr::new("some/where/data"), OsStr::new("./some//../some/where/data")] {
        sandbox.run([OsStr::new("2"), path]).stores(&default_paths(2, "data"), b"contents");
    }
    sandbox.run([OsStr::new("2"), source.as_ref()]).stores(&default_paths(2, "data"), b"contents");
    std::os::unix::fs::symlink("some/where/data", sandbox.path("link")).unwrap();
    sandbox.run(["2", "link"]).stores(&default_paths(2, "link"), b"contents");
});

both!(messages_are_one_line_whatever_the_name, |sandbox| {
    let name = OsStr::from_bytes(b"no\nsuch\xff\x1b[31m");
    let why = r#"cannot open "no\nsuch\xFF\u{1b}[31m": No such file or directory"#;
    sandbox.run([OsStr::new("2"), name]).refuses(1, why);
});

both!(the_summary_says_what_was_copied, |sandbox| {
    let name = OsStr::from_bytes(b"two\nlines\xff");
    sandbox.file(name, contents(BLOCK));
    let run = sandbox.run([OsStr::new("3"), name]);
    let summary = r#": 3 of 3 peers stored "two\nlines\xFF", 80.0 KiB each, in "#;
    run.says(summary).stores(&default_paths(3, name), contents(BLOCK));
});

both!(every_field_of_a_name, |sandbox| {
    sandbox.file("data", b"contents");
    for (template, expected) in [
        ("{pid}", PID.into()),
        ("{peer}", "#".into()),
        ("{peer}.{name}", "#.data".into()),
        ("{name}-{peer}-{pid}-{name}", format!("data-#-{PID}-data")),
        ("{{{peer}}}", "{#}".into()),
        (".{{name}}{peer}", ".{name}#".into()),
        (" {peer}\n", " #\n".into()),
    ] {
        let path = |peer| format!("received-files/{expected}").replace('#', &format!("{peer}"));
        let run = sandbox.run(["--name", template, "12", "data"]);
        run.stores(&paths_of(0..12, path), b"contents");
    }
});

both!(a_name_of_ones_own, |sandbox| {
    sandbox.file("data", b"contents");
    let paths = default_paths(2, "other");
    sandbox.run(["--file-name", "other", "2", "data"]).stores(&paths, b"contents");
    let not_utf8 = OsStr::from_bytes(b"--file-name=\xff");
    let paths = default_paths(2, OsStr::from_bytes(b"\xff"));
    sandbox.run([not_utf8, "2".as_ref(), "data".as_ref()]).stores(&paths, b"contents");
});

both!(any_directory, |sandbox| {
    sandbox.file("data", b"contents");
    let absolute = sandbox.path("absolute/one").into_os_string().into_string().unwrap();
    for directory in ["flat", "deeply/nested/one", "slash/", "./.", "{{peer}}", &absolute] {
        let rendered = directory.replace("{{", "{").replace("}}", "}");
        let rendered = rendered.trim_end_matches('/');
        let paths = paths_of(0..2, |_| format!("{rendered}/pid-{PID}_data"));
        sandbox.run(["-d", directory, "2", "data"]).stores(&paths, b"contents");
    }
});

both!(a_directory_for_each_peer, |sandbox| {
    sandbox.file("data", b"contents");
    sandbox.directory("disk1");
    let paths = paths_of(0..12, |peer| format!("disk{peer}/in/data"));
    let run = sandbox.run(["--dir", "disk{peer}/in", "--name", "{name}", "12", "data"]);
    run.stores(&paths, b"contents");
});

both!(a_symbolic_link_to_a_directory_is_followed, |sandbox| {
    sandbox.file("data", b"contents");
    sandbox.directory("real");
    std::os::unix::fs::symlink("real", sandbox.path("received-files")).unwrap();
    let paths = paths_of(0..2, |peer| format!("received-files/{peer}"));
    sandbox.run(["--name", "{peer}", "2", "data"]).stores(&paths, b"contents");
    assert_same(&sandbox.path("real/1"), b"contents");
});

both!(quiet_says_nothing, |sandbox| {
    sandbox.file("data", b"contents");
    for option in ["-q", "--quiet"] {
        let run = sandbox.run([option, "3", "data"]);
        run.quietly().stores(&default_paths(3, "data"), b"contents");
    }
});

/// Makes received files of an earlier run.
fn with_old_files(sandbox: &Sandbox, peers: usize) {
    sandbox.directory("received-files");
    for peer in 0..peers {
        sandbox.file(format!("received-files/{peer}"), format!("old {peer}").as_bytes());
    }
}

both!(an_existing_name_is_replaced_in_one_step, |sandbox| {
    let contents = contents(BLOCK);
    sandbox.file("data", contents);
    with_old_files(sandbox, 2);
    let mut old = File::open(sandbox.path("received-files/1")).unwrap();
    let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    let directory = sandbox.path("received-files");
    inotify::add_watch(
        &inotify,
        directory,
        WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE,
    )
    .unwrap();

    let paths = paths_of(0..2, |peer| format!("received-files/{peer}"));
    sandbox.run(["--name", "{peer}", "2", "data"]).stores(&paths, contents);

    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(inotify, &mut buffer);
    let mut moved = Vec::new();
    while let Ok(event) = events.next() {
        let name = event.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "0" || name == "1" {
            assert_eq!(event.events(), ReadFlags::MOVED_TO, "{name} was never away");
            moved.push(name);
        }
    }
    moved.sort();
    assert_eq!(moved, ["0", "1"]);
    let mut kept = String::new();
    old.read_to_string(&mut kept).unwrap();
    assert_eq!(kept, "old 1", "who has the old file open keeps it");
});

both!(an_existing_name_is_kept_if_so_wanted, |sandbox| {
    sandbox.file("data", b"contents");
    with_old_files(sandbox, 1);
    fs::rename(sandbox.path("received-files/0"), sandbox.path("received-files/1")).unwrap();
    let run = sandbox.run(["--no-clobber", "--name", "{peer}", "3", "data"]);
    let paths = paths_of([0, 2], |peer| format!("received-files/{peer}"));
    run.loses(&[(1, r#"cannot store "received-files/1": File exists"#)], &paths, b"contents");
    assert_same(&sandbox.path("received-files/1"), b"old 0");
});

both!(a_new_name_is_no_clash, |sandbox| {
    sandbox.file("data", b"contents");
    let run = sandbox.run(["--no-clobber", "3", "data"]);
    run.stores(&default_paths(3, "data"), b"contents");
});

both!(a_link_in_place_of_a_name_is_replaced_and_not_followed, |sandbox| {
    sandbox.file("data", b"contents");
    sandbox.file("precious", b"mine");
    sandbox.directory("received-files");
    std::os::unix::fs::symlink("../precious", sandbox.path("received-files/0")).unwrap();
    std::os::unix::fs::symlink("../data", sandbox.path("received-files/1")).unwrap();
    let paths = paths_of(0..2, |peer| format!("received-files/{peer}"));
    sandbox.run(["--name", "{peer}", "2", "data"]).stores_what(&paths, |path| {
        assert!(!path.is_symlink());
        assert_same(path, b"contents");
    });
});

both!(names_of_other_runs_stay, |sandbox| {
    sandbox.file("data", b"contents");
    sandbox.directory("received-files");
    for name in ["pid-1_data", ".0123456789abcdef-0", "#1", ".pid-1_data.tmp"] {
        sandbox.file(format!("received-files/{name}"), b"of another run");
    }
    let mut builder = tempfile::Builder::new();
    let stale = ["sem.", "ipc-", "."].map(|prefix| builder.prefix(prefix).tempfile_in("/dev/shm"));
    sandbox.run(["3", "data"]).stores(&default_paths(3, "data"), b"contents");
    assert!(stale.iter().flatten().all(|file| file.path().exists()));
});
