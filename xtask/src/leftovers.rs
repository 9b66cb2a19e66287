//! What no run may leave behind, whatever became of it: processes, and names in shared memory.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::process::{WaitOptions, getpid, wait};

use crate::processes;

const SHARED_MEMORY: &str = "/dev/shm";

/// From now on, a process that loses its parent becomes a child of this one: no process of a run
/// can get out of sight.
pub(crate) fn adopt_orphans() -> Result<()> {
    rustix::process::set_child_subreaper(Some(getpid())).context("cannot adopt orphans")
}

/// Checks that no process is left, be it a zombie. One that stands by to clean up is nobody's child, ends
/// after its server, and is waited for.
pub(crate) fn check_no_process() -> Result<()> {
    for pid in processes::children(std::process::id())? {
        if fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "cleanup\n") {
            processes::wait(pid)?;
        }
    }
    // Not `waitpid`, which without a process id is about this one's group, where peers are not.
    match wait(WaitOptions::NOHANG) {
        Err(Errno::CHILD) => Ok(()),
        Ok(Some((pid, status))) => anyhow::bail!("process {pid} was left unreaped: {status:?}"),
        Ok(None) => {
            anyhow::bail!(
                "processes were left running: {:?}",
                processes::children(std::process::id())?
            )
        }
        Err(errno) => Err(errno).context("cannot look for processes"),
    }
}

/// Waits until the last orphan has ended.
pub(crate) fn await_orphans() -> Result<()> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(()),
            Err(errno) => return Err(errno).context("cannot wait for orphans"),
        }
    }
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
