//! The ring: who may touch which block when, and who sleeps and wakes whom. No bytes pass here.
//!
//! The server *reserves* free blocks, fills them and *publishes* them by raising the sequence
//! number; a peer takes all *ready* blocks, stores them and *releases* them by raising its number
//! of reads. A block is free once every live peer's number of reads is past it. A block of length
//! 0 ends the file.
//!
//! All numbers that are shared have 32 bits and wrap; each side keeps its own in 64 bits and takes
//! from the other's only the distance, which is never more than the ring is long.
//!
//! Sleeping takes two looks, so that no wake-up is lost: the sleeper says that it sleeps, then looks
//! once more; the waker makes its news known, then looks for sleepers. Whichever is second sees the
//! other (`fence(SeqCst)` between both steps on both sides).
//!
//! A peer that holds the others up can be *detached*: the server says so and fills its blocks anew
//! at once. What the peer stores just then is worth nothing, so it asks after each time it has stored
//! something, as the reader of a sequence lock does.

use std::num::NonZeroU64;

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// The words that server and peers share, and the two ways of sleeping on them.
///
/// A peer has all words but its own in memory that is mapped for reading only. There it must neither
/// store nor load with any ordering but Relaxed (see [`core::sync::atomic`]).
///
/// Behind a trait so that loom can run the same ring on its own memory.
pub(crate) trait Shared {
    /// How many blocks are published. Written by the server.
    fn sequence_number(&self) -> &AtomicU32;
    /// Whom the server sleeps for ([`Awaited`]). Written by the server.
    fn awaited(&self) -> &AtomicU64;
    /// Bytes in a published block. Written by the server.
    fn block_length(&self, slot: u32) -> &AtomicU32;
    /// How many blocks a peer has stored. Written by this peer.
    fn number_of_reads(&self, peer: u32) -> &AtomicU32;
    /// Since when a peer has had nothing to do ([`Shared::now`]); 0 while it has. Written by this peer.
    fn idle_since(&self, peer: u32) -> &AtomicU64;
    /// When a peer last ended a sleep of the server ([`Shared::now`]). Written by this peer.
    fn posted_at(&self, peer: u32) -> &AtomicU64;
    /// Whether the server no longer waits for a peer; 0 is no. Written by the server. `None` where it
    /// waits for everybody.
    fn detached(&self, peer: u32) -> Option<&AtomicU32>;

    /// The time, in nanoseconds by a clock that all share; never 0.
    fn now(&self) -> u64;

    /// Peer: sleeps while the sequence number is `seen`, for a slice of time at most.
    fn sleep_while(&self, seen: u32);
    /// Server: wakes all who sleep so.
    fn wake_sleepers(&self);
    /// Server: sleeps until somebody posts, for [`Shared::longest_sleep`] at most.
    fn sleep_until_post(&self);
    /// How long that is, in nanoseconds.
    fn longest_sleep(&self) -> u64;
    /// Peer: wakes the server.
    fn post(&self);
}

/// The server's end of the ring.
#[derive(Debug)]
pub(crate) struct Producer<S> {
    shared: S,
    block_count: u32,
    block_size: u32,
    /// Blocks published so far.
    published: u64,
    /// Blocks that each peer has stored, as last seen; `None` for those who are left out.
    reads: Vec<Option<u64>>,
    /// Peers that have been detached since blocks were published last, and may sleep.
    just_detached: Vec<u32>,
    /// Whether delays are measured.
    watches: bool,
    /// How long the last sleep was one peer's fault.
    delay: Option<Delay>,
}

/// A time in which at least half of the peers had nothing to do because of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Delay {
    /// Whose fault it was.
    pub(crate) peer: u32,
    /// Its begin and end, by [`Shared::now`].
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// A peer said that it has stored blocks that were not published yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImpossibleReads {
    pub(crate) peer: u32,
}

