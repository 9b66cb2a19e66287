//! A process that removes what a run may leave behind.
//!
//! It is forked before there is anything to remove, outlives the server, and waits on a socket. When the
//! server asks for it, or when the server and all others that hold the socket's other end have ended, it removes
//! what it knows. So one process cleans up after failures and after a killed server, and the server need
//! not wait for a file system that no longer answers.
#![allow(unsafe_code, reason = "forks, and blocks signals by libc")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

use crate::io::{now, read, retry, wait_ready};
use crate::process::{Child, Lifeline, fork, fork_apart};
use crate::{Directory, Error, FileName};

/// A process that stands by to clean up.
///
/// Only `SIGKILL` ends it before its time.
/// Dropping this lets it clean up as soon as no other process has the descriptor ([`AsFd`]).
#[derive(Debug)]
#[must_use = "a guard that is dropped cleans up"]
pub struct Guard {
    /// Its closing without a word is the end of all that hold it.
    link: OwnedFd,
    pid: u32,
    /// It, where it is a child of the server's.
    child: Option<Child>,
}

/// How a clean-up ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleanUp {
    /// What could be removed has been removed.
    Done,
    /// The guard was killed before it had finished.
    Died,
    /// This process goes on with it.
    Unfinished(u32),
}

/// What a guard is to the process that starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A child.
    Child,
    /// A process in a session of its own, which is not found among the peers.
    Apart,
}

/// What the server says.
const CLEAN_UP: u8 = 0;
const DISMISSED: u8 = 1;

impl Guard {
    /// How long a clean-up is waited for. Only a file system that does not answer takes so long.
    pub const PATIENCE: Duration = Duration::from_millis(1500);

    /// Forks a guard of `name` in `directory`, and waits until it stands by.
    ///
    /// # Errors
    /// [`Error::NotSingleThreaded`], [`Error::System`]
    pub fn of_name(directory: &Directory, name: &FileName) -> Result<Self, Error> {
        // There is nobody to tell if it cannot be removed.
        let clean_up = |(), _| drop(directory.remove(name));
        let keep = [directory.as_fd()];
        // It is needed for a moment only, so it can be reaped.
        // SAFETY: The guard uses the directory, which it keeps.
        let started = unsafe { Self::start(Kind::Child, &keep, || ((), Vec::new()), clean_up) };
        started.map(|(guard, _)| guard)
    }

    /// Forks a guard that prepares itself, and calls `clean_up` when it is time to, with whether it was asked
    /// to. Returns it once it stands by, with what it has said by then.
    ///
    /// # Safety
    /// As for [`fork`]: neither uses a descriptor opened before the call but those in
    /// `keep`.
    ///
    /// # Errors
    /// [`Error::NotSingleThreaded`], [`Error::System`]
    pub(crate) unsafe fn start<T>(
        kind: Kind,
        keep: &[BorrowedFd<'_>],
        prepare: impl FnOnce() -> (T, Vec<u8>),
        clean_up: impl FnOnce(T, bool),
    ) -> Result<(Self, Vec<u8>), Error> {
        let failed = |error| Error::system("start a process that cleans up")(error);
        let (own, link) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| failed(errno.into()))?;
        let keep: Vec<_> = keep.iter().copied().chain([own.as_fd()]).collect();
        let live = || {
            stand_apart();
            let (held, said) = prepare();
            let started = Started { pid: std::process::id(), said };
            // A server that is gone cannot hear it, which the next call tells as well.
            let _ = say(&own, &started.encode());
            let mut order = [CLEAN_UP];
            let is_asked = read(&own, &mut order).is_ok_and(|bytes| bytes > 0);
            if order == [CLEAN_UP] {
                clean_up(held, is_asked);
                let _ = say(&own, &[CLEAN_UP]);
            }
            0
        };
        let child = match kind {
            // SAFETY: By this function's own condition; its end of the pair is kept.
            Kind::Apart => unsafe { fork_apart(&keep, live) }.map(|()| None)?,
            // SAFETY: As above.
            Kind::Child => unsafe { fork(Lifeline::Outlives, &keep, |_| live()) }.map(Some)?,
        };
        drop(own);
        match Started::read_from(&link) {
            Ok(Started { pid, said }) => Ok((Self { link, pid, child }, said)),
            Err(error) => Err(failed(error)),
        }
    }

    /// Ends it: there is nothing to remove.
    pub fn dismiss(self) {
        let _ = say(&self.link, &[DISMISSED]);
        if self.read_until(now().saturating_add(Self::PATIENCE)).is_some() {
            self.reap();
        }
    }

    /// Lets it clean up, and waits for that, but no longer than [`Guard::PATIENCE`].
    pub fn clean_up(self) -> CleanUp {
        let until = now().saturating_add(Self::PATIENCE);
        let _ = say(&self.link, &[CLEAN_UP]);
        match self.read_until(until) {
            None => CleanUp::Unfinished(self.pid),
            Some(0) => {
                self.reap();
                CleanUp::Died
            }
            Some(_) => {
                let _ = self.read_until(until);
                self.reap();
                CleanUp::Done
            }
        }
    }

    fn reap(self) {
        // Where something else reaps this process's children, that is as good.
        let _ = self.child.map(Child::wait);
    }

    /// Reads a byte, if there is one; 0 if the guard has ended, and `None` if neither happens in time.
    fn read_until(&self, until: Duration) -> Option<usize> {
        loop {
            let left = until.saturating_sub(now());
            if wait_ready(&self.link, PollFlags::IN, Some(left)).unwrap_or(true) {
                return Some(read(&self.link, &mut [0]).unwrap_or(0));
            }
            if left.is_zero() {
                return None;
            }
        }
    }
}

/// A process that holds this has not ended, and puts the clean-up off.
impl AsFd for Guard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

/// What a guard says first.
struct Started {
    pid: u32,
    said: Vec<u8>,
}

impl Started {
    fn encode(&self) -> Vec<u8> {
        let length = self.said.len() as u64;
        [&self.pid.to_le_bytes()[..], &length.to_le_bytes(), &self.said].concat()
    }

    fn read_from(link: &OwnedFd) -> io::Result<Self> {
        let pid = u32::from_le_bytes(read_array(link)?);
        let length = u64::from_le_bytes(read_array(link)?);
        let mut said = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::InvalidData)?];
        read_exact(link, &mut said)?;
        Ok(Self { pid, said })
    }
}

fn read_array<const N: usize>(link: &OwnedFd) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    read_exact(link, &mut bytes).map(|()| bytes)
}

fn read_exact(link: &OwnedFd, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        match read(link, buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => buffer = buffer.get_mut(bytes..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Sends all of `bytes`. That the other side is gone is an error and no signal.
fn say(link: &OwnedFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let flags = SendFlags::NOSIGNAL;
        let sent = retry(link, PollFlags::OUT, || rustix::net::send(link, bytes, flags))?;
        bytes = bytes.get(sent..).unwrap_or_default();
    }
    Ok(())
}

/// Makes the calling process one that nobody waits for, and that is not ended with others. Each of these
/// helps, and none is needed.
fn stand_apart() {
    // `pkill sharedmem` does not find it by this name, and `ps` tells what it is.
    let _ = rustix::thread::set_name(c"cleanup");
    block_signals();
}

/// Blocks all signals that can be blocked. One to the whole session or control group, which the server is
/// to die of, must leave a process that cleans up after it.
fn block_signals() {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: The pointer is to a set, which this call fills.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: The set is filled; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), std::ptr::null_mut()) };
}
