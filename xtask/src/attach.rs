//! A process that is traced from its birth, and no other beside it.
//!
//! A first strace follows forks and does nothing but stop every new process at its first call. It leaves,
//! and a second one is attached to the process that is meant before that may go on.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, kill_process};

use crate::processes::{self, children};
use crate::session::{PAUSE, Session};
use crate::trace;

/// What every process does first; nothing can go wrong with it.
const BIRTH: &str = "set_robust_list";

/// How the first strace is started, with a log of its own.
pub(crate) fn at_birth(births: &Path) -> Vec<String> {
    let mut options = trace::options(births, Some(BIRTH), &[&format!("{BIRTH}:signal=STOP")]);
    // When its log is a file, strace would not let itself be told to leave.
    options.extend(["-f".to_owned(), "-I2".to_owned()]);
    options
}

/// Which of a run's processes is meant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Birth {
    /// How many processes are born before it, the server not counted.
    pub(crate) before: usize,
    /// Whether it is no child of the server's. Then it is the only one that is born next.
    pub(crate) is_apart: bool,
}

/// Lets a process go on under a strace with these options; nothing if the run ends before it is born.
pub(crate) fn to_child(
    births: &Path,
    birth: Birth,
    options: &[String],
    server: u32,
    session: &Session,
    deadline: Instant,
) -> Result<Option<Child>> {
    let mut resumed = 0;
    let target = loop {
        // The server itself is the first; those before the one that is meant are forked one at a time.
        let stopped = trace::stopped(&fs::read_to_string(births)?);
        for &pid in stopped.iter().take(birth.before + 1).skip(resumed) {
            resume(pid)?;
        }
        resumed = stopped.len().min(birth.before + 1);
        let (passed, others) = stopped.split_at(resumed);
        let mut children = children(server)?.into_iter().filter(|pid| !passed.contains(pid));
        let target = match birth.is_apart {
            true => others.first().copied(),
            false => children.next().filter(|pid| others.contains(pid)),
        };
        if let Some(target) = target {
            break target;
        }
        if session.await_leader(Instant::now())? {
            return Ok(None);
        }
        if Instant::now() > deadline {
            bail!("there is no {birth:?}");
        }
        thread::sleep(PAUSE);
    };
    dismiss_tracer(target)?;
    session.await_orphans(deadline, |orphan| orphan.is_tracer)?;
    for other in children(server)?.into_iter().filter(|&pid| pid != target) {
        resume(other)?;
    }
    let tracer = Command::new("strace")
        .args(options)
        .args(["-p", &target.to_string()])
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start strace")?;
    while tracer_of(target)?.is_none() {
        if Instant::now() > deadline {
            bail!("strace does not come");
        }
        thread::sleep(PAUSE);
    }
    resume(target)?;
    Ok(Some(tracer))
}

/// Tells the strace of a process to leave, which it must have been started for by `-I2` if it has a log. Who
/// is stopped stays so.
pub(crate) fn dismiss_tracer(pid: u32) -> Result<()> {
    let tracer = tracer_of(pid)?.context("strace has left too early")?;
    kill_process(processes::id(tracer)?, Signal::TERM).context("cannot dismiss strace")
}

fn resume(pid: u32) -> Result<()> {
    // One that has been killed meanwhile needs it no more.
    let _ = kill_process(processes::id(pid)?, Signal::CONT);
    Ok(())
}

/// Who traces a process.
pub(crate) fn tracer_of(pid: u32) -> Result<Option<u32>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    Ok(tracer.and_then(|tracer| tracer.trim().parse().ok()).filter(|&tracer| tracer != 0))
}
