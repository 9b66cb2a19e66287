//! The server's side of all peers: what each has said, whether it may commit, and how it ended.
#![allow(unsafe_code, reason = "forks")]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};

use crate::control::{FromPeer, Heard, PeerLink, ServerLink, channel};
use crate::io::{SLICE, timespec};
use crate::process::{Child, Lifeline, fork};
use crate::{Error, Failure, PeerCount, PeerId, Source};

/// The peers of one run, seen from the server.
///
/// A transport asks it who still receives and lets it listen ([`Peers::update`]) whenever it has
/// nothing better to do. As a descriptor it is readable while a peer has something to say, so it
/// can be waited for beside others.
///
/// Dropping it kills and reaps whoever is left: a server that gives up leaves nobody behind.
#[derive(Debug)]
pub struct Peers<'s> {
    source: &'s Source,
    peers: Vec<Peer>,
    epoll: OwnedFd,
    /// Length of the source in bytes, once it is known.
    total: Option<u64>,
    /// Why the run was given up.
    aborted: Option<Failure>,
}

#[derive(Debug)]
struct Peer {
    child: Child,
    stage: Stage,
    /// `None` once there is nothing more to hear.
    link: Option<PeerLink>,
    /// Whether nobody waits for it any more while bytes flow.
    is_detached: bool,
}

/// How far a peer has come.
#[derive(Debug)]
enum Stage {
    /// Bytes flow to it.
    Receiving,
    /// It says that it has stored this many bytes, and waits to be told to commit.
    Consumed(u64),
    /// It has been told to commit.
    Committing,
    /// It says that its file has the final name.
    Stored,
    /// There will be no received file.
    Failed(Failure),
    /// It ended without a word; its exit status will tell why.
    Gone,
}

/// How all peers ended.
pub(crate) struct Settled {
    /// Length of the source in bytes; 0 if it never was known.
    pub(crate) bytes: u64,
    /// Why the run was given up, if it was.
    pub(crate) aborted: Option<Failure>,
    /// All peers, by number.
    pub(crate) peers: Vec<SettledPeer>,
}

/// How one peer ended.
pub(crate) struct SettledPeer {
    pub(crate) pid: u32,
    pub(crate) is_detached: bool,
    /// Why there is no received file, if there is none.
    pub(crate) stored: Result<(), Failure>,
}

impl<'s> Peers<'s> {
    /// Forks `count` peers; each runs `run` with its number and its link to the server, and ends
    /// with status 0 if that returns `Ok`.
    ///
    /// # Errors
    /// As [`fork`]; no peer is left then.
    pub(crate) fn fork(
        count: PeerCount,
        source: &'s Source,
        keep: &[BorrowedFd<'_>],
        mut run: impl FnMut(PeerId, &ServerLink) -> Result<(), Failure>,
    ) -> Result<Self, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(Error::system("create an epoll instance"))?;
        let mut peers = Self { source, peers: Vec::new(), epoll, total: None, aborted: None };
        for id in count.ids() {
            let (link, server) = channel()?;
            epoll::add(&peers.epoll, &link, EventData::new_u64(id.0.into()), EventFlags::IN)
                .map_err(Error::system("watch a control channel"))?;
            let keep: Vec<_> = keep.iter().copied().chain([server.as_fd()]).collect();
            let live = |entered: Result<(), Error>| {
                match entered.map_err(Failure::from).and_then(|()| run(id, &server)) {
                    Ok(()) => 0,
                    Err(failure) => {
                        // A server that is gone cannot hear it, and need not.
                        let _ = server.say(&FromPeer::Failed(failure));
                        1
                    }
                }
            };
            // SAFETY: A peer has its link and what the caller keeps for it; all else it opens itself,
            // as the documentation of `Transport` asks of transports.
            let child = unsafe { fork(Lifeline::DiesWithParent, &keep, live) }?;
            let (stage, link) = (Stage::Receiving, Some(link));
            peers.peers.push(Peer { child, stage, link, is_detached: false });
        }
        Ok(peers)
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

    /// Says that this is the source's length in bytes: whoever has stored as many may commit.
    ///
    /// A stream must have been read to its end. Of a file that the kernel moves by itself, the length
    /// at its opening will do, as nobody commits before it has stored all of it.
    pub fn source_ended(&mut self, total: u64) {
        self.total = Some(total);
        self.ids().for_each(|id| self.commit(id));
    }

    /// Listens to all peers without waiting, and notes who has ended.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses; never for what a peer says or fails to say.
    pub fn update(&mut self) -> Result<(), Error> {
        self.listen(Duration::ZERO)
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

    /// Waits until every peer has ended, and reaps it.
    ///
    /// Only here, as the kernel may have to free a large file first, and while bytes flow nobody
    /// shall wait for that.
    pub(crate) fn settle(mut self) -> Result<Settled, Error> {
        while self.peers.iter().any(|peer| peer.link.is_some()) {
            self.listen(SLICE)?;
        }
        let reap = |peer: Peer| {
            let (pid, is_detached) = (peer.child.id(), peer.is_detached);
            let exit = peer.child.wait()?;
            let stored = match peer.stage {
                Stage::Stored => Ok(()),
                Stage::Failed(failure) => Err(failure),
                _ => Err(Failure { message: exit.to_string(), errno: None }),
            };
            Ok(SettledPeer { pid, is_detached, stored })
        };
        let peers = std::mem::take(&mut self.peers).into_iter().map(reap);
        Ok(Settled {
            peers: peers.collect::<Result<_, Error>>()?,
            bytes: self.total.unwrap_or(0),
            aborted: self.aborted.take(),
        })
    }

    fn listen(&mut self, timeout: Duration) -> Result<(), Error> {
        let nothing = epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        let mut events = [nothing; 64];
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&timespec(timeout))) {
            Ok(ready) => ready,
            Err(rustix::io::Errno::INTR) => 0,
            Err(errno) => return Err(Error::system("wait for peers")(errno)),
        };
        for event in events.iter().take(ready) {
            let number = event.data.u64();
            self.hear(PeerId(u32::try_from(number).unwrap_or(u32::MAX)));
        }
        Ok(())
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
            (Stage::Receiving, FromPeer::Consumed { bytes }) => {
                peer.stage = Stage::Consumed(bytes);
                self.commit(id);
            }
            (Stage::Committing, FromPeer::Stored) => peer.stage = Stage::Stored,
            (_, FromPeer::Failed(failure)) => self.fail(id, failure),
            (_, FromPeer::Consumed { .. } | FromPeer::Stored) => {
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
        if bytes != total {
            let message = format!("it stored {bytes} bytes of {total}");
            self.fail(id, Failure { message, errno: None });
        } else if let Err(error) = self.source.check_unchanged() {
            self.abort(Failure::new(&error));
        } else if let Some(link) = &peer.link {
            peer.stage = Stage::Committing;
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

impl AsFd for Peers<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
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
