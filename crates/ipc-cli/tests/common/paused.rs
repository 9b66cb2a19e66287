//! Runs that stand still at a known place while a test does something to them.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process};

use super::leftovers::{await_any, bytes_read_by, sleeps_of, state_of};
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

    /// Checks that what is written to this descriptor can be read from it, as nothing has replaced the FIFO.
    pub(crate) fn assert_passes(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        let mut read = vec![0; bytes.len()];
        self.0.read_exact(&mut read).unwrap();
        assert_eq!(read, bytes);
    }

    /// Waits until the server has read everything.
    pub(crate) fn await_empty(&self, running: &Running<'_>) {
        while rustix::io::ioctl_fionread(&self.0).unwrap() > 0 {
            assert_ne!(state_of(running.pid()), Some('Z'), "it ended too early");
            std::thread::yield_now();
        }
    }

    /// Waits until the server has read everything, and then has done all that there was to do: it sleeps
    /// no earlier.
    pub(crate) fn await_passed_on(&self, running: &Running<'_>) {
        self.await_empty(running);
        let slept = sleeps_of(running.pid());
        while sleeps_of(running.pid()) == slept {
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
    let all: Vec<_> = (0..peers).collect();
    stop_midway(peers, &all, 0..size, invocation)
}

/// Starts runs of `invocation` until one has those of its `peers` stopped whose numbers are in
/// `which`, each with so many bytes `stored`. All of its peers come along.
pub(crate) fn stop_midway<'s>(
    peers: usize,
    which: &[usize],
    stored: Range<usize>,
    invocation: impl Fn() -> Invocation<'s>,
) -> (Running<'s>, Vec<Pid>) {
    let stored = stored.start.try_into().unwrap()..stored.end.try_into().unwrap();
    for _ in 0..2000 {
        let running = invocation().start();
        let chosen = |peers: &[Pid]| which.iter().map(|&peer| peers[peer]).collect::<Vec<_>>();
        let has_begun = |&peer: &Pid| {
            stored.start == 0 || bytes_stored(running.sandbox(), peer) >= stored.start
        };
        let have_begun = |peers: &[Pid]| chosen(peers).iter().all(has_begun);
        let peers = await_peers(&running, peers, have_begun);
        let chosen = peers.as_deref().map(chosen).unwrap_or_default();
        let is_midway = |&peer: &Pid| stored.contains(&bytes_stored(running.sandbox(), peer));
        let stopped = stop(&chosen);
        if let Some(peers) = peers.filter(|_| stopped.len() == which.len())
            && stopped.iter().all(is_midway)
        {
            return (running, peers);
        }
        stopped.into_iter().for_each(resume);
        let _ = running.finish();
    }
    panic!("the peers could not be stopped midway");
}

/// Waits until all peers have been forked and this holds of them; `None` if the run ends before.
pub(crate) fn await_peers(
    running: &Running<'_>,
    peers: usize,
    holds: impl Fn(&[Pid]) -> bool,
) -> Option<Vec<Pid>> {
    loop {
        let children = running.children();
        // One child alone may be what guards the semaphore's name.
        if children.len() == peers && holds(&children) {
            return Some(children);
        }
        if matches!(state_of(running.pid()), None | Some('Z')) {
            return None;
        }
        std::thread::yield_now();
    }
}

/// Stops these processes; gives those that have not ended.
pub(crate) fn stop(processes: &[Pid]) -> Vec<Pid> {
    let told = processes.iter().filter(|&&pid| kill_process(pid, Signal::STOP).is_ok());
    let told: Vec<_> = told.copied().collect();
    told.into_iter().filter(|&pid| is_stopped(pid)).collect()
}

/// Waits until these files, all in `directory`, are there, while the run goes on.
pub(crate) fn await_files(running: &Running<'_>, directory: &Path, files: &[PathBuf]) {
    let watch = inotify::init(CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&watch, directory, WatchFlags::CREATE | WatchFlags::MOVED_TO).unwrap();
    let pidfd = rustix::process::pidfd_open(running.pid(), PidfdFlags::empty()).unwrap();
    while !files.iter().all(|file| file.exists()) {
        let mut fds = [PollFd::new(&watch, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
        await_any(&mut fds, "a file of a run that stands still");
        assert!(fds[1].revents().is_empty(), "it ended before {files:?} were there");
        // What has happened does not matter, but it must not be reported again.
        rustix::io::read(&watch, &mut [0; 4096]).unwrap();
    }
}

/// Waits until the server has gone to sleep again and again without having read anything of its
/// source: as often as takes it longer than a peer may hold the others up.
pub(crate) fn await_standstill(running: &Running<'_>) {
    const SLEEPS: u64 = 10;
    let server = running.pid();
    let (mut read, mut since) = (bytes_read_by(server), sleeps_of(server));
    while sleeps_of(server) < since + SLEEPS {
        assert_ne!(state_of(server), Some('Z'), "it ended too early");
        let now = bytes_read_by(server);
        if now != read {
            (read, since) = (now, sleeps_of(server));
        }
        std::thread::yield_now();
    }
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

/// How far a peer has written its file, by the position of that, as of all files that it has open in
/// the sandbox only this one's moves: a peer that gave its offsets with each call would seem to have
/// nothing. So does one that has ended.
pub(crate) fn bytes_stored(sandbox: &Sandbox, peer: Pid) -> u64 {
    let process = format!("/proc/{}", peer.as_raw_pid());
    let descriptors = fs::read_dir(format!("{process}/fd")).into_iter().flatten().flatten();
    let files = descriptors.filter(|descriptor| {
        fs::read_link(descriptor.path()).is_ok_and(|target| target.starts_with(sandbox.root()))
    });
    let position = |descriptor: fs::DirEntry| {
        let info = Path::new(&process).join("fdinfo").join(descriptor.file_name());
        let info = fs::read_to_string(info).ok()?;
        info.lines().find_map(|line| line.strip_prefix("pos:")?.trim().parse().ok())
    };
    files.filter_map(position).max().unwrap_or(0)
}
