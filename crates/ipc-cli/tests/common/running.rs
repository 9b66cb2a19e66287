//! A program that was started: what a test may do to it, and how its end is waited for.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::Sandbox;
use super::leftovers::{
    Entry, Snapshot, await_any, await_clean_up, await_end, children_of, orphaned_shared_memory,
    reap_session_of, session_of, shared_memory_names, snapshot,
};
use super::run::Run;

/// A program that was started.
#[derive(Debug)]
pub(crate) struct Running<'s> {
    sandbox: &'s Sandbox,
    child: Child,
    stdout: File,
    stderr: File,
    /// Whether the checks get standard output.
    is_heard: bool,
    command: String,
    files: Snapshot,
    shared_memory: BTreeSet<OsString>,
}

impl<'s> Running<'s> {
    pub(super) fn start(
        sandbox: &'s Sandbox,
        mut command: Command,
        out: Option<Stdio>,
        err: Option<Stdio>,
    ) -> Self {
        // Files, unlike pipes, do not have to be read while the program runs.
        let (stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let is_heard = out.is_none();
        command.stdout(out.unwrap_or_else(|| stdout.try_clone().unwrap().into()));
        command.stderr(err.unwrap_or_else(|| stderr.try_clone().unwrap().into()));
        let (files, shared_memory) = (snapshot(sandbox.root()), shared_memory_names());
        let (child, command) = (command.spawn().unwrap(), format!("{command:?}"));
        Self { sandbox, child, stdout, stderr, is_heard, command, files, shared_memory }
    }

    pub(crate) fn sandbox(&self) -> &'s Sandbox {
        self.sandbox
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The program's children, oldest first.
    pub(crate) fn children(&self) -> Vec<Pid> {
        children_of(self.pid())
    }

    /// Gives the program a standard input that was asked for as a pipe, and ends it.
    pub(crate) fn feed_stdin(mut self, bytes: &[u8]) -> Self {
        self.child.stdin.take().unwrap().write_all(bytes).unwrap();
        self
    }

    /// Gives the checks what the program has said on a standard error that they were not given.
    pub(crate) fn hear(mut self, said: &[u8]) -> Self {
        self.stderr.write_all(said).unwrap();
        self
    }

    /// Lets what the test itself has just changed count as having been there before.
    pub(crate) fn accept_changes(&mut self) {
        self.files = snapshot(self.sandbox.root());
    }

    /// As [`Running::accept_changes`], but of one file only.
    pub(crate) fn accept_change_of(&mut self, path: &Path) {
        self.files.insert(path.to_owned(), Entry::of(&path.symlink_metadata().unwrap()));
    }

    /// Waits until it has said this on standard error, while it goes on.
    pub(crate) fn await_said(&self, text: &str) {
        self.await_said_that(text, |said| said.contains(text));
    }

    /// Waits until this holds of what it has said on standard error, while it goes on.
    pub(crate) fn await_said_that(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let path = format!("/proc/self/fd/{}", self.stderr.as_raw_fd());
        let watch = inotify::init(CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&watch, path, WatchFlags::MODIFY).unwrap();
        let pidfd = rustix::process::pidfd_open(self.pid(), PidfdFlags::empty()).unwrap();
        loop {
            // The position is the program's too, and must not move.
            let mut said = vec![0; 1 << 16];
            let length = self.stderr.read_at(&mut said, 0).unwrap();
            let said = String::from_utf8_lossy(&said[..length]).into_owned();
            if holds(&said) {
                return;
            }
            let mut fds = [PollFd::new(&watch, PollFlags::IN), PollFd::new(&pidfd, PollFlags::IN)];
            await_any(&mut fds, "a word of the program");
            assert!(fds[1].revents().is_empty(), "it ended without {what:?}: {said}");
            rustix::io::read(&watch, &mut [0; 4096]).unwrap();
        }
    }

    /// Waits for the end, which leaves no process.
    pub(crate) fn finish(mut self) -> Run<'s> {
        let status = self.wait();
        assert_eq!(session_of(self.pid()), [], "left by {}", self.command);
        self.ended(status)
    }

    /// Waits for the end of the program while a file system of the sandbox hangs. Only then that answers, and
    /// the processes end that were left to it.
    pub(crate) fn finish_abandoning(mut self) -> Run<'s> {
        let status = self.wait();
        self.sandbox.calm_file_systems();
        reap_session_of(self.pid());
        assert_eq!(session_of(self.pid()), [], "left by {}", self.command);
        self.ended(status)
    }

    /// Sends the program a signal and waits until it has died of it, and everybody else with it.
    pub(crate) fn die_of(mut self, signal: Signal, send: impl FnOnce(Pid, Signal)) -> Run<'s> {
        send(self.pid(), signal);
        let status = self.wait();
        assert_eq!(status.signal(), Some(signal.as_raw()), "{}", self.command);
        reap_session_of(self.pid());
        assert_eq!(session_of(self.pid()), [], "left by {}", self.command);
        self.ended(status)
    }

    fn wait(&mut self) -> ExitStatus {
        await_end(self.pid());
        self.child.wait().unwrap()
    }

    fn ended(&mut self, status: ExitStatus) -> Run<'s> {
        await_clean_up(self.sandbox.program_path(), &self.sandbox.path("."));
        let orphans = orphaned_shared_memory(&self.shared_memory);
        assert_eq!(orphans, [] as [PathBuf; 0], "left by {}", self.command);
        let read = |file: &mut File| {
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        };
        let (stdout, stderr) = (read(&mut self.stdout), read(&mut self.stderr));
        let output = Output { status, stdout, stderr };
        let (before, after) = (std::mem::take(&mut self.files), snapshot(self.sandbox.root()));
        Run::new(self.sandbox, &self.command, output, before, after, self.is_heard)
    }
}

/// A test that fails leaves nobody behind either.
impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // One that waits for a file system would never end.
            self.sandbox.calm_file_systems();
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        for pid in session_of(self.pid()) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}
