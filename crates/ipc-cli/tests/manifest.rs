//! `--manifest`: digests that `b3sum --check` takes, of the files that were stored and of no others.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use common::paths::{default_paths, numbered, paths_of};
use common::{BLOCK, Sandbox, both, contents, skip};
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
    for (call, still_there) in [("unlinkat", true), ("linkat", false)] {
        sandbox.file("B3SUMS", b"older");
        let inject = format!("inject={call}:signal=KILL");
        // The name is given as it is, beside the descriptor of its directory.
        let Some(invocation) = sandbox.with(ARGS).tampered(&["-e", &inject, "-P", "B3SUMS"]) else {
            return;
        };
        let _ = invocation.start().die_of(Signal::KILL, |_, _| {});
        let left = std::fs::read_dir(sandbox.path("")).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        let names = ["B3SUMS", "data", "received-files"];
        assert_eq!(left, if still_there { &names[..] } else { &names[1..] }, "{call}");
    }
});

both!(a_link_is_written_through, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let real = sandbox.file("real", b"older and longer than a manifest is".repeat(100).as_slice());
    std::os::unix::fs::symlink("real", sandbox.path("link")).unwrap();
    std::os::unix::fs::symlink("/proc/self/fd/3", sandbox.path("descriptor")).unwrap();
    let path = |peer| format!("received-files/{peer}");
    for (manifest, script) in [("link", r#"exec "$@""#), ("descriptor", r#"exec "$@" 3> real"#)] {
        let args = ["--verify", "--manifest", manifest, "--name={peer}", "2", "data"];
        let before = real.metadata().unwrap();
        let run = sandbox.with(args).in_shell(script).run();
        assert_eq!(real.metadata().unwrap().ino(), before.ino());
        assert!(sandbox.path(manifest).is_symlink());
        assert_eq!(names_in(&real, contents(SIZE)), [0, 1].map(path));
        run.writing_into("real").stores(&numbered(0..2), contents(SIZE));
    }
});
