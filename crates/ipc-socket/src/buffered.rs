//! The way for every source: read once into the window, sent to each connection from there.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use ipc_core::io::{now, wait_ready};
use ipc_core::{Digest, PeerId, Source, SourceReader};
use rustix::event::PollFlags;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::feed::Sent;
use crate::window::{Position, Window};
use crate::{Error, Options};

/// The source on its way to all connections, through the server's memory.
#[derive(Debug)]
pub(crate) struct Buffered<'s> {
    source: &'s Source,
    reader: SourceReader<'s>,
    window: Window,
    /// Where each reader stands, by the peers' numbers; `None` for those that have left.
    positions: Vec<Option<Position>>,
    /// Whether reading can mean waiting for somebody who writes.
    is_stream: bool,
    /// When which reader got everything that was read so far, in this order, by [`now`].
    satisfied: Vec<(PeerId, Duration)>,
}

impl<'s> Buffered<'s> {
    /// A feed for `readers` readers, which all start with the header.
    pub(crate) fn new(source: &'s Source, options: Options, readers: usize) -> Self {
        Self {
            source,
            reader: source.reader(),
            window: Window::new(
                &source.header().encode(),
                options.chunk_bytes,
                options.chunks,
                readers,
            ),
            positions: vec![Some(Position::default()); readers],
            is_stream: source.header().size().is_none(),
            satisfied: Vec::new(),
        }
    }

    /// Lets `epoll` report under `token` that a stream has something to read again.
    ///
    /// Edge-triggered: [`Buffered::can_read`] asks for the state, the event only ends a sleep.
    pub(crate) fn watch(&self, epoll: BorrowedFd<'_>, token: u64) -> Result<(), Error> {
        if !self.is_stream {
            return Ok(());
        }
        let flags = EventFlags::IN | EventFlags::ET;
        match epoll::add(epoll, self.source, EventData::new_u64(token), flags) {
            // A device that never lets its reader wait.
            Ok(()) | Err(Errno::PERM) => Ok(()),
            Err(errno) => Err(ipc_core::Error::system("watch the source")(errno).into()),
        }
    }

    /// Whether [`Buffered::read`] would get somewhere now.
    pub(crate) fn can_read(&self) -> Result<bool, Error> {
        if !self.window.has_room() {
            return Ok(false);
        }
        if !self.is_stream {
            return Ok(true);
        }
        wait_ready(self.source, PollFlags::IN, Some(Duration::ZERO))
            .map_err(|error| ipc_core::Error::at("read", self.source.path())(error).into())
    }

    /// Reads the next piece of the source into the window; its length, and what it comes to if
    /// that is wanted, once it has ended there.
    pub(crate) fn read(&mut self) -> Result<Option<(u64, Option<Digest>)>, Error> {
        let bytes = self.reader.fill(self.window.room(), || false)?;
        let ended = self.reader.at_end();
        self.window.commit(bytes, ended);
        self.satisfied.clear();
        Ok(ended.then(|| (self.reader.position(), self.reader.digest())))
    }

    /// Who holds the others up, by keeping the window full, and since when at least half of the
    /// readers wait for it.
    pub(crate) fn held_up(&self) -> Option<(PeerId, Duration)> {
        let last = self.window.readers().div_ceil(2).checked_sub(1)?;
        let (_, since) = self.satisfied.get(last).filter(|_| self.window.is_full())?;
        let readers = (0..).map(PeerId).zip(&self.positions);
        let (slowest, _) = readers.filter(|(_, at)| at.is_some()).min_by_key(|(_, at)| **at)?;
        Some((slowest, *since))
    }

    /// Sends the reader on as much as `socket` takes.
    pub(crate) fn send(&mut self, reader: PeerId, socket: &OwnedFd) -> rustix::io::Result<Sent> {
        let position = self.positions[reader.index()].as_mut().expect("it has not left");
        let mut has_sent = false;
        loop {
            let bytes = self.window.at(*position);
            if bytes.is_empty() {
                if has_sent {
                    self.satisfied.push((reader, now()));
                }
                let finished = self.window.is_finished(*position);
                return Ok(if finished { Sent::Everything } else { Sent::AllSoFar });
            }
            match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.window.advance(position, sent);
                    has_sent = true;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Sent::UntilFull),
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Waits no longer for a reader.
    pub(crate) fn leave(&mut self, reader: PeerId) {
        if let Some(position) = self.positions[reader.index()].take() {
            self.window.leave(position);
            self.satisfied.retain(|&(satisfied, _)| satisfied != reader);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_core::FileName;
    use std::io::Write;

    fn feed(source: &Source) -> Buffered<'_> {
        let options = Options { chunk_bytes: 4096, chunks: 1, ..Options::default() };
        Buffered::new(source, options, 1)
    }

    #[test]
    fn a_stream_is_read_only_as_far_as_it_goes_without_waiting() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let source = Source::from_fd(reader.into(), FileName::new(b"stdin").unwrap()).unwrap();
        let mut feed = feed(&source);
        assert!(!feed.can_read().unwrap());
        writer.write_all(b"some").unwrap();
        assert!(feed.can_read().unwrap());
        assert_eq!(feed.read().unwrap(), None);
        assert!(!feed.can_read().unwrap());
        drop(writer);
        assert!(feed.can_read().unwrap());
        assert_eq!(feed.read().unwrap(), Some((4, None)));
        assert!(!feed.can_read().unwrap());
    }

    #[test]
    fn a_file_is_read_until_the_window_is_full() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[1; 5000]).unwrap();
        let source = Source::open(file.path()).unwrap();
        let mut feed = feed(&source);
        assert_eq!(feed.read().unwrap(), None);
        assert!(!feed.can_read().unwrap());
        feed.leave(PeerId(0));
        assert!(feed.can_read().unwrap());
        assert_eq!(feed.read().unwrap(), Some((5000, None)));
    }
}
