//! Memory that processes share: one type that maps it, and one for the bytes in it.
//!
//! A Rust reference promises that nothing else writes the bytes behind it, and `&mut` that nothing
//! else reads them. Another process keeps no such promise. So there is no reference to shared bytes
//! anywhere: the kernel is given their address, or they are copied as atomics are.
#![allow(unsafe_code, reason = "maps memory and gives its addresses to the kernel")]

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};

use crate::digest::Hasher;
use crate::io::{complete, read, read_at, retry};

/// Memory that this process shares with those that it forks. Dropping it unmaps it.
///
/// ```
/// use ipc_core::memory::Mapping;
/// use std::sync::atomic::Ordering;
///
/// let mapping = Mapping::anonymous(4096)?;
/// mapping.u32_at(8).store(5, Ordering::Relaxed);
/// let mut bytes = [1; 4];
/// mapping.bytes(8..12).copy_to(&mut bytes);
/// assert_eq!(bytes, 5_u32.to_ne_bytes());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    /// Its length, in bytes.
    length: usize,
}

impl Mapping {
    /// Maps `length` bytes of zeros that are in no file.
    ///
    /// # Errors
    /// What `mmap` fails with.
    pub fn anonymous(length: u64) -> io::Result<Self> {
        Self::new(length, |length, protection, flags| {
            // SAFETY: The kernel chooses the address, so no existing mapping is replaced.
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), length, protection, flags) }
        })
    }

    /// Maps the first `length` bytes of `file`, which must be open for reading and writing.
    ///
    /// An access to a page beyond the file's end, or for which its file system has no room, raises
    /// `SIGBUS`.
    ///
    /// # Errors
    /// What `mmap` fails with.
    pub fn of_file(file: impl AsFd, length: u64) -> io::Result<Self> {
        Self::new(length, |length, protection, flags| {
            // SAFETY: The kernel chooses the address, so no existing mapping is replaced.
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, protection, flags, &file, 0) }
        })
    }

    fn new(
        length: u64,
        map: impl FnOnce(usize, ProtFlags, MapFlags) -> rustix::io::Result<*mut std::ffi::c_void>,
    ) -> io::Result<Self> {
        let length = usize::try_from(length).map_err(|_| Errno::NOMEM)?;
        let start = map(length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED)?;
        let start = NonNull::new(start.cast()).expect("the kernel maps nothing at address 0");
        Ok(Self { start, length })
    }

    /// Takes from this process the right to write any page of it but those of `writable`, which are whole
    /// pages.
    ///
    /// Best effort: where `mprotect` is refused, only the caller's promise keeps it from writing there.
    ///
    /// # Panics
    /// If `writable` is not within the mapping.
    ///
    /// # Safety
    /// From now on this process stores to no word and copies to no byte outside of `writable`, and
    /// loads words there with [`Ordering::Relaxed`] only: on memory that is mapped for reading,
    /// [`std::sync::atomic`] allows no other access.
    pub unsafe fn make_read_only_but(&self, writable: Range<u64>) {
        let end = u64::try_from(self.length).expect("no mapping is longer");
        // Each call only takes rights away, so none depends on another one.
        for range in [0..writable.start, writable.end..end] {
            let bytes = self.bytes(range);
            let start = bytes.start.as_ptr().cast();
            // SAFETY: It is a part of this mapping, to which nothing will be written here: the caller
            // promises it.
            let _ = unsafe { rustix::mm::mprotect(start, bytes.length, MprotectFlags::READ) };
        }
    }

    /// The word at this offset, in bytes.
    ///
    /// # Panics
    /// If it is not within the mapping, or not aligned.
    #[must_use]
    pub fn u32_at(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: It is aligned and within the mapping, which `self` keeps; any bytes are a number.
        unsafe { self.at(offset, size_of::<AtomicU32>()).cast().as_ref() }
    }

    /// The double word at this offset, in bytes.
    ///
    /// # Panics
    /// If it is not within the mapping, or not aligned.
    #[must_use]
    pub fn u64_at(&self, offset: u64) -> &AtomicU64 {
        // SAFETY: It is aligned and within the mapping, which `self` keeps; any bytes are a number.
        unsafe { self.at(offset, size_of::<AtomicU64>()).cast().as_ref() }
    }

    /// The bytes from one offset to another.
    ///
    /// # Panics
    /// If they are not within the mapping.
    #[must_use]
    pub fn bytes(&self, range: Range<u64>) -> SharedBytes<'_> {
        let length = range.end.checked_sub(range.start).expect("a range begins before its end");
        let length = usize::try_from(length).expect("the mapping is as long as that");
        let start = self.check(range.start, length);
        // SAFETY: It is within the mapping.
        let start = unsafe { self.start.add(start) };
        SharedBytes { start, length, mapping: PhantomData }
    }

    /// The address of an aligned number of so many bytes.
    fn at(&self, offset: u64, size: usize) -> NonNull<u8> {
        let offset = self.check(offset, size);
        // A mapping begins at a page.
        assert!(offset.is_multiple_of(size), "{offset} is not a multiple of {size}");
        // SAFETY: It is within the mapping.
        unsafe { self.start.add(offset) }
    }

    /// `offset`, if so many bytes from there on are within the mapping.
    fn check(&self, offset: u64, length: usize) -> usize {
        let start = usize::try_from(offset)
            .ok()
            .filter(|&start| start.checked_add(length).is_some_and(|end| end <= self.length));
        start.unwrap_or_else(|| {
            panic!("{length} bytes at {offset} are not within a mapping of {}", self.length)
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` mapped it, and all that points into it borrows `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
        // An address and a length that `mmap` gave are not wrong.
        debug_assert_eq!(unmapped, Ok(()));
    }
}

/// Bytes of a [`Mapping`], which other processes may read and write at any time.
///
/// A copy of bytes that another process writes meanwhile has, byte by byte, old or new ones.
#[derive(Debug, Clone, Copy)]
pub struct SharedBytes<'m> {
    start: NonNull<u8>,
    length: usize,
    mapping: PhantomData<&'m Mapping>,
}

