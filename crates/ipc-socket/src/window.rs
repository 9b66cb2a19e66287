//! The bounded window of the source's bytes that all connections share: read once, sent to each.
//!
//! It holds what travels, ready to be sent: the header, and behind it every frame with its length.
//! So sending is one thing only (the next bytes from here on), and a connection's state is nothing
//! but its [`Position`].

use std::collections::VecDeque;

use ipc_core::io::at_most;

use crate::protocol::{END, MAX_FRAME, PREFIX, prefix};

/// The part of the stream that some reader still has to get, in chunks of a fixed size.
///
/// Chunks are numbered from 0 for the whole run. A chunk is appended to until it is closed, and its
/// buffer is used again once all readers are past it.
#[derive(Debug)]
pub(crate) struct Window {
    /// The chunks in use, oldest first; none but the last is open.
    chunks: VecDeque<Chunk>,
    /// Number of the oldest of them, or of the next one if there is none.
    first: u64,
    /// Buffers that wait for their next use; the last one is the warmest in the cache.
    spare: Vec<Box<[u8]>>,
    /// Most chunks in use at once, at least 1.
    limit: usize,
    /// Length of every buffer, in bytes.
    capacity: usize,
    /// Most data in one frame, in bytes.
    frame: usize,
    /// Readers that have not left.
    readers: usize,
    /// Whether the end frame is in it.
    ended: bool,
}

#[derive(Debug)]
struct Chunk {
    buffer: Box<[u8]>,
    /// Bytes of the buffer that are filled.
    length: usize,
    /// Whether nothing will be appended any more.
    is_closed: bool,
    /// Readers that are not past it.
    readers: usize,
}

/// How far a reader has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    /// Number of a chunk: one in the window, or the one that comes next.
    chunk: u64,
    /// Bytes of it that the reader has, less than it will ever hold.
    offset: usize,
}

/// The least length of the longest frame, in bytes.
const LEAST_FRAME: usize = 4096;

/// A chunk that has room for less than this part of the longest frame is closed: a tiny frame at
/// its end would cost every peer a system call.
const WORTHWHILE: usize = 8;

impl Window {
    /// A window for `readers` that all begin with `header`: at most `limit` chunks, each with room
    /// for a frame of `frame` bytes; but one chunk at least, and frames of a page.
    pub(crate) fn new(header: &[u8], frame: usize, limit: usize, readers: usize) -> Self {
        // Behind its last frame every chunk keeps room for the end.
        let frame = at_most(MAX_FRAME, frame.max(LEAST_FRAME));
        let capacity = header.len() + PREFIX + frame + END.len();
        let mut window = Self {
            chunks: VecDeque::new(),
            first: 0,
            spare: Vec::new(),
            limit: limit.max(1),
            capacity,
            frame,
            readers,
            ended: false,
        };
        window.add_chunk().append(header);
        window
    }

    /// Whether [`Window::room`] has any.
    pub(crate) fn has_room(&self) -> bool {
        let is_open = self.chunks.back().is_some_and(|chunk| !chunk.is_closed);
        !self.ended && (is_open || self.chunks.len() < self.limit)
    }

    /// Whether more of the stream could be read if all readers were further.
    pub(crate) fn is_full(&self) -> bool {
        !self.ended && !self.has_room()
    }

    /// Readers that have not left.
    pub(crate) fn readers(&self) -> usize {
        self.readers
    }

