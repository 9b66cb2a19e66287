//! The segment: the shared memory itself, and what its words and bytes are.
#![allow(unsafe_code, reason = "gives up the right to write parts of it")]

use std::io;
use std::os::fd::OwnedFd;

use ipc_core::memory::{Mapping, SharedBytes};
use ipc_core::{FileHeader, PeerId};
use rustix::event::PollFlags;
use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::retry_on_intr;

use crate::Error;
use crate::layout::{Layout, PAGE};
use crate::ring::{FreeBlocks, ReadyBlocks, Shared};
use crate::sync::{AtomicU32, AtomicU64};

/// Where POSIX shared memory and named semaphores live on Linux.
pub(crate) const SHARED_MEMORY: &str = "/dev/shm";

/// A mapped POSIX shared memory object, laid out by [`Layout`].
///
/// It is a file in `/dev/shm`, as `shm_open` makes them, but made with `O_TMPFILE`: it never has a
/// name that anybody could take or leave behind. The peers inherit the mapping.
#[derive(Debug)]
pub(crate) struct Segment {
    mapping: Mapping,
    layout: Layout,
}

impl Segment {
    /// Makes a segment of zeros with `header` in it.
    ///
    /// # Errors
    /// [`Error::Segment`] for want of room: every page is reserved now, so that none can be found
    /// missing by a `SIGBUS` later.
    pub(crate) fn create(layout: Layout, header: &FileHeader) -> Result<Self, Error> {
        // rustix would ask the kernel or `/proc`, and panic where both refuse.
        // SAFETY: The call only asks.
        let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page_size = usize::try_from(page_size).expect("every system has pages");
        if page_size as u64 != PAGE {
            return Err(Error::PageSize(page_size));
        }
        let size = layout.size();
        let failed = |source: io::Error| Error::Segment { size, source };
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = retry_on_intr(|| rustix::fs::open(SHARED_MEMORY, flags, mode))
            .map_err(|errno| failed(errno.into()))?;
        reserve(&fd, size).map_err(failed)?;
        let mapping = Mapping::of_file(&fd, size).map_err(|source| Error::Memory { source })?;
        mapping.bytes(Layout::FILE_HEADER).copy_from(&header.encode());
        Ok(Self { mapping, layout })
    }

    /// Peer `me`, after the fork: gives up the right to write anything but its own page, as far as the
    /// kernel lets it.
    pub(crate) fn restrict_to(&self, me: PeerId) {
        let own = self.layout.peer_page(me.0);
        // SAFETY: A peer writes its own words only, and loads those of the server with Relaxed
        // ordering only: it is what `Consumer` does, and the transport lets this process have one
        // `Consumer`, of this peer, and no `Producer`.
        unsafe { self.mapping.make_read_only_but(own) };
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// What the server says about the source.
    ///
    /// # Errors
    /// [`Error::Core`] if it is not a header.
    pub(crate) fn file_header(&self) -> Result<FileHeader, Error> {
        let mut header = [0; FileHeader::ENCODED_LENGTH];
        self.mapping.bytes(Layout::FILE_HEADER).copy_to(&mut header);
        Ok(FileHeader::decode(&header)?)
    }

    pub(crate) fn sequence_number(&self) -> &AtomicU32 {
        self.mapping.u32_at(Layout::SEQUENCE_NUMBER)
    }

    pub(crate) fn awaited(&self) -> &AtomicU64 {
        self.mapping.u64_at(Layout::AWAITED)
    }

    pub(crate) fn block_length(&self, slot: u32) -> &AtomicU32 {
        self.mapping.u32_at(self.layout.block_length(slot))
    }

    pub(crate) fn detached(&self, peer: u32) -> &AtomicU32 {
        self.mapping.u32_at(self.layout.detached(peer))
    }

    pub(crate) fn number_of_reads(&self, peer: u32) -> &AtomicU32 {
        self.mapping.u32_at(self.layout.number_of_reads(peer))
    }

    pub(crate) fn idle_since(&self, peer: u32) -> &AtomicU64 {
        self.mapping.u64_at(self.layout.idle_since(peer))
    }

    pub(crate) fn posted_at(&self, peer: u32) -> &AtomicU64 {
        self.mapping.u64_at(self.layout.posted_at(peer))
    }

    /// The bytes of reserved blocks, which lie side by side. No peer reads them, but for one that
    /// has been detached and does not know it yet: it takes back what it has stored of them.
    pub(crate) fn free_bytes<'b, S: Shared>(
        &'b self,
        blocks: &'b FreeBlocks<'_, S>,
    ) -> SharedBytes<'b> {
        let (first, count) = blocks.slots();
        let length = u64::from(count) * u64::from(self.layout.block_size);
        self.mapping.bytes(self.layout.blocks(first, length))
    }

    /// The bytes of published blocks, which lie side by side. The server does not fill them anew
    /// before this peer has released them, unless it has detached or failed it.
    pub(crate) fn ready_bytes<'b, S: Shared>(
        &'b self,
        blocks: &'b ReadyBlocks<'_, S>,
    ) -> SharedBytes<'b> {
        let (first, length) = blocks.bytes();
        self.mapping.bytes(self.layout.blocks(first, length as u64))
    }
}

/// Makes an empty file one of `size` zeros, with a page for each of them.
fn reserve(file: &OwnedFd, size: u64) -> io::Result<()> {
    let reserved = ipc_core::io::retry(file, PollFlags::OUT, || {
        rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size)
    });
    match reserved {
        Err(error) if !is_no_room(&error) => write_zeros(file, size),
        reserved => reserved,
    }
}

fn is_no_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG))
}

/// Appends so many zeros. A page that has been written to is there as well.
fn write_zeros(file: &OwnedFd, mut bytes: u64) -> io::Result<()> {
    let zeros = [0; 64 * 1024];
    while bytes > 0 {
        let piece = usize::try_from(bytes).map_or(zeros.len(), |bytes| bytes.min(zeros.len()));
        ipc_core::io::write_all(file, &zeros[..piece])?;
        bytes -= piece as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_have_room_and_the_size_that_was_asked_for() {
        use std::os::unix::fs::MetadataExt;
        for bytes in [0, 1, 4096, (1 << 16) - 1, 1 << 16, (1 << 20) + 1] {
            let file = tempfile::tempfile_in(SHARED_MEMORY).unwrap();
            write_zeros(&file.try_clone().unwrap().into(), bytes).unwrap();
            let metadata = file.metadata().unwrap();
            assert_eq!(metadata.len(), bytes);
            assert!(metadata.blocks() * 512 >= bytes);
        }
    }
}