impl SharedBytes<'_> {
    /// How many there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.length
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.length == 0
    }

    /// A part of them.
    ///
    /// # Panics
    /// If `range` is not within them.
    #[must_use]
    pub fn part(self, range: Range<usize>) -> Self {
        let length = range.end.checked_sub(range.start).filter(|_| range.end <= self.length);
        let length = length.unwrap_or_else(|| panic!("{range:?} of {} bytes", self.length));
        // SAFETY: It is within these bytes.
        let start = unsafe { self.start.add(range.start) };
        Self { start, length, mapping: PhantomData }
    }

    /// Reads once from the position of `fd`; 0 is the end.
    ///
    /// # Errors
    /// What `read` fails with.
    pub fn read(self, fd: impl AsFd) -> io::Result<usize> {
        let raw = fd.as_fd().as_raw_fd();
        retry(&fd, PollFlags::IN, || {
            // SAFETY: The kernel writes within these bytes, to which there is no reference.
            count(unsafe { libc::read(raw, self.start.as_ptr().cast(), self.length) })
        })
    }

    /// Fills them from byte `offset` of `fd`; less than all only where the file ends.
    ///
    /// # Errors
    /// What `pread` fails with.
    pub fn read_at(self, fd: impl AsFd, offset: u64) -> io::Result<usize> {
        let raw = fd.as_fd().as_raw_fd();
        complete(self.length, |done| {
            let rest = self.part(done..self.length);
            // An offset beyond all files is negative to the kernel, which refuses it.
            let offset = offset.saturating_add(done as u64).cast_signed();
            retry(&fd, PollFlags::IN, || {
                // SAFETY: The kernel writes within these bytes, to which there is no reference.
                count(unsafe {
                    libc::pread64(raw, rest.start.as_ptr().cast(), rest.length, offset)
                })
            })
        })
    }

    /// Writes all of them at the position of `fd`.
    ///
    /// # Errors
    /// What `write` fails with; [`io::ErrorKind::WriteZero`] if it takes nothing any more.
    pub fn write_all(self, fd: impl AsFd) -> io::Result<()> {
        let raw = fd.as_fd().as_raw_fd();
        let written = complete(self.length, |done| {
            let rest = self.part(done..self.length);
            retry(&fd, PollFlags::OUT, || {
                // SAFETY: The kernel reads within these bytes.
                count(unsafe { libc::write(raw, rest.start.as_ptr().cast(), rest.length) })
            })
        })?;
        match written == self.length {
            true => Ok(()),
            false => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Copies them to `to`.
    ///
    /// # Panics
    /// If `to` is not as long.
    pub fn copy_to(self, to: &mut [u8]) {
        assert_eq!(to.len(), self.length);
        let (first, words, last) = self.words();
        let (to_first, to) = to.split_at_mut(first.len());
        let (to_words, to_last) = to.as_chunks_mut::<WORD>();
        let load = |byte: &AtomicU8| byte.load(Ordering::Relaxed);
        to_first.iter_mut().zip(first).for_each(|(to, from)| *to = load(from));
        let load_word = |word: &AtomicUsize| word.load(Ordering::Relaxed).to_ne_bytes();
        to_words.iter_mut().zip(words).for_each(|(to, from)| *to = load_word(from));
        to_last.iter_mut().zip(last).for_each(|(to, from)| *to = load(from));
    }

    /// Copies `from` to them.
    ///
    /// # Panics
    /// If `from` is not as long.
    pub fn copy_from(self, from: &[u8]) {
        assert_eq!(from.len(), self.length);
        let (first, words, last) = self.words();
        let (from_first, from) = from.split_at(first.len());
        let (from_words, from_last) = from.as_chunks::<WORD>();
        let store = |(to, from): (&AtomicU8, &u8)| to.store(*from, Ordering::Relaxed);
        first.iter().zip(from_first).for_each(store);
        let words = words.iter().zip(from_words);
        words.for_each(|(to, from)| to.store(usize::from_ne_bytes(*from), Ordering::Relaxed));
        last.iter().zip(from_last).for_each(store);
    }

    /// The bytes before the first aligned word, all words, and the bytes behind the last one.
    fn words(&self) -> (&[AtomicU8], &[AtomicUsize], &[AtomicU8]) {
        // SAFETY: They are within a mapping that outlives them, and any byte is valid.
        let bytes: &[AtomicU8] =
            unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length) };
        // SAFETY: As many aligned bytes as a word has are one, whatever they are.
        unsafe { bytes.align_to() }
    }
}

