//! The server's side of all peers: what each has said, whether it may commit, and how it ended.

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
    /// Bytes of the source, once all of them have been read.
    total: Option<u64>,
    /// Why the run was given up.
    aborted: Option<Failure>,
}

#[derive(Debug)]
struct Peer {
    pid: u32,
    stage: Stage,
    /// The process; `None` once it has been reaped.
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    link: PeerLink,
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
}

/// How all peers ended.
pub(crate) struct Settled {
    /// Bytes of the source; 0 if it was not read to its end.
    pub(crate) bytes: u64,
    /// Why the run was given up, if it was.
    pub(crate) aborted: Option<Failure>,
    /// For each peer its process id, and why there is no received file if there is none.
    pub(crate) peers: Vec<(u32, Result<(), Failure>)>,
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
            let child = fork(Lifeline::DiesWithParent, &keep, |entered| {
                let result = entered.map_err(|error| Failure::new(&error));
                match result.and_then(|()| run(id, &server)) {
                    Ok(()) => 0,
                    Err(failure) => {
                        // A server that is gone cannot hear it, and need not.
                        let _ = server.say(&FromPeer::Failed(failure));
                        1
                    }
                }
            })?;
            let pid = child.id();
            let process = Some(Process { child, link });
            peers.peers.push(Peer { pid, stage: Stage::Receiving, process });
        }
        Ok(peers)
    }

    /// All peers' numbers.
    pub fn ids(&self) -> impl Iterator<Item = PeerId> + use<> {
        (0..).map(PeerId).take(self.peers.len())
    }

    /// All peers' process ids, by number.
    pub fn pids(&self) -> impl Iterator<Item = (PeerId, u32)> {
        self.ids().zip(self.peers.iter().map(|peer| peer.pid))
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

    /// Says that the source has been read to its end, and that this is its length in bytes: whoever
    /// has stored as many may commit.
    ///
    /// # Errors
    /// As [`Peers::update`].
    pub fn source_ended(&mut self, total: u64) -> Result<(), Error> {
        self.total = Some(total);
        self.ids().try_for_each(|id| self.commit(id))
    }

    /// Listens to all peers without waiting: handles what they said, reaps those that ended.
    ///
    /// # Errors
    /// [`Error::System`] if the kernel refuses; never for what a peer says or fails to say.
    pub fn update(&mut self) -> Result<(), Error> {
        self.listen(Duration::ZERO)
    }

    /// Takes a peer out of the run: kills it if it still runs and makes `failure` its outcome.
    ///
    /// # Errors
    /// [`Error::System`] if it cannot be reaped.
    pub fn fail(&mut self, id: PeerId, failure: Failure) -> Result<(), Error> {
        let Some(child) = self.part_with(id) else { return Ok(()) };
        if let Some(peer) = self.peers.get_mut(id.index()) {
            peer.stage = Stage::Failed(failure);
        }
        child.kill();
        child.wait().map(drop)
    }

    /// Gives the run up: every peer that has not been told to commit is killed.
    pub(crate) fn abort(&mut self, why: Failure) -> Result<(), Error> {
        for id in self.ids() {
            let stage = self.peers.get(id.index()).map(|peer| &peer.stage);
            if let Some(Stage::Receiving | Stage::Consumed(_)) = stage {
                self.fail(id, why.clone())?;
            }
        }
        self.aborted.get_or_insert(why);
        Ok(())
    }

    /// Waits until every peer has ended.
    pub(crate) fn settle(mut self) -> Result<Settled, Error> {
        while self.peers.iter().any(|peer| peer.process.is_some()) {
            self.listen(SLICE)?;
        }
        let outcome = |peer: Peer| match peer.stage {
            Stage::Failed(failure) => (peer.pid, Err(failure)),
            _ => (peer.pid, Ok(())),
        };
        Ok(Settled {
            bytes: self.total.unwrap_or(0),
            aborted: self.aborted.take(),
            peers: std::mem::take(&mut self.peers).into_iter().map(outcome).collect(),
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
            self.hear(PeerId(u32::try_from(number).unwrap_or(u32::MAX)))?;
        }
        Ok(())
    }

    /// Takes one peer's messages until it has no more.
    fn hear(&mut self, id: PeerId) -> Result<(), Error> {
        while let Some(Peer { process: Some(process), .. }) = self.peers.get(id.index()) {
            match process.link.hear() {
                Ok(Heard::Message(message)) => self.act_on(id, message)?,
                Ok(Heard::Nothing) => break,
                Ok(Heard::Closed) => self.reap(id)?,
                Err(error) => self.fail(id, Failure::new(&error))?,
            }
        }
        Ok(())
    }

    fn act_on(&mut self, id: PeerId, message: FromPeer) -> Result<(), Error> {
        let Some(peer) = self.peers.get_mut(id.index()) else { return Ok(()) };
        match (&peer.stage, message) {
            (Stage::Receiving, FromPeer::Consumed { bytes }) => {
                peer.stage = Stage::Consumed(bytes);
                self.commit(id)
            }
            (Stage::Committing, FromPeer::Stored) => {
                peer.stage = Stage::Stored;
                Ok(())
            }
            (_, FromPeer::Failed(failure)) => self.fail(id, failure),
            (_, FromPeer::Consumed { .. } | FromPeer::Stored) => {
                let error = Error::Invalid { what: "control message", reason: "it is out of turn" };
                self.fail(id, Failure::new(&error))
            }
        }
    }

    /// Tells a peer to commit if it has consumed the whole source and the source is unchanged.
    fn commit(&mut self, id: PeerId) -> Result<(), Error> {
        let Some(total) = self.total else { return Ok(()) };
        let Some(peer) = self.peers.get_mut(id.index()) else { return Ok(()) };
        let Stage::Consumed(bytes) = peer.stage else { return Ok(()) };
        if bytes != total {
            let message = format!("it stored {bytes} bytes of {total}");
            return self.fail(id, Failure { message, errno: None });
        }
        if let Err(error) = self.source.check_unchanged() {
            return self.abort(Failure::new(&error));
        }
        if let Some(process) = &peer.process {
            process.link.commit();
            peer.stage = Stage::Committing;
        }
        Ok(())
    }

    /// Waits for a peer that has closed its end, which it does by ending.
    fn reap(&mut self, id: PeerId) -> Result<(), Error> {
        let Some(child) = self.part_with(id) else { return Ok(()) };
        let exit = child.wait()?;
        if let Some(peer) = self.peers.get_mut(id.index())
            && !matches!(peer.stage, Stage::Stored)
        {
            peer.stage = Stage::Failed(Failure { message: exit.to_string(), errno: None });
        }
        Ok(())
    }

    /// Closes the link to a peer and hands out its process, which is to be waited for; `None` if
    /// that has been done before.
    fn part_with(&mut self, id: PeerId) -> Option<Child> {
        let Process { child, link } = self.peers.get_mut(id.index())?.process.take()?;
        // Closing alone does not end the watch while a peer that was just forked still has a copy.
        let _ = epoll::delete(&self.epoll, &link);
        Some(child)
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
        for child in self.ids().filter_map(|id| self.part_with(id)) {
            child.kill();
            // There is nobody left to tell.
            let _ = child.wait();
        }
    }
}
