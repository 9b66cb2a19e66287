//! Processes that do not keep to the protocol: a peer that writes rubbish wherever it may write, and a
//! server that lies. Whoever is told rubbish says so, and the other copies are whole.
//!
//! The rubbish is written in a process's name: into its memory, by `/proc`, or into a copy of its
//! descriptors, while it sleeps.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use common::paths::paths_of;
use common::paused::{Fifo, await_peers, await_standstill, resume, stop_midway};
use common::run::Run;
use common::running::Running;
use common::{RING, Sandbox, both, contents, skip};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{SocketType, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

const SIZE: usize = 3 * RING;
const PAGE: usize = 4096;

/// Where the shared memory lies that a process may write.
fn writable_memory(process: Pid) -> Vec<Range<u64>> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", process.as_raw_pid())).unwrap();
    let parse = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let is_writable = rest.starts_with("rw-s") && rest.contains("/dev/shm/");
        is_writable.then(|| number(start)..number(end))
    };
    maps.lines().filter_map(parse).collect()
}

/// Writes into a process's memory; says no, and why, if that is not allowed here.
fn scribble(process: Pid, position: u64, bytes: &[u8]) -> bool {
    let memory = File::options().write(true).open(format!("/proc/{}/mem", process.as_raw_pid()));
    let written = memory.and_then(|memory| memory.write_all_at(bytes, position));
    written.inspect_err(|error| skip("rubbish in memory", &error.to_string())).is_ok()
}

/// A run of three peers that waits for peer 1, which is stopped in mid-copy.
///
/// It may be stopped in the moment in which it posts the semaphore and may write that, but not each time.
fn stop_one(sandbox: &Sandbox) -> (Running<'_>, Vec<Pid>) {
    sandbox.file("data", contents(SIZE));
    for _ in 0..10 {
        let (running, peers) = stop_midway(3, &[1], 1..RING, || {
            let _ = fs::remove_dir_all(sandbox.path("received-files"));
            sandbox.directory("received-files");
            sandbox.with(["--on-slow", "wait", "3", "data"])
        });
        if sandbox.is_sharedmem() {
            await_standstill(&running);
        }
        if writable_memory(peers[1]).len() <= 1 {
            return (running, peers);
        }
        resume(peers[1]);
        running.finish().stores(&paths_for(&peers, "data"), contents(SIZE));
    }
    panic!("a peer may always write the semaphore");
}

fn paths_for(peers: &[Pid], name: &str) -> Vec<Vec<u8>> {
    let path = |peer: usize| format!("received-files/pid-{}_{name}", peers[peer].as_raw_pid());
    paths_of(0..peers.len(), path)
}

/// Peer 1 has failed so, and the others have their copies.
fn loses_one(run: Run<'_>, peers: &[Pid], name: &str, why: &str, contents: &[u8]) {
    let mut paths = paths_for(peers, name);
    paths.remove(1);
    run.loses(&[(1, why)], &paths, contents);
}

both!(a_peer_may_write_one_page_of_what_all_share, |sandbox| {
    let (running, peers) = stop_one(sandbox);
    let length = |page: Range<u64>| page.end - page.start;
    let writable: u64 = writable_memory(peers[1]).into_iter().map(length).sum();
    assert_eq!(writable, if sandbox.is_sharedmem() { PAGE as u64 } else { 0 });
    resume(peers[1]);
    running.finish().stores(&paths_for(&peers, "data"), contents(SIZE));
});

both!(a_peer_that_claims_what_cannot_be_fails_alone, |sandbox| {
    for rubbish in [[0xff; PAGE], [0x7f; PAGE], [0x80; PAGE]] {
        let (running, peers) = stop_one(sandbox);
        let memory = writable_memory(peers[1]);
        for page in &memory {
            if !scribble(peers[1], page.start, &rubbish) {
                return;
            }
        }
        if sandbox.is_sharedmem() {
            let why = "it claims to have read what was never written";
            loses_one(running.finish(), &peers, "data", why, contents(SIZE));
        } else {
            // It shares no memory.
            assert_eq!(memory, []);
            resume(peers[1]);
            running.finish().stores(&paths_for(&peers, "data"), contents(SIZE));
        }
    }
});

both!(rubbish_behind_the_number_of_reads_harms_nobody, |sandbox| {
    for rubbish in [0xff, 0x7f, 0x01] {
        let (running, peers) = stop_one(sandbox);
        for page in writable_memory(peers[1]) {
            // The number has four bytes.
            if !scribble(peers[1], page.start + 4, &[rubbish; PAGE - 4]) {
                return;
            }
        }
        resume(peers[1]);
        running.finish().stores(&paths_for(&peers, "data"), contents(SIZE));
    }
});

