//! A peer that does nothing keeps the run waiting: that is told, and ends if that is wanted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::fuse::{Fault, Fuse, Op};
use common::paths::{numbered, paths_of};
use common::paused::{Fifo, await_standstill, resume, stop, stop_midway};
use common::{BEYOND_ALL_BUFFERS, both, contents};

const SIZE: usize = 32 << 20;
const KILLED: &str = "it was killed, because it did nothing for 500ms";

/// The arguments of a run to three peers, beside `more`.
fn to_three<'a>(more: &[&'a str], file: &'a str) -> Vec<&'a str> {
    [&["--name", "{peer}"], more, &["3", file]].concat()
}

both!(a_stopped_peer_is_told_of_and_waited_for, |sandbox| {
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    sandbox.directory("received-files");
    let (running, peers) = stop_midway(3, &[1], 0..SIZE, || sandbox.with(to_three(&[], "data")));
    let pid = peers[1].as_raw_pid();
    let told = format!("waiting for peer 1 (pid {pid}), which has done nothing for 5 s; --timeout");
    running.await_said(&told);
    resume(peers[1]);
    running.finish().says(&told).stores(&numbered(0..3), contents);
});

both!(a_stopped_peer_is_killed_when_its_time_is_over, |sandbox| {
    let contents = contents(SIZE);
    sandbox.file("data", contents);
    sandbox.directory("received-files");
    let args = to_three(&["--timeout", "0.5"], "data");
    let (running, _) = stop_midway(3, &[1], 0..SIZE, || sandbox.with(&args));
    running.finish().loses(&[(1, KILLED)], &numbered([0, 2]), contents);
});

both!(a_stopped_peer_of_a_stream_is_killed_when_its_time_is_over, |sandbox| {
    let contents = contents(2 * BEYOND_ALL_BUFFERS);
    sandbox.directory("received-files");
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(to_three(&["--timeout", "0.5"], "fifo")).start();
    let (first, rest) = contents.split_at(BEYOND_ALL_BUFFERS);
    fifo.feed(&running, first);
    stop(&running.children()[..1]);
    fifo.feed(&running, rest);
    drop(fifo);
    running.finish().loses(&[(0, KILLED)], &numbered(1..3), contents);
});

both!(nobody_is_killed_for_a_source_that_says_nothing, |sandbox| {
    let contents = contents(2 * BEYOND_ALL_BUFFERS);
    sandbox.directory("received-files");
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(to_three(&["--timeout", "0.3"], "fifo")).start();
    let (first, rest) = contents.split_at(BEYOND_ALL_BUFFERS);
    fifo.feed(&running, first);
    await_standstill(&running);
    fifo.feed(&running, rest);
    drop(fifo);
    running.finish().stores(&numbered(0..3), contents);
});

// The server reads it once more for that, while all peers wait for what it says. (A size that is told for a
// file, even the right one, keeps it out of the page cache.)
both!(peers_are_not_killed_for_a_source_that_is_slow_to_read_again, |sandbox| {
    const SIZE: usize = 3 << 20;
    let faults = [Fault::StandInSize(SIZE as u64), Fault::Slow(Op::Read, 2 << 20)];
    let Some(_disk) = Fuse::mount(sandbox, "disk", &faults) else { return };
    let contents = contents(SIZE);
    sandbox.file("disk/data", contents);
    for options in [&["--verify"][..], &["--verify", "--sync", "--on-slow", "wait"]] {
        let args = to_three(&[options, &["--timeout", "0.3"]].concat(), "disk/data");
        sandbox.run(args).stores(&numbered(0..3), contents);
        std::fs::remove_dir_all(sandbox.path("received-files")).unwrap();
    }
});

both!(peers_are_not_killed_while_they_wait_for_a_slower_one, |sandbox| {
    let Some(_disk) = Fuse::mount(sandbox, "to-1", &[Fault::Slow(Op::Write, 2 << 20)]) else {
        return;
    };
    let contents = contents(5 << 20);
    sandbox.file("data", contents);
    for options in [&[][..], &["--verify"], &["--verify", "--on-slow", "wait"]] {
        let args = [options, &["--timeout=1", "--dir=to-{peer}", "--name=x", "3", "data"]].concat();
        sandbox.run(args).stores(&paths_of(0..3, |peer| format!("to-{peer}/x")), contents);
        (0..3).for_each(|peer| std::fs::remove_file(sandbox.path(format!("to-{peer}/x"))).unwrap());
    }
});

both!(peers_are_not_killed_for_a_stream_that_is_silent_before_its_end, |sandbox| {
    let contents = contents(BEYOND_ALL_BUFFERS);
    sandbox.directory("received-files");
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(to_three(&["--verify", "--timeout", "0.3"], "fifo")).start();
    fifo.feed(&running, contents);
    await_standstill(&running);
    drop(fifo);
    running.finish().stores(&numbered(0..3), contents);
});

both!(a_timeout_is_a_number_of_seconds, |sandbox| {
    sandbox.file("data", b"contents");
    for value in ["", "0", "-1", "soon", "1s", "inf", "NaN"] {
        let option = format!("--timeout={value}");
        sandbox.run([&option, "1", "data"]).refuses(2, "it is not a number of seconds");
    }
    let run = sandbox.run(["--timeout=1e6", "--name={peer}", "1", "data"]);
    run.stores(&numbered(0..1), b"contents");
});
