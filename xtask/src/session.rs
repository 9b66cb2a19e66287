//! The processes of one run: they are in a session of their own, whoever becomes their parent.

use std::fs;
use std::os::fd::OwnedFd;
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
}

impl Session {
    /// The session of `leader`, a child that has not been waited for.
    pub(crate) fn of(leader: u32) -> Result<Self> {
        let pidfd =
            pidfd_open(id(leader)?, PidfdFlags::empty()).context("cannot watch a process")?;
        Ok(Self { leader, pidfd })
    }

    /// Waits until the leader has ended; says whether it has, before the deadline.
    pub(crate) fn await_leader(&self, deadline: Instant) -> Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        Ok(poll(&mut fds, Some(&timespec(left))).context("cannot wait for a process")? > 0)
    }

    /// Its processes whose parent has died. Those that have ended too are reaped.
    pub(crate) fn orphans(&self) -> Result<Vec<Orphan>> {
        let leader = id(self.leader)?;
        let mut orphans = Vec::new();
        for pid in children(std::process::id())? {
            let process = id(pid)?;
            if getsid(Some(process)) != Ok(leader) {
                continue;
            }
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            let ended = waitpid(Some(process), WaitOptions::NOHANG);
            orphans.push(Orphan {
                pid,
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

/// A process of a session that has become this process's child.
#[derive(Debug)]
pub(crate) struct Orphan {
    pub(crate) pid: u32,
    pub(crate) is_tracer: bool,
    pub(crate) has_ended: bool,
}
