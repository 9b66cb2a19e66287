//! The end of a run: the last commits, and how each peer ended.

use std::time::Duration;

use crate::io::SLICE;
use crate::{Digest, Error, Failure, PeerId};

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
    /// Why it has not done all that it was to do, if it has not.
    pub(crate) stored: Result<(), Failure>,
    /// What is known of its final name.
    pub(crate) naming: Naming,
}

impl Peers<'_> {
    /// Waits until every peer has ended, and reaps it.
    ///
    /// Only here, as the kernel may have to free a large file first, and while bytes flow nobody
    /// shall wait for that.
    pub(crate) fn settle(mut self) -> Result<Settled, Error> {
        self.watch.await_all();
        self.read_again()?;
        while self.peers.iter().any(|peer| peer.link.is_some()) {
            self.listen(SLICE)?;
            self.look_after_the_idle();
        }
        // What is counted beyond was read back.
        let data = self.total.or(self.source.map().length()).unwrap_or(u64::MAX);
        let reap = |(id, peer): (PeerId, Peer)| {
            let Peer { digest, is_detached, elapsed, naming, .. } = peer;
            let bytes = self.progress.of(id).get().min(data);
            let pid = peer.child.id();
            let exit = peer.child.wait()?;
            let stored = match peer.stage {
                Stage::Stored => Ok(()),
                Stage::Failed(failure) => Err(failure),
                _ => Err(Failure { message: exit.to_string(), errno: None }),
            };
            Ok(SettledPeer { pid, bytes, digest, is_detached, elapsed, stored, naming })
        };
        let peers = self.count.ids().zip(std::mem::take(&mut self.peers)).map(reap);
        Ok(Settled {
            peers: peers.collect::<Result<_, Error>>()?,
            bytes: self
                .total
                .map(|total| self.source.map().size_at(total))
                .or(self.source.header().size()),
            digest: self.digest,
            aborted: self.aborted.take(),
        })
    }

    /// Reads a file once more that is to be verified, when all of it has been sent: it must still be
    /// what was sent, and what every peer reads back.
    ///
    /// The times of a file do not tell of a store through a mapping that is older than the run.
    fn read_again(&mut self) -> Result<(), Error> {
        let Some(total) = self.total else { return Ok(()) };
        let is_verified = self.source.is_verified() && self.source.can_be_shared();
        if !is_verified || self.aborted.is_some() {
            return Ok(());
        }
        let mut reader = self.source.reader_of_holes_too();
        let mut buffer = vec![0; 1 << 20];
        while !reader.at_end() {
            if let Err(error) = reader.fill(&mut buffer, || true) {
                self.abort(Failure::new(&error));
                return Ok(());
            }
            self.update()?;
        }
        let digest = reader.digest();
        if self.sent.is_some() && self.sent != digest {
            let changed = Error::SourceChanged(self.source.path().to_owned());
            self.abort(Failure::new(&changed));
            return Ok(());
        }
        self.digest = digest;
        self.source_ended(total, digest);
        Ok(())
    }
}

impl Drop for Peers<'_> {
    fn drop(&mut self) {
        for peer in self.peers.drain(..) {
            peer.child.kill();
            // There is nobody left to tell.
            let _ = peer.child.wait();
        }
    }
}
