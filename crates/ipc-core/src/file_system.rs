//! What a copy must know of the file system that it goes to.
//!
//! Both questions are optional: where the file system is unknown, or the kernel refuses to tell, nothing is
//! reserved and nothing is refused beforehand.

use std::os::fd::AsFd;

use rustix::fs::{IFlags, Mode, OFlags, StatFs};
use rustix::io::retry_on_intr;
use rustix::thread::CapabilitySet;

/// The kinds of file systems that differ here, by the `f_type` that statfs(2) lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// ext2, ext3, ext4 and XFS: a file takes as much room as it has data, and to reserve it makes the
    /// writes cheaper.
    Extents,
    /// tmpfs, FAT and exFAT: a file takes as much room, and there is nothing to gain: tmpfs clears each page
    /// that is reserved, only to fill it later.
    Plain,
    /// What compresses or shares blocks, or keeps the files elsewhere: how much fits is not known. On Btrfs
    /// to reserve room even turns compression off.
    Other,
}

/// Whether to reserve the room of a file before it is written makes that cheaper, and does no harm.
pub(crate) fn gains_by_reserving(file: impl AsFd) -> bool {
    retry_on_intr(|| rustix::fs::fstatfs(&file))
        .is_ok_and(|stat| kind(&stat, || has_extents(&file)) == Kind::Extents)
}

/// Bytes that this user can surely store in `directory` at most, which may be open as a path only.
pub(crate) fn room(directory: impl AsFd) -> Option<u64> {
    let stat = retry_on_intr(|| rustix::fs::fstatfs(&directory)).ok()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let is_ext4 = || {
        let opened = retry_on_intr(|| rustix::fs::openat(&directory, ".", flags, Mode::empty()));
        opened.is_ok_and(has_extents)
    };
    if stat.f_blocks == 0 || kind(&stat, is_ext4) == Kind::Other {
        return None;
    }
    let free = if may_use_reserve() { stat.f_bfree } else { stat.f_bavail };
    Some(free.saturating_mul(u64::try_from(stat.f_frsize).ok()?))
}

/// What kind of file system has this to say of itself. An overlay passes on what is asked of its files to
/// the file system below, so there `is_ext4` tells.
fn kind(stat: &StatFs, is_ext4: impl FnOnce() -> bool) -> Kind {
    match stat.f_type {
        0xef53 | 0x5846_5342 => Kind::Extents,
        0x0102_1994 | 0x4d44 | 0x2011_bab0 => Kind::Plain,
        0x794c_7630 if is_ext4() => Kind::Extents,
        _ => Kind::Other,
    }
}

/// Whether `fd` is mapped by extents in the manner of ext4, the only file system with this flag.
fn has_extents(fd: impl AsFd) -> bool {
    /// `FS_EXTENT_FL` of `linux/fs.h`.
    const EXTENTS: IFlags = IFlags::from_bits_retain(0x0008_0000);
    retry_on_intr(|| rustix::fs::ioctl_getflags(&fd)).is_ok_and(|flags| flags.contains(EXTENTS))
}

/// Whether what file systems keep in reserve is for this process: to that it takes a capability, which
/// root in a container may lack.
fn may_use_reserve() -> bool {
    let capabilities = rustix::thread::capabilities(None);
    capabilities.is_ok_and(|it| it.effective.contains(CapabilitySet::SYS_RESOURCE))
}
