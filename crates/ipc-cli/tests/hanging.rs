//! A destination whose file system does not answer any more, and a run that ends all the same: the other copies
//! are there and told of, and what can be neither ended nor removed is left behind, which is said.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use common::fuse::{Fault, Fuse, Op};
use common::leftovers::state_of;
use common::paused::{Fifo, await_peers, resume, stop};
use common::run::{Run, assert_same};
use common::running::Running;
use common::traced::tamper_and_tell;
use common::{BEYOND_ALL_BUFFERS, Sandbox, both, contents, skip};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

const SIZE: usize = 8 << 20;
const KILLED: &str = "it was killed, because it did nothing for 1s";
const LEFT: &str = "its process waits in the kernel and is left behind";

/// Peers with disks of their own; that of peer 1 is to hang.
const OWN: [&str; 4] = ["--dir", "to-{peer}", "--name", "copy"];

fn to_three<'a>(more: &[&'a str], file: &'a str) -> Vec<&'a str> {
    [&OWN, more, &["3", file]].concat()
}

/// Checks a run of three peers that has lost peer 1 to its disk, and has told of nothing but that.
fn check(sandbox: &Sandbox, run: &Run<'_>, why: &[&str]) {
    let said = run.stderr();
    assert_eq!(run.stdout(), "to-0/copy\nto-2/copy\n", "{said}");
    for copy in ["to-0/copy", "to-2/copy"] {
        assert_same(&sandbox.path(copy), contents(SIZE));
    }
    assert!(!run.is_success(), "{said}");
    let of_peers: Vec<_> = said.lines().filter(|line| line.contains("(pid ")).collect();
    let [line] = of_peers[..] else { panic!("{said}") };
    assert!(line.contains(": peer 1 (pid ") && why.iter().all(|why| line.contains(why)), "{said}");
    assert!(said.contains("2 of 3 peers stored"), "{said}");
}

/// A disk of which some operation hangs for good, and what is done to get there.
struct Case {
    options: &'static [&'static str],
    faults: &'static [Fault],
    /// After this operation hangs, nothing is answered any more.
    op: Option<Op>,
}

const NAMING: &[Fault] =
    &[Fault::Hangs(Op::RenameNoReplace), Fault::Hangs(Op::Rename), Fault::Hangs(Op::Link)];

const CASES: &[Case] = &[
    Case { options: &[], faults: &[Fault::HangsAt(Op::Write, 1 << 20)], op: Some(Op::Write) },
    Case {
        options: &["--verify"],
        faults: &[Fault::HangsAt(Op::Write, 1 << 20)],
        op: Some(Op::Write),
    },
    Case { options: &["--sync"], faults: &[Fault::Hangs(Op::Fsync)], op: Some(Op::Fsync) },
    // Whatever gives the file its name.
    Case { options: &[], faults: NAMING, op: None },
    Case { options: &["--no-clobber"], faults: NAMING, op: None },
    // A file system without FLUSH, on which a killed process does not wait for its files to be closed.
    Case {
        options: &[],
        faults: &[Fault::Fails(Op::Flush, Errno::NOSYS), Fault::HangsAt(Op::Write, 1 << 20)],
        op: Some(Op::Write),
    },
];

both!(a_disk_that_hangs_does_not_keep_the_run_from_its_end, |sandbox| {
    sandbox.file("data", contents(SIZE));
    for Case { options, faults, op } in CASES {
        let Some(disk) = Fuse::mount(sandbox, "to-1", faults) else { return };
        let running =
            sandbox.with(to_three(&[*options, &["--timeout", "1"]].concat(), "data")).start();
        if let Some(op) = op {
            disk.await_hanging(*op);
            disk.set(&[*faults, &[Fault::HangsAltogether]].concat());
        }
        check(sandbox, &running.finish_abandoning(), &[KILLED]);
        for copy in ["to-0/copy", "to-2/copy"] {
            std::fs::remove_file(sandbox.path(copy)).unwrap();
        }
    }
});

both!(a_process_that_cannot_be_ended_is_said_to_be_left_behind, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let faults = [Fault::HangsAt(Op::Write, 1 << 20)];
    let Some(_disk) = Fuse::mount(sandbox, "to-1", &faults) else { return };
    let running = sandbox.with(to_three(&["--timeout", "1"], "data")).start();
    check(sandbox, &running.finish_abandoning(), &[KILLED, LEFT]);
});

both!(all_peers_on_a_disk_that_hangs_fail, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let faults = [Fault::HangsAt(Op::Write, 1 << 20)];
    let Some(disk) = Fuse::mount(sandbox, "disk", &faults) else { return };
    let args = ["--timeout=1", "--dir=disk", "--name={peer}", "3", "data"];
    let running = sandbox.with(args).start();
    disk.await_hanging(Op::Write);
    disk.set(&[Fault::HangsAltogether]);
    let run = running.finish_abandoning();
    assert_eq!(run.stdout(), "");
    assert_eq!(run.stderr().matches(KILLED).count(), 3, "{}", run.stderr());
    assert!(!run.is_success());
});

