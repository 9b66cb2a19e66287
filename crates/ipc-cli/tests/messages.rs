//! Messages that nobody takes at first: standard error, or standard output, is a pipe that is full and that
//! somebody has made non-blocking, or a terminal's. Every line arrives, however late, and no copy waits for it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{PipeReader, Read, Write};
use std::os::fd::OwnedFd;

use common::leftovers::{session_of, state_of};
use common::paths::numbered;
use common::paused::{Fifo, await_files, resume, stop};
use common::running::Running;
use common::{BEYOND_ALL_BUFFERS, Sandbox, both, contents};
use rustix::process::{Pid, Signal, kill_process};

const SIZE: usize = BEYOND_ALL_BUFFERS;

/// A pipe that is full, so that all that is written to it waits for a reader.
struct FullPipe {
    reader: PipeReader,
    filled: usize,
}

impl FullPipe {
    fn new() -> (Self, OwnedFd) {
        let (reader, mut writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        while writer.write(&[b'.'; 4096]).is_ok() {}
        let filled = rustix::io::ioctl_fionread(&reader).unwrap();
        (Self { reader, filled: usize::try_from(filled).unwrap() }, writer.into())
    }

    /// Reads what the program writes to its end, and no earlier than it has nothing else to do.
    fn read_late(mut self, running: &Running<'_>) -> Vec<u8> {
        await_stuck(running);
        let mut said = Vec::new();
        self.reader.read_to_end(&mut said).unwrap();
        said.split_off(self.filled)
    }
}

/// Waits until the program has no peers any more, and it and whoever writes for it sleep.
fn await_stuck(running: &Running<'_>) {
    let sleeps = |&pid: &Pid| matches!(state_of(pid), Some('S' | 'Z') | None);
    while !(session_of(running.pid()).len() <= 1
        && session_of(running.pid()).iter().all(sleeps)
        && sleeps(&running.pid()))
    {
        std::thread::yield_now();
    }
}

both!(the_reasons_of_many_peers_all_arrive, |sandbox| {
    const PEERS: usize = 300;
    sandbox.file("data", b"contents");
    for peer in 0..PEERS {
        sandbox.directory("received-files");
        sandbox.file(format!("received-files/{peer}"), b"mine");
    }
    let (pipe, writer) = FullPipe::new();
    let args = ["--no-clobber", "--name", "{peer}", &PEERS.to_string(), "data"];
    let running = sandbox.with(args).stderr(writer).start();
    let said = pipe.read_late(&running);
    let failed: Vec<_> = (0..PEERS).map(|peer| (peer, "File exists")).collect();
    running.hear(&said).finish().loses(&failed, &[], &[]);
});

both!(help_and_complaints_about_arguments_arrive, |sandbox| {
    for (args, is_complaint) in
        [(&["--help"][..], false), (&["--version"], false), (&["3"], true), (&["--sync"], true)]
    {
        let expected = sandbox.run(args);
        let (expected, heard) = match is_complaint {
            true => (expected.stderr(), "stderr"),
            false => (expected.stdout(), "stdout"),
        };
        let (pipe, writer) = FullPipe::new();
        let invocation = sandbox.with(args);
        let invocation = match is_complaint {
            true => invocation.stderr(writer),
            false => invocation.stdout(writer),
        };
        let running = invocation.start();
        let said = pipe.read_late(&running);
        let _ = running.finish();
        assert_eq!(String::from_utf8(said).unwrap(), expected, "{heard} of {args:?}");
    }
});

/// A run with a full standard error that has read all of its source, and of which peer 1 is stopped before it
/// could get its name.
fn stopped<'s>(sandbox: &'s Sandbox, args: &[&str]) -> (FullPipe, Running<'s>, Vec<Pid>) {
    sandbox.directory("received-files");
    let mut fifo = Fifo::new(sandbox, "fifo");
    let (pipe, writer) = FullPipe::new();
    let args = [args, &["--name={peer}", "2", "fifo"]].concat();
    let running = sandbox.with(args).stderr(writer).start();
    fifo.feed(&running, contents(SIZE));
    let mut peers = running.children();
    peers.truncate(2);
    assert_eq!(stop(&peers[1..]), peers[1..]);
    (pipe, running, peers)
}

/// Waits until the process is there that writes for the program; gives it.
fn await_writer(running: &Running<'_>, peers: &[Pid]) -> Pid {
    loop {
        let writer = running.children().into_iter().find(|child| !peers.contains(child));
        if let Some(writer) = writer {
            return writer;
        }
        std::thread::yield_now();
    }
}

fn await_copies(sandbox: &Sandbox, running: &Running<'_>) {
    let copies = [0, 1].map(|peer| sandbox.path(format!("received-files/{peer}")));
    await_files(running, &sandbox.path("received-files"), &copies);
}

both!(a_message_that_is_not_taken_holds_up_no_copy_and_arrives, |sandbox| {
    // The progress is not taken either, and nobody misses it.
    for progress in ["--progress=never", "--progress=always"] {
        let (pipe, running, peers) = stopped(sandbox, &[progress]);
        await_writer(&running, &peers);
        resume(peers[1]);
        await_copies(sandbox, &running);
        let said = String::from_utf8(pipe.read_late(&running)).unwrap();
        if progress == "--progress=never" {
            assert!(said.contains("waiting for peer 1"), "{said}");
            running.hear(said.as_bytes()).finish().stores(&numbered(0..2), contents(SIZE));
        } else {
            assert!(said.contains("2 of 2 peers stored"), "{said}");
            assert!(said.ends_with('\n') && said.matches("2 peers").count() < 3, "{said}");
            running.finish().quietly().stores(&numbered(0..2), contents(SIZE));
        }
        std::fs::remove_file(sandbox.path("fifo")).unwrap();
        std::fs::remove_dir_all(sandbox.path("received-files")).unwrap();
    }
});

both!(a_message_outlives_the_process_that_was_to_write_it, |sandbox| {
    let (pipe, running, peers) = stopped(sandbox, &["--progress=never"]);
    let writer = await_writer(&running, &peers);
    kill_process(writer, Signal::KILL).unwrap();
    resume(peers[1]);
    await_copies(sandbox, &running);
    let said = String::from_utf8(pipe.read_late(&running)).unwrap();
    assert!(said.contains("waiting for peer 1"), "{said}");
    running.hear(said.as_bytes()).finish().stores(&numbered(0..2), contents(SIZE));
});
