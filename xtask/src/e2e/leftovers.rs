//! What no run may leave behind, whatever became of it: processes, and names in shared memory.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};

const SHARED_MEMORY: &str = "/dev/shm";

/// From now on, a process that loses its parent becomes a child of this one: no process of a run
/// can get out of sight.
pub(crate) fn adopt_orphans() -> Result<()> {
    rustix::process::set_child_subreaper(Some(getpid())).context("cannot adopt orphans")
}

/// Process ids of a process's children, the oldest first.
pub(crate) fn children(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.split_whitespace()
        .map(|pid| pid.parse().with_context(|| format!("cannot understand {path}")))
        .collect()
}

/// Checks that no process is left, be it a zombie.
pub(crate) fn check_no_process() -> Result<()> {
    match waitpid(None, WaitOptions::NOHANG) {
        Err(Errno::CHILD) => Ok(()),
        Ok(Some((pid, status))) => anyhow::bail!("process {pid} was left unreaped: {status:?}"),
        Ok(None) => {
            anyhow::bail!("processes were left running: {:?}", children(std::process::id())?)
        }
        Err(errno) => Err(errno).context("cannot look for processes"),
    }
}

/// Waits until the last orphan has ended.
pub(crate) fn await_orphans() -> Result<()> {
    loop {
        match waitpid(None, WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(()),
            Err(errno) => return Err(errno).context("cannot wait for orphans"),
        }
    }
}

/// Kills all children, and theirs, which then are orphans.
pub(crate) fn end_processes() -> Result<()> {
    loop {
        let children = children(std::process::id())?;
        if children.is_empty() {
            return Ok(());
        }
        for pid in children {
            kill(pid)?;
            await_process(pid)?;
        }
    }
}

/// Kills a process that has not been waited for.
pub(crate) fn kill(pid: u32) -> Result<()> {
    kill_process(id(pid)?, Signal::KILL).with_context(|| format!("cannot kill process {pid}"))
}

fn await_process(pid: u32) -> Result<()> {
    waitpid(Some(id(pid)?), WaitOptions::empty())
        .map(drop)
        .with_context(|| format!("cannot wait for process {pid}"))
}

fn id(pid: u32) -> Result<Pid> {
    Pid::from_raw(pid.cast_signed()).context("no process has the id 0")
}

/// All names of shared memory objects and semaphores.
pub(crate) fn shared_memory() -> Result<BTreeSet<OsString>> {
    let names = fs::read_dir(SHARED_MEMORY)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name())).collect());
    names.with_context(|| format!("cannot list {SHARED_MEMORY}"))
}

/// Checks that no name has come to those from before and stays.
///
/// Names that somebody has open are not the run's, whose processes have ended: another run, beside
/// this one, is about to remove them.
pub(crate) fn check_shared_memory(before: &BTreeSet<OsString>) -> Result<()> {
    for name in shared_memory()?.difference(before) {
        let path = Path::new(SHARED_MEMORY).join(name);
        ensure!(is_open_or_gone(&path)?, "{path:?} was left behind");
    }
    Ok(())
}

fn is_open_or_gone(path: &Path) -> Result<bool> {
    let Ok(file) = fs::metadata(path) else { return Ok(true) };
    for process in fs::read_dir("/proc")? {
        // A process may end meanwhile, and others' descriptors are not for everybody to see.
        let Ok(descriptors) = fs::read_dir(process?.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let Ok(open) = fs::metadata(descriptor.path()) else { continue };
            if (open.dev(), open.ino()) == (file.dev(), file.ino()) {
                return Ok(true);
            }
        }
    }
    Ok(!path.exists())
}
