//! Storage that fails one peer and not the others: what it writes, what it names, what it syncs. The
//! peer fails with the kernel's reason, and the others have their copies.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::paths::{default_paths, paths_of};
use common::paused::{Fifo, resume, stop_midway};
use common::run::assert_same;
use common::traced::tamper_with;
use common::{BEYOND_ALL_BUFFERS, BLOCK, Sandbox, both, contents};

const SIZE: usize = 16 << 20;

const EIO: &str = "Input/output error";
const EDQUOT: &str = "Disk quota exceeded";
const ENOSPC: &str = "No space left on device";

/// Checks a run of three peers that stands still in mid-copy while peer 1 alone gets this done to what
/// it does afterwards.
fn fail_one(sandbox: &Sandbox, options: &[&str], how: &str, why: &str) {
    let _ = std::fs::remove_dir_all(sandbox.path(""));
    sandbox.directory("received-files");
    let contents = contents(BEYOND_ALL_BUFFERS + BLOCK);
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with([options, &["3", "fifo"]].concat()).start();
    fifo.feed(&running, &contents[..BEYOND_ALL_BUFFERS]);
    let peers = running.children();
    let Some(_tracer) = tamper_with(peers[1], &["-e", how]) else { return };
    fifo.feed(&running, &contents[BEYOND_ALL_BUFFERS..]);
    drop(fifo);
    let path = |peer: usize| format!("received-files/pid-{}_fifo", peers[peer].as_raw_pid());
    running.finish().loses(&[(1, why)], &paths_of([0, 2], path), contents);
}

both!(a_write_that_fails_fails_its_peer_only, |sandbox| {
    fail_one(sandbox, &[], "inject=write:error=EIO", EIO);
    fail_one(sandbox, &[], "inject=write:error=EDQUOT", EDQUOT);
    fail_one(sandbox, &[], "inject=write:error=ENOSPC", ENOSPC);
});

both!(a_copy_that_does_not_get_to_the_disk_fails_its_peer_only, |sandbox| {
    fail_one(sandbox, &["--sync"], "inject=fsync:error=EIO:when=1", EIO);
    fail_one(sandbox, &["--sync"], "inject=fsync:error=EDQUOT:when=1", EDQUOT);
});

both!(a_link_that_fails_fails_its_peer_only, |sandbox| {
    fail_one(sandbox, &[], "inject=linkat:error=EIO", EIO);
    fail_one(sandbox, &[], "inject=linkat:error=EDQUOT", EDQUOT);
    fail_one(sandbox, &[], "inject=linkat:error=ENOSPC", ENOSPC);
    fail_one(sandbox, &["--no-clobber"], "inject=linkat:error=EIO", EIO);
});

// With `socket` the bytes of a file, unlike those of a stream, come without a `write`.
both!(a_disk_that_fails_in_mid_copy_of_a_file_fails_its_peer_only, |sandbox| {
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    let (running, peers) = stop_midway(3, &[1], 1..SIZE / 2, || {
        let _ = std::fs::remove_dir_all(sandbox.path("received-files"));
        sandbox.directory("received-files");
        sandbox.with(["3", "data"])
    });
    let how = ["-e", "inject=write,splice:error=EIO"];
    let Some(_tracer) = tamper_with(peers[1], &how) else { return };
    resume(peers[1]);
    let path = |peer: usize| format!("received-files/pid-{}_data", peers[peer].as_raw_pid());
    running.finish().loses(&[(1, EIO)], &paths_of([0, 2], path), contents);
});

/// The paths of peers that have directories of their own.
fn own_paths(peers: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    paths_of(peers, |peer| format!("to-{peer}/data"))
}

const OWN: [&str; 6] = ["--dir", "to-{peer}", "--name", "{name}", "3", "data"];

both!(a_directory_that_takes_no_file_fails_its_peer_only, |sandbox| {
    let contents = contents(BLOCK);
    sandbox.file("data", contents);
    let bad = sandbox.directory("to-1");
    for (error, why) in [("EIO", EIO), ("EDQUOT", EDQUOT)] {
        let inject = format!("inject=openat:error={error}");
        let how = ["-P", bad.to_str().unwrap(), "-e", &inject];
        let Some(invocation) = sandbox.with(OWN).tampered(&how) else { return };
        invocation.run().loses(&[(1, why)], &own_paths([0, 2]), contents);
    }
});

both!(a_name_that_cannot_be_replaced_stays_what_it_was, |sandbox| {
    let contents = contents(BLOCK);
    sandbox.file("data", contents);
    let bad = sandbox.directory("to-1");
    for (error, why) in [("EIO", EIO), ("EDQUOT", EDQUOT)] {
        sandbox.file("to-1/data", b"mine");
        let inject = format!("inject=renameat:error={error}");
        let how = ["-P", bad.to_str().unwrap(), "-e", &inject];
        let Some(invocation) = sandbox.with(OWN).tampered(&how) else { return };
        invocation.run().loses(&[(1, why)], &own_paths([0, 2]), contents);
        assert_same(&sandbox.path("to-1/data"), b"mine");
    }
});

both!(a_source_that_cannot_be_read_gives_no_copy, |sandbox| {
    let source = sandbox.file("data", contents(SIZE));
    sandbox.directory("received-files");
    let inject = "inject=pread64,sendfile:error=EIO:when=3+";
    let how = ["-P", source.to_str().unwrap(), "-e", inject];
    let Some(invocation) = sandbox.with(["3", "data"]).tampered(&how) else { return };
    invocation.run().gives_up(3, EIO);
});

both!(a_broken_call_that_nobody_makes_harms_nobody, |sandbox| {
    // That the others fail by what is injected, and not by being traced.
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    let how = ["-e", "inject=write,linkat,splice:error=EIO:when=65535"];
    let Some(invocation) = sandbox.with(["3", "data"]).tampered(&how) else { return };
    invocation.run().stores(&default_paths(3, "data"), contents);
});
