//! The seam between what both programs share and the way the bytes take.

use crate::{Error, FileHeader, PeerId, Peers, ReceivedFile, ServerLink, Source};

/// A way to move a file's bytes from one process to many.
///
/// It is built by the server before the peers are forked, so that they inherit its memory and its mappings.
/// They do **not** inherit its descriptors, which are closed in them: a peer opens what it needs.
/// Then the server calls [`serve`](Transport::serve) once, and each peer [`connect`](Transport::connect) once, in
/// its own process. All else (who may commit, when, under which name, and what is reported) is
/// done by [`copy`](crate::copy()) alike for every transport.
pub trait Transport {
    /// What can go wrong on the way.
    type Error: std::error::Error + Send + Sync + From<Error> + 'static;

    /// A peer's end of the way.
    type Connection<'t>: Connection<Error = Self::Error>
    where
        Self: 't;

    /// Descriptors that the server holds for each peer, the control channel not counted.
    const DESCRIPTORS_PER_PEER: u64;

    /// Server: moves the whole source to every peer that lives, and says so by
    /// [`Peers::source_ended`] as soon as its length is known.
    ///
    /// Whenever it would sleep it calls [`Peers::update`] at least once in a
    /// [`SLICE`](crate::io::SLICE), no longer waits for peers that have failed, and returns when
    /// none is left.
    ///
    /// # Errors
    /// Only what ends the run for all peers. One peer's failure is [`Peers::fail`], and one that holds
    /// the others up may be detached.
    fn serve(&self, source: &Source, peers: &mut Peers<'_>) -> Result<(), Self::Error>;

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
