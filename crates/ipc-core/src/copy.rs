//! One run from fork to report: the same for both programs, over any transport.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::directory::missing;
use crate::peers::{Naming, Settled, SettledPeer};
use crate::progress::Progress;
use crate::unnamed::FileId;
use crate::{
    Directory, Error, Event, Failure, FileName, Job, Outcome, PeerId, PeerReport, Peers, Report,
    Transport, peer,
};

/// Copies the job's source to its peers over `transport`.
///
/// Call it after [`Job::check`]: what that refuses fails here later and less clearly, or, where two
/// peers have one path, leaves one file for both. It forks the peers, so the process must have one
/// thread only; when it returns, all of them have been reaped. What happens to one peer is in the
/// report, and so is the reason why a run as a whole was given up ([`Report::aborted`]).
///
/// # Errors
/// Only if the run could not begin, or the kernel refuses to say how it ended. No peer is left
/// then.
pub fn copy<T: Transport>(job: &Job, transport: &T) -> Result<Report, Error> {
    copy_and_tell(job, transport, &mut |_| {})
}

/// The same, and tells `tell` what a person may want to hear of meanwhile.
///
/// # Errors
/// As [`copy`].
pub fn copy_and_tell<T: Transport>(
    job: &Job,
    transport: &T,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<Report, Error> {
    let missing = missing_directories(job);
    let run = Run {
        job,
        shared: match job.has_own_directories() {
            true => None,
            false => Some(Directory::open_or_create(&job.directory.render(PeerId(0)))?),
        },
        progress: Progress::new(job.peers)?,
        token: FileName::random_token(),
    };
    let settled = run.serve(transport, tell);
    if !settled.as_ref().is_ok_and(|settled| settled.peers.iter().all(|peer| peer.stored.is_ok())) {
        run.remove_hidden_names();
        // Those that were made for nothing are empty; what is in use stays.
        for directory in &missing {
            let _ = rustix::fs::rmdir(directory);
        }
    }
    run.report(settled?)
}

/// The directories that a run will make, each before those above it.
fn missing_directories(job: &Job) -> Vec<PathBuf> {
    let peers = if job.has_own_directories() { job.peers.get() } else { 1 };
    let paths = (0..peers).map(|peer| job.directory.render(PeerId(peer)));
    paths.flat_map(|path| missing(&path).map(Path::to_owned).collect::<Vec<_>>()).collect()
}

/// What the server and its peers know of the run beside the job.
pub(crate) struct Run<'j> {
    pub(crate) job: &'j Job,
    /// The one directory of all peers, unless each has its own.
    pub(crate) shared: Option<Directory>,
    /// What each peer has done so far.
    pub(crate) progress: Progress,
    /// Tells this run's hidden names from all others.
    token: u64,
}

impl Run<'_> {
    /// The name of a peer's file where it must have one before its final name.
    pub(crate) fn hidden_name(&self, peer: PeerId) -> Result<FileName, Error> {
        FileName::new(format!(".{:016x}-{peer}", self.token).as_bytes())
    }

    /// Forks, serves, and waits for the end of all peers.
    fn serve<T: Transport>(
        &self,
        transport: &T,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<Settled, Error> {
        let source = &self.job.source;
        let directory = self.shared.as_ref().map(AsFd::as_fd);
        let file = source.can_be_shared().then(|| source.as_fd());
        let keep: Vec<_> = directory.into_iter().chain(file).collect();
        let mut peers = Peers::new(self.job, &self.progress, tell)?;
        peers.fork(&keep, |id, server| peer::run(self, transport, id, server))?;
        for (peer, other) in self.job.same_paths(peers.pids())? {
            let message = format!("its received file would have the name of peer {other}'s");
            peers.fail(peer, Failure { message, errno: None });
        }
        let served = transport.serve(source, &mut peers).map_err(|error| Failure::new(&error));
        Ok(peers.settle(served))
    }

    /// Removes what peers have left that died while their file had its hidden name.
    fn remove_hidden_names(&self) {
        for peer in self.job.peers.ids() {
            let Ok(name) = self.hidden_name(peer) else { continue };
            // Most never were there; and there is nothing to be done about one that stays.
            let _ = match &self.shared {
                Some(directory) => directory.remove(&name),
                None => Directory::open(&self.job.directory.render(peer))
                    .and_then(|directory| directory.remove(&name)),
            };
        }
    }

    /// Whether the file of a peer that has failed has its final name.
    fn has_name(&self, id: PeerId, pid: u32, naming: Naming, is_left_behind: bool) -> bool {
        let file = match naming {
            Naming::Done => return true,
            // The directory of a peer that does not end may not answer either.
            Naming::Begun(file) if !is_left_behind => file,
            Naming::Begun(_) | Naming::NotBegun => return false,
        };
        let examine = |directory: &Directory| {
            let name = self.job.final_name(id, pid, self.job.source.header().name())?;
            Ok::<_, Error>(directory.examine(&name)?.is_some_and(|stat| FileId::of(&stat) == file))
        };
        let is_it = match &self.shared {
            Some(directory) => examine(directory),
            None => Directory::open(&self.job.directory.render(id))
                .and_then(|directory| examine(&directory)),
        };
        is_it.unwrap_or(false)
    }

    fn report(&self, settled: Settled) -> Result<Report, Error> {
        let report = |(id, settled_peer)| {
            let SettledPeer { pid, bytes, digest, elapsed, stored, naming, .. } = settled_peer;
            let SettledPeer { is_detached, is_left_behind, .. } = settled_peer;
            let path = self.job.final_path(id, pid)?;
            let whole = settled.bytes.unwrap_or(bytes);
            let (bytes, outcome) = match stored {
                Ok(()) => (whole, Outcome::Stored { path }),
                Err(failure) if self.has_name(id, pid, naming, is_left_behind) => {
                    let failure = failure.after_commit(&path, self.job.sync);
                    (whole, Outcome::Unconfirmed { path, failure })
                }
                Err(failure) => (bytes, Outcome::Failed(failure)),
            };
            Ok(PeerReport { id, pid, outcome, bytes, digest, is_detached, is_left_behind, elapsed })
        };
        let peers =
            self.job.peers.ids().zip(settled.peers).map(report).collect::<Result<_, _>>()?;
        Ok(Report { bytes: settled.bytes, digest: settled.digest, aborted: settled.aborted, peers })
    }
}