/// Bytes that are copied at once.
const WORD: usize = size_of::<usize>();

/// What a call that counts bytes has returned.
fn count(returned: isize) -> rustix::io::Result<usize> {
    usize::try_from(returned).map_err(|_| {
        let error = io::Error::last_os_error();
        Errno::from_io_error(&error).expect("the last error of a call is a number")
    })
}

/// Room for bytes that are read: this process's own, or shared.
pub(crate) trait Room {
    /// How many it has room for.
    fn size(&self) -> usize;

    /// Reads once from the position of `fd` into the room from `start` on; 0 is the end.
    fn read(&mut self, start: usize, fd: BorrowedFd<'_>) -> io::Result<usize>;

    /// Fills this part of it from byte `offset` of `fd`; less than all only where the file ends.
    fn read_at(&mut self, part: Range<usize>, fd: BorrowedFd<'_>, offset: u64)
    -> io::Result<usize>;

    /// Adds what is in this part of it to a digest.
    fn hash(&self, part: Range<usize>, hasher: &mut Hasher);
}

impl Room for &mut [u8] {
    fn size(&self) -> usize {
        self.len()
    }

    fn read(&mut self, start: usize, fd: BorrowedFd<'_>) -> io::Result<usize> {
        read(fd, &mut self[start..])
    }

    fn read_at(
        &mut self,
        part: Range<usize>,
        fd: BorrowedFd<'_>,
        offset: u64,
    ) -> io::Result<usize> {
        read_at(fd, &mut self[part], offset)
    }

    fn hash(&self, part: Range<usize>, hasher: &mut Hasher) {
        hasher.update(&self[part]);
    }
}

impl Room for SharedBytes<'_> {
    fn size(&self) -> usize {
        self.length
    }

    fn read(&mut self, start: usize, fd: BorrowedFd<'_>) -> io::Result<usize> {
        self.part(start..self.length).read(fd)
    }

    fn read_at(
        &mut self,
        part: Range<usize>,
        fd: BorrowedFd<'_>,
        offset: u64,
    ) -> io::Result<usize> {
        self.part(part).read_at(fd, offset)
    }

    fn hash(&self, part: Range<usize>, hasher: &mut Hasher) {
        let mut copy = [0; 1 << 14];
        let mut rest = self.part(part);
        while !rest.is_empty() {
            let length = rest.length.min(copy.len());
            let copy = &mut copy[..length];
            rest.part(0..length).copy_to(copy);
            hasher.update(copy);
            rest = rest.part(length..rest.length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A mapping of two pages, and a file of the bytes 0, 1, 2, ... 99.
    fn mapping_and_file() -> (Mapping, std::fs::File) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&(0..100).collect::<Vec<u8>>()).unwrap();
        (Mapping::anonymous(8192).unwrap(), file)
    }

    fn contents(bytes: SharedBytes<'_>) -> Vec<u8> {
        let mut copy = vec![0xff; bytes.len()];
        bytes.copy_to(&mut copy);
        copy
    }

    #[test]
    fn what_is_copied_there_is_copied_back_at_any_place() {
        let mapping = Mapping::anonymous(4096).unwrap();
        for start in 0..17 {
            for length in 0..40 {
                let all = mapping.bytes(0..100);
                all.copy_from(&[0xee; 100]);
                let data: Vec<u8> = (1..=length).collect();
                let length = usize::from(length);
                all.part(start..start + length).copy_from(&data);
                let mut expected = vec![0xee; 100];
                expected[start..start + length].copy_from_slice(&data);
                assert_eq!(contents(all), expected, "{length} at {start}");
                assert_eq!(contents(all.part(start..start + length)), data);
            }
        }
    }

    #[test]
    fn a_file_is_read_into_it_from_any_place() {
        let (mapping, file) = mapping_and_file();
        let bytes = mapping.bytes(3..13);
        assert_eq!(bytes.read_at(&file, 50).unwrap(), 10);
        assert_eq!(contents(bytes), (50..60).collect::<Vec<u8>>());
        assert_eq!(bytes.read_at(&file, 95).unwrap(), 5);
        assert_eq!(contents(bytes), [95, 96, 97, 98, 99, 55, 56, 57, 58, 59]);
        assert_eq!(bytes.read_at(&file, 100).unwrap(), 0);
        assert_eq!(mapping.bytes(5..5).read_at(&file, 0).unwrap(), 0);
        assert_eq!(contents(mapping.bytes(0..3)), [0; 3]);
        assert_eq!(contents(mapping.bytes(13..16)), [0; 3]);
    }

    #[test]
    fn no_file_has_bytes_beyond_the_greatest_offset() {
        let (mapping, file) = mapping_and_file();
        for offset in [u64::MAX, 1 << 63] {
            let error = mapping.bytes(0..1).read_at(&file, offset).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_pipe_that_would_block_is_waited_for() {
        let (mapping, _) = mapping_and_file();
        let (reader, mut writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let writing = std::thread::spawn(move || writer.write_all(b"late").unwrap());
        assert_eq!(mapping.bytes(0..8).read(&reader).unwrap(), 4);
        assert_eq!(contents(mapping.bytes(0..8)), b"late\0\0\0\0");
        writing.join().unwrap();
        assert_eq!(mapping.bytes(0..8).read(&reader).unwrap(), 0);
    }

    #[test]
    fn a_pipe_that_is_full_is_waited_for_until_all_is_written() {
        let mapping = Mapping::anonymous(1 << 20).unwrap();
        let data: Vec<u8> = (0..=250).cycle().take(1 << 20).collect();
        mapping.bytes(0..1 << 20).copy_from(&data);
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let reading = std::thread::spawn(move || {
            let mut received = Vec::new();
            io::Read::read_to_end(&mut reader, &mut received).map(|_| received)
        });
        mapping.bytes(0..1 << 20).write_all(&writer).unwrap();
        drop(writer);
        assert!(reading.join().unwrap().unwrap() == data);
    }

    #[test]
    fn a_full_device_is_an_error() {
        let (mapping, _) = mapping_and_file();
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = mapping.bytes(0..5).write_all(&full).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_page_that_is_for_reading_only_is_not_written_by_the_kernel_either() {
        let (mapping, file) = mapping_and_file();
        // SAFETY: Nothing but the kernel tries to write to the first page.
        unsafe { mapping.make_read_only_but(4096..8192) };
        let error = mapping.bytes(0..5).read_at(&file, 1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
        assert_eq!(mapping.bytes(4096..4101).read_at(&file, 1).unwrap(), 5);
        mapping.u64_at(8184).store(1, Ordering::Relaxed);
        assert_eq!(mapping.u64_at(4088).load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_not_within_it_cannot_be_had() {
        let mapping = Mapping::anonymous(4096).unwrap();
        let panics = |access: &dyn Fn()| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(access)).is_err()
        };
        let bytes = mapping.bytes(4000..4096);
        assert!(!panics(&|| assert!(bytes.part(96..96).is_empty())));
        for (access, what) in [
            (&(|| _ = mapping.bytes(4000..4097)) as &dyn Fn(), "beyond the end"),
            (&|| _ = mapping.bytes(u64::MAX - 1..u64::MAX), "far beyond"),
            (&|| _ = mapping.bytes(0..u64::MAX), "too long"),
            (&|| _ = bytes.part(0..97), "beyond the part"),
            (&|| _ = mapping.u32_at(4096), "a word behind the end"),
            (&|| _ = mapping.u64_at(4092), "half of a word"),
            (&|| _ = mapping.u32_at(2), "not aligned"),
            (&|| bytes.copy_to(&mut [0; 95]), "another length"),
            (&|| bytes.copy_from(&[0; 97]), "another length"),
        ] {
            assert!(panics(access), "{what}");
        }
    }

    #[test]
    fn a_digest_of_shared_bytes_is_that_of_their_copy() {
        let (length, data): (_, Vec<u8>) = (100_000, (0..=250).cycle().take(100_000).collect());
        let mapping = Mapping::anonymous(length).unwrap();
        let bytes = mapping.bytes(0..length);
        bytes.copy_from(&data);
        for part in [0..100_000, 1..16_385, 5..5, 7..99_999] {
            let mut hasher = Hasher::default();
            Room::hash(&bytes, part.clone(), &mut hasher);
            assert_eq!(hasher.digest().as_bytes(), blake3::hash(&data[part]).as_bytes());
        }
    }

    #[test]
    fn a_mapping_that_is_dropped_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mapped");
        let file = std::fs::File::create_new(&path).unwrap();
        file.set_len(4096).unwrap();
        let is_mapped = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            maps.contains(path.to_str().unwrap())
        };
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mapping = Mapping::of_file(&file, 4096).unwrap();
        assert!(is_mapped());
        mapping.bytes(0..2).copy_from(b"hi");
        assert_eq!(std::fs::read(&path).unwrap()[..2], *b"hi");
        drop(mapping);
        assert!(!is_mapped());
    }
}
