//! Names that turn out to be somebody else's when the process ids in them are known: these are chosen here.
//! The peer that would have such a name fails, and what has it stays.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::leftovers::{children_of, state_of};
use common::paths::{PID, paths_of};
use common::paused::Fifo;
use common::running::Running;
use common::{RING, both, contents, skip, succeeds};
use rustix::process::Pid;

const PEERS: usize = 13;

/// Runs `"$@"` with few process ids left. Whoever is forked after 1309 gets 300 (the kernel keeps those
/// below for itself), and so on. Wherever among the peers from 1 to 11 that is, peer 1 gets a number 1000
/// above that of peer 11: 1306 and 306, say, and both would be called 11306. The server itself gets 1304.
const SCRIPT: &str = r#"
    echo 1310 >/proc/sys/kernel/pid_max && echo 1303 >/proc/sys/kernel/ns_last_pid || exit 99
    "$@"; exit $?"#;

/// The command that runs another one in a PID namespace of its own; `None` where there is none, which it
/// says.
fn own_pids() -> Option<&'static [&'static str]> {
    find_own_pids().inspect_err(|why| skip("process ids of one's choice", why)).ok()
}

fn find_own_pids() -> Result<&'static [&'static str], &'static str> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    let mut next = || numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    if (next(), next()) < (6, 14) {
        // There is one greatest id for all namespaces, and it is not for a test to change.
        return Err("before Linux 6.14 a namespace has no greatest process id of its own");
    }
    const UNSHARE: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--map-root-user"];
    let root = rustix::process::geteuid().is_root();
    let command = if root { &UNSHARE[..4] } else { &UNSHARE };
    let works = succeeds(&[command, &["sh", "-c", SCRIPT, "sh"]].concat(), "true");
    works.then_some(command).ok_or("this user may make no namespace, or not count in it")
}

/// Waits until the server, which is a grandchild of what was started, has forked all of its peers and this
/// one has ended.
fn await_end_of(peer: usize, running: &Running<'_>) {
    let only = |pid: Pid| match children_of(pid)[..] {
        [child] => Some(child),
        _ => None,
    };
    loop {
        assert_ne!(state_of(running.pid()), Some('Z'), "it ended too early");
        let server = only(running.pid()).and_then(only);
        let peers = server.map(children_of).unwrap_or_default();
        if peers.len() == PEERS && state_of(peers[peer]) == Some('Z') {
            return;
        }
        std::thread::yield_now();
    }
}

both!(the_second_of_two_peers_with_one_name_fails_before_a_byte_flows, |sandbox| {
    let Some(command) = own_pids() else { return };
    let contents = contents(RING);
    let mut fifo = Fifo::new(sandbox, "fifo");
    // So no process stands by to remove it, which would be a child of the server's parent.
    sandbox.directory("received-files");
    let count = PEERS.to_string();
    let invocation = sandbox.with(["--name", "{peer}{pid}", &count, "fifo"]);
    let running = invocation.in_shell(SCRIPT).through(command).start();
    await_end_of(11, &running);
    fifo.feed(&running, contents);
    drop(fifo);
    let others = (0..PEERS).filter(|&peer| peer != 11);
    let paths = paths_of(others, |peer| format!("received-files/{peer}{PID}"));
    let why = "its received file would have the name of peer 1's";
    running.finish().loses(&[(11, why)], &paths, contents);
});

both!(a_copy_that_would_replace_its_source_by_chance_fails_alone, |sandbox| {
    let Some(command) = own_pids() else { return };
    sandbox.directory("received-files");
    sandbox.file("received-files/1306", b"contents");
    let args = ["--name", "{pid}", "3", "received-files/1306"];
    // The guard of the semaphore's name is forked first.
    let peer = if sandbox.is_sharedmem() { 0 } else { 1 };
    let paths = vec![format!("received-files/{PID}").into_bytes(); 2];
    let why = r#""received-files/1306" is the source itself"#;
    let run = sandbox.with(args).in_shell(SCRIPT).through(command).run();
    run.loses(&[(peer, why)], &paths, b"contents");
});
