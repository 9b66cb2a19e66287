//! The processes of one run: they are in a session of their own, whatever becomes their parent. Only those
//! that clean up stand apart, in sessions of theirs, and are known by the directory that they work in.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipc_core::io::timespec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, Signal, WaitOptions, getsid, kill_process, pidfd_open, waitpid};

use crate::processes::{children, id};

/// How long a pause is between two looks at something that does not announce itself.
pub(crate) const PAUSE: Duration = Duration::from_micros(500);

/// The session that a process began.
#[derive(Debug)]
pub(crate) struct Session {
    leader: u32,
    pidfd: OwnedFd,
    directory: PathBuf,
}

/// The leaders of all sessions of this process's children.
static LEADERS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn leaders() -> MutexGuard<'static, BTreeSet<u32>> {
    LEADERS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// The session of `leader`, a child that has not been waited for. It works in `directory`, and no other run
    /// does.
    pub(crate) fn of(leader: u32, directory: &Path) -> Result<Self> {
        let pidfd =
            pidfd_open(id(leader)?, PidfdFlags::empty()).context("cannot watch a process")?;
        leaders().insert(leader);
        Ok(Self { leader, pidfd, directory: directory.canonicalize()? })
    }

    /// Waits until the leader has ended; says whether it has, before the deadline.
    pub(crate) fn await_leader(&self, deadline: Instant) -> Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        Ok(poll(&mut fds, Some(&timespec(left))).context("cannot wait for a process")? > 0)
    }

    /// Its processes whose parent has died. Those that have ended too are reaped.
    pub(crate) fn orphans(&self) -> Result<Vec<Orphan>> {
        let mut orphans = Vec::new();
        let own = getsid(None).context("this process is in no session")?;
        for pid in children(std::process::id())? {
            let process = id(pid)?;
            let Ok(session) = getsid(Some(process)) else { continue };
            let leader = session.as_raw_pid().cast_unsigned();
            let is_apart = session != own && !leaders().contains(&leader) && leader != pid;
            // One that has ended works nowhere any more, and may be any run's.
            let is_anothers = || {
                fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|path| path != self.directory)
            };
            if !(leader == self.leader || (is_apart && !is_anothers())) {
                continue;
            }
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let ended = waitpid(Some(process), WaitOptions::NOHANG);
            orphans.push(Orphan {
                pid,
                is_apart,
                is_tracer: name.trim_end() == "strace",
                has_ended: !matches!(ended, Ok(None)),
            });
        }
        Ok(orphans)
    }

    /// Waits until no orphan is left that `counts`; gives those that are at the deadline.
    pub(crate) fn await_orphans(
        &self,
        deadline: Instant,
        counts: impl Fn(&Orphan) -> bool,
    ) -> Result<Vec<Orphan>> {
        loop {
            let mut left = self.orphans()?;
            left.retain(|orphan| !orphan.has_ended && counts(orphan));
            if left.is_empty() || Instant::now() >= deadline {
                return Ok(left);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Kills its leader, unless it has been waited for.
    pub(crate) fn kill_leader(&self) -> Result<()> {
        kill_process(id(self.leader)?, Signal::KILL).context("cannot kill a program")
    }

    /// Kills all orphans.
    pub(crate) fn kill_orphans(&self) -> Result<()> {
        loop {
            let mut orphans = self.orphans()?;
            orphans.retain(|orphan| !orphan.has_ended);
            for orphan in &orphans {
                let _ = kill_process(id(orphan.pid)?, Signal::KILL);
            }
            if orphans.is_empty() {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        leaders().remove(&self.leader);
    }
}

/// A process of a session that has become this process's child.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) pid: u32,
    /// Whether it was never anybody's to wait for.
    pub(crate) is_apart: bool,
    pub(crate) is_tracer: bool,
    pub(crate) has_ended: bool,
}
