//! Runs that stand still at a known place while a test does something to them.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process};

use super::leftovers::{await_any, state_of};
use super::running::Running;
use super::{Invocation, Sandbox};

/// A FIFO as source. The run that reads it stands still whenever it has read what was fed.
#[derive(Debug)]
pub(crate) struct Fifo(File);

impl Fifo {
    /// Makes it and opens it for writing; the source ends when this is dropped.
    pub(crate) fn new(sandbox: &Sandbox, name: &str) -> Self {
        let path = sandbox.path(name);
        rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        // Opened for both, it waits for no reader.
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let options = File::options().read(true).write(true).custom_flags(nonblocking).open(path);
        Self(options.unwrap())
    }

    /// Writes all of `bytes`. The server has read them then, but for what a pipe holds.
    pub(crate) fn feed(&mut self, running: &Running<'_>, mut bytes: &[u8]) {
        let pidfd = rustix::process::pidfd_open(running.pid(), PidfdFlags::empty()).unwrap();
        while !bytes.is_empty() {
            let mut fds =
                [PollFd::new(&self.0, PollFlags::OUT), PollFd::new(&pidfd, PollFlags::IN)];
            await_any(&mut fds, "a reader of the FIFO");
            assert!(fds[1].revents().is_empty(), "it ended before it had read everything");
            match self.0.write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    /// Waits until the server has read everything.
    pub(crate) fn await_empty(&self, running: &Running<'_>) {
        while rustix::io::ioctl_fionread(&self.0).unwrap() > 0 {
            assert_ne!(state_of(running.pid()), Some('Z'), "it ended too early");
            std::thread::yield_now();
        }
    }
}

/// Starts runs of `invocation` until one has all of its `peers` stopped before any of them has
/// stored all of the source's `size` bytes; so none has been told to give its copy a name.
pub(crate) fn stop_peers_midway<'s>(
    peers: usize,
    size: usize,
    invocation: impl Fn() -> Invocation<'s>,
) -> (Running<'s>, Vec<Pid>) {
    let size = u64::try_from(size).unwrap();
    for _ in 0..100 {
        let running = invocation().start();
        let stopped = stop_peers(&running, peers);
        let is_midway = |&peer: &Pid| bytes_stored(running.sandbox(), peer) < size;
        if stopped.len() == peers && stopped.iter().all(is_midway) {
            return (running, stopped);
        }
        stopped.into_iter().for_each(resume);
        let _ = running.finish();
    }
    panic!("the peers could not be stopped midway");
}

/// Stops all peers as soon as they have been forked, but for those that have ended.
fn stop_peers(running: &Running<'_>, peers: usize) -> Vec<Pid> {
    let children = loop {
        let children = running.children();
        // One child alone may be what guards the semaphore's name.
        if children.len() == peers || matches!(state_of(running.pid()), None | Some('Z')) {
            break children;
        }
        std::thread::yield_now();
    };
    let told = |&peer: &Pid| kill_process(peer, Signal::STOP).is_ok();
    let told: Vec<_> = children.into_iter().filter(told).collect();
    told.into_iter().filter(|&peer| is_stopped(peer)).collect()
}

/// Lets a stopped process go on, if nobody has ended it.
pub(crate) fn resume(pid: Pid) {
    let _ = kill_process(pid, Signal::CONT);
}

/// Waits until a process that was told to stop has stopped; says no if it ended instead.
fn is_stopped(pid: Pid) -> bool {
    loop {
        match state_of(pid) {
            Some('T') => return true,
            None | Some('Z') => return false,
            Some(_) => std::thread::yield_now(),
        }
    }
}

/// How far a stopped peer has written its file, the only one it has open in the sandbox, by the
/// file's position: a peer that gave its offsets with each call would seem to have nothing.
fn bytes_stored(sandbox: &Sandbox, peer: Pid) -> u64 {
    let process = format!("/proc/{}", peer.as_raw_pid());
    let descriptors = fs::read_dir(format!("{process}/fd")).unwrap().flatten();
    let files = descriptors.filter(|descriptor| {
        fs::read_link(descriptor.path()).is_ok_and(|target| target.starts_with(sandbox.root()))
    });
    let position = |descriptor: fs::DirEntry| {
        let info = Path::new(&process).join("fdinfo").join(descriptor.file_name());
        let info = fs::read_to_string(info).unwrap();
        info.lines().find_map(|line| line.strip_prefix("pos:")?.trim().parse().ok())
    };
    files.filter_map(position).max().unwrap_or(0)
}
