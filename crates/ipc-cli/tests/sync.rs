//! `--sync`: a copy is on the disk before it counts as stored, and so is its name; strace shows it,
//! and makes it fail.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::paths::{default_paths, paths_of};
use common::run::Run;
use common::traced::strace;
use common::{BLOCK, Sandbox, both, contents};

const SIZE: usize = 3 * BLOCK;
const PEERS: usize = 3;

/// The run of these arguments, with what `strace` is told to do to it.
fn tampered<'s>(sandbox: &'s Sandbox, what: &[&str], args: &[&str]) -> Option<Run<'s>> {
    sandbox.file("data", contents(SIZE));
    let command = [strace("calls of fsync")?, &["-e", "trace=fsync"], what].concat();
    Some(sandbox.with(args).through(&command).run())
}

/// What each peer did, in order, of what matters here; first all that the others did.
fn trace<'s>(sandbox: &'s Sandbox, args: &[&str]) -> Option<(Run<'s>, Vec<Vec<String>>)> {
    sandbox.file("data", contents(SIZE));
    let traces = tempfile::tempdir().unwrap();
    let prefix = traces.path().join("trace");
    // One file for each process, so that no call is interrupted by another one's.
    let each = ["-ff", "-y", "-o", prefix.to_str().unwrap()];
    let calls = ["-e", "trace=/sync|^linkat|^rename|^sendto"];
    let command = [strace("calls of fsync")?, &each, &calls].concat();
    let run = sandbox.with(args).through(&command).run();
    let files = fs::read_dir(traces.path()).unwrap();
    let all = files.map(|file| {
        let trace = fs::read_to_string(file.unwrap().path()).unwrap();
        trace.lines().filter_map(|line| step(sandbox, line)).collect::<Vec<_>>()
    });
    let (peers, others): (Vec<_>, Vec<_>) =
        all.partition(|steps: &Vec<_>| steps.iter().any(|step| step == HAS_ALL));
    Some((run, [vec![others.concat()], peers].concat()))
}

const HAS_ALL: &str = "says that it has all";
const HAS_NAMED: &str = "says that it has named it";
const HAS_STORED: &str = "says that it has stored it";

