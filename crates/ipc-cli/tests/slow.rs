//! Peers that hold the others up: a regular file's are detached, waited for or dropped, as is asked
//! for; a stream's are waited for or dropped. They are slow here by being stopped.
//!
//! Where a peer is dropped there is only one more: on a busy machine, one of two others can hold the
//! other up, and be dropped as well.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::SystemTime;

use common::paths::default_paths;
use common::paused::{
    Fifo, await_files, await_peers, await_standstill, bytes_stored, resume, stop, stop_midway,
};
use common::run::{Run, assert_same};
use common::running::Running;
use common::{BEYOND_ALL_BUFFERS, SHORT_RING, Sandbox, both, contents};
use rustix::process::{Pid, Signal, kill_process};

const SIZE: usize = 16 << 20;
/// So much may be stored by a peer that is stopped before it can have waited for another one: the
/// server has not seen the ring full by then. So it is the first to hold the others up.
const AT_BEGIN: Range<usize> = 0..SHORT_RING;
/// As [`AT_BEGIN`], and it surely is all that a peer is that receives.
const BEGUN: Range<usize> = 1..AT_BEGIN.end;
/// So much may be stored by a peer that is stopped for the others to need more of the ring.
const MIDWAY: Range<usize> = 1..SIZE - 2 * SHORT_RING;

const HELD_UP: &str = "it was dropped, because it held the other peers up";
const CHANGED: &str = r#""data" changed while it was copied"#;

/// A run that copies the file `data` and has some of its peers stopped.
struct Stopped<'s> {
    running: Running<'s>,
    peers: Vec<Pid>,
    /// The numbers of those that are stopped.
    slow: Vec<usize>,
    contents: &'static [u8],
}

impl<'s> Stopped<'s> {
    /// A run of `peers`, the `slow` of which are stopped with so much `stored`.
    fn midway(
        sandbox: &'s Sandbox,
        options: &[&str],
        peers: usize,
        slow: &[usize],
        stored: Range<usize>,
    ) -> Self {
        let contents = contents(SIZE);
        let source = File::create(sandbox.file("data", contents)).unwrap();
        source.write_all_at(contents, 0).unwrap();
        // Long ago, so that a change shows however coarse the clock is.
        source.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        // In `socket` every peer has its own pace, so it does not matter where one is stopped.
        let stored = if sandbox.is_sharedmem() { stored } else { stored.start..SIZE };
        let count = peers.to_string();
        let (running, peers) = stop_midway(peers, slow, stored, || {
            // Names of another try must not be taken for those of this one.
            let _ = fs::remove_dir_all(sandbox.path("received-files"));
            sandbox.directory("received-files");
            sandbox.with([options, &[count.as_str(), "data"]].concat())
        });
        Self { running, peers, slow: slow.to_vec(), contents }
    }

    /// The final paths of the peers that are not stopped.
    fn others(&self) -> Vec<Vec<u8>> {
        let others = (0..).zip(&self.peers).filter(|(peer, _)| !self.slow.contains(peer));
        others.map(|(_, &pid)| path_of(pid, "data")).collect()
    }

    /// Waits until the others have their copies, which are whole.
    fn await_others(&self) {
        let sandbox = self.running.sandbox();
        let path = |path: Vec<u8>| sandbox.path(String::from_utf8(path).unwrap());
        let files: Vec<PathBuf> = self.others().into_iter().map(path).collect();
        await_files(&self.running, &sandbox.path("received-files"), &files);
        files.iter().for_each(|file| assert_same(file, self.contents));
    }

    /// Lets the stopped peers go on and the run end.
    fn go_on(self) -> Run<'s> {
        self.slow.iter().for_each(|&peer| resume(self.peers[peer]));
        self.running.finish()
    }
}

fn path_of(pid: Pid, name: &str) -> Vec<u8> {
    format!("received-files/pid-{}_{name}", pid.as_raw_pid()).into()
}

/// `sharedmem` says that these were detached; nobody holds the others up with `socket`.
fn detaching<'s>(sandbox: &Sandbox, run: Run<'s>, slow: &[usize], peers: usize) -> Run<'s> {
    match sandbox.is_sharedmem() {
        true => run.detaching(slow, peers),
        false => run.detaching_nobody(),
    }
}

both!(others_do_not_wait_for_stopped_peers, |sandbox| {
    for (options, peers, slow, stored) in [
        (&[][..], 3, &[0][..], AT_BEGIN),
        (&[], 3, &[2], MIDWAY),
        (&[], 2, &[1], MIDWAY),
        (&[], 7, &[1, 3], AT_BEGIN),
        (&["--on-slow", "detach"], 3, &[1], BEGUN),
        (&["--sync"], 3, &[1], MIDWAY),
    ] {
        let stopped = Stopped::midway(sandbox, options, peers, slow, stored);
        stopped.await_others();
        let run = detaching(sandbox, stopped.go_on(), slow, peers);
        run.stores(&default_paths(peers, "data"), contents(SIZE));
    }
});

