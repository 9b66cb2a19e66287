//! A peer's death harms nobody else, a server's death takes everybody along, and nobody waits for
//! the dead. The runs stand still in mid-copy while somebody is killed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;

use common::paths::paths_of;
use common::paused::{Fifo, stop_peers_midway};
use common::running::Running;
use common::{BEYOND_ALL_BUFFERS, Sandbox, both, contents, skip};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, kill_process_group, setrlimit};

/// How much has been read of the source when a run stands still: when peers may only just have been
/// forked, and when each has stored some of it.
const STANDSTILLS: [usize; 2] = [1 << 20, BEYOND_ALL_BUFFERS];

/// Bytes of a source that is a file.
const SIZE: usize = 16 << 20;

/// A run of `peers` that has read `fed` and stands still, as its source goes on some time.
fn stand_still<'s>(sandbox: &'s Sandbox, peers: usize, fed: &[u8]) -> (Fifo, Running<'s>) {
    sandbox.directory("received-files");
    let _ = fs::remove_file(sandbox.path("fifo"));
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with([&peers.to_string(), "fifo"]).start();
    fifo.feed(&running, fed);
    assert_eq!(running.children().len(), peers);
    (fifo, running)
}

fn path_of(pid: Pid) -> String {
    format!("received-files/pid-{}_fifo", pid.as_raw_pid())
}

both!(a_killed_peer_harms_no_other, |sandbox| {
    for (fed, dead) in STANDSTILLS.into_iter().zip([0, 2]) {
        let contents = contents(2 * fed);
        let (mut fifo, running) = stand_still(sandbox, 3, &contents[..fed]);
        let mut peers = running.children();
        kill_process(peers.remove(dead), Signal::KILL).unwrap();
        fifo.feed(&running, &contents[fed..]);
        drop(fifo);
        let paths = paths_of(0..2, |survivor| path_of(peers[survivor]));
        running.finish().loses(&[(dead, "killed by SIGKILL")], &paths, contents);
    }
});

both!(a_peer_that_is_sent_a_deadly_signal_has_failed, |sandbox| {
    let contents = contents(BEYOND_ALL_BUFFERS);
    for (signal, why) in [
        (Signal::TERM, "killed by SIGTERM"),
        (Signal::SEGV, "killed by SIGSEGV"),
        (Signal::BUS, "killed by SIGBUS"),
    ] {
        let (fifo, running) = stand_still(sandbox, 2, contents);
        let peers = running.children();
        kill_process(peers[1], signal).unwrap();
        drop(fifo);
        let paths = paths_of(0..1, |_| path_of(peers[0]));
        running.finish().loses(&[(1, why)], &paths, contents);
    }
});

both!(all_peers_killed_end_the_run_though_the_source_goes_on, |sandbox| {
    for fed in STANDSTILLS {
        let (fifo, running) = stand_still(sandbox, 5, contents(fed));
        running.children().into_iter().for_each(|peer| kill_process(peer, Signal::KILL).unwrap());
        let failed: Vec<_> = (0..5).map(|peer| (peer, "killed by SIGKILL")).collect();
        running.finish().loses(&failed, &[], &[]);
        drop(fifo);
    }
});

/// Whether this process, and so a program started by it, does not notice the signal.
fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    u64::from_str_radix(mask, 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

/// Signals that end a process which does not handle them. Rust's runtime handles two of them.
const DEADLY: [Signal; 8] = [
    Signal::KILL,
    Signal::TERM,
    Signal::INT,
    Signal::HUP,
    Signal::SEGV,
    Signal::BUS,
    Signal::QUIT,
    Signal::USR1,
];

/// Kills the server by each signal, at each standstill.
fn kill_server(sandbox: &Sandbox, send: fn(Pid, Signal)) {
    // Those that dump a core would leave one.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).unwrap();
    for signal in DEADLY {
        if is_ignored(signal) {
            skip("death by a signal", &format!("whoever started the tests ignores {signal:?}"));
            continue;
        }
        for fed in STANDSTILLS {
            let (fifo, running) = stand_still(sandbox, 3, contents(fed));
            running.die_of(signal, send).leaves_nothing();
            drop(fifo);
        }
    }
}

both!(a_killed_server_takes_all_peers_along, |sandbox| {
    kill_server(sandbox, |server, signal| kill_process(server, signal).unwrap());
});

both!(a_server_killed_with_its_group_leaves_nobody, |sandbox| {
    kill_server(sandbox, |server, signal| kill_process_group(server, signal).unwrap());
});

both!(a_server_killed_while_peers_are_stopped_leaves_nobody, |sandbox| {
    let (fifo, running) = stand_still(sandbox, 3, contents(BEYOND_ALL_BUFFERS));
    running.children().into_iter().for_each(|peer| kill_process(peer, Signal::STOP).unwrap());
    running
        .die_of(Signal::KILL, |server, signal| kill_process(server, signal).unwrap())
        .leaves_nothing();
    drop(fifo);
});

both!(a_server_killed_in_the_middle_of_a_file_leaves_nobody, |sandbox| {
    sandbox.file("data", contents(SIZE));
    for signal in [Signal::KILL, Signal::TERM] {
        let (running, _) = stop_peers_midway(3, SIZE, || {
            let _ = fs::remove_dir_all(sandbox.path("received-files"));
            sandbox.directory("received-files");
            sandbox.with(["3", "data"])
        });
        let send = |server, signal| kill_process(server, signal).unwrap();
        running.die_of(signal, send).leaves_nothing();
    }
});

both!(how_the_caller_treats_sigchld_does_not_matter, |sandbox| {
    // Exec hands both down. The first keeps the ends of children from being seen.
    for (name, option) in [("ignored", "--ignore-signal=CHLD"), ("blocked", "--block-signal=CHLD")]
    {
        if !common::succeeds(&["env", option], "true") {
            skip("SIGCHLD set by the caller", &format!("env does not know {option}"));
            continue;
        }
        let contents = contents(BEYOND_ALL_BUFFERS);
        let mut fifo = Fifo::new(sandbox, name);
        let args = ["--name", "{peer}", "3", name];
        let running = sandbox.with(args).through(&["env", option]).start();
        fifo.feed(&running, contents);
        kill_process(running.children()[1], Signal::KILL).unwrap();
        drop(fifo);
        let paths = paths_of([0, 2], |peer| format!("received-files/{peer}"));
        running.finish().loses(&[(1, "killed by SIGKILL")], &paths, contents);
    }
});
