//! Calls that are interrupted, refused for now, or cut short: each is made again or carried on, and
//! nobody sees more of it than the time that it took.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use common::leftovers::state_of;
use common::paths::{default_paths, paths_of};
use common::paused::{Fifo, await_peers, bytes_stored, resume, stop};
use common::traced::{tamper_and_tell, tamper_with};
use common::{BLOCK, RING, Sandbox, both, contents};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

const SIZE: usize = 3 * RING;

/// Copies a file, and the same as a stream, once for each of these injections.
fn copy_despite(sandbox: &Sandbox, injections: impl IntoIterator<Item = String>) {
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    for inject in injections {
        let how = ["-e", inject.as_str()];
        let Some(file) = sandbox.with(["2", "data"]).tampered(&how) else { return };
        file.run().stores(&default_paths(2, "data"), contents);
        let Some(stream) = sandbox.with(["2", "-"]).tampered(&how) else { return };
        let running = stream.stdin(Stdio::piped()).start();
        running.feed_stdin(contents).finish().stores(&default_paths(2, "stdin"), contents);
    }
}

/// What one program or one kind of source does not call cannot fail there. `fsync` is in `sync.rs`.
const CALLS: [&str; 13] = [
    "accept4",
    "connect",
    "epoll_pwait",
    "fallocate",
    "ftruncate",
    "poll",
    "ppoll",
    "recvfrom",
    "sendfile",
    "sendto",
    "splice",
    "wait4",
    "write",
];

both!(a_first_call_that_is_interrupted_is_made_again, |sandbox| {
    copy_despite(sandbox, CALLS.map(|call| format!("inject={call}:error=EINTR:when=1")));
});

both!(every_third_call_may_be_interrupted, |sandbox| {
    let all = CALLS.join(",");
    copy_despite(sandbox, [1, 2, 3].map(|call| format!("inject={all}:error=EINTR:when={call}+3")));
});

both!(every_other_call_may_be_refused_for_now, |sandbox| {
    let calls = ["accept4", "connect", "recvfrom", "sendfile", "sendto", "splice"];
    copy_despite(sandbox, calls.map(|call| format!("inject={call}:error=EAGAIN:when=1+2")));
});

/// Copies a file of these contents, opened by name and as standard input, while this is done to all calls
/// on it.
fn copy_file_despite(sandbox: &Sandbox, contents: &[u8], inject: &str) {
    let source = sandbox.file("data", contents);
    let source = source.to_str().unwrap();
    let how = ["-P", source, "-e", inject];
    let Some(by_name) = sandbox.with(["2", source]).tampered(&how) else { return };
    by_name.run().stores(&default_paths(2, "data"), contents);
    // So either program reads it into its memory.
    let Some(as_stdin) = sandbox.with(["2", "-"]).tampered(&how) else { return };
    let stdin = File::open(source).unwrap();
    as_stdin.stdin(stdin).run().stores(&default_paths(2, "stdin"), contents);
}

both!(reading_the_source_may_be_interrupted_or_refused_for_now, |sandbox| {
    copy_file_despite(sandbox, contents(SIZE), "inject=read,pread64:error=EINTR:when=1+2");
    copy_file_despite(sandbox, contents(SIZE), "inject=read,pread64:error=EAGAIN:when=1+2");
});

both!(opening_the_source_may_be_interrupted, |sandbox| {
    // As it is while it waits for the other end of a FIFO.
    copy_file_despite(sandbox, contents(BLOCK), "inject=open,openat:error=EINTR:when=1");
});

/// A run of two peers that stands still, as it has been fed this much less than a ring of a FIFO.
fn stand_still<'s>(
    sandbox: &'s Sandbox,
    fed: &[u8],
) -> (Fifo, common::running::Running<'s>, Vec<Pid>) {
    sandbox.directory("received-files");
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(["2", "fifo"]).start();
    fifo.feed(&running, fed);
    let peers = await_peers(&running, 2, |_| true).unwrap();
    (fifo, running, peers)
}

fn paths_for(peers: &[Pid]) -> Vec<Vec<u8>> {
    let path = |peer: usize| format!("received-files/pid-{}_fifo", peers[peer].as_raw_pid());
    paths_of(0..peers.len(), path)
}

/// Copies a stream while this is done to one peer, from when it stands still on.
fn copy_despite_in_one_peer(sandbox: &Sandbox, how: &str) {
    let _ = std::fs::remove_file(sandbox.path("fifo"));
    let contents = contents(RING / 2);
    let (mut fifo, running, peers) = stand_still(sandbox, &contents[..RING / 4]);
    let Some(_tracer) = tamper_with(peers[1], &["-e", how]) else { return };
    fifo.feed(&running, &contents[RING / 4..]);
    drop(fifo);
    running.finish().stores(&paths_for(&peers), contents);
}