    /// Where the next frame's data belongs; empty if there is no room before a reader moves on.
    ///
    /// What is written here is not part of the stream before [`Window::commit`].
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if !self.has_room() {
            return &mut [];
        }
        if self.chunks.back().is_none_or(|chunk| chunk.is_closed) {
            self.add_chunk();
        }
        let frame = self.frame;
        let room = self.last_chunk().room();
        let length = room.len().min(frame);
        &mut room[..length]
    }

    /// Makes the first `bytes` of the room a frame, and lets the stream end there if it `ends`.
    pub(crate) fn commit(&mut self, bytes: usize, ends: bool) {
        let worthwhile = self.frame / WORTHWHILE;
        let chunk = self.last_chunk();
        assert!(!chunk.is_closed && bytes <= chunk.room().len(), "there is room for it");
        if bytes > 0 {
            chunk.append(&prefix(bytes as u64));
            chunk.length += bytes;
        }
        if ends {
            chunk.append(&END);
        }
        chunk.is_closed = ends || chunk.room().len() < worthwhile;
        self.ended = ends;
        self.release();
    }

    /// The bytes at `position` that lie in one piece; empty if the reader has all there are so far.
    pub(crate) fn at(&self, position: Position) -> &[u8] {
        match self.chunks.get(self.index(position.chunk)) {
            Some(chunk) => &chunk.buffer[position.offset..chunk.length],
            None => &[],
        }
    }

    /// Moves a reader on by `bytes` of those at its position.
    pub(crate) fn advance(&mut self, position: &mut Position, bytes: usize) {
        position.offset += bytes;
        let index = self.index(position.chunk);
        let chunk = &mut self.chunks[index];
        assert!(position.offset <= chunk.length, "no reader has more than there is");
        if chunk.is_closed && position.offset == chunk.length {
            chunk.readers -= 1;
            *position = Position { chunk: position.chunk + 1, offset: 0 };
            self.release();
        }
    }

    /// Whether a reader at `position` has everything, the end included.
    pub(crate) fn is_finished(&self, position: Position) -> bool {
        self.ended && self.index(position.chunk) == self.chunks.len()
    }

    /// Takes a reader away that will not move on from `position`.
    pub(crate) fn leave(&mut self, position: Position) {
        self.readers -= 1;
        let passed = self.index(position.chunk);
        for chunk in self.chunks.iter_mut().skip(passed) {
            chunk.readers -= 1;
        }
        self.release();
    }

    fn add_chunk(&mut self) -> &mut Chunk {
        let buffer = self.spare.pop().unwrap_or_else(|| vec![0; self.capacity].into_boxed_slice());
        let readers = self.readers;
        self.chunks.push_back(Chunk { buffer, length: 0, is_closed: false, readers });
        self.last_chunk()
    }

    /// The chunk that is appended to.
    fn last_chunk(&mut self) -> &mut Chunk {
        self.chunks.back_mut().expect("there is a chunk where there is room")
    }

    /// Gives back the buffers that no reader needs any more.
    fn release(&mut self) {
        let is_done = |chunk: &mut Chunk| chunk.is_closed && chunk.readers == 0;
        while let Some(chunk) = self.chunks.pop_front_if(is_done) {
            self.first += 1;
            self.spare.push(chunk.buffer);
        }
    }

    /// Where a reader's chunk is among those in use; behind them if it comes next.
    fn index(&self, number: u64) -> usize {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        index.filter(|&index| index <= self.chunks.len()).expect("what a reader needs is kept")
    }
}

