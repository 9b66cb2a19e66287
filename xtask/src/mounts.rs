//! Mounts that no other process has.
#![allow(
    unsafe_code,
    reason = "a thread's namespaces are changed by a call that rustix calls unsafe"
)]

use std::path::Path;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Takes the calling thread, and what it starts from now on, to mounts of its own.
pub(crate) fn enter_new() -> Result<()> {
    // SAFETY: No table of descriptors is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
        .context("cannot make a mount namespace: run it as root, or by unshare --map-root-user")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .context("cannot make mounts private")
}

/// Mounts a fresh file system in memory.
pub(crate) fn mount_memory(path: &Path) -> Result<()> {
    mount("tmpfs", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)
        .with_context(|| format!("cannot mount a file system at {path:?}"))
}
