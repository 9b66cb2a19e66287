//! The way for regular files: `sendfile`, from the page cache to each connection at its own pace.
//!
//! No byte passes through the server's memory, and no peer waits for another. What is queued are
//! references to pages, not bytes, so a write to the source shows in what was "sent" before; that
//! every peer's commit comes after a look at the source is what makes it right.

use std::os::fd::OwnedFd;

use ipc_core::{PeerId, Source};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

use crate::Error;
use crate::feed::{SendError, Sent};
use crate::protocol::{Cursor, Piece};

/// Bytes of the source that one peer is sent before the others have their turn, and a multiple of
/// which every turn ends at: a page that is cut in two costs both sides twice. Where the peer reads as fast
/// as the server sends, its buffer would never be full.
const TURN: u64 = 2 * 1024 * 1024;

/// A file on its way to all connections.
#[derive(Debug)]
pub(crate) struct Direct<'s> {
    source: &'s Source,
    length: u64,
    /// Where each peer stands, by number.
    cursors: Vec<Cursor>,
}

impl<'s> Direct<'s> {
    /// `None` if the source cannot be sent so.
    pub(crate) fn new(source: &'s Source, peers: usize) -> Result<Option<Self>, Error> {
        let header = source.header();
        let (Some(size), Some(length)) = (header.size(), source.map().length()) else {
            return Ok(None);
        };
        if !can_send_last_byte(source, size)? {
            return Ok(None);
        }
        let cursors = (0..peers).map(|_| Cursor::new(header, length)).collect();
        Ok(Some(Self { source, length, cursors }))
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Sends a peer on as much as `socket` takes, or as is fair.
    pub(crate) fn send(&mut self, peer: PeerId, socket: &OwnedFd) -> Result<Sent, SendError> {
        let Some(cursor) = self.cursors.get_mut(peer.index()) else { return Ok(Sent::Everything) };
        let mut turn_ends = None;
        loop {
            let sent = match cursor.next() {
                Piece::Nothing => return Ok(Sent::Everything),
                Piece::Bytes(bytes) => rustix::net::send(socket, bytes, SendFlags::NOSIGNAL),
                Piece::Source { position, length } => {
                    let end = *turn_ends.get_or_insert((position / TURN + 1) * TURN);
                    if position >= end {
                        return Ok(Sent::EnoughForNow);
                    }
                    let Some(run) = self.source.map().find(position) else {
                        return Err(SendError::Source(self.truncated()));
                    };
                    let mut offset = run.offset;
                    let most = usize::try_from(run.length.min(end - position));
                    let length = length.min(most.unwrap_or(usize::MAX));
                    match rustix::fs::sendfile(socket, self.source, Some(&mut offset), length) {
                        Ok(0) => return Err(SendError::Source(self.truncated())),
                        // What a failed read says, and no failed send.
                        Err(errno @ (Errno::IO | Errno::NXIO)) => {
                            let failed = ipc_core::Error::at("read", self.source.path());
                            return Err(SendError::Source(failed(errno).into()));
                        }
                        sent => sent,
                    }
                }
            };
            match sent {
                Ok(bytes) => cursor.advance(bytes),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Sent::UntilFull),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Why the file ended before its length: there is no other reason than a change.
    fn truncated(&self) -> Error {
        let path = self.source.path().to_owned();
        self.source.check_unchanged().err().unwrap_or(ipc_core::Error::SourceChanged(path)).into()
    }
}

/// Asks the kernel, by sending the last byte to nobody. It refuses where it cannot send from such a
/// file, and has nothing to send where the size is not that of the contents (as in `/sys`).
fn can_send_last_byte(source: &Source, size: u64) -> Result<bool, Error> {
    let Some(mut offset) = size.checked_sub(1) else { return Ok(false) };
    let flags = SocketFlags::CLOEXEC;
    let (nobody, _end) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(ipc_core::Error::system("create a socket"))?;
    let sent =
        rustix::io::retry_on_intr(|| rustix::fs::sendfile(&nobody, source, Some(&mut offset), 1));
    Ok(sent == Ok(1))
}
