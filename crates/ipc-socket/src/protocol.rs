//! What travels through the socket, apart from how it is sent: frames and their lengths.
//!
//! The header before them is [`FileHeader`], which other ways share.

use ipc_core::FileHeader;
use ipc_core::io::at_most;

use crate::Error;

/// Length of a frame's length, in bytes.
pub(crate) const PREFIX: usize = 8;

/// The longest frame, in bytes: what the kernel moves with one call at most, so that a frame of
/// any length can be one call.
pub(crate) const MAX_FRAME: u64 = 0x7fff_f000;

/// The frame that ends a file.
pub(crate) const END: [u8; PREFIX] = [0; PREFIX];

/// What stands before a frame of `length` bytes.
pub(crate) fn prefix(length: u64) -> [u8; PREFIX] {
    length.to_le_bytes()
}

/// The receiver's view of the frames: checks each length before a byte of it is believed.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Size of the file by its header, in bytes; `None` if only the end will tell.
    announced: Option<u64>,
    /// Bytes in all frames so far.
    received: u64,
}

impl Frames {
    pub(crate) fn new(announced: Option<u64>) -> Self {
        Self { announced, received: 0 }
    }

    /// Length of the frame that `prefix` begins, in bytes; 0 is the end of the file.
    ///
    /// # Errors
    /// [`Error::FrameTooLong`], and [`Error::TooMuch`] for more than was announced. Less is for the
    /// server to judge: files in `/sys` have a page as their size, whatever they hold.
    pub(crate) fn next(&mut self, prefix: [u8; PREFIX]) -> Result<u64, Error> {
        let length = u64::from_le_bytes(prefix);
        if length > MAX_FRAME {
            return Err(Error::FrameTooLong { length, limit: MAX_FRAME });
        }
        self.received = self.received.saturating_add(length);
        let received = self.received;
        match self.announced {
            Some(announced) if received > announced => Err(Error::TooMuch { received, announced }),
            _ => Ok(length),
        }
    }
}

/// The sender's place in the wire of a file of known length, whose bytes somebody else supplies.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// What goes before the next bytes of the source: the header at first, then frames' lengths.
    head: Vec<u8>,
    /// Bytes of `head` that are sent.
    head_sent: usize,
    /// Bytes of the source's data that are sent.
    position: u64,
    /// Bytes of the current frame that are not sent.
    frame_left: u64,
    /// Length of its data, in bytes.
    length: u64,
    /// Whether the end frame is in `head`.
    ended: bool,
}

/// What is to be sent next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'c> {
    /// These bytes.
    Bytes(&'c [u8]),
    /// As many bytes of the source's data, from `position` on.
    Source { position: u64, length: usize },
    /// Nothing: everything is sent.
    Nothing,
}

impl Cursor {
    pub(crate) fn new(header: &FileHeader, length: u64) -> Self {
        let head = header.encode().to_vec();
        let mut cursor =
            Self { head, head_sent: 0, position: 0, frame_left: 0, length, ended: false };
        cursor.begin_frame();
        cursor
    }