impl<S: Shared> Producer<S> {
    /// The producer of a ring that nothing has been published in.
    pub(crate) fn new(shared: S, peers: u32, block_count: u32, block_size: u32) -> Self {
        let reads = (0..peers).map(|_| Some(0)).collect();
        Self {
            shared,
            block_count,
            block_size,
            published: 0,
            reads,
            just_detached: Vec::new(),
            watches: false,
            delay: None,
        }
    }

    /// No longer waits for `peer`.
    pub(crate) fn leave_out(&mut self, peer: u32) {
        self.reads[peer as usize] = None;
    }

    /// No longer waits for `peer`, which lives on: it learns that its blocks are not its own any more.
    pub(crate) fn detach(&mut self, peer: u32) {
        let detached = self.shared.detached(peer).expect("the server can detach peers");
        detached.store(1, Ordering::Relaxed);
        // Pairs with the fences in `ReadyBlocks::release` and `Consumer::ready`: whoever stored a byte of
        // a block that is filled anew after this, or took its length, sees the store before it.
        fence(Ordering::SeqCst);
        self.leave_out(peer);
        self.just_detached.push(peer);
    }

    /// Wakes who was detached since blocks were published last, as no more will be: nobody is left whom
    /// the server waits for.
    pub(crate) fn wake_detached(&mut self) {
        if std::mem::take(&mut self.just_detached).is_empty() {
            return;
        }
        // A number that nobody sleeps on. Who looks at it is detached, and believes no number.
        let unreached = truncated(self.published + 1);
        self.shared.sequence_number().store(unreached, Ordering::Release);
        self.shared.wake_sleepers();
    }

    /// Measures from now on how long one peer holds the others up.
    #[cfg_attr(loom, allow(dead_code, reason = "the models judge nobody"))]
    pub(crate) fn watch(&mut self) {
        self.watches = true;
    }

    /// What the last wait for room was delayed by, told once.
    #[cfg_attr(loom, allow(dead_code, reason = "the models judge nobody"))]
    pub(crate) fn take_delay(&mut self) -> Option<Delay> {
        self.delay.take()
    }