// It is not --timeout that limits how long the end takes.
both!(a_peer_that_is_killed_on_a_disk_that_hangs_is_left_behind, |sandbox| {
    let faults = [Fault::HangsAt(Op::Write, 1 << 20)];
    let Some(disk) = Fuse::mount(sandbox, "to-1", &faults) else { return };
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(to_three(&["--on-slow", "drop"], "fifo")).start();
    // Peer 1 is dropped at last, so that this is read.
    fifo.feed(&running, contents(SIZE));
    disk.await_hanging(Op::Write);
    disk.set(&[Fault::HangsAltogether]);
    let peers = await_peers(&running, 3, |_| true);
    peers.iter().for_each(|peers| kill_process(peers[1], Signal::KILL).unwrap());
    drop(fifo);
    check(sandbox, &running.finish_abandoning(), &[LEFT]);
});

both!(a_report_for_programs_says_who_is_left_behind, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let faults = [Fault::HangsAt(Op::Write, 1 << 20)];
    let Some(_disk) = Fuse::mount(sandbox, "to-1", &faults) else { return };
    let running = sandbox.with(to_three(&["--json", "--timeout", "1"], "data")).start();
    let report: serde_json::Value =
        serde_json::from_str(&running.finish_abandoning().stdout()).unwrap();
    let peers = report["peers"].as_array().unwrap().iter();
    let left: Vec<_> = peers.map(|peer| peer["left_behind"].as_bool().unwrap()).collect();
    assert_eq!(left, [false, true, false], "{report}");
});

both!(a_pipe_that_the_report_goes_to_ends_though_a_process_is_left_behind, |sandbox| {
    sandbox.file("data", contents(SIZE));
    let faults = [Fault::HangsAt(Op::Write, 1 << 20)];
    let Some(_disk) = Fuse::mount(sandbox, "to-1", &faults) else { return };
    let args = to_three(&["--timeout", "1"], "data");
    let script = r#"all=$("$@" 2>&1); echo "$all" | grep "left behind" >&2"#;
    let running = sandbox.with(args).in_shell(script).start();
    let said = running.finish_abandoning().stderr();
    assert!(said.contains("peer 1 (pid ") && said.contains(LEFT), "{said}");
});

/// A directory that a daemon shows in another place. While that is stopped, requests wait that it has not seen.
struct Bindfs {
    mountpoint: PathBuf,
    daemon: Child,
}

impl Bindfs {
    fn mount(sandbox: &Sandbox, from: &str, to: &str) -> Option<Self> {
        let (from, mountpoint) = (sandbox.directory(from), sandbox.directory(to));
        let is_mounted = |path: &PathBuf| {
            let device = |path| rustix::fs::stat(path).map(|stat| stat.st_dev).ok();
            device(path.as_path()) != device(sandbox.root())
        };
        let mut command = Command::new("bindfs");
        command.arg("-f").arg(from).arg(&mountpoint).stderr(Stdio::null());
        let Ok(mut daemon) = command.spawn() else {
            skip("a file system whose daemon is stopped", "there is no bindfs");
            return None;
        };
        while !is_mounted(&mountpoint) {
            if daemon.try_wait().unwrap().is_some() {
                skip("a file system whose daemon is stopped", "bindfs may not mount it");
                return None;
            }
            std::thread::yield_now();
        }
        Some(Self { mountpoint, daemon })
    }

    fn stop(&self) {
        assert_eq!(stop(&[Pid::from_child(&self.daemon)]).len(), 1);
    }

    /// Waits for the end of a run; lets the daemon go on then.
    fn abandon<'s>(&self, running: Running<'s>) -> Run<'s> {
        let server = running.pid();
        while state_of(server) != Some('Z') {
            std::thread::yield_now();
        }
        resume(Pid::from_child(&self.daemon));
        running.finish_abandoning()
    }
}

impl Drop for Bindfs {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        let _ = unmount(&self.mountpoint, UnmountFlags::DETACH);
    }
}

/// A run of three peers that stands still, as its source goes on some time.
fn stand_still<'s>(sandbox: &'s Sandbox, options: &[&str]) -> (Fifo, Running<'s>, Vec<Pid>) {
    let mut fifo = Fifo::new(sandbox, "fifo");
    let running = sandbox.with(to_three(options, "fifo")).start();
    fifo.feed(&running, contents(BEYOND_ALL_BUFFERS));
    let peers = await_peers(&running, 3, |_| true).unwrap();
    (fifo, running, peers)
}

both!(a_daemon_that_is_stopped_does_not_keep_the_run_from_its_end, |sandbox| {
    let Some(disk) = Bindfs::mount(sandbox, "below", "to-1") else { return };
    let (fifo, running, _) = stand_still(sandbox, &["--timeout", "1"]);
    disk.stop();
    drop(fifo);
    check(sandbox, &disk.abandon(running), &[KILLED]);
});

// Nothing but the directory can tell whether its file has the name.
both!(a_daemon_that_is_stopped_at_the_commit_does_not_keep_the_run_from_its_end, |sandbox| {
    let Some(disk) = Bindfs::mount(sandbox, "below", "to-1") else { return };
    let (fifo, running, peers) = stand_still(sandbox, &["--timeout", "1"]);
    let how = ["-e", "inject=sendto:signal=STOP:when=1"];
    let Some(mut tracer) = tamper_and_tell(peers[1], &how) else { return };
    drop(fifo);
    tracer.await_said("stopped by SIGSTOP");
    disk.stop();
    drop(tracer);
    resume(peers[1]);
    check(sandbox, &disk.abandon(running), &[KILLED]);
});
