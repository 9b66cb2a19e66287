//! The segment: the shared memory itself, and the only place that turns its offsets into pointers.
#![allow(unsafe_code, reason = "maps memory and points into it")]

use std::io;
use std::ptr::NonNull;

use ipc_core::{FileHeader, PeerId};
use rustix::event::PollFlags;
use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::retry_on_intr;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use crate::Error;
use crate::layout::{Layout, PAGE, PeerPage, ServerPage};
use crate::ring::{FreeBlocks, ReadyBlocks, Shared};
use crate::sync::AtomicU32;

/// Where POSIX shared memory and named semaphores live on Linux.
pub(crate) const SHARED_MEMORY: &str = "/dev/shm";

/// A mapped POSIX shared memory object, laid out by [`Layout`].
///
/// It is a file in `/dev/shm`, as `shm_open` makes them, but made with `O_TMPFILE`: it never has a
/// name that anybody could take or leave behind. The peers inherit the mapping.
#[derive(Debug)]
pub(crate) struct Segment {
    base: NonNull<u8>,
    layout: Layout,
}

impl Segment {
    /// Makes a segment of zeros with `header` in it.
    ///
    /// # Errors
    /// [`Error::Segment`] for want of room: every page is reserved now, so that none can be found
    /// missing by a `SIGBUS` later.
    pub(crate) fn create(layout: Layout, header: &FileHeader) -> Result<Self, Error> {
        let page_size = rustix::param::page_size();
        if page_size as u64 != PAGE {
            return Err(Error::PageSize(page_size));
        }
        let size = layout.size();
        let failed = |source: io::Error| Error::Segment { size, source };
        let length =
            usize::try_from(size).map_err(|_| failed(io::ErrorKind::OutOfMemory.into()))?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = retry_on_intr(|| rustix::fs::open(SHARED_MEMORY, flags, mode))
            .map_err(|errno| failed(errno.into()))?;
        ipc_core::io::retry(&fd, PollFlags::OUT, || {
            rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, size)
        })
        .map_err(failed)?;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: The kernel chooses the address, so nothing that is mapped is replaced.
        let base =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, protection, flags, &fd, 0) }
                .map_err(|errno| Error::Memory { operation: "map", source: errno.into() })?;
        let base = NonNull::new(base.cast::<u8>())
            .ok_or(Error::Memory { operation: "map", source: io::ErrorKind::OutOfMemory.into() })?;
        // SAFETY: The header is the first field of the segment, and no other process has it yet.
        unsafe { base.cast().write(header.encode()) };
        Ok(Self { base, layout })
    }

    /// Peer `me`, after the fork: gives up the right to write anything but its own page.
    ///
    /// # Errors
    /// [`Error::Memory`]
    pub(crate) fn restrict_to(&self, me: PeerId) -> Result<(), Error> {
        let failed =
            |errno: rustix::io::Errno| Error::Memory { operation: "protect", source: errno.into() };
        let (all, length) = (self.at(0).as_ptr(), offset(self.layout.size()));
        // SAFETY: It is this process's mapping, and the peer writes nothing in it from here on.
        unsafe { rustix::mm::mprotect(all, length, MprotectFlags::READ) }.map_err(failed)?;
        let own = self.at(self.layout.peer_page(me.0)).as_ptr();
        let (length, both) = (offset(PAGE), MprotectFlags::READ | MprotectFlags::WRITE);
        // SAFETY: The peer's own page is part of the mapping.
        unsafe { rustix::mm::mprotect(own, length, both) }.map_err(failed)
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// What the server says about the source.
    ///
    /// # Errors
    /// [`Error::Core`] if it is not a header.
    pub(crate) fn file_header(&self) -> Result<FileHeader, Error> {
        Ok(FileHeader::decode(&self.server_page().file_header)?)
    }

    /// The words that only the server writes.
    pub(crate) fn server_page(&self) -> &ServerPage {
        // SAFETY: The page is at the segment's start, and any bytes are valid for it; all that
        // changes in it once it is shared are atomics.
        unsafe { self.at(0).as_ref() }
    }

    /// The words that only this peer writes.
    pub(crate) fn peer_page(&self, peer: u32) -> &PeerPage {
        assert!(peer < self.layout.peers);
        // SAFETY: The layout has a page for each peer, and there is nothing but atomics in it.
        unsafe { self.at(self.layout.peer_page(peer)).as_ref() }
    }

    /// How many bytes the block in this place holds.
    pub(crate) fn block_length(&self, slot: u32) -> &AtomicU32 {
        assert!(slot < self.layout.block_count);
        // SAFETY: The layout has an aligned word for each block, used as an atomic only.
        unsafe { self.at(self.layout.block_length(slot)).as_ref() }
    }

    /// Whether the server no longer waits for this peer.
    pub(crate) fn detached(&self, peer: u32) -> &AtomicU32 {
        assert!(peer < self.layout.peers);
        // SAFETY: The layout has an aligned word for each peer, used as an atomic only.
        unsafe { self.at(self.layout.detached(peer)).as_ref() }
    }

    /// The bytes of reserved blocks.
    #[allow(clippy::mut_from_ref, reason = "the borrow that counts is that of the blocks")]
    pub(crate) fn free_bytes<'b, S: Shared>(
        &'b self,
        blocks: &'b mut FreeBlocks<'_, S>,
    ) -> &'b mut [u8] {
        let (first, count) = blocks.slots();
        let length = offset(u64::from(count) * u64::from(self.layout.block_size));
        // SAFETY: The blocks lie side by side within the mapping, which lives as long as the
        // process. Until they are published, for which the borrow must end, this one server alone
        // touches them: no peer but those that were left out, which keep nothing of it.
        unsafe { std::slice::from_raw_parts_mut(self.block(first).as_ptr(), length) }
    }

    /// The bytes of published blocks.
    pub(crate) fn ready_bytes<'b, S: Shared>(&'b self, blocks: &'b ReadyBlocks<'_, S>) -> &'b [u8] {
        let (first, length) = blocks.bytes();
        // SAFETY: The blocks lie side by side within the mapping, which lives as long as the
        // process, and each is at most full, as the consumer has checked. The server fills
        // them anew only once this peer has released them, for which the borrow must end, or has been
        // left out: then it is being killed, or learns by the release that it must take back what it
        // stored. It is only the kernel that reads them, on this peer's behalf, and to it any bytes do.
        unsafe { std::slice::from_raw_parts(self.block(first).as_ptr(), length) }
    }

    fn block(&self, slot: u32) -> NonNull<u8> {
        self.at(self.layout.block(slot))
    }

    /// The address of what the layout says is at `position`.
    fn at<T>(&self, position: u64) -> NonNull<T> {
        assert!(position < self.layout.size());
        // SAFETY: Every position that the layout gives for what it has lies within the mapping.
        unsafe { self.base.add(offset(position)) }.cast()
    }
}

/// A position in the mapping, whose length has been checked to be one that a pointer can span.
#[allow(clippy::cast_possible_truncation, reason = "no greater than the mapping's length")]
fn offset(position: u64) -> usize {
    position as usize
}

impl Drop for Segment {
    fn drop(&mut self) {
        let base = self.base.as_ptr().cast();
        // SAFETY: It was mapped by `create`, and everything that points into it borrows `self`.
        // There is nothing to be done about an error.
        let _ = unsafe { rustix::mm::munmap(base, offset(self.layout.size())) };
    }
}
