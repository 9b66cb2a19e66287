//! `--manifest`: digests that `b3sum --check` takes, of the files that were stored and of no others.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::fuse::{Fault, Fuse, Op};
use common::paths::{default_paths, numbered, paths_of};
use common::run::assert_same;
use common::{BLOCK, Sandbox, both, contents, skip};
use rustix::io::Errno;
use rustix::process::Signal;

const SIZE: usize = 5 * BLOCK + 7;

/// The names in a manifest, each of which has this digest; they hold nothing that is escaped.
fn names_in(manifest: &Path, contents: &[u8]) -> Vec<String> {
    let digest = blake3::hash(contents).to_hex();
    let text = std::fs::read_to_string(manifest).unwrap();
    let name = |line: &str| line.strip_prefix(&format!("{digest}  ")).unwrap().to_owned();
    text.lines().map(name).collect()
}

/// Lets `b3sum` check a manifest, where there is one.
fn check(sandbox: &Sandbox, manifest: &str) {
    let checked =
        Command::new("b3sum").args(["--check", manifest]).current_dir(sandbox.path("")).output();
    match checked {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => skip("b3sum --check", &error.to_string()),
    }
}

both!(a_manifest_has_the_digest_of_every_copy, |sandbox| {
    sandbox.file("data", contents(SIZE));
    for options in [&[][..], &["--sync", "--preserve"], &["--on-slow=wait", "--sparse=never"]] {
        let args = ["--verify", "--manifest=B3SUMS", "--name={peer}", "3", "data"];
        let run = sandbox.run([options, &args].concat());
        let path = |peer| format!("received-files/{peer}");
        run.leaving_also("B3SUMS").stores(&paths_of(0..3, path), contents(SIZE));
        let names = names_in(&sandbox.path("B3SUMS"), contents(SIZE));
        assert_eq!(names, [0, 1, 2].map(path));
        check(sandbox, "B3SUMS");
    }
});

both!(names_that_end_lines_are_escaped, |sandbox| {
    sandbox.file("a\\b\nc", contents(SIZE));
    let args = ["--verify", "--manifest=B3SUMS", "--name={peer}{name}", "1", "a\\b\nc"];
    let run = sandbox.run(args);
    run.leaving_also("B3SUMS")
        .stores(&paths_of(0..1, |_| "received-files/0a\\b\nc".to_owned()), contents(SIZE));
    check(sandbox, "B3SUMS");
});

both!(only_what_was_stored_is_in_it, |sandbox| {
    sandbox.file("data", contents(SIZE));
    sandbox.directory("received-files");
    sandbox.file("received-files/1", b"here before");
    let args = ["--verify", "--manifest=B3SUMS", "--no-clobber", "--name={peer}", "3", "data"];
    let path = |peer| format!("received-files/{peer}");
    let run = sandbox.run(args).leaving_also("B3SUMS");
    run.loses(&[(1, "File exists")], &paths_of([0, 2], path), contents(SIZE));
    let names = names_in(&sandbox.path("B3SUMS"), contents(SIZE));
    assert_eq!(names, [0, 2].map(path));
});

both!(it_can_be_in_a_directory_that_the_run_makes, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let run = sandbox.run(["--verify", "--manifest=received-files/B3SUMS", "2", "data"]);
    run.leaving_also("received-files/B3SUMS").stores(&default_paths(2, "data"), contents(SIZE));
});

both!(a_manifest_without_verify_is_wrong_usage, |sandbox| {
    sandbox.file("data", contents(SIZE));
    sandbox.run(["--manifest=B3SUMS", "2", "data"]).refuses(2, "--verify");
});

