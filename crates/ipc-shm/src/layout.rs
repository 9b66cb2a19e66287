//! Where everything lies in the segment. Pure arithmetic: no memory is touched here.
//!
//! ```text
//! offset 0          server page    the file header, the sequence number, whom the server waits for
//!        4096       block lengths  4 bytes for each block of the ring
//!        then       detached       4 bytes for each peer: not 0 once the server waits for it no more
//!        next page  peer pages     one for each peer: its number of reads, times of its own
//!        next page  ring           the blocks' bytes, one block right behind the other
//! ```
//!
//! Each peer's words have a page of their own because a page is what the kernel protects: a peer
//! may write its own page and only read all else, so it can lie about itself but not about another.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;

use ipc_core::{FileHeader, PeerCount};

/// Size of a block in bytes, from 1 to [`BlockSize::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSize(NonZeroU32);

/// Number of blocks in the ring, from 1 to [`BlockCount::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockCount(NonZeroU32);

macro_rules! bounded_number {
    ($name:ident, $max:expr, $default:expr, $unit:literal) => {
        impl $name {
            #[doc = concat!("The greatest, in ", $unit, ".")]
            pub const MAX: u32 = $max;

            /// `None` if `number` is out of range.
            #[must_use]
            pub fn new(number: u32) -> Option<Self> {
                NonZeroU32::new(number).filter(|number| number.get() <= Self::MAX).map(Self)
            }

            #[doc = concat!("The number of ", $unit, ".")]
            #[must_use]
            pub const fn get(self) -> u32 {
                self.0.get()
            }
        }

        impl Default for $name {
            fn default() -> Self {
                const DEFAULT: NonZeroU32 = NonZeroU32::new($default).unwrap();
                Self(DEFAULT)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

bounded_number!(BlockSize, 1 << 30, 80 * 1024, "bytes");
bounded_number!(BlockCount, 1 << 16, 32, "blocks");

/// Size of a page. Where the machine's are larger, several share one, and promises that rest on
/// their protection would not hold; `Segment::create` refuses that.
pub(crate) const PAGE: u64 = 4096;

/// Distance between words that are written often, so that none shares a cache line with another, in
/// bytes. Processors fetch lines of 64 bytes in pairs.
const CACHE_LINES: u64 = 128;

/// Where the words of a peer page are, in bytes from its start.
const NUMBER_OF_READS: u64 = 0;
const IDLE_SINCE: u64 = CACHE_LINES;
const POSTED_AT: u64 = IDLE_SINCE + 8;

const _: () = {
    assert!(Layout::SEQUENCE_NUMBER == 384);
    assert!(Layout::AWAITED == 512);
    assert!(Layout::AWAITED + 8 <= PAGE);
    assert!(POSTED_AT + 8 <= PAGE);
};

/// The offsets of one segment, in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) peers: u32,
    pub(crate) block_count: u32,
    pub(crate) block_size: u32,
}

impl Layout {
    /// The source, as [`FileHeader::encode`] has it. Written once, before the first fork.
    pub(crate) const FILE_HEADER: Range<u64> = 0..FileHeader::ENCODED_LENGTH as u64;

    /// How many blocks have been published; from 0, modulo 2^32. Peers sleep on it.
    pub(crate) const SEQUENCE_NUMBER: u64 = Self::FILE_HEADER.end.next_multiple_of(CACHE_LINES);

    /// The peer that the server sleeps for, and until which number of reads; 0 is nobody.
    pub(crate) const AWAITED: u64 = Self::SEQUENCE_NUMBER + CACHE_LINES;

    /// The layout for a file of `size` bytes, if known: a small one has fewer and smaller blocks than it
    /// may have.
    pub(crate) fn new(
        peers: PeerCount,
        blocks: BlockCount,
        block_size: BlockSize,
        size: Option<u64>,
    ) -> Self {
        let (mut block_size, mut block_count) = (block_size.get(), blocks.get());
        if let Some(size) = size {
            block_size = lesser(size.max(1), block_size);
            block_count = lesser(useful_blocks(size, block_size.into()), block_count);
        }
        Self { peers: peers.get(), block_count, block_size }
    }

    /// How many bytes a block holds.
    pub(crate) fn block_length(&self, slot: u32) -> u64 {
        assert!(slot < self.block_count, "there is no block {slot}");
        PAGE + u64::from(slot) * 4
    }

    /// Whether the server no longer waits for a peer.
    pub(crate) fn detached(&self, peer: u32) -> u64 {
        self.check(peer);
        self.end_of_block_lengths() + u64::from(peer) * 4
    }

    /// What only this peer writes.
    pub(crate) fn peer_page(&self, peer: u32) -> Range<u64> {
        self.check(peer);
        let start = self.first_peer_page() + u64::from(peer) * PAGE;
        start..start + PAGE
    }

    /// How many blocks a peer has stored; from 0, modulo 2^32.
    pub(crate) fn number_of_reads(&self, peer: u32) -> u64 {
        self.peer_page(peer).start + NUMBER_OF_READS
    }

    /// Since when a peer has had nothing to do but sleep on the sequence number, in nanoseconds of
    /// the monotonic clock; 0 while it has.
    pub(crate) fn idle_since(&self, peer: u32) -> u64 {
        self.peer_page(peer).start + IDLE_SINCE
    }

    /// When a peer last ended a sleep of the server, by the same clock; 0 if never.
    pub(crate) fn posted_at(&self, peer: u32) -> u64 {
        self.peer_page(peer).start + POSTED_AT
    }

    /// The bytes of all blocks.
    pub(crate) fn ring(&self) -> Range<u64> {
        let start = self.first_peer_page() + u64::from(self.peers) * PAGE;
        start..start + u64::from(self.block_count) * u64::from(self.block_size)
    }

    /// `length` bytes of the ring, from the start of a block on.
    pub(crate) fn blocks(&self, first: u32, length: u64) -> Range<u64> {
        let ring = self.ring();
        let start = ring.start + u64::from(first) * u64::from(self.block_size);
        assert!(start + length <= ring.end, "{length} bytes from block {first} on leave the ring");
        start..start + length
    }

    /// Size of the whole segment.
    pub(crate) fn size(&self) -> u64 {
        pages(self.ring().end)
    }

    fn end_of_block_lengths(&self) -> u64 {
        PAGE + u64::from(self.block_count) * 4
    }

    fn first_peer_page(&self) -> u64 {
        pages(self.end_of_block_lengths() + u64::from(self.peers) * 4)
    }

    fn check(&self, peer: u32) {
        assert!(peer < self.peers, "there is no peer {peer}");
    }
}

/// The lesser of both.
fn lesser(one: u64, other: u32) -> u32 {
    u32::try_from(one).map_or(other, |one| one.min(other))
}

/// Blocks beyond which a ring for a file of `size` bytes costs more time than it saves.
///
/// No file needs more than its own blocks and one that ends it. A ring shorter than 2.5 MiB slows the
/// copying by 2% to 20%; a longer one costs 5 microseconds for each page, which must be made and mapped.
/// The two break even where the file is about 32 times as long as the ring.
fn useful_blocks(size: u64, block_size: u64) -> u64 {
    let needed = size.div_ceil(block_size).saturating_add(1);
    let worthwhile = (size / FILE_PER_RING).max(SHORT_RING).div_ceil(block_size);
    needed.min(worthwhile)
}

/// How many times as long as its ring a file is, at least.
const FILE_PER_RING: u64 = 32;

/// Length of a ring that is worth its cost for any file that fills it, in bytes.
const SHORT_RING: u64 = 640 * 1024;

/// `offset`, rounded up to a page.
fn pages(offset: u64) -> u64 {
    offset.next_multiple_of(PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(peers: u32, blocks: u32, block_size: u32, size: Option<u64>) -> Layout {
        Layout::new(
            PeerCount::new(peers).unwrap(),
            BlockCount::new(blocks).unwrap(),
            BlockSize::new(block_size).unwrap(),
            size,
        )
    }

    #[test]
    fn the_default_ring_is_32_blocks_of_80_kib() {
        assert_eq!(BlockCount::default().get(), 32);
        assert_eq!(BlockSize::default().get(), 81_920);
    }

    #[test]
    fn a_small_file_has_a_small_ring() {
        for (size, blocks) in [(0, 1), (1, 2), (10, 2), (11, 3), (310, 32), (1 << 40, 32)] {
            assert_eq!(layout(1, 32, 10, Some(size)).block_count, blocks, "{size}");
        }
        assert_eq!(layout(1, 32, 10, None).block_count, 32);
    }

    #[test]
    fn a_ring_is_as_long_as_it_is_worth() {
        let default = |mib: u64| layout(1, 32, 80 << 10, Some(mib << 20)).block_count;
        assert_eq!([1, 8, 20, 40, 80, 1000].map(default), [8, 8, 8, 16, 32, 32]);
        assert_eq!(layout(1, 4, 80 << 10, Some(1 << 40)).block_count, 4);
        assert_eq!(layout(1, 1000, 4096, Some(1 << 20)).block_count, 160);
    }

    #[test]
    fn a_block_is_no_larger_than_the_file() {
        for (size, block_size) in
            [(0, 1), (1, 1), (4096, 4096), (81_921, 81_920), (1 << 40, 81_920)]
        {
            assert_eq!(layout(1, 32, 81_920, Some(size)).block_size, block_size, "{size}");
        }
    }

    #[test]
    fn the_segment_of_the_default_ring_and_five_peers() {
        let layout = layout(5, 32, 81_920, None);
        assert_eq!(layout.block_length(31), 4096 + 124);
        assert_eq!(layout.detached(4), 4096 + 128 + 16);
        assert_eq!(layout.peer_page(0), 2 * 4096..3 * 4096);
        assert_eq!(layout.ring().start, 7 * 4096);
        assert_eq!(layout.size(), 7 * 4096 + 32 * 81_920);
    }

    proptest! {
        #[test]
        fn nothing_overlaps_and_nothing_overflows(
            peers in 1..=PeerCount::MAX,
            blocks in 1..=BlockCount::MAX,
            block_size in 1..=BlockSize::MAX,
        ) {
            let layout = layout(peers, blocks, block_size, None);
            prop_assert!(Layout::AWAITED + 8 <= layout.block_length(0));
            prop_assert!(layout.block_length(blocks - 1) + 4 <= layout.detached(0));
            prop_assert!(layout.detached(peers - 1) + 4 <= layout.peer_page(0).start);
            prop_assert_eq!(layout.peer_page(0).start % PAGE, 0);
            prop_assert_eq!(layout.ring().start, layout.peer_page(peers - 1).end);
            let whole = u64::from(blocks) * u64::from(block_size);
            prop_assert_eq!(layout.blocks(0, whole), layout.ring());
            prop_assert_eq!(layout.blocks(blocks - 1, block_size.into()).end, layout.ring().end);
            prop_assert!(layout.ring().end <= layout.size());
        }
    }
}
