//! Networks that no other process has, and the names of sockets in one.
#![allow(
    unsafe_code,
    reason = "a thread's namespaces are changed by a call that rustix calls unsafe"
)]

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;

use anyhow::{Context, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// A network for those who are called into it.
///
/// It has no name that could be left behind: it is gone with this value and the last process in it.
#[derive(Debug)]
pub(crate) struct Network {
    namespace: File,
}

impl Network {
    /// An empty network.
    pub(crate) fn new() -> Result<Self> {
        on_a_thread(|| {
            enter_new()?;
            let namespace = File::open("/proc/thread-self/ns/net");
            Ok(Self { namespace: namespace.context("cannot open a network namespace")? })
        })
    }

    /// Calls `function` in it, and so puts what this starts there.
    pub(crate) fn call<T: Send>(&self, function: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_a_thread(|| {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.namespace.as_fd(), kind)
                .context("cannot enter a network namespace")?;
            function()
        })
    }

    /// What `ip` can call it, as long as this value lives.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd())
    }
}

/// A thread that ends takes its namespaces with it, so nobody has to find the way back.
fn on_a_thread<T: Send>(function: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(function).join())
        .unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
}

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