    /// The peers that are not left out.
    pub(crate) fn live(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.reads).filter_map(|(peer, reads)| reads.and(Some(peer)))
    }

    /// Whether `blocks` blocks are free; if not, sleeps until they might be, for a while at most.
    ///
    /// It sleeps for the slowest peer only, which alone wakes it, and only once it has read enough.
    pub(crate) fn wait_for_room(&mut self, blocks: u32) -> Result<bool, ImpossibleReads> {
        let needed = self.reads_needed(blocks);
        loop {
            let Some((peer, reads)) = self.slowest()? else { return Ok(true) };
            if reads >= needed {
                return Ok(true);
            }
            let awaited = Awaited { peer, reads: truncated(needed) };
            self.shared.awaited().store(awaited.encode().get(), Ordering::Relaxed);
            // Pairs with the fence in `ReadyBlocks::release`.
            fence(Ordering::SeqCst);
            // If this peer has read enough meanwhile, it wakes nobody; another may be the slowest.
            let sleeps = self.look_at(peer)?.is_some_and(|reads| reads < needed);
            let begin = (sleeps && self.watches).then(|| self.shared.now());
            if sleeps {
                self.shared.sleep_until_post();
            }
            self.shared.awaited().store(0, Ordering::Relaxed);
            if sleeps {
                let has_come = self.look_at(peer)?.is_none_or(|reads| reads >= needed);
                self.delay = begin.and_then(|begin| self.delay_since(begin, peer, has_come));
                return Ok(self.slowest()?.is_none_or(|(_, reads)| reads >= needed));
            }
        }
    }

    /// The peers without which `blocks` blocks were free when they were looked at last.
    pub(crate) fn holding_up(&self, blocks: u32) -> impl Iterator<Item = u32> {
        let needed = self.reads_needed(blocks);
        let reads = (0..).zip(&self.reads);
        reads.filter_map(move |(peer, reads)| reads.filter(|&reads| reads < needed).and(Some(peer)))
    }

    /// How many blocks everybody must have read for `blocks` blocks to be free.
    fn reads_needed(&self, blocks: u32) -> u64 {
        (self.published + u64::from(blocks)).saturating_sub(self.block_count.into())
    }

    /// Takes free blocks that lie side by side, `most` at most, to be filled and published.
    ///
    /// None may be free; ask [`Producer::wait_for_room`] first.
    pub(crate) fn reserve(&mut self, most: u32) -> FreeBlocks<'_, S> {
        let first = slot(self.published, self.block_count);
        let count = self.known_room().min(most).min(self.block_count - first);
        FreeBlocks { producer: self, first, count }
    }

    /// The live peer that has read least, and how much, after a look at all of them.
    fn slowest(&mut self) -> Result<Option<(u32, u64)>, ImpossibleReads> {
        for peer in 0..truncated(self.reads.len() as u64) {
            self.look_at(peer)?;
        }
        Ok(self.slowest_known())
    }

    /// How many blocks `peer` has read, unless it is left out.
    fn look_at(&mut self, peer: u32) -> Result<Option<u64>, ImpossibleReads> {
        let Some(known) = &mut self.reads[peer as usize] else { return Ok(None) };
        // Pairs with the store in `ReadyBlocks::release`: what this peer has read of a block
        // happens before the block is filled anew.
        let now = self.shared.number_of_reads(peer).load(Ordering::Acquire);
        let reads = *known + u64::from(now.wrapping_sub(truncated(*known)));
        if reads > self.published {
            return Err(ImpossibleReads { peer });
        }
        *known = reads;
        Ok(Some(reads))
    }

    /// How long at least half of the peers have had nothing to do while the server slept for `peer`,
    /// from `begin` on, until this one `has_come`.
    fn delay_since(&self, begin: u64, peer: u32, has_come: bool) -> Option<Delay> {
        // If not, it was the server that slept on, for want of a processor.
        let to = self.shared.now().min(begin.saturating_add(self.shared.longest_sleep()));
        let to =
            if has_come { to.min(self.shared.posted_at(peer).load(Ordering::Relaxed)) } else { to };
        let all = truncated(self.published);
        let has_all =
            |&peer: &u32| self.shared.number_of_reads(peer).load(Ordering::Relaxed) == all;
        let since = |peer| self.shared.idle_since(peer).load(Ordering::Relaxed);
        let others = self.live().filter(|&other| other != peer);
        let mut idle: Vec<u64> =
            others.filter(has_all).map(since).filter(|&since| since != 0).collect();
        let half = self.live().count().div_ceil(2);
        let last = half.checked_sub(1).filter(|&last| last < idle.len())?;
        let (_, &mut since, _) = idle.select_nth_unstable(last);
        let from = since.max(begin);
        (from < to).then_some(Delay { peer, from, to })
    }

    fn slowest_known(&self) -> Option<(u32, u64)> {
        let reads = (0..).zip(&self.reads);
        reads.filter_map(|(peer, reads)| Some((peer, (*reads)?))).min_by_key(|&(_, reads)| reads)
    }

    /// Free blocks, as far as known.
    fn known_room(&self) -> u32 {
        let behind = self.slowest_known().map_or(0, |(_, reads)| self.published - reads);
        self.block_count - truncated(behind)
    }
}

/// Blocks that only the server may touch, until they are published.
#[derive(Debug)]
pub(crate) struct FreeBlocks<'p, S> {
    producer: &'p mut Producer<S>,
    first: u32,
    count: u32,
}

