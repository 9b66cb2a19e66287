//! The seam between what both programs share and the way the bytes take.
#![allow(unsafe_code, reason = "an implementer must keep to what the compiler cannot check")]

use crate::{Digest, Error, FileHeader, PeerId, Peers, ReceivedFile, ServerLink, Source};

/// A way to move a file's bytes from one process to many.
///
/// It is built by the server before the peers are forked, so that they inherit its memory and its mappings.
/// They do **not** inherit its descriptors, which are closed in them: a peer opens what it needs.
/// Then the server calls [`serve`](Transport::serve) once, and each peer [`connect`](Transport::connect) once, in
/// its own process. All else (which peers may commit, when, under which name, and what is reported) is
/// done by [`copy`](crate::copy()) alike for every transport.
///
/// # Safety
/// [`connect`](Transport::connect), the methods of the [`Connection`], the `Drop` of both, and the methods of the
/// error run in a forked process in which every descriptor is closed that was open before the fork, except
/// that of the [`ServerLink`] and those of the [`ReceivedFile`]. The numbers of the others may stand for other
/// files by then: a peer that writes to a log file which the server has opened may write into the received
/// file. So all that they call, through whatever path, neither uses nor closes (drops) a descriptor that was opened
/// before the fork: not in a field, not in a static or a thread-local, not in a logger. Descriptors that
/// they have opened themselves are theirs.
///
/// [`serve`](Transport::serve) runs in the server, where nothing is closed.
pub unsafe trait Transport {
    /// What can go wrong on the way.
    type Error: std::error::Error + Send + Sync + From<Error> + 'static;

    /// A peer's end of the way.
    type Connection<'t>: Connection<Error = Self::Error>
    where
        Self: 't;

    /// Descriptors that the server holds for each peer, the control channel not counted.
    const DESCRIPTORS_PER_PEER: u64;

    /// Server: moves the whole source to every peer that lives.
    ///
    /// Whenever it would sleep it calls [`Peers::update`] at least once in a
    /// [`SLICE`](crate::io::SLICE), no longer waits for peers that have failed, and returns when
    /// none is left. Once a peer can have the whole source it calls [`Peers::source_ended`], at the latest
    /// before the next [`Peers::update`].
    ///
    /// # Errors
    /// Only what ends the run for all peers. One peer's failure is [`Peers::fail`], and one that holds
    /// the others up may be detached.
    fn serve(&self, source: &Source, peers: &mut Peers<'_>) -> Result<Served, Self::Error>;

    /// Peer `me`: joins the server.
    ///
    /// # Errors
    /// Whatever ends this peer.
    fn connect<'t>(
        &'t self,
        me: PeerId,
        server: &'t ServerLink,
    ) -> Result<Self::Connection<'t>, Self::Error>;
}

/// How a [`Transport`] has ended to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "the peers commit by it"]
pub enum Served {
    /// The source was read to its end, and every peer that still receives gets all of it without the server.
    Everything {
        /// Length of its data in bytes.
        bytes: u64,
        /// The digest of the bytes that were sent, if they were read with one
        /// ([`SourceReader::digest`](crate::SourceReader::digest)).
        digest: Option<Digest>,
    },
    /// No peer receives any more, except peers that were detached.
    NoReceivers,
}

/// A peer's end of a [`Transport`].
pub trait Connection {
    /// What can go wrong on the way.
    type Error: std::error::Error + Send + Sync + From<Error> + 'static;

    /// What the server says about the source.
    fn header(&self) -> &FileHeader;

    /// Receives bytes, in order, into `file`. It waits as long as the server lives.
    ///
    /// # Errors
    /// [`Error::ServerGone`] and whatever else ends this peer.
    fn receive(self, file: &mut ReceivedFile<'_>) -> Result<Received, Self::Error>;
}

/// What a [`Connection`] has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// The whole source.
    Everything,
    /// Its first part. The server has detached this peer ([`Peers::detach`]), which now reads the rest
    /// of the source by itself.
    Part,
}
