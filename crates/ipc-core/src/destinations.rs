//! The directories of a run: opened or made before the fork, cleaned up at its end.
//!
//! Directories that are missing are made by a [`Guard`], which removes them should the server be killed at
//! any moment from then on. The server learns from it which those are. So two processes know everything
//! that a run may leave behind, by descriptor, and each cleans up without the other.
#![allow(unsafe_code, reason = "forks")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use crate::directory::shared::stages;
use crate::guard::Kind;
use crate::io::now;
use crate::preflight::{CheckedJob, Refused, check_any_left, refuse};
use crate::process::{Lifeline, fork};
use crate::{CleanUp, Directory, Error, Failure, FileName, Guard, Job, PeerId};

/// The directories of a run.
#[derive(Debug)]
pub(crate) struct Destinations {
    /// By the numbers of their peers, and each behind those that were made for it.
    places: Vec<Place>,
    /// The peers that have none.
    refused: Refused,
    /// Tells this run's hidden names from all others.
    token: u64,
    /// Stands by if directories were made.
    guard: Option<Guard>,
}

/// An open directory, and the peers that store there: none if it only was made on the way to another.
#[derive(Debug)]
struct Place {
    directory: Directory,
    peers: Range<u32>,
    /// The file system that it is on, which may not answer any more when that is needed.
    device: u64,
}

impl Place {
    fn new(directory: Directory, peers: Range<u32>) -> Self {
        let device = directory.identity().map_or(0, |(device, _)| device);
        Self { directory, peers, device }
    }
}

impl Destinations {
    /// Opens or makes the directories of a job.
    ///
    /// # Errors
    /// [`Error::NoPeerLeft`]; if there is one directory for all peers, why it cannot be had.
    pub(crate) fn open<T>(job: &CheckedJob<T>) -> Result<Self, Error> {
        let token = FileName::random_token();
        let refused = job.refused.clone();
        let mut destinations = Self { places: Vec::new(), refused, token, guard: None };
        let opened = destinations.open_all(job);
        if let Err(error) = opened.and_then(|()| destinations.check(job)) {
            destinations.end(false);
            return Err(error);
        }
        Ok(destinations)
    }

