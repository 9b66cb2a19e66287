//! The transport: a segment, its semaphore, and the ring's way of sleeping on both.

use std::cell::Cell;
use std::time::Duration;

use ipc_core::{OnSlow, Patience, PeerCount, PeerId, Peers, Served, ServerLink, Source, Transport};

use crate::futex;
use crate::layout::Layout;
use crate::peer::Attached;
use crate::ring::Shared;
use crate::segment::Segment;
use crate::semaphore::Semaphore;
use crate::server::serve;
use crate::sync::{AtomicU32, AtomicU64};
use crate::{BlockCount, BlockSize, Error};

/// What a caller may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Bytes in a block. Default: 80 KiB.
    pub block_size: BlockSize,
    /// Most blocks in the ring. A file that is less than 32 times as long as the ring gets a shorter one.
    /// Default: 32; 1 is lockstep.
    pub blocks: BlockCount,
    /// What becomes of a peer that keeps the ring full while the others wait. Default: it is detached,
    /// if the source can be shared.
    pub on_slow: OnSlow,
}

/// Shared memory as a way from one process to many, for one copy.
#[derive(Debug)]
pub struct SharedMemory {
    memory: Memory,
    on_slow: OnSlow,
    /// Whether this process has served or joined: it can do one of both, once.
    is_used: Cell<bool>,
}

/// What server and peers share.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) segment: Segment,
    pub(crate) semaphore: Semaphore,
}

impl SharedMemory {
    /// Reserves the memory for this source and for `peers` peers. Nothing of it has
    /// a name when this returns, so nothing can be left behind.
    ///
    /// It forks for a moment, so the process must have one thread only.
    ///
    /// # Errors
    /// [`Error::Segment`] if `/dev/shm` has no room, [`Error::Semaphore`], [`Error::Memory`], and
    /// [`Error::Core`], of a process with several threads among others.
    pub fn create(source: &Source, peers: PeerCount, options: Options) -> Result<Self, Error> {
        let length = source.map().length();
        let layout = Layout::new(peers, options.blocks, options.block_size, length);
        let segment = Segment::create(layout, source.header())?;
        let semaphore = Semaphore::create()?;
        let memory = Memory { segment, semaphore };
        Ok(Self { memory, on_slow: options.on_slow, is_used: Cell::new(false) })
    }

    /// The memory, for this process's only use of it.
    fn take(&self) -> Result<&Memory, Error> {
        match self.is_used.replace(true) {
            true => Err(Error::NotForThis),
            false => Ok(&self.memory),
        }
    }
}

#[allow(unsafe_code, reason = "the trait says what a peer may use")]
// SAFETY: A peer uses the memory that it has inherited, and no descriptor.
unsafe impl Transport for SharedMemory {
    type Error = Error;
    type Connection<'t> = Attached<'t>;

    const DESCRIPTORS_PER_PEER: u64 = 0;

    fn serve(&self, source: &Source, peers: &mut Peers<'_>) -> Result<Served, Error> {
        serve(self.take()?, self.on_slow, source, peers)
    }

    fn connect<'t>(&'t self, me: PeerId, server: &'t ServerLink) -> Result<Attached<'t>, Error> {
        Attached::new(self.take()?, me, server)
    }
}

/// How long the server sleeps at most: long enough to find that everybody waits for one, and short enough
/// to do something about it.
const LONGEST_SLEEP: Duration = Patience::LEAST;

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("no machine has run for 500 years")
}

impl Shared for &Memory {
    fn sequence_number(&self) -> &AtomicU32 {
        self.segment.sequence_number()
    }

    fn awaited(&self) -> &AtomicU64 {
        self.segment.awaited()
    }

    fn block_length(&self, slot: u32) -> &AtomicU32 {
        self.segment.block_length(slot)
    }

    fn number_of_reads(&self, peer: u32) -> &AtomicU32 {
        self.segment.number_of_reads(peer)
    }

    fn idle_since(&self, peer: u32) -> &AtomicU64 {
        self.segment.idle_since(peer)
    }

    fn posted_at(&self, peer: u32) -> &AtomicU64 {
        self.segment.posted_at(peer)
    }

    fn detached(&self, peer: u32) -> Option<&AtomicU32> {
        Some(self.segment.detached(peer))
    }

    fn now(&self) -> u64 {
        nanoseconds(ipc_core::io::now()).max(1)
    }

    fn sleep_while(&self, seen: u32) {
        futex::sleep_while(self.sequence_number(), seen);
    }

    fn wake_sleepers(&self) {
        futex::wake_all(self.sequence_number());
    }

    fn sleep_until_post(&self) {
        self.semaphore.wait(LONGEST_SLEEP);
    }

    fn longest_sleep(&self) -> u64 {
        nanoseconds(LONGEST_SLEEP)
    }

    fn post(&self) {
        self.semaphore.post();
    }
}
