//! One measured run: from the start of the first process to the end of the last.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde::Serialize;
use wait4::{ResUse, Wait4};

/// What one run took.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Run {
    pub(crate) seconds: f64,
    /// User and system time of all processes.
    pub(crate) cpu_seconds: f64,
    /// Peak resident memory of whichever process had most.
    ///
    /// The kernel also counts what a process had before it became the program, and that is this
    /// one's own memory: where it is not more, nothing but that is known of it.
    pub(crate) peak_bytes: u64,
}

impl Run {
    /// A run that took so long, of processes that have all been waited for and have all succeeded.
    pub(crate) fn of(elapsed: Duration, ended: &[ResUse]) -> Result<Self> {
        for usage in ended {
            ensure!(usage.status.success(), "{}", usage.status);
        }
        let times = ended.iter().map(|usage| usage.rusage.utime + usage.rusage.stime);
        let peaks = ended.iter().map(|usage| usage.rusage.maxrss);
        Ok(Self {
            seconds: elapsed.as_secs_f64(),
            cpu_seconds: times.sum::<Duration>().as_secs_f64(),
            peak_bytes: peaks.max().unwrap_or(0),
        })
    }
}

/// Runs all commands, as many at once as it may, and measures.
///
/// A command has descriptors of its own, and a thousand of them would be more than a process may
/// have: they come one by one.
pub(crate) fn measure(
    commands: impl IntoIterator<Item = Result<Command>>,
    at_once: usize,
) -> Result<Run> {
    let (mut running, mut ended) = (Vec::new(), Vec::new());
    let start = Instant::now();
    for command in commands {
        let mut command = command?;
        while running.len() >= at_once {
            ended.extend(reap(&mut running)?);
        }
        running.push(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
    }
    ended.extend(wait(running)?);
    Run::of(start.elapsed(), &ended)
}

/// Waits until all have ended.
pub(crate) fn wait(running: Vec<Child>) -> Result<Vec<ResUse>> {
    let ended: Result<_, _> = running.into_iter().map(Wait4::wait4).collect();
    ended.context("cannot wait for a process")
}

/// Waits until one has ended, or several, and takes them out.
fn reap(running: &mut Vec<Child>) -> Result<Vec<ResUse>> {
    let mut ended = Vec::new();
    waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    running.retain_mut(|child| match child.try_wait4().transpose() {
        None => true,
        Some(result) => {
            ended.push(result);
            false
        }
    });
    ended.into_iter().collect::<Result<_, _>>().context("cannot wait for a process")
}