/// A run of three peers that has read this of a FIFO and passed it all on.
fn stand_still<'s>(sandbox: &'s Sandbox, fed: &[u8]) -> (Fifo, Running<'s>, Vec<Pid>) {
    let _ = fs::remove_file(sandbox.path("fifo"));
    sandbox.directory("received-files");
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(["3", "fifo"]).start();
    fifo.feed(&running, fed);
    let peers = await_peers(&running, 3, |_| true).unwrap();
    fifo.await_passed_on(&running);
    (fifo, running, peers)
}

/// A copy of the socket of this type that a process has, and that `is_it`; `None`, and said, if that is
/// not allowed here.
fn socket_of(process: Pid, kind: SocketType, is_it: impl Fn(&OwnedFd) -> bool) -> Option<OwnedFd> {
    let pidfd = pidfd_open(process, PidfdFlags::empty()).unwrap();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", process.as_raw_pid())).unwrap();
    let numbers = descriptors.map(|fd| fd.unwrap().file_name().to_str().unwrap().parse().unwrap());
    for number in numbers {
        match pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()) {
            Ok(fd) if sockopt::socket_type(&fd) == Ok(kind) && is_it(&fd) => return Some(fd),
            Ok(_) => {}
            Err(error) => {
                skip("rubbish from another process", &error.to_string());
                return None;
            }
        }
    }
    panic!("{process:?} has no such socket");
}

/// That a peer has stored everything, a ring of bytes, in the file with no numbers.
const CLAIM: [u8; 25] = {
    let mut claim = [0; 25];
    claim[0] = 1;
    claim[3] = 0x28;
    claim
};

both!(a_lone_peer_that_claims_everything_before_the_end_of_a_stream_ends_the_run, |sandbox| {
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(["1", "fifo"]).start();
    fifo.feed(&running, contents(RING));
    let peers = await_peers(&running, 1, |_| true).unwrap();
    fifo.await_passed_on(&running);
    let control = socket_of(peers[0], SocketType::SEQPACKET, |_| true);
    let Some(control) = control else { return };
    rustix::net::send(&control, &CLAIM, rustix::net::SendFlags::empty()).unwrap();
    drop(control);
    let run = running.finish();
    run.loses(&[(0, "received an invalid control message: it is out of turn")], &[], &[]);
    drop(fifo);
});

both!(a_peer_that_says_rubbish_fails_alone, |sandbox| {
    let contents = contents(RING);
    for (rubbish, why) in [
        (&[0xff; 100][..], "received an invalid control message"),
        (&[1], "received an invalid control message"),
        // That it has stored what it has not been told to.
        (&[2], "received an invalid control message"),
        (&[], "killed by SIGKILL"),
    ] {
        let (fifo, running, peers) = stand_still(sandbox, contents);
        let control = socket_of(peers[1], SocketType::SEQPACKET, |_| true);
        let Some(control) = control else { return };
        rustix::net::send(&control, rubbish, rustix::net::SendFlags::empty()).unwrap();
        drop((control, fifo));
        loses_one(running.finish(), &peers, "fifo", why, contents);
    }
});

both!(whoever_is_told_lies_fails, |sandbox| {
    let contents = contents(RING);
    let (fifo, running, peers) = stand_still(sandbox, contents);
    if sandbox.is_sharedmem() {
        // All look at the same number, which is that of the blocks so far: a ring and more ahead.
        const SEQUENCE_NUMBER: u64 = 384;
        let server = running.pid();
        let memory = writable_memory(server);
        let segment = memory.iter().max_by_key(|memory| memory.end - memory.start).unwrap();
        if !scribble(server, segment.start + SEQUENCE_NUMBER, &[0x7f; 4]) {
            return;
        }
        let why = "the shared memory holds impossible numbers";
        running.finish().loses(&[0, 1, 2].map(|peer| (peer, why)), &[], &[]);
        drop(fifo);
    } else {
        // A frame that is longer than any, to one of them.
        let is_to_peer = |fd: &OwnedFd| {
            sockopt::socket_peercred(fd).is_ok_and(|credentials| credentials.pid == peers[1])
        };
        let socket = socket_of(running.pid(), SocketType::STREAM, is_to_peer);
        let Some(socket) = socket else { return };
        // The peer may not have taken all yet that the server has passed on.
        poll(&mut [PollFd::new(&socket, PollFlags::OUT)], None).unwrap();
        rustix::io::write(&socket, &u64::MAX.to_le_bytes()).unwrap();
        drop((socket, fifo));
        let why = "received a frame of 18446744073709551615 bytes";
        loses_one(running.finish(), &peers, "fifo", why, contents);
    }
});
