//! The processes that this one has started, and those that they have.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// Process ids of a process's children, the oldest first.
pub(crate) fn children(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let list = || fs::read_to_string(&path).with_context(|| format!("cannot read {path}"));
    // The kernel puts the list together piece by piece: one that changes meanwhile may have children
    // that never were there together, and lack others.
    let mut text = list()?;
    loop {
        let again = list()?;
        if again == text {
            break;
        }
        text = again;
    }
    text.split_whitespace()
        .map(|pid| pid.parse().with_context(|| format!("cannot understand {path}")))
        .collect()
}

/// Kills all children, and theirs if they become this process's own.
pub(crate) fn end_all() -> Result<()> {
    loop {
        let children = children(std::process::id())?;
        if children.is_empty() {
            return Ok(());
        }
        for pid in children {
            kill(pid)?;
            wait(pid)?;
        }
    }
}

/// Kills a process that has not been waited for.
pub(crate) fn kill(pid: u32) -> Result<()> {
    kill_process(id(pid)?, Signal::KILL).with_context(|| format!("cannot kill process {pid}"))
}

/// Waits for a child to end.
pub(crate) fn wait(pid: u32) -> Result<()> {
    waitpid(Some(id(pid)?), WaitOptions::empty())
        .map(drop)
        .with_context(|| format!("cannot wait for process {pid}"))
}

/// A process id as the system calls take it.
pub(crate) fn id(pid: u32) -> Result<Pid> {
    Pid::from_raw(pid.cast_signed()).context("no process has the id 0")
}
