//! A `write` that stands still in its middle for as long as a test likes.
#![allow(
    unsafe_code,
    reason = "what is written is mapped, so that the kernel can be kept waiting for it"
)]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread::JoinHandle;

use rustix::fs::OFlags;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::fuse::{Fault, Fuse, Op};

/// Overwrites whole files by one `pwrite` each. What it writes is mapped from a file whose second half cannot be
/// read while the disk that it is on hangs, so half of it is written, and the kernel holds the inode as it
/// does in any other `write`.
pub(crate) struct HalfWriter<'d> {
    disk: &'d Fuse,
    size: usize,
}

/// One `pwrite` in its middle.
pub(crate) struct HalfWrite<'d> {
    disk: &'d Fuse,
    thread: JoinHandle<()>,
}

impl<'d> HalfWriter<'d> {
    /// A writer of so many bytes of value 2.
    pub(crate) fn new(disk: &'d Fuse, size: usize) -> Self {
        fs::write(disk.path().join("contents"), vec![2; size]).unwrap();
        Self { disk, size }
    }

    /// Makes a file of as many bytes of value 1, or makes one so again. It is on the disk once, so that to
    /// overwrite it with `O_DIRECT` changes nothing but its bytes.
    pub(crate) fn prepare(&self, path: &Path) {
        let is_new = !path.exists();
        let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
        file.write_all_at(&vec![1; self.size], 0).unwrap();
        if is_new {
            file.sync_all().unwrap();
        }
    }

    /// Begins to overwrite a file, with these flags for its opening, and returns when half of it is done.
    pub(crate) fn begin(&self, path: &Path, flags: OFlags) -> HalfWrite<'d> {
        let flags = flags.bits().cast_signed();
        let file = File::options().write(true).custom_flags(flags).open(path).unwrap();
        let middle = u64::try_from(self.size / 2).unwrap();
        self.disk.set(&[Fault::HangsAt(Op::Read, middle)]);
        // What was read of a file before is read again when it is opened again.
        let contents = File::open(self.disk.path().join("contents")).unwrap();
        let size = self.size;
        let thread = std::thread::spawn(move || {
            let mapping = Mapping::new(&contents, size);
            assert_eq!(rustix::io::pwrite(&file, mapping.bytes(), 0).unwrap(), size);
        });
        self.disk.await_hanging(Op::Read);
        HalfWrite { disk: self.disk, thread }
    }
}

impl HalfWrite<'_> {
    /// Lets it end.
    pub(crate) fn finish(self) {
        self.disk.set(&[]);
        self.thread.join().unwrap();
    }
}

/// A file that is mapped for reading.
struct Mapping {
    start: *mut std::ffi::c_void,
    size: usize,
}

impl Mapping {
    fn new(file: impl AsFd, size: usize) -> Self {
        let (start, map) = (std::ptr::null_mut(), MapFlags::PRIVATE);
        // SAFETY: The kernel chooses the address.
        let start = unsafe { mmap(start, size, ProtFlags::READ, map, file, 0) }.unwrap();
        Self { start, size }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: So much is mapped as long as this lives, and nothing writes to the file.
        unsafe { std::slice::from_raw_parts(self.start.cast(), self.size) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: There is no reference to these bytes any more.
        unsafe { munmap(self.start, self.size) }.unwrap();
    }
}
