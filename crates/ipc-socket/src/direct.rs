//! The way for regular files: `sendfile`, from the page cache to each connection at its own pace.
//!
//! No byte passes through the server's memory, and no peer waits for another. What is queued are
//! references to pages, not bytes, so a write to the source shows in what was "sent" before; that
//! every peer's commit comes after a look at the source is what makes it right.
//!
//! Where `sendfile` fails, the same bytes are read and sent: that succeeds, or tells whether it was the
//! source or the connection that failed.

use std::os::fd::OwnedFd;

use ipc_core::io::at_most;
use ipc_core::{PeerId, Source};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::pipe::{PipeFlags, pipe_with};

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
        if !can_send_last_byte(source, size) {
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
        let cursor = &mut self.cursors[peer.index()];
        let mut turn_ends = None;
        let source = self.source;
        loop {
            let sent = match cursor.next() {
                Piece::Nothing => return Ok(Sent::Everything),
                Piece::Bytes(bytes) => rustix::net::send(socket, bytes, SendFlags::NOSIGNAL),
                Piece::Source { position, length } => {
                    let end = *turn_ends.get_or_insert((position / TURN + 1) * TURN);
                    if position >= end {
                        return Ok(Sent::EnoughForNow);
                    }
                    let run = self.source.map().find(position).expect("the source has more data");
                    let mut offset = run.offset;
                    let length = at_most(run.length.min(end - position), length);
                    let sent = rustix::fs::sendfile(socket, source, Some(&mut offset), length);
                    let sent = match sent {
                        Ok(_) | Err(Errno::INTR | Errno::AGAIN) => sent,
                        Err(_) => send_through_memory(socket, source, run.offset, length)
                            .map_err(SendError::Source)?,
                    };
                    if sent == Ok(0) {
                        return Err(SendError::Source(self.truncated()));
                    }
                    sent
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

/// Sends some bytes of the source from `offset` on, `most` at most; none if it ends there. An outer error
/// is one of the source, an inner one of the connection.
fn send_through_memory(
    socket: &OwnedFd,
    source: &Source,
    offset: u64,
    most: usize,
) -> Result<rustix::io::Result<usize>, Error> {
    let mut buffer = vec![0; most.min(64 * 1024)];
    let bytes = ipc_core::io::read_at(source, &mut buffer, offset)
        .map_err(ipc_core::Error::at("read", source.path()))?;
    buffer.truncate(bytes);
    if buffer.is_empty() {
        return Ok(Ok(0));
    }
    Ok(rustix::net::send(socket, &buffer, SendFlags::NOSIGNAL))
}

/// Asks the kernel, by sending the last byte to a pipe. It refuses where it cannot send from such a
/// file, and has nothing to send where the size is not that of the contents (as in `/sys`).
fn can_send_last_byte(source: &Source, size: u64) -> bool {
    let Some(mut offset) = size.checked_sub(1) else { return false };
    let Ok((_reader, writer)) = pipe_with(PipeFlags::CLOEXEC) else { return false };
    let send = || rustix::fs::sendfile(&writer, source, Some(&mut offset), 1);
    rustix::io::retry_on_intr(send) == Ok(1)
}
