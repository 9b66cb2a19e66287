//! What is to be copied to whom and where, and the checks that come before anything is created.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::os::fd::AsRawFd;
use std::path::{Component, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use crate::process::{check_namespace, descriptor_limit};
use crate::unnamed::check_replaceable;
use crate::{
    Directory, DirectoryTemplate, Error, Existing, FileName, NameTemplate, PeerId, Source,
    Transport,
};

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
    pub directory: DirectoryTemplate,
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

/// Descriptors that a run needs beside those for each peer: the directory, the endpoint and what
/// makes it, the peers' epoll instance and a transport's own, a new peer's end of its channel.
const SHARED_DESCRIPTORS: u64 = 6;

/// The greatest process id there can be.
const GREATEST_PID: u32 = 1 << 22;

impl Job {
    /// Checks everything about the job that can be known before anything is created: that names
    /// fit, that the descriptor limit suffices for transport `T`, that the directory can be written
    /// to and has room, that no received file would replace the source, and that no two peers would
    /// store in one place.
    ///
    /// # Errors
    /// The first reason why the job cannot succeed.
    pub fn check<T: Transport>(&self) -> Result<(), Error> {
        check_namespace()?;
        self.check_names()?;
        self.check_descriptors(1 + T::DESCRIPTORS_PER_PEER)?;
        self.check_destinations()
    }

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
        Ok(self.directory.render(peer).join(name))
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

    /// Whether every peer has a directory of its own.
    pub(crate) fn has_own_directories(&self) -> bool {
        self.directory.tells_peers_apart()
    }

    /// Names are checked with the longest numbers that can stand in them.
    fn check_names(&self) -> Result<(), Error> {
        let (peer, name) = (PeerId(self.peers.get() - 1), self.source.header().name());
        self.final_name(peer, GREATEST_PID, name).map(drop)
    }

    fn check_descriptors(&self, per_peer: u64) -> Result<(), Error> {
        let limit = descriptor_limit().and_then(|limit| limit.current);
        let Some(limit) = limit else { return Ok(()) };
        // Descriptors are given out from the lowest free one up.
        let open = match rustix::io::dup(&self.source) {
            Ok(next) => u64::try_from(next.as_raw_fd()).unwrap_or(0),
            Err(Errno::MFILE) => limit,
            // Then they are not counted beforehand.
            Err(_) => return Ok(()),
        };
        let needed = open + SHARED_DESCRIPTORS + per_peer * u64::from(self.peers.get());
        if needed > limit {
            return Err(Error::DescriptorLimit { peers: self.peers, needed, limit });
        }
        Ok(())
    }

    /// Looks at each directory once, and at each file system once for all copies that it gets.
    fn check_destinations(&self) -> Result<(), Error> {
        let own = self.has_own_directories();
        let copies = if own { 1 } else { self.peers.get() };
        let directories = if own { self.peers.get() } else { 1 };
        let mut file_systems: BTreeMap<u64, (Directory, u32)> = BTreeMap::new();
        let mut places = BTreeSet::new();
        if copies > 1 && !self.name.tells_peers_apart() {
            return Err(Error::SamePath);
        }
        for peer in (0..directories).map(PeerId) {
            let path = self.directory.render(peer);
            let nearest = Directory::open_nearest(&path)?;
            nearest.check_writable()?;
            let exists = nearest.path() == path;
            if exists {
                self.check_known_names(&nearest, peer, copies)?;
            }
            let (device, inode) = nearest.identity()?;
            // Different paths can lead to one directory, by links or by `..`.
            let is_new = exists && places.insert((device, inode));
            let is_plain = !exists && !path.components().any(|part| part == Component::ParentDir);
            if !(self.name.tells_peers_apart() || is_new || is_plain) {
                return Err(Error::SamePath);
            }
            file_systems.entry(device).or_insert((nearest, 0)).1 += copies;
        }
        file_systems
            .values()
            .try_for_each(|(directory, copies)| self.check_room(directory, *copies))
    }

    fn check_room(&self, directory: &Directory, copies: u32) -> Result<(), Error> {
        let (Some(size), Some(available)) = (self.source.map().length(), directory.available())
        else {
            return Ok(());
        };
        let needed = size.saturating_mul(copies.into());
        if needed > available {
            let path = directory.path().to_owned();
            return Err(Error::NoRoom { peers: copies, size, needed, available, path });
        }
        Ok(())
    }

    /// Checks that no final name is the source. With a process id in it a name is not known yet; then each
    /// peer checks its own, at its commit.
    fn check_known_names(
        &self,
        directory: &Directory,
        first: PeerId,
        peers: u32,
    ) -> Result<(), Error> {
        if self.name.needs_pid() {
            return Ok(());
        }
        (first.0..first.0 + peers).map(PeerId).try_for_each(|peer| {
            let name = self.final_name(peer, 0, self.source.header().name())?;
            self.check_is_not_source(directory, &name)
        })
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
            directory: PathBuf::from("received").into(),
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
