//! The server's side of all peers: what each has said, whether it may commit, and how it ended.
#![allow(unsafe_code, reason = "forks")]

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};

use crate::control::{FromPeer, Heard, PeerLink, ServerLink, channel};
use crate::io::{now, timespec};
use crate::process::{Child, Lifeline, fork};
use crate::progress::Progress;
use crate::unnamed::FileId;
use crate::watch::Watch;
use crate::{Digest, Error, Event, Failure, Job, PeerCount, PeerId, Source};

mod idle;
mod panicked;
mod settle;
mod stage;

pub(crate) use settle::{Settled, SettledPeer};
pub(crate) use stage::Naming;
use stage::Stage;

/// The peers of one run, seen from the server.
///
/// A transport asks it which peers still receive and lets it listen ([`Peers::update`]) whenever it has
/// nothing better to do. As a descriptor it is readable while a peer has something to say, so it
/// can be waited for beside others.
///
/// Dropping it kills the peers that are left and waits for their end, as far as they can end.
pub struct Peers<'s> {
    source: &'s Source,
    count: PeerCount,
    progress: &'s Progress,
    tell: &'s mut dyn FnMut(Event<'_>),
    watch: Watch,
    peers: Vec<Peer>,
    epoll: OwnedFd,
    /// Length of the source's data in bytes, once it is known.
    total: Option<u64>,
    /// Digest of the bytes that were sent, if they were read with one.
    sent: Option<Digest>,
    /// Digest of the source, once it will not be read again.
    digest: Option<Digest>,
    /// Why the run was given up.
    aborted: Option<Failure>,
    /// When it began.
    began: Duration,
}

#[derive(Debug)]
struct Peer {
    child: Child,
    stage: Stage,
    /// `None` once there is no more to hear.
    link: Option<PeerLink>,
    naming: Naming,
    /// Its file, once it is known.
    file: Option<FileId>,
    /// BLAKE3 digest of its copy as it read it back, if it did.
    digest: Option<Digest>,
    /// Whether the others go on without it.
    is_detached: bool,
    /// How long the run had lasted when there was no more to hear.
    elapsed: Duration,
}

