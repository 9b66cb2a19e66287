//! The paths that received files are expected to have, and those that a program says they have.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Stands in an expected path for the peer's process id.
pub(crate) const PID: &str = "\0";

/// `peers` paths as they are if nothing else is asked for.
pub(crate) fn default_paths(peers: usize, name: impl AsRef<OsStr>) -> Vec<Vec<u8>> {
    let prefix = format!("received-files/pid-{PID}_");
    vec![[prefix.as_bytes(), name.as_ref().as_bytes()].concat(); peers]
}

/// The paths of these peers by `--name {peer}`.
pub(crate) fn numbered(peers: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    paths_of(peers, |peer| format!("received-files/{peer}"))
}

/// The paths that `path` has for each peer.
pub(crate) fn paths_of<P: Into<Vec<u8>>>(
    peers: impl IntoIterator<Item = usize>,
    path: impl Fn(usize) -> P,
) -> Vec<Vec<u8>> {
    peers.into_iter().map(|peer| path(peer).into()).collect()
}

/// These paths, one a line.
pub(crate) fn lines_of(paths: &[Vec<u8>]) -> Vec<u8> {
    paths.iter().flat_map(|path| [path.as_slice(), b"\n"].concat()).collect()
}

/// The paths that `said` lists, which are those expected, with a process id for each [`PID`]. That
/// lines are not just split is for names that hold a newline.
pub(crate) fn parse_paths(said: &[u8], expected: &[Vec<u8>]) -> Vec<PathBuf> {
    let mut rest = said;
    let next = |path: &Vec<u8>| {
        let start = rest;
        for (number, text) in path.split(|&byte| byte == PID.as_bytes()[0]).enumerate() {
            if number > 0 {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                assert!(digits > 0, "no process id: {}", start.escape_ascii());
                rest = &rest[digits..];
            }
            rest = rest.strip_prefix(text).unwrap_or_else(|| {
                panic!("{} is not {}", start.escape_ascii(), path.escape_ascii())
            });
        }
        let length = start.len() - rest.len();
        rest = rest.strip_prefix(b"\n").expect("each path is a line");
        PathBuf::from(OsString::from_vec(start[..length].to_vec()))
    };
    let paths: Vec<_> = expected.iter().map(next).collect();
    assert_eq!(rest.escape_ascii().to_string(), "", "a path for each peer and no more");
    let distinct: BTreeSet<_> = paths.iter().collect();
    assert_eq!(distinct.len(), paths.len(), "each peer has a path of its own");
    paths
}
