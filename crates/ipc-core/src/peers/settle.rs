//! The end of a run: the last commits, how each peer ended, and its process.

use std::time::Duration;

use crate::io::{SLICE, now};
use crate::process::Exit;
use crate::{Digest, Error, Failure, Served};

use super::stage::{Naming, Stage};
use super::{Peer, Peers};

/// How all peers ended.
pub(crate) struct Settled {
    /// Length of the source in bytes, unless it is a stream whose end was never seen.
    pub(crate) bytes: Option<u64>,
    /// Digest of the source, if that is known.
    pub(crate) digest: Option<Digest>,
    /// Why the run was given up, if it was.
    pub(crate) aborted: Option<Failure>,
    /// All peers, by number.
    pub(crate) peers: Vec<SettledPeer>,
}

/// How one peer ended.
pub(crate) struct SettledPeer {
    pub(crate) pid: u32,
    /// Bytes of data that it said to have stored.
    pub(crate) bytes: u64,
    /// BLAKE3 digest of its copy as it read it back, if it did.
    pub(crate) digest: Option<Digest>,
    pub(crate) is_detached: bool,
    /// How long it took, from the beginning of the run.
    pub(crate) elapsed: Duration,
    /// Whether its process was still there when the run ended.
    pub(crate) is_left_behind: bool,
    /// Why it has not done all that it was to do, if it has not.
    pub(crate) stored: Result<(), Failure>,
    /// What is known of its final name.
    pub(crate) naming: Naming,
}

/// How long the run waits for peers that it has killed, from the last one on that has ended. To free a large
/// file takes the kernel a while; a file system that does not answer may keep a process for ever.
const LONGEST_REAPING: Duration = Duration::from_secs(2);

impl Peers<'_> {
    /// Waits until each peer has stored its copy or failed, and for the end of its process, as far as that can
    /// end. No error keeps it from telling what the peers have said.
    pub(crate) fn settle(mut self, served: Result<Served, Failure>) -> Settled {
        match served {
            Ok(Served::Everything { bytes, digest }) => self.source_ended(bytes, digest),
            Ok(Served::NoReceivers) => self.fail_receivers(),
            Err(why) => self.abort(why),
        }
        self.watch.await_all();
        self.read_again();
        while self.peers.iter().any(|peer| peer.link.is_some()) {
            self.listen(SLICE);
            self.look_after_the_idle();
        }
        let exits = self.reap();
        // What is counted beyond was read back.
        let data = self.total.or(self.source.map().length()).unwrap_or(u64::MAX);
        let settle = |((id, peer), exit): ((_, Peer), _)| {
            let Peer { digest, is_detached, elapsed, naming, .. } = peer;
            let bytes = self.progress.of(id).get().min(data);
            let pid = peer.child.id();
            let is_left_behind = matches!(exit, Ok(None));
            let stored = match peer.stage {
                Stage::Stored => Ok(()),
                Stage::Failed(failure) => Err(failure),
                _ => Err(why_gone(exit)),
            };
            SettledPeer { pid, bytes, digest, is_detached, elapsed, is_left_behind, stored, naming }
        };
        let peers = self.count.ids().zip(std::mem::take(&mut self.peers)).zip(exits);
        Settled {
            peers: peers.map(settle).collect(),
            bytes: self
                .total
                .map(|total| self.source.map().size_at(total))
                .or(self.source.header().size()),
            digest: self.digest,
            aborted: self.aborted.take(),
        }
    }

    /// Fails the peers that wait for bytes which will not come, as the transport has ended.
    fn fail_receivers(&mut self) {
        for id in self.ids() {
            let peer = self.peers.get(id.index());
            if peer.is_some_and(|peer| peer.is_receiving() && !peer.is_detached) {
                let message = "the transport ended before it had sent everything".to_owned();
                self.fail(id, Failure { message, errno: None });
            }
        }
    }

    /// Reads a file once more that is to be verified, when all of it has been sent: it must still be
    /// what was sent, and what every peer reads back.
    ///
    /// The times of a file do not tell of a store through a mapping that is older than the run.
    fn read_again(&mut self) {
        let Some(total) = self.total else { return };
        let is_verified = self.source.is_verified() && self.source.can_be_shared();
        if !is_verified || self.aborted.is_some() {
            return;
        }
        let mut reader = self.source.reader_of_holes_too();
        let mut buffer = vec![0; 1 << 20];
        while !reader.at_end() {
            if let Err(error) = reader.fill(&mut buffer, || true) {
                return self.abort(Failure::new(&error));
            }
            self.update();
        }
        let digest = reader.digest();
        if self.sent.is_some() && self.sent != digest {
            let changed = Error::SourceChanged(self.source.path().to_owned());
            return self.abort(Failure::new(&changed));
        }
        self.digest = digest;
        self.source_ended(total, digest);
    }

    /// Waits for the ends of all peers' processes, each of which has been killed or ends by itself. `None` is of
    /// one that has not ended in time.
    ///
    /// Only here, as the kernel may have to free a large file first, for which no peer shall wait while bytes
    /// flow.
    fn reap(&mut self) -> Vec<Result<Option<Exit>, Error>> {
        let mut exits: Vec<_> = self.peers.iter().map(|_| Ok(None)).collect();
        let mut last_end = now();
        loop {
            let pairs = exits.iter_mut().zip(&mut self.peers);
            let mut left = pairs.filter(|(exit, _)| matches!(exit, Ok(None))).peekable();
            let mut wait = SLICE;
            if left.peek().is_none() || now() >= last_end.saturating_add(LONGEST_REAPING) {
                return exits;
            }
            for (exit, peer) in left {
                *exit = peer.child.wait_until(now().saturating_add(wait));
                // One that does not end must not keep the others from being reaped.
                match exit {
                    Ok(Some(_)) => last_end = now(),
                    _ => wait = Duration::ZERO,
                }
            }
        }
    }
}

/// Why a peer has stored nothing that ended without a word.
fn why_gone(exit: Result<Option<Exit>, Error>) -> Failure {
    match exit {
        Ok(Some(exit)) => Failure { message: exit.to_string(), errno: None },
        Ok(None) => Failure { message: "it does not answer".to_owned(), errno: None },
        Err(error) => Failure::new(&error),
    }
}

impl Drop for Peers<'_> {
    fn drop(&mut self) {
        self.peers.iter().for_each(|peer| peer.child.kill());
        let _ = self.reap();
    }
}