impl<S: Shared> FreeBlocks<'_, S> {
    /// The first block's place in the ring, and how many there are.
    pub(crate) fn slots(&self) -> (u32, u32) {
        (self.first, self.count)
    }

    /// Publishes the blocks that the first `bytes` bytes fill, and behind them, if the file `ends`
    /// here and a block is free for it, the one of length 0. Says whether it was.
    pub(crate) fn publish(self, bytes: usize, ends: bool) -> bool {
        let Self { producer, first, count } = self;
        let size = producer.block_size as usize;
        let blocks = truncated(bytes.div_ceil(size) as u64);
        assert!(blocks <= count, "{bytes} bytes are more than {count} blocks hold");
        let ended = ends && blocks < producer.known_room();
        let mut left = bytes;
        for block in 0..blocks {
            let length = left.min(size);
            left -= length;
            // Relaxed: published by the sequence number.
            producer
                .shared
                .block_length(first + block)
                .store(truncated(length as u64), Ordering::Relaxed);
        }
        if ended {
            let end = slot(producer.published + u64::from(blocks), producer.block_count);
            producer.shared.block_length(end).store(0, Ordering::Relaxed);
        }
        producer.published += u64::from(blocks) + u64::from(ended);
        // Pairs with the load in `Consumer::ready`: the blocks' bytes and lengths happen before.
        producer.shared.sequence_number().store(truncated(producer.published), Ordering::Release);
        // Pairs with the fence in `Consumer::sleep`.
        fence(Ordering::SeqCst);
        let is_idle = |peer| producer.shared.idle_since(peer).load(Ordering::Relaxed) != 0;
        let detached = std::mem::take(&mut producer.just_detached);
        if producer.live().chain(detached).any(is_idle) {
            producer.shared.wake_sleepers();
        }
        ended
    }
}

/// A peer's end of the ring.
#[derive(Debug)]
pub(crate) struct Consumer<S> {
    shared: S,
    peer: u32,
    block_count: u32,
    block_size: u32,
    /// Blocks stored so far.
    reads: u64,
    /// Whether it says that it has nothing to do.
    is_idle: bool,
}

/// What a peer finds when it looks.
#[derive(Debug)]
pub(crate) enum Ready<'c, S> {
    /// Nothing new.
    Nothing,
    /// The end of the file.
    End,
    /// The server waits for this peer no more: nothing in the ring is for it.
    Detached,
    /// Blocks to be stored and released.
    Blocks(ReadyBlocks<'c, S>),
}

/// The segment holds numbers that no server writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ImpossibleNumbers;

impl<S: Shared> Consumer<S> {
    /// The consumer of a peer that has read nothing yet.
    pub(crate) fn new(shared: S, peer: u32, block_count: u32, block_size: u32) -> Self {
        Self { shared, peer, block_count, block_size, reads: 0, is_idle: false }
    }

    /// Looks for published blocks: as many as lie side by side, all full but perhaps the last.
    pub(crate) fn ready(&mut self) -> Result<Ready<'_, S>, ImpossibleNumbers> {
        // Relaxed and a fence, as a peer's mapping is for reading only, where no load is allowed to be
        // an Acquire one. Pairs with the store in `FreeBlocks::publish`.
        let published = self.shared.sequence_number().load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let behind = published.wrapping_sub(truncated(self.reads));
        // Before the distance is judged: a detached peer may be any number of blocks behind.
        if self.is_detached() {
            return Ok(Ready::Detached);
        }
        if behind > self.block_count {
            return Err(ImpossibleNumbers);
        }
        let first = slot(self.reads, self.block_count);
        let (mut count, mut bytes) = (0, 0);
        while count < behind.min(self.block_count - first) {
            let length = self.shared.block_length(first + count).load(Ordering::Relaxed);
            match length {
                0 if count == 0 => {
                    // Pairs with the fence in `Producer::detach`: the length of a block that was filled
                    // anew since the last look is none of this peer's.
                    fence(Ordering::SeqCst);
                    return Ok(if self.is_detached() { Ready::Detached } else { Ready::End });
                }
                0 => break,
                _ if length > self.block_size => return Err(ImpossibleNumbers),
                _ => {}
            }
            count += 1;
            bytes += length as usize;
            if length < self.block_size {
                break;
            }
        }
        if count == 0 {
            return Ok(Ready::Nothing);
        }
        if std::mem::take(&mut self.is_idle) {
            self.shared.idle_since(self.peer).store(0, Ordering::Relaxed);
        }
        Ok(Ready::Blocks(ReadyBlocks { consumer: self, first, count, bytes }))
    }

    /// Sleeps until the server publishes something, a slice at most.
    pub(crate) fn sleep(&mut self) {
        // It has been idle since the first of several sleeps without a block between them.
        if !std::mem::replace(&mut self.is_idle, true) {
            self.shared.idle_since(self.peer).store(self.shared.now(), Ordering::Relaxed);
        }
        // Pairs with the fence in `FreeBlocks::publish`.
        fence(Ordering::SeqCst);
        self.shared.sleep_while(truncated(self.reads));
    }

    fn is_detached(&self) -> bool {
        let detached = self.shared.detached(self.peer);
        detached.is_some_and(|detached| detached.load(Ordering::Relaxed) != 0)
    }
}

