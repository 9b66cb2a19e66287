//! Entry points for `fuzz/`, built by cargo-fuzz only: the other side writes rubbish, and does so
//! whenever a word is looked at.

use std::cell::Cell;
use std::time::Duration;

use ipc_core::{FileHeader, FileName, OnSlow, Patience};

use crate::layout::Layout;
use crate::ring::{Consumer, ImpossibleReads, Producer, Ready, Shared, truncated};
use crate::segment::Segment;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// A peer reads a segment whose server writes rubbish.
///
/// `data` is the shape ([`layout`]), in whose first byte the two highest bits are this peer's number,
/// and a [`Script`]. Whatever blocks the peer gets lie in the ring, one behind the other; it writes to
/// no page but its own.
pub fn segment(data: &[u8]) {
    let Some((shape, script)) = data.split_first_chunk() else { return };
    let layout = layout(*shape);
    let me = u32::from(shape[0] >> 6) % layout.peers;
    let shared = Scribbled::new(layout, Writer::Peer(me), script);
    let size = layout.block_size as usize;
    let mut ring = Producer::new(&shared, layout.peers, layout.block_count, layout.block_size);
    let all = ring.reserve(layout.block_count);
    let bytes = shared.segment.free_bytes(&all);
    bytes.copy_from(&(0..bytes.len()).map(pattern).collect::<Vec<_>>());
    for block in 0..layout.block_count {
        shared.segment.block_length(block).store(layout.block_size, Ordering::Relaxed);
    }

    let mut peer = Consumer::new(&shared, me, layout.block_count, layout.block_size);
    let (mut reads, mut reads_since_all_was_written) = (0, 0);
    loop {
        let all_is_written = !shared.script.has_more();
        match peer.ready() {
            Ok(Ready::Blocks(blocks)) => {
                let (first, length) = blocks.bytes();
                assert_eq!(first, reads % layout.block_count, "after {reads} blocks");
                let place = first as usize * size;
                // It panics if they leave the ring.
                let ready = shared.segment.ready_bytes(&blocks);
                assert_eq!(ready.len(), length);
                let mut copy = vec![0; length];
                ready.copy_to(&mut copy);
                assert!(copy.into_iter().zip(place..).all(|(byte, place)| byte == pattern(place)));
                // All but the last are full.
                let count = u32::try_from(length.div_ceil(size)).expect("there are few blocks");
                reads += count;
                reads_since_all_was_written += if all_is_written { count } else { 0 };
                assert!(reads_since_all_was_written <= layout.block_count, "more than are there");
                let _ = blocks.release();
                assert_eq!(shared.reads(me), reads);
            }
            Ok(Ready::Nothing) if shared.script.has_more() => peer.sleep(),
            Ok(Ready::Nothing | Ready::End | Ready::Detached) | Err(_) => break,
        }
    }
    let mut others = (0..layout.peers).filter(|&peer| peer != me);
    assert!(others.all(|peer| shared.reads(peer) == 0), "another peer's page is written");
}

/// A server fills a ring in which peers write rubbish: all of them, or all but the first.
///
/// `data` is the shape ([`layout`]), in whose first byte the highest bit says that the first peer lies
/// too, and a [`Script`], which also says what the server does. It fills none but blocks of the ring,
/// and none that an honest peer has not read; that peer is never accused.
pub fn lying_peers(data: &[u8]) {
    let Some((shape, script)) = data.split_first_chunk() else { return };
    let layout = layout(*shape);
    let honest = (shape[0] < 0x80).then_some(0);
    let shared = Scribbled { honest, ..Scribbled::new(layout, Writer::Server, script) };
    let script = &shared.script;
    let size = layout.block_size as usize;
    let mut ring = Producer::new(&shared, layout.peers, layout.block_count, layout.block_size);
    ring.watch();
    let mut patience = Patience::new(OnSlow::Detach, Duration::ZERO);
    let (mut published, mut reads, mut ended) = (0, 0, false);
    while script.has_more() && !ended {
        let [wanted, read, bytes0, bytes1, flags] = script.take();
        reads = published.min(reads + u32::from(read));
        if let Some(honest) = honest {
            shared.segment.number_of_reads(honest).store(reads, Ordering::Relaxed);
        }
        let wanted = u32::from(wanted) % layout.block_count + 1;
        let has_room = ring.wait_for_room(wanted).unwrap_or_else(|ImpossibleReads { peer }| {
            assert_ne!(Some(peer), honest, "an honest peer is accused");
            ring.leave_out(peer);
            false
        });
        if let Some(delay) = ring.take_delay() {
            assert!(delay.peer < layout.peers);
            let (from, to) = (Duration::from_nanos(delay.from), Duration::from_nanos(delay.to));
            if patience.ends(from, to) && Some(delay.peer) != honest {
                ring.detach(delay.peer);
            }
        }
        let blocks = ring.reserve(wanted);
        let (first, count) = blocks.slots();
        assert!(count > 0 || !has_room, "there is room, but not for a block");
        assert!(count <= wanted && first + count <= layout.block_count);
        let overwritten = (published + count).saturating_sub(layout.block_count);
        assert!(honest.is_none() || overwritten <= reads, "an unread block is filled");
        let free = shared.segment.free_bytes(&blocks);
        assert_eq!(free.len(), count as usize * size);
        free.copy_from(&vec![flags; free.len()]);
        let bytes = usize::from(u16::from_le_bytes([bytes0, bytes1])).min(free.len());
        ended = blocks.publish(bytes, flags & 1 != 0);
        let filled = u32::try_from(bytes.div_ceil(size)).expect("there are few blocks");
        published += filled + u32::from(ended);
        let overwritten = published.saturating_sub(layout.block_count);
        assert!(honest.is_none() || overwritten <= reads, "an unread block is published anew");
    }
}

