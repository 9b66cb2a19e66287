//! File systems that have no files without a name (`O_TMPFILE`): a peer's file has a hidden name until
//! it is whole, and whoever ends it takes that name away.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use common::paths::{default_paths, paths_of};
use common::paused::{Fifo, await_peers};
use common::run::assert_same;
use common::running::Running;
use common::{BEYOND_ALL_BUFFERS, BLOCK, Sandbox, both, contents};
use rustix::process::{Pid, Signal, kill_process};

/// What a kernel or file system says that has no such files: the second opens the directory. Filters of system
/// calls, and file systems in user space, have any other.
const ERRORS: [&str; 8] =
    ["EOPNOTSUPP", "EISDIR", "EPERM", "EINVAL", "ENOSYS", "EACCES", "EIO", "ENOENT"];

/// A run of three peers that stands still in mid-copy, each with a file under a hidden name; `None`
/// without strace.
fn stand_still<'s>(
    sandbox: &'s Sandbox,
    options: &[&str],
    error: &str,
    fed: &[u8],
) -> Option<(Fifo, Running<'s>, Vec<Pid>)> {
    let _ = fs::remove_file(sandbox.path("fifo"));
    let directory = sandbox.directory("received-files");
    let mut fifo = Fifo::new(sandbox, "fifo");
    // A peer opens nothing else in the directory before it.
    let inject = format!("inject=openat:error={error}:when=1");
    let how = ["-P", directory.to_str().unwrap(), "-e", &inject];
    let running = sandbox.with([options, &["3", "fifo"]].concat()).tampered(&how)?.start();
    fifo.feed(&running, fed);
    let peers = await_peers(&running, 3, |_| true).unwrap();
    assert_eq!(hidden_names(sandbox), 3);
    Some((fifo, running, peers))
}

fn hidden_names(sandbox: &Sandbox) -> usize {
    let names = fs::read_dir(sandbox.path("received-files")).unwrap();
    names.filter(|name| name.as_ref().unwrap().file_name().as_encoded_bytes()[0] == b'.').count()
}

both!(a_copy_has_a_hidden_name_until_it_is_whole, |sandbox| {
    for error in ERRORS {
        for options in [&[][..], &["--no-clobber"], &["--sync"]] {
            let contents = contents(BEYOND_ALL_BUFFERS);
            let stands = stand_still(sandbox, options, error, contents);
            let Some((fifo, running, _)) = stands else { return };
            drop(fifo);
            running.finish().stores(&default_paths(3, "fifo"), contents);
        }
    }
});

both!(a_hidden_name_becomes_one_that_exists_or_goes, |sandbox| {
    let contents = contents(BEYOND_ALL_BUFFERS);
    let path = |peer| format!("received-files/{peer}");
    for keep in [true, false] {
        let _ = fs::remove_dir_all(sandbox.path("received-files"));
        sandbox.directory("received-files");
        sandbox.file(path(1), b"old");
        let mut options = vec!["--name", "{peer}"];
        options.extend(keep.then_some("--no-clobber"));
        let stands = stand_still(sandbox, &options, ERRORS[0], contents);
        let Some((fifo, running, _)) = stands else { return };
        drop(fifo);
        if keep {
            let others = paths_of([0, 2], path);
            running.finish().loses(&[(1, "File exists")], &others, contents);
            assert_same(&sandbox.path(path(1)), b"old");
        } else {
            running.finish().stores(&paths_of(0..3, path), contents);
        }
    }
});

both!(a_killed_peer_leaves_no_hidden_name, |sandbox| {
    let contents = contents(BEYOND_ALL_BUFFERS);
    let stands = stand_still(sandbox, &[], ERRORS[0], contents);
    let Some((fifo, running, peers)) = stands else { return };
    kill_process(peers[1], Signal::KILL).unwrap();
    drop(fifo);
    let path = |peer: usize| format!("received-files/pid-{}_fifo", peers[peer].as_raw_pid());
    running.finish().loses(&[(1, "killed by SIGKILL")], &paths_of([0, 2], path), contents);
});

both!(peers_that_are_all_killed_leave_no_hidden_name, |sandbox| {
    let stands = stand_still(sandbox, &[], ERRORS[0], contents(BEYOND_ALL_BUFFERS));
    let Some((fifo, running, peers)) = stands else { return };
    peers.iter().for_each(|&peer| kill_process(peer, Signal::KILL).unwrap());
    running.finish().loses(&[0, 1, 2].map(|peer| (peer, "killed by SIGKILL")), &[], &[]);
    drop(fifo);
});

both!(a_killed_server_leaves_no_hidden_name, |sandbox| {
    for signal in [Signal::KILL, Signal::TERM] {
        let stands = stand_still(sandbox, &[], ERRORS[0], contents(BEYOND_ALL_BUFFERS));
        let Some((fifo, running, _)) = stands else { return };
        running
            .die_of(signal, |server, signal| kill_process(server, signal).unwrap())
            .leaves_nothing();
        drop(fifo);
    }
});

both!(a_peer_killed_before_it_renames_leaves_no_hidden_name, |sandbox| {
    let contents = contents(BLOCK);
    sandbox.file("data", contents);
    let only = sandbox.directory("to-1");
    let args = ["--dir", "to-{peer}", "--name", "{name}", "3", "data"];
    let nameless = "inject=openat:error=EOPNOTSUPP:when=1";
    // `TERM` comes after the call, so the copy has its name by then.
    for (rename, why, is_named) in [
        ("inject=renameat,linkat:error=EIO", "Input/output error", false),
        ("inject=renameat:signal=KILL", "killed by SIGKILL", false),
        ("inject=renameat:signal=TERM", "killed by SIGTERM", true),
    ] {
        let how = ["-P", only.to_str().unwrap(), "-e", nameless, "-e", rename];
        let Some(invocation) = sandbox.with(args).tampered(&how) else { return };
        let named = paths_of(is_named.then_some(1), |_| "to-1/data");
        let run = invocation.run().leaving(&named, contents);
        run.loses(&[(1, why)], &paths_of([0, 2], |peer| format!("to-{peer}/data")), contents);
    }
});