both!(a_manifest_that_cannot_be_is_refused_before_any_copy, |sandbox| {
    sandbox.file("data", contents(SIZE));
    sandbox.directory("directory");
    for (manifest, why) in [
        ("data", r#""data" is the source itself: choose another manifest"#),
        ("directory", r#""directory" is a directory: name a file in it as manifest"#),
        ("data/B3SUMS", "Not a directory"),
        ("directory/..", "is a directory"),
        ("nothing/", r#""nothing/" names a directory: name a file in it as manifest"#),
        ("-", "standard output has the paths already: name a file as manifest"),
        ("copies/1", r#""copies/1" would be a received file's: choose another manifest"#),
        ("copies", r#""copies" would be a received file's"#),
    ] {
        let args =
            ["--dir=copies", "--name={peer}", "--verify", "--manifest", manifest, "2", "data"];
        sandbox.run(args).refuses(1, why);
    }
});

const ARGS: [&str; 5] = ["--verify", "--manifest=B3SUMS", "--name={peer}", "2", "data"];

both!(an_older_manifest_is_replaced, |sandbox| {
    sandbox.file("data", contents(SIZE));
    sandbox.file("B3SUMS", b"older");
    let run = sandbox.run(ARGS).leaving_also("B3SUMS");
    run.stores(&numbered(0..2), contents(SIZE));
    let names = names_in(&sandbox.path("B3SUMS"), contents(SIZE));
    assert_eq!(names, [0, 1].map(|peer| format!("received-files/{peer}")));
});

both!(a_server_that_is_killed_as_it_replaces_a_manifest_leaves_no_other_name, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let lists = sandbox.directory("lists");
    let args = ["--verify", "--manifest=lists/B3SUMS", "--name={peer}", "2", "data"];
    let has_no_tmpfile = ["-e", "inject=openat:error=EOPNOTSUPP:when=1"];
    for (how, moment, is_new) in [
        // The first link asks whether there can be any, the second finds the name taken, and the third makes
        // the hidden one.
        (&[][..], "linkat:signal=KILL:when=3", false),
        (&[], "linkat:signal=TERM:when=3", false),
        (&[], "renameat:signal=KILL", false),
        (&[], "renameat:signal=TERM", true),
        (&has_no_tmpfile, "renameat:signal=KILL", false),
    ] {
        let older = sandbox.directory("lists").join("B3SUMS");
        let _ = std::fs::remove_file(&older);
        std::fs::write(&older, "older").unwrap();
        let inject = format!("inject={moment}");
        let how = [how, &["-P", lists.to_str().unwrap(), "-e", &inject]].concat();
        let Some(invocation) = sandbox.with(args).tampered(&how) else { return };
        let signal = if moment.contains("KILL") { Signal::KILL } else { Signal::TERM };
        let _ = invocation.start().die_of(signal, |_, _| {});
        let left = std::fs::read_dir(&lists).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["B3SUMS"], "{moment}");
        match is_new {
            true => assert_eq!(names_in(&older, contents(SIZE)), LISTED),
            false => assert_same(&older, b"older"),
        }
    }
});

const LISTED: [&str; 2] = ["received-files/0", "received-files/1"];

both!(a_link_stays_and_leads_to_the_new_manifest, |sandbox| {
    sandbox.file("data", contents(SIZE));
    sandbox.directory("lists");
    for (link, target) in [("link", "real"), ("to-link", "link"), ("dangling", "lists/new")] {
        std::os::unix::fs::symlink(target, sandbox.path(link)).unwrap();
    }
    sandbox.file("real", b"older and longer than a manifest is".repeat(100).as_slice());
    for (manifest, real) in [("link", "real"), ("to-link", "real"), ("dangling", "lists/new")] {
        let args = ["--verify", "--manifest", manifest, "--name={peer}", "2", "data"];
        sandbox.run(args).leaving_also(real).stores(&numbered(0..2), contents(SIZE));
        assert!(sandbox.path(manifest).is_symlink());
        assert_eq!(names_in(&sandbox.path(real), contents(SIZE)), LISTED);
    }
});

both!(an_open_file_is_written_to_and_keeps_what_it_has, |sandbox| {
    sandbox.file("data", contents(SIZE));
    std::os::unix::fs::symlink("/proc/self/fd/3", sandbox.path("descriptor")).unwrap();
    for manifest in ["descriptor", "/dev/fd/3", "/proc/self/fd/3"] {
        for (script, older) in [(r#"exec "$@" 3>real"#, ""), (r#"exec "$@" 3>>real"#, "older\n")] {
            let real = sandbox.file("real", b"older\n");
            let before = real.metadata().unwrap();
            let args = ["--verify", "--manifest", manifest, "--name={peer}", "2", "data"];
            let run = sandbox.with(args).in_shell(script).run();
            run.writing_into("real").stores(&numbered(0..2), contents(SIZE));
            assert_eq!(real.metadata().unwrap().ino(), before.ino());
            let text = std::fs::read_to_string(&real).unwrap();
            sandbox.file("list", text.strip_prefix(older).unwrap().as_bytes());
            assert_eq!(names_in(&sandbox.path("list"), contents(SIZE)), LISTED);
        }
    }
});

both!(a_device_is_written_to, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let args = ["--verify", "--manifest=/dev/null", "--name={peer}", "2", "data"];
    sandbox.run(args).stores(&numbered(0..2), contents(SIZE));
    // So are those of the program's own streams that are devices.
    for manifest in ["/dev/null", "/dev/stdin"] {
        let args = ["--verify", "--manifest", manifest, "--name={peer}", "2", "data"];
        sandbox.run(args).stores(&numbered(0..2), contents(SIZE));
    }
});

/// What is said of a manifest that is where one of the program's streams goes.
fn own(manifest: &str, stream: &str) -> String {
    format!("{manifest:?} is the program's own standard {stream}: choose another manifest")
}

both!(a_manifest_in_place_of_an_own_stream_is_refused, |sandbox| {
    sandbox.file("data", contents(SIZE));
    sandbox.file("list", b"older\n");
    std::fs::hard_link(sandbox.path("list"), sandbox.path("hard")).unwrap();
    std::os::unix::fs::symlink("list", sandbox.path("soft")).unwrap();
    let same_file = ["list", "./list", "hard", "soft"];
    for (redirection, stream, names) in [
        (">>list", "output", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]),
        ("2>>list", "error", ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"]),
        ("<list", "input", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"]),
        ("<>list", "input", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"]),
    ] {
        for manifest in names.iter().chain(&same_file) {
            let args = ["--verify", "--manifest", manifest, "--name={peer}", "2", "data"];
            // What it says into the file is taken out again, to where the checks find it.
            let script = format!(
                r#""$@" {redirection}; status=$?; sed 1d list >&2; echo older >list; exit $status"#
            );
            let run = sandbox.with(args).in_shell(&script).run();
            let run = run.writing_into("list").writing_into("hard");
            run.refuses(1, &own(manifest, stream));
            assert_eq!(std::fs::read(sandbox.path("list")).unwrap(), b"older\n");
        }
    }
});

both!(a_manifest_into_an_own_pipe_is_refused, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let args = |manifest| ["--verify", "--manifest", manifest, "--name={peer}", "2", "data"];
    let run = sandbox.with(args("/dev/stdin")).stdin(Stdio::piped()).run();
    run.refuses(1, &own("/dev/stdin", "input"));
    let run = sandbox.with(args("/dev/stdout")).stdout(Stdio::piped()).run();
    run.refuses(1, &own("/dev/stdout", "output"));
});

// What a shell's redirection has opened would go on as a file without a name.
both!(a_copy_in_place_of_an_own_stream_is_refused, |sandbox| {
    sandbox.file("data", contents(SIZE));
    sandbox.file("1", b"older\n");
    let args = ["--dir=.", "--name={peer}", "2", "data"];
    for (redirection, stream) in [(">>1", "output"), ("<1", "input")] {
        let run = sandbox.with(args).in_shell(&format!(r#"exec "$@" {redirection}"#)).run();
        run.refuses(1, &format!(r#""./1" is the program's own standard {stream}"#));
    }
    let run = sandbox.with(["--no-clobber"].iter().chain(&args)).in_shell(r#"exec "$@" <1"#).run();
    run.loses(&[(1, "File exists")], &paths_of(0..1, |_| "./0"), contents(SIZE));
});

both!(an_older_manifest_outlives_any_error, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let Some(disk) = Fuse::mount(sandbox, "lists", &[]) else { return };
    let args = ["--verify", "--manifest=lists/B3SUMS", "--name={peer}", "2", "data"];
    let older = sandbox.file("lists/B3SUMS", b"older");
    for errno in [Errno::DQUOT, Errno::NOSPC, Errno::IO] {
        for fault in [
            Fault::Fails(Op::Create, errno),
            Fault::FailsAt(Op::Write, 0, errno),
            Fault::FailsAt(Op::Write, 100, errno),
            Fault::Fails(Op::Rename, errno),
        ] {
            disk.set(&[fault]);
            let why = std::io::Error::from(errno).to_string();
            let why = why.split(" (os").next().unwrap();
            let run = sandbox.run(args);
            disk.set(&[]);
            run.stores_but(&numbered(0..2), contents(SIZE), why);
            assert_same(&older, b"older");
            assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 1);
        }
    }
    sandbox.run(args).leaving_also("lists/B3SUMS").stores(&numbered(0..2), contents(SIZE));
});

// Where there is O_TMPFILE, the name is given by two other calls.
both!(an_older_manifest_outlives_an_error_of_its_name, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let lists = sandbox.directory("lists");
    let args = ["--verify", "--manifest=lists/B3SUMS", "--name={peer}", "2", "data"];
    let older = sandbox.file("lists/B3SUMS", b"older");
    // The first link asks whether there can be any.
    for call in ["linkat:error=EDQUOT:when=2+", "linkat:error=EDQUOT:when=3+", "renameat:error=EIO"]
    {
        let inject = format!("inject={call}");
        let how = ["-P", lists.to_str().unwrap(), "-e", &inject];
        let Some(invocation) = sandbox.with(args).tampered(&how) else { return };
        let why = if call.contains("EIO") { "Input/output error" } else { "Disk quota exceeded" };
        invocation.run().stores_but(&numbered(0..2), contents(SIZE), why);
        assert_same(&older, b"older");
    }
});
