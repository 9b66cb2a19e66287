//! The checks that come before anything is created, and the job that has passed them.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::ops::{Deref, Range};
use std::os::fd::AsRawFd;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use crate::process::{check_namespace, descriptor_limit};
use crate::{Directory, Error, Failure, Job, PeerId, Transport};

/// Descriptors that a run needs beside those for each peer: the directory and what cleans up, the endpoint
/// and what makes it, the peers' epoll instance and a transport's own, a new peer's end of its channel.
const SHARED_DESCRIPTORS: u64 = 7;

/// The greatest process id there can be.
const GREATEST_PID: u32 = 1 << 22;

/// A job that may succeed over transport `T`, as far as that is known before anything is created.
///
/// [`Job::check`] makes it.
#[derive(Debug)]
pub struct CheckedJob<T> {
    job: Job,
    /// The peers that cannot have a copy, while others can.
    pub(crate) refused: Refused,
    transport: PhantomData<fn(&T)>,
}

/// Why some peers cannot have a copy.
pub(crate) type Refused = BTreeMap<PeerId, Failure>;

impl<T> Deref for CheckedJob<T> {
    type Target = Job;

    fn deref(&self) -> &Job {
        &self.job
    }
}

impl Job {
    /// Checks everything about the job that can be known before anything is created: that names
    /// fit, that the descriptor limit suffices for transport `T`, that the directories can be written
    /// to and have room, that no received file would replace the source, and that no two peers would
    /// store in one place.
    ///
    /// Where each peer has a directory of its own, one that cannot be used fails its peer only, when the
    /// run has begun; unless no other peer is left. Of a file system that has no room for all of its
    /// copies, as many peers are served as it has room for, those with the least numbers.
    ///
    /// # Errors
    /// The first reason why the job cannot succeed; [`Error::NoPeerLeft`] has one for each peer.
    pub fn check<T: Transport>(self) -> Result<CheckedJob<T>, Error> {
        check_namespace()?;
        self.directories.check_count(self.peers)?;
        self.check_names()?;
        let own_directories = u64::from(self.directories.are_own());
        self.check_descriptors(1 + own_directories + T::DESCRIPTORS_PER_PEER)?;
        let refused = self.check_destinations()?;
        check_any_left(&self, &refused)?;
        Ok(CheckedJob { job: self, refused, transport: PhantomData })
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
    fn check_destinations(&self) -> Result<Refused, Error> {
        let mut refused = Refused::new();
        let mut file_systems: BTreeMap<u64, FileSystem> = BTreeMap::new();
        let mut places = BTreeSet::new();
        for (path, peers) in self.places() {
            if peers.len() > 1 && !self.name.tells_peers_apart() {
                return Err(Error::SamePath);
            }
            let (nearest, device, inode) = match open_to_check(&path) {
                Ok(opened) => opened,
                Err(error) => {
                    refuse(self, &mut refused, peers, error)?;
                    continue;
                }
            };
            let below = below(&nearest, &path);
            if below.as_os_str().is_empty() {
                self.check_known_names(&nearest, peers.clone())?;
            }
            // Different paths can lead to one directory, by links or by `..`. Where a `..` will lead is known
            // only once what stands before it has been made.
            let is_known = !below.components().any(|part| part == Component::ParentDir);
            let is_new = !is_known || places.insert((device, inode, below));
            if !(is_new || self.name.tells_peers_apart()) {
                return Err(Error::SamePath);
            }
            let path = nearest.path().to_owned();
            let file_system = file_systems
                .entry(device)
                .or_insert_with(|| FileSystem { directory: nearest, destinations: Vec::new() });
            file_system.destinations.push((peers, path));
        }
        for file_system in file_systems.into_values() {
            self.check_room(&mut refused, file_system)?;
        }
        Ok(refused)
    }

    /// Refuses the peers for whose copies a file system has no room once it has those before them.
    fn check_room(&self, refused: &mut Refused, file_system: FileSystem) -> Result<(), Error> {
        let FileSystem { directory, destinations } = file_system;
        let (Some(size), Some(available)) = (self.source.map().length(), directory.available())
        else {
            return Ok(());
        };
        let copies = destinations.iter().map(|(peers, _)| peers.end - peers.start).sum::<u32>();
        let needed = size.saturating_mul(copies.into());
        let mut room = available;
        for (peers, path) in destinations {
            match room.checked_sub(size.saturating_mul(u64::from(peers.end - peers.start))) {
                Some(left) => room = left,
                None => {
                    let error = Error::NoRoom { peers: copies, size, needed, available, path };
                    refuse(self, refused, peers, error)?;
                }
            }
        }
        Ok(())
    }

    /// Checks that no final name is the source. With a process id in it a name is not known yet; then each
    /// peer checks its own, at its commit.
    fn check_known_names(&self, directory: &Directory, peers: Range<u32>) -> Result<(), Error> {
        if self.name.needs_pid() {
            return Ok(());
        }
        peers.map(PeerId).try_for_each(|peer| {
            let name = self.final_name(peer, 0, self.source.header().name())?;
            self.check_is_not_source(directory, &name)
        })
    }
}

/// Notes that these peers cannot have a copy; if there are no others, that is an error.
pub(crate) fn refuse(
    job: &Job,
    refused: &mut Refused,
    peers: Range<u32>,
    error: Error,
) -> Result<(), Error> {
    if peers == (0..job.peers.get()) {
        return Err(error);
    }
    let failure = Failure::from(error);
    refused.extend(peers.map(|peer| (PeerId(peer), failure.clone())));
    Ok(())
}

/// Checks that not all peers of `job` are refused.
pub(crate) fn check_any_left(job: &Job, refused: &Refused) -> Result<(), Error> {
    if refused.len() == PeerId(job.peers.get()).index() {
        return Err(Error::NoPeerLeft(
            refused.iter().map(|(&id, why)| (id, why.clone())).collect(),
        ));
    }
    Ok(())
}

/// A file system that copies go to.
struct FileSystem {
    /// A directory on it.
    directory: Directory,
    /// Which peers store there, each with the directory that exists already.
    destinations: Vec<(Range<u32>, PathBuf)>,
}

/// The nearest existing directory of `path`, which can be written to, its file system and its inode.
fn open_to_check(path: &Path) -> Result<(Directory, u64, u64), Error> {
    let nearest = Directory::open_nearest(path)?;
    nearest.check_writable()?;
    let (device, inode) = nearest.identity()?;
    Ok((nearest, device, inode))
}

/// What of `path` is below `nearest`, and so is to be made.
fn below(nearest: &Directory, path: &Path) -> PathBuf {
    match path.strip_prefix(nearest.path()) {
        Ok(below) => below.to_owned(),
        // A relative path begins in `.`, which it need not say.
        Err(_) => path.to_owned(),
    }
}