impl Chunk {
    /// Appends what is known to fit.
    fn append(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.buffer[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }

    /// The place of the next frame's data: behind its length, before the end of the file.
    fn room(&mut self) -> &mut [u8] {
        let end = self.buffer.len() - END.len();
        let start = (self.length + PREFIX).min(end);
        &mut self.buffer[start..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: &[u8] = b"header";

    /// Fills `bytes` of the window's room with `value`, and says how many there was room for.
    fn append(window: &mut Window, value: u8, bytes: usize, ends: bool) -> usize {
        let room = window.room();
        let bytes = bytes.min(room.len());
        room[..bytes].fill(value);
        window.commit(bytes, ends);
        bytes
    }

    /// A reader takes `bytes` of what there is.
    fn take(window: &mut Window, position: &mut Position, bytes: usize) -> Vec<u8> {
        let there = window.at(*position);
        let taken = there[..bytes.min(there.len())].to_vec();
        if !taken.is_empty() {
            window.advance(position, taken.len());
        }
        taken
    }

    #[test]
    fn a_stream_is_the_header_then_frames_then_the_end() {
        let mut window = Window::new(HEADER, 0, 1, 1);
        append(&mut window, b'a', 2, false);
        append(&mut window, 0, 0, false);
        append(&mut window, b'b', 1, true);
        let expected = b"header\x02\0\0\0\0\0\0\0aa\x01\0\0\0\0\0\0\0b\0\0\0\0\0\0\0\0";
        assert_eq!(window.at(Position::default()), expected);
        assert!(!window.has_room());
        assert!(window.room().is_empty());
    }

    #[test]
    fn there_is_always_room_for_a_whole_frame_and_the_end() {
        let mut window = Window::new(HEADER, 10_000, 2, 1);
        for _ in 0..2 {
            assert_eq!(append(&mut window, 1, usize::MAX, false), 10_000);
        }
        assert!(!window.has_room());
        let mut position = Position::default();
        while !take(&mut window, &mut position, 777).is_empty() {}
        append(&mut window, 1, 0, true);
        assert_eq!(take(&mut window, &mut position, 777), END);
        assert!(window.is_finished(position));
    }

    #[test]
    fn the_slowest_reader_holds_the_window_until_it_leaves() {
        let mut window = Window::new(HEADER, LEAST_FRAME, 2, 2);
        let (mut fast, slow) = (Position::default(), Position::default());
        for _ in 0..2 {
            append(&mut window, 1, usize::MAX, false);
            take(&mut window, &mut fast, usize::MAX);
        }
        assert!(!window.has_room());
        window.leave(slow);
        assert!(window.has_room());
        append(&mut window, 2, 1, true);
        take(&mut window, &mut fast, usize::MAX);
        assert!(window.is_finished(fast));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Append(usize),
        Take(usize, usize),
        Leave(usize),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..12_000_usize).prop_map(Step::Append),
            8 => (0..4_usize, 0..20_000_usize).prop_map(|(who, bytes)| Step::Take(who, bytes)),
            1 => (0..4_usize).prop_map(Step::Leave),
        ]
    }

    proptest! {
        #[test]
        fn every_reader_that_stays_gets_the_same_stream_in_bounded_memory(
            steps in proptest::collection::vec(any_step(), 0..200),
            frame in 0..10_000_usize,
            limit in 0..4_usize,
        ) {
            let mut window = Window::new(HEADER, frame, limit, 4);
            let mut readers = [const { Some((Position { chunk: 0, offset: 0 }, Vec::new())) }; 4];
            let mut stream = HEADER.to_vec();
            let mut value = 0;
            for step in steps {
                match step {
                    Step::Append(bytes) if window.has_room() => {
                        value += 1;
                        let bytes = append(&mut window, value, bytes, false);
                        if bytes > 0 {
                            stream.extend(prefix(bytes as u64));
                            stream.extend(vec![value; bytes]);
                        }
                    }
                    Step::Append(_) => {}
                    Step::Take(who, bytes) => if let Some((position, got)) = &mut readers[who] {
                        got.extend(take(&mut window, position, bytes));
                    },
                    Step::Leave(who) => if let Some((position, _)) = readers[who].take() {
                        window.leave(position);
                    },
                }
                prop_assert!(window.chunks.len() + window.spare.len() <= limit.max(1));
            }
            for (position, got) in readers.iter_mut().flatten() {
                while !window.at(*position).is_empty() {
                    got.extend(take(&mut window, position, usize::MAX));
                }
            }
            prop_assert!(window.has_room(), "nobody holds it");
            append(&mut window, 0, 0, true);
            stream.extend(END);
            for (position, got) in readers.iter_mut().flatten() {
                got.extend(take(&mut window, position, usize::MAX));
                prop_assert_eq!(&*got, &stream);
                prop_assert!(window.is_finished(*position));
            }
        }
    }
}
