//! Where received files go: one directory for all peers, or one for each.

use std::path::PathBuf;
use std::str::FromStr;

use crate::{DirectoryTemplate, Error, PeerCount, PeerId, TemplateError};

/// The directories of a run's peers.
///
/// ```
/// use ipc_core::{Directories, PeerId};
///
/// let one: Directories = "/mnt/disk{peer}".parse()?;
/// let each = Directories::Each(vec!["/ssd".parse()?, "/mnt/usb".parse()?]);
/// assert_eq!(one.render(PeerId(1)).as_os_str(), "/mnt/disk1");
/// assert_eq!(each.render(PeerId(1)).as_os_str(), "/mnt/usb");
/// # Ok::<(), ipc_core::TemplateError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directories {
    /// The same for all peers, but for the number of the peer that may stand in it.
    All(DirectoryTemplate),
    /// One for each peer, in the order of their numbers.
    Each(Vec<DirectoryTemplate>),
}

impl Directories {
    /// The directory of one peer.
    #[must_use]
    pub fn render(&self, peer: PeerId) -> PathBuf {
        match self {
            Self::All(template) => template.render(peer),
            // `Job::check` refuses a list that is too short.
            Self::Each(each) => {
                each.get(peer.index()).map_or_else(PathBuf::new, |it| it.render(peer))
            }
        }
    }

    /// Whether every peer has a directory of its own, though two of them may be the same.
    #[must_use]
    pub fn are_own(&self) -> bool {
        match self {
            Self::All(template) => template.tells_peers_apart(),
            Self::Each(_) => true,
        }
    }

    /// Checks that there is one for each of so many peers.
    pub(crate) fn check_count(&self, peers: PeerCount) -> Result<(), Error> {
        match self {
            Self::Each(each) if each.len() != PeerId(peers.get()).index() => {
                Err(Error::DirectoryCount { directories: each.len(), peers })
            }
            _ => Ok(()),
        }
    }
}

/// One is for all peers, more are for one peer each.
impl From<Vec<DirectoryTemplate>> for Directories {
    fn from(mut each: Vec<DirectoryTemplate>) -> Self {
        match (each.pop(), each.is_empty()) {
            (Some(only), true) => Self::All(only),
            (last, _) => {
                each.extend(last);
                Self::Each(each)
            }
        }
    }
}

/// The path as it is, braces and all.
impl From<PathBuf> for Directories {
    fn from(path: PathBuf) -> Self {
        Self::All(path.into())
    }
}

impl FromStr for Directories {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        text.parse().map(Self::All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_for_all_and_more_are_for_one_each() {
        let directories = |texts: &[&str]| {
            Directories::from(texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
        };
        let path = |directories: &Directories, peer| directories.render(PeerId(peer));
        let one = directories(&["a"]);
        assert_eq!((path(&one, 0), path(&one, 2)), ("a".into(), "a".into()));
        assert!(!one.are_own() && directories(&["{peer}"]).are_own());
        let each = directories(&["a", "b{peer}"]);
        assert_eq!((path(&each, 0), path(&each, 1)), ("a".into(), "b1".into()));
        assert!(each.are_own());
        for (peers, fits) in [(1, false), (2, true), (3, false)] {
            let peers = PeerCount::new(peers).unwrap();
            assert_eq!(each.check_count(peers).is_ok(), fits);
            assert!(one.check_count(peers).is_ok());
        }
        assert!(directories(&[]).check_count(PeerCount::new(1).unwrap()).is_err());
    }
}