    fn open_all(&mut self, job: &Job) -> Result<(), Error> {
        let mut missing = Vec::new();
        for (path, peers) in job.places() {
            if self.refused.contains_key(&PeerId(peers.start)) {
                continue;
            }
            match Directory::hold(&path) {
                Ok(directory) => self.places.push(Place::new(directory, peers)),
                Err(Error::Path { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    let stages = stages(&path).into_iter();
                    missing.extend(stages.map(|stage| (stage, peers.start..peers.start)));
                    missing.push((path, peers));
                }
                Err(error) => refuse(job, &mut self.refused, peers, error)?,
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        for ((_, peers), made) in missing.iter().zip(self.make(&missing)) {
            match made {
                Ok(directory) => self.places.push(Place::new(directory, peers.clone())),
                Err(error) => refuse(job, &mut self.refused, peers.clone(), error)?,
            }
        }
        self.places.sort_by_key(|place| place.peers.end);
        Ok(())
    }

    /// Makes what is missing, if that can be had in a process that can clean it up.
    fn make(&mut self, missing: &[(PathBuf, Range<u32>)]) -> Vec<Result<Directory, Error>> {
        match start_guard(&self.places, missing, self.token) {
            Ok((guard, said)) => {
                self.guard = Some(guard);
                let mut said = said.as_slice();
                let open = |(path, _): &(PathBuf, _)| {
                    let made = decode(&mut said).and_then(|made| made);
                    let made = made.map_err(Error::at("make directory", path))?;
                    let mut directory = Directory::hold(path)?;
                    directory.set_made(made);
                    Ok(directory)
                };
                missing.iter().map(open).collect()
            }
            // It is needed only if this process is killed.
            Err(_) => {
                missing.iter().map(|(path, _)| Directory::open_or_create_stage(path)).collect()
            }
        }
    }

    /// Checks what is known for certain only now.
    fn check(&self, job: &Job) -> Result<(), Error> {
        check_any_left(job, &self.refused)?;
        if !job.name.tells_peers_apart() {
            let mut seen = BTreeSet::new();
            for place in self.places.iter().filter(|place| !place.peers.is_empty()) {
                if !seen.insert(place.directory.identity()?) {
                    return Err(Error::SamePath);
                }
            }
        }
        Ok(())
    }

    /// The directory of a peer, or why it has none.
    pub(crate) fn of(&self, peer: PeerId) -> Result<&Directory, Failure> {
        let first = self.places.partition_point(|place| place.peers.end <= peer.0);
        let place = self.places.get(first).filter(|place| place.peers.contains(&peer.0));
        place.map(|place| &place.directory).ok_or_else(|| {
            let unknown = || Failure { message: "it has no directory".to_owned(), errno: None };
            self.refused.get(&peer).cloned().unwrap_or_else(unknown)
        })
    }

    /// The descriptors that a peer needs for its directory. With the guard's, a peer that outlives the
    /// server, as it is just naming its file, is waited for before anything is removed.
    pub(crate) fn kept_by(&self, peer: PeerId) -> impl Iterator<Item = BorrowedFd<'_>> {
        let directory = self.of(peer).ok().map(AsFd::as_fd);
        directory.into_iter().chain(self.guard.as_ref().map(AsFd::as_fd))
    }

    /// The name of a peer's file where it must have one before its final name.
    pub(crate) fn hidden_name(&self, peer: PeerId) -> Result<FileName, Error> {
        hidden_name(self.token, peer.0)
    }

    /// Ends the run: if it is no success, removes hidden names that peers have left, and directories that
    /// it made and nothing is in.
    pub(crate) fn end(self, is_success: bool) -> CleanUp {
        if is_success {
            self.guard.into_iter().for_each(Guard::dismiss);
            return CleanUp::Done;
        }
        // They are locks against other runs, not against this one's guard.
        self.places.iter().for_each(|place| place.directory.unlock());
        match self.guard.map_or(CleanUp::Died, Guard::clean_up) {
            CleanUp::Died => {}
            ended => return ended,
        }
        let guard = start_guard(&self.places, &[], self.token);
        match guard.map_or(CleanUp::Died, |(guard, _)| guard.clean_up()) {
            CleanUp::Died => {
                clean_up(&self.places.iter().collect::<Vec<_>>(), self.token, Duration::ZERO);
                CleanUp::Done
            }
            ended => ended,
        }
    }
}

/// How long a process takes to end at most that has begun to.
const ENDING: Duration = Duration::from_millis(500);

fn hidden_name(token: u64, peer: u32) -> Result<FileName, Error> {
    FileName::new(format!(".{token:016x}-{peer}").as_bytes())
}

/// Forks a guard of these places, which makes what is missing; also what it says of that.
fn start_guard(
    places: &[Place],
    missing: &[(PathBuf, Range<u32>)],
    token: u64,
) -> Result<(Guard, Vec<u8>), Error> {
    let make = || {
        let (mut made, mut said) = (Vec::new(), Vec::new());
        for (path, peers) in missing {
            let directory = Directory::open_or_create_stage(path);
            encode(&mut said, &directory);
            made.extend(directory.map(|directory| Place::new(directory, peers.clone())));
        }
        (made, said)
    };
    let clean_up = |made: Vec<Place>, is_asked: bool| {
        // Processes that are just ending can have closed their end of the guard's socket, and not their
        // locks yet.
        let most = if is_asked { Duration::ZERO } else { ENDING };
        clean_up_apart(places.iter().chain(&made), token, most);
    };
    let keep: Vec<_> = places.iter().map(|place| place.directory.as_fd()).collect();
    // SAFETY: It uses the directories, which it keeps, and those that it opens itself.
    unsafe { Guard::start(Kind::Apart, &keep, make, clean_up) }
}

/// Appends what became of a directory: an error number or 0, and which of it was made.
fn encode(said: &mut Vec<u8>, directory: &Result<Directory, Error>) {
    let (errno, made) = match directory {
        Ok(directory) => (0, directory.made()),
        Err(error) => (crate::errno(error).unwrap_or(libc::EIO), &[][..]),
    };
    said.extend(errno.to_le_bytes());
    said.extend(made.len().to_le_bytes());
    said.extend(made.iter().flat_map(|depth| depth.to_le_bytes()));
}

/// Takes the next from what [`encode`] made.
fn decode(said: &mut &[u8]) -> io::Result<io::Result<Vec<u32>>> {
    let errno = i32::from_le_bytes(take(said)?);
    let count = usize::from_le_bytes(take(said)?);
    let made = (0..count).map(|_| take(said).map(u32::from_le_bytes)).collect();
    Ok(if errno == 0 { made } else { Err(io::Error::from_raw_os_error(errno)) })
}

fn take<const N: usize>(said: &mut &[u8]) -> io::Result<[u8; N]> {
    let (bytes, rest) = said.split_first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
    *said = rest;
    Ok(*bytes)
}

/// Cleans up on each file system in a process of its own, so that one that does not answer holds up no
/// other, and waits for all of them.
fn clean_up_apart<'p>(places: impl Iterator<Item = &'p Place>, token: u64, most: Duration) {
    let mut file_systems: BTreeMap<_, Vec<&Place>> = BTreeMap::new();
    for place in places {
        file_systems.entry(place.device).or_default().push(place);
    }
    if file_systems.len() == 1 {
        file_systems.values().for_each(|places| clean_up(places, token, most));
        return;
    }
    let start = |places: &Vec<&Place>| {
        let keep: Vec<_> = places.iter().map(|place| place.directory.as_fd()).collect();
        let live = |_| {
            clean_up(places, token, most);
            0
        };
        // SAFETY: It uses the directories, which it keeps.
        let child = unsafe { fork(Lifeline::Outlives, &keep, live) };
        if child.is_err() {
            clean_up(places, token, most);
        }
        child.ok()
    };
    let children: Vec<_> = file_systems.values().filter_map(start).collect();
    for child in children {
        let _ = child.wait();
    }
}

/// Removes hidden names, then directories that were made and are not used, the last one first. Locks of
/// others are waited for `most` at most, all together.
fn clean_up(places: &[&Place], token: u64, most: Duration) {
    for Place { directory, peers, .. } in places {
        for peer in peers.clone() {
            // Most never were there; and there is nobody to tell of one that stays.
            let _ = hidden_name(token, peer).and_then(|name| directory.remove(&name));
        }
    }
    places.iter().for_each(|place| place.directory.unlock());
    let until = now().saturating_add(most);
    places.iter().rev().for_each(|place| place.directory.remove_made(until));
}
