//! The peer's side: joins the server, and stores what arrives in large pieces.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;

use ipc_core::io::retry;
use ipc_core::{Connection, FileHeader, ReceivedFile};
use rustix::event::PollFlags;
use rustix::net::RecvFlags;

use crate::Error;
use crate::endpoint::Endpoint;
use crate::protocol::{Frames, PREFIX};

/// A peer's connection to the server, of which the header has been read.
#[derive(Debug)]
pub struct SocketConnection {
    socket: OwnedFd,
    header: FileHeader,
}

/// Bytes that are stored with one write, whatever the frames they came in: less is much slower on
/// file systems that take large writes as large folios.
const STORE: usize = 256 * 1024;

impl SocketConnection {
    pub(crate) fn open(endpoint: &Endpoint) -> Result<Self, Error> {
        Self::new(endpoint.connect()?)
    }

    fn new(socket: OwnedFd) -> Result<Self, Error> {
        let mut header = [0; FileHeader::ENCODED_LENGTH];
        receive_exactly(&socket, &mut header)?;
        Ok(Self { header: FileHeader::decode(&header)?, socket })
    }
}

impl Connection for SocketConnection {
    type Error = Error;

    fn header(&self) -> &FileHeader {
        &self.header
    }

    /// Each call receives the rest of a frame and the length of the next one, which the next
    /// frame's bytes then replace: so the data of frames of any length comes to lie in one piece.
    fn receive(self, file: &mut ReceivedFile<'_>) -> Result<(), Error> {
        let mut frames = Frames::new(self.header.size);
        let mut prefix = [0; PREFIX];
        receive_exactly(&self.socket, &mut prefix)?;
        // Bytes of the frame that have not arrived.
        let mut left = frames.next(prefix)?;
        let mut buffer = vec![0; STORE + PREFIX];
        let mut filled = 0;
        while left > 0 {
            let data = usize::try_from(left).unwrap_or(usize::MAX).min(STORE - filled);
            left -= data as u64;
            let length = data + if left == 0 { PREFIX } else { 0 };
            let piece = buffer.get_mut(filled..).unwrap_or_default();
            let piece = piece.get_mut(..length).unwrap_or_default();
            receive_exactly(&self.socket, piece)?;
            if let (0, Some(prefix)) = (left, piece.last_chunk()) {
                left = frames.next(*prefix)?;
            }
            filled += data;
            if filled == STORE || left == 0 {
                file.write_all(buffer.get(..filled).unwrap_or_default())?;
                filled = 0;
            }
        }
        Ok(())
    }
}

/// Fills `buffer`, waiting as long as the server holds its end.
fn receive_exactly(socket: &OwnedFd, buffer: &mut [u8]) -> Result<(), Error> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let received = retry(socket, PollFlags::IN, || {
            rustix::net::recv(socket, &mut *rest, RecvFlags::WAITALL)
        });
        match received {
            Ok((bytes, _)) if bytes > 0 => filled += bytes,
            Ok(_) => return Err(ipc_core::Error::ServerGone.into()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                return Err(ipc_core::Error::ServerGone.into());
            }
            Err(error) => return Err(ipc_core::Error::system("receive")(error).into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{END, MAX_FRAME, prefix};
    use ipc_core::{Directory, Existing, FileName};
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    /// What a peer makes of these bytes from a server that closes the connection behind them.
    fn receive(size: Option<u64>, wire: &[u8]) -> Result<Vec<u8>, Error> {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        let name = FileName::new(b"final").unwrap();
        let header = FileHeader { name: name.clone(), size, mode: 0o644, modified: (0, 0) };
        let wire = [&header.encode(), wire].concat();
        let (mut server, peer) = UnixStream::pair().unwrap();
        let sending = std::thread::spawn(move || {
            // A peer that refuses what it gets hangs up.
            let _ = server.write_all(&wire);
        });
        let received = SocketConnection::new(peer.into()).and_then(|connection| {
            let hidden = FileName::new(b".hidden")?;
            let header = FileHeader { size: None, ..connection.header().clone() };
            let mut file = ReceivedFile::create(&directory, &header, hidden)?;
            connection.receive(&mut file)?;
            file.finish()?;
            file.commit(&name, Existing::Keep)?;
            Ok(std::fs::read(root.path().join("final")).unwrap())
        });
        sending.join().unwrap();
        received
    }

    fn frames(contents: &[u8], length: usize) -> Vec<u8> {
        let frame = |data: &[u8]| [&prefix(data.len() as u64), data].concat();
        contents.chunks(length).flat_map(frame).chain(END).collect()
    }

    fn contents(length: usize) -> Vec<u8> {
        (0..=250_u8).cycle().take(length).collect()
    }

    #[test]
    fn a_file_arrives_whole_in_frames_of_any_length() {
        for length in [0, 1, STORE - 1, STORE, STORE + 1, 3 * STORE + 5] {
            let contents = contents(length);
            for frame in [1000, STORE - 1, STORE, STORE + 1, usize::MAX] {
                for size in [None, Some(length as u64)] {
                    let received = receive(size, &frames(&contents, frame)).unwrap();
                    assert!(received == contents, "{length} bytes in frames of {frame}");
                }
            }
        }
    }

    #[test]
    fn frames_of_one_byte_are_put_together() {
        let contents = contents(5000);
        assert_eq!(receive(None, &frames(&contents, 1)).unwrap(), contents);
    }

    #[test]
    fn a_connection_that_closes_before_the_end_is_a_server_that_is_gone() {
        let whole = frames(&contents(5000), 1000);
        for length in [0, 1, 8, 9, 1008, whole.len() - 8, whole.len() - 1] {
            let error = receive(None, &whole[..length]).unwrap_err();
            assert!(matches!(error, Error::Core(ipc_core::Error::ServerGone)), "{length}: {error}");
        }
    }

    #[test]
    fn lies_are_refused() {
        let long = receive(None, &prefix(MAX_FRAME + 1)).unwrap_err();
        assert!(matches!(long, Error::FrameTooLong { .. }), "{long}");
        for size in [999, 1001] {
            let wrong = receive(Some(size), &frames(&contents(1000), 300)).unwrap_err();
            assert!(matches!(wrong, Error::WrongSize { .. }), "{wrong}");
        }
    }
}
