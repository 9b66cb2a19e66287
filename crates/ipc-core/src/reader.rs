//! Reading a source from its start to its end, whatever it is.

use std::ops::Range;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::PollFlags;

use crate::digest::Hasher;
use crate::io::{SLICE, at_most, wait_ready};
use crate::memory::{Room, SharedBytes};
use crate::{DataMap, Digest, Error, Run, Source};

/// Reads the data of a [`Source`] in order, in pieces of the caller's size.
#[derive(Debug)]
pub struct SourceReader<'s> {
    source: &'s Source,
    map: &'s DataMap,
    /// Bytes of data read so far.
    position: u64,
    ended: bool,
    hasher: Option<Hasher>,
    /// Bytes of the file that are in the digest, holes included.
    hashed: u64,
}

impl<'s> SourceReader<'s> {
    /// A reader of the data that `map` names, from `position` on. One that begins at the start makes a digest
    /// if the source is to be verified.
    pub(crate) fn new(source: &'s Source, map: &'s DataMap, position: u64) -> Self {
        let hasher = (source.is_verified() && position == 0).then(Hasher::default);
        Self { source, map, position, ended: false, hasher, hashed: 0 }
    }

    /// Fills `buffer`; less than its length only at the source's end or when told to stop.
    ///
    /// Before it waits for a stream that has nothing to read, a [`SLICE`] at most, it asks
    /// `keep_waiting`; once that says no, what has been read so far is returned.
    ///
    /// # Errors
    /// [`Error::SourceChanged`] where the change shows by the size, [`Error::Path`] if reading fails.
    pub fn fill(
        &mut self,
        buffer: &mut [u8],
        keep_waiting: impl FnMut() -> bool,
    ) -> Result<usize, Error> {
        self.fill_room(buffer, keep_waiting)
    }

    /// Fills memory that other processes share, as [`SourceReader::fill`] does a buffer.
    ///
    /// # Errors
    /// As [`SourceReader::fill`].
    pub fn fill_shared(
        &mut self,
        bytes: SharedBytes<'_>,
        keep_waiting: impl FnMut() -> bool,
    ) -> Result<usize, Error> {
        self.fill_room(bytes, keep_waiting)
    }

    fn fill_room(
        &mut self,
        room: impl Room,
        keep_waiting: impl FnMut() -> bool,
    ) -> Result<usize, Error> {
        let bytes = match self.map.length() {
            _ if self.ended => 0,
            Some(length) => self.fill_from_file(room, length)?,
            None => self.fill_from_stream(room, keep_waiting)?,
        };
        if self.ended
            && let Some(size) = self.source.header().size()
        {
            self.hash_hole(size);
        }
        Ok(bytes)
    }

    /// Adds what was read at `offset` to the digest, and the hole before it.
    fn hash(&mut self, offset: u64, room: &impl Room, part: Range<usize>) {
        self.hash_hole(offset);
        if let Some(hasher) = &mut self.hasher {
            self.hashed += part.len() as u64;
            room.hash(part, hasher);
        }
    }

    /// Adds the hole that ends at `end` to the digest.
    fn hash_hole(&mut self, end: u64) {
        if let Some(hasher) = &mut self.hasher {
            hasher.update_with_zeros(end.saturating_sub(self.hashed));
            self.hashed = end;
        }
    }