    pub(crate) fn next(&self) -> Piece<'_> {
        match &self.head[self.head_sent..] {
            [] if self.frame_left > 0 => {
                let length = at_most(self.frame_left, usize::MAX);
                Piece::Source { position: self.position, length }
            }
            [] => Piece::Nothing,
            head => Piece::Bytes(head),
        }
    }

    /// Moves on by `bytes` of what [`Cursor::next`] gave.
    pub(crate) fn advance(&mut self, bytes: usize) {
        if self.head_sent < self.head.len() {
            self.head_sent += bytes;
            return;
        }
        self.position += bytes as u64;
        self.frame_left -= bytes as u64;
        if self.frame_left == 0 && !self.ended {
            self.head.clear();
            self.head_sent = 0;
            self.begin_frame();
        }
    }

    /// Appends the next frame's length to the head; the last one is 0.
    fn begin_frame(&mut self) {
        self.frame_left = (self.length - self.position).min(MAX_FRAME);
        self.head.extend_from_slice(&prefix(self.frame_left));
        self.ended = self.frame_left == 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a receiver makes of frames of these lengths and the end after them.
    fn read(announced: Option<u64>, lengths: &[u64]) -> Result<u64, Error> {
        let mut frames = Frames::new(announced);
        for &length in lengths {
            assert_eq!(frames.next(prefix(length))?, length);
        }
        frames.next(END)?;
        Ok(frames.received)
    }

    #[test]
    fn lies_about_lengths_are_refused() {
        for (announced, lengths, about) in [
            (None, &[MAX_FRAME + 1][..], "2147479553 bytes, 2147479552 are allowed"),
            (None, &[u64::MAX], "18446744073709551615 bytes"),
            (Some(10), &[11], "11 bytes of a file that was announced with 10"),
            (Some(10), &[4, 7], "11 bytes of a file that was announced with 10"),
        ] {
            let error = read(announced, lengths).unwrap_err().to_string();
            assert!(error.contains(about), "{about}: {error}");
        }
    }

    #[test]
    fn less_than_announced_is_for_the_server_to_judge() {
        assert_eq!(read(Some(4096), &[5]).unwrap(), 5);
    }

    #[test]
    fn the_longest_frame_is_accepted() {
        assert_eq!(read(None, &[MAX_FRAME, 1]).unwrap(), MAX_FRAME + 1);
    }

    /// The lengths in the prefixes of what a cursor sends, `step` bytes at most at once.
    fn frames_of(length: u64, step: usize) -> Vec<u64> {
        let name = ipc_core::FileName::new(b"data").unwrap();
        let header = FileHeader::new(name, Some(length), 0, (0, 0)).unwrap();
        let mut cursor = Cursor::new(&header, length);
        let (mut head, mut position) = (Vec::new(), 0);
        loop {
            let sent = match cursor.next() {
                Piece::Bytes(bytes) => {
                    let bytes = &bytes[..bytes.len().min(step)];
                    head.extend_from_slice(bytes);
                    bytes.len()
                }
                Piece::Source { position: next, length } => {
                    assert_eq!(next, position);
                    position += length.min(step) as u64;
                    length.min(step)
                }
                Piece::Nothing => break,
            };
            cursor.advance(sent);
        }
        assert_eq!(position, length);
        let (start, prefixes) = head.split_at(FileHeader::ENCODED_LENGTH);
        assert_eq!(start, header.encode());
        prefixes.chunks(PREFIX).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect()
    }

    #[test]
    fn a_long_file_is_cut_into_the_longest_frames() {
        for (length, frames) in [
            (1, vec![1, 0]),
            (MAX_FRAME, vec![MAX_FRAME, 0]),
            (2 * MAX_FRAME + 1, vec![MAX_FRAME, MAX_FRAME, 1, 0]),
        ] {
            assert_eq!(frames_of(length, usize::MAX), frames);
        }
        assert_eq!(frames_of(3, 1), [3, 0]);
        assert_eq!(frames_of(1 << 33, 1 << 20).iter().sum::<u64>(), 1 << 33);
    }

    proptest! {
        #[test]
        fn every_split_of_a_file_is_read_whole(
            lengths in proptest::collection::vec(1..=MAX_FRAME, 0..20),
            is_announced: bool,
        ) {
            let total = lengths.iter().sum();
            prop_assert_eq!(read(is_announced.then_some(total), &lengths).unwrap(), total);
        }

        #[test]
        fn rubbish_never_panics_nor_exceeds_what_is_allowed(
            prefixes: Vec<[u8; PREFIX]>,
            announced: Option<u64>,
        ) {
            let mut frames = Frames::new(announced);
            for prefix in prefixes {
                match frames.next(prefix) {
                    Ok(length) => prop_assert!(length <= announced.unwrap_or(MAX_FRAME).min(MAX_FRAME)),
                    Err(_) => break,
                }
            }
        }
    }
}