both!(a_peer_s_sleep_may_be_interrupted, |sandbox| {
    // The ring is never full, so no peer has a server to wake: all that it calls so is its sleep.
    copy_despite_in_one_peer(sandbox, "inject=futex,ppoll,recvfrom:error=EINTR:when=1+2");
});

both!(a_peer_s_write_may_be_refused_for_now, |sandbox| {
    copy_despite_in_one_peer(sandbox, "inject=write,splice:error=EAGAIN:when=1+2");
});

both!(everybody_may_be_stopped_and_continued_while_it_sleeps, |sandbox| {
    // The kernel ends some sleeps by it as if there had been a signal with a handler.
    let contents = contents(RING / 2);
    let (mut fifo, running, peers) = stand_still(sandbox, &contents[..RING / 4]);
    fifo.await_empty(&running);
    for process in peers.iter().copied().chain([running.pid()]) {
        while state_of(process) != Some('S') {
            std::thread::yield_now();
        }
        assert_eq!(stop(&[process]), [process]);
        resume(process);
    }
    fifo.feed(&running, &contents[RING / 4..]);
    drop(fifo);
    running.finish().stores(&paths_for(&peers), contents);
});

both!(a_stream_that_somebody_made_nonblocking_is_waited_for, |sandbox| {
    let contents = contents(3 * BLOCK);
    let mut fifo = Fifo::new(sandbox, "fifo");
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let path: PathBuf = sandbox.path("fifo");
    let stdin = File::options().read(true).custom_flags(nonblocking).open(path).unwrap();
    let running = sandbox.with(["2", "-"]).stdin(stdin).start();
    for piece in contents.chunks(BLOCK) {
        fifo.feed(&running, piece);
        fifo.await_empty(&running);
    }
    drop(fifo);
    running.finish().stores(&default_paths(2, "stdin"), contents);
});

both!(a_full_standard_output_that_somebody_made_nonblocking_is_waited_for, |sandbox| {
    sandbox.file("data", b"contents");
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'.'; 4096]).is_ok() {}
    let filled = rustix::io::ioctl_fionread(&reader).unwrap();
    let args = ["--name", "{peer}", "2", "data"];
    let running = sandbox.with(args).stdout(OwnedFd::from(writer)).start();
    // It has reaped its peers, so it has nothing to do but to write their paths.
    let paths = [0, 1].map(|peer| sandbox.path(format!("received-files/{peer}")));
    while !paths.iter().all(|path| path.exists())
        || !running.children().is_empty()
        || !matches!(state_of(running.pid()), Some('S' | 'Z'))
    {
        std::thread::yield_now();
    }
    let mut said = Vec::new();
    let copying = std::thread::spawn(move || reader.read_to_end(&mut said).map(|_| said));
    running.finish().stores(&paths_of(0..2, |peer| format!("received-files/{peer}")), b"contents");
    let said = copying.join().unwrap().unwrap();
    assert_eq!(said[usize::try_from(filled).unwrap()..], *b"received-files/0\nreceived-files/1\n");
});

/// Lets a peer write no file longer than this.
fn limit_file_size(peer: Pid, bytes: Option<usize>) {
    let bytes = bytes.map(|bytes| u64::try_from(bytes).unwrap());
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(peer), Resource::Fsize, limit).unwrap();
}

both!(a_write_that_is_cut_short_is_carried_on, |sandbox| {
    // The write that reaches the limit is short, a real one, and the next would fail. So the peer is
    // stopped after each until it is that one, and then the limit is lifted.
    //
    // It must be a `write`: a `splice` does nothing while a signal waits. So little of a stream that has
    // stood still comes in frames that are too short to be spliced.
    const BEGIN: usize = RING / 2;
    let (contents, end) = (contents(BEGIN + 200_000), BEGIN + 12_345);
    let (mut fifo, running, peers) = stand_still(sandbox, &contents[..BEGIN]);
    fifo.await_passed_on(&running);
    let how = ["-e", "inject=write:signal=STOP"];
    let Some(mut tracer) = tamper_and_tell(peers[1], &how) else { return };
    limit_file_size(peers[1], Some(end));
    fifo.feed(&running, &contents[BEGIN..]);
    drop(fifo);
    loop {
        tracer.await_said("stopped by SIGSTOP");
        if bytes_stored(sandbox, peers[1]) == end.try_into().unwrap() {
            break;
        }
        resume(peers[1]);
    }
    limit_file_size(peers[1], None);
    drop(tracer);
    resume(peers[1]);
    running.finish().stores(&paths_for(&peers), contents);
});