both!(a_detached_peer_is_no_news_to_the_quiet, |sandbox| {
    let stopped = Stopped::midway(sandbox, &["--quiet"], 3, &[0], AT_BEGIN);
    stopped.await_others();
    stopped.go_on().quietly().stores(&default_paths(3, "data"), contents(SIZE));
});

both!(a_stopped_peer_is_waited_for_if_that_is_asked_for, |sandbox| {
    let stopped = Stopped::midway(sandbox, &["--on-slow", "wait"], 3, &[0], BEGUN);
    if sandbox.is_sharedmem() {
        await_standstill(&stopped.running);
        let names = fs::read_dir(sandbox.path("received-files")).unwrap();
        assert_eq!(names.count(), 0, "a copy is there already");
    } else {
        stopped.await_others();
    }
    stopped.go_on().detaching_nobody().stores(&default_paths(3, "data"), contents(SIZE));
});

both!(a_stopped_peer_is_dropped_if_that_is_asked_for, |sandbox| {
    for slow in [0, 1] {
        let stopped = Stopped::midway(sandbox, &["--on-slow", "drop"], 2, &[slow], AT_BEGIN);
        if sandbox.is_sharedmem() {
            let others = stopped.others();
            let run = stopped.running.finish().detaching_nobody();
            run.loses(&[(slow, HELD_UP)], &others, stopped.contents);
        } else {
            stopped.await_others();
            stopped.go_on().stores(&default_paths(2, "data"), contents(SIZE));
        }
    }
});

/// What a test does to a source while a peer that was detached is stopped.
type Change = fn(&File, &Sandbox);

/// The run that copies a file which is changed while peer 1 of 3 is stopped and the others have their
/// copies; and these.
fn change_late(sandbox: &Sandbox, change: Change) -> (Run<'_>, Vec<Vec<u8>>) {
    let mut stopped = Stopped::midway(sandbox, &[], 3, &[1], AT_BEGIN);
    stopped.await_others();
    let source = File::options().write(true).open(sandbox.path("data")).unwrap();
    change(&source, sandbox);
    stopped.running.accept_change_of(&sandbox.path("data"));
    let others = stopped.others();
    (detaching(sandbox, stopped.go_on(), &[1], 3), others)
}

both!(a_detached_peer_stores_no_mix_of_two_versions, |sandbox| {
    let overwrite_begin: Change = |source, _| source.write_all_at(b"x", 0).unwrap();
    let overwrite_end: Change =
        |source, _| source.write_all_at(b"x", u64::try_from(SIZE).unwrap() - 1).unwrap();
    let grow: Change =
        |source, _| source.write_all_at(b"more", u64::try_from(SIZE).unwrap()).unwrap();
    for change in [overwrite_begin, overwrite_end, grow] {
        let (run, others) = change_late(sandbox, change);
        run.gives_up_on(&[1], CHANGED, &others, contents(SIZE));
    }
});

both!(a_detached_peer_fails_if_its_source_shrinks, |sandbox| {
    let by_one: Change = |source, _| source.set_len(u64::try_from(SIZE).unwrap() - 1).unwrap();
    let to_nothing: Change = |source, _| source.set_len(0).unwrap();
    for change in [by_one, to_nothing] {
        let (run, others) = change_late(sandbox, change);
        if sandbox.is_sharedmem() {
            // It notices by itself, and the server, which reads no more, does not look again.
            run.loses(&[(1, CHANGED)], &others, contents(SIZE));
        } else {
            run.gives_up_on(&[1], CHANGED, &others, contents(SIZE));
        }
    }
});

both!(a_detached_peer_copies_a_source_that_is_replaced_as_it_was, |sandbox| {
    let (run, _) = change_late(sandbox, |_, sandbox| {
        let other = sandbox.file("other", b"other contents");
        fs::rename(other, sandbox.path("data")).unwrap();
    });
    run.stores(&default_paths(3, "data"), contents(SIZE));
});

both!(a_detached_peer_that_is_killed_harms_no_other, |sandbox| {
    for stored in [AT_BEGIN, BEGUN] {
        let stopped = Stopped::midway(sandbox, &[], 3, &[1], stored);
        stopped.await_others();
        kill_process(stopped.peers[1], Signal::KILL).unwrap();
        let (others, failed) = (stopped.others(), [(1, "killed by SIGKILL")]);
        stopped.running.finish().loses(&failed, &others, stopped.contents);
    }
});

both!(a_killed_server_takes_a_detached_peer_along, |sandbox| {
    let stopped = Stopped::midway(sandbox, &[], 3, &[1], BEGUN);
    stopped.await_others();
    let others = stopped.others();
    let run =
        stopped.running.die_of(Signal::KILL, |pid, signal| kill_process(pid, signal).unwrap());
    run.leaving(&others, stopped.contents).leaves_nothing();
});

