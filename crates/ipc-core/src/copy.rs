//! One run from fork to report: the same for both programs, over any transport.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::asked::is_named;
use crate::destinations::Destinations;
use crate::io::now;
use crate::peers::{Naming, Settled, SettledPeer};
use crate::progress::Progress;
use crate::{
    CheckedJob, CleanUp, Error, Event, Failure, Job, Outcome, PeerId, PeerReport, Peers, Report,
    Transport, peer,
};

/// Copies the job's source to its peers over `transport`.
///
/// It forks the peers, so the process must have one thread only; when it returns, all of them have been
/// reaped that could be ended ([`PeerReport::is_left_behind`]). What happens to one peer is in the report, and
/// so is the reason why a run as a whole was given up ([`Report::aborted`]).
///
/// # Errors
/// Only if the run could not begin. No peer is left then.
pub fn copy<T: Transport>(job: &CheckedJob<T>, transport: &T) -> Result<Report, Error> {
    copy_and_tell(job, transport, &mut |_| {})
}

/// The same, and tells `tell` what a person may want to hear of meanwhile.
///
/// # Errors
/// As [`copy`].
pub fn copy_and_tell<T: Transport>(
    job: &CheckedJob<T>,
    transport: &T,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<Report, Error> {
    let progress = Progress::new(job.peers)?;
    let run = Run { job, progress, destinations: Destinations::open(job)? };
    let settled = run.serve(transport, tell);
    let is_success =
        settled.as_ref().is_ok_and(|settled| settled.peers.iter().all(|peer| peer.stored.is_ok()));
    let report = settled.and_then(|settled| run.report(settled));
    if let CleanUp::Unfinished(pid) = run.destinations.end(is_success) {
        tell(Event::CleanUpUnfinished { pid });
    }
    report
}

/// How long the run looks for the names of files whose peers have failed in the commit, all of them together.
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// What the server and its peers know of the run beside the job.
pub(crate) struct Run<'j> {
    pub(crate) job: &'j Job,
    /// What each peer has done so far.
    pub(crate) progress: Progress,
    pub(crate) destinations: Destinations,
}

impl Run<'_> {
    /// Forks, serves, and waits for the end of all peers.
    fn serve<T: Transport>(
        &self,
        transport: &T,
        tell: &mut dyn FnMut(Event<'_>),
    ) -> Result<Settled, Error> {
        let source = &self.job.source;
        let file = source.can_be_shared().then(|| source.as_fd());
        let keep = |id| self.destinations.kept_by(id).chain(file).collect();
        let mut peers = Peers::new(self.job, &self.progress, tell)?;
        peers.fork(keep, |id, server| peer::run(self, transport, id, server))?;
        for (peer, other) in self.job.same_paths(peers.pids())? {
            let message = format!("its received file would have the name of peer {other}'s");
            peers.fail(peer, Failure { message, errno: None });
        }
        let served = transport.serve(source, &mut peers).map_err(|error| Failure::new(&error));
        Ok(peers.settle(served))
    }

    /// Whether the file of a peer that has failed has its final name; `None` if that cannot be known by
    /// `deadline`, as the peer may still be about to give it the name, or the file system does not answer.
    fn has_name(&self, id: PeerId, peer: &SettledPeer, deadline: Duration) -> Option<bool> {
        let file = match peer.naming {
            Naming::NotBegun => return Some(false),
            Naming::Done => return Some(true),
            Naming::Begun(_) if peer.is_left_behind => return None,
            Naming::Begun(file) => file,
        };
        let name = self.job.final_name(id, peer.pid, self.job.source.header().name()).ok()?;
        is_named(self.destinations.of(id).ok()?, &name, file, deadline)
    }

    fn report(&self, settled: Settled) -> Result<Report, Error> {
        let deadline = now().saturating_add(LONGEST_LOOK);
        let report = |(id, peer): (PeerId, SettledPeer)| {
            let has_name = peer.stored.is_err().then(|| self.has_name(id, &peer, deadline));
            let SettledPeer { pid, bytes, digest, elapsed, stored, .. } = peer;
            let SettledPeer { is_detached, is_left_behind, .. } = peer;
            let path = self.job.final_path(id, pid)?;
            let whole = settled.bytes.unwrap_or(bytes);
            let (bytes, outcome) = match (stored, has_name.flatten()) {
                (Ok(()), _) => (whole, Outcome::Stored { path }),
                (Err(failure), Some(true)) => {
                    let failure = failure.after_commit(&path, self.job.sync);
                    (whole, Outcome::Unconfirmed { path, failure })
                }
                (Err(failure), Some(false)) => (bytes, Outcome::Failed(failure)),
                (Err(failure), None) => (bytes, Outcome::Failed(failure.in_commit(&path))),
            };
            Ok(PeerReport { id, pid, outcome, bytes, digest, is_detached, is_left_behind, elapsed })
        };
        let peers =
            self.job.peers.ids().zip(settled.peers).map(report).collect::<Result<_, _>>()?;
        Ok(Report { bytes: settled.bytes, digest: settled.digest, aborted: settled.aborted, peers })
    }
}
