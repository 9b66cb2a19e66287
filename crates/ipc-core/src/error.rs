//! What can go wrong, with the operation, the thing it was done to, and the kernel's reason.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use crate::{Failure, NotCopyable, PeerCount, PeerId, sizes};

/// An error of this crate.
///
/// The kernel's reason is the [`source`](StdError::source) and not part of the text, so that each
/// stands once when [`describe`] joins them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call on something with a path failed.
    #[error("cannot {operation} {path:?}")]
    Path {
        /// What was being done, as a verb phrase: `open`, `write to a file in`.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A system call on something without a path failed.
    #[error("cannot {operation}")]
    System {
        /// What was being done, as a verb phrase: `fork a peer`.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel refuses another process.
    #[error("cannot fork more than {forked} of {peers} peers")]
    Fork {
        /// How many there were by then; they have been ended.
        forked: usize,
        /// How many there were to be.
        peers: PeerCount,
        /// Why it was refused.
        source: io::Error,
    },
    /// The source is of a kind that is not copied by name.
    #[error("cannot copy {path:?}: it is {kind}")]
    NotCopyable {
        /// The source.
        path: PathBuf,
        /// What it is.
        kind: NotCopyable,
    },
    /// The source's path ends in no file name (`/`, `..`).
    #[error("cannot copy {0:?}: it does not end in the name of a file")]
    NoFileName(PathBuf),
    /// The source is no longer what it was when it was opened.
    #[error("{0:?} changed while it was copied: copy it again once nobody writes to it")]
    SourceChanged(PathBuf),
    /// Two peers would get one path.
    #[error(
        "all peers would store in one place: let the name hold the peer's number or process id"
    )]
    SamePath,
    /// There are neither one directory nor one for each peer.
    #[error("there are {directories} directories for {peers} peers: give one, or one for each")]
    DirectoryCount {
        /// How many there are.
        directories: usize,
        /// Number of peers.
        peers: PeerCount,
    },
    /// Each peer has a directory of its own, and none of them can be used.
    #[error("no peer can store its copy: {}", reasons(.0))]
    NoPeerLeft(Vec<(PeerId, Failure)>),
    /// A received file would replace the source.
    #[error("{0:?} is the source itself: choose another directory or name")]
    IsSource(PathBuf),
    /// What has a received file's name is neither a regular file nor a symbolic link.
    #[error("{path:?} is {kind}, which is not replaced: choose another directory or name")]
    NotReplaced {
        /// What the received file would have replaced.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// A name is longer than a file system takes.
    #[error(
        "a received file's name would be {length} bytes long, {limit} are allowed: choose a shorter one"
    )]
    NameTooLong {
        /// Its length, in bytes.
        length: usize,
        /// The longest allowed, in bytes.
        limit: usize,
    },
    /// The server may not hold as many descriptors as the peers need.
    #[error(
        "{peers} peers need {needed} open files, the limit is {limit}: raise the hard limit (ulimit -Hn) or use fewer peers"
    )]
    DescriptorLimit {
        /// Number of peers asked for.
        peers: PeerCount,
        /// Descriptors that the server would hold.
        needed: u64,
        /// The soft limit, `RLIMIT_NOFILE`.
        limit: u64,
    },
    /// The copies surely do not fit.
    #[error(
        "{}: free some, use fewer peers or choose another directory",
        no_room(*peers, [*size, *needed, *available], path)
    )]
    NoRoom {
        /// Number of copies.
        peers: u32,
        /// Data of one, in bytes.
        size: u64,
        /// All of them, in bytes.
        needed: u64,
        /// What the file system still takes, in bytes.
        available: u64,
        /// The destination.
        path: PathBuf,
    },
    /// The calling process has more than one thread, so it may not fork peers.
    #[error("a process with {0} threads cannot fork peers: start the copy before other threads")]
    NotSingleThreaded(u64),
    /// A message or header of the other side does not follow the protocol.
    #[error("received an invalid {what}: {reason}")]
    Invalid {
        /// What was received: `header`, `control message`.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The calling process's children are in another PID namespace than itself.
    #[error(
        "peers would be in a PID namespace of their own: start the copy there (unshare --fork)"
    )]
    OtherNamespace,
    /// The server is gone, so nobody will say whether the copy is whole.
    #[error("the server ended before the copy was committed")]
    ServerGone,
}

fn reasons(refused: &[(PeerId, Failure)]) -> String {
    let reason = |(peer, why): &(PeerId, Failure)| format!("peer {peer}: {why}");
    refused.iter().map(reason).collect::<Vec<_>>().join("; ")
}

fn no_room(count: u32, amounts: [u64; 3], path: &Path) -> String {
    let [size, needed, available] = sizes(amounts);
    let copies = match count {
        1 => format!("1 copy of {size} needs"),
        _ => format!("{count} copies of {size} need"),
    };
    format!("{copies} {needed}, {path:?} has room for {available}")
}

impl Error {
    /// Wraps `source` as the reason why `operation` on `path` failed; made for `map_err`.
    pub fn at<E: Into<io::Error>>(
        operation: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Path { operation, path: path.into(), source: source.into() }
    }

    /// Wraps `source` as the reason why `operation` failed; made for `map_err`.
    pub fn system<E: Into<io::Error>>(operation: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { operation, source: source.into() }
    }
}

/// `error` and its sources on one line, joined by `: `, in the words that `strerror` has.
///
/// ```
/// let missing = std::io::Error::from_raw_os_error(2);
/// assert_eq!(ipc_core::describe(&missing), "No such file or directory");
/// ```
#[must_use]
pub fn describe(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for cause in chain(error) {
        if !text.is_empty() {
            text.push_str(": ");
        }
        let part = cause.to_string();
        let number = cause.downcast_ref().and_then(io::Error::raw_os_error);
        let suffix = number.map(|number| format!(" (os error {number})")).unwrap_or_default();
        text.push_str(part.strip_suffix(&suffix).unwrap_or(&part));
    }
    text
}

/// The kernel's error number behind `error`, if a system call caused it.
#[must_use]
pub fn errno(error: &(dyn StdError + 'static)) -> Option<i32> {
    chain(error).find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())
}

fn chain<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describe_names_the_operation_the_thing_and_the_reason_once() {
        let error = Error::at("open", "a\nb")(io::Error::from_raw_os_error(13));
        assert_eq!(describe(&error), r#"cannot open "a\nb": Permission denied"#);
        assert_eq!(errno(&error), Some(13));
    }

    #[test]
    fn an_error_without_a_system_call_has_no_number() {
        assert_eq!(errno(&Error::ServerGone), None);
    }
}