both!(what_is_stored_while_blocks_are_filled_anew_is_not_kept, |sandbox| {
    // The ring holds what a peer stores with eight writes. One that is stopped between them goes on
    // when the same memory has long held other blocks.
    const WRITTEN_AT_ONCE: usize = 4 << 20;
    for round in 0..32 {
        let ring = [["--blocks=1", "--block-size=4M"], ["--blocks=2", "--block-size=2M"]];
        let options = if sandbox.is_sharedmem() { &ring[round % 2][..] } else { &[] };
        let stopped = Stopped::midway(sandbox, options, 2, &[round / 2 % 2], 1..WRITTEN_AT_ONCE);
        stopped.await_others();
        let run = detaching(sandbox, stopped.go_on(), &[round / 2 % 2], 2);
        run.stores(&default_paths(2, "data"), contents(SIZE));
    }
});

/// A run that reads a stream, a FIFO as its standard input, and has not been fed anything.
fn read_stdin<'s>(
    sandbox: &'s Sandbox,
    options: &[&str],
    peers: usize,
) -> (Fifo, Running<'s>, Vec<Pid>) {
    let _ = fs::remove_file(sandbox.path("fifo"));
    let fifo = Fifo::new(sandbox, "fifo");
    sandbox.directory("received-files");
    let stdin = File::open(sandbox.path("fifo")).unwrap();
    let count = peers.to_string();
    let args = [options, &[count.as_str(), "-"]].concat();
    let running = sandbox.with(args).stdin(stdin).start();
    let peers = await_peers(&running, peers, |_| true).unwrap();
    (fifo, running, peers)
}

/// Feeds what does not fit into all buffers while peer 0 is stopped, which then is let go on, and
/// ends the stream; the server must wait for that peer in between.
fn feed_until_it_waits<'s>(
    mut fifo: Fifo,
    running: Running<'s>,
    peers: &[Pid],
    contents: &[u8],
) -> Run<'s> {
    assert_eq!(stop(&peers[..1]), &peers[..1]);
    std::thread::scope(|scope| {
        scope.spawn(|| fifo.feed(&running, contents));
        await_standstill(&running);
        resume(peers[0]);
    });
    drop(fifo);
    running.finish().detaching_nobody()
}

both!(a_stopped_peer_that_a_stream_cannot_be_read_again_for_is_waited_for, |sandbox| {
    for options in [&[][..], &["--on-slow", "wait"]] {
        let contents = contents(2 * BEYOND_ALL_BUFFERS);
        let (fifo, running, peers) = read_stdin(sandbox, options, 3);
        let run = feed_until_it_waits(fifo, running, &peers, contents);
        run.stores(&default_paths(3, "stdin"), contents);
    }
});

both!(a_stopped_peer_that_is_alone_holds_nobody_up, |sandbox| {
    let contents = contents(3 * BEYOND_ALL_BUFFERS);
    let (begin, rest) = contents.split_at(BEYOND_ALL_BUFFERS);
    let (mut fifo, running, _) = read_stdin(sandbox, &["--on-slow", "drop"], 1);
    fifo.feed(&running, begin);
    let peers = running.children();
    feed_until_it_waits(fifo, running, &peers, rest).stores(&default_paths(1, "stdin"), contents);
});

both!(a_stopped_peer_of_a_stream_is_dropped_if_that_is_asked_for, |sandbox| {
    for slow in [0, 1] {
        let contents = contents(2 * BEYOND_ALL_BUFFERS);
        let (begin, rest) = contents.split_at(1 << 20);
        let (mut fifo, running, peers) = read_stdin(sandbox, &["--on-slow", "drop"], 2);
        assert_eq!(stop(&peers[slow..=slow]), &peers[slow..=slow]);
        // Before the other one is there it could seem to hold this one up, whose buffer fills by
        // itself.
        fifo.feed(&running, begin);
        let other = peers[1 - slow];
        await_peers(&running, 2, |_| bytes_stored(sandbox, other) > 0).unwrap();
        fifo.feed(&running, rest);
        drop(fifo);
        let run = running.finish().detaching_nobody();
        run.loses(&[(slow, HELD_UP)], &[path_of(other, "stdin")], contents);
    }
});

both!(what_can_be_read_only_once_is_not_detached_from, |sandbox| {
    let run = sandbox.run(["--on-slow", "detach", "2", "-"]);
    run.refuses(2, "standard input can be read only once, so no peer can read it by itself");
    let _fifo = Fifo::new(sandbox, "fifo");
    let why = r#""fifo" can be read only once, so no peer can read it by itself"#;
    sandbox.run(["--on-slow", "detach", "2", "fifo"]).refuses(1, why);
});

both!(to_detach_from_a_file_that_tells_no_size_is_no_mistake, |sandbox| {
    sandbox.file("empty", b"");
    let run = sandbox.run(["--on-slow", "detach", "2", "empty"]);
    run.stores(&default_paths(2, "empty"), b"");
});

both!(an_answer_to_slow_peers_that_there_is_not, |sandbox| {
    sandbox.file("data", b"contents");
    for value in ["", "never", "Detach", "waiting", "1"] {
        let option = format!("--on-slow={value}");
        sandbox.run([&option, "2", "data"]).refuses(2, "'--on-slow <WHAT>'");
    }
    sandbox
        .run(["2", "data", "--on-slow"])
        .refuses(2, "a value is required for '--on-slow <WHAT>'");
});