/// Published blocks, which the server leaves alone until they are released.
#[derive(Debug)]
pub(crate) struct ReadyBlocks<'c, S> {
    consumer: &'c mut Consumer<S>,
    first: u32,
    count: u32,
    bytes: usize,
}

impl<S: Shared> ReadyBlocks<'_, S> {
    /// The first block's place in the ring, and how many bytes the blocks hold together.
    pub(crate) fn bytes(&self) -> (u32, usize) {
        (self.first, self.bytes)
    }

    /// Gives the blocks back; the peer that the server waits for wakes it.
    ///
    /// Says whether they were this peer's all the time. If not, it has been detached, and whatever it
    /// has taken from them may be of other blocks.
    #[must_use]
    pub(crate) fn release(self) -> bool {
        let Self { consumer, count, .. } = self;
        let before = truncated(consumer.reads);
        consumer.reads += u64::from(count);
        let now = truncated(consumer.reads);
        let shared = &consumer.shared;
        // Pairs with the load in `Producer::look_at`.
        shared.number_of_reads(consumer.peer).store(now, Ordering::Release);
        // Pairs with the fences in `Producer::wait_for_room` and `Producer::detach`.
        fence(Ordering::SeqCst);
        let awaited = Awaited::decode(shared.awaited().load(Ordering::Relaxed));
        if awaited.is_some_and(|awaited| awaited.is_reached(consumer.peer, before, now)) {
            shared.posted_at(consumer.peer).store(shared.now(), Ordering::Relaxed);
            shared.post();
        }
        !consumer.is_detached()
    }
}

/// Whom the server sleeps for, in one word, so that it is never seen half changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Awaited {
    peer: u32,
    /// The number of reads that it must reach.
    reads: u32,
}

impl Awaited {
    /// Peers count from 1 here, as 0 is nobody.
    fn encode(self) -> NonZeroU64 {
        NonZeroU64::MIN.saturating_add((u64::from(self.peer) << 32) | u64::from(self.reads))
    }

    fn decode(word: u64) -> Option<Self> {
        let word = word.checked_sub(1)?;
        Some(Self { peer: truncated(word >> 32), reads: truncated(word) })
    }

    /// Whether `peer`, whose number of reads went from `before` to `now`, is the one.
    fn is_reached(self, peer: u32, before: u32, now: u32) -> bool {
        let step = now.wrapping_sub(before);
        let missing = self.reads.wrapping_sub(before);
        self.peer == peer && (1..=step).contains(&missing)
    }
}

/// Where the block with this number, counted from the first of the file, lies in the ring.
fn slot(number: u64, block_count: u32) -> u32 {
    truncated(number % u64::from(block_count))
}