/// The shape of a segment: blocks less one (4 bits), peers less one (2 bits), the size of a block less
/// one (1 byte).
fn layout([counts, size]: [u8; 2]) -> Layout {
    Layout {
        peers: u32::from(counts >> 4 & 3) + 1,
        block_count: u32::from(counts & 15) + 1,
        block_size: u32::from(size) + 1,
    }
}

/// The byte that the ring has at a place.
fn pattern(place: usize) -> u8 {
    u8::try_from(place % 251).expect("it is less than 251")
}

/// What is still to be done, a byte or several for each step; zeros once all is done.
struct Script<'s>(Cell<&'s [u8]>);

impl Script<'_> {
    fn has_more(&self) -> bool {
        !self.0.get().is_empty()
    }

    fn take<const N: usize>(&self) -> [u8; N] {
        let (taken, rest) = self.0.get().split_at(N.min(self.0.get().len()));
        self.0.set(rest);
        let mut bytes = [0; N];
        bytes.iter_mut().zip(taken).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// What becomes of a word that is `old`: mostly it stays, or it grows a little, or it is anything.
    fn rewrite(&self, old: u64) -> u64 {
        let [step] = self.take();
        match step & 7 {
            0..=3 => old,
            4 => old.wrapping_add(u64::from(step >> 3) + 1),
            5 => u64::from_le_bytes(self.take()),
            6 => u64::from(self.take::<1>()[0]) + 1,
            _ => 0,
        }
    }
}

/// Who writes a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Writer {
    Server,
    Peer(u32),
}

/// A segment in which each word of the other side may be another one whenever it is looked at.
struct Scribbled<'s> {
    segment: Segment,
    /// Who looks, and so writes its own words as it should.
    me: Writer,
    /// Another peer that does.
    honest: Option<u32>,
    script: Script<'s>,
    clock: Cell<u64>,
}

impl<'s> Scribbled<'s> {
    fn new(layout: Layout, me: Writer, script: &'s [u8]) -> Self {
        let name = FileName::new(b"data.bin").expect("it is a name");
        let header = FileHeader::new(name, None, 0o644, (1, 2)).expect("it is a header");
        let segment = Segment::create(layout, &header).expect("/dev/shm has room");
        let script = Script(Cell::new(script));
        Self { segment, me, honest: None, script, clock: Cell::new(0) }
    }

    fn lies(&self, writer: Writer) -> bool {
        writer != self.me && Some(writer) != self.honest.map(Writer::Peer)
    }

    fn look<'w>(&self, word: &'w AtomicU32, writer: Writer) -> &'w AtomicU32 {
        if self.lies(writer) {
            let rewritten = self.script.rewrite(word.load(Ordering::Relaxed).into());
            word.store(truncated(rewritten), Ordering::Relaxed);
        }
        word
    }

    fn look_long<'w>(&self, word: &'w AtomicU64, writer: Writer) -> &'w AtomicU64 {
        if self.lies(writer) {
            word.store(self.script.rewrite(word.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
        word
    }

    /// A peer's number of reads, as it is.
    fn reads(&self, peer: u32) -> u32 {
        self.segment.number_of_reads(peer).load(Ordering::Relaxed)
    }
}

impl Shared for &Scribbled<'_> {
    fn sequence_number(&self) -> &AtomicU32 {
        self.look(self.segment.sequence_number(), Writer::Server)
    }

    fn awaited(&self) -> &AtomicU64 {
        self.look_long(self.segment.awaited(), Writer::Server)
    }

    fn block_length(&self, slot: u32) -> &AtomicU32 {
        self.look(self.segment.block_length(slot), Writer::Server)
    }

    fn number_of_reads(&self, peer: u32) -> &AtomicU32 {
        self.look(self.segment.number_of_reads(peer), Writer::Peer(peer))
    }

    fn idle_since(&self, peer: u32) -> &AtomicU64 {
        self.look_long(self.segment.idle_since(peer), Writer::Peer(peer))
    }

    fn posted_at(&self, peer: u32) -> &AtomicU64 {
        self.look_long(self.segment.posted_at(peer), Writer::Peer(peer))
    }

    fn detached(&self, peer: u32) -> Option<&AtomicU32> {
        Some(self.look(self.segment.detached(peer), Writer::Server))
    }

    /// A millisecond later with each look.
    fn now(&self) -> u64 {
        self.clock.set(self.clock.get() + 1_000_000);
        self.clock.get()
    }

    fn longest_sleep(&self) -> u64 {
        15_000_000
    }

    fn sleep_while(&self, _: u32) {}
    fn wake_sleepers(&self) {}
    fn sleep_until_post(&self) {}
    fn post(&self) {}
}
