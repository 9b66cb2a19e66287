//! Deaths at the very moments that matter: before anything has arrived, while the ring is full, and on
//! either side of each call that makes a copy count. The other copies are whole; and so is the dead
//! peer's, if it has its name.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use common::paths::paths_of;
use common::paused::{Fifo, await_peers, await_standstill, resume, stop, stop_midway};
use common::run::assert_same;
use common::running::Running;
use common::traced::tamper_with;
use common::{BEYOND_ALL_BUFFERS, RING, Sandbox, both, contents};
use rustix::process::{Pid, Signal, kill_process};

/// A run of three peers that reads a FIFO and has been fed nothing.
fn start<'s>(sandbox: &'s Sandbox, options: &[&str]) -> (Fifo, Running<'s>, Vec<Pid>) {
    let _ = fs::remove_file(sandbox.path("source"));
    sandbox.directory("received-files");
    // So it is not the opening that the server waits in.
    let fifo = Fifo::new(sandbox, "source");
    let running = sandbox.with([options, &["3", "source"]].concat()).start();
    let peers = await_peers(&running, 3, |_| true).unwrap();
    (fifo, running, peers)
}

/// A run of three peers that copies a file, with these of them stopped in the middle of it.
fn stop_in_file<'s>(
    sandbox: &'s Sandbox,
    options: &[&str],
    which: &[usize],
) -> (Running<'s>, Vec<Pid>) {
    sandbox.file("source", contents(SIZE));
    stop_midway(3, which, 1..SIZE / 2, || {
        let _ = fs::remove_dir_all(sandbox.path("received-files"));
        sandbox.directory("received-files");
        sandbox.with([options, &["3", "source"]].concat())
    })
}

/// The default paths of these peers.
fn paths_for(peers: &[Pid], which: &[usize]) -> Vec<Vec<u8>> {
    let path = |peer: usize| format!("received-files/pid-{}_source", peers[peer].as_raw_pid());
    paths_of(which.iter().copied(), path)
}

/// Bytes of a source that is a file.
const SIZE: usize = 16 << 20;
const KILLED: &str = "killed by SIGKILL";

both!(a_peer_killed_before_anything_has_arrived_harms_no_other, |sandbox| {
    let contents = contents(RING);
    let (mut fifo, running, peers) = start(sandbox, &[]);
    kill_process(peers[1], Signal::KILL).unwrap();
    fifo.feed(&running, contents);
    drop(fifo);
    running.finish().loses(&[(1, KILLED)], &paths_for(&peers, &[0, 2]), contents);
});

both!(a_peer_killed_while_it_keeps_the_ring_full_harms_no_other, |sandbox| {
    let contents = contents(2 * BEYOND_ALL_BUFFERS);
    let (mut fifo, running, peers) = start(sandbox, &[]);
    assert_eq!(stop(&peers[1..2]), peers[1..2]);
    std::thread::scope(|scope| {
        scope.spawn(|| fifo.feed(&running, contents));
        await_standstill(&running);
        kill_process(peers[1], Signal::KILL).unwrap();
    });
    drop(fifo);
    running.finish().loses(&[(1, KILLED)], &paths_for(&peers, &[0, 2]), contents);
});

// A file takes another way through `socket` than a stream, and it is with `--on-slow wait` only that
// a peer keeps the ring of `sharedmem` full for it.
const WAIT: [&str; 2] = ["--on-slow", "wait"];

both!(a_peer_killed_while_others_cannot_go_on_with_a_file_harms_no_other, |sandbox| {
    for (stopped, dead) in [(&[1][..], 1), (&[1, 2], 2), (&[1, 2], 1)] {
        let (running, peers) = stop_in_file(sandbox, &WAIT, stopped);
        await_standstill(&running);
        kill_process(peers[dead], Signal::KILL).unwrap();
        stopped.iter().for_each(|&peer| resume(peers[peer]));
        let alive: Vec<_> = (0..3).filter(|&peer| peer != dead).collect();
        running.finish().loses(&[(dead, KILLED)], &paths_for(&peers, &alive), contents(SIZE));
    }
});

both!(all_peers_killed_while_they_keep_the_ring_full_end_the_run, |sandbox| {
    let (running, peers) = stop_in_file(sandbox, &WAIT, &[0, 1, 2]);
    await_standstill(&running);
    peers.iter().for_each(|&peer| kill_process(peer, Signal::KILL).unwrap());
    running.finish().loses(&[0, 1, 2].map(|peer| (peer, KILLED)), &[], &[]);
});

/// A signal at a call of a peer's: `KILL` comes before the call, and `TERM` after it.
#[derive(Clone, Copy)]
struct Moment {
    call: &'static str,
    options: &'static [&'static str],
    /// Whether the copy has its name by then.
    is_named: bool,
}

const fn moment(call: &'static str, options: &'static [&'static str], is_named: bool) -> Moment {
    Moment { call, options, is_named }
}

const MOMENTS: [Moment; 12] = [
    // The first thing that is sent says that all is stored, the second that it has its name, and with
    // `--sync` a third that the name is on the disk.
    moment("sendto:signal=KILL:when=1", &[], false),
    moment("sendto:signal=TERM:when=1", &[], false),
    moment("linkat:signal=KILL", &[], false),
    moment("linkat:signal=TERM", &[], true),
    moment("sendto:signal=KILL:when=2", &[], true),
    // The file is synced first, then its directory.
    moment("fsync:signal=KILL:when=1", &["--sync"], false),
    moment("fsync:signal=TERM:when=1", &["--sync"], false),
    moment("fsync:signal=KILL:when=2", &["--sync"], true),
    moment("fsync:signal=TERM:when=2", &["--sync"], true),
    moment("sendto:signal=KILL:when=2", &["--sync"], true),
    moment("sendto:signal=TERM:when=2", &["--sync"], true),
    moment("sendto:signal=KILL:when=3", &["--sync"], true),
];

/// How a peer that is sent such a signal has failed.
fn death(call: &str) -> &'static str {
    if call.contains("KILL") { KILLED } else { "killed by SIGTERM" }
}