    /// What all that it has read comes to, at the source's end, if that was asked for
    /// ([`Source::with_digest`]).
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.hasher.as_ref().filter(|_| self.ended).map(Hasher::digest)
    }

    /// Whether the source is known to have been read to its end.
    #[must_use]
    pub fn at_end(&self) -> bool {
        self.ended
    }

    /// Bytes of data read so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// `pread` to the size at open and no further, so that a file that grows has an end.
    fn fill_from_file(&mut self, mut room: impl Room, length: u64) -> Result<usize, Error> {
        let mut filled = 0;
        while let Some(Run { offset, length }) = self.map.find(self.position)
            && filled < room.size()
        {
            let wanted = at_most(length, room.size() - filled);
            let bytes = room
                .read_at(filled..filled + wanted, self.source.as_fd(), offset)
                .map_err(Error::at("read", self.source.path()))?;
            if bytes < wanted {
                // `read_at` returns less only at the end: it was shortened, whatever its times say.
                return Err(Error::SourceChanged(self.source.path().to_owned()));
            }
            self.position += bytes as u64;
            self.hash(offset, &room, filled..filled + bytes);
            filled += bytes;
        }
        self.ended |= self.position >= length;
        Ok(filled)
    }

    fn fill_from_stream(
        &mut self,
        mut room: impl Room,
        mut keep_waiting: impl FnMut() -> bool,
    ) -> Result<usize, Error> {
        let fd = self.source.as_fd();
        let failed = || Error::at("read", self.source.path());
        let mut filled = 0;
        while filled < room.size() {
            if !wait_ready(fd, PollFlags::IN, Some(Duration::ZERO)).map_err(failed())? {
                if !keep_waiting() {
                    break;
                }
                wait_ready(fd, PollFlags::IN, Some(SLICE)).map_err(failed())?;
                continue;
            }
            match room.read(filled, fd).map_err(failed())? {
                0 => {
                    self.ended = true;
                    break;
                }
                bytes => {
                    self.hash(self.position, &room, filled..filled + bytes);
                    self.position += bytes as u64;
                    filled += bytes;
                }
            }
            // A file that grows as fast as it is read would never end.
            if self.source.opened_size().is_some_and(|size| self.position > size) {
                self.source.check_unchanged()?;
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileName;
    use std::io::Write;

    fn read_all(source: &Source, piece: usize) -> Result<Vec<u8>, Error> {
        let mut reader = source.reader();
        let mut all = Vec::new();
        let mut buffer = vec![0; piece];
        while !reader.at_end() {
            let bytes = reader.fill(&mut buffer, || true)?;
            all.extend_from_slice(&buffer[..bytes]);
        }
        Ok(all)
    }

    #[test]
    fn a_file_is_read_whole_in_any_piece() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let contents: Vec<u8> = (0..=255).collect();
        file.write_all(&contents).unwrap();
        let source = Source::open(file.path()).unwrap();
        assert_eq!(source.header().size(), Some(256));
        for piece in [1, 7, 255, 256, 257] {
            assert_eq!(read_all(&source, piece).unwrap(), contents, "{piece}");
        }
    }

    #[test]
    fn a_truncated_file_ends_in_an_error_and_not_in_zeros() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[1; 1000]).unwrap();
        let source = Source::open(file.path()).unwrap();
        file.as_file().set_len(500).unwrap();
        assert!(matches!(read_all(&source, 64), Err(Error::SourceChanged(_))));
    }

    #[test]
    fn holes_are_not_read_and_yet_in_the_digest() {
        use std::os::unix::fs::FileExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(3 << 20).unwrap();
        file.as_file().write_all_at(&[1; 5000], 1 << 20).unwrap();
        let whole = std::fs::read(file.path()).unwrap();
        let source = Source::open(file.path()).unwrap().with_digest();
        for piece in [1000, 4096, 1 << 20] {
            let mut reader = source.reader();
            let mut buffer = vec![0; piece];
            while !reader.at_end() {
                reader.fill(&mut buffer, || true).unwrap();
            }
            assert!(reader.position() < 1 << 20);
            assert_eq!(reader.digest().unwrap().as_bytes(), blake3::hash(&whole).as_bytes());
        }
        assert_eq!(read_all(&source.with_holes_as_data(), 1 << 20).unwrap(), whole);
    }

    #[test]
    fn what_was_a_hole_is_read_when_all_is_read_again() {
        use std::os::unix::fs::FileExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(3 << 20).unwrap();
        let source = Source::open(file.path()).unwrap().with_digest();
        let digest = |mut reader: SourceReader<'_>| {
            let mut buffer = vec![0; 1 << 20];
            while !reader.at_end() {
                reader.fill(&mut buffer, || true).unwrap();
            }
            reader.digest()
        };
        assert_eq!(digest(source.reader()), digest(source.reader_of_holes_too()));
        file.as_file().write_all_at(&[1], 1 << 20).unwrap();
        assert_ne!(digest(source.reader()), digest(source.reader_of_holes_too()));
    }

    #[test]
    fn an_empty_file_that_is_being_filled_is_noticed() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let source = Source::open(file.path()).unwrap();
        file.write_all(b"late").unwrap();
        assert!(matches!(read_all(&source, 64), Err(Error::SourceChanged(_))));
    }

    #[test]
    fn a_stream_without_data_asks_whether_to_go_on() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let source = Source::from_fd(reader, FileName::new(b"stdin").unwrap()).unwrap();
        let mut asked = 0;
        let mut reader = source.reader();
        let bytes = reader.fill(&mut [0; 10], || {
            asked += 1;
            asked < 2
        });
        assert_eq!((bytes.unwrap(), asked, reader.at_end()), (0, 2, false));
    }
}