/// The low 32 bits: how a count is written where others see it.
#[allow(clippy::cast_possible_truncation, reason = "shared counts wrap at 2^32 by design")]
pub(crate) fn truncated(count: u64) -> u32 {
    count as u32
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Words of `PEERS` peers and a ring of one block; nobody else uses them, so no sleep is one.
    struct Words {
        sequence_number: AtomicU32,
        awaited: AtomicU64,
        length: AtomicU32,
        reads: [AtomicU32; PEERS],
        idle_since: [AtomicU64; PEERS],
        posted_at: [AtomicU64; PEERS],
        now: Cell<u64>,
        /// What happens while the server sleeps.
        meanwhile: fn(&Words),
    }

    const PEERS: usize = 3;
    const LONGEST_SLEEP: u64 = 15;

    impl Words {
        fn new(meanwhile: fn(&Words)) -> Self {
            Self {
                sequence_number: AtomicU32::new(0),
                awaited: AtomicU64::new(0),
                length: AtomicU32::new(0),
                reads: Default::default(),
                idle_since: Default::default(),
                posted_at: Default::default(),
                now: Cell::new(100),
                meanwhile,
            }
        }

        /// What the server makes of a sleep with a full ring, with so many peers.
        fn delay(&self, peers: u32) -> Option<Delay> {
            let mut ring = Producer::new(self, peers, 1, 1);
            ring.watch();
            assert!(!ring.reserve(1).publish(1, false));
            assert!(ring.wait_for_room(1).is_ok());
            ring.take_delay()
        }

        /// A peer has read the block, and has been idle since then.
        fn has_read(&self, peer: usize, at: u64) {
            self.reads[peer].store(1, Ordering::Relaxed);
            self.idle_since[peer].store(at, Ordering::Relaxed);
            self.posted_at[peer].store(at, Ordering::Relaxed);
        }
    }

    impl Shared for &Words {
        fn sequence_number(&self) -> &AtomicU32 {
            &self.sequence_number
        }
        fn awaited(&self) -> &AtomicU64 {
            &self.awaited
        }
        fn block_length(&self, _: u32) -> &AtomicU32 {
            &self.length
        }
        fn number_of_reads(&self, peer: u32) -> &AtomicU32 {
            &self.reads[peer as usize]
        }
        fn idle_since(&self, peer: u32) -> &AtomicU64 {
            &self.idle_since[peer as usize]
        }
        fn posted_at(&self, peer: u32) -> &AtomicU64 {
            &self.posted_at[peer as usize]
        }
        fn detached(&self, _: u32) -> Option<&AtomicU32> {
            None
        }
        fn now(&self) -> u64 {
            self.now.get()
        }
        fn sleep_while(&self, _: u32) {}
        fn wake_sleepers(&self) {}
        fn sleep_until_post(&self) {
            (self.meanwhile)(self);
        }
        fn longest_sleep(&self) -> u64 {
            LONGEST_SLEEP
        }
        fn post(&self) {}
    }

    #[test]
    fn a_peer_that_lets_the_others_wait_delays_them() {
        let words = Words::new(|words| {
            words.has_read(1, 103);
            words.has_read(2, 105);
            words.now.set(115);
        });
        assert_eq!(words.delay(3), Some(Delay { peer: 0, from: 105, to: 115 }));
    }

    #[test]
    fn it_does_so_until_it_has_read() {
        let words = Words::new(|words| {
            words.has_read(1, 103);
            words.has_read(2, 105);
            words.has_read(0, 109);
            words.now.set(115);
        });
        assert_eq!(words.delay(3), Some(Delay { peer: 0, from: 105, to: 109 }));
    }

    #[test]
    fn that_the_server_oversleeps_is_not_its_fault() {
        let words = Words::new(|words| {
            words.has_read(1, 103);
            words.now.set(9000);
        });
        assert_eq!(words.delay(2), Some(Delay { peer: 0, from: 103, to: 100 + LONGEST_SLEEP }));
        let words = Words::new(|words| {
            words.has_read(0, 101);
            words.has_read(1, 103);
            words.now.set(9000);
        });
        assert_eq!(words.delay(2), None);
    }

    #[test]
    fn a_peer_that_is_alone_or_one_of_many_delays_nobody() {
        let words = Words::new(|words| {
            words.has_read(0, 101);
            words.now.set(115);
        });
        assert_eq!(words.delay(1), None);
        let words = Words::new(|words| {
            words.has_read(1, 103);
            words.now.set(115);
        });
        assert_eq!(words.delay(3), None);
    }
}
