//! A network that no other process has, and the names of sockets in it.
#![allow(
    unsafe_code,
    reason = "a thread's namespaces are changed by a call that rustix calls unsafe"
)]

use std::fs;

use anyhow::{Context, Result};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Takes the calling thread, and what it starts from now on, to a network of its own.
pub(crate) fn enter_new() -> Result<()> {
    // SAFETY: No table of descriptors is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
        .context("cannot make a network namespace: run it as root, or by unshare --map-root-user")
}

/// The abstract names of sockets in the calling thread's network.
pub(crate) fn abstract_names() -> Result<Vec<String>> {
    let table = fs::read_to_string("/proc/thread-self/net/unix").context("cannot list sockets")?;
    Ok(table.split_whitespace().filter(|word| word.starts_with('@')).map(Into::into).collect())
}