/// What a line of a trace tells, if it matters here.
fn step(sandbox: &Sandbox, line: &str) -> Option<String> {
    let (call, arguments) = line.split_once('(')?;
    let is_done = line.ends_with(" = 0");
    match call {
        "fsync" => {
            let (_, path) = arguments.split_once('<')?;
            let path = Path::new(path.split('>').next()?);
            let directory = path.strip_prefix(sandbox.root()).ok().filter(|_| path.is_dir());
            Some(format!("syncs {}", directory.unwrap_or("file".as_ref()).display()))
        }
        "linkat" if is_done => Some("links".into()),
        "renameat" | "renameat2" if is_done => Some("renames".into()),
        "sendto" if arguments.contains(r#">, "\1\"#) => Some(HAS_ALL.into()),
        "sendto" if arguments.contains(r#">, "\5""#) => Some(HAS_NAMED.into()),
        "sendto" if arguments.contains(r#">, "\2""#) => Some(HAS_STORED.into()),
        _ if call.contains("sync") => Some(format!("syncs otherwise: {line}")),
        _ => None,
    }
}

/// Checks that each of the peers did this, and that nobody else had anything written to the disk.
fn assert_each_did(steps: &[Vec<String>], expected: &[&str]) {
    let (others, peers) = steps.split_first().unwrap();
    assert!(!others.iter().any(|step| step.starts_with("syncs")), "{others:?}");
    assert_eq!(peers.len(), PEERS, "{steps:?}");
    peers.iter().for_each(|steps| assert_eq!(steps, expected));
}

both!(a_copy_and_its_name_are_on_the_disk_before_it_counts, |sandbox| {
    sandbox.directory("received-files");
    let Some((run, steps)) = trace(sandbox, &["--sync", "3", "data"]) else { return };
    run.stores(&default_paths(PEERS, "data"), contents(SIZE));
    let expected =
        ["syncs file", HAS_ALL, "links", HAS_NAMED, "syncs work/received-files", HAS_STORED];
    assert_each_did(&steps, &expected);
});

both!(a_name_that_replaces_another_is_on_the_disk_before_it_counts, |sandbox| {
    sandbox.directory("received-files");
    let paths = paths_of(0..PEERS, |peer| format!("received-files/{peer}"));
    (0..PEERS).for_each(|peer| _ = sandbox.file(format!("received-files/{peer}"), b"old"));
    let args = ["--sync", "--name", "{peer}", "3", "data"];
    let Some((run, steps)) = trace(sandbox, &args) else { return };
    run.stores(&paths, contents(SIZE));
    let named = ["syncs file", HAS_ALL, "links", "renames", HAS_NAMED];
    let expected = [&named[..], &["syncs work/received-files", HAS_STORED]].concat();
    assert_each_did(&steps, &expected);
});

both!(nothing_is_synced_if_nobody_asks, |sandbox| {
    let Some((run, steps)) = trace(sandbox, &["3", "data"]) else { return };
    run.stores(&default_paths(PEERS, "data"), contents(SIZE));
    assert_each_did(&steps, &[HAS_ALL, "links", HAS_STORED]);
});

both!(directories_that_were_made_are_on_the_disk_too, |sandbox| {
    for (directory, synced) in [
        ("received-files", &["syncs work/received-files", "syncs work"][..]),
        ("a/b/c", &["syncs work/a/b/c", "syncs work/a/b", "syncs work/a", "syncs work"]),
        ("a/b/d/", &["syncs work/a/b/d", "syncs work/a/b"]),
        ("./a/../e", &["syncs work/e", "syncs work"]),
    ] {
        let args = ["--sync", "--dir", directory, "3", "data"];
        let Some((run, steps)) = trace(sandbox, &args) else { return };
        let separator = if directory.ends_with('/') { "" } else { "/" };
        let path = format!("{directory}{separator}pid-{}_data", common::paths::PID);
        run.stores(&paths_of(0..PEERS, |_| path.as_str()), contents(SIZE));
        let expected =
            [&["syncs file", HAS_ALL, "links", HAS_NAMED], synced, &[HAS_STORED]].concat();
        assert_each_did(&steps, &expected);
    }
});

both!(directories_of_each_peer_s_own_are_on_the_disk_too, |sandbox| {
    let args = ["--sync", "--dir", "a/{peer}/b", "--name", "{name}", "3", "data"];
    let Some((run, steps)) = trace(sandbox, &args) else { return };
    run.stores(&paths_of(0..PEERS, |peer| format!("a/{peer}/b/data")), contents(SIZE));
    let mut expected: BTreeSet<String> =
        ["syncs file", "syncs work/a", "syncs work"].map(String::from).into();
    for peer in 0..PEERS {
        expected.extend([format!("syncs work/a/{peer}/b"), format!("syncs work/a/{peer}")]);
    }
    // Whoever makes `a` syncs what it is in; which one that is, nobody knows.
    let synced = steps.concat().into_iter().filter(|step| step.starts_with("syncs"));
    assert_eq!(synced.collect::<BTreeSet<_>>(), expected);
});

both!(an_interrupted_sync_is_tried_again, |sandbox| {
    for call in ["1", "2"] {
        let inject = format!("inject=fsync:error=EINTR:when={call}");
        let args = ["--sync", "3", "data"];
        let Some(run) = tampered(sandbox, &["-e", &inject], &args) else { return };
        run.stores(&default_paths(PEERS, "data"), contents(SIZE));
    }
});

both!(a_copy_that_does_not_get_to_the_disk_gets_no_name, |sandbox| {
    sandbox.directory("received-files");
    let inject = ["-e", "inject=fsync:error=EIO:when=1"];
    let Some(run) = tampered(sandbox, &inject, &["--sync", "3", "data"]) else { return };
    let why = r#"cannot sync a file in "received-files": Input/output error"#;
    run.loses(&[0, 1, 2].map(|peer| (peer, why)), &[], &[]);
});

// The name is there then, and the copy under it is whole, but a power loss may take the name. It stays,
// as what it replaced is gone, and to remove it would have to get to the same disk.
both!(a_name_that_does_not_get_to_the_disk_fails_its_peer_and_stays, |sandbox| {
    sandbox.directory("received-files");
    let inject = ["-e", "inject=fsync:error=EIO:when=2"];
    let args = ["--sync", "--name", "{name}", "1", "data"];
    let Some(run) = tampered(sandbox, &inject, &args) else { return };
    let left = paths_of(0..1, |_| "received-files/data");
    let why =
        r#""received-files/data" is stored, but not known to be on the disk: Input/output error"#;
    run.leaving(&left, contents(SIZE)).loses(&[(0, why)], &[], &[]);
});

both!(a_disk_that_one_peer_has_to_itself_fails_that_peer_only, |sandbox| {
    let bad = sandbox.directory("to-1");
    let only = ["-P", bad.to_str().unwrap(), "-e", "inject=fsync:error=EIO"];
    let args = ["--sync", "--dir", "to-{peer}", "--name", "{name}", "3", "data"];
    let Some(run) = tampered(sandbox, &only, &args) else { return };
    let (paths, left) =
        (paths_of([0, 2], |peer| format!("to-{peer}/data")), paths_of(0..1, |_| "to-1/data"));
    let why = r#""to-1/data" is stored, but not known to be on the disk: Input/output error"#;
    run.leaving(&left, contents(SIZE)).loses(&[(1, why)], &paths, contents(SIZE));
});

// A directory that takes too long to get to the disk is one that stops its peer; and what a peer has not
// said, the directory tells.
both!(a_peer_given_up_after_its_file_has_its_name_has_stored_it, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let slow = sandbox.directory("to-1");
    for (option, call, state) in [
        ("--sync", "fsync", "not known to be on the disk"),
        ("--verify", "linkat", "its peer failed after that"),
        ("--verify", "renameat", "its peer failed after that"),
    ] {
        for peer in 0..3 {
            let _ = fs::remove_file(sandbox.path(format!("to-{peer}/data")));
        }
        if call == "renameat" {
            sandbox.file("to-1/data", b"old");
        }
        // The first link only asks whether there can be one.
        let when = if call == "linkat" { 2 } else { 1 };
        let inject = format!("inject={call}:signal=STOP:when={when}");
        let how = ["-P", slow.to_str().unwrap(), "-e", &inject];
        let args = ["--timeout=1", option, "--dir=to-{peer}", "--name={name}", "3", "data"];
        let Some(invocation) = sandbox.with(args).tampered(&how) else { return };
        let run = invocation.run().leaving(&paths_of(0..1, |_| "to-1/data"), contents(SIZE));
        let why = format!(
            r#""to-1/data" is stored, but {state}: it was killed, because it did nothing for 1s"#
        );
        run.loses(
            &[(1, &why)],
            &paths_of([0, 2], |peer| format!("to-{peer}/data")),
            contents(SIZE),
        );
    }
});