impl<'s> Peers<'s> {
    /// The peers of `job`, none of which has been forked.
    pub(crate) fn new(
        job: &'s Job,
        progress: &'s Progress,
        tell: &'s mut dyn FnMut(Event<'_>),
    ) -> Result<Self, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(Error::system("create an epoll instance"))?;
        let count = PeerId(job.peers.get()).index();
        let began = now();
        Ok(Self {
            source: &job.source,
            count: job.peers,
            progress,
            tell,
            watch: Watch::new(count, job.timeout, began),
            peers: Vec::with_capacity(count),
            epoll,
            total: None,
            sent: None,
            digest: None,
            aborted: None,
            began,
        })
    }

    /// Forks them, each with the descriptors that `keep` says; each runs `run` with its number and its link to the server, and ends with status 0
    /// if that returns `Ok`.
    ///
    /// # Errors
    /// [`Error::Fork`], or as [`fork`]; no peer is left once this is dropped then.
    pub(crate) fn fork<'k>(
        &mut self,
        keep: impl Fn(PeerId) -> Vec<BorrowedFd<'k>>,
        mut run: impl FnMut(PeerId, &ServerLink) -> Result<(), Failure>,
    ) -> Result<(), Error> {
        for id in self.count.ids() {
            let (link, server) = channel()?;
            epoll::add(&self.epoll, &link, EventData::new_u64(id.0.into()), EventFlags::IN)
                .map_err(Error::system("watch a control channel"))?;
            let keep: Vec<_> = keep(id).into_iter().chain([server.as_fd()]).collect();
            let live = |entered: Result<(), Error>| {
                let mut run = || panicked::catch(|| run(id, &server));
                match entered.map_err(Failure::from).and_then(|()| run()) {
                    Ok(()) => 0,
                    Err(failure) => {
                        // A server that is gone cannot hear it, and need not.
                        let _ = server.say(&FromPeer::Failed(failure));
                        1
                    }
                }
            };
            // SAFETY: A peer has its link and what the caller keeps for it; all else it opens itself, and
            // so does a transport in it, which is the condition of `Transport`.
            let child = unsafe { fork(Lifeline::DiesWithParent, &keep, live) };
            let (forked, peers) = (self.peers.len(), self.count);
            let child = child.map_err(|error| match error {
                Error::System { source, .. } => Error::Fork { forked, peers, source },
                error => error,
            })?;
            self.peers.push(Peer {
                child,
                stage: Stage::Receiving,
                link: Some(link),
                naming: Naming::NotBegun,
                file: None,
                digest: None,
                is_detached: false,
                elapsed: Duration::ZERO,
            });
        }
        Ok(())
    }

    /// All peers' numbers.
    pub fn ids(&self) -> impl Iterator<Item = PeerId> + use<> {
        (0..).map(PeerId).take(self.peers.len())
    }

    /// All peers' process ids, by number.
    pub fn pids(&self) -> impl Iterator<Item = (PeerId, u32)> {
        self.ids().zip(self.peers.iter().map(|peer| peer.child.id()))
    }

    /// Whether this peer still receives: it has neither everything nor failed.
    #[must_use]
    pub fn is_receiving(&self, id: PeerId) -> bool {
        self.peers.get(id.index()).is_some_and(Peer::is_receiving)
    }

    /// Whether any peer still receives.
    #[must_use]
    pub fn any_receiving(&self) -> bool {
        self.peers.iter().any(Peer::is_receiving)
    }

    /// Says how many bytes of data the source has, and the digest of those sent if it was read with one
    /// ([`SourceReader::digest`](crate::SourceReader::digest)): a peer that has stored as many may commit.
    ///
    /// A stream must have been read to its end. Of a file that can be shared, the length at its opening
    /// will do, as no peer commits before it has stored all of it.
    ///
    /// [`Served`](crate::Served) says the same at the end. This is for peers that commit while others still
    /// receive: before it, a peer that says it has everything is out of turn.
    pub fn source_ended(&mut self, total: u64, digest: Option<Digest>) {
        if let Some(before) = self.total.replace(total).filter(|&before| before != total) {
            let message = format!("the transport sent {before} bytes and then {total}");
            return self.abort(Failure { message, errno: None });
        }
        self.sent = digest.or(self.sent);
        if !self.source.can_be_shared() {
            self.digest = self.sent;
        }
        self.ids().for_each(|id| self.commit(id));
    }

    /// Says whether the run waits for a peer: there are bytes for it that it does not take. If that goes
    /// on while it does nothing, the caller of [`copy_and_tell`](crate::copy_and_tell) is told, and in the end
    /// the peer is given up.
    pub fn set_awaited(&mut self, id: PeerId, is_awaited: bool) {
        self.watch.set_awaited(id, is_awaited);
    }

    /// Listens to all peers without waiting, and notes which have ended.
    pub fn update(&mut self) {
        self.listen(Duration::ZERO);
        self.look_after_the_idle();
    }

    /// Takes a peer out of the run: kills it and makes `failure` its outcome, unless it has one.
    pub fn fail(&mut self, id: PeerId, failure: Failure) {
        self.end(id, Stage::Failed(failure));
    }

    /// Notes that a peer reads the rest of the source, which [can be shared](Source::can_be_shared),
    /// by itself. It is the transport that tells the peer, and no longer waits for it.
    pub fn detach(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(id.index()) {
            peer.is_detached = true;
        }
        // It may have everything before those that receive from the server.
        if let Some(length) = self.source.map().length() {
            self.source_ended(length, None);
        }
    }

    /// Gives the run up: every peer that has not been told to commit is killed.
    pub(crate) fn abort(&mut self, why: Failure) {
        for id in self.ids() {
            let stage = self.peers.get(id.index()).map(|peer| &peer.stage);
            if let Some(Stage::Receiving | Stage::Consumed(_)) = stage {
                self.fail(id, why.clone());
            }
        }
        self.aborted.get_or_insert(why);
    }

    /// Waits for something to hear, for `timeout` at most, and hears it.
    ///
    /// Without epoll, which a kernel may refuse in mid-run, the wait lasts all of that time.
    fn listen(&mut self, timeout: Duration) {
        let nothing = epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        let mut events = [nothing; 64];
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&timespec(timeout))) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => 0,
            Err(_) => {
                std::thread::sleep(timeout);
                return self.ids().for_each(|id| self.hear(id));
            }
        };
        for event in events.iter().take(ready) {
            let number = event.data.u64();
            self.hear(PeerId(u32::try_from(number).unwrap_or(u32::MAX)));
        }
    }

    /// Takes one peer's messages until it has no more.
    fn hear(&mut self, id: PeerId) {
        while let Some(Peer { link: Some(link), .. }) = self.peers.get(id.index()) {
            match link.hear() {
                Ok(Heard::Message(message)) => self.act_on(id, message),
                Ok(Heard::Nothing) => break,
                Ok(Heard::Closed) => self.end(id, Stage::Gone),
                Err(error) => self.fail(id, Failure::new(&error)),
            }
        }
    }

    fn act_on(&mut self, id: PeerId, message: FromPeer) {
        let Some(peer) = self.peers.get_mut(id.index()) else { return };
        match (&peer.stage, message) {
            // Before the end of the source no peer can have everything.
            (Stage::Receiving, FromPeer::Consumed { bytes, file, digest })
                if self.total.is_some() =>
            {
                peer.stage = Stage::Consumed(bytes);
                (peer.file, peer.digest) = (Some(file), digest);
                self.watch.begin_anew(id);
                self.commit(id);
            }
            (Stage::Committing, FromPeer::Named) => peer.naming = Naming::Done,
            (Stage::Committing, FromPeer::Stored) => peer.stage = Stage::Stored,
            (_, FromPeer::Failed(failure)) => self.fail(id, failure),
            (_, FromPeer::Consumed { .. } | FromPeer::Named | FromPeer::Stored) => {
                let error = Error::Invalid { what: "control message", reason: "it is out of turn" };
                self.fail(id, Failure::new(&error));
            }
        }
    }

    /// Tells a peer to commit if it has consumed the whole source and the source is unchanged.
    fn commit(&mut self, id: PeerId) {
        let Some(total) = self.total else { return };
        let Some(peer) = self.peers.get_mut(id.index()) else { return };
        let Stage::Consumed(bytes) = peer.stage else { return };
        if self.source.is_verified() && self.digest.is_none() {
            return;
        }
        if bytes != total {
            let message = format!("it stored {bytes} bytes of {total}");
            self.fail(id, Failure { message, errno: None });
        } else if let Err(error) = self.source.check_unchanged() {
            self.abort(Failure::new(&error));
        } else if let Some(digest) = self.digest.filter(|&digest| peer.digest != Some(digest)) {
            let failure = Failure::differs(peer.digest, digest);
            self.fail(id, failure);
        } else if let Some(link) = &peer.link {
            peer.stage = Stage::Committing;
            peer.naming = peer.file.map_or(Naming::NotBegun, Naming::Begun);
            self.watch.begin_anew(id);
            if let Err(error) = link.commit() {
                self.fail(id, Failure::new(&error));
            }
        }
    }

    /// Listens to a peer no more, and makes sure that it ends.
    fn end(&mut self, id: PeerId, stage: Stage) {
        let Some(peer) = self.peers.get_mut(id.index()) else { return };
        let Some(link) = peer.link.take() else { return };
        if !matches!(peer.stage, Stage::Stored) {
            peer.stage = stage;
        }
        peer.elapsed = now().saturating_sub(self.began);
        // Of one that is ending already this changes nothing, its exit status included.
        peer.child.kill();
        // Closing alone does not end the watch while a peer that was just forked still has a copy.
        let _ = epoll::delete(&self.epoll, &link);
    }
}

impl Peer {
    fn is_receiving(&self) -> bool {
        matches!(self.stage, Stage::Receiving)
    }
}

impl fmt::Debug for Peers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers")
            .field("peers", &self.peers)
            .field("total", &self.total)
            .field("aborted", &self.aborted)
            .finish_non_exhaustive()
    }
}

impl AsFd for Peers<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