/// What is said of a peer that has failed, with its file in place or not.
fn outcome(is_named: bool, is_synced: bool, why: &str) -> String {
    match (is_named, is_synced) {
        (true, true) => format!("is stored, but not known to be on the disk: {why}"),
        (true, false) => format!("is stored, but its peer failed after that: {why}"),
        (false, _) => why.to_owned(),
    }
}

/// Checks a run in which peer 1 dies so, from where it stands still on.
fn die_at(
    Moment { call, options, is_named }: Moment,
    (running, peers): (Running<'_>, Vec<Pid>),
    go_on: impl FnOnce(),
    contents: &[u8],
) {
    let how = format!("inject={call}");
    let Some(_tracer) = tamper_with(peers[1], &["-e", &how]) else { return };
    go_on();
    let named: &[usize] = if is_named { &[1] } else { &[] };
    let run = running.finish().leaving(&paths_for(&peers, named), contents);
    let is_synced = options.contains(&"--sync");
    let why = outcome(is_named, is_synced, death(call));
    assert_eq!(run.stderr().contains("is stored"), is_named, "{call}: {}", run.stderr());
    run.loses(&[(1, &why)], &paths_for(&peers, &[0, 2]), contents);
}

both!(a_peer_killed_while_it_commits_harms_no_other, |sandbox| {
    let contents = contents(RING);
    for moment in MOMENTS {
        let _ = fs::remove_dir_all(sandbox.path("received-files"));
        let (mut fifo, running, peers) = start(sandbox, moment.options);
        fifo.feed(&running, contents);
        die_at(moment, (running, peers), || drop(fifo), contents);
    }
});

both!(a_peer_killed_while_it_commits_its_copy_of_a_file_harms_no_other, |sandbox| {
    for moment in MOMENTS {
        for slow in [&WAIT[..], &[]] {
            let run = stop_in_file(sandbox, &[slow, moment.options].concat(), &[1]);
            let peer = run.1[1];
            die_at(moment, run, || resume(peer), contents(SIZE));
        }
    }
});

both!(a_peer_killed_while_it_replaces_a_file_leaves_the_old_or_the_new, |sandbox| {
    let contents = contents(RING);
    let path = |peer| format!("received-files/{peer}");
    for (call, is_new) in [
        // The first link finds the name taken, the second makes the hidden one.
        ("linkat:signal=KILL:when=2", false),
        ("linkat:signal=TERM:when=2", false),
        ("renameat:signal=KILL", false),
        ("renameat:signal=TERM", true),
    ] {
        sandbox.directory("received-files");
        (0..3).for_each(|peer| _ = sandbox.file(path(peer), b"old"));
        let (mut fifo, running, peers) = start(sandbox, &["--name", "{peer}"]);
        fifo.feed(&running, contents);
        let how = format!("inject={call}");
        let Some(_tracer) = tamper_with(peers[1], &["-e", &how]) else { return };
        drop(fifo);
        let mut run = running.finish();
        if is_new {
            run = run.leaving(&paths_of([1], path), contents);
        }
        let why = outcome(is_new, false, death(call));
        assert_eq!(run.stderr().contains("is stored"), is_new, "{call}: {}", run.stderr());
        run.loses(&[(1, &why)], &paths_of([0, 2], path), contents);
        assert_same(&sandbox.path(path(1)), if is_new { contents } else { b"old" });
    }
});

both!(a_server_killed_while_it_lets_peers_commit_leaves_whole_copies, |sandbox| {
    let contents = contents(RING);
    for call in [1, 2, 3] {
        for signal in [Signal::KILL, Signal::TERM] {
            let _ = fs::remove_dir_all(sandbox.path("received-files"));
            let (mut fifo, running, peers) = start(sandbox, &[]);
            fifo.feed(&running, contents);
            fifo.await_empty(&running);
            let name = if signal == Signal::KILL { "KILL" } else { "TERM" };
            let how = format!("inject=sendto:signal={name}:when={call}");
            let Some(_tracer) = tamper_with(running.pid(), &["-e", &how]) else { return };
            let run = running.die_of(signal, |_, _| drop(fifo));
            // Who was told in time has named its copy; nobody had to be.
            let all = paths_for(&peers, &[0, 1, 2]).into_iter();
            let named =
                all.filter(|path| sandbox.path(String::from_utf8(path.clone()).unwrap()).exists());
            run.leaving(&named.collect::<Vec<_>>(), contents).leaves_nothing();
        }
    }
});

both!(a_server_killed_while_its_semaphore_has_a_name_leaves_none, |sandbox| {
    if !sandbox.is_sharedmem() {
        return;
    }
    sandbox.file("data", contents(RING));
    sandbox.directory("received-files");
    let how = ["-P", "/dev/shm", "-e", "inject=openat:signal=TERM:when=1"];
    let Some(invocation) = sandbox.with(["3", "data"]).tampered(&how) else { return };
    invocation.start().die_of(Signal::TERM, |_, _| {}).leaves_nothing();
});
