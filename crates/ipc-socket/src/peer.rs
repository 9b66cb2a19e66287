//! The peer's side: joins the server, and stores what arrives in large pieces.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;

use ipc_core::io::{at_most, complete, retry};
use ipc_core::{Connection, FileHeader, Received, ReceivedFile};
use rustix::event::PollFlags;
use rustix::net::RecvFlags;
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

use crate::Error;
use crate::endpoint::Endpoint;
use crate::protocol::{Frames, PREFIX};

/// A peer's connection to the server, of which the header has been read.
#[derive(Debug)]
pub struct SocketConnection {
    socket: OwnedFd,
    header: FileHeader,
}

/// Bytes that are put together from short frames and stored with one write: less is much slower on file
/// systems that take large writes as large folios. (Half of what is best, as it is memory of each peer.)
const STORE: usize = 256 * 1024;

/// Bytes that a pipe is asked to hold, as many as are best stored with one call, and the least that is
/// worth having one.
const PIPE: usize = 512 * 1024;
const LEAST_PIPE: usize = 64 * 1024;

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

    fn receive(self, file: &mut ReceivedFile<'_>) -> Result<Received, Error> {
        let mut frames = Frames::new(self.header.size());
        let mut memory = Memory { buffer: vec![0; STORE + PREFIX], filled: 0 };
        let mut pipe = Pipe::new();
        let mut prefix = [0; PREFIX];
        receive_exactly(&self.socket, &mut prefix)?;
        // Bytes of the frame that have not arrived.
        let mut left = frames.next(prefix)?;
        while left > 0 {
            match &pipe {
                Some(direct) if left >= STORE as u64 => {
                    memory.store(file)?;
                    match direct.pass_on(&self.socket, left, file)? {
                        Some(bytes) => left -= bytes,
                        None => pipe = None,
                    }
                    if left == 0 {
                        receive_exactly(&self.socket, &mut prefix)?;
                        left = frames.next(prefix)?;
                    }
                }
                _ => {
                    let next = memory.receive(&self.socket, &mut left)?;
                    if let Some(prefix) = next {
                        left = frames.next(prefix)?;
                    }
                    if memory.is_full() {
                        memory.store(file)?;
                    }
                }
            }
        }
        memory.store(file)?;
        Ok(Received::Everything)
    }
}

/// The way of short frames, which are put together: through memory.
struct Memory {
    buffer: Vec<u8>,
    filled: usize,
}

impl Memory {
    /// Receives `left` bytes of a frame, as far as there is room, and with its last byte the next
    /// frame's prefix: the next data replaces that, so data of all frames comes to lie in one piece.
    fn receive(&mut self, socket: &OwnedFd, left: &mut u64) -> Result<Option<[u8; PREFIX]>, Error> {
        let data = at_most(*left, STORE - self.filled);
        *left -= data as u64;
        let is_last = *left == 0;
        let length = data + if is_last { PREFIX } else { 0 };
        let piece = &mut self.buffer[self.filled..self.filled + length];
        receive_exactly(socket, piece)?;
        self.filled += data;
        Ok(is_last.then(|| *piece.last_chunk().expect("it ends with a prefix")))
    }

    fn is_full(&self) -> bool {
        self.filled == STORE
    }

    fn store(&mut self, file: &mut ReceivedFile<'_>) -> Result<(), Error> {
        file.write_all(&self.buffer[..self.filled])?;
        self.filled = 0;
        Ok(())
    }
}

/// The way of long frames: from the socket's queue into the file, by reference as far as a pipe can
/// hold them.
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    capacity: usize,
}

impl Pipe {
    /// `None` if there is none that is worth it.
    fn new() -> Option<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).ok()?;
        // Unprivileged users may have only so many large pipes, and then get very small ones.
        let capacity = fcntl_setpipe_size(&writer, PIPE).or_else(|_| fcntl_getpipe_size(&writer));
        let capacity = capacity.ok().filter(|&capacity| capacity >= LEAST_PIPE)?;
        Some(Self { reader, writer, capacity })
    }

    /// Stores some bytes of a frame, `left` at most; `None` if the kernel does not take this way. Then none has
    /// been received, and receiving them otherwise succeeds, or tells what is wrong with the connection.
    fn pass_on(
        &self,
        socket: &OwnedFd,
        left: u64,
        file: &mut ReceivedFile<'_>,
    ) -> Result<Option<u64>, Error> {
        let most = at_most(left, self.capacity).min(file.piece());
        let moved = retry(socket, PollFlags::IN, || {
            splice(socket, None, &self.writer, None, most, SpliceFlags::MOVE)
        });
        match moved {
            Ok(0) => Err(ipc_core::Error::ServerGone.into()),
            Ok(bytes) => {
                file.splice_all(&self.reader, bytes)?;
                Ok(Some(bytes as u64))
            }
            Err(_) => Ok(None),
        }
    }
}

/// Fills `buffer`, waiting as long as the server holds its end.
fn receive_exactly(socket: &OwnedFd, buffer: &mut [u8]) -> Result<(), Error> {
    let received = complete(buffer.len(), |done| {
        let (bytes, _) = retry(socket, PollFlags::IN, || {
            rustix::net::recv(socket, &mut buffer[done..], RecvFlags::WAITALL)
        })?;
        Ok(bytes)
    });
    match received.map_err(receive_failed)? == buffer.len() {
        true => Ok(()),
        false => Err(ipc_core::Error::ServerGone.into()),
    }
}

fn receive_failed(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::ConnectionReset => ipc_core::Error::ServerGone.into(),
        _ => ipc_core::Error::system("receive")(error).into(),
    }
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
        let header = FileHeader::new(name.clone(), size, 0o644, (0, 0)).unwrap();
        let wire = [&header.encode(), wire].concat();
        let (mut server, peer) = UnixStream::pair().unwrap();
        let sending = std::thread::spawn(move || {
            // A peer that refuses what it gets hangs up.
            let _ = server.write_all(&wire);
        });
        let received = SocketConnection::new(peer.into()).and_then(|connection| {
            let hidden = FileName::new(b".hidden")?;
            let name_of_source = connection.header().name().clone();
            let header = FileHeader::new(name_of_source, None, 0o644, (0, 0))?;
            let mut file = ReceivedFile::create(&directory, &header, hidden)?;
            connection.receive(&mut file)?;
            file.finish()?.commit(&name, Existing::Keep)?;
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
        let more = receive(Some(999), &frames(&contents(1000), 300)).unwrap_err();
        assert!(matches!(more, Error::TooMuch { .. }), "{more}");
    }
}
