//! What is to be copied to whom and where.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::unnamed::check_replaceable;
use crate::{Directories, Directory, Error, Existing, FileName, NameTemplate, PeerId, Source};

/// Number of peers, from 1 to [`PeerCount::MAX`].
///
/// ```
/// use ipc_core::PeerCount;
///
/// assert_eq!(PeerCount::new(5).map(PeerCount::get), Some(5));
/// assert_eq!(PeerCount::new(0), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCount(NonZeroU32);

impl PeerCount {
    /// The most peers that one run can have.
    pub const MAX: u32 = 10_000;

    /// `count` peers; `None` if it is out of range.
    #[must_use]
    pub fn new(count: u32) -> Option<Self> {
        NonZeroU32::new(count).filter(|count| count.get() <= Self::MAX).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// The peers' numbers, in order.
    pub fn ids(self) -> impl Iterator<Item = PeerId> {
        (0..self.get()).map(PeerId)
    }
}

impl fmt::Display for PeerCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One run: what is copied, to how many, and under which names.
#[derive(Debug)]
pub struct Job {
    /// The file being copied.
    pub source: Source,
    /// To how many peers.
    pub peers: PeerCount,
    /// Where the received files go. Missing directories are made.
    pub directories: Directories,
    /// What they are called there.
    pub name: NameTemplate,
    /// What happens where a final name exists already.
    pub existing: Existing,
    /// Whether files and their names are to be on the disk, not only in memory, when the run ends.
    pub sync: bool,
    /// Whether they get the source's permissions, whatever the umask, and its modification time.
    pub preserve: bool,
    /// How long a peer may do nothing while the run waits for it before it is killed, and has failed.
    pub timeout: Option<Duration>,
}

impl Job {
    /// The final name of a peer's copy of the file that is called `name` by its server.
    ///
    /// # Errors
    /// [`Error::NameTooLong`]
    pub fn final_name(&self, peer: PeerId, pid: u32, name: &FileName) -> Result<FileName, Error> {
        self.name.render(peer, pid, name)
    }

    /// The path that a peer's received file gets.
    ///
    /// # Errors
    /// [`Error::NameTooLong`]
    pub fn final_path(&self, peer: PeerId, pid: u32) -> Result<PathBuf, Error> {
        let name = self.final_name(peer, pid, self.source.header().name())?;
        Ok(self.directories.render(peer).join(name))
    }

    /// The peers whose received files would get the path of another's before them, each with that other.
    ///
    /// `{peer}{pid}` can do that if process ids begin anew in mid-run: peer 1 in process 2345 and peer 12
    /// in process 345.
    ///
    /// # Errors
    /// [`Error::NameTooLong`]
    pub(crate) fn same_paths(
        &self,
        pids: impl Iterator<Item = (PeerId, u32)>,
    ) -> Result<Vec<(PeerId, PeerId)>, Error> {
        let mut taken = BTreeMap::new();
        let mut same = Vec::new();
        for (peer, pid) in pids {
            match taken.entry(self.final_path(peer, pid)?) {
                Entry::Occupied(other) => same.push((peer, *other.get())),
                Entry::Vacant(free) => {
                    free.insert(peer);
                }
            }
        }
        Ok(same)
    }

    /// The directories of all peers, each with those that store there.
    pub(crate) fn places(&self) -> impl Iterator<Item = (PathBuf, Range<u32>)> {
        let peers = self.peers.get();
        let each = if self.directories.are_own() { 1 } else { peers };
        let starts = (0..peers).step_by(PeerId(each).index());
        starts.map(move |start| (self.directories.render(PeerId(start)), start..start + each))
    }

    /// Checks that a file may get `name`, as far as a look tells: that this would replace neither the source
    /// nor what no file replaces.
    pub(crate) fn check_name(&self, directory: &Directory, name: &FileName) -> Result<(), Error> {
        self.check_is_not_source(directory, name)?;
        match self.existing {
            Existing::Replace => check_replaceable(directory, name),
            Existing::Keep => Ok(()),
        }
    }

    /// Checks that `name` is not the source itself, which a commit would replace.
    pub(crate) fn check_is_not_source(
        &self,
        directory: &Directory,
        name: &FileName,
    ) -> Result<(), Error> {
        match directory.examine(name)? {
            Some(stat) if self.source.is(&stat) => {
                Err(Error::IsSource(directory.path().join(name)))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of some processes would have the same path in a run of this `name`.
    fn same_paths(name: &str, pids: &[(u32, u32)]) -> Vec<(PeerId, PeerId)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let job = Job {
            source: Source::open(file.path()).unwrap(),
            peers: PeerCount::new(20).unwrap(),
            directories: PathBuf::from("received").into(),
            name: name.parse().unwrap(),
            existing: Existing::Replace,
            sync: false,
            preserve: false,
            timeout: None,
        };
        job.same_paths(pids.iter().map(|&(peer, pid)| (PeerId(peer), pid))).unwrap()
    }

    #[test]
    fn two_numbers_side_by_side_can_be_two_others() {
        let pids = [(0, 2344), (1, 2345), (2, 300), (12, 345)];
        assert_eq!(same_paths("{peer}{pid}", &pids), [(PeerId(12), PeerId(1))]);
        assert_eq!(same_paths("{peer}-{pid}", &pids), []);
        assert_eq!(same_paths("{pid}", &pids), []);
    }
}
